/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `dio` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_DIO_H
#define CALF_HELPERS_DIO_H

#include <linux/types.h>

#endif /* CALF_HELPERS_DIO_H */

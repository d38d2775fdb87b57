/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `iomap` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_IOMAP_H
#define CALF_HELPERS_IOMAP_H

#include <linux/types.h>

#endif /* CALF_HELPERS_IOMAP_H */

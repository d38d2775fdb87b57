/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `super` area: inlines and macros that bindgen cannot bind. */
#ifndef CALF_HELPERS_SUPER_H
#define CALF_HELPERS_SUPER_H

#include <linux/types.h>

#endif /* CALF_HELPERS_SUPER_H */

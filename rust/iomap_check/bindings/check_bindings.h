/* SPDX-License-Identifier: GPL-2.0 */
/* What iomap_check binds on top of the kernel crate's own bindings: iomap, and its C helpers. */
#ifndef CHECK_BINDINGS_H
#define CHECK_BINDINGS_H

#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/tracepoint.h>

#include "helpers_check.h"

#endif /* CHECK_BINDINGS_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * All helpers in one, as bitcode that is linked into the Rust code, for a kernel with CONFIG_RUST_INLINE_HELPERS: see
 * Kbuild, and the kernel's rust/helpers/helpers.c for why each must be always_inline to be inlined at all.
 */
#include "calf_bindings.h"

/* What the files below include, so that nothing but helpers gets the attribute. */
#include <linux/blk_types.h>
#include <linux/delay.h>
#include <linux/filelock.h>
#include <linux/folio_batch.h>
#include <linux/posix_acl_xattr.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/security.h>

#pragma clang attribute push(__attribute__((always_inline)), apply_to = function)
#include "helpers_base.c"
#include "helpers_dio.c"
#include "helpers_iomap.c"
#include "helpers_jbd2.c"
#include "helpers_lab.c"
#include "helpers_super.c"
#include "helpers_vfs.c"
#include "helpers_xattr.c"
#pragma clang attribute pop

// SPDX-License-Identifier: GPL-2.0

//! Tainting the kernel.
//!
//! C header: [`include/linux/panic.h`](srctree/include/linux/panic.h)

use crate::bindings;

/// Marks the kernel as one in which tests run (`TAINT_TEST`, `N`).
pub fn taint_test() {
    // SAFETY: May be called from any context.
    unsafe { bindings::calf_add_taint_test() }
}

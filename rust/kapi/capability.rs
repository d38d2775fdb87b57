// SPDX-License-Identifier: GPL-2.0

//! What the current task may do.
//!
//! C header: [`include/linux/capability.h`](srctree/include/linux/capability.h)

use crate::bindings;

/// `capable(CAP_SYS_ADMIN)`.
pub fn sys_admin() -> bool {
    // SAFETY: Asks about the current task.
    unsafe { bindings::calf_capable_sys_admin() }
}

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

/// The same, for what is only left out without it: `ns_capable_noaudit`, of which the audit log hears nothing.
pub fn has_sys_admin() -> bool {
    // SAFETY: Asks about the current task.
    unsafe { bindings::calf_has_sys_admin() }
}

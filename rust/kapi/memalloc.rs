// SPDX-License-Identifier: GPL-2.0

//! Allocation scopes and waiting.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use crate::bindings;
use kernel::error::{code::ENOMEM, Result};
use kernel::types::NotThreadSafe;

/// While it lives, allocations of this task behave as `GFP_NOFS` (rule D1).
///
/// Scopes nest, and are dropped in reverse order: one that is left while an inner one lives ends that too.
pub struct NofsScope {
    saved: u32,
    _task: NotThreadSafe,
}

impl NofsScope {
    /// Opens a scope.
    pub fn enter() -> Self {
        Self {
            // SAFETY: Only touches flags of the current task.
            saved: unsafe { bindings::calf_memalloc_nofs_save() },
            _task: NotThreadSafe,
        }
    }
}

impl Drop for NofsScope {
    fn drop(&mut self) {
        // SAFETY: `saved` comes from the matching save, in the same task (`NotThreadSafe`).
        unsafe { bindings::calf_memalloc_nofs_restore(self.saved) }
    }
}

/// Gives way to other tasks if one is waiting.
pub fn cond_resched() {
    // SAFETY: Callable from any process context that may sleep.
    unsafe { bindings::calf_cond_resched() }
}

/// Is a fatal signal pending for the current task?
pub fn fatal_signal_pending() -> bool {
    // SAFETY: Only reads the current task.
    unsafe { bindings::calf_fatal_signal_pending() }
}

/// Is the current task to stop for a suspend of the machine? What takes long and can end early should.
pub fn freezing() -> bool {
    // SAFETY: Only reads the current task.
    unsafe { bindings::calf_freezing() }
}

/// Repeats `f` until memory is found, as `__GFP_NOFAIL` does.
///
/// For the writeback and completion paths, where a failed allocation would be a lost write (B3).
/// Must be called where sleeping is allowed.
pub fn nofail<T, E>(mut f: impl FnMut() -> Result<T, E>) -> T {
    loop {
        if let Ok(v) = f() {
            return v;
        }
        // SAFETY: The caller may sleep.
        unsafe { bindings::calf_retry_wait() }
    }
}

/// Sleeps for one tick, for loops that wait for memory.
pub fn wait_a_tick() {
    // SAFETY: The caller may sleep.
    unsafe { bindings::calf_retry_wait() }
}

/// Repeats what found no memory until it does: where there is nobody to report to (B3), or where what
/// has been done cannot be undone. The caller may sleep.
pub fn retry_nomem<T>(mut f: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match f() {
            Err(ENOMEM) => wait_a_tick(),
            other => return other,
        }
    }
}

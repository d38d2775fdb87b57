// SPDX-License-Identifier: GPL-2.0

//! Workqueues of a filesystem.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::str::CStr;

/// A workqueue that makes progress when memory is short (`WQ_MEM_RECLAIM`).
///
/// # Invariants
///
/// `ptr` is a live workqueue that we own.
pub struct Workqueue {
    ptr: NonNull<bindings::workqueue_struct>,
}

// SAFETY: Workqueues do their own locking.
unsafe impl Send for Workqueue {}
// SAFETY: See above.
unsafe impl Sync for Workqueue {}

impl Workqueue {
    /// A workqueue for the mount called `name`.
    pub fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The name is a C string; it is copied.
        let ptr = unsafe { bindings::calf_alloc_workqueue(name.as_char_ptr()) };
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
        })
    }

    /// The C object.
    pub(super) fn as_ptr(&self) -> *mut bindings::workqueue_struct {
        self.ptr.as_ptr()
    }

    /// Waits for all work, also for what that work queues (D5).
    pub fn drain(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::drain_workqueue(self.as_ptr()) }
    }
}

impl Drop for Workqueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::destroy_workqueue(self.as_ptr()) }
    }
}

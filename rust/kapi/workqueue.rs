// SPDX-License-Identifier: GPL-2.0

//! Workqueues of a filesystem.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;

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
        // INVARIANT: Made above, for us.
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

/// What a [`Worker`] does.
pub trait Work: Send + Sync + 'static {
    /// Does all that there is to do. May sleep.
    fn run(&self);
}

/// # Safety
///
/// `arg` is the live `T` of a [`Worker`].
unsafe extern "C" fn run<T: Work>(arg: *mut c_void) {
    // SAFETY: By the safety requirements.
    unsafe { &*arg.cast::<T>() }.run()
}

/// Runs [`Work::run`] on a workqueue of its own, never twice at once, each time it was woken.
/// Dropping it waits for what was woken.
///
/// # Invariants
///
/// `ptr` is a live worker that we own and that calls `run` with `target`.
pub struct Worker<T> {
    ptr: NonNull<bindings::calf_worker>,
    _target: Arc<T>,
}

// SAFETY: Workqueues do their own locking; `T: Work` may be used from any task.
unsafe impl<T: Work> Send for Worker<T> {}
// SAFETY: See above.
unsafe impl<T: Work> Sync for Worker<T> {}

impl<T: Work> Worker<T> {
    /// A worker for the mount called `name`.
    pub fn new(name: &CStr, target: Arc<T>) -> Result<Self> {
        let arg = core::ptr::from_ref::<T>(&target).cast_mut().cast();
        // SAFETY: The name is copied; `target` outlives the worker, see the order in `drop`.
        let ptr = unsafe { bindings::calf_worker_new(name.as_char_ptr(), Some(run::<T>), arg) };
        // INVARIANT: Made above, for us, with `target`.
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
            _target: target,
        })
    }
}

impl<T> Worker<T> {
    /// Has it run soon. From any context.
    pub fn wake(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_worker_wake(self.ptr.as_ptr()) }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. The target is dropped afterwards, as a field.
        unsafe { bindings::calf_worker_free(self.ptr.as_ptr()) }
    }
}

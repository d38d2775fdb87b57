// SPDX-License-Identifier: GPL-2.0

//! Readers-writer semaphores.
//!
//! C header: [`include/linux/rwsem.h`](srctree/include/linux/rwsem.h)

use crate::bindings;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use kernel::ffi::c_int;
use kernel::str::{CStr, CStrExt as _};
use kernel::sync::LockClassKey;
use kernel::types::{NotThreadSafe, Opaque};
use pin_init::{pin_data, pin_init, PinInit};

/// Data behind a `struct rw_semaphore`.
///
/// # Invariants
///
/// `sem` is initialised; `data` is read only with `sem` held and written only with it held for
/// writing.
#[pin_data]
pub struct RwSem<T> {
    #[pin]
    sem: Opaque<bindings::rw_semaphore>,
    data: UnsafeCell<T>,
}

// SAFETY: The semaphore serialises access to `data`, and moving the ownership of `T` is all that
// moving an (unpinned, hence not yet shared) `RwSem` does.
unsafe impl<T: Send> Send for RwSem<T> {}
// SAFETY: Readers share `&T` (`T: Sync`), writers get `&mut T` (`T: Send`).
unsafe impl<T: Send + Sync> Sync for RwSem<T> {}

impl<T> RwSem<T> {
    /// Initialiser of an unlocked semaphore. `key` identifies the lock class to lockdep.
    pub fn new(
        data: T,
        name: &'static CStr,
        key: core::pin::Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot is valid for writes, and name and key live for ever.
            sem <- Opaque::ffi_init(|slot| unsafe {
                bindings::calf_init_rwsem(slot, name.as_char_ptr(), key.as_ptr())
            }),
            data: UnsafeCell::new(data),
        })
    }

    /// The C semaphore.
    #[cfg(calf_lab)]
    pub(super) fn as_ptr(&self) -> *mut bindings::rw_semaphore {
        self.sem.get()
    }

    /// Waits for shared access.
    pub fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: Initialised by the type invariant.
        unsafe { bindings::down_read(self.sem.get()) };
        // INVARIANT: Taken above.
        ReadGuard {
            lock: self,
            _task: NotThreadSafe,
        }
    }

    /// Shared access if it is to be had at once.
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        // SAFETY: Initialised by the type invariant.
        if unsafe { bindings::down_read_trylock(self.sem.get()) } == 0 {
            return None;
        }
        // INVARIANT: Taken above.
        Some(ReadGuard {
            lock: self,
            _task: NotThreadSafe,
        })
    }

    /// Waits for exclusive access.
    pub fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: Initialised by the type invariant.
        unsafe { bindings::down_write(self.sem.get()) };
        // INVARIANT: Taken above.
        WriteGuard {
            lock: self,
            _task: NotThreadSafe,
        }
    }

    /// Exclusive access if it is to be had at once.
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        // SAFETY: Initialised by the type invariant.
        if unsafe { bindings::down_write_trylock(self.sem.get()) } == 0 {
            return None;
        }
        // INVARIANT: Taken above.
        Some(WriteGuard {
            lock: self,
            _task: NotThreadSafe,
        })
    }

    /// Like [`RwSem::write`] for a further lock of the same class, with a lockdep subclass below 8.
    pub fn write_nested(&self, subclass: u8) -> WriteGuard<'_, T> {
        // SAFETY: Initialised by the type invariant.
        unsafe { bindings::calf_down_write_nested(self.sem.get(), c_int::from(subclass)) };
        // INVARIANT: Taken above.
        WriteGuard {
            lock: self,
            _task: NotThreadSafe,
        }
    }
}

/// Shared access to the data of a [`RwSem`].
///
/// # Invariants
///
/// This task holds the semaphore for reading, once for this guard.
pub struct ReadGuard<'a, T> {
    lock: &'a RwSem<T>,
    _task: NotThreadSafe,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants of both.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::up_read(self.lock.sem.get()) }
    }
}

/// Exclusive access to the data of a [`RwSem`].
///
/// # Invariants
///
/// This task holds the semaphore for writing, for this guard.
pub struct WriteGuard<'a, T> {
    lock: &'a RwSem<T>,
    _task: NotThreadSafe,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants of both.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants of both.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::up_write(self.lock.sem.get()) }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Superblocks.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::fs::FileSystem;
use crate::bindings;
use core::ffi::CStr;
use core::marker::PhantomData;
use core::ptr;
use kernel::error::{to_result, Error, Result};
use kernel::str::CStrExt as _;
use kernel::types::{NotThreadSafe, Opaque};

/// A mounted `struct super_block` whose `s_fs_info` holds `T::SbData`.
///
/// # Invariants
///
/// While a reference exists, `s_fs_info` points to a live `T::SbData`; `fill_super` makes the
/// first reference only after it has set the field.
#[repr(transparent)]
pub struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

// SAFETY: All methods that take `&self` may be called from any task.
unsafe impl<T: FileSystem> Send for SuperBlock<T> {}
// SAFETY: See above.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

impl<T: FileSystem> SuperBlock<T> {
    /// Wraps a raw superblock.
    ///
    /// # Safety
    ///
    /// `ptr` is valid for `'a`, belongs to filesystem `T`, and its `s_fs_info` has been set.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::super_block) -> &'a Self {
        // SAFETY: Transparent wrapper, valid by the safety requirements.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// The filesystem's own data.
    pub fn data(&self) -> &T::SbData {
        // SAFETY: By the type invariant.
        unsafe { &*(*self.as_ptr()).s_fs_info.cast::<T::SbData>() }
    }

    /// The block device below (`s_bdev`).
    pub fn bdev(&self) -> *mut bindings::block_device {
        // SAFETY: `s_bdev` does not change while mounted.
        unsafe { (*self.as_ptr()).s_bdev }
    }

    /// `s_blocksize`, bytes.
    pub fn block_size(&self) -> u64 {
        // SAFETY: Does not change once mounted.
        unsafe { (*self.as_ptr()).s_blocksize as u64 }
    }

    /// Is the mount read-only now?
    pub fn is_rdonly(&self) -> bool {
        // SAFETY: The superblock is valid.
        unsafe { bindings::calf_sb_rdonly(self.as_ptr()) }
    }

    /// Is it being unmounted? Then nobody else uses it.
    pub fn is_dying(&self) -> bool {
        // SAFETY: The superblock is valid.
        unsafe { bindings::calf_sb_is_dying(self.as_ptr()) }
    }

    /// Name of the device (`s_id`).
    pub fn id(&self) -> &CStr {
        // SAFETY: `s_id` is a NUL-terminated array that does not change once mounted.
        unsafe { CStr::from_char_ptr(ptr::addr_of!((*self.as_ptr()).s_id).cast()) }
    }

    /// Writes all data and inodes and commits. The caller holds `s_umount` (remount, umount).
    pub fn sync(&self) -> Result {
        // SAFETY: The superblock is valid and locked by the caller.
        to_result(unsafe { bindings::sync_filesystem(self.as_ptr()) })
    }

    /// Runs `f` with the filesystem frozen through its device: all data is written, the journal is
    /// empty. Errors: those of the freeze; then `f` has not run. With no lock held.
    pub fn while_frozen<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        // SAFETY: The device is open while mounted.
        to_result(unsafe { bindings::bdev_freeze(self.bdev()) })?;
        let ret = f();
        // SAFETY: Frozen above. Thawing asks nothing of the filesystem.
        unsafe { bindings::bdev_thaw(self.bdev()) };
        Ok(ret)
    }

    /// Holds a freeze off for work that no system call protects (`sb_start_intwrite`).
    ///
    /// Waits while frozen; not under a handle.
    pub fn intwrite(&self) -> IntWrite<'_, T> {
        // SAFETY: The superblock is valid.
        unsafe { bindings::calf_sb_start_intwrite(self.as_ptr()) };
        IntWrite(self, NotThreadSafe)
    }

    /// The same, for those who may not wait: `None` while the filesystem is frozen, or about to be.
    pub fn try_intwrite(&self) -> Option<IntWrite<'_, T>> {
        // SAFETY: The superblock is valid.
        unsafe { bindings::calf_sb_start_intwrite_trylock(self.as_ptr()) }
            .then(|| IntWrite(self, NotThreadSafe))
    }

    /// `syncfs` reports `err`, once for each open file.
    pub fn set_wb_err(&self, err: Error) {
        // SAFETY: The superblock is valid.
        unsafe { bindings::calf_sb_set_wb_err(self.as_ptr(), err.to_errno()) }
    }
}

/// The filesystem will not be frozen while this lives.
pub struct IntWrite<'a, T: FileSystem>(&'a SuperBlock<T>, NotThreadSafe);

impl<T: FileSystem> Drop for IntWrite<'_, T> {
    fn drop(&mut self) {
        // SAFETY: Started by `SuperBlock::intwrite`, or `try_intwrite`, in this task.
        unsafe { bindings::calf_sb_end_intwrite(self.0.as_ptr()) }
    }
}

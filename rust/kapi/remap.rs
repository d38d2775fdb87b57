// SPDX-License-Identifier: GPL-2.0

//! Making ranges of two files share blocks.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::fs::FileSystem;
use super::inode::Inode;
use super::kiocb::File;
use crate::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::NotThreadSafe;

/// Compare first, and share only what is the same.
pub const REMAP_FILE_DEDUP: u32 = bindings::REMAP_FILE_DEDUP;
/// The range may be shortened to whole blocks.
pub const REMAP_FILE_CAN_SHORTEN: u32 = bindings::REMAP_FILE_CAN_SHORTEN;

/// `i_rwsem` and `invalidate_lock` of two files (or of one twice), all held exclusively: no write,
/// no fault, no readahead in either (C-LOCK-5).
pub struct RemapLocks<'a, T: FileSystem> {
    a: &'a Inode<T>,
    b: &'a Inode<T>,
    demoted: bool,
    _task: NotThreadSafe,
}

impl<'a, T: FileSystem> RemapLocks<'a, T> {
    /// Takes the locks in the order of the VFS.
    pub fn lock(a: &'a Inode<T>, b: &'a Inode<T>) -> Self {
        // SAFETY: Both are valid regular files.
        unsafe { bindings::lock_two_nondirectories(a.as_ptr(), b.as_ptr()) };
        // SAFETY: As above.
        unsafe { bindings::filemap_invalidate_lock_two(a.mapping(), b.mapping()) };
        Self {
            a,
            b,
            demoted: false,
            _task: NotThreadSafe,
        }
    }

    /// Lets reads and read faults of `a`, unless it is `b`, go on: both its locks become shared.
    pub fn demote_first(&mut self) {
        if self.demoted || core::ptr::eq(self.a, self.b) {
            return;
        }
        self.demoted = true;
        // SAFETY: Held exclusively since `lock`.
        unsafe { bindings::downgrade_write(&raw mut (*self.a.mapping()).invalidate_lock) };
        // SAFETY: As above.
        unsafe { bindings::downgrade_write(&raw mut (*self.a.as_ptr()).i_rwsem) };
    }
}

impl<T: FileSystem> Drop for RemapLocks<'_, T> {
    fn drop(&mut self) {
        if self.demoted {
            // SAFETY: Demoted by `demote_first`.
            unsafe { bindings::calf_invalidate_unlock_shared(self.a.as_ptr()) };
            // SAFETY: Taken by `lock`.
            unsafe { bindings::calf_invalidate_unlock(self.b.as_ptr()) };
            // SAFETY: Demoted by `demote_first`.
            unsafe { bindings::calf_inode_unlock_shared(self.a.as_ptr()) };
            // SAFETY: Taken by `lock`.
            unsafe { bindings::calf_inode_unlock(self.b.as_ptr()) };
            return;
        }
        // SAFETY: Taken by `lock`.
        unsafe { bindings::filemap_invalidate_unlock_two(self.a.mapping(), self.b.mapping()) };
        // SAFETY: As above.
        unsafe { bindings::unlock_two_nondirectories(self.a.as_ptr(), self.b.as_ptr()) };
    }
}

/// `generic_remap_file_range_prep`: checks the request, waits for direct I/O, writes both ranges
/// back, compares for dedupe, strips privileges and updates the times of `dst`.
///
/// Returns the length to remap, 0 if there is nothing to do. Both files are locked.
pub fn remap_prep<T: FileSystem>(
    _locks: &RemapLocks<'_, T>,
    src: &File<T>,
    src_pos: u64,
    dst: &File<T>,
    dst_pos: u64,
    len: u64,
    flags: u32,
) -> Result<u64> {
    // CAST: the VFS has checked that all are below `LLONG_MAX`.
    let mut len = len as i64;
    // SAFETY: Both files are valid; `len` is valid for writes.
    to_result(unsafe {
        bindings::generic_remap_file_range_prep(
            src.as_ptr(),
            src_pos as i64,
            dst.as_ptr(),
            dst_pos as i64,
            &raw mut len,
            flags,
        )
    })?;
    Ok(len.max(0) as u64)
}

// SPDX-License-Identifier: GPL-2.0

//! The inode that an event is about.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use crate::bindings;
use crate::judge::ranges::FileId;
use crate::judge::File;
use core::ffi::CStr;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::str::CStrExt as _;

/// An inode for the time of one handler.
///
/// # Invariants
///
/// The pointer is valid for `'a`, and so are the inode's superblock and filesystem type: whoever
/// fired the event holds the inode.
#[derive(Clone, Copy)]
pub(crate) struct InodeRef<'a>(NonNull<bindings::inode>, PhantomData<&'a bindings::inode>);

impl<'a> InodeRef<'a> {
    /// # Safety
    ///
    /// `ptr` must be null or a valid inode in use for `'a`.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::inode) -> Option<Self> {
        NonNull::new(ptr).map(|p| Self(p, PhantomData))
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::inode {
        self.0.as_ptr()
    }

    /// Identity, for comparisons.
    pub(crate) fn key(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Inode number.
    pub(crate) fn ino(&self) -> u64 {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { (*self.as_ptr()).i_ino }
    }

    fn sb(&self) -> *mut bindings::super_block {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { (*self.as_ptr()).i_sb }
    }

    /// Device number of the filesystem, major and minor.
    pub(crate) fn dev(&self) -> (u32, u32) {
        // SAFETY: The superblock is valid by the type invariant.
        let dev = unsafe { (*self.sb()).s_dev };
        (dev >> 20, dev & 0xf_ffff)
    }

    /// Name of the filesystem type.
    pub(crate) fn fs_name(&self) -> &'a CStr {
        // SAFETY: The superblock is valid by the type invariant.
        let fs = unsafe { (*self.sb()).s_type };
        // SAFETY: The type of a superblock in use is valid.
        let name = unsafe { (*fs).name };
        // SAFETY: The name of a filesystem type is a string that lives as long as the type.
        unsafe { CStr::from_char_ptr(name) }
    }

    /// The file, whatever becomes of the inode.
    pub(crate) fn id(&self) -> FileId {
        FileId {
            dev: self.dev(),
            ino: self.ino(),
        }
    }

    /// Neither writeback nor direct I/O is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::check_inode_is_quiet(self.as_ptr()) }
    }

    /// Size and block size.
    pub(crate) fn file(&self) -> File {
        // SAFETY: The inode is valid by the type invariant.
        let size = unsafe { bindings::check_i_size_read(self.as_ptr()) };
        // SAFETY: As above.
        let bits = unsafe { (*self.as_ptr()).i_blkbits };
        File {
            size,
            block: 1u64.checked_shl(u32::from(bits)).unwrap_or(1),
        }
    }

    /// `invalidate_lock` is held for writing, by whomever.
    pub(crate) fn invalidate_held_write(&self) -> bool {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::check_invalidate_held_write(self.as_ptr()) }
    }

    /// `invalidate_lock` is held, by whomever.
    pub(crate) fn invalidate_held(&self) -> bool {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::check_invalidate_held(self.as_ptr()) }
    }

    /// `i_rwsem` is held, by whomever.
    pub(crate) fn lock_held(&self) -> bool {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::check_inode_lock_held(self.as_ptr()) }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! File attributes: what `FS_IOC_GETFLAGS`, `FS_IOC_FSGETXATTR` and their kin read and set.
//!
//! C header: [`include/linux/fileattr.h`](srctree/include/linux/fileattr.h)

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::bindings;

/// `FS_*_FL` and `S_*` flags, as `(FS_*_FL, S_*)`; 0 where the VFS has no flag.
pub const IMMUTABLE: (u32, u32) = (bindings::FS_IMMUTABLE_FL, bindings::S_IMMUTABLE);
/// See [`IMMUTABLE`].
pub const APPEND: (u32, u32) = (bindings::FS_APPEND_FL, bindings::S_APPEND);
/// See [`IMMUTABLE`].
pub const NODUMP: (u32, u32) = (bindings::FS_NODUMP_FL, 0);
/// See [`IMMUTABLE`].
pub const NOATIME: (u32, u32) = (bindings::FS_NOATIME_FL, bindings::S_NOATIME);
/// See [`IMMUTABLE`].
pub const SYNC: (u32, u32) = (bindings::FS_SYNC_FL, bindings::S_SYNC);
/// See [`IMMUTABLE`].
pub const DIRSYNC: (u32, u32) = (bindings::FS_DIRSYNC_FL, bindings::S_DIRSYNC);
/// See [`IMMUTABLE`].
pub const PROJINHERIT: (u32, u32) = (bindings::FS_PROJINHERIT_FL, 0);

/// The attributes of a file on their way to or from user space (`struct file_kattr`).
///
/// # Invariants
///
/// The pointer is valid for `'a` and nobody else uses it.
pub struct FileAttr<'a>(
    NonNull<bindings::file_kattr>,
    PhantomData<&'a mut bindings::file_kattr>,
);

impl FileAttr<'_> {
    /// Wraps raw attributes.
    ///
    /// # Safety
    ///
    /// `ptr` is valid and not used by others for `'a`.
    pub unsafe fn from_raw<'a>(ptr: NonNull<bindings::file_kattr>) -> FileAttr<'a> {
        // INVARIANT: By the safety requirements.
        FileAttr(ptr, PhantomData)
    }

    /// Reports `FS_*_FL` flags, in both forms, and the project.
    pub fn fill(&mut self, flags: u32, projid: u32) {
        // SAFETY: By the type invariant.
        unsafe { bindings::fileattr_fill_flags(self.0.as_ptr(), flags) };
        // SAFETY: By the type invariant.
        unsafe { self.0.as_mut() }.fsx_projid = projid;
    }

    /// The new `FS_*_FL` flags: whichever form the caller used, the VFS has filled in the other.
    pub fn flags(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref() }.flags
    }

    /// The new project, if the caller used the form that has one.
    pub fn projid(&self) -> Option<u32> {
        // SAFETY: By the type invariant.
        let raw = unsafe { self.0.as_ref() };
        raw.fsx_valid().then_some(raw.fsx_projid)
    }

    /// Are there flags that [`flags`](Self::flags) has no form of?
    pub fn has_more(&self) -> bool {
        // SAFETY: By the type invariant.
        let raw = unsafe { self.0.as_ref() };
        raw.fsx_valid() && raw.fsx_xflags & !bindings::FS_XFLAG_COMMON != 0
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Attributes: what `setattr` changes and `getattr` reports.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/stat.h`](srctree/include/linux/stat.h)

use core::marker::PhantomData;
use core::ptr::NonNull;

use kernel::error::{to_result, Result};
use kernel::ffi::c_long;
use kernel::page::PAGE_SIZE;

use super::dentry::Positive;
use super::fs::FileSystem;
use super::idmap::Idmap;
use super::inode::Inode;
use crate::bindings;

/// A change of attributes (`struct iattr`) on its way through `notify_change`.
///
/// # Invariants
///
/// The pointer is valid for `'a` and nobody else uses it; `i_rwsem` of the inode that is to be
/// changed is held exclusively.
pub struct Attr<'a>(
    NonNull<bindings::iattr>,
    PhantomData<&'a mut bindings::iattr>,
);

impl<'a> Attr<'a> {
    /// Wraps a raw change.
    ///
    /// # Safety
    ///
    /// `ptr` is valid and not used by others for `'a`; `i_rwsem` of the inode it is for is held
    /// exclusively.
    pub unsafe fn from_raw(ptr: NonNull<bindings::iattr>) -> Self {
        // INVARIANT: By the safety requirements.
        Self(ptr, PhantomData)
    }

    /// Checks that the caller may make this change (`setattr_prepare`).
    pub fn prepare<T: FileSystem>(&mut self, idmap: Idmap<'_>, dentry: &Positive<'_, T>) -> Result {
        // SAFETY: All pointers are valid, `i_rwsem` is held by the type invariant.
        to_result(unsafe {
            bindings::setattr_prepare(idmap.as_ptr(), dentry.as_ptr(), self.0.as_ptr())
        })
    }

    /// The new size, if the size is to change.
    pub fn size(&self) -> Option<u64> {
        // SAFETY: Valid by the type invariant.
        let attr = unsafe { self.0.as_ref() };
        if attr.ia_valid & bindings::ATTR_SIZE == 0 {
            return None;
        }
        u64::try_from(attr.ia_size).ok()
    }

    /// Whether the permissions change.
    pub fn sets_mode(&self) -> bool {
        // SAFETY: Valid by the type invariant.
        unsafe { self.0.as_ref() }.ia_valid & bindings::ATTR_MODE != 0
    }

    /// Is an owner set?
    pub fn sets_owner(&self) -> bool {
        let those = bindings::ATTR_UID | bindings::ATTR_GID;
        // SAFETY: Valid by the type invariant.
        unsafe { self.0.as_ref() }.ia_valid & those != 0
    }

    /// Writes all but the size into the inode (`setattr_copy`) and counts `i_version` up.
    pub fn copy_to<T: FileSystem>(&self, idmap: Idmap<'_>, inode: &Inode<T>) {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_inc_iversion(inode.as_ptr()) };
        // SAFETY: All pointers are valid, `i_rwsem` is held by the type invariant.
        unsafe { bindings::setattr_copy(idmap.as_ptr(), inode.as_ptr(), self.0.as_ptr()) }
    }
}

/// An answer to `statx(2)` (`struct kstat`).
///
/// # Invariants
///
/// The pointer is valid for `'a` and nobody else uses it.
pub struct Stat<'a>(
    NonNull<bindings::kstat>,
    PhantomData<&'a mut bindings::kstat>,
);

impl<'a> Stat<'a> {
    /// Wraps a raw answer.
    ///
    /// # Safety
    ///
    /// `ptr` is valid and not used by others for `'a`.
    pub unsafe fn from_raw(ptr: NonNull<bindings::kstat>) -> Self {
        // INVARIANT: By the safety requirements.
        Self(ptr, PhantomData)
    }

    fn raw(&mut self) -> &mut bindings::kstat {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_mut() }
    }

    /// Fills in what the VFS inode knows (`generic_fillattr`). `mask` is what was asked for.
    pub fn fill<T: FileSystem>(&mut self, idmap: Idmap<'_>, mask: u32, inode: &Inode<T>) {
        // SAFETY: All pointers are valid.
        unsafe { bindings::generic_fillattr(idmap.as_ptr(), mask, inode.as_ptr(), self.0.as_ptr()) }
    }

    /// Reports when the inode was created, in nanoseconds since the epoch.
    pub fn set_btime(&mut self, ns: i64) {
        let stat = self.raw();
        stat.btime = bindings::timespec64 {
            tv_sec: ns.div_euclid(1_000_000_000),
            // CAST: Below one billion.
            tv_nsec: ns.rem_euclid(1_000_000_000) as c_long,
        };
        stat.result_mask |= bindings::STATX_BTIME;
    }

    /// Reports the preferred size of I/O: a page, if blocks are smaller.
    pub fn raise_blksize_to_page(&mut self) {
        let stat = self.raw();
        // CAST: A page is far below 4 GiB.
        stat.blksize = stat.blksize.max(PAGE_SIZE as u32);
    }

    /// Adds sectors of 512 bytes that will be allocated, to what is.
    pub fn add_sectors(&mut self, sectors: u64) {
        let stat = self.raw();
        stat.blocks = stat.blocks.saturating_add(sectors);
    }

    /// Reports the file attributes that `statx` knows, from `FS_*_FL`, which have the same bits.
    pub fn set_attributes(&mut self, fs_flags: u32) {
        const KNOWN: u32 = bindings::STATX_ATTR_IMMUTABLE
            | bindings::STATX_ATTR_APPEND
            | bindings::STATX_ATTR_NODUMP;
        let stat = self.raw();
        stat.attributes |= u64::from(fs_flags & KNOWN);
        stat.attributes_mask |= u64::from(KNOWN);
    }

    /// Reports, if `mask` asks for it, that writes of `min` to `max` bytes can be atomic
    /// (`RWF_ATOMIC`), none of them faster than others.
    pub fn set_atomic_write(&mut self, mask: u32, min: u32, max: u32) {
        if mask & bindings::STATX_WRITE_ATOMIC != 0 {
            // SAFETY: By the type invariant.
            unsafe { bindings::generic_fill_statx_atomic_writes(self.0.as_ptr(), min, max, 0) }
        }
    }

    /// Reports how direct I/O should be aligned: reads in the file, and anything in memory, as the device
    /// asks for; writes to `write` bytes in the file.
    pub fn set_dio_align<T: FileSystem>(&mut self, inode: &Inode<T>, write: u32) {
        // SAFETY: The inode is valid, its filesystem is on a block device.
        let memory = unsafe { bindings::calf_inode_dma_align(inode.as_ptr()) };
        let stat = self.raw();
        stat.dio_mem_align = memory;
        stat.dio_offset_align = write;
        stat.dio_read_offset_align = inode.sb().logical_block_size();
        stat.result_mask |= bindings::STATX_DIOALIGN | bindings::STATX_DIO_READ_ALIGN;
    }
}

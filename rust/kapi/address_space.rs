// SPDX-License-Identifier: GPL-2.0

//! The page cache of a file: address space operations of an iomap filesystem.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::folio::{FolioToRead, Readahead};
use super::fs::FileSystem;
use super::inode::{Inode, InvalidateLock};
use super::iomap::OpsRef;
use super::iomap_writeback::{writepages, WritebackOps};
use super::kiocb::File;
use super::super_block::SuperBlock;
#[cfg(calf_lab)]
use super::watch::{Lock, Watch as _};
use crate::bindings;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::prelude::*;

/// What differs between iomap filesystems; the rest of the table is iomap's (C-AOPS).
pub trait AddressSpaceOps: Sized + 'static {
    /// The filesystem.
    type Fs: FileSystem;
    /// How dirty folios are written.
    type Writeback: WritebackOps<Fs = Self::Fs>;

    /// Reads a folio; unlocks it in the end.
    fn read_folio(folio: FolioToRead<'_, Self::Fs>);

    /// Reads ahead.
    fn readahead(rac: Readahead<'_, Self::Fs>);

    /// How the blocks of a swap file are found; the kernel then reads and writes them without the
    /// filesystem. `i_rwsem` is held, and nobody writes the file until it is no swap file any more.
    /// Errors: `EINVAL` for a file that cannot be one.
    fn swap_map(inode: &Inode<Self::Fs>) -> Result<OpsRef<Self::Fs>>;

    /// How `FIBMAP` finds a block on the device, which the caller may then write to; `None`: it is not
    /// told. No lock is held.
    fn block_map(inode: &Inode<Self::Fs>) -> Option<OpsRef<Self::Fs>>;
}

struct Table<T: AddressSpaceOps>(PhantomData<T>);

impl<T: AddressSpaceOps> Table<T> {
    /// # Safety
    ///
    /// Called as `address_space_operations::read_folio` for an inode of `T::Fs`.
    unsafe extern "C" fn read_folio(
        _file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> c_int {
        // SAFETY: The folio is locked, which is ours to end, and of an inode of `T::Fs`.
        T::read_folio(unsafe { FolioToRead::from_raw(folio) });
        0
    }

    /// # Safety
    ///
    /// Called as `address_space_operations::readahead` for an inode of `T::Fs`.
    unsafe extern "C" fn readahead(rac: *mut bindings::readahead_control) {
        // SAFETY: The request is valid and for an inode of `T::Fs`.
        T::readahead(unsafe { Readahead::from_raw(rac) })
    }

    /// # Safety
    ///
    /// Called as `address_space_operations::writepages` for an inode of `T::Fs`.
    unsafe extern "C" fn writepages(
        mapping: *mut bindings::address_space,
        wbc: *mut bindings::writeback_control,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe { writepages::<T::Writeback>(mapping, wbc) }
    }

    /// # Safety
    ///
    /// Called as `address_space_operations::swap_activate` for a file of `T::Fs`.
    unsafe extern "C" fn swap_activate(
        sis: *mut bindings::swap_info_struct,
        file: *mut bindings::file,
        span: *mut bindings::sector_t,
    ) -> c_int {
        // SAFETY: Valid for the call.
        let inode = unsafe { File::<T::Fs>::from_raw(file) }.inode();
        let ops = match T::swap_map(inode) {
            Ok(ops) => ops,
            Err(e) => return e.to_errno(),
        };
        // SAFETY: All pointers are valid; the table belongs to the filesystem of the file.
        unsafe { bindings::calf_swap_activate(sis, file, span, ops.as_ptr()) }
    }

    /// # Safety
    ///
    /// Called as `address_space_operations::bmap` for an inode of `T::Fs`.
    unsafe extern "C" fn bmap(
        mapping: *mut bindings::address_space,
        block: bindings::sector_t,
    ) -> bindings::sector_t {
        // SAFETY: By the safety requirements, the mapping has a live host of `T::Fs`.
        let inode = unsafe { Inode::<T::Fs>::from_raw((*mapping).host) };
        match T::block_map(inode) {
            // SAFETY: The mapping is valid; the table belongs to its filesystem.
            Some(ops) => unsafe { bindings::iomap_bmap(mapping, block, ops.as_ptr()) },
            None => 0,
        }
    }

    const OPS: bindings::address_space_operations = bindings::address_space_operations {
        read_folio: Some(Self::read_folio),
        readahead: Some(Self::readahead),
        writepages: Some(Self::writepages),
        dirty_folio: Some(bindings::iomap_dirty_folio),
        release_folio: Some(bindings::iomap_release_folio),
        invalidate_folio: Some(bindings::iomap_invalidate_folio),
        is_partially_uptodate: Some(bindings::iomap_is_partially_uptodate),
        bmap: Some(Self::bmap),
        migrate_folio: Some(bindings::filemap_migrate_folio),
        error_remove_folio: Some(bindings::generic_error_remove_folio),
        swap_activate: Some(Self::swap_activate),
        ..pin_init::zeroed()
    };
}

/// A table of address space operations.
pub struct AopsRef<F: FileSystem>(&'static bindings::address_space_operations, PhantomData<F>);

/// Builds the table.
pub const fn table<T: AddressSpaceOps>() -> AopsRef<T::Fs> {
    AopsRef(&Table::<T>::OPS, PhantomData)
}

impl<F: FileSystem> AopsRef<F> {
    /// Installs the table in an inode that is being set up, with large folios (C-LARGE-FOLIO).
    pub fn install(&self, inode: &Inode<F>) {
        let mapping = inode.mapping();
        // SAFETY: The inode is not visible yet; the table is static.
        unsafe { (*mapping).a_ops = self.0 };
        // SAFETY: As above.
        unsafe { bindings::calf_mapping_set_large_folios(mapping) }
    }
}

impl<F: FileSystem> Inode<F> {
    /// `filemap_write_and_wait_range`, bytes, `end` inclusive. Not under a folio lock, an extent
    /// lock or a handle.
    pub fn write_and_wait(&self, start: u64, end: u64) -> Result {
        #[cfg(calf_lab)]
        F::Watch::locking(self, Lock::PageCache);
        // CAST: offsets are below `i64::MAX`.
        let end = end.min(i64::MAX as u64) as i64;
        // SAFETY: The inode is valid.
        to_result(unsafe {
            bindings::filemap_write_and_wait_range(self.mapping(), start as i64, end)
        })
    }

    /// `truncate_setsize`: sets the size and cuts the page cache. `i_rwsem` is held as well.
    pub fn truncate_setsize(&self, _held: &InvalidateLock<'_, F>, size: u64) {
        #[cfg(calf_lab)]
        F::Watch::locking(self, Lock::PageCache);
        // SAFETY: The inode is valid.
        unsafe { bindings::truncate_setsize(self.as_ptr(), size as i64) }
    }

    /// `truncate_pagecache_range`: drops cached data of whole pages, zeroes the rest; bytes,
    /// `end` inclusive.
    pub fn truncate_pagecache_range(&self, start: u64, end: u64) {
        #[cfg(calf_lab)]
        F::Watch::locking(self, Lock::PageCache);
        // CAST: offsets are below `i64::MAX`, which also stands for "all".
        let end = end.min(i64::MAX as u64) as i64;
        // SAFETY: The inode is valid.
        unsafe { bindings::truncate_pagecache_range(self.as_ptr(), start as i64, end) }
    }

    /// `filemap_range_has_writeback`: is a folio over bytes `[start, end]` dirty, locked or under writeback?
    pub fn range_needs_writeback(&self, start: u64, end: u64) -> bool {
        // CAST: offsets are below `i64::MAX`.
        let (start, end) = (start as i64, end.min(i64::MAX as u64) as i64);
        // SAFETY: The mapping of a valid inode is valid.
        unsafe { bindings::filemap_range_has_writeback(self.mapping(), start, end) }
    }

    /// `sync_inode_metadata` without waiting: calls `write_inode` if the inode is dirty.
    ///
    /// Returns false if the inode may still have changes that `write_inode` has not seen: it does nothing when
    /// somebody else is writing the inode, who may have begun before the last change, or not have come to
    /// `write_inode` yet.
    pub fn sync_record(&self) -> Result<bool> {
        // SAFETY: The inode is valid.
        to_result(unsafe { bindings::sync_inode_metadata(self.as_ptr(), 0) })?;
        // SAFETY: The inode is valid; its `i_lock` is not held.
        Ok(!unsafe { bindings::calf_inode_may_be_unlogged(self.as_ptr()) })
    }
}

impl<F: FileSystem> SuperBlock<F> {
    /// `sync_inodes_sb`: writes the dirty data of all files and waits for it, unless the filesystem is being
    /// mounted, unmounted or frozen. An `i_rwsem` may be held; no handle, no folio lock.
    pub fn sync_inodes(&self) {
        // SAFETY: The superblock is valid; its `s_umount` is only tried.
        unsafe { bindings::calf_sync_inodes(self.as_ptr()) }
    }
}

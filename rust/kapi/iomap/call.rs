// SPDX-License-Identifier: GPL-2.0

//! The operations that iomap offers.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)

use super::ops::{InvalidateHeld, OpsRef, WriteOpsRef};
use crate::bindings;
use crate::kapi::folio::{FolioToRead, Readahead};
use crate::kapi::fs::FileSystem;
use crate::kapi::inode::Inode;
use crate::kapi::inode_ops::FiemapInfo;
use crate::kapi::kiocb::{IovIter, Kiocb, VmFault};
use core::ptr::null_mut;
use kernel::error::to_result;
use kernel::prelude::*;

fn count(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| Error::from_errno(i32::try_from(ret).unwrap_or(-5)))
}

/// `iomap_file_buffered_write`. The caller holds `i_rwsem` exclusively and has done
/// `generic_write_checks` and `file_modified` (C-WR-PRECHECK). Advances the position.
pub fn file_buffered_write<F: FileSystem>(
    iocb: &mut Kiocb<'_, F>,
    from: &mut IovIter<'_>,
    ops: OpsRef<F>,
    write_ops: WriteOpsRef<F>,
) -> Result<usize> {
    // SAFETY: All pointers are valid; iocb belongs to a file of `F`.
    count(unsafe {
        bindings::iomap_file_buffered_write(
            iocb.as_ptr(),
            from.as_ptr(),
            ops.as_ptr(),
            write_ops.as_ptr(),
            null_mut(),
        )
    })
}

/// `iomap_page_mkwrite`. The caller holds `invalidate_lock` shared (C-MKWRITE-LOCK).
pub fn page_mkwrite<F: FileSystem>(fault: &mut VmFault<'_, F>, ops: OpsRef<F>) -> u32 {
    // SAFETY: The fault is valid and for a file of `F`.
    unsafe { bindings::iomap_page_mkwrite(fault.as_ptr(), ops.as_ptr(), null_mut()) }
}

/// `iomap_zero_range`: returns whether anything was zeroed. `i_rwsem` is held exclusively as well
/// (C-ZERO-LOCK). Does not change the size.
pub fn zero_range<F: FileSystem>(
    held: &InvalidateHeld<'_, F>,
    pos: u64,
    len: u64,
    ops: OpsRef<F>,
    write_ops: WriteOpsRef<F>,
) -> Result<bool> {
    let mut did_zero = false;
    // SAFETY: The inode is valid and of `F`.
    to_result(unsafe {
        bindings::iomap_zero_range(
            held.inode().as_ptr(),
            i64::try_from(pos)?,
            i64::try_from(len)?,
            &raw mut did_zero,
            ops.as_ptr(),
            write_ops.as_ptr(),
            null_mut(),
        )
    })?;
    Ok(did_zero)
}

/// `iomap_truncate_page`: zeroes from `pos` to the end of its block. Locks as [`zero_range`].
pub fn truncate_page<F: FileSystem>(
    held: &InvalidateHeld<'_, F>,
    pos: u64,
    ops: OpsRef<F>,
    write_ops: WriteOpsRef<F>,
) -> Result<bool> {
    let mut did_zero = false;
    // SAFETY: The inode is valid and of `F`.
    to_result(unsafe {
        bindings::iomap_truncate_page(
            held.inode().as_ptr(),
            i64::try_from(pos)?,
            &raw mut did_zero,
            ops.as_ptr(),
            write_ops.as_ptr(),
            null_mut(),
        )
    })?;
    Ok(did_zero)
}

/// `iomap_file_unshare`: dirties what is shared in the range. Locks as [`zero_range`].
pub fn file_unshare<F: FileSystem>(
    held: &InvalidateHeld<'_, F>,
    pos: u64,
    len: u64,
    ops: OpsRef<F>,
    write_ops: WriteOpsRef<F>,
) -> Result {
    // SAFETY: The inode is valid and of `F`.
    to_result(unsafe {
        bindings::iomap_file_unshare(
            held.inode().as_ptr(),
            i64::try_from(pos)?,
            i64::try_from(len)?,
            ops.as_ptr(),
            write_ops.as_ptr(),
        )
    })
}

/// `iomap_read_folio` with bios. Errors leave the folio not uptodate (C-READ-ERR).
pub fn read_folio<F: FileSystem>(folio: FolioToRead<'_, F>, ops: OpsRef<F>) {
    // SAFETY: The folio is locked, which iomap takes over, and of an inode of `F`.
    unsafe { bindings::calf_iomap_bio_read_folio(folio.into_raw(), ops.as_ptr()) }
}

/// `iomap_readahead` with bios.
pub fn readahead<F: FileSystem>(rac: &mut Readahead<'_, F>, ops: OpsRef<F>) {
    // SAFETY: The control is valid and of an inode of `F`.
    unsafe { bindings::calf_iomap_bio_readahead(rac.as_ptr(), ops.as_ptr()) }
}

/// `iomap_seek_data`: `ENXIO` when there is none.
pub fn seek_data<F: FileSystem>(inode: &Inode<F>, pos: i64, ops: OpsRef<F>) -> Result<i64> {
    // SAFETY: The inode is valid and of `F`.
    offset(unsafe { bindings::iomap_seek_data(inode.as_ptr(), pos, ops.as_ptr()) })
}

/// `iomap_seek_hole`.
pub fn seek_hole<F: FileSystem>(inode: &Inode<F>, pos: i64, ops: OpsRef<F>) -> Result<i64> {
    // SAFETY: The inode is valid and of `F`.
    offset(unsafe { bindings::iomap_seek_hole(inode.as_ptr(), pos, ops.as_ptr()) })
}

fn offset(ret: i64) -> Result<i64> {
    if ret < 0 {
        return Err(Error::from_errno(i32::try_from(ret).unwrap_or(-5)));
    }
    Ok(ret)
}

/// `iomap_fiemap`. Writes to user memory: `i_rwsem` at most may be held (D4).
pub fn fiemap<F: FileSystem>(
    inode: &Inode<F>,
    info: &FiemapInfo,
    start: u64,
    len: u64,
    ops: OpsRef<F>,
) -> Result {
    // SAFETY: The inode is valid and of `F`, the request is that of the VFS.
    to_result(unsafe {
        bindings::iomap_fiemap(inode.as_ptr(), info.as_ptr(), start, len, ops.as_ptr())
    })
}

// SPDX-License-Identifier: GPL-2.0

//! Direct I/O through iomap.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)
//!
//! [`dio_rw`] moves data between user memory and the device. The request's address travels through
//! the iteration as its *key* ([`Iter::key`](super::iomap::Iter::key),
//! [`Done::key`](super::iomap::Done::key)), and `end_io` gets the request, so that a filesystem can
//! find in `end_io` what its begin did for the same request: a request is in flight once, and its
//! address is its own until it has completed.

use super::fs::FileSystem;
use super::inode::Inode;
use super::iomap::OpsRef;
use super::kiocb::{count, IovIter, Kiocb};
use super::super_block::SuperBlock;
use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// `IOMAP_DIO_*` flags of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DioFlags(u32);

impl DioFlags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// `EAGAIN` unless all of the range is allocated, within EOF and needs no metadata
    /// (C-DIO-OVERWRITE-ONLY).
    pub const OVERWRITE_ONLY: Self = Self(bindings::IOMAP_DIO_OVERWRITE_ONLY);
    /// Every bio is made of whole filesystem blocks (C-DIO-FSBLOCK).
    pub const FSBLOCK_ALIGNED: Self = Self(bindings::IOMAP_DIO_FSBLOCK_ALIGNED);
}

/// A direct write whose last bio has ended.
#[derive(Clone, Copy, Debug)]
pub struct DioDone {
    /// Where it began, bytes.
    pub pos: u64,
    /// Bytes that were submitted. May be 0 (C-DIO-ENDIO-RET).
    pub size: u64,
    /// The first error of any part.
    pub status: Result,
    /// Some part went to staging space (`IOMAP_DIO_COW`).
    pub staged: bool,
    /// Some part went to preallocated blocks (`IOMAP_DIO_UNWRITTEN`).
    pub unwritten: bool,
    /// The key of the request.
    pub key: usize,
}

/// The end of direct writes (`struct iomap_dio_ops`).
pub trait DioOps: Sized + 'static {
    /// The filesystem.
    type Fs: FileSystem;

    /// Makes the data reachable; what it returns is the result of the request.
    ///
    /// Called once for each request, also after errors and for no bytes at all. The page cache is
    /// invalidated and direct I/O counted down after it, so conversion and size belong here
    /// (C-DIO-ENDIO-ORDER). May sleep unless it was a pure overwrite within EOF that succeeded:
    /// that may complete in interrupt context (C-DIO-ENDIO-CTX).
    fn end_io(inode: &Inode<Self::Fs>, done: DioDone) -> Result;
}

struct Table<T: DioOps>(PhantomData<T>);

impl<T: DioOps> Table<T> {
    /// # Safety
    ///
    /// Called by iomap as `iomap_dio_ops::end_io` for a request on a file of `T::Fs`.
    unsafe extern "C" fn end_io(
        iocb: *mut bindings::kiocb,
        size: isize,
        error: c_int,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: By the safety requirements; it lives until iomap completes it after this.
        let request = unsafe { Kiocb::<T::Fs>::from_raw(iocb) };
        let done = DioDone {
            pos: request.pos(),
            size: u64::try_from(size).unwrap_or(0),
            status: kernel::error::to_result(error),
            staged: flags & bindings::IOMAP_DIO_COW != 0,
            unwritten: flags & bindings::IOMAP_DIO_UNWRITTEN != 0,
            key: iocb.addr(),
        };
        match T::end_io(request.inode(), done) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    const OPS: bindings::iomap_dio_ops = bindings::iomap_dio_ops {
        end_io: Some(Self::end_io),
        ..pin_init::zeroed()
    };
}

/// A table of direct I/O callbacks.
pub struct DioOpsRef<F: FileSystem>(&'static bindings::iomap_dio_ops, PhantomData<F>);

impl<F: FileSystem> Clone for DioOpsRef<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FileSystem> Copy for DioOpsRef<F> {}

/// Builds the table.
pub const fn dio_table<T: DioOps>() -> DioOpsRef<T::Fs> {
    DioOpsRef(&Table::<T>::OPS, PhantomData)
}

/// `iomap_dio_rw`: reads or writes, by the direction of `iter`. `i_rwsem` is held. Advances the
/// position by what it returns.
///
/// Errors: `EIOCBQUEUED` when the request goes on asynchronously (neither it nor `iter` may be
/// touched then), `ENOTBLK` when the page cache could not be emptied (C-DIO-ENOTBLK), `EAGAIN`
/// when it would wait or is not a pure overwrite, `EINVAL` for unaligned requests, `EIO`, `EFAULT`.
pub fn dio_rw<F: FileSystem>(
    iocb: &mut Kiocb<'_, F>,
    iter: &mut IovIter<'_>,
    ops: OpsRef<F>,
    dio_ops: Option<DioOpsRef<F>>,
    flags: DioFlags,
) -> Result<usize> {
    let dio_ops = dio_ops.map_or(core::ptr::null(), |d| core::ptr::from_ref(d.0));
    let key = iocb.as_ptr().cast::<c_void>();
    // SAFETY: All pointers are valid, the tables are static, and iocb is on a file of `F`. iomap
    // only hands `private` on.
    count(unsafe {
        bindings::iomap_dio_rw(
            iocb.as_ptr(),
            iter.as_ptr(),
            ops.as_ptr(),
            dio_ops,
            flags.0,
            key,
            0,
        )
    })
}

impl<F: FileSystem> SuperBlock<F> {
    /// The device's logical block size: what direct I/O must be aligned to at least.
    pub fn logical_block_size(&self) -> u32 {
        // SAFETY: The device is open while mounted.
        unsafe { bindings::calf_bdev_logical_block_size(self.bdev()) }
    }
}

impl<F: FileSystem> Inode<F> {
    /// Drops clean pages of bytes `[start, end]` from the page cache (`invalidate_mapping_pages`).
    pub fn invalidate_clean(&self, start: u64, end: u64) {
        // CAST: page indices fit the page cache's index type.
        let page = |pos: u64| (pos >> kernel::page::PAGE_SHIFT) as usize;
        // SAFETY: The inode is valid.
        unsafe { bindings::invalidate_mapping_pages(self.mapping(), page(start), page(end)) };
    }

    /// Is it certain that a write strips no privileges (`IS_NOSEC`)? If not, `kiocb_modified` needs
    /// `i_rwsem` exclusively.
    pub fn is_nosec(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_is_nosec(self.as_ptr()) }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Direct I/O through iomap.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)
//!
//! [`dio_rw`] moves data between user memory and the device. The request's address travels through
//! the iteration as its *key* ([`Iter::key`](super::iomap::Iter::key)), and `end_io` gets the
//! request, so that a filesystem can find in `end_io` what its begin did for the same request: a
//! request is in flight once, and its address is its own until it has completed.
//!
//! Several mappings may be used for one request, and not all of what was mapped need be written:
//! user memory may be missing, and the device may fail. So what begin stages comes with a
//! [`Ticket`], which counts what the bios over it carried (`->submit_io`) and what the device has
//! taken (the end of each bio).

use super::fs::FileSystem;
use super::inode::Inode;
use super::iomap::OpsRef;
use super::kiocb::{count, IovIter, Kiocb};
use super::super_block::SuperBlock;
#[cfg(calf_lab)]
use super::watch::{Lock, Watch as _};
use crate::bindings;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{Arc, ArcBorrow};

/// What became of one mapping of a direct write. Made by its begin, for it alone; the mapping, every
/// bio over it and the filesystem hold references.
pub struct Ticket {
    submitted: Atomic<u64>,
    landed: Atomic<u64>,
}

impl Ticket {
    /// A ticket for a mapping that is about to be answered with.
    pub fn new() -> Result<Arc<Self>> {
        let ticket = Self {
            submitted: Atomic::new(0),
            landed: Atomic::new(0),
        };
        Ok(Arc::new(ticket, GFP_KERNEL)?)
    }

    /// Bytes that bios carry or have carried. Complete when the core calls `iomap_end`.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Relaxed)
    }

    /// Bytes that the device has taken. Complete in `end_io`: the core orders the ends of the bios
    /// before it.
    pub fn landed(&self) -> u64 {
        self.landed.load(Relaxed)
    }

    /// As `iomap::private` and `iomap_ioend::io_private` have it: with a reference.
    pub(super) fn into_private(this: Arc<Self>) -> *mut c_void {
        Arc::into_raw(this).cast_mut().cast()
    }

    /// Gives up the reference of a mapping, if it has one.
    ///
    /// # Safety
    ///
    /// `iomap` is valid; its `private` is null or comes from [`Ticket::into_private`], and is not
    /// used any more.
    pub(super) unsafe fn take_from(iomap: *mut bindings::iomap) {
        // SAFETY: By the safety requirements.
        let ptr = unsafe { core::mem::replace(&mut (*iomap).private, core::ptr::null_mut()) };
        if !ptr.is_null() {
            // SAFETY: By the safety requirements.
            drop(unsafe { Arc::from_raw(ptr.cast::<Self>()) });
        }
    }
}

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
    /// User memory that is not present ends the request early, synchronously (C-DIO-PARTIAL).
    pub const PARTIAL: Self = Self(bindings::IOMAP_DIO_PARTIAL);

    /// Both.
    pub fn and(self, o: Self) -> Self {
        Self(self.0 | o.0)
    }
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
    /// It is to be there whole or not at all (`IOCB_ATOMIC`).
    pub atomic: bool,
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
            status: to_result(error),
            staged: flags & bindings::IOMAP_DIO_COW != 0,
            unwritten: flags & bindings::IOMAP_DIO_UNWRITTEN != 0,
            atomic: request.is_atomic(),
            key: iocb.addr(),
        };
        match T::end_io(request.inode(), done) {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    /// Counts what is submitted over a mapping with a ticket.
    ///
    /// # Safety
    ///
    /// Called by iomap as `iomap_dio_ops::submit_io` for a bio of [`BioSet`].
    unsafe extern "C" fn submit_io(
        iter: *const bindings::iomap_iter,
        bio: *mut bindings::bio,
        pos: i64,
    ) {
        // SAFETY: The iteration is valid; only `fill` sets `private`, and the mapping's reference
        // is given up after the last bio over it was submitted.
        let ticket = unsafe { (*iter).iomap.private.cast::<Ticket>() };
        if !ticket.is_null() {
            // SAFETY: As above.
            let ticket: Arc<Ticket> = unsafe { ArcBorrow::from_raw(ticket) }.into();
            // SAFETY: The bio is ours until it is submitted, and embedded in an ioend by its set.
            let ioend = unsafe {
                bindings::iomap_init_ioend(
                    (*iter).inode,
                    bio,
                    pos,
                    bindings::IOMAP_IOEND_DIRECT as u16,
                )
            };
            // SAFETY: Just initialised.
            let size = unsafe { (*ioend).io_size } as u64;
            ticket.submitted.add(size, Relaxed);
            // SAFETY: Just initialised; `bio_end` gives the reference up.
            unsafe { (*ioend).io_private = Ticket::into_private(ticket) };
            // SAFETY: The bio is ours until it is submitted.
            unsafe { (*bio).bi_end_io = Some(Self::bio_end) };
        }
        // SAFETY: The core has prepared the bio.
        unsafe { bindings::submit_bio(bio) }
    }

    /// Counts what has landed, then lets the core go on.
    ///
    /// # Safety
    ///
    /// Called by the block layer as `bi_end_io` of a bio from `submit_io`, maybe in interrupt
    /// context.
    unsafe extern "C" fn bio_end(bio: *mut bindings::bio) {
        // SAFETY: `submit_io` has initialised the ioend around the bio.
        let (ticket, size) = unsafe {
            let ioend = bindings::calf_ioend_from_bio(bio);
            ((*ioend).io_private.cast::<Ticket>(), (*ioend).io_size)
        };
        // SAFETY: `submit_io` has left a reference here.
        let ticket = unsafe { Arc::from_raw(ticket) };
        // SAFETY: The bio is valid.
        if unsafe { bindings::calf_bio_errno(bio) } == 0 {
            ticket.landed.add(size as u64, Relaxed);
        }
        drop(ticket);
        // SAFETY: The bio is the core's again (C-DIO-SUBMIT-IO).
        unsafe { bindings::iomap_dio_bio_end_io(bio) }
    }

    const OPS: bindings::iomap_dio_ops = bindings::iomap_dio_ops {
        end_io: Some(Self::end_io),
        submit_io: Some(Self::submit_io),
        bio_set: &raw mut bindings::calf_dio_bio_set,
    };
}

/// The bios of direct writes. A module has one, before its first mount and until after its last.
///
/// # Invariants
///
/// `calf_dio_bio_set` is initialised while this lives, and only then.
pub(super) struct BioSet(());

impl BioSet {
    /// # Safety
    ///
    /// There is no other one.
    pub(super) unsafe fn create() -> Result<Self> {
        // SAFETY: Not initialised, by the safety requirements.
        to_result(unsafe { bindings::calf_dio_bio_set_init() })?;
        // INVARIANT: Just initialised.
        Ok(Self(()))
    }
}

impl Drop for BioSet {
    fn drop(&mut self) {
        // SAFETY: Initialised, by the type invariant. Nothing is mounted any more, so that no request is under way.
        unsafe { bindings::calf_dio_bio_set_exit() };
    }
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
/// position by what was moved, and returns that plus `done_before`, what earlier calls for the same
/// request have moved (C-DIO-DONE-BEFORE); 0 when this call moved nothing.
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
    done_before: usize,
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
            done_before,
        )
    })
}

/// `iomap_dio_read_simple`: reads at most a block inside EOF, from one mapping. `i_rwsem` is held.
///
/// Errors: `ENOTBLK` when [`dio_rw`] must do it, with nothing done; else as there (C-DIO-SIMPLE).
pub fn dio_read_simple<F: FileSystem>(
    iocb: &mut Kiocb<'_, F>,
    iter: &mut IovIter<'_>,
    ops: OpsRef<F>,
) -> Result<usize> {
    // SAFETY: All pointers are valid, the table is static and has begin, and iocb is on a file of
    // `F`.
    count(unsafe {
        bindings::calf_iomap_dio_read_simple(iocb.as_ptr(), iter.as_ptr(), ops.as_ptr())
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
    /// `pagecache_isize_extended`: zeroes what was past EOF in the page that held it, after EOF has
    /// moved from `old` to `new`. Locks the folio.
    pub fn isize_extended(&self, old: u64, new: u64) {
        #[cfg(calf_lab)]
        F::Watch::locking(self, Lock::PageCache);
        // CAST: sizes are below `i64::MAX`.
        // SAFETY: The inode is valid.
        unsafe { bindings::pagecache_isize_extended(self.as_ptr(), old as i64, new as i64) }
    }

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

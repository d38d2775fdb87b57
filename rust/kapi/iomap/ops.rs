// SPDX-License-Identifier: GPL-2.0

//! Tables of callbacks: `struct iomap_ops` and `struct iomap_write_ops`.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)

#[cfg(calf_lab)]
use super::map::LabSide;
use super::map::{fill, Answer, FolioBatch, Mapping};
use crate::bindings;
use crate::kapi::fs::FileSystem;
use crate::kapi::inode::{Inode, InvalidateLock};
use crate::kapi::iomap_dio::Ticket;
#[cfg(calf_lab)]
use crate::kapi::watch::{Begun, Watch as _};
use core::marker::PhantomData;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::prelude::*;

/// `IOMAP_*` flags of a request; those that tell operations apart are not needed, each has its
/// own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Zeroing. Comes *without* `IOMAP_WRITE` (C-ZERO-FLAGS).
    pub const ZERO: Self = Self(bindings::IOMAP_ZERO);
    /// A write fault: the folio is locked (C-MKWRITE-LOCK).
    pub const FAULT: Self = Self(bindings::IOMAP_FAULT);
    /// Never wait: `EAGAIN` instead.
    pub const NOWAIT: Self = Self(bindings::IOMAP_NOWAIT);
    /// Only blocks that are allocated, written and not shared (C-DIO-OVERWRITE-ONLY).
    pub const OVERWRITE_ONLY: Self = Self(bindings::IOMAP_OVERWRITE_ONLY);
    /// A direct write that is there whole or not at all (C-DIO-ATOMIC).
    pub const ATOMIC: Self = Self(bindings::IOMAP_ATOMIC);
    /// Unsharing.
    pub const UNSHARE: Self = Self(bindings::IOMAP_UNSHARE);

    /// Are all bits of `f` set?
    pub fn has(self, f: Flags) -> bool {
        self.0 & f.0 == f.0
    }

    /// The C bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// What begin is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// First byte.
    pub pos: u64,
    /// Bytes, at least one. The answer must cover `pos`; it may be shorter or longer
    /// (C-MAP-COVER, C-MAP-TRUE-END).
    pub len: u64,
    /// Which operation, and how.
    pub flags: Flags,
}

impl Request {
    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.pos.saturating_add(self.len)
    }
}

/// The iteration that a begin runs in.
///
/// # Invariants
///
/// `iomap` is the field of that name of an `iomap_iter` that is valid for `'a` (C-CONTAINER-OF).
pub struct Iter<'a> {
    iomap: *mut bindings::iomap,
    _p: PhantomData<&'a mut bindings::iomap_iter>,
}

impl Iter<'_> {
    /// Collects the dirty (or under writeback) folios of `[start, end)` for zeroing.
    ///
    /// Returns how far the search got, and the batch if it found folios. Only trylocks folios, so
    /// it may be called under an extent lock (C4). Finds none outside zeroing operations.
    pub fn fill_dirty_folios(&mut self, start: u64, end: u64) -> (u64, Option<FolioBatch>) {
        // CAST: file offsets are below `i64::MAX`; a last block may end one byte further.
        let mut progress = start as i64;
        let mut flags = 0u32;
        // SAFETY: By the type invariant.
        let count = unsafe {
            bindings::calf_iomap_fill_dirty_folios(
                self.iomap,
                &raw mut progress,
                end.min(i64::MAX as u64) as i64,
                &raw mut flags,
            )
        };
        let batch = (count > 0).then_some(FolioBatch(flags));
        (u64::try_from(progress).unwrap_or(end), batch)
    }

    /// What tells a direct I/O request from all others (`iomap_iter::private`).
    pub fn key(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_iomap_iter_private(self.iomap) }.addr()
    }
}

/// A mapping that the operation is done with.
///
/// # Invariants
///
/// `iomap` is the mapping that begin has answered with, valid for `'a`; its `private` is null or a [`Ticket`].
pub struct Done<'a> {
    /// First byte of the iteration.
    pub pos: u64,
    /// Bytes the operation was for: trimmed to the request (C-END-ARGS).
    pub len: u64,
    /// Bytes done.
    pub written: u64,
    /// As in begin.
    pub flags: Flags,
    iomap: *mut bindings::iomap,
    _p: PhantomData<&'a mut bindings::iomap>,
}

impl Done<'_> {
    /// Is it a reservation that the matching begin made (C-NEW-OWNER)?
    pub fn is_new_reservation(&self) -> bool {
        // SAFETY: By the type invariant.
        let (ty, flags) = unsafe { ((*self.iomap).type_, (*self.iomap).flags) };
        u32::from(ty) == bindings::IOMAP_DELALLOC && u32::from(flags) & bindings::IOMAP_F_NEW != 0
    }

    /// The ticket that begin has answered with.
    pub fn ticket(&self) -> Option<&Ticket> {
        // SAFETY: By the type invariant; the table's `end` gives the reference up after this.
        unsafe { (*self.iomap).private.cast::<Ticket>().as_ref() }
    }

    /// The same again.
    #[cfg(calf_lab)]
    fn copy(&self) -> Self {
        Self { ..*self }
    }

    /// The mapping.
    #[cfg(calf_lab)]
    pub fn map(&self) -> LabSide {
        // SAFETY: By the type invariant.
        LabSide::of(unsafe { &*self.iomap }).0
    }

    /// Was it found stale (`IOMAP_F_STALE`)?
    #[cfg(calf_lab)]
    pub fn is_stale(&self) -> bool {
        // SAFETY: By the type invariant.
        u32::from(unsafe { (*self.iomap).flags }) & bindings::IOMAP_F_STALE != 0
    }

    /// Is it staging space over shared blocks (`IOMAP_F_SHARED`)?
    #[cfg(calf_lab)]
    pub fn is_shared(&self) -> bool {
        // SAFETY: By the type invariant.
        u32::from(unsafe { (*self.iomap).flags }) & bindings::IOMAP_F_SHARED != 0
    }

    /// The part of the range that was not written, in whole blocks: `[start, end)`; none if all
    /// was (C-PUNCH-RANGE).
    pub fn unwritten_blocks<F: FileSystem>(&self, inode: &Inode<F>) -> Option<(u64, u64)> {
        if self.written >= self.len {
            return None;
        }
        // CAST: offsets and lengths are below `i64::MAX`.
        // SAFETY: The inode is valid.
        let start = unsafe {
            bindings::calf_iomap_last_written_block(
                inode.as_ptr(),
                self.pos as i64,
                self.written as isize,
            )
        };
        let bs = inode.sb().block_size();
        let end = self
            .pos
            .checked_add(self.len)?
            .checked_next_multiple_of(bs)?
            .min(i64::MAX as u64);
        (start < end).then_some((start, end))
    }
}

/// The callbacks of one operation (`struct iomap_ops`).
#[vtable]
pub trait IomapOps: Sized + 'static {
    /// The filesystem.
    type Fs: FileSystem;
    /// The mapping enum of the operation.
    type Map: Into<Mapping>;

    /// Maps `req.pos`. On an error `end` is not called: undo everything (C-BEGIN-FAIL). No lock
    /// and no handle may be held on return (C-NO-LOCK-ACROSS).
    fn begin(inode: &Inode<Self::Fs>, req: Request, iter: Iter<'_>) -> Result<Answer<Self::Map>>;

    /// Called exactly once for each successful begin (C-END-ALWAYS).
    fn end(_inode: &Inode<Self::Fs>, _done: Done<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A table of callbacks for filesystem `F`.
pub struct OpsRef<F: FileSystem>(&'static bindings::iomap_ops, PhantomData<F>);

impl<F: FileSystem> Clone for OpsRef<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FileSystem> Copy for OpsRef<F> {}

impl<F: FileSystem> OpsRef<F> {
    /// The C table.
    pub(crate) fn as_ptr(self) -> *const bindings::iomap_ops {
        self.0
    }
}

/// Shows the filesystem's observer what begin has answered.
#[cfg(calf_lab)]
fn watch_begin<T: IomapOps>(
    inode: &Inode<T::Fs>,
    req: &Request,
    (dst, src): (&bindings::iomap, &bindings::iomap),
) -> Result {
    let (dst, cookie) = LabSide::of(dst);
    let (src, _) = LabSide::of(src);
    let begun = Begun {
        op: core::any::type_name::<T>(),
        req,
        dst,
        src,
        cookie,
        has_end: T::HAS_END,
    };
    <T::Fs as FileSystem>::Watch::begun(inode, &begun)
}

struct Table<T: IomapOps>(PhantomData<T>);

impl<T: IomapOps> Table<T> {
    /// # Safety
    ///
    /// Called by iomap as `iomap_ops::iomap_begin` for an inode of `T::Fs`.
    unsafe extern "C" fn begin(
        inode: *mut bindings::inode,
        pos: i64,
        len: i64,
        flags: u32,
        iomap: *mut bindings::iomap,
        srcmap: *mut bindings::iomap,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T::Fs>::from_raw(inode) };
        // INVARIANT: The tables of this file are only handed to functions that iterate with an `iomap_iter`, and
        // these pass its field.
        let iter = Iter {
            iomap,
            _p: PhantomData,
        };
        // CAST: iomap never asks for a negative offset or length.
        let req = Request {
            pos: pos as u64,
            len: len as u64,
            flags: Flags(flags),
        };
        match T::begin(inode, req, iter) {
            Ok(answer) => {
                let (dst, src) = fill(answer, inode.sb().bdev());
                // SAFETY: iomap passes a valid, zeroed mapping.
                unsafe { *iomap = dst };
                if let Some(src) = src {
                    // SAFETY: As above.
                    unsafe { *srcmap = src };
                }
                #[cfg(calf_lab)]
                // SAFETY: As above; both are as the core will see them.
                if let Err(e) = watch_begin::<T>(inode, &req, unsafe { (&*iomap, &*srcmap) }) {
                    if T::HAS_END {
                        // SAFETY: As the core would after an operation that did nothing.
                        unsafe { Self::end(inode.as_ptr(), pos, len, 0, flags, iomap) };
                    }
                    return e.to_errno();
                }
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by iomap as `iomap_ops::iomap_end` after a successful begin.
    unsafe extern "C" fn end(
        inode: *mut bindings::inode,
        pos: i64,
        len: i64,
        written: isize,
        flags: u32,
        iomap: *mut bindings::iomap,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T::Fs>::from_raw(inode) };
        // INVARIANT: iomap passes what begin has filled; only `fill` sets `private`.
        let done = Done {
            pos: pos as u64,
            len: len as u64,
            written: u64::try_from(written).unwrap_or(0),
            flags: Flags(flags),
            iomap,
            _p: PhantomData,
        };
        #[cfg(calf_lab)]
        let before = <T::Fs as FileSystem>::Watch::ending(inode, &done);
        #[cfg(calf_lab)]
        let told = done.copy();
        let result = T::end(inode, done);
        #[cfg(calf_lab)]
        <T::Fs as FileSystem>::Watch::ended(inode, &told, before);
        // SAFETY: Nobody looks at the mapping after this.
        unsafe { Ticket::take_from(iomap) };
        match result {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }

    const OPS: bindings::iomap_ops = bindings::iomap_ops {
        iomap_begin: Some(Self::begin),
        iomap_end: if T::HAS_END { Some(Self::end) } else { None },
        iomap_next: None,
    };
}

/// The C table of an operation.
pub const fn table<T: IomapOps>() -> OpsRef<T::Fs> {
    OpsRef(&Table::<T>::OPS, PhantomData)
}

/// Callbacks of page cache writes (`struct iomap_write_ops`).
#[vtable]
pub trait IomapWriteOps: Sized + 'static {
    /// The filesystem.
    type Fs: FileSystem;

    /// Is a mapping with this cookie still true? Called with the folio locked, before anything in
    /// it is zeroed, read or copied (C-VALID).
    fn iomap_valid(inode: &Inode<Self::Fs>, cookie: u64) -> bool;
}

/// A table of page cache write callbacks.
pub struct WriteOpsRef<F: FileSystem>(&'static bindings::iomap_write_ops, PhantomData<F>);

impl<F: FileSystem> Clone for WriteOpsRef<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FileSystem> Copy for WriteOpsRef<F> {}

impl<F: FileSystem> WriteOpsRef<F> {
    /// The C table.
    pub(crate) fn as_ptr(self) -> *const bindings::iomap_write_ops {
        self.0
    }
}

struct WriteTable<T: IomapWriteOps>(PhantomData<T>);

impl<T: IomapWriteOps> WriteTable<T> {
    /// # Safety
    ///
    /// Called by iomap as `iomap_write_ops::iomap_valid` for an inode of `T::Fs`.
    unsafe extern "C" fn iomap_valid(
        inode: *mut bindings::inode,
        iomap: *const bindings::iomap,
    ) -> bool {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T::Fs>::from_raw(inode) };
        // SAFETY: iomap passes a valid mapping.
        let map = unsafe { &*iomap };
        let valid = T::iomap_valid(inode, map.validity_cookie);
        #[cfg(calf_lab)]
        if valid {
            let (map, cookie) = LabSide::of(map);
            <T::Fs as FileSystem>::Watch::held_valid(inode, &map, cookie);
        }
        valid
    }

    const OPS: bindings::iomap_write_ops = bindings::iomap_write_ops {
        iomap_valid: Some(Self::iomap_valid),
        ..pin_init::zeroed()
    };
}

/// The C table of page cache write callbacks.
pub const fn write_table<T: IomapWriteOps>() -> WriteOpsRef<T::Fs> {
    WriteOpsRef(&WriteTable::<T>::OPS, PhantomData)
}

/// The evidence that `invalidate_lock` is held exclusively.
///
/// # Invariants
///
/// Somebody holds the lock of the inode for `'a`, but for [`Self::by_nobody`] of the laboratory.
pub struct InvalidateHeld<'a, F: FileSystem>(&'a Inode<F>);

impl<'a, F: FileSystem> InvalidateHeld<'a, F> {
    /// From a guard.
    pub fn by(guard: &'a InvalidateLock<'_, F>) -> Self {
        // INVARIANT: The guard holds it, and is borrowed for `'a`.
        Self(guard.inode())
    }

    /// For callbacks of operations whose caller holds the lock (zero, unshare): checks that
    /// somebody does, warns and fails otherwise (C-PUNCH-LOCK).
    pub fn by_caller(inode: &'a Inode<F>) -> Result<Self> {
        // SAFETY: The inode is valid.
        if !unsafe { bindings::calf_invalidate_is_held_write(inode.as_ptr()) } {
            return Err(EIO);
        }
        // INVARIANT: Checked above; who calls the operation holds it until that returns.
        Ok(Self(inode))
    }

    /// No evidence at all, to show what happens without the lock.
    #[cfg(calf_lab)]
    pub fn by_nobody(inode: &'a Inode<F>) -> Self {
        Self(inode)
    }

    /// The inode.
    pub fn inode(&self) -> &'a Inode<F> {
        self.0
    }
}

/// Removes reservations (`iomap_punch_t`).
pub trait Punch<F: FileSystem> {
    /// Removes what is reserved, and nothing else, in bytes `[start, start + len)`. May run with a
    /// folio locked, many times, for ranges without reservations (C-PUNCH-CB). Cannot fail.
    fn punch(inode: &Inode<F>, start: u64, len: u64);
}

/// # Safety
///
/// Called by iomap as `iomap_punch_t` for an inode of `F`.
unsafe extern "C" fn punch_callback<F: FileSystem, P: Punch<F>>(
    inode: *mut bindings::inode,
    start: i64,
    len: i64,
    _iomap: *mut bindings::iomap,
) {
    // SAFETY: By the safety requirements.
    let inode = unsafe { Inode::<F>::from_raw(inode) };
    P::punch(inode, start as u64, len as u64)
}

/// `iomap_write_delalloc_release`: removes reservations of `[start, end)` except those under
/// dirty folios.
pub fn delalloc_release<F: FileSystem, P: Punch<F>>(
    held: &InvalidateHeld<'_, F>,
    done: &Done<'_>,
    start: u64,
    end: u64,
) {
    // SAFETY: The inode is valid; `invalidate_lock` is held, and `iomap` is the mapping that iomap_end was
    // called with, by the type invariants.
    unsafe {
        bindings::iomap_write_delalloc_release(
            held.0.as_ptr(),
            start as i64,
            end as i64,
            done.flags.bits(),
            done.iomap,
            Some(punch_callback::<F, P>),
        )
    }
}

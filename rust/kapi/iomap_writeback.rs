// SPDX-License-Identifier: GPL-2.0

//! Writeback through iomap, and the completion of its I/O in task context.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)
//!
//! For each dirty range the filesystem's [`WritebackOps::range`] sets the mapping in the context
//! and adds the range to the pending ioend. An ioend for which [`WritebackOps::needs_worker`] says
//! so ends in the [`IoendQueue`] of its inode, whose worker hands it, merged with its neighbours,
//! to [`IoendWorker::complete`] (C-IOEND-CTX).

use super::folio::Folio;
use super::fs::FileSystem;
use super::inode::Inode;
#[cfg(calf_lab)]
use super::iomap::map::LabSide;
use super::iomap::map::{fill, Answer, Run, Span, WritebackMap};
use super::memalloc::NofsScope;
use super::workqueue::Workqueue;
use crate::bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::Opaque;

/// `SECTOR_SHIFT`.
const SECTOR_SHIFT: u32 = 9;

/// The callbacks of writeback (`struct iomap_writeback_ops`).
pub trait WritebackOps: Sized + 'static {
    /// The filesystem.
    type Fs: FileSystem;
    /// Completes what needs task context.
    type Worker: IoendWorker<Fs = Self::Fs>;
    /// What a pass remembers from one range to the next, beside the mapping.
    type Pass: Default;

    /// Maps at least the block at `pos` and adds it to the ioend; returns how many bytes of `len`
    /// that were (C-WB-RANGE-RET). `pos` and `len` are whole blocks. The folio is locked, nothing
    /// else is (C-WB-CONTEXT). `end_pos` is for [`WritebackCtx::add_to_ioend`].
    fn range(
        ctx: &mut WritebackCtx<'_, Self::Fs>,
        pass: &mut Self::Pass,
        folio: &Folio<Self::Fs>,
        pos: u64,
        len: u32,
        end_pos: u64,
    ) -> Result<usize>;

    /// The pass comes to no other range, whether or not all went well. Called before its last ioend is
    /// submitted: the end of that finds nothing of the pass any more. No folio is locked.
    fn ended(inode: &Inode<Self::Fs>, pass: Self::Pass);

    /// Must the completion of this ioend run in the worker? Called when it is submitted.
    fn needs_worker(ioend: &Ioend<Self::Fs>) -> bool;

    /// The queue of an inode and the workqueue that serves it. Called from any context.
    fn queue(inode: &Inode<Self::Fs>) -> (&IoendQueue<Self::Worker>, &Workqueue);
}

/// The state of one writeback pass (`struct iomap_writepage_ctx`).
///
/// # Invariants
///
/// `ptr` is the context of a pass over an inode of `F`, valid for `'a`; nobody else uses it meanwhile.
pub struct WritebackCtx<'a, F: FileSystem> {
    ptr: *mut bindings::iomap_writepage_ctx,
    _p: PhantomData<(&'a mut bindings::iomap_writepage_ctx, F)>,
}

impl<F: FileSystem> WritebackCtx<'_, F> {
    /// The inode.
    pub fn inode<'b>(&self) -> &'b Inode<F>
    where
        Self: 'b,
    {
        // SAFETY: By the type invariant; who writes back keeps the inode.
        unsafe { Inode::from_raw((*self.ptr).inode) }
    }

    /// The mapping of the previous range with its cookie, if there is one. It must be checked
    /// again before it is used (C-WB-REVALIDATE).
    pub fn cached(&self) -> Option<(WritebackMap, u64)> {
        // SAFETY: By the type invariant.
        let map = unsafe { &(*self.ptr).iomap };
        let span = Span::new(u64::try_from(map.offset).ok()?, map.length)?;
        let flags = u32::from(map.flags);
        let kind = match u32::from(map.type_) {
            bindings::IOMAP_HOLE => WritebackMap::Hole(span),
            bindings::IOMAP_UNWRITTEN => WritebackMap::Unwritten(Run::new(span, map.addr)?),
            bindings::IOMAP_MAPPED if flags & bindings::IOMAP_F_SHARED != 0 => {
                WritebackMap::Staged(Run::new(span, map.addr)?)
            }
            bindings::IOMAP_MAPPED => WritebackMap::InPlace(Run::new(span, map.addr)?),
            _ => return None,
        };
        Some((kind, map.validity_cookie))
    }

    /// Sets the mapping, every field of it (C-WB-FRESH).
    pub fn set_map(&mut self, map: WritebackMap, cookie: u64) {
        let bdev = self.inode().sb().bdev();
        let (dst, _) = fill(Answer::new(map, cookie), bdev);
        // SAFETY: By the type invariant.
        unsafe { (*self.ptr).iomap = dst };
    }

    /// The mapping as the core sees it, and its cookie.
    #[cfg(calf_lab)]
    pub fn raw(&self) -> (LabSide, u64) {
        // SAFETY: By the type invariant.
        LabSide::of(unsafe { &(*self.ptr).iomap })
    }

    /// [`WritebackCtx::set_map`] without C-WB-FRESH: the flags of the previous mapping stay.
    #[cfg(calf_lab)]
    pub fn set_map_keep_flags(&mut self, map: WritebackMap, cookie: u64) {
        // SAFETY: By the type invariant.
        let flags = unsafe { (*self.ptr).iomap.flags };
        self.set_map(map, cookie);
        // SAFETY: By the type invariant.
        unsafe { (*self.ptr).iomap.flags |= flags };
    }

    /// Forgets the mapping, so that [`WritebackCtx::cached`] finds none.
    pub fn clear_map(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { (*self.ptr).iomap.length = 0 };
    }

    /// `iomap_add_to_ioend`: adds bytes at `pos` to the pending ioend, as many of `len` as the
    /// mapping covers; returns how many. The mapping must cover `pos` (C-WB-COVER).
    pub fn add_to_ioend(
        &mut self,
        folio: &Folio<F>,
        pos: u64,
        end_pos: u64,
        len: u32,
    ) -> Result<usize> {
        // SAFETY: By the type invariant; the folio is locked.
        let ret = unsafe {
            bindings::iomap_add_to_ioend(self.ptr, folio.as_ptr(), pos as i64, end_pos as i64, len)
        };
        super::kiocb::count(ret)
    }
}

/// An I/O of writeback, not finished yet (`struct iomap_ioend`), and those merged into it.
///
/// # Invariants
///
/// It is an ioend of an inode of `F`, whose folios are under writeback.
#[repr(transparent)]
pub struct Ioend<F: FileSystem>(Opaque<bindings::iomap_ioend>, PhantomData<F>);

impl<F: FileSystem> Ioend<F> {
    /// # Safety
    ///
    /// `ptr` is an ioend of an inode of `F`, not finished during `'a`.
    unsafe fn from_raw<'a>(ptr: *mut bindings::iomap_ioend) -> &'a Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: Transparent wrapper, valid by the safety requirements.
        unsafe { &*ptr.cast() }
    }

    /// The inode.
    pub fn inode(&self) -> &Inode<F> {
        // SAFETY: By the type invariant. An inode stays as long as it has pages under writeback, and those of
        // this I/O end it with `CompletedIoend::finish`, which consumes what is borrowed here.
        unsafe { Inode::from_raw((*self.0.get()).io_inode) }
    }

    /// File offset, bytes.
    pub fn offset(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.get()).io_offset as u64 }
    }

    /// Bytes; cut at EOF, so not always whole blocks (C10).
    pub fn size(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.get()).io_size as u64 }
    }

    /// Device address, bytes.
    pub fn addr(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.get()).io_sector << SECTOR_SHIFT }
    }

    fn has(&self, flag: u32) -> bool {
        // SAFETY: By the type invariant.
        u32::from(unsafe { (*self.0.get()).io_flags }) & flag != 0
    }

    /// Did it write staged blocks?
    pub fn is_staged(&self) -> bool {
        self.has(bindings::IOMAP_IOEND_SHARED)
    }

    /// Did it write unwritten blocks?
    pub fn is_unwritten(&self) -> bool {
        self.has(bindings::IOMAP_IOEND_UNWRITTEN)
    }
}

/// A finished I/O that waits for its completion. Completed exactly once (C-IOEND-ONCE).
///
/// # Invariants
///
/// `ptr` is an ioend of an inode of `F` whose I/O has ended; it is not finished, and ours to finish.
pub struct CompletedIoend<F: FileSystem> {
    ptr: *mut bindings::iomap_ioend,
    _p: PhantomData<F>,
}

impl<F: FileSystem> core::ops::Deref for CompletedIoend<F> {
    type Target = Ioend<F>;
    fn deref(&self) -> &Ioend<F> {
        // SAFETY: By the type invariant, until `finish` takes the value.
        unsafe { Ioend::from_raw(self.ptr) }
    }
}

impl<F: FileSystem> CompletedIoend<F> {
    /// How the I/O ended.
    pub fn status(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::calf_ioend_error(self.ptr) })
    }

    /// Ends writeback on all folios. The inode may be gone afterwards (S5).
    pub fn finish(self, result: Result) {
        let errno = match result {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        };
        let ptr = self.ptr;
        core::mem::forget(self);
        // SAFETY: By the type invariant; given up here.
        unsafe { bindings::iomap_finish_ioends(ptr, errno) }
    }
}

impl<F: FileSystem> Drop for CompletedIoend<F> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::iomap_finish_ioends(self.ptr, EIO.to_errno()) }
    }
}

/// Completes ioends in a worker.
pub trait IoendWorker: Sized + 'static {
    /// The filesystem.
    type Fs: FileSystem;

    /// Does what must be done before the pages end writeback, then finishes the ioend. Runs in a
    /// NOFS scope, takes neither `i_rwsem` nor `invalidate_lock` (C-LOCK-3).
    fn complete(ioend: CompletedIoend<Self::Fs>);
}

/// The ioends of one inode that wait for the worker.
#[pin_data]
pub struct IoendQueue<W: IoendWorker> {
    #[pin]
    raw: Opaque<bindings::calf_ioend_queue>,
    _p: PhantomData<fn(W)>,
}

// SAFETY: The C code locks.
unsafe impl<W: IoendWorker> Send for IoendQueue<W> {}
// SAFETY: See above.
unsafe impl<W: IoendWorker> Sync for IoendQueue<W> {}

impl<W: IoendWorker> IoendQueue<W> {
    /// Initialiser of an empty queue.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot is valid for writes and pinned.
            raw <- Opaque::ffi_init(|slot| unsafe {
                bindings::calf_ioend_queue_init(slot, Some(Self::work))
            }),
            _p: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Called by the workqueue with the `work` of a queue initialised for `W`.
    unsafe extern "C" fn work(work: *mut bindings::work_struct) {
        let _nofs = NofsScope::enter();
        let mut list = MaybeUninit::<bindings::list_head>::uninit();
        // SAFETY: The list is valid for writes and does not move while in use.
        unsafe { bindings::calf_init_list_head(list.as_mut_ptr()) };
        // SAFETY: By the safety requirements `work` is part of a queue.
        let queue = unsafe { bindings::calf_ioend_queue_of(work) };
        // SAFETY: Both are valid. From here on the queue is not touched: the inode may go with the
        // last ioend (S5).
        unsafe { bindings::calf_ioend_queue_take(queue, list.as_mut_ptr()) };
        loop {
            // SAFETY: The list holds only ioends.
            let ptr = unsafe { bindings::calf_ioend_next(list.as_mut_ptr()) };
            if ptr.is_null() {
                break;
            }
            // INVARIANT: `end_bio` has queued it for this inode's worker; nobody else knows it any more.
            W::complete(CompletedIoend {
                ptr,
                _p: PhantomData,
            });
            super::memalloc::cond_resched();
        }
    }
}

/// A pass of writeback: the core's state of it, and the filesystem's.
#[repr(C)]
struct Pass<T: WritebackOps> {
    wpc: bindings::iomap_writepage_ctx,
    own: T::Pass,
    /// Does [`WritebackOps::range`] run, and use `own`?
    in_range: bool,
}

struct Table<T: WritebackOps>(PhantomData<T>);

impl<T: WritebackOps> Table<T> {
    /// # Safety
    ///
    /// Called by iomap as `iomap_writeback_ops::writeback_range`, with the context of a [`Pass`].
    unsafe extern "C" fn range(
        wpc: *mut bindings::iomap_writepage_ctx,
        folio: *mut bindings::folio,
        pos: u64,
        len: u32,
        end_pos: u64,
    ) -> isize {
        // INVARIANT: By the safety requirements; the core waits for the callback.
        let mut ctx = WritebackCtx {
            ptr: wpc,
            _p: PhantomData,
        };
        // SAFETY: iomap passes a locked folio of the context's inode.
        let folio = unsafe { Folio::from_raw(folio) };
        let pass = wpc.cast::<Pass<T>>();
        // SAFETY: By the safety requirements; the core only knows of the first field.
        unsafe { (*pass).in_range = true };
        // SAFETY: As above; nobody else uses it while `in_range` is set.
        let own = unsafe { &mut (*pass).own };
        let result = T::range(&mut ctx, own, folio, pos, len, end_pos);
        // SAFETY: As above.
        unsafe { (*pass).in_range = false };
        match result {
            // CAST: at most `len`.
            Ok(n) => n as isize,
            Err(e) => e.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by iomap as `iomap_writeback_ops::writeback_submit`, with the context of a [`Pass`].
    unsafe extern "C" fn submit(wpc: *mut bindings::iomap_writepage_ctx, error: c_int) -> c_int {
        let pass = wpc.cast::<Pass<T>>();
        // SAFETY: By the safety requirements.
        if !unsafe { (*pass).in_range } {
            // SAFETY: As above.
            unsafe { Self::ended(pass) };
        }
        // C-WB-SUBMIT: the ioend decides, not the mapping, which is the next one already.
        // SAFETY: Only called with a pending ioend.
        let ptr = unsafe { (*wpc).wb_ctx }.cast::<bindings::iomap_ioend>();
        // SAFETY: As above.
        if T::needs_worker(unsafe { Ioend::from_raw(ptr) }) {
            // SAFETY: The bio is not submitted yet.
            unsafe { bindings::calf_ioend_set_end_io(ptr, Some(Self::end_bio)) };
        }
        // SAFETY: The context has a pending ioend.
        unsafe { bindings::iomap_ioend_writeback_submit(wpc, error) }
    }

    /// Tells the filesystem that a pass has ended, and leaves nothing to tell it twice.
    ///
    /// # Safety
    ///
    /// `pass` is valid, and no [`WritebackOps::range`] uses it.
    unsafe fn ended(pass: *mut Pass<T>) {
        // SAFETY: By the safety requirements.
        let own = core::mem::take(unsafe { &mut (*pass).own });
        // SAFETY: An inode of `T::Fs`, which its caller keeps during writeback.
        T::ended(unsafe { Inode::from_raw((*pass).wpc.inode) }, own);
    }

    /// # Safety
    ///
    /// Called by the block layer as `bi_end_io` of an ioend's bio, maybe in interrupt context.
    unsafe extern "C" fn end_bio(bio: *mut bindings::bio) {
        // SAFETY: The bio is part of an ioend.
        let ptr = unsafe { bindings::calf_ioend_from_bio(bio) };
        // SAFETY: The ioend is valid until it is finished.
        let ioend = unsafe { Ioend::<T::Fs>::from_raw(ptr) };
        let (queue, wq) = T::queue(ioend.inode());
        // SAFETY: All three are valid; the ioend is ours to pass on.
        unsafe { bindings::calf_ioend_queue_add(queue.raw.get(), wq.as_ptr(), ptr) }
    }

    const OPS: bindings::iomap_writeback_ops = bindings::iomap_writeback_ops {
        writeback_range: Some(Self::range),
        writeback_submit: Some(Self::submit),
    };
}

/// `iomap_writepages`: writes dirty folios of an inode, in a NOFS scope (D1).
///
/// # Safety
///
/// Called as `address_space_operations::writepages` for an inode of `T::Fs`.
pub(super) unsafe fn writepages<T: WritebackOps>(
    mapping: *mut bindings::address_space,
    wbc: *mut bindings::writeback_control,
) -> c_int {
    let _nofs = NofsScope::enter();
    // SAFETY: The mapping and its inode are valid by the safety requirements.
    let inode = unsafe { (*mapping).host };
    // C-WB-ZERO-INIT: on the stack, every field set.
    let mut pass = Pass::<T> {
        wpc: bindings::iomap_writepage_ctx {
            inode,
            wbc,
            ops: &Table::<T>::OPS,
            ..pin_init::zeroed()
        },
        own: T::Pass::default(),
        in_range: false,
    };
    let raw: *mut Pass<T> = &mut pass;
    // SAFETY: A context of a pass, valid during the call, for an inode of `T::Fs`.
    let ret = unsafe { bindings::iomap_writepages(raw.cast()) };
    // SAFETY: The pass is ours again. Without a last ioend nobody was told.
    unsafe { Table::<T>::ended(raw) };
    ret
}

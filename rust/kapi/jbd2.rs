// SPDX-License-Identifier: GPL-2.0

//! The journal (jbd2).
//!
//! An [`OpenedJournal`] is loaded once; a [`Journal`] hands out [`Handle`]s. A buffer is changed in two stages:
//! [`Handle::write_access`] or [`Handle::create_access`] turn a [`BufferHead`] into a [`JournaledBuffer`] and may
//! fail; [`JournaledBuffer::update`] changes the bytes and adds the buffer to the transaction in one go: there is no
//! way to the bytes without write access. A failure in the second stage aborts the journal, because jbd2 has
//! no undo (C5).
//!
//! What the types do not say is who else looks at the bytes: that is the business of the locks which each
//! method names.
//!
//! C header: [`include/linux/jbd2.h`](srctree/include/linux/jbd2.h)

use super::block_dev::BlockDev;
use super::buffer_head::BufferHead;
use crate::bindings;
use core::ptr::NonNull;
use kernel::error::code::{EBUSY, EINVAL, EIO, EROFS};
use kernel::error::{from_err_ptr, to_result, Result};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::NotThreadSafe;

/// A transaction id. Compared with wrap-around.
pub type Tid = u32;

/// A journal whose records are where the last mount has left them.
pub struct OpenedJournal(Journal);

impl OpenedJournal {
    /// Opens the journal region of `len` blocks at block `start` of `dev`.
    ///
    /// Barriers are switched on here: jbd2 starts without them (C8).
    ///
    /// The superblock of the journal is read, nothing else. Errors: what jbd2 finds wrong with it.
    ///
    /// # Safety
    ///
    /// The device stays open until the journal is dropped.
    pub(super) unsafe fn open(dev: &BlockDev, start: u64, len: u32) -> Result<Self> {
        let len = i32::try_from(len).map_err(|_| EINVAL)?;
        let size = i32::try_from(dev.block_size()).map_err(|_| EINVAL)?;
        let bdev = dev.as_ptr();
        // SAFETY: By the safety requirements.
        let ptr = unsafe { bindings::jbd2_journal_init_dev(bdev, bdev, start, len, size) };
        let ptr = NonNull::new(from_err_ptr(ptr)?).ok_or(EIO)?;
        // SAFETY: Just made.
        unsafe { bindings::calf_jbd2_set_barrier(ptr.as_ptr()) };
        // SAFETY: As above.
        unsafe { bindings::calf_jbd2_set_region(ptr.as_ptr()) };
        // INVARIANT: We own the new journal.
        Ok(Self(Journal { ptr, target: None }))
    }

    /// Does the journal hold transactions that are not at home yet?
    pub fn needs_recovery(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_needs_recovery(self.0.as_ptr()) }
    }

    /// Replays if needed and starts the commit thread.
    pub fn load(self) -> Result<Journal> {
        // SAFETY: By the type invariant; `self` is used up, so it is done once.
        to_result(unsafe { bindings::jbd2_journal_load(self.0.as_ptr()) })?;
        Ok(self.0)
    }

    /// Leaves the records alone. The journal counts as aborted: nothing is written through it.
    pub fn leave(self) -> Journal {
        self.0
    }
}

/// A `journal_t`.
///
/// # Invariants
///
/// `ptr` is a live journal that we own; it is destroyed on drop: what is left is committed and
/// written home, and the commit thread ends (D5).
pub struct Journal {
    ptr: NonNull<bindings::journal_t>,
    /// Hears of commits; dropped after the journal has been destroyed.
    target: Option<Arc<dyn CommitCallback + Send>>,
}

// SAFETY: jbd2 does its own locking.
unsafe impl Send for Journal {}
// SAFETY: See above.
unsafe impl Sync for Journal {}

/// Called when a transaction has committed, in the commit thread (C1, D7).
///
/// It must not allocate, sleep for I/O, or start a handle. It runs for aborted transactions too.
pub trait CommitCallback: Sync {
    /// Transaction `tid` is through; `aborted` tells that the journal is dead and that nothing
    /// of the transaction may be taken for durable.
    fn committed(&self, tid: Tid, aborted: bool);
}

/// # Safety
///
/// Called by jbd2 with a live journal whose private data is the `T` set by `set_callback`.
unsafe extern "C" fn commit_callback<T: CommitCallback>(
    journal: *mut bindings::journal_t,
    transaction: *mut bindings::transaction_t,
) {
    // SAFETY: jbd2 passes live objects.
    let tid = unsafe { bindings::calf_jbd2_transaction_tid(transaction) };
    // SAFETY: As above.
    let aborted = unsafe { bindings::calf_jbd2_is_aborted(journal) };
    // SAFETY: As above.
    let data = unsafe { bindings::calf_jbd2_private(journal) }.cast::<T>();
    // SAFETY: `set_callback` stored a `T` that outlives the journal.
    unsafe { &*data }.committed(tid, aborted);
}

impl Journal {
    fn as_ptr(&self) -> *mut bindings::journal_t {
        self.ptr.as_ptr()
    }

    /// Sets the object that hears of every commit, before the first handle starts. Errors: `EBUSY` if there
    /// is one: it may be hearing of a commit.
    pub fn set_callback<T: CommitCallback + Send + 'static>(&mut self, target: Arc<T>) -> Result {
        if self.target.is_some() {
            return Err(EBUSY);
        }
        let raw = core::ptr::from_ref::<T>(&target);
        // The object lives until the journal is destroyed.
        self.target = Some(target);
        // SAFETY: By the type invariant; `commit_callback::<T>` reads back what is stored here.
        unsafe {
            bindings::calf_jbd2_set_callback(
                self.as_ptr(),
                raw.cast_mut().cast(),
                Some(commit_callback::<T>),
            )
        }
        Ok(())
    }

    /// Starts a handle for at most `credits` changed blocks and `revokes` freed metadata blocks.
    ///
    /// Errors: `EBUSY` when this task has a handle already (D3: handles never nest), `EIO` when the journal is
    /// aborted, `ENOMEM`. May wait for a commit.
    pub fn start(&self, credits: u32, revokes: u32) -> Result<Handle<'_>> {
        // SAFETY: Only reads the current task.
        if unsafe { bindings::calf_has_journal_handle() } {
            pr_err!("journal handle started inside another one\n");
            return Err(EBUSY);
        }
        // SAFETY: By the type invariant; GFP_NOFS makes jbd2 retry small allocations (B3).
        let h = unsafe {
            bindings::jbd2__journal_start(
                self.as_ptr(),
                credits as i32,
                0,
                revokes as i32,
                bindings::CALF_CONST_GFP_NOFS,
                0,
                0,
            )
        };
        let ptr = NonNull::new(from_err_ptr(h).map_err(of_dead)?).ok_or(EIO)?;
        // INVARIANT: A running handle of this task.
        Ok(Handle {
            ptr,
            journal: self,
            _task: NotThreadSafe,
        })
    }

    /// Most blocks that one transaction may change.
    pub fn max_credits(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_max_txn_buffers(self.as_ptr()) }.max(0) as u32
    }

    /// Credits that [`Journal::start`] can give beside those of a small operation.
    pub fn max_handle(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_max_handle(self.as_ptr()) }
    }

    /// Is the journal dead?
    pub fn is_aborted(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_is_aborted(self.as_ptr()) }
    }

    /// Kills the journal: nothing more reaches the disk through it. May sleep.
    pub fn abort(&self, err: Error) {
        // SAFETY: By the type invariant.
        unsafe { bindings::jbd2_journal_abort(self.as_ptr(), err.to_errno()) }
    }

    /// The error that an earlier mount died of, as it is recorded in the journal's superblock.
    pub fn recorded_error(&self) -> Option<Error> {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::jbd2_journal_errno(self.as_ptr()) }).err()
    }

    /// Forgets the recorded error in memory: until then no handle starts. Errors: `EROFS` when the
    /// journal is dead.
    pub fn forget_recorded_error(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::jbd2_journal_clear_err(self.as_ptr()) })
    }

    /// Stores on disk that the error is forgotten.
    pub fn store_forgotten_error(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::jbd2_journal_update_sb_errno(self.as_ptr()) };
    }

    /// Waits until transaction `tid` is durable; starts its commit if needed.
    pub fn complete(&self, tid: Tid) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::jbd2_complete_transaction(self.as_ptr(), tid) })
    }

    /// Will the commit of `tid` flush the device cache?
    pub fn will_flush(&self, tid: Tid) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::jbd2_trans_will_send_data_barrier(self.as_ptr(), tid) != 0 }
    }

    /// Is transaction `tid` durable?
    pub fn is_committed(&self, tid: Tid) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_tid_committed(self.as_ptr(), tid) }
    }

    /// The transaction that a block read now may belong to: running, else committing, else the
    /// last one (C9).
    pub fn last_tid(&self) -> Tid {
        let mut tid = 0;
        // SAFETY: By the type invariant; `tid` is valid for writes.
        unsafe { bindings::calf_jbd2_last_tids(self.as_ptr(), &mut tid) };
        tid
    }

    /// Commits the running transaction and waits for it. Not under a handle.
    pub fn force_commit(&self) -> Result {
        let mut tid = 0;
        // SAFETY: By the type invariant; `tid` is valid for writes.
        if unsafe { bindings::jbd2_journal_start_commit(self.as_ptr(), &mut tid) } == 0 {
            return if self.is_aborted() { Err(EIO) } else { Ok(()) };
        }
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::jbd2_log_wait_commit(self.as_ptr(), tid) })
    }

    /// Calls `f` while there is no handle: stops new ones and waits for the open ones (freeze; D5). `f`
    /// starts none and does not come here again, and this task has none: each would wait for ever.
    pub fn without_handles<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariant.
        unsafe { bindings::jbd2_journal_lock_updates(self.as_ptr()) };
        let ret = f();
        // SAFETY: By the type invariant; locked above, by this task.
        unsafe { bindings::jbd2_journal_unlock_updates(self.as_ptr()) };
        ret
    }

    /// Forgets the transactions that are at home, though the device may have them in its cache. When
    /// none is left, the journal becomes empty in one write, behind a flush; else jbd2 moves its
    /// tail first, behind flushes, for each transaction.
    pub fn forget_written(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_forget_written(self.as_ptr()) }
    }

    /// Writes everything home and empties the journal.
    pub fn flush(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::jbd2_journal_flush(self.as_ptr(), 0) })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Also of a journal that was never loaded.
        let was_dead = self.is_aborted();
        // SAFETY: We own the journal.
        let ret = unsafe { bindings::jbd2_journal_destroy(self.as_ptr()) };
        if ret < 0 && !was_dead {
            pr_err!("journal cannot be emptied at umount: {}\n", ret);
        }
    }
}

/// What jbd2 answers when its journal is dead is `EROFS`. Nobody has made the filesystem read-only, so whoever asked
/// hears `EIO`, as from XFS.
fn of_dead(e: Error) -> Error {
    if e == EROFS {
        EIO
    } else {
        e
    }
}

/// An open handle: the right of this task to change blocks in the running transaction.
///
/// # Invariants
///
/// `ptr` is a running handle of the current task.
pub struct Handle<'j> {
    ptr: NonNull<bindings::handle_t>,
    journal: &'j Journal,
    _task: NotThreadSafe,
}

impl<'j> Handle<'j> {
    fn as_ptr(&self) -> *mut bindings::handle_t {
        self.ptr.as_ptr()
    }

    /// The transaction this handle belongs to.
    pub fn tid(&self) -> Tid {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_handle_tid(self.as_ptr()) }
    }

    /// Blocks that may still be added to the transaction.
    pub fn credits(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_handle_credits(self.as_ptr()) }.max(0) as u32
    }

    /// Metadata blocks that may still be freed.
    pub fn revokes(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_jbd2_handle_revokes(self.as_ptr()) }.max(0) as u32
    }

    /// Announces a change of a block that exists. May sleep for journal or home I/O (S3). Errors: `EIO`, `ENOMEM`.
    pub fn write_access(&self, bh: BufferHead) -> Result<JournaledBuffer> {
        // SAFETY: By the type invariants of both.
        to_result(unsafe { bindings::jbd2_journal_get_write_access(self.as_ptr(), bh.as_ptr()) })
            .map_err(of_dead)?;
        // INVARIANT: Write access was given.
        Ok(JournaledBuffer { bh })
    }

    /// Announces a block that was free and is written whole. Its content starts as zeros.
    pub fn create_access(&self, bh: BufferHead) -> Result<JournaledBuffer> {
        bh.clear_verified();
        bh.locked(|| {
            // SAFETY: By the type invariants of both; the buffer is locked, as the call demands.
            to_result(unsafe {
                bindings::jbd2_journal_get_create_access(self.as_ptr(), bh.as_ptr())
            })
            .map_err(of_dead)?;
            bh.with_data_mut(|d| d.fill(0));
            bh.set_uptodate();
            Ok::<(), Error>(())
        })?;
        // INVARIANT: Create access was given.
        Ok(JournaledBuffer { bh })
    }

    /// Frees a metadata block: revokes it, so that a replay never brings it back (C7).
    ///
    /// Takes the reference in every case. Must come before the block's bit is cleared.
    pub fn revoke(&self, bh: BufferHead) -> Result {
        bh.clear_verified();
        let block = bh.block();
        if self.is_aborted() {
            return Err(EIO);
        }
        if self.revokes() == 0 {
            return Err(EIO);
        }
        // CONSUMED: With a revoke credit and a live handle jbd2 drops the reference, except when
        // it finds the block revoked already, in which case one buffer stays pinned until umount.
        let raw = bh.into_raw();
        // SAFETY: By the type invariant; `raw` carries the reference that jbd2 drops.
        to_result(unsafe { bindings::jbd2_journal_revoke(self.as_ptr(), block, raw) })
            .map_err(of_dead)
    }

    /// Is the transaction of this handle dead?
    pub fn is_aborted(&self) -> bool {
        self.journal.is_aborted()
    }

    /// Ends the handle. The transaction commits later, by time or by demand.
    pub fn stop(self) -> Result {
        let ptr = self.as_ptr();
        core::mem::forget(self);
        // SAFETY: We owned the handle and have given it up.
        to_result(unsafe { bindings::jbd2_journal_stop(ptr) })
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::jbd2_journal_stop(self.as_ptr()) };
    }
}

/// A buffer that the running transaction may change.
///
/// # Invariants
///
/// jbd2 has given a handle write or create access to `bh`.
pub struct JournaledBuffer {
    bh: BufferHead,
}

impl JournaledBuffer {
    /// The buffer.
    pub fn buffer(&self) -> &BufferHead {
        &self.bh
    }

    /// Changes the content and adds the buffer to the transaction of `handle`.
    ///
    /// The caller holds the lock that excludes all other users of the bytes that `f` touches, and
    /// `handle` is the one that gave write access, or a later one of the same transaction.
    /// A failure kills the journal: the change cannot be taken back (C5).
    pub fn update<R>(&self, handle: &Handle<'_>, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let r = self.bh.with_data_mut(f);
        self.dirty(handle);
        r
    }

    /// Changes the content. An [`JournaledBuffer::update`] of the same block, under the same handle, must
    /// follow: only that adds the buffer to the transaction. The caller holds the lock that excludes all
    /// other users of the bytes that `f` touches.
    pub fn change<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        self.bh.with_data_mut(f)
    }

    /// Adds the buffer to the transaction; for changes made by several `update`s of one block.
    fn dirty(&self, handle: &Handle<'_>) {
        // SAFETY: By the type invariants of both; jbd2 refuses a buffer that is not of the handle's transaction.
        let ret =
            unsafe { bindings::jbd2_journal_dirty_metadata(handle.as_ptr(), self.bh.as_ptr()) };
        if ret != 0 && !handle.journal.is_aborted() {
            pr_err!("journal refuses block {}: {}\n", self.bh.block(), ret);
            handle.journal.abort(EIO);
        }
    }
}

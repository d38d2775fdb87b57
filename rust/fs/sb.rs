// SPDX-License-Identifier: GPL-2.0

//! What hangs on a mounted superblock.

use super::alloc::Allocator;
use super::counters::Counters;
use super::credits::Credits;
use super::debug::DebugDir;
use super::opts::MountOpts;
use super::space::{Share, Space};
use crate::format::geometry::Geometry;
use crate::format::inode::MAX_INO;
use crate::format::types::{BlockNr, Ino};
use crate::kapi::block_dev::BlockDev;
use crate::kapi::buffer_head::BufferHead;
use crate::kapi::jbd2::{Journal, Tid};
use crate::kapi::log::{log, Level};
use crate::kapi::mounted::Claim;
use crate::kapi::rwsem::RwSem;
use crate::kapi::workqueue::Workqueue;
use core::fmt;
use kernel::c_str;
use kernel::error::code::{EFSCORRUPTED, EIO, ENOSPC, EROFS};
use kernel::error::Result;
use kernel::prelude::*;
use kernel::static_lock_class;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::sync::{new_mutex, Arc, Mutex};

/// log2 of the most blocks of an atomic write.
const MOST_ATOMIC: u32 = 6;

/// Metadata blocks of the device, within the filesystem's bounds.
#[derive(Clone)]
pub(crate) struct Dev {
    bdev: BlockDev,
    blocks: Arc<Atomic<u64>>,
}

impl Dev {
    /// `blocks` is the size of the filesystem.
    pub(crate) fn new(bdev: BlockDev, blocks: u64) -> Result<Self> {
        let blocks = Arc::new(Atomic::new(blocks), GFP_KERNEL)?;
        Ok(Self { bdev, blocks })
    }

    /// The filesystem is about to have `blocks` blocks.
    pub(crate) fn grow(&self, blocks: u64) {
        self.blocks.store(blocks, Relaxed);
    }

    /// The block device.
    pub(crate) fn bdev(&self) -> &BlockDev {
        &self.bdev
    }

    /// Whatever comes from the disk was checked against the layout before, and reported (C11): it does
    /// not get here. This is the last check, of our own numbers.
    fn check(&self, block: BlockNr) -> Result {
        if block.get() >= self.blocks.load(Relaxed) {
            pr_err!("block {block} is beyond the end of the filesystem\n");
            return Err(EIO);
        }
        Ok(())
    }

    /// Reads a block. Errors: `EIO`, also when it is out of bounds. May sleep.
    pub(crate) fn read(&self, block: BlockNr) -> Result<BufferHead> {
        self.check(block)?;
        self.bdev.read(block.get())
    }

    /// Begins to read a few of these blocks, unless the first two are in memory. What it reads is not
    /// verified (C11).
    pub(super) fn read_ahead(&self, blocks: impl Iterator<Item = BlockNr>) {
        let inside = blocks.take_while(|b| self.check(*b).is_ok());
        self.bdev.read_ahead(inside.map(|b| b.get()));
    }

    /// The buffer of a block that will be written whole.
    pub(crate) fn get(&self, block: BlockNr) -> Result<BufferHead> {
        self.check(block)?;
        self.bdev.get(block.get())
    }

    /// The buffer if it is in memory and was verified; for callers that must not sleep (U2), and before
    /// anything that takes longer.
    pub(crate) fn find_verified(&self, block: BlockNr) -> Option<BufferHead> {
        let inside = block.get() < self.blocks.load(Relaxed);
        inside
            .then(|| self.bdev.find_verified(block.get()))
            .flatten()
    }
}

/// Where damage was found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In this block.
    Block(BlockNr),
    /// In this inode.
    Ino(Ino),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(b) => core::write!(f, "block {b}"),
            Self::Ino(i) => core::write!(f, "inode {i}"),
        }
    }
}

macro_rules! kernel_display {
    ($($t:ty),*) => {$(
        impl kernel::fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

kernel_display!(BlockNr, Ino, Place, Name);

/// `Sb::state`: everything goes.
const RUNNING: u32 = 0;
/// `Sb::state`: damaged under `errors=remount-ro`, or mounted with `norecovery`.
const READ_ONLY: u32 = 1;
/// `Sb::state`: nothing goes any more.
const DOWN: u32 = 2;

/// A mounted filesystem.
///
/// Fields drop in order: the workqueue goes first, as its work starts handles, then the journal,
/// because its last commit still calls the allocator (D5).
#[pin_data]
pub(crate) struct Sb {
    completion_wq: Workqueue,
    journal: Journal,
    alloc: Arc<Allocator>,
    dev: Dev,
    name: Name,
    opts: MountOpts,
    /// The option that a remount may change, of which `opts` has the first state.
    errors_ro: Atomic<bool>,
    /// `discard`.
    discard: Atomic<bool>,
    _uuid: Option<Claim>,
    /// Secret key of the directory hash.
    hash_seed: [u8; 16],
    state: Atomic<u32>,
    /// Serialises changes of the superblock on disk.
    #[pin]
    super_lock: Mutex<()>,
    /// Is the filesystem mounted for writing?
    writable: Atomic<bool>,
    /// Does the superblock, or a transaction to come, say that the filesystem is not clean?
    in_use: Atomic<bool>,
    /// Has a truncation failed when the smaller size was logged already?
    half_cut: Atomic<bool>,
    next_ino: Atomic<u64>,
    inodes: Atomic<i64>,
    counters: Arc<Counters>,
    debug: DebugDir,
    #[pin]
    refcount_lock: RwSem<()>,
    #[pin]
    orphan_lock: RwSem<()>,
    #[pin]
    itable_lock: RwSem<()>,
    #[pin]
    record_lock: RwSem<()>,
}

/// Device name for messages, e.g. `vda`.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    bytes: [u8; 32],
    len: usize,
}

impl Name {
    /// Keeps the first 31 bytes.
    pub(crate) fn new(s: &[u8]) -> Self {
        let mut bytes = [0; 32];
        let len = s.len().min(31);
        for (d, s) in bytes.iter_mut().zip(s).take(len) {
            *d = *s;
        }
        Self { bytes, len }
    }

    /// The name as C wants it.
    fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"?")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.bytes.get(..self.len).unwrap_or_default();
        f.write_str(core::str::from_utf8(s).unwrap_or("?"))
    }
}

/// What [`Sb::new`] is made from.
pub(crate) struct SbParts {
    /// Loaded journal; its callback is the allocator.
    pub journal: Journal,
    /// Block allocator.
    pub alloc: Arc<Allocator>,
    /// The device.
    pub dev: Dev,
    /// For messages.
    pub name: Name,
    /// Mount options.
    pub opts: MountOpts,
    /// Keeps a copy of the filesystem from being mounted too, unless `nouuid`.
    pub uuid: Option<Claim>,
    /// Secret key of the directory hash.
    pub hash_seed: [u8; 16],
    /// It is not clean.
    pub in_use: bool,
    /// Event counters and gauges.
    pub counters: Arc<Counters>,
    /// Runs the completions of writeback.
    pub completion_wq: Workqueue,
    /// The mount's directory in debugfs.
    pub debug: DebugDir,
}

impl Sb {
    /// Initialiser.
    pub(crate) fn new(parts: SbParts) -> impl PinInit<Self> {
        let SbParts {
            journal,
            alloc,
            dev,
            name,
            opts,
            uuid,
            hash_seed,
            in_use,
            counters,
            completion_wq,
            debug,
        } = parts;
        pin_init!(Self {
            journal,
            alloc,
            dev,
            name,
            opts,
            hash_seed,
            errors_ro: Atomic::new(opts.errors_ro),
            discard: Atomic::new(opts.discard),
            _uuid: uuid,
            // Without a replay nothing may change.
            state: Atomic::new(if opts.norecovery { READ_ONLY } else { RUNNING }),
            super_lock <- new_mutex!((), "calf_super"),
            half_cut: Atomic::new(false),
            writable: Atomic::new(false),
            in_use: Atomic::new(in_use),
            // Set by mount, which needs the trees for that.
            next_ino: Atomic::new(0),
            inodes: Atomic::new(0),
            counters,
            completion_wq,
            debug,
            refcount_lock <- RwSem::new((), c_str!("calf_refcount"), static_lock_class!()),
            orphan_lock <- RwSem::new((), c_str!("calf_orphans"), static_lock_class!()),
            itable_lock <- RwSem::new((), c_str!("calf_itable"), static_lock_class!()),
            record_lock <- RwSem::new((), c_str!("calf_record"), static_lock_class!()),
        })
    }

    /// The journal.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The allocator.
    pub(crate) fn alloc(&self) -> &Allocator {
        &self.alloc
    }

    /// The account of free blocks.
    pub(crate) fn space(&self) -> &Space {
        &self.alloc.space
    }

    /// The layout as it is now; it may grow.
    pub(crate) fn geo(&self) -> &Geometry {
        self.alloc.geo()
    }

    /// The device.
    pub(crate) fn dev(&self) -> &Dev {
        &self.dev
    }

    /// Mount options.
    pub(crate) fn opts(&self) -> MountOpts {
        MountOpts {
            errors_ro: self.errors_ro.load(Relaxed),
            discard: self.discard.load(Relaxed),
            ..self.opts
        }
    }

    /// Takes over the options that may change. Remount only.
    pub(crate) fn set_opts(&self, new: &MountOpts) {
        self.errors_ro.store(new.errors_ro, Relaxed);
        self.discard.store(new.discard, Relaxed);
    }

    /// Serialises changes of the superblock on disk. Outside of handles.
    pub(crate) fn super_lock(&self) -> &Mutex<()> {
        &self.super_lock
    }

    /// Guards the refcount tree.
    pub(crate) fn refcount_lock(&self) -> &RwSem<()> {
        &self.refcount_lock
    }

    /// Guards the orphan tree.
    pub(crate) fn orphan_lock(&self) -> &RwSem<()> {
        &self.orphan_lock
    }

    /// Guards the shape of the inode table: shared to find or overwrite a record, exclusive to
    /// insert or remove one (S2).
    pub(crate) fn itable_lock(&self) -> &RwSem<()> {
        &self.itable_lock
    }

    /// Guards the bytes of inode records while the table is locked shared.
    pub(crate) fn record_lock(&self) -> &RwSem<()> {
        &self.record_lock
    }

    /// Block size, bytes.
    pub(crate) fn block_size(&self) -> u64 {
        self.geo().block_size()
    }

    /// log2 of the block size.
    pub(crate) fn block_shift(&self) -> u32 {
        self.geo().block_shift()
    }

    /// Secret key of the directory hash.
    pub(crate) fn hash_seed(&self) -> &[u8; 16] {
        &self.hash_seed
    }

    /// Runs the completions of writeback.
    pub(crate) fn completion_wq(&self) -> &Workqueue {
        &self.completion_wq
    }

    /// Event counters and gauges.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The mount's directory in debugfs.
    #[cfg(calf_lab)]
    pub(crate) fn debug(&self) -> &DebugDir {
        &self.debug
    }

    /// Is the filesystem mounted for writing?
    pub(crate) fn is_writable(&self) -> bool {
        self.writable.load(Relaxed)
    }

    /// Notes whether it is. Mount and remount only.
    pub(crate) fn set_writable(&self, writable: bool) {
        self.writable.store(writable, Relaxed);
    }

    /// Does the superblock say that the filesystem is in use, on disk or in a transaction that
    /// started before the call?
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use.load(Acquire)
    }

    /// Notes what the superblock says. With [`Sb::super_lock`], or while there is no handle.
    pub(crate) fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Release);
    }

    /// Sets the first inode number to hand out and the number of inodes in use. Mount only.
    pub(crate) fn init_inodes(&self, next_ino: u64, inodes: u64) {
        self.next_ino.store(next_ino, Relaxed);
        // CAST: Fewer inodes than blocks times four, that is, far below 2^63.
        self.inodes.store(inodes as i64, Relaxed);
    }

    /// A new inode number, never handed out before. Errors: `ENOSPC` after the last one.
    pub(crate) fn new_ino(&self) -> Result<Ino> {
        let ino = self.next_ino.fetch_add(1, Relaxed);
        if ino > MAX_INO {
            return Err(ENOSPC);
        }
        Ok(Ino::new(ino))
    }

    /// Inodes in use.
    pub(crate) fn inodes(&self) -> u64 {
        self.inodes.load(Relaxed).max(0) as u64
    }

    /// Notes that some file has blocks past EOF that a truncation could not free: its orphan record says which.
    pub(crate) fn note_half_cut(&self) {
        self.half_cut.store(true, Relaxed);
    }

    /// Can there be a file with such blocks?
    pub(crate) fn has_half_cut(&self) -> bool {
        self.half_cut.load(Relaxed)
    }

    /// Counts inodes made (positive) or removed (negative).
    pub(crate) fn count_inodes(&self, n: i64) {
        self.inodes.add(n, Relaxed);
    }

    /// May the filesystem change? `EIO` once it is shut down or its journal is dead (C1), `EROFS`
    /// if it can still be read.
    pub(crate) fn check_shutdown(&self) -> Result {
        if !self.is_shutdown() {
            return Ok(());
        }
        self.check_readable()?;
        Err(EROFS)
    }

    /// May the filesystem be read? `EIO` once it is shut down, or its journal is dead without
    /// `errors=remount-ro`.
    pub(crate) fn check_readable(&self) -> Result {
        match self.state.load(Relaxed) {
            READ_ONLY => Ok(()),
            RUNNING if !self.journal.is_aborted() || self.errors_ro.load(Relaxed) => Ok(()),
            _ => Err(EIO),
        }
    }

    /// Is the filesystem past changing: shut down, read-only after damage, or never replayed?
    pub(crate) fn is_shutdown(&self) -> bool {
        self.state.load(Relaxed) != RUNNING || self.journal.is_aborted()
    }

    /// Is everything over, reading too?
    pub(crate) fn is_down(&self) -> bool {
        self.state.load(Relaxed) == DOWN
    }

    /// Stops all changes; may sleep (B6).
    ///
    /// `err` goes to the superblock of the journal, where the next mount finds it, unless it is
    /// `ESHUTDOWN`: then nothing is wrong with the filesystem.
    pub(crate) fn force_shutdown(&self, why: &str, err: Error) {
        let was = self.state.xchg(DOWN, Full);
        if was == DOWN {
            return;
        }
        self.say(fmt!("shut down: {}", why));
        // A journal that is not in use stays as it is, and a dead one keeps the record of what it died of, which
        // `ESHUTDOWN` would wipe out.
        if was == RUNNING && !self.journal.is_aborted() {
            self.journal.abort(err);
        }
    }

    /// Prints a line that names the device.
    pub(crate) fn say(&self, args: kernel::fmt::Arguments<'_>) {
        log::<super::Calf>(Level::Error, self.name.as_cstr(), args)
    }

    /// Reports damage, shuts the filesystem down, returns `EFSCORRUPTED`. Silent after the journal
    /// has died, when buffers mix old and new content (B6). May sleep.
    pub(crate) fn corrupted(&self, place: Place, what: &str) -> Error {
        if !self.is_shutdown() {
            self.say(fmt!("damaged: {}: {}", place, what));
            if !self.errors_ro.load(Relaxed) {
                let why = "metadata is damaged; unmount and run fsck.calf";
                self.force_shutdown(why, EFSCORRUPTED);
            } else if self.state.cmpxchg(RUNNING, READ_ONLY, Full).is_ok() {
                self.say(fmt!("read-only from now on; unmount and run fsck.calf"));
                self.journal.abort(EFSCORRUPTED);
            }
        }
        EFSCORRUPTED
    }

    /// Promises `n` blocks; waits for a commit when blocks are pending (B4).
    /// Errors: `ENOSPC`. Never under a handle.
    pub(crate) fn reserve_blocks(&self, n: u64, share: Share) -> Result {
        self.retry_enospc(|| self.space().reserve(n, share))
    }

    /// Repeats what failed for lack of space while commits release blocks, at most 3 times (B4), and while what
    /// they release is discarded, which is told run by run. With no extent lock and no handle held.
    pub(crate) fn retry_enospc<R>(&self, mut attempt: impl FnMut() -> Result<R>) -> Result<R> {
        match attempt() {
            Err(ENOSPC) => self.retry_again(attempt),
            other => other,
        }
    }

    #[cold]
    fn retry_again<R>(&self, mut attempt: impl FnMut() -> Result<R>) -> Result<R> {
        let mut result = Err(ENOSPC);
        let (mut commits, mut fewest) = (0, u64::MAX);
        loop {
            self.check_shutdown()?;
            // Blocks that are only left to one owner can be written in place then.
            let left = || self.alloc().any_left();
            let Some((since, discarding)) = self.space().pending_since(left) else {
                break;
            };
            // No commit hastens a discard. As long as there is less to discard each time, it comes to an end.
            if discarding > 0 && discarding < fewest {
                fewest = discarding;
            } else if commits < 3 {
                self.journal.force_commit()?;
                commits += 1;
            } else {
                break;
            }
            self.space().wait_release(since, left);
            result = attempt();
            if !matches!(result, Err(ENOSPC)) {
                break;
            }
        }
        result
    }

    /// Waits until no block is left to one owner by what a crash would undo
    /// ([`Allocator::left_run`](super::alloc::Allocator::left_run)), of those that are now. Errors: `EIO`. With no extent
    /// lock and no handle held.
    pub(crate) fn settle_left(&self) -> Result {
        let left = || self.alloc().any_left();
        // A release may be another's, and others may leave blocks all the time.
        for _ in 0..16 {
            self.check_shutdown()?;
            if !left() {
                break;
            }
            if let Some((since, _)) = self.space().pending_since(left) {
                self.journal.force_commit()?;
                self.space().wait_release(since, left);
            }
        }
        Ok(())
    }

    /// The longest atomic write, bytes: what one transaction can put in place for certain, of which
    /// there is room for two in the journal's limit.
    pub(crate) fn atomic_write_max(&self) -> u64 {
        let most = self.journal.max_credits() / 2;
        let fits = |shift: &u32| Credits::replace(1 << *shift).blocks <= most;
        self.block_size() << (0..=MOST_ATOMIC).rev().find(fits).unwrap_or(0)
    }

    /// `EINVAL` unless an atomic write may have `len` bytes.
    pub(crate) fn check_atomic_write(&self, len: usize) -> Result {
        if (self.block_size()..=self.atomic_write_max()).contains(&(len as u64)) {
            return Ok(());
        }
        Err(EINVAL)
    }

    /// Waits until transaction `tid` is durable.
    pub(crate) fn commit_and_wait(&self, tid: Tid) -> Result {
        self.journal.complete(tid)?;
        self.check_shutdown()
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What happens when the data of a write is on disk.
//!
//! An I/O may be large and its mapping fragmented, so completion is a loop of *steps*, ascending
//! (B1): one old extent times one staged extent. A step drops the old blocks, maps the new ones,
//! takes the claim and moves the size on disk, all in one transaction; several steps share a handle
//! while its credits last. A step that fails fails the I/O; earlier steps stay.
//!
//! The bio has ended before the handle is started, so the commit record's flush makes the data
//! durable before the mapping. Completion takes neither `i_rwsem` nor `invalidate_lock`
//! (C-LOCK-3), and never waits for a folio.

use super::alloc::Run;
use super::credits::{Credits, EDIT_SPACE};
use super::extents::{drop_blocks, publish_blocks, BATCH};
use super::inode::{Inode, InodeExt};
use super::map::{self, Old};
use super::reserve::{self, settle};
use super::sb::{Place, Sb};
use super::space::Share;
use super::txn::{MetaSpace, Trans};
use super::Calf;
use crate::algo::btree::Tree;
use crate::algo::extent::{self, Extent};
use crate::algo::staging::{Entry, State};
use crate::format::types::BlockNr;
use crate::kapi::iomap_writeback::{CompletedIoend, IoendQueue, IoendWorker};
use crate::kapi::memalloc::{cond_resched, nofail, wait_a_tick};
use kernel::prelude::*;

/// The ioends of an inode that wait for their transaction, and the work item that does it.
#[pin_data]
pub(crate) struct Completion {
    #[pin]
    queue: IoendQueue<Worker>,
}

impl Completion {
    /// Initialiser.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            queue <- IoendQueue::new(),
        })
    }

    /// The queue.
    pub(crate) fn queue(&self) -> &IoendQueue<Worker> {
        &self.queue
    }
}

/// Completes ioends of writeback.
pub(crate) struct Worker;

impl IoendWorker for Worker {
    type Fs = Calf;

    fn complete(ioend: CompletedIoend<Calf>) {
        let inode = ioend.inode();
        let sb = inode.sb().data();
        let mut result = ioend.status();
        if result.is_ok() {
            result = fault!(inode, WbEndIo);
        }
        let result = result.and_then(|()| complete(sb, inode, &ioend));
        if ioend.is_staged() {
            let (start, run) = blocks_of(sb, &ioend);
            // C-IOEND-ERROR: nothing is mapped, the blocks are reserved again (C6).
            let failed = result.is_err() && !bug!(sb, CowErrorLeavesDelalloc);
            reserve::unpin(inode, start, run, failed);
        }
        if result.is_err() {
            sb.counters().io_errors.inc();
        }
        check!(ioend_completed(sb, &ioend, &result));
        // C9: the transactions that fsync waits for are noted by now.
        ioend.finish(result);
    }
}

/// File block and device blocks of an ioend, rounded out to whole blocks (C10).
pub(crate) fn blocks_of(sb: &Sb, ioend: &CompletedIoend<Calf>) -> (u64, Run) {
    let (start, end) = map::blocks(sb, ioend.offset(), ioend.offset() + ioend.size());
    let run = Run {
        start: BlockNr::new(ioend.addr() >> sb.block_shift()),
        len: end - start,
    };
    (start, run)
}

fn complete(sb: &Sb, inode: &Inode, ioend: &CompletedIoend<Calf>) -> Result {
    let (start, run) = blocks_of(sb, ioend);
    let end = start + run.len;
    // C10: byte accurate, never past the size in memory (C-IOEND-APPEND).
    let size = NewSize::upto(ioend.offset() + ioend.size());
    if ioend.is_staged() {
        #[cfg(calf_lab)]
        let end = crate::lab::writeback::claimed_beside(sb, inode, start, end);
        map_staged(inode, start, end, Landed::new(start, run.start), size)
    } else if ioend.is_unwritten() {
        convert(inode, start, end, size)
    } else {
        grow(inode, size)
    }
}

/// Where the data of an I/O went: to one run of blocks, of which this is the first (C2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landed {
    fblk: u64,
    phys: BlockNr,
}

impl Landed {
    /// File block `fblk` went to block `phys`, those after it to those after that.
    pub(crate) fn new(fblk: u64, phys: BlockNr) -> Self {
        Self { fblk, phys }
    }

    fn at(self, fblk: u64) -> Option<BlockNr> {
        self.phys.checked_add(fblk.checked_sub(self.fblk)?)
    }
}

/// How the size on disk may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSize {
    end: u64,
    clamp: bool,
}

impl NewSize {
    /// Up to `end`, but not past `i_size`, which the page cache write has set already.
    pub(crate) fn upto(end: u64) -> Self {
        Self { end, clamp: true }
    }

    /// Up to `end`; direct I/O sets `i_size` after the conversion.
    pub(crate) fn exactly(end: u64) -> Self {
        Self { end, clamp: false }
    }

    /// The size after the blocks below byte `done` are mapped.
    fn after(self, inode: &Inode, done: u64) -> u64 {
        let end = self.end.min(done);
        if self.clamp && bug!(inode.sb().data(), AppendIsizeFromInode) {
            inode.size()
        } else if self.clamp {
            end.min(inode.size())
        } else {
            end
        }
    }
}

/// Maps the staged blocks `[start, end)`, whose data is on disk.
///
/// Blocks that an overlapping I/O has mapped meanwhile are fine; a block that is neither staged
/// nor mapped written is `EIO`: the data is lost (C2, C-IOEND-COW-GONE). Not under a handle.
pub(crate) fn map_staged(
    inode: &Inode,
    start: u64,
    end: u64,
    landed: Landed,
    size: NewSize,
) -> Result {
    run_steps(inode, start, end, |t, ext, at| {
        map_step(t, inode, ext, at, end, landed, size)
    })?;
    grow(inode, size)
}

/// Makes the preallocated blocks `[start, end)`, whose data is on disk, written ones. Blocks that
/// are written already are fine, a hole is `EIO`. Not under a handle.
pub(crate) fn convert(inode: &Inode, start: u64, end: u64, size: NewSize) -> Result {
    run_steps(inode, start, end, |t, ext, at| {
        convert_step(t, inode, ext, at, end, size)
    })?;
    grow(inode, size)
}

/// Takes space from the pool if that of the inode may be too little for a step.
fn help_out(trans: &mut Trans<'_>) {
    let space = trans.sb().space();
    if trans.space_left() < 2 * EDIT_SPACE && space.reserve(2 * EDIT_SPACE, Share::All).is_ok() {
        trans.add_space(2 * EDIT_SPACE);
    }
}

/// Runs `step` over `[start, end)`; it returns where to go on.
///
/// The metadata that the inode has reserved (B2b) is the transaction's while the extent lock is
/// held. Should it not suffice the pool helps out: completion must not fail for lack of space.
fn run_steps(
    inode: &Inode,
    start: u64,
    end: u64,
    mut step: impl FnMut(&mut Trans<'_>, &mut InodeExt, u64) -> Result<u64>,
) -> Result {
    let sb = inode.sb().data();
    let mut at = start;
    while at < end {
        let mut trans = Trans::start(sb, BATCH, MetaSpace::adopt(sb, 0))?;
        let mut ext = inode.data().ext.write();
        trans.add_space(core::mem::take(&mut ext.meta_resv));
        let result = loop {
            help_out(&mut trans);
            match step(&mut trans, &mut ext, at) {
                Ok(next) => at = next.max(at + 1),
                Err(e) => break Err(e),
            }
            if at >= end || !trans.can_continue(Credits::STEP) {
                break Ok(());
            }
        };
        // Whatever the failed step prepared goes back, its claims of tree blocks included.
        trans.cancel();
        ext.meta_resv += trans.take_space();
        settle(sb, &mut ext);
        drop(ext);
        let stopped = trans.stop();
        match result {
            // Only the unfinished step is gone: take it again.
            Err(ENOMEM) => wait_a_tick(),
            Err(e) => return Err(e),
            Ok(()) => stopped?,
        }
        cond_resched();
    }
    Ok(())
}

/// One step of [`map_staged`] at block `at`.
fn map_step(
    t: &mut Trans<'_>,
    inode: &Inode,
    ext: &mut InodeExt,
    at: u64,
    end: u64,
    landed: Landed,
    size: NewSize,
) -> Result<u64> {
    let sb = t.sb();
    let entry = ext.staging.find(at).filter(Entry::is_data);
    let ours = entry
        .and_then(|e| e.clip(at, end))
        .filter(|e| e.phys_at(at).is_some_and(|p| landed.at(at) == Some(p)));
    let old = map::old_at(sb, inode, ext, at)?;
    let (Some(entry), Some(phys)) = (ours, ours.and_then(|e| e.phys_at(at))) else {
        return gone(sb, &old, landed, at);
    };

    // Prepare: may fail, and then nothing has happened (C5).
    let mut tree = ext.tree(inode);
    let len = entry.end.saturating_sub(at);
    let (n, dropped) = replace(
        t,
        &mut tree,
        ext.may_share(),
        &old,
        at,
        Run { start: phys, len },
    )?;
    let joined = t.join_inode(inode)?;
    nofail(|| ext.staging.make_room(2));

    // Publish: cannot fail.
    let next = at + n;
    check!(mapping_claim(
        inode,
        at,
        Run {
            start: phys,
            len: n
        }
    ));
    ext.set_tree(&tree);
    ext.nblocks = ext.nblocks.saturating_add(n).saturating_sub(dropped);
    grow_in_core(sb, inode, ext, size, next);
    ext.staging.remove(at, next);
    inode.data().bump_data_seq();
    inode.data().bump_cow_seq();
    t.log_inode(joined, ext.record(inode));
    t.apply();
    publish_blocks(inode, ext);
    Ok(next)
}

/// Prepares that blocks from `at` on, first blocks of `run`, take the place of the old ones, as many
/// as are alike. Returns how many, and how many were there before.
fn replace(
    t: &mut Trans<'_>,
    tree: &mut Tree,
    may_share: bool,
    old: &Old,
    at: u64,
    run: Run,
) -> Result<(u64, u64)> {
    let alloc = t.sb().alloc();
    let mut n = alloc.in_group(Run {
        start: run.start,
        len: run.len.min(old.end().saturating_sub(at)),
    });
    let mut dropped = 0;
    if let Old::Written(e) | Old::Unwritten(e) = *old {
        let e = map::clip(e, at, at.saturating_add(n));
        let in_group = alloc.in_group(Run {
            start: e.phys,
            len: e.len,
        });
        let e = map::clip(e, at, at.saturating_add(in_group));
        n = drop_blocks(t, may_share, e)?.len;
        extent::remove_step(tree, t, at, at.saturating_add(n))?;
        dropped = n;
    }
    if n == 0 {
        let place = Place::Ino(tree.owner);
        return Err(t.sb().corrupted(place, "extent without blocks"));
    }
    let new = Extent {
        fblk: at,
        phys: run.start,
        len: n,
        unwritten: false,
    };
    extent::insert(tree, t, new)?;
    t.take_claim(run.start, n)?;
    Ok((n, dropped))
}

/// Maps all of `runs` (first file block, blocks), whose data is on disk, in one transaction, and
/// moves the size on disk with them: all or nothing (C-DIO-ATOMIC). Not under a handle.
///
/// Nothing is published before everything is prepared. The old mapping of a run is not changed by
/// what is prepared for the others, so it is read from the tree as it was.
pub(crate) fn map_atomic(
    inode: &Inode,
    runs: impl Iterator<Item = (u64, Run)> + Clone,
    size: NewSize,
) -> Result {
    let sb = inode.sb().data();
    let blocks: u64 = runs.clone().map(|(_, run)| run.len).sum();
    let credits = Credits::replace(u32::try_from(blocks)?);
    loop {
        let mut t = match Trans::start(sb, credits, MetaSpace::adopt(sb, 0)) {
            Err(ENOMEM) => {
                wait_a_tick();
                continue;
            }
            other => other?,
        };
        let mut ext = inode.data().ext.write();
        t.add_space(core::mem::take(&mut ext.meta_resv));
        help_out(&mut t);
        let result = map_all(&mut t, inode, &mut ext, runs.clone(), size);
        t.cancel();
        ext.meta_resv += t.take_space();
        settle(sb, &mut ext);
        drop(ext);
        let stopped = t.stop();
        match result {
            Err(ENOMEM) => wait_a_tick(),
            other => return other.and(stopped),
        }
    }
}

fn map_all(
    t: &mut Trans<'_>,
    inode: &Inode,
    ext: &mut InodeExt,
    runs: impl Iterator<Item = (u64, Run)> + Clone,
    size: NewSize,
) -> Result {
    let sb = t.sb();
    let mut tree = ext.tree(inode);
    let (mut mapped, mut gone_before, mut last) = (0u64, 0u64, 0);
    for (fblk, run) in runs.clone() {
        let landed = Landed::new(fblk, run.start);
        let end = fblk.saturating_add(run.len);
        let mut at = fblk;
        while at < end {
            let old = map::old_at(sb, inode, ext, at)?;
            let ours = ext.staging.find(at).and_then(|e| e.clip(at, end));
            match ours.and_then(|e| Some((e, e.phys_at(at)?))) {
                Some((e, start)) if landed.at(at) == Some(start) => {
                    let run = Run {
                        start,
                        len: e.len(),
                    };
                    let (n, dropped) = replace(t, &mut tree, ext.may_share(), &old, at, run)?;
                    check!(mapping_claim(inode, at, Run { start, len: n }));
                    mapped = mapped.saturating_add(n);
                    gone_before = gone_before.saturating_add(dropped);
                    at += n;
                }
                _ => at = gone(sb, &old, landed, at)?,
            }
        }
        last = last.max(end);
    }
    let joined = t.join_inode(inode)?;
    nofail(|| ext.staging.make_room(2 * runs.clone().count()));

    ext.set_tree(&tree);
    ext.nblocks = ext
        .nblocks
        .saturating_add(mapped)
        .saturating_sub(gone_before);
    grow_in_core(sb, inode, ext, size, last);
    for (fblk, run) in runs {
        // What belongs to somebody else's I/O by now is not at our address.
        let end = fblk.saturating_add(run.len);
        let mut at = fblk;
        while let Some(e) = ext.staging.next(at).and_then(|e| e.clip(at, end)) {
            if e.phys_at(e.start) == Landed::new(fblk, run.start).at(e.start) {
                ext.staging.remove(e.start, e.end);
            }
            at = e.end;
        }
    }
    inode.data().bump_data_seq();
    inode.data().bump_cow_seq();
    t.log_inode(joined, ext.record(inode));
    t.apply();
    publish_blocks(inode, ext);
    Ok(())
}

/// The staged data of block `at` is not there any more: is that fine?
fn gone(sb: &Sb, old: &Old, landed: Landed, at: u64) -> Result<u64> {
    match old {
        // Mapped by another I/O to the same blocks.
        Old::Written(e) if landed.at(at) == Some(e.phys) => Ok(at + 1),
        // An overlapping write came later and won.
        Old::Written(_) => {
            sb.counters().superseded_completions.inc();
            Ok(at + 1)
        }
        Old::Hole { .. } | Old::Unwritten(_) => Err(EIO),
    }
}

/// One step of [`convert`] at block `at`.
fn convert_step(
    t: &mut Trans<'_>,
    inode: &Inode,
    ext: &mut InodeExt,
    at: u64,
    end: u64,
    size: NewSize,
) -> Result<u64> {
    let sb = t.sb();
    let e = match map::old_at(sb, inode, ext, at)? {
        Old::Written(e) => return Ok(e.end().min(end)),
        Old::Unwritten(e) => map::clip(e, at, end),
        Old::Hole { .. } => return Err(EIO),
    };
    let mut tree = ext.tree(inode);
    extent::set_written(&mut tree, t, at, e.len)?;
    let joined = t.join_inode(inode)?;
    let ranges = ext.staging.len();
    nofail(|| ext.staging.make_room(2 + ranges.min(8)));

    ext.set_tree(&tree);
    grow_in_core(sb, inode, ext, size, e.end());
    let mut from = at;
    while let Some(s) = ext.staging.next(from).and_then(|s| s.clip(from, e.end())) {
        if s.state == State::Convert {
            ext.staging.remove(s.start, s.end);
        }
        from = s.end;
    }
    inode.data().bump_data_seq();
    inode.data().bump_cow_seq();
    t.log_inode(joined, ext.record(inode));
    t.apply();
    Ok(e.end())
}

/// Moves `disk_size` to what is mapped below block `done`. Upwards only; not in a step that fails.
fn grow_in_core(sb: &Sb, inode: &Inode, ext: &mut InodeExt, size: NewSize, done: u64) {
    let bytes = done.saturating_mul(sb.block_size());
    let new = size.after(inode, bytes);
    check!(size_on_disk(inode, ext.disk_size, new, size.end));
    ext.disk_size = ext.disk_size.max(new);
}

/// Moves only the size on disk, if it is behind: appends in place into the EOF block, and blocks
/// that somebody else mapped (C10).
pub(crate) fn grow(inode: &Inode, size: NewSize) -> Result {
    let sb = inode.sb().data();
    if inode.data().ext.read().disk_size >= size.after(inode, u64::MAX) {
        return Ok(());
    }
    loop {
        let mut trans = Trans::start(sb, BATCH, MetaSpace::adopt(sb, 0))?;
        let mut ext = inode.data().ext.write();
        let new = size.after(inode, u64::MAX);
        if ext.disk_size >= new {
            return Ok(());
        }
        match trans.join_inode(inode) {
            Ok(joined) => {
                ext.disk_size = new;
                trans.log_inode(joined, ext.record(inode));
                trans.apply();
                drop(ext);
                return trans.stop();
            }
            Err(ENOMEM) => {
                drop(ext);
                drop(trans);
                wait_a_tick();
            }
            Err(e) => return Err(e),
        }
    }
}

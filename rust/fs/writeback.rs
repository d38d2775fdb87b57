// SPDX-License-Identifier: GPL-2.0

//! Writeback: which blocks a dirty range is written to.
//!
//! No transaction is started here: reserved blocks are claimed in memory and become part of the
//! file at completion. The claim is made, its address sampled and the blocks pinned under one hold
//! of the extent lock (C2), so nothing can move in between and no lookup has to be repeated
//! (C-WB-RELOOKUP). All blocks of a mapping are pinned with its first: those that the pass does not
//! come to are let go when the mapping changes, or at its end.

use super::alloc::Run as Blocks;
use super::begin_direct;
use super::completion::Worker;
use super::inode::{Inode, InodeExt};
use super::map::{self, Place};
use super::reserve;
use super::sb::Sb;
use super::Calf;
use crate::algo::extent::Extent;
use crate::algo::staging::State;
use crate::format::types::BlockNr;
use crate::kapi::folio::Folio;
use crate::kapi::iomap::{Run, Span, WritebackMap};
use crate::kapi::iomap_writeback::{Ioend, IoendQueue, WritebackCtx, WritebackOps};
use crate::kapi::memalloc::nofail;
use crate::kapi::workqueue::Workqueue;
use kernel::prelude::*;

/// Writeback of calf files.
pub(crate) struct Writeback;

/// Most blocks that one claim takes.
const MOST: u64 = 1 << 15;
/// Most claimed blocks that are mapped, and pinned, at once: what the file gives up of them is not free
/// before the pass lets them go.
const AHEAD: u64 = 1 << 10;

impl WritebackOps for Writeback {
    type Fs = Calf;
    type Worker = Worker;
    type Pass = Pinned;

    fn range(
        ctx: &mut WritebackCtx<'_, Calf>,
        pinned: &mut Pinned,
        folio: &Folio<Calf>,
        pos: u64,
        len: u32,
        end_pos: u64,
    ) -> Result<usize> {
        let result = write_range(ctx, pinned, folio, pos, len, end_pos);
        check!(wb_returned(ctx.inode(), pos, len, &result));
        result
    }

    fn ended(inode: &Inode, mut pinned: Pinned) {
        if pinned.0.is_some() {
            pinned.unpin(inode, &mut inode.data().ext.write());
        }
    }

    /// Only an overwrite in place below the size on disk can end without a transaction (C10).
    fn needs_worker(ioend: &Ioend<Calf>) -> bool {
        ioend.is_staged()
            || ioend.is_unwritten()
            || ioend.offset() + ioend.size() > ioend.inode().data().ext.read().disk_size
    }

    fn queue(inode: &Inode) -> (&IoendQueue<Worker>, &Workqueue) {
        (
            inode.data().completion.queue(),
            inode.sb().data().completion_wq(),
        )
    }
}

/// The claimed blocks that a pass has pinned, and not added to an ioend yet (C2).
///
/// # Invariants
///
/// They are the last of the mapping in the context, if that is one of staged blocks.
#[derive(Default)]
pub(crate) struct Pinned(Option<(u64, Blocks)>);

impl Pinned {
    /// Is file block `at` the first of those pinned?
    fn begins_at(&self, at: u64) -> bool {
        self.0.is_some_and(|(first, _)| first == at)
    }

    /// Are all of `run`, where file block `at` and those after it go, pinned, and nothing else?
    fn is(&self, at: u64, run: Blocks) -> bool {
        self.0 == Some((at, run))
    }

    /// Pins `run`, where file block `at` and those after it go, and nothing else. The extent lock
    /// under which the address was learned is held exclusively.
    fn pin(&mut self, inode: &Inode, ext: &mut InodeExt, at: u64, run: Blocks) {
        if !self.is(at, run) {
            inode.sb().data().alloc().pin(run);
            self.unpin(inode, ext);
            // INVARIANT: From `at` to the end of the mapping that the caller sets.
            self.0 = Some((at, run));
        }
    }

    /// Leaves the pins of the blocks before `to` to the ioend they were added to.
    fn pass_on(&mut self, to: u64) {
        if let Some((first, held)) = self.0 {
            let rest = held.after(to.saturating_sub(first));
            // INVARIANT: The end stays.
            self.0 = (rest.len > 0).then_some((to.max(first), rest));
        }
    }

    /// Lets go of what no ioend got. Whoever failed to write there meanwhile has left it to us to make
    /// it a reservation again (C6). The extent lock is held exclusively.
    fn unpin(&mut self, inode: &Inode, ext: &mut InodeExt) {
        // INVARIANT: The caller sets another mapping, or there is no next range.
        if let Some((first, run)) = self.0.take() {
            inode.sb().data().alloc().unpin(run);
            if ext.failed_claims {
                reserve::give_back(inode, ext, first, run, (0, u64::MAX));
                ext.failed_claims = ext.staging.claimed_blocks() > 0;
            }
        }
    }
}

/// Maps a range and adds it to the pending ioend: see [`WritebackOps::range`].
fn write_range(
    ctx: &mut WritebackCtx<'_, Calf>,
    pinned: &mut Pinned,
    folio: &Folio<Calf>,
    pos: u64,
    len: u32,
    end_pos: u64,
) -> Result<usize> {
    let inode = ctx.inode();
    let sb = inode.sb().data();
    sb.check_shutdown()?;
    let reuse = cached(ctx, pinned, inode, pos);
    if !reuse {
        map_range(ctx, pinned, inode, pos, len).inspect_err(|_| {
            ctx.clear_map();
            #[cfg(calf_lab)]
            crate::lab::writeback::failed(sb, inode, pos >> sb.block_shift());
        })?;
    }
    check!(wb_map(ctx, pos, len, reuse));
    let added = ctx.add_to_ioend(folio, pos, end_pos, len);
    gate!(inode, WbBetween);
    if let Ok(n) = added {
        let (_, end) = map::blocks(sb, pos, pos.saturating_add(n as u64));
        pinned.pass_on(end);
    }
    added
}

/// Is the mapping of the previous range good for `pos`?
///
/// Both sequences are in the cookie (C-WB-REVALIDATE), and claimed blocks must still be pinned.
fn cached(ctx: &WritebackCtx<'_, Calf>, pinned: &Pinned, inode: &Inode, pos: u64) -> bool {
    let Some((map, cookie)) = ctx.cached() else {
        return false;
    };
    let sb = inode.sb().data();
    if bug!(sb, WbNoRevalidate) && matches!(map, WritebackMap::InPlace(_)) {
        return true;
    }
    let span: Span = match map {
        WritebackMap::InPlace(run) | WritebackMap::Unwritten(run) => run.span(),
        WritebackMap::Staged(run) => {
            // By the invariant, all that follows is pinned too.
            if !pinned.begins_at(pos >> sb.block_shift()) {
                return false;
            }
            run.span()
        }
        WritebackMap::Hole(_) => return false,
    };
    let covers = pos < span.end() || bug!(sb, WbMapEndBeforePos);
    span.start() <= pos && covers && cookie == inode.data().cookie()
}

/// The device blocks of `run` from file block `at` on.
fn blocks_from(sb: &Sb, run: Run, at: u64) -> Blocks {
    let (first, end) = map::blocks(sb, run.span().start(), run.span().end());
    Blocks {
        start: BlockNr::new(run.addr() >> sb.block_shift()),
        len: end.saturating_sub(first),
    }
    .after(at.saturating_sub(first))
}

/// Sets the mapping of `pos`, and pins it if its blocks are claimed.
fn map_range(
    ctx: &mut WritebackCtx<'_, Calf>,
    pinned: &mut Pinned,
    inode: &Inode,
    pos: u64,
    len: u32,
) -> Result {
    let sb = inode.sb().data();
    let (at, end) = map::blocks(sb, pos, pos.saturating_add(u64::from(len)));
    #[cfg(calf_lab)]
    crate::lab::writeback::before_lookup(sb, inode, at)?;
    fault!(inode, WbMap)?;
    let mut ext = inode.data().ext.write();
    let map = decide(sb, inode, &mut ext, at, end)?;
    match map {
        WritebackMap::Staged(run) => pinned.pin(inode, &mut ext, at, blocks_from(sb, run, at)),
        _ => pinned.unpin(inode, &mut ext),
    }
    #[cfg(calf_lab)]
    if bug!(sb, WbStaleFlags) {
        ctx.set_map_keep_flags(map, inode.data().cookie());
        return Ok(());
    }
    ctx.set_map(map, inode.data().cookie());
    Ok(())
}

/// Decides where block `at` goes; what must be reserved at the last moment is reserved up to `end`
/// only. The extent lock is held exclusively.
fn decide(sb: &Sb, inode: &Inode, ext: &mut InodeExt, at: u64, end: u64) -> Result<WritebackMap> {
    // A range that cannot be staged for want of memory would be a lost write (B3).
    nofail(|| ext.staging.make_room(8));
    match map::place(sb, inode, ext, at, at.saturating_add(MOST))? {
        Place::Staged { entry, .. } => {
            let (phys, n) = match entry.state {
                State::Claimed(phys) => {
                    let end = begin_direct::may_give_up(ext, at).min(entry.end);
                    (phys, end.saturating_sub(at))
                }
                _ => {
                    // A write that is under way may end before its reservation does, and nobody would give
                    // back what is claimed of the rest.
                    let (_, eof) = map::blocks(sb, 0, inode.size());
                    reserve::claim(sb, inode, ext, at, entry.end.min(eof.max(at + 1)))?
                }
            };
            staged(sb, at, phys, n)
        }
        Place::MustReserve { end: to, source } => {
            // Nobody made space certain for this block (C6): now, or the write has failed.
            sb.counters().unreserved_writeback.inc();
            #[cfg(calf_lab)]
            if let Some(map) = crate::lab::writeback::unreserved(sb, at, to.min(end), source)? {
                return Ok(map);
            }
            let to = to.min(end);
            match (reserve::reserve_range(sb, inode, ext, at, to), source) {
                (Ok(_), _) => {}
                // Under always_cow, a block that is dirtied again under writeback loses its
                // reservation to the first write. Nobody shares it: as in XFS it is rather written
                // in place than not at all.
                (Err(e), Some(old)) => {
                    let own = map::unshared(sb, ext, old)?.ok_or(e)?;
                    return Ok(WritebackMap::InPlace(map::run(sb, own)?));
                }
                // A hole punched in a large folio leaves its blocks dirty, and they are zeros: that must not
                // fail an fsync on a full disk.
                (Err(_), None) => return Ok(WritebackMap::Hole(map::span(sb, at, to)?)),
            }
            let (phys, n) = reserve::claim(sb, inode, ext, at, to)?;
            staged(sb, at, phys, n)
        }
        Place::Overwrite(e) => Ok(WritebackMap::InPlace(map::run(sb, e)?)),
        Place::Unwritten { extent, staged } => {
            if !staged {
                // Without a reservation the conversion may still find space in the pool.
                let to = extent.end().min(end);
                let _ = reserve::reserve_convert(sb, inode, ext, at, to);
            }
            Ok(WritebackMap::Unwritten(map::run(sb, extent)?))
        }
    }
}

fn staged(sb: &Sb, at: u64, phys: BlockNr, len: u64) -> Result<WritebackMap> {
    let e = Extent {
        fblk: at,
        phys,
        len: len.min(AHEAD),
        unwritten: false,
    };
    Ok(WritebackMap::Staged(map::run(sb, e)?))
}

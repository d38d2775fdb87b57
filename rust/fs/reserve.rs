// SPDX-License-Identifier: GPL-2.0

//! Space for staged data: making, claiming and taking back reservations.
//!
//! A reservation covers the data blocks and the tree blocks that mapping them may take at worst
//! ([`Staging::need`](crate::algo::staging::Staging::need), B2b), so that completion cannot fail
//! for lack of space. All of it is memory: nothing here starts a handle.

use super::inode::{Inode, InodeExt, MetaLimit};
use super::map::{self, Place};
use super::sb::Sb;
use super::space::Share;
use crate::algo::extent;
use crate::algo::staging::{State, TreeShape};
use crate::format::node::{NodeCore, CHILD_SIZE, HEADER_SIZE, INLINE_SIZE, SLOT_SIZE};
use crate::format::types::BlockNr;
use crate::fs::alloc::Run;
use crate::kapi::iomap::{Reserved, Span};
use crate::kapi::memalloc::nofail;
use crate::seam::FVec;
use kernel::prelude::*;
use zerocopy::FromBytes;

/// Bytes of [`NodeCore`] before the first slot of an inline root.
const INLINE_ROOM: usize = INLINE_SIZE - core::mem::size_of::<NodeCore>();

/// The proof that a range has just been reserved by [`reserve_range`] (C-NEW-OWNER).
pub(crate) struct ReservedToken {
    span: Span,
}

impl Reserved for ReservedToken {
    fn span(&self) -> Span {
        self.span
    }
}

/// A vacant range that is to be staged.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// First block.
    pub start: u64,
    /// One past the last block.
    pub end: u64,
    /// Only the metadata of a conversion in place.
    pub convert: bool,
}

/// What [`Staging::need`](crate::algo::staging::Staging::need) must know of the inode's tree.
fn shape(sb: &Sb, ext: &InodeExt) -> TreeShape {
    let (level, records) = match NodeCore::ref_from_prefix(&ext.root.0) {
        Ok((core, _)) => (core.level, u64::from(core.nr.get())),
        Err(_) => (0, 0),
    };
    let leaf = SLOT_SIZE + extent::RECORD_SIZE;
    let node = SLOT_SIZE + CHILD_SIZE;
    let room = (sb.block_size() as usize).saturating_sub(HEADER_SIZE);
    TreeShape {
        root_level: level,
        root_records: records,
        leaf_records: (room / leaf) as u64,
        node_records: (room / node) as u64,
        inline_leaf: (INLINE_ROOM / leaf) as u64,
        inline_node: (INLINE_ROOM / node) as u64,
    }
}

/// Tree blocks that the staged data of the inode needs, counting `more` blocks as reserved that are not
/// yet; and what else that would suffice for.
fn need(sb: &Sb, ext: &InodeExt, more: u64) -> (u64, MetaLimit) {
    let limit = MetaLimit {
        edits: ext.edits,
        ranges: ext.staging.len(),
        reserved: ext.staging.reserved_blocks().saturating_add(more),
    };
    (ext.staging.need(&shape(sb, ext), more), limit)
}

/// Are the tree blocks that the inode has known to suffice for what is staged?
fn suffices(ext: &InodeExt) -> bool {
    let MetaLimit {
        edits,
        ranges,
        reserved,
    } = ext.meta_limit;
    edits == ext.edits && ext.staging.len() <= ranges && ext.staging.reserved_blocks() <= reserved
}

/// Gives back metadata that the staged data of the inode no longer needs. Whoever has taken some calls
/// this before the extent lock is released.
pub(crate) fn settle(sb: &Sb, ext: &mut InodeExt) {
    let (need, limit) = need(sb, ext, 0);
    let extra = ext.meta_resv.saturating_sub(need);
    if extra > 0 {
        ext.meta_resv -= extra;
        sb.space().release(extra);
    }
    ext.meta_limit = match ext.meta_resv >= need {
        true => limit,
        false => MetaLimit::default(),
    };
}

/// The opposite of [`settle`], as far as there is space: claims that became reservations again may
/// need more.
fn top_up(sb: &Sb, ext: &mut InodeExt) {
    let (need, limit) = need(sb, ext, 0);
    let more = need.saturating_sub(ext.meta_resv);
    if more == 0 || sb.space().reserve(more, Share::None).is_ok() {
        ext.meta_resv += more;
        ext.meta_limit = limit;
    }
}

/// A file that is written from one end to the other needs what its tree may take for so many blocks
/// computed once.
const AHEAD: u64 = 64;

/// Promises `blocks` blocks and what the tree may take for all that is staged, counting `more` blocks as
/// reserved that are not yet. Nothing has changed after an error.
fn promise(sb: &Sb, ext: &mut InodeExt, blocks: u64, more: u64, share: Share) -> Result {
    let (need, limit) = need(sb, ext, more);
    let meta = need.saturating_sub(ext.meta_resv);
    sb.space().reserve(blocks.saturating_add(meta), share)?;
    ext.meta_resv += meta;
    ext.meta_limit = limit;
    Ok(())
}

/// Stages all of `pieces`, or nothing. The extent lock is held exclusively; does not wait for
/// space: the caller retries outside of all locks ([`Sb::retry_enospc`], B4).
/// With `pool` the blocks may come from the pool. Errors: `ENOSPC`, `EIO` after a shutdown.
fn stage(sb: &Sb, inode: &Inode, ext: &mut InodeExt, pieces: &[Piece], pool: bool) -> Result {
    sb.check_shutdown()?;
    let mut blocks = 0u64;
    for p in pieces {
        if p.convert {
            ext.staging.convert(p.start, p.end);
        } else {
            ext.staging.reserve(p.start, p.end);
            blocks = blocks.saturating_add(p.end.saturating_sub(p.start));
        }
    }
    let share = match (blocks, pool) {
        // Preallocated blocks are the file's already: their conversion may use the pool (B2b, B2c).
        (0, _) | (_, true) => Share::Most,
        (_, false) => Share::None,
    };
    let ahead = match ext.staging.reserved_blocks() >= AHEAD && share == Share::None {
        true => AHEAD,
        false => 0,
    };
    let promised = match suffices(ext) {
        true => sb.space().reserve(blocks, share),
        false => promise(sb, ext, blocks, ahead, share),
    };
    let promised = promised.or_else(|_| {
        // On a full filesystem nothing is kept for more than what is staged.
        settle(sb, ext);
        promise(sb, ext, blocks, 0, share)
    });
    if let Err(e) = promised {
        for p in pieces {
            ext.staging.remove(p.start, p.end);
        }
        settle(sb, ext);
        return Err(e);
    }
    sb.counters().delalloc_reserved.add(blocks);
    inode.data().bump_cow_seq();
    Ok(())
}

/// Reserves the vacant blocks `[start, end)`. As [`stage`]; also `ENOMEM`.
pub(crate) fn reserve_range(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    start: u64,
    end: u64,
) -> Result<ReservedToken> {
    let span = map::span(sb, start, end)?;
    ext.staging.make_room(4)?;
    let piece = Piece {
        start,
        end,
        convert: false,
    };
    stage(sb, inode, ext, &[piece], false)?;
    Ok(ReservedToken { span })
}

/// [`reserve_range`] for zeroing, which truncate and hole punching need at their edges: a single
/// block may come from the pool, or space could not be freed on a full filesystem (B2c).
pub(crate) fn reserve_to_zero(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    start: u64,
    end: u64,
) -> Result<ReservedToken> {
    match reserve_range(sb, inode, ext, start, end) {
        Err(ENOSPC) if end.saturating_sub(start) == 1 => {
            let span = map::span(sb, start, end)?;
            let piece = Piece {
                start,
                end,
                convert: false,
            };
            stage(sb, inode, ext, &[piece], true)?;
            Ok(ReservedToken { span })
        }
        other => other,
    }
}

/// Reserves what the conversion of the preallocated blocks `[start, end)` needs. As [`stage`].
pub(crate) fn reserve_convert(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    start: u64,
    end: u64,
) -> Result {
    ext.staging.make_room(4)?;
    let piece = Piece {
        start,
        end,
        convert: true,
    };
    stage(sb, inode, ext, &[piece], false)
}

/// Makes certain that all of blocks `[start, end)` can be written, or changes nothing (C6).
pub(crate) fn reserve_all(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    start: u64,
    end: u64,
) -> Result {
    let mut pieces = FVec::new();
    let mut at = start;
    while at < end {
        let place = map::place(sb, inode, ext, at, end)?;
        let to = place.end().min(end);
        match place {
            Place::MustReserve { .. } => pieces.push(Piece {
                start: at,
                end: to,
                convert: false,
            })?,
            Place::Unwritten { staged: false, .. } => pieces.push(Piece {
                start: at,
                end: to,
                convert: true,
            })?,
            _ => {}
        }
        at = to.max(at + 1);
    }
    if pieces.is_empty() {
        return Ok(());
    }
    ext.staging.make_room(pieces.len().saturating_mul(2))?;
    stage(sb, inode, ext, &pieces, false)
}

/// Chooses blocks for the reserved block `fblk` and as many that follow it below `end` as lie
/// together. Returns where `fblk` went, and how many.
///
/// The extent lock is held exclusively. Errors: `EIO` after a shutdown (C1), `EINVAL` if `fblk` is
/// not reserved, those of [`Allocator::claim`](super::alloc::Allocator::claim). May sleep for I/O.
pub(crate) fn claim(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    fblk: u64,
    end: u64,
) -> Result<(BlockNr, u64)> {
    sb.check_shutdown()?;
    let entry = ext
        .staging
        .find(fblk)
        .and_then(|e| e.clip(fblk, end))
        .filter(|e| e.state == State::Reserved)
        .ok_or(EINVAL)?;
    let goal = goal(sb, inode, ext, fblk);
    nofail(|| ext.staging.make_room(4));
    let run = sb.alloc().claim(goal, entry.len());
    let run = run.map_err(|e| e.report(sb))?;
    ext.staging.claim(fblk, run.len, run.start);
    sb.counters().delalloc_reserved.sub(run.len);
    inode.data().bump_cow_seq();
    Ok((run.start, run.len))
}

/// Where the block after the one before `fblk` would be.
pub(crate) fn goal(sb: &Sb, inode: &Inode, ext: &InodeExt, fblk: u64) -> Option<BlockNr> {
    let before = fblk.checked_sub(1)?;
    if let Some(phys) = ext.staging.find(before).and_then(|e| e.phys_at(before)) {
        return phys.checked_add(1);
    }
    match map::old_at(sb, inode, ext, before).ok()? {
        map::Old::Written(e) | map::Old::Unwritten(e) => e.phys.checked_add(1),
        map::Old::Hole { .. } => None,
    }
}

/// Takes back reservations in `[start, end)` that nothing dirty and no I/O counts on, and nothing else (C-PUNCH-CB):
/// those without blocks, and those for which writeback of blocks before them has chosen some already.
///
/// None of the range is dirty in the page cache, and locks keep it so. Takes the extent lock. Cannot fail.
pub(crate) fn release_reserved(inode: &Inode, start: u64, end: u64) {
    let sb = inode.sb().data();
    let mut ext = inode.data().ext.write();
    let mut at = start;
    let mut freed = 0u64;
    while let Some(e) = ext.staging.next(at).and_then(|e| e.clip(at, end)) {
        at = e.end;
        match e.state {
            State::Reserved => {
                nofail(|| ext.staging.make_room(2));
                ext.staging.remove(e.start, e.end);
                freed = freed.saturating_add(e.len());
            }
            State::Claimed(phys) => {
                let run = Run {
                    start: phys,
                    len: e.len(),
                };
                give_back(inode, &mut ext, e.start, run, (u64::MAX, 0));
            }
            State::Convert => {}
        }
    }
    if freed > 0 {
        sb.space().release(freed);
        sb.counters().delalloc_reserved.sub(freed);
        settle(sb, &mut ext);
        inode.data().bump_cow_seq();
    }
}

/// Drops whatever is staged in `[start, end)`. The extent lock is held exclusively, and the range
/// is drained: no I/O, no dirty pages, and locks keep it so (C6). Cannot fail.
pub(crate) fn drop_locked(inode: &Inode, ext: &mut InodeExt, start: u64, end: u64) {
    let sb = inode.sb().data();
    let mut at = start;
    let mut any = false;
    while let Some(e) = ext.staging.next(at).and_then(|e| e.clip(at, end)) {
        any = true;
        nofail(|| ext.staging.make_room(2));
        ext.staging.remove(e.start, e.end);
        match e.state {
            State::Reserved => {
                sb.space().release(e.len());
                sb.counters().delalloc_reserved.sub(e.len());
            }
            State::Claimed(start) => sb.alloc().unclaim(
                Run {
                    start,
                    len: e.len(),
                },
                false,
            ),
            State::Convert => {}
        }
        at = e.end;
    }
    if any {
        inode.data().bump_cow_seq();
    }
    settle(sb, ext);
}

/// [`drop_locked`], taking the extent lock.
pub(crate) fn staging_drop(inode: &Inode, start: u64, end: u64) {
    let mut ext = inode.data().ext.write();
    drop_locked(inode, &mut ext, start, end)
}

/// Ends the pin of staged I/O of writeback to blocks `[fblk, fblk + run.len)` at `run` (C2). If the
/// I/O `failed`, claims that nobody else writes to become reservations again (C6).
pub(crate) fn unpin(inode: &Inode, fblk: u64, run: Run, failed: bool) {
    inode.sb().data().alloc().unpin(run);
    if failed {
        give_back(
            inode,
            &mut inode.data().ext.write(),
            fblk,
            run,
            (0, u64::MAX),
        );
    }
}

/// Gives the claims of `[fblk, fblk + run.len)` at `run` up that nobody writes to any more: in
/// `keep` they become reservations, elsewhere free space. The extent lock is held exclusively.
pub(crate) fn give_back(inode: &Inode, ext: &mut InodeExt, fblk: u64, run: Run, keep: (u64, u64)) {
    let sb = inode.sb().data();
    let end = fblk.saturating_add(run.len);
    let mut at = fblk;
    while let Some(e) = ext.staging.next(at).and_then(|e| e.clip(at, end)) {
        let kept = (keep.0..keep.1).contains(&e.start);
        let border = if kept { keep.1 } else { keep.0 };
        let to = if border > e.start {
            e.end.min(border)
        } else {
            e.end
        };
        let Some(mut e) = e.clip(e.start, to) else {
            break;
        };
        at = e.end;
        let State::Claimed(start) = e.state else {
            continue;
        };
        if start.get().wrapping_sub(run.start.get()) != e.start.wrapping_sub(fblk) {
            continue;
        }
        // Others may write to a part of it.
        let len = e.len();
        let (pinned, alike) = sb.alloc().pinned_run(Run { start, len });
        let part = Run {
            start,
            len: alike.clamp(1, len),
        };
        e.end = e.start.saturating_add(part.len);
        at = e.end;
        if pinned {
            ext.failed_claims = true;
            continue;
        }
        if !kept {
            drop_locked(inode, ext, e.start, e.end);
            continue;
        }
        nofail(|| ext.staging.make_room(2));
        ext.staging.revert(e.start, e.end);
        sb.alloc().unclaim(part, true);
        sb.counters().delalloc_reserved.add(e.len());
        inode.data().bump_cow_seq();
    }
    top_up(sb, ext);
}

/// Takes back what conversions in `[start, end)` but not in `keep` have reserved. The extent lock is
/// held exclusively.
pub(crate) fn drop_converts(
    inode: &Inode,
    ext: &mut InodeExt,
    start: u64,
    end: u64,
    keep: (u64, u64),
) {
    for (from, to) in [(start, end.min(keep.0)), (start.max(keep.1), end)] {
        let mut at = from;
        while let Some(e) = ext.staging.next(at).and_then(|e| e.clip(at, to)) {
            if e.state == State::Convert {
                drop_locked(inode, ext, e.start, e.end);
            }
            at = e.end;
        }
    }
}

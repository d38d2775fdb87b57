// SPDX-License-Identifier: GPL-2.0

//! Unmapping: what truncate, punch, reflink and evict share.
//!
//! A range is taken apart in *steps*, each bounded in what it changes (B1): one piece of one extent,
//! all of whose blocks lie in one group and have the same reference count. Several steps are published
//! together, and share a handle, while its credits last; no guard survives from one handle to the next (D3).
//! If one of them fails, those before it are done again one by one.

use super::alloc::Run;
use super::credits::{Credits, EDIT_SPACE};
use super::inode::{Inode, InodeExt};
use super::sb::{Place, Sb};
use super::space::Share;
use super::txn::{MetaSpace, Trans};
use crate::algo::btree::Tree;
use crate::algo::extent::{self, Extent};
use crate::algo::refcount;
use crate::format::types::{BlockNr, Ino};
use crate::kapi::memalloc::{cond_resched, nofail};
use kernel::error::code::{ENOMEM, ENOSPC};
use kernel::prelude::*;

/// Credits of a handle that is meant for several steps; one that has less than
/// [`Credits::STEP`] left takes no other.
pub(crate) const BATCH: Credits = Credits::new(2 * Credits::STEP.blocks, 2 * Credits::STEP.revokes);

/// Blocks for tree nodes that such a handle starts with.
pub(crate) const BATCH_SPACE: u64 = 4 * EDIT_SPACE;

/// Most steps that are published together.
pub(crate) const MOST: usize = 64;

/// Is there credit and space for another step (B1)?
pub(crate) fn may_continue(trans: &Trans<'_>) -> bool {
    trans.can_continue(Credits::STEP) && trans.space_left() >= 2 * EDIT_SPACE
}

/// What to do when memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Tell the caller; earlier steps stay done.
    User,
    /// Go on trying: there is nobody to tell.
    Must,
}

/// Unmaps file blocks `[start, end)` and frees what nobody else uses.
///
/// Neither the page cache nor the staging map is looked at: the caller has emptied both and keeps
/// them empty (`i_rwsem` and `invalidate_lock` exclusive, or nobody has the inode). Errors: `EIO`,
/// `ENOSPC` if even the pool is empty (B2c), `ENOMEM` unless `mode` says otherwise. Steps that are
/// done stay done. Not under a handle or an extent lock.
pub(crate) fn unmap_range(inode: &Inode, start: u64, end: u64, mode: Mode) -> Result {
    check!(unmapping(inode, start, end));
    let mut at = start;
    while at < end {
        match unmap_batch(inode, at, end, mode) {
            Ok(Some(next)) => at = next,
            Ok(None) => return Ok(()),
            Err(ENOMEM) if mode == Mode::Must => wait_for_memory(),
            Err(e) => return Err(e),
        }
        cond_resched();
    }
    Ok(())
}

/// Unmaps everything from file block `start` on, for truncate and evict: goes on until it is done.
pub(crate) fn free_from(inode: &Inode, start: u64) -> Result {
    unmap_range(inode, start, u64::MAX, Mode::Must)
}

fn wait_for_memory() {
    let mut again = true;
    nofail(|| {
        if core::mem::take(&mut again) {
            return Err(());
        }
        Ok(())
    })
}

/// The steps of one handle. Returns where to go on, or `None` when nothing is left.
fn unmap_batch(inode: &Inode, start: u64, end: u64, mode: Mode) -> Result<Option<u64>> {
    let sb = inode.sb().data();
    // Most callers find nothing; that must not cost a handle.
    {
        let ext = inode.data().ext.read();
        let reader = match end {
            u64::MAX => sb.reader_ahead(),
            _ => sb.reader(),
        };
        match extent::next_extent(&ext.tree(inode), &reader, start)? {
            Some(e) if e.fblk < end => {}
            _ => return Ok(None),
        }
    }
    // On a full filesystem one step after the other, until what they free can be used.
    let space = match mode {
        Mode::User => MetaSpace::batch(sb, BATCH_SPACE, EDIT_SPACE, Share::Most)?,
        Mode::Must => match MetaSpace::batch(sb, BATCH_SPACE, EDIT_SPACE, Share::All) {
            // Only the first extent may be cut in two; to take out whole ones no tree grows.
            Err(ENOSPC) => MetaSpace::adopt(sb, 0),
            other => other?,
        },
    };
    let mut trans = Trans::start(sb, BATCH, space)?;
    let mut at = start;
    let mut most = MOST;
    loop {
        let mut ext = inode.data().ext.write();
        let result = unmap_steps(&mut trans, inode, &mut ext, at, end, most);
        drop(ext);
        match result {
            Ok((_, true)) => {
                trans.stop()?;
                return Ok(None);
            }
            Ok((next, false)) => at = next,
            Err(_) if most > 1 && !sb.is_shutdown() => {
                trans.cancel();
                most = 1;
                continue;
            }
            Err(e) => return Err(e),
        }
        if !may_continue(&trans) {
            trans.stop()?;
            return Ok(Some(at));
        }
    }
}

/// Unmaps the first pieces in `[start, end)`, at most `most`, and publishes that: one after the other is taken
/// out of the same copies of the nodes. Returns where to go on, and whether nothing is left.
fn unmap_steps(
    trans: &mut Trans<'_>,
    inode: &Inode,
    ext: &mut InodeExt,
    start: u64,
    end: u64,
    most: usize,
) -> Result<(u64, bool)> {
    let mut tree = ext.tree(inode);
    let (mut at, mut pieces, mut freed) = (start, 0, 0u64);
    let all = loop {
        let Some(piece) = first_piece(trans.sb(), inode, &tree, trans, at, end)? else {
            break true;
        };
        let piece = drop_blocks(trans, ext.may_share(), piece)?;
        at = piece.end();
        extent::remove_step(&mut tree, trans, piece.fblk, at)?;
        freed = freed.saturating_add(piece.len);
        pieces += 1;
        if pieces >= most || !may_continue(trans) {
            break false;
        }
    };
    if pieces == 0 {
        return Ok((at, true));
    }
    let joined = trans.join_inode(inode)?;

    // From here on nothing fails.
    ext.set_tree(&tree);
    ext.nblocks = ext.nblocks.saturating_sub(freed);
    inode.data().bump_data_seq();
    publish_blocks(inode, ext);
    trans.log_inode(joined, ext.record(inode));
    trans.apply();
    Ok((at, all))
}

/// The part of the first extent in `[start, end)` that lies in one group of the device.
fn first_piece(
    sb: &Sb,
    inode: &Inode,
    tree: &Tree,
    trans: &Trans<'_>,
    start: u64,
    end: u64,
) -> Result<Option<Extent>> {
    let Some(e) = extent::next_extent(tree, trans, start)? else {
        return Ok(None);
    };
    let Some(mut piece) = clip(e, start, end) else {
        return Ok(None);
    };
    sb.geo()
        .check_range(piece.phys, piece.len)
        .map_err(|what| sb.corrupted(Place::Ino(Ino::new(inode.ino())), what))?;
    piece.len = sb.alloc().in_group(Run {
        start: piece.phys,
        len: piece.len,
    });
    Ok(Some(piece))
}

/// Drops one reference on the first blocks of `piece` that are shared alike, frees them if it was
/// the last. Returns what was dropped. Takes the refcount tree when blocks may be shared (S1).
pub(crate) fn drop_blocks(
    trans: &mut Trans<'_>,
    may_share: bool,
    mut piece: Extent,
) -> Result<Extent> {
    let mut left = 0;
    if may_share {
        let mut counts = trans.refcount()?;
        (piece.len, left) = refcount::decrease_step(&mut counts, trans, piece.phys, piece.len)?;
    }
    match left {
        0 => trans.free_data(piece.phys, piece.len)?,
        1 => trans.leave_data(piece.phys, piece.len)?,
        _ => {}
    }
    Ok(piece)
}

/// The part of an extent inside `[start, end)`.
pub(crate) fn clip(e: Extent, start: u64, end: u64) -> Option<Extent> {
    let from = e.fblk.max(start);
    let to = e.fblk.saturating_add(e.len).min(end);
    if from >= to {
        return None;
    }
    Some(Extent {
        fblk: from,
        phys: BlockNr::new(e.phys.get().saturating_add(from - e.fblk)),
        len: to - from,
        unwritten: e.unwritten,
    })
}

/// Tells `stat` how many blocks the file has; `getattr` adds what is staged.
pub(crate) fn publish_blocks(inode: &Inode, ext: &InodeExt) {
    let per_block = inode.sb().block_size() / 512;
    inode.set_sectors(ext.nblocks.saturating_mul(per_block));
}

// SPDX-License-Identifier: GPL-2.0

//! Collapsing and inserting ranges: moving every extent after a point.
//!
//! The page cache and the staging map are empty from that point on, and the locks keep them so.
//! Then the extents move one by one, in ascending order into a hole below them or in descending
//! order into one above, many to a transaction (B1). A crash in between leaves a consistent file in
//! which some have moved and the rest not yet, with the hole between them, as in XFS; no data is
//! lost. Each record is changed where it lies in the tree, so only a cut extent needs space, and
//! that is set aside before anything moves.

use super::credits::EDIT_SPACE;
use super::extents::{clip, publish_blocks, BATCH, BATCH_SPACE};
use super::inode::Inode;
use super::sb::Sb;
use super::space::Share;
use super::txn::{MetaSpace, Trans};
use super::{fallocate, reserve};
use crate::algo::btree::Tree;
use crate::algo::extent;
use crate::fs::credits::Credits;
use crate::kapi::memalloc::{cond_resched, wait_a_tick};
use kernel::prelude::*;

/// Most extents that move in one step. They lie side by side, in less than ten leaves.
const MOST: usize = 64;

/// The tree blocks that moving may take. Errors: `ENOSPC`.
pub(crate) fn space(sb: &Sb) -> Result<MetaSpace<'_>> {
    MetaSpace::batch(sb, BATCH_SPACE, 2 * EDIT_SPACE, Share::Most)
}

/// Moves what lies from byte `pos` on down by `len` bytes, over what is a hole. Both are whole
/// blocks. Errors: `EIO`; some extents may have moved then.
pub(crate) fn down<'a>(inode: &'a Inode, pos: u64, len: u64, space: MetaSpace<'a>) -> Result {
    let shift = inode.sb().data().block_shift();
    settle(inode, pos)?;
    let by = len >> shift;
    run(inode, pos >> shift, space, |tree, trans, at| {
        let end = extent::move_down_step(tree, trans, at, by)?;
        Ok(end.map(|end| Moved {
            next: end,
            start: at.saturating_sub(by),
            end: end.saturating_sub(by),
        }))
    })
}

/// Moves what lies from byte `pos` on up by `len` bytes. As [`down`].
pub(crate) fn up<'a>(inode: &'a Inode, pos: u64, len: u64, space: MetaSpace<'a>) -> Result {
    let shift = inode.sb().data().block_shift();
    settle(inode, pos)?;
    let by = len >> shift;
    run(inode, u64::MAX, space, |tree, trans, at| {
        let start = extent::move_up_step(tree, trans, pos >> shift, at, by)?;
        Ok(start.map(|start| Moved {
            next: start,
            start: start.saturating_add(by),
            end: at.saturating_add(by),
        }))
    })
}

/// Can the last extent move up by `len` bytes? `EINVAL` if not, as in XFS.
pub(crate) fn check_up(inode: &Inode, len: u64) -> Result {
    let sb = inode.sb().data();
    let last = extent::last(&inode.data().ext.read().tree(inode), &sb.reader())?;
    let end = last
        .map_or(0, |e| e.end())
        .checked_add(len >> sb.block_shift());
    let most = i64::MAX as u64 >> sb.block_shift();
    end.filter(|end| *end <= most).map(|_| ()).ok_or(EINVAL)
}

/// Nothing dirty, cached or staged is left from byte `pos` on (C6).
fn settle(inode: &Inode, pos: u64) -> Result {
    fallocate::flush_unmap(inode, pos, inode.size().max(pos))?;
    reserve::staging_drop(inode, pos >> inode.sb().data().block_shift(), u64::MAX);
    Ok(())
}

/// What one step has done.
struct Moved {
    /// Where the next one goes on.
    next: u64,
    /// The first file block that it may have moved something to.
    start: u64,
    /// One past the last.
    end: u64,
}

/// Calls `step` from block `at` on, until there is nothing left.
fn run<'a>(
    inode: &'a Inode,
    mut at: u64,
    mut space: MetaSpace<'a>,
    step: impl Fn(&mut Tree, &mut Trans<'_>, u64) -> Result<Option<Moved>>,
) -> Result {
    let sb = inode.sb().data();
    loop {
        let mut trans = Trans::start(sb, BATCH, space)?;
        let result = batch(inode, &mut trans, &mut at, &step);
        trans.cancel();
        space = MetaSpace::adopt(sb, trans.take_space());
        trans.stop()?;
        match result {
            // Half moved is not a state to give up in.
            Err(ENOMEM) => wait_a_tick(),
            Ok(false) => cond_resched(),
            Ok(true) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// Moves as many extents as one handle takes. Returns whether that was all.
fn batch(
    inode: &Inode,
    trans: &mut Trans<'_>,
    at: &mut u64,
    step: impl Fn(&mut Tree, &mut Trans<'_>, u64) -> Result<Option<Moved>>,
) -> Result<bool> {
    while trans.can_continue(Credits::STEP) {
        let mut ext = inode.data().ext.write();
        let mut tree = ext.tree(inode);
        let (mut more, mut last) = (true, *at);
        for _ in 0..MOST {
            let Some(moved) = step(&mut tree, trans, last)? else {
                more = false;
                break;
            };
            // On disk they are at another offset still.
            let e = extent::next_extent(&tree, &*trans, moved.start)?;
            let e = e.and_then(|e| clip(e, moved.start, moved.end));
            if let Some(e) = e.filter(|e| !e.unwritten) {
                trans.leave_data(e.phys, e.len)?;
            }
            last = moved.next;
        }
        let joined = trans.join_inode(inode)?;

        // From here on nothing fails.
        *at = last;
        ext.set_tree(&tree);
        inode.data().bump_data_seq();
        publish_blocks(inode, &ext);
        trans.log_inode(joined, ext.record(inode));
        trans.apply();
        if !more {
            return Ok(true);
        }
    }
    Ok(false)
}

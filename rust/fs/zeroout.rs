// SPDX-License-Identifier: GPL-2.0

//! Writing zeros into preallocated extents when there is no space left to cut them.
//!
//! `fallocate` has promised that writing what it preallocated does not fail for lack of space. Yet
//! writing single blocks cuts an extent into many, and the tree must grow for that (B2). When not
//! even the pool has blocks for it, the whole extent is filled with zeros on the device and marked
//! written: that changes a flag, and the write then goes in place. ext4 does the same.
//!
//! `FALLOC_FL_WRITE_ZEROES` is the same for a range.

use super::completion::{convert, NewSize};
use super::fallocate::flush_unmap;
use super::inode::Inode;
use super::map::{self, Old};
use super::truncate;
use crate::algo::extent::{self, Extent, Mapping};
use crate::kapi::memalloc::fatal_signal_pending;
use kernel::prelude::*;

/// Most bytes that are filled at a time.
const MOST: u64 = 64 << 20;

/// Makes the preallocated extents that bytes `[pos, end)` touch written ones, as far as the file goes: no block
/// past EOF is ever written (C-ZERO-POSTEOF). So where the file is preallocated from `pos` on, past EOF, it ends
/// behind that first, with zeros; a caller whose write then fails takes that back ([`undo_size`]). Extents that are
/// too long to be filled stay. Returns whether any was filled; if not, nothing has changed. `i_rwsem` is held
/// exclusively; takes `invalidate_lock`.
///
/// Errors: `EIO`, `EINTR`, `ENOSPC`.
pub(crate) fn zero_out(inode: &Inode, pos: u64, end: u64) -> Result<bool> {
    let guard = inode.invalidate_lock();
    inode.dio_wait();
    let sb = inode.sb().data();
    // What is dirty finds its blocks first.
    inode.write_and_wait(0, u64::MAX)?;
    let reach = preallocated_to(inode, pos, end)?;
    if reach > inode.size() {
        truncate::setsize_locked(inode, &guard, reach)?;
    }
    let (_, eof) = map::blocks(sb, 0, inode.size());
    // Cut at EOF, and there only: one record more at most.
    each(inode, pos, end.min(inode.size()), |e, _| {
        Some(map::clip(e, e.fblk, eof)).filter(|e| fits(inode, e))
    })
}

/// May the extent be filled at once?
fn fits(inode: &Inode, e: &Extent) -> bool {
    e.len.saturating_mul(inode.sb().data().block_size()) <= MOST
}

/// The write that was to follow [`zero_out`] has failed, or was short: EOF goes back to `right`, where it would be
/// without. `i_rwsem` is held exclusively. Preallocated blocks past it go, as with every truncation.
pub(crate) fn undo_size(inode: &Inode, right: u64) -> Result {
    if inode.size() <= right {
        return Ok(());
    }
    truncate::setsize(inode, right)
}

/// How far the file is preallocated from byte `pos` on, at most to `end`, in extents that are not too long to be
/// filled; 0 if it is not at `pos`.
fn preallocated_to(inode: &Inode, pos: u64, end: u64) -> Result<u64> {
    let sb = inode.sb().data();
    let (first, stop) = map::blocks(sb, pos, end);
    let (_, eof) = map::blocks(sb, 0, end.max(inode.size()));
    let ext = inode.data().ext.read();
    let mut at = first;
    while at < stop {
        let found = extent::lookup(&ext.tree(inode), &sb.reader(), at)?;
        match (found, map::old_from(sb, found, at)?) {
            (Mapping::Mapped(e), Old::Unwritten(_)) if fits(inode, &map::clip(e, e.fblk, eof)) => {
                at = e.end().max(at + 1);
            }
            _ => break,
        }
    }
    Ok(match at > first {
        true => end.min(at.saturating_mul(sb.block_size())),
        false => 0,
    })
}

/// Makes the preallocated blocks that bytes `[pos, end)` touch written ones. `i_rwsem` and
/// `invalidate_lock` are held exclusively, direct I/O is drained. Errors: `EIO`, `EINTR`, `ENOSPC`.
pub(crate) fn fill(inode: &Inode, pos: u64, end: u64) -> Result {
    let sb = inode.sb().data();
    let (_, stop) = map::blocks(sb, pos, end);
    inode.write_and_wait(0, u64::MAX)?;
    each(inode, pos, end, |e, at| {
        let most = at.saturating_add(MOST >> sb.block_shift());
        Some(map::clip(e, at, stop.min(most)))
    })?;
    Ok(())
}

/// Writes zeros into preallocated extents from `pos` to `end`; `part` chooses from an extent and the
/// block in it that comes next, or leaves it out. Returns whether there were any.
///
/// They are taken out of the page cache before: no lock keeps a device from storing into a page that somebody has pinned,
/// and the zeros would come over what writeback makes of that.
fn each(
    inode: &Inode,
    pos: u64,
    end: u64,
    part: impl Fn(Extent, u64) -> Option<Extent>,
) -> Result<bool> {
    let sb = inode.sb().data();
    let (mut at, stop) = map::blocks(sb, pos, end);
    let mut any = false;
    while at < stop {
        let found = {
            let ext = inode.data().ext.read();
            extent::lookup(&ext.tree(inode), &sb.reader(), at)?
        };
        let next = match (found, map::old_from(sb, found, at)?) {
            (Mapping::Mapped(e), Old::Unwritten(_)) => {
                let Some(e) = part(e, at) else {
                    at = e.end().max(at + 1);
                    continue;
                };
                let bytes = map::span(sb, e.fblk, e.end())?;
                flush_unmap(inode, bytes.start(), bytes.end())?;
                // Nothing gets into the page cache any more; what was there may just have been written.
                let again = extent::lookup(&inode.data().ext.read().tree(inode), &sb.reader(), at)?;
                if !matches!(again, Mapping::Mapped(now) if part(now, at) == Some(e)) {
                    continue;
                }
                sb.dev().bdev().zero_out(e.phys.get(), e.len)?;
                // The zeros are on the device before the handle starts; the commit flushes them.
                convert(inode, e.fblk, e.end(), NewSize::upto(0))?;
                any = true;
                e.end()
            }
            (_, old) => old.end(),
        };
        if fatal_signal_pending() {
            return Err(EINTR);
        }
        at = next.max(at + 1);
    }
    Ok(any)
}

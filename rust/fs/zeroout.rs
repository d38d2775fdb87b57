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
use super::inode::Inode;
use super::map::{self, Old};
use super::truncate;
use crate::algo::extent::{self, Extent, Mapping};
use crate::kapi::memalloc::fatal_signal_pending;
use kernel::prelude::*;

/// Most bytes that are filled at a time.
const MOST: u64 = 64 << 20;

/// Makes the preallocated extents that bytes `[pos, end)` touch written ones, as far as the file goes: no block
/// past EOF is ever written (C-ZERO-POSTEOF). So where the range is past EOF and preallocated, the file ends there
/// first, with zeros. Returns whether there were any. `i_rwsem` is held exclusively; takes `invalidate_lock`.
///
/// Errors: `ENOSPC` for an extent that is too long, `EIO`, `EINTR`.
pub(crate) fn zero_out(inode: &Inode, pos: u64, end: u64) -> Result<bool> {
    let guard = inode.invalidate_lock();
    inode.dio_wait();
    let sb = inode.sb().data();
    let reach = mapped_to(inode, pos, end)?;
    if reach > inode.size() {
        truncate::setsize_locked(inode, &guard, reach)?;
    }
    let (_, eof) = map::blocks(sb, 0, inode.size());
    each(inode, pos, end.min(inode.size()), |e, _| {
        // Cut at EOF, and there only: one record more at most.
        let e = map::clip(e, e.fblk, eof);
        let fits = e.len.saturating_mul(sb.block_size()) <= MOST;
        fits.then_some(e).ok_or(ENOSPC)
    })
}

/// How far bytes `[pos, end)` have blocks, from `pos` on.
fn mapped_to(inode: &Inode, pos: u64, end: u64) -> Result<u64> {
    let sb = inode.sb().data();
    let (mut at, stop) = map::blocks(sb, pos, end);
    while at < stop {
        let ext = inode.data().ext.read();
        match map::old_at(sb, inode, &ext, at)? {
            Old::Hole { .. } => break,
            old => at = old.end().max(at + 1),
        }
    }
    Ok(end.min(at.saturating_mul(sb.block_size())))
}

/// Makes the preallocated blocks that bytes `[pos, end)` touch written ones. `i_rwsem` and
/// `invalidate_lock` are held exclusively, direct I/O is drained. Errors: `EIO`, `EINTR`, `ENOSPC`.
pub(crate) fn fill(inode: &Inode, pos: u64, end: u64) -> Result {
    let sb = inode.sb().data();
    let (_, stop) = map::blocks(sb, pos, end);
    each(inode, pos, end, |e, at| {
        let most = at.saturating_add(MOST >> sb.block_shift());
        Ok(map::clip(e, at, stop.min(most)))
    })?;
    Ok(())
}

/// Writes zeros into preallocated extents from `pos` to `end`; `part` chooses from an extent and the
/// block in it that comes next. Returns whether there were any.
fn each(
    inode: &Inode,
    pos: u64,
    end: u64,
    part: impl Fn(Extent, u64) -> Result<Extent>,
) -> Result<bool> {
    let sb = inode.sb().data();
    // No dirty page is left over the extents, and the locks keep it so: on disk they read as zeros.
    inode.write_and_wait(0, u64::MAX)?;
    let (mut at, stop) = map::blocks(sb, pos, end);
    let mut any = false;
    while at < stop {
        let found = {
            let ext = inode.data().ext.read();
            extent::lookup(&ext.tree(inode), &sb.reader(), at)?
        };
        let next = match (found, map::old_from(sb, found, at)?) {
            (Mapping::Mapped(e), Old::Unwritten(_)) => {
                let e = part(e, at)?;
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

// SPDX-License-Identifier: GPL-2.0

//! fallocate: preallocation, holes, zeros, unsharing.
//!
//! All of it runs with `i_rwsem` and `invalidate_lock` held exclusively and direct I/O drained
//! before anything is looked at (C-FALLOC-DIOWAIT), so nobody makes anything dirty meanwhile, except a device that
//! stores into a page which somebody has pinned: such a page is written at any time.

use super::begin_unshare::UNSHARE;
use super::begin_write::WRITE_OPS;
use super::begin_zero::ZERO;
use super::extents::{self, may_continue, publish_blocks, Mode, BATCH, BATCH_SPACE};
use super::inode::{Inode, InodeExt, MAY_SHARE};
use super::itable;
use super::map::{self, Old};
use super::reserve;
use super::sb::Sb;
use super::space::Share;
use super::txn::{MetaSpace, Trans};
use super::{shift, truncate, zeroout, Calf};
use crate::algo::extent::{self, Extent};
use crate::kapi::falloc::{
    COLLAPSE_RANGE, INSERT_RANGE, KEEP_SIZE, PUNCH_HOLE, UNSHARE_RANGE, WRITE_ZEROES, ZERO_RANGE,
};
use crate::kapi::iomap::{file_unshare, zero_range, InvalidateHeld};
use crate::kapi::kiocb::File;
use crate::kapi::memalloc::{cond_resched, fatal_signal_pending};
use core::ops::Range;
use kernel::error::code::{EINTR, EINVAL, ENOSPC, EOPNOTSUPP};
use kernel::prelude::*;

const PAGE: u64 = kernel::page::PAGE_SIZE as u64;

/// Most blocks that are promised and allocated at a time.
const MOST: u64 = 8192;

/// `fallocate` of bytes `[pos, pos + len)`; the VFS has checked that the range is sane.
///
/// Errors: `EOPNOTSUPP` for modes that are not there, `ENOSPC` (what was allocated before stays, as
/// in XFS), `EINVAL`, `EFBIG`, `EINTR`, `EIO`.
pub(crate) fn fallocate(file: &File<Calf>, mode: u32, pos: u64, len: u64) -> Result {
    let inode = file.inode();
    let sb = inode.sb().data();
    sb.check_shutdown()?;
    let keep = mode & KEEP_SIZE != 0;
    let mode = mode & !KEEP_SIZE;
    // Preallocation is of no use where nothing is written in place, as in XFS.
    let cow = sb.opts().always_cow;
    match mode {
        0 if !cow => {}
        WRITE_ZEROES if !cow && sb.dev().bdev().unmaps_zeroes() => {}
        PUNCH_HOLE | UNSHARE_RANGE | ZERO_RANGE | COLLAPSE_RANGE | INSERT_RANGE => {}
        _ => return Err(EOPNOTSUPP),
    }
    #[cfg(calf_lab)]
    if mode == UNSHARE_RANGE && bug!(sb, UnshareNolock) {
        return crate::lab::unshare::without_locks(inode, pos, len);
    }
    let _lock = inode.lock();
    let guard = inode.invalidate_lock();
    if !bug!(sb, FallocateNoDiowait) {
        inode.dio_wait();
    }
    let size = inode.size();
    let end = pos.saturating_add(len);
    check!(falloc_size(inode, pos, end));
    let new = match mode {
        COLLAPSE_RANGE | INSERT_RANGE if (pos | len) % sb.block_size() != 0 => return Err(EINVAL),
        COLLAPSE_RANGE if end >= size => return Err(EINVAL),
        COLLAPSE_RANGE => size - len,
        INSERT_RANGE => size.saturating_add(len),
        _ if keep => size,
        _ => size.max(end),
    };
    truncate::finish(inode)?;
    gate!(inode, Fallocate);
    if new > size {
        inode.newsize_ok(new)?;
    }
    if mode == INSERT_RANGE {
        if pos >= size {
            return Err(EINVAL);
        }
        shift::check_up(inode, len)?;
    }
    file.modified()?;
    match mode {
        PUNCH_HOLE => punch_hole(inode, pos, len)?,
        UNSHARE_RANGE => unshare(inode, pos, len)?,
        COLLAPSE_RANGE => {
            let space = shift::space(sb)?;
            punch_hole(inode, pos, len)?;
            shift::down(inode, end, len, space)?;
        }
        INSERT_RANGE => {
            let space = shift::space(sb)?;
            // A store by map makes its whole folio dirty, past EOF too. Were that written under the
            // larger size, it would be moved past EOF.
            flush_unmap(inode, pos, size)?;
            // The size first: at no time there is data past it.
            truncate::setsize_locked(inode, &guard, new)?;
            shift::up(inode, pos, len, space)?;
        }
        ZERO_RANGE => {
            punch_hole(inode, pos, len)?;
            if !cow {
                preallocate(inode, pos, len)?;
            }
        }
        WRITE_ZEROES => {
            punch_hole(inode, pos, len)?;
            // The size first: no block past it is ever written (C-ZERO-POSTEOF).
            if new > size {
                truncate::setsize_locked(inode, &guard, new)?;
            }
            preallocate(inode, pos, len)?;
            zeroout::fill(inode, pos, end)?;
        }
        _ => preallocate(inode, pos, len)?,
    }
    if new != inode.size() {
        truncate::setsize_locked(inode, &guard, new)?;
    }
    if file.is_sync() || inode.is_sync() {
        sb.commit_and_wait(inode.data().tid(false))?;
    }
    Ok(())
}

/// Writes back the pages around bytes `[pos, end)` and takes them out of the page cache.
pub(crate) fn flush_unmap(inode: &Inode, pos: u64, end: u64) -> Result {
    let start = pos & !(PAGE - 1);
    let last = end.div_ceil(PAGE).saturating_mul(PAGE) - 1;
    inode.write_and_wait(start, last)?;
    inode.truncate_pagecache_range(start, last);
    Ok(())
}

/// Frees the whole blocks of the range, zeroes the rest of it up to EOF (C-PUNCH-HOLE-ORDER).
fn punch_hole(inode: &Inode, pos: u64, len: u64) -> Result {
    let sb = inode.sb().data();
    let mut end = pos.saturating_add(len);
    flush_unmap(inode, pos, end)?;
    let first = pos.div_ceil(sb.block_size());
    let last = end / sb.block_size();
    if last > first {
        reserve::staging_drop(inode, first, last);
        extents::unmap_range(inode, first, last, Mode::User)?;
    }
    let size = inode.size();
    if pos >= size {
        return Ok(());
    }
    end = end.min(size);
    let held = InvalidateHeld::by_caller(inode)?;
    zero_range(&held, pos, end - pos, ZERO, WRITE_OPS)?;
    if end >= size && end % PAGE != 0 {
        // A mapped EOF page must not keep anything past EOF; writing it zeroes that.
        inode.write_and_wait(end & !(PAGE - 1), u64::MAX)?;
    }
    Ok(())
}

/// Fills the holes of the range with unwritten extents.
fn preallocate(inode: &Inode, pos: u64, len: u64) -> Result {
    let sb = inode.sb().data();
    let end = pos.saturating_add(len);
    // B5: what is staged gets its blocks first, or the range would be allocated twice.
    inode.write_and_wait(pos & !(PAGE - 1), end)?;
    let (first, last) = map::blocks(sb, pos, end);
    // No lock keeps a device from storing into a page that somebody has pinned: such a page may be under writeback again.
    reserve::release_reserved(inode, first, last);
    let mut at = first;
    while at < last {
        if fatal_signal_pending() {
            return Err(EINTR);
        }
        let old = map::old_at(sb, inode, &inode.data().ext.read(), at)?;
        let to = old.end().min(last);
        match old {
            Old::Hole { .. } => at = fill_hole(sb, inode, at, to)?,
            _ => at = to,
        }
        cond_resched();
    }
    Ok(())
}

/// Promises up to `want` blocks: all, or as large a part as there is, but one at least.
fn promise(sb: &Sb, want: u64) -> Result<u64> {
    let mut n = want.clamp(1, MOST);
    loop {
        match sb.reserve_blocks(n, Share::None) {
            Err(ENOSPC) if n > 1 => n = n.div_ceil(2),
            Err(e) => return Err(e),
            Ok(()) => return Ok(n),
        }
    }
}

/// Allocates at the start of the hole `[at, end)`, as much as one handle takes. Returns where it
/// got to. What writeback has filled meanwhile, or is about to, is left out.
fn fill_hole(sb: &Sb, inode: &Inode, at: u64, end: u64) -> Result<u64> {
    let space = MetaSpace::reserve(sb, BATCH_SPACE)?;
    let mut promised = promise(sb, end - at)?;
    let mut done = at;
    let result = (|| {
        let mut trans = Trans::start(sb, BATCH, space)?;
        while done < end && promised > 0 && may_continue(&trans) {
            let mut ext = inode.data().ext.write();
            let vacant = vacant(sb, inode, &ext, done, end)?;
            if vacant.start > done {
                done = vacant.start;
                continue;
            }
            let goal = reserve::goal(sb, inode, &ext, done);
            let run = trans.alloc_data(goal, promised.min(vacant.end - done))?;
            // The blocks are chosen, and the promise is kept: should anything below fail, the
            // transaction gives them back to the account, and the rest is released at the end.
            promised -= run.len;
            let mut tree = ext.tree(inode);
            let prepared = extent::insert(
                &mut tree,
                &mut trans,
                Extent {
                    fblk: done,
                    phys: run.start,
                    len: run.len,
                    unwritten: true,
                },
            )
            .and_then(|()| trans.join_inode(inode));
            let joined = match prepared {
                Ok(joined) => joined,
                Err(e) => {
                    promised += run.len;
                    return Err(e);
                }
            };

            // From here on nothing fails.
            ext.set_tree(&tree);
            ext.nblocks = ext.nblocks.saturating_add(run.len);
            publish_blocks(inode, &ext);
            inode.data().bump_data_seq();
            trans.log_inode(joined, ext.record(inode));
            trans.apply();
            done += run.len;
        }
        trans.stop()
    })();
    sb.space().release(promised);
    result?;
    Ok(done)
}

/// The first blocks in `[at, end)` that are a hole and not staged either; empty, and at `end`, if there are none.
fn vacant(sb: &Sb, inode: &Inode, ext: &InodeExt, mut at: u64, end: u64) -> Result<Range<u64>> {
    while at < end {
        let next = match (ext.staging.find(at), map::old_at(sb, inode, ext, at)?) {
            (None, Old::Hole { end: to }) => {
                return Ok(at..to.min(ext.staging.next_start(at)).min(end));
            }
            (Some(staged), _) => staged.end,
            (None, old) => old.end(),
        };
        at = next.max(at + 1);
    }
    Ok(end..end)
}

/// Gives the range blocks of its own, makes that durable enough to last, and forgets that the file
/// shares blocks when it does not any more. Holes stay holes (C-UNSHARE-HOLE-NORESV).
fn unshare(inode: &Inode, pos: u64, len: u64) -> Result {
    if !inode.data().ext.read().may_share() {
        return Ok(());
    }
    let end = pos.saturating_add(len).min(inode.size());
    if pos >= end {
        return Ok(());
    }
    let held = InvalidateHeld::by_caller(inode)?;
    file_unshare(&held, pos, end - pos, UNSHARE, WRITE_OPS)?;
    inode.write_and_wait(pos, end - 1)?;
    forget_sharing(inode)
}

/// Clears the flag if no block of the file is shared. The locks keep clones away.
fn forget_sharing(inode: &Inode) -> Result {
    let sb = inode.sb().data();
    let mut at = 0;
    loop {
        let ext = inode.data().ext.read();
        let Some(e) = extent::next_extent(&ext.tree(inode), &sb.reader(), at)? else {
            break;
        };
        let (shared, run) = map::shared_run(sb, &ext, e.phys, e.len)?;
        if shared {
            return Ok(());
        }
        at = e.fblk.saturating_add(run);
        if run < e.len {
            // The rest of the extent has another count, hence more than one.
            return Ok(());
        }
        drop(ext);
        if fatal_signal_pending() {
            return Ok(());
        }
        cond_resched();
    }
    itable::change_record(inode, |ext| {
        ext.flags &= !MAY_SHARE;
        inode.data().bump_data_seq();
    })
}

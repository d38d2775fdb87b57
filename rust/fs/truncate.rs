// SPDX-License-Identifier: GPL-2.0

//! Changing the size of a file.
//!
//! C-TRUNC-ORDER: no direct I/O; zero what enters the file or leaves it, with the *old* size; set
//! the size and cut the page cache; write what must be durable before the size; then the
//! transaction. Shrinking frees extents in steps, under an orphan record that lets the next mount
//! finish them after a crash (B5).

use super::begin_write::WRITE_OPS;
use super::begin_zero::ZERO;
use super::credits::{Credits, EDIT_SPACE};
use super::inode::Inode;
use super::orphan::{self, OrphanKind};
use super::space::Share;
use super::txn::{MetaSpace, Trans};
use super::{extents, itable, map, reserve, Calf};
use crate::format::types::Ino;
use crate::kapi::inode::InvalidateLock;
use crate::kapi::iomap::{truncate_page, zero_range, InvalidateHeld};
use crate::kapi::memalloc::retry_nomem;
use kernel::prelude::*;

/// Sets the size to `new`. `i_rwsem` is held exclusively; takes `invalidate_lock`. The caller has
/// checked limits and permissions, and updates the times.
///
/// Errors: `EIO`, `ENOSPC` (zeroing a shared block copies it), `ENOMEM`. A file that was to grow has its old
/// size after an error. One that was to shrink has the size that it has on disk, which is the new one if only
/// the blocks past it could not be freed ([`finish`]); what was in the page cache past the new size is gone, which
/// is also why there is no `ENOMEM` from then on.
pub(crate) fn setsize(inode: &Inode, new: u64) -> Result {
    inode.sb().data().check_shutdown()?;
    let guard = inode.invalidate_lock();
    // AIO moves EOF when it completes (C-FALLOC-DIOWAIT).
    inode.dio_wait();
    setsize_locked(inode, &guard, new)
}

/// [`setsize`] with `invalidate_lock` held and direct I/O drained.
pub(crate) fn setsize_locked(inode: &Inode, guard: &InvalidateLock<'_, Calf>, new: u64) -> Result {
    let old = inode.size();
    if new == old {
        // Blocks past EOF, preallocated by fallocate, go nevertheless.
        return shrink(inode, new);
    }
    let held = InvalidateHeld::by(guard);
    let zeroed = if new > old {
        finish(inode)?;
        zero_range(&held, old, new - old, ZERO, WRITE_OPS)?
    } else {
        // What cannot be read shows before anything has changed.
        has_extents(inode, new.div_ceil(inode.sb().block_size()))?;
        truncate_page(&held, new, ZERO, WRITE_OPS)?
    };
    inode.truncate_setsize(guard, new);
    let done = settle(inode, old, new, zeroed);
    if done.is_err() {
        let logged = inode.data().ext.read().disk_size.min(old).max(new);
        let left = if new > old { old } else { logged };
        if left != new {
            inode.truncate_setsize(guard, left);
        }
    }
    done
}

/// Frees what a truncation of the file has left past EOF when it failed: it must be gone before EOF moves
/// up, for it is data, and what enters the file is not zeroed there (C-ZERO-POSTEOF).
///
/// `i_rwsem` is held exclusively, and no direct I/O is under way. Errors: `EIO`, `ENOSPC`.
pub(crate) fn finish(inode: &Inode) -> Result {
    let sb = inode.sb().data();
    if !sb.has_half_cut() || !inode.data().ext.read().half_cut {
        return Ok(());
    }
    free_rest(inode)
}

/// Frees what is past the size of a regular file, whose truncation is logged, and takes out the orphan record
/// that says so. `i_rwsem` is held exclusively, or nobody else has the inode yet. Errors: `EIO`, `ENOSPC`;
/// [`finish`] or the next mount goes on from there.
pub(crate) fn free_rest(inode: &Inode) -> Result {
    let sb = inode.sb().data();
    let from = inode.size().div_ceil(sb.block_size());
    let freed = extents::free_from(inode, from).and_then(|()| match inode.nlink() {
        // The record says that the whole inode goes, and that is still to do.
        0 => Ok(()),
        _ => orphan::done(sb, Ino::new(inode.ino())),
    });
    if freed.is_err() {
        sb.note_half_cut();
    }
    if sb.has_half_cut() {
        inode.data().ext.write().half_cut = freed.is_err();
    }
    freed
}

/// Makes the size `new`, which the page cache has already, that on disk.
fn settle(inode: &Inode, old: u64, new: u64, zeroed: bool) -> Result {
    // What was zeroed or written past the size on disk must be there before the size is.
    let disk_size = inode.data().ext.read().disk_size;
    if new > disk_size && (zeroed || disk_size != old) {
        inode.write_and_wait(disk_size, new - 1)?;
    }
    if new > old {
        return extend(inode, new);
    }
    // What is cut off must be gone from the disk when the size is there: whatever makes the file larger again would
    // bring it back.
    if zeroed && is_written(inode, new >> inode.sb().data().block_shift())? {
        inode.write_and_wait(new, new)?;
    }
    shrink(inode, new)?;
    // With a hole up to the new end there is no completion that would move the size on disk (C10).
    if inode.data().ext.read().disk_size < new {
        retry_nomem(|| extend(inode, new))?;
    }
    Ok(())
}

/// Logs the larger size.
fn extend(inode: &Inode, new: u64) -> Result {
    itable::change_record(inode, |ext| ext.disk_size = ext.disk_size.max(new))
}

/// Logs the smaller size and frees what is past it. The page cache is cut already, and the inode's size `new`.
fn shrink(inode: &Inode, new: u64) -> Result {
    let sb = inode.sb().data();
    let from = new.div_ceil(sb.block_size());
    reserve::staging_drop(inode, from, u64::MAX);
    let more = has_extents(inode, from)?;
    if !more && inode.data().ext.read().disk_size <= new {
        return Ok(());
    }
    let ino = Ino::new(inode.ino());
    retry_nomem(|| {
        let space = MetaSpace::or_none(sb, EDIT_SPACE, Share::All)?;
        let credits = Credits::EDIT.plus(Credits::RECORD);
        let mut trans = Trans::start(sb, credits, space)?;
        let mut ext = inode.data().ext.write();
        if more {
            orphan::add(&mut trans, ino, OrphanKind::Truncate, new)?;
        }
        let joined = trans.join_inode(inode)?;
        ext.disk_size = ext.disk_size.min(new);
        trans.log_inode(joined, ext.record(inode));
        trans.apply();
        drop(ext);
        trans.stop()
    })?;
    match more {
        true => free_rest(inode),
        false => Ok(()),
    }
}

/// Is there data on disk at file block `at`? What is under writeback counts when that has ended.
fn is_written(inode: &Inode, at: u64) -> Result<bool> {
    let ext = inode.data().ext.read();
    let old = map::old_at(inode.sb().data(), inode, &ext, at)?;
    Ok(old.written().is_some())
}

fn has_extents(inode: &Inode, from: u64) -> Result<bool> {
    let sb = inode.sb().data();
    let ext = inode.data().ext.read();
    let found = crate::algo::extent::next_extent(&ext.tree(inode), &sb.reader(), from)?;
    Ok(found.is_some())
}

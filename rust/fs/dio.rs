// SPDX-License-Identifier: GPL-2.0

//! Direct I/O.
//!
//! Locks as in XFS: `i_rwsem` shared for reads and for writes inside EOF, exclusive for writes that
//! move EOF. Whatever is not made of whole blocks is written directly only where no metadata is
//! needed, in place over written blocks that nobody shares; anything else goes through the page
//! cache, which is decided before any I/O (C3, C-DIO-UNALIGNED-COW).
//!
//! A known limit is C14: a direct read whose bio is held back may return a block that copy-on-write
//! has freed and somebody else has written since. XFS has it too; see the README.

use super::begin_direct::{take_pin, DioPin, DIRECT_READ, DIRECT_WRITE};
use super::completion::{self, Landed, NewSize};
use super::inode::Inode;
use super::map;
use super::reserve;
use super::sb::Sb;
use super::Calf;
use crate::kapi::inode::{InodeLock, InodeLockShared};
use crate::kapi::iomap_dio::{dio_rw, dio_table, DioDone, DioFlags, DioOps, DioOpsRef};
use crate::kapi::kiocb::{IovIter, Kiocb};
use crate::kapi::memalloc::NofsScope;
use kernel::error::code::ENOTBLK;
use kernel::prelude::*;

/// What became of a direct write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// These bytes are written; nothing is left to do.
    Done(usize),
    /// These bytes are written, the rest must go through the page cache; what it writes must be on
    /// disk and out of the cache before the write returns (C-DIO-FALLBACK-SYNC).
    Fallback(usize),
}

/// Reads. Errors: `EIOCBQUEUED`, `EAGAIN`, `EINVAL`, `EIO`, `EFAULT`. No lock is held.
pub(crate) fn read(iocb: &mut Kiocb<'_, Calf>, to: &mut IovIter<'_>) -> Result<usize> {
    let inode = iocb.inode();
    inode.sb().data().check_readable()?;
    if to.count() == 0 {
        return Ok(0);
    }
    iocb.file().accessed();
    let _lock = if iocb.is_nowait() {
        inode.try_lock_shared().ok_or(EAGAIN)?
    } else {
        inode.lock_shared()
    };
    dio_rw(iocb, to, DIRECT_READ, None, DioFlags::NONE)
}

/// `i_rwsem`, one way or the other.
enum Lock<'a> {
    #[expect(dead_code)]
    Shared(InodeLockShared<'a, Calf>),
    #[expect(dead_code)]
    Exclusive(InodeLock<'a, Calf>),
}

impl<'a> Lock<'a> {
    fn take(inode: &'a Inode, exclusive: bool, nowait: bool) -> Result<Self> {
        let lock = match (exclusive, nowait) {
            (false, false) => Self::Shared(inode.lock_shared()),
            (false, true) => Self::Shared(inode.try_lock_shared().ok_or(EAGAIN)?),
            (true, false) => Self::Exclusive(inode.lock()),
            (true, true) => Self::Exclusive(inode.try_lock().ok_or(EAGAIN)?),
        };
        if !exclusive && inode.data().is_remapping() {
            // A clone shares what this would write in place.
            drop(lock);
            return Self::take(inode, true, nowait);
        }
        Ok(lock)
    }

    fn is_exclusive(&self) -> bool {
        matches!(self, Self::Exclusive(_))
    }
}

/// Writes. `zero_gap` zeroes from EOF up to a position past it, with `i_rwsem` held exclusively.
///
/// Errors: `EIOCBQUEUED`, `EAGAIN`, `EINVAL`, `ENOSPC`, `EIO`, `EFAULT`. No lock is held.
pub(crate) fn write(
    iocb: &mut Kiocb<'_, Calf>,
    from: &mut IovIter<'_>,
    zero_gap: fn(&Inode, u64) -> Result,
) -> Result<Outcome> {
    let inode = iocb.inode();
    let sb = inode.sb().data();
    sb.check_shutdown()?;
    let nowait = iocb.is_nowait();
    let extends = |iocb: &Kiocb<'_, Calf>, from: &IovIter<'_>| {
        iocb.pos().saturating_add(from.count() as u64) > inode.size()
    };
    let mut exclusive = iocb.is_append() || !inode.is_nosec() || extends(iocb, from);
    let (lock, aligned) = loop {
        let lock = Lock::take(inode, exclusive, nowait)?;
        if iocb.write_checks(from)? == 0 {
            return Ok(Outcome::Done(0));
        }
        let position = iocb.pos() | from.count() as u64;
        if position % u64::from(inode.sb().logical_block_size()) != 0 {
            return Err(EINVAL);
        }
        let aligned = position % sb.block_size() == 0;
        if !aligned && (extends(iocb, from) || sb.opts().always_cow) {
            return Ok(Outcome::Fallback(0));
        }
        if lock.is_exclusive() || !extends(iocb, from) {
            break (lock, aligned);
        }
        // Somebody made the file smaller meanwhile.
        exclusive = true;
    };
    if iocb.pos() > inode.size() {
        if nowait {
            return Err(EAGAIN);
        }
        zero_gap(inode, iocb.pos())?;
    }
    iocb.modified()?;
    let flags = if aligned {
        DioFlags::FSBLOCK_ALIGNED
    } else {
        DioFlags::OVERWRITE_ONLY
    };
    let count = from.count();
    let mut result = dio_rw(iocb, from, DIRECT_WRITE, Some(END), flags);
    if result == Err(ENOSPC) && !nowait {
        // Reservations are worst cases. Writing dirty data gives back what was not needed. The core
        // has moved on in memory, but not in the file.
        from.revert(count.saturating_sub(from.count()));
        inode.write_and_wait(0, u64::MAX)?;
        inode.sb().start_writeback();
        result = dio_rw(iocb, from, DIRECT_WRITE, Some(END), flags);
    }
    drop(lock);
    match result {
        // C-DIO-ENOTBLK: the page cache could not be emptied, or begin gave up half way.
        Err(ENOTBLK) => Ok(Outcome::Fallback(0)),
        Err(EAGAIN) if !aligned && !nowait => Ok(Outcome::Fallback(0)),
        Err(e) => Err(e),
        Ok(n) if from.count() > 0 => Ok(Outcome::Fallback(n)),
        Ok(n) => Ok(Outcome::Done(n)),
    }
}

/// The end of direct writes.
struct End;

/// Its table.
const END: DioOpsRef<Calf> = dio_table::<End>();

impl DioOps for End {
    type Fs = Calf;

    fn end_io(inode: &Inode, done: DioDone) -> Result {
        // A pure overwrite within EOF may be in interrupt context (C-DIO-ENDIO-CTX).
        let end = done.pos.saturating_add(done.size);
        if !done.staged && (done.status.is_err() || done.size == 0) {
            return done.status;
        }
        if !done.staged && !done.unwritten && end <= inode.size() {
            return Ok(());
        }
        let _nofs = NofsScope::enter();
        let sb = inode.sb().data();
        let result = done.status.and_then(|()| sb.check_shutdown());
        let result = end_staged(sb, inode, &done, result);
        if result.is_err() {
            sb.counters().io_errors.inc();
            return result;
        }
        if done.size == 0 {
            return Ok(());
        }
        set_size(inode, end)
    }
}

/// Maps what the request has staged and converts what lies between, ascending; unpins in any case.
///
/// A block that is neither ends in `EIO` (C2).
fn end_staged(sb: &Sb, inode: &Inode, done: &DioDone, status: Result) -> Result {
    let (mut at, last) = map::blocks(sb, done.pos, done.pos.saturating_add(done.size));
    let mut result = status;
    while let Some(pin) = take_pin(inode, done.key) {
        if result.is_ok() {
            result = between(sb, inode, done, at, pin.fblk).and_then(|()| map_pin(sb, inode, &pin));
        }
        at = pin.end();
        reserve::unpin(inode, pin.fblk, pin.run, result.is_err());
    }
    result?;
    between(sb, inode, done, at, last)
}

/// How the size on disk may grow with blocks below `end`: no further than the data.
fn upto(sb: &Sb, end: u64) -> NewSize {
    NewSize::exactly(end.saturating_mul(sb.block_size()))
}

fn map_pin(sb: &Sb, inode: &Inode, pin: &DioPin) -> Result {
    let landed = Landed::new(pin.fblk, pin.run.start);
    // A staged direct write is made of whole blocks: the end of the last is the end of the data.
    completion::map_staged(inode, pin.fblk, pin.end(), landed, upto(sb, pin.end()))
}

/// Converts the preallocated blocks in `[start, end)`; the rest was written in place.
fn between(sb: &Sb, inode: &Inode, done: &DioDone, start: u64, end: u64) -> Result {
    if !done.unwritten || start >= end {
        return Ok(());
    }
    completion::convert(inode, start, end, upto(sb, end))
}

/// Moves both sizes to `end`, the size in memory last (C-DIO-ENDIO-ORDER, C10).
fn set_size(inode: &Inode, end: u64) -> Result {
    if end <= inode.size() {
        return Ok(());
    }
    completion::grow(inode, NewSize::exactly(end))?;
    // Several may end at once: the extent lock serialises them.
    let _ext = inode.data().ext.write();
    if end > inode.size() {
        inode.set_size(end);
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Direct I/O.
//!
//! Locks as in XFS: `i_rwsem` shared for reads and for writes inside EOF, exclusive for writes that
//! move EOF. Whatever is not made of whole blocks is written directly only where no metadata is
//! needed, in place over written blocks that nobody shares; anything else goes through the page
//! cache, which is decided before any I/O (C3, C-DIO-UNALIGNED-COW).
//!
//! A known limit is C14: a direct read whose bio is held back may return a block that copy-on-write
//! has freed and somebody else has written since, as in XFS; see docs/locking.md.

use super::begin_direct::{end_converts, end_pin, pins_of, DioPin, DIRECT_READ, DIRECT_WRITE};
use super::completion::{self, Landed, NewSize};
use super::inode::Inode;
use super::map;
use super::sb::Sb;
use super::Calf;
use crate::kapi::inode::{InodeLock, InodeLockShared};
use crate::kapi::iomap_dio::{
    dio_read_simple, dio_rw, dio_table, DioDone, DioFlags, DioOps, DioOpsRef,
};
use crate::kapi::kiocb::{IovIter, Kiocb, NoPagefaults};
use crate::kapi::memalloc::NofsScope;
use kernel::error::code::{EIOCBQUEUED, ENOTBLK};
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

/// Most user memory that is faulted in before a request goes on, bytes.
const WINDOW: usize = 1 << 20;

/// So often an atomic write is tried. Then the caller may try again, as after other disturbances by the page cache.
const ATOMIC_TRIES: u32 = 8;

/// How a request gets at user memory.
///
/// Memory that is not present ends a *round* of the request (`IOMAP_DIO_PARTIAL`); it is faulted in
/// between rounds, when the core holds nothing. The next round knows what was done before it, so
/// that even one that ends asynchronously reports the whole (C-DIO-DONE-BEFORE).
struct Memory {
    /// Do pages that are missing end the round?
    nofault: bool,
    left: Option<usize>,
}

impl Memory {
    /// A request that must not wait has one round only.
    fn new(iter: &IovIter<'_>, one_round: bool) -> Self {
        Self {
            nofault: iter.is_user() && !one_round,
            left: None,
        }
    }

    fn flags(&self) -> DioFlags {
        if self.nofault {
            DioFlags::PARTIAL
        } else {
            DioFlags::NONE
        }
    }

    /// Was there no progress since the last call, although memory had been faulted in? So it is when
    /// the memory is a map of what is being written.
    fn is_stuck(&mut self, iter: &IovIter<'_>) -> bool {
        self.left.replace(iter.count()) == Some(iter.count())
    }
}

/// Before the first round: a round that gets nowhere for memory that is missing would be told to the watchers of the
/// filesystem as an error of it (`FAN_FS_ERROR`). Errors: `EFAULT`. No lock that a fault takes is held.
fn present(memory: &Memory, iter: &IovIter<'_>, to_write: bool) -> Result {
    if memory.nofault && !iter.fault_in(1, to_write) {
        return Err(EFAULT);
    }
    Ok(())
}

/// Reads. Errors: `EIOCBQUEUED`, `EAGAIN`, `EINVAL`, `EIO`, `EFAULT`. No lock is held.
pub(crate) fn read(iocb: &mut Kiocb<'_, Calf>, to: &mut IovIter<'_>) -> Result<usize> {
    let inode = iocb.inode();
    inode.sb().data().check_readable()?;
    if to.count() == 0 {
        return Ok(0);
    }
    iocb.file().accessed();
    let mut memory = Memory::new(to, iocb.is_nowait());
    let mut done = 0;
    loop {
        // Also while a clone shares the blocks: reading goes on.
        let lock = if iocb.is_nowait() {
            inode.try_lock_shared().ok_or(EAGAIN)?
        } else {
            inode.lock_shared()
        };
        let result = read_round(iocb, to, &memory, done);
        drop(lock);
        match result {
            Ok(n) if n == 0 || to.count() == 0 || !memory.nofault => return Ok(n.max(done)),
            Ok(n) => done = n,
            Err(EFAULT) if memory.nofault => {}
            Err(e) if done == 0 || e == EIOCBQUEUED => return Err(e),
            Err(_) => return Ok(done),
        }
        if memory.is_stuck(to) {
            memory.nofault = false;
        } else if !to.fault_in(WINDOW, true) {
            return if done > 0 { Ok(done) } else { Err(EFAULT) };
        }
    }
}

/// One round of a read, with `i_rwsem` held.
fn read_round(
    iocb: &mut Kiocb<'_, Calf>,
    to: &mut IovIter<'_>,
    memory: &Memory,
    done: usize,
) -> Result<usize> {
    let inode = iocb.inode();
    if done == 0 && memory.left.is_none() {
        match dio_read_simple(iocb, to, DIRECT_READ) {
            Err(ENOTBLK) => {}
            other => return other,
        }
        if iocb.pos() >= inode.size() {
            return Ok(0);
        }
        present(memory, to, true)?;
    }
    // Zeros for a hole are copied, which faults in spite of `nofault` (C-DIO-READ-HOLEFAULT).
    let _off = memory.nofault.then(NoPagefaults::enter);
    to.set_nofault(memory.nofault);
    let result = dio_rw(iocb, to, DIRECT_READ, None, memory.flags(), done);
    if result != Err(EIOCBQUEUED) {
        to.set_nofault(false);
    }
    result
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

/// What makes way for a write: gets the inode, where it begins and ends, and whether it must not wait. `i_rwsem` is held
/// exclusively if the write moves EOF.
type MakeWay = fn(&Inode, u64, u64, bool) -> Result;

/// Writes, after `make_way`.
///
/// Errors: `EIOCBQUEUED`, `EAGAIN`, `EINVAL`, `ENOSPC`, `EIO`, `EFAULT`. No lock is held, and the filesystem was just
/// seen to be running (`Sb::check_shutdown`).
pub(crate) fn write(
    iocb: &mut Kiocb<'_, Calf>,
    from: &mut IovIter<'_>,
    make_way: MakeWay,
) -> Result<Outcome> {
    if !iocb.is_atomic() {
        return write_locked(iocb, from, make_way, false);
    }
    // C-DIO-ATOMIC: the blocks that it replaces become free when it ends. Nobody may be writing them in place
    // by then, and nothing pins what is written in place (C2).
    let mut tries = ATOMIC_TRIES;
    loop {
        tries -= 1;
        match write_locked(iocb, from, make_way, true) {
            // A fault has brought a folio back since the page cache was emptied.
            Err(EAGAIN) if !iocb.is_nowait() && tries > 0 => {}
            other => return other,
        }
    }
}

/// [`write`] under `i_rwsem`; `alone` when no other direct I/O is under way.
fn write_locked(
    iocb: &mut Kiocb<'_, Calf>,
    from: &mut IovIter<'_>,
    make_way: MakeWay,
    alone: bool,
) -> Result<Outcome> {
    let inode = iocb.inode();
    let sb = inode.sb().data();
    let nowait = iocb.is_nowait();
    let end_of =
        |iocb: &Kiocb<'_, Calf>, from: &IovIter<'_>| iocb.pos().saturating_add(from.count() as u64);
    let extends = |iocb: &Kiocb<'_, Calf>, from: &IovIter<'_>| end_of(iocb, from) > inode.size();
    // EOF moves when asynchronous writes end, and the position of an append with it.
    let alone = alone || iocb.is_append();
    if alone && nowait {
        return Err(EAGAIN);
    }
    let mut exclusive = alone || !inode.is_nosec() || extends(iocb, from);
    let (lock, aligned) = loop {
        let lock = Lock::take(inode, exclusive, nowait)?;
        if alone {
            inode.dio_wait();
        }
        if iocb.write_checks(from)? == 0 {
            return Ok(Outcome::Done(0));
        }
        let position = iocb.pos() | from.count() as u64;
        if position % u64::from(inode.sb().logical_block_size()) != 0 {
            return Err(EINVAL);
        }
        let aligned = position % sb.block_size() == 0;
        // Up to EOF, the core fills the block up with zeros. Nobody would wait for those, and they would come over
        // what is appended meanwhile.
        let reaches_eof = end_of(iocb, from) >= inode.size();
        if !aligned && (reaches_eof || sb.opts().always_cow) {
            return Ok(Outcome::Fallback(0));
        }
        if lock.is_exclusive() || (!extends(iocb, from) && inode.is_nosec()) {
            break (lock, aligned);
        }
        // Somebody made the file smaller meanwhile, or there are privileges to be taken from it now.
        exclusive = true;
    };
    make_way(inode, iocb.pos(), end_of(iocb, from), nowait)?;
    iocb.modified()?;
    let result = if bug!(sb, DioUnalignedShared) && !aligned {
        write_rounds(iocb, from, DioFlags::NONE)
    } else if aligned {
        write_rounds(iocb, from, DioFlags::FSBLOCK_ALIGNED)
    } else {
        write_rounds(iocb, from, DioFlags::OVERWRITE_ONLY)
    };
    drop(lock);
    check!(dio_written(inode, &result, from.count()));
    match result {
        Err(EAGAIN) if !aligned && !nowait => Ok(Outcome::Fallback(0)),
        other => other,
    }
}

/// Writes as far as it goes directly, with `i_rwsem` held.
fn write_rounds(
    iocb: &mut Kiocb<'_, Calf>,
    from: &mut IovIter<'_>,
    flags: DioFlags,
) -> Result<Outcome> {
    let inode = iocb.inode();
    let mut may_flush = !iocb.is_nowait();
    let mut memory = Memory::new(from, iocb.is_nowait() || iocb.is_atomic());
    let mut done = 0;
    present(&memory, from, false)?;
    #[cfg(calf_lab)]
    let mut rounds = crate::lab::dio::Rounds::new();
    loop {
        #[cfg(calf_lab)]
        rounds.begin(inode, from.count());
        let before = from.count();
        from.set_nofault(memory.nofault);
        let flags = flags.and(memory.flags());
        let given = if bug!(inode.sb().data(), DioNoDoneBefore) {
            0
        } else {
            done
        };
        if bug!(inode.sb().data(), DioIsizeInBegin) && iocb.is_append() {
            iocb.write_checks(from)?;
        }
        let result = dio_rw(iocb, from, DIRECT_WRITE, Some(END), flags, given);
        check!(dio_round(inode, done, before - from.count(), &result));
        if result == Err(EIOCBQUEUED) {
            return Err(EIOCBQUEUED);
        }
        from.set_nofault(false);
        match result {
            Ok(n) => {
                done = n.max(done);
                if from.count() == 0 || (n == 0 && bug!(inode.sb().data(), EnotblkZero)) {
                    return Ok(Outcome::Done(done));
                }
                // C-DIO-ENOTBLK: begin gave up half way.
                if !memory.nofault {
                    return Ok(Outcome::Fallback(done));
                }
            }
            Err(EFAULT) if memory.nofault => {}
            // The page cache could not be emptied (C-DIO-ENOTBLK).
            Err(ENOTBLK) => return Ok(Outcome::Fallback(done)),
            Err(ENOSPC) if may_flush => {
                // Reservations are worst cases. Writing dirty data gives back what was not needed.
                // The core has moved on in memory, but not in the file.
                may_flush = false;
                from.rewind(before);
                inode.write_and_wait(0, u64::MAX)?;
                inode.sb().sync_inodes();
                continue;
            }
            // Preallocated blocks that cannot be converted one by one: the page cache has a way.
            Err(ENOSPC) if !iocb.is_nowait() && !iocb.is_atomic() => {
                from.rewind(before);
                return Ok(Outcome::Fallback(done));
            }
            Err(_) if done > 0 => return Ok(Outcome::Done(done)),
            Err(e) => {
                from.rewind(before);
                return Err(e);
            }
        }
        let stuck = memory.is_stuck(from);
        #[cfg(calf_lab)]
        let stuck = stuck && !rounds.goes_on(inode.sb().data());
        if stuck {
            return Ok(Outcome::Fallback(done));
        }
        if !from.fault_in(WINDOW, false) {
            return if done > 0 {
                Ok(Outcome::Done(done))
            } else {
                Err(EFAULT)
            };
        }
    }
}

/// The end of direct writes.
struct End;

/// Its table.
const END: DioOpsRef<Calf> = dio_table::<End>();

impl DioOps for End {
    type Fs = Calf;

    fn end_io(inode: &Inode, done: DioDone) -> Result {
        let result = Self::finish(inode, done);
        if done.unwritten {
            end_converts(inode, done.key);
        }
        result
    }
}

impl End {
    fn finish(inode: &Inode, done: DioDone) -> Result {
        // A pure overwrite within EOF may be in interrupt context (C-DIO-ENDIO-CTX).
        let end = done.pos.saturating_add(done.size);
        if !done.staged && (done.status.is_err() || done.size == 0) {
            return done.status;
        }
        if !done.staged && !done.unwritten && end <= inode.size() {
            return Ok(());
        }
        check!(dio_metadata(inode, &done));
        #[cfg(calf_lab)]
        crate::lab::dio::size_first(inode, &done);
        gate!(inode, DioEndIo);
        let _nofs = NofsScope::enter();
        let sb = inode.sb().data();
        let result = done.status.and_then(|()| sb.check_shutdown());
        let result = end_staged(sb, inode, &done, result);
        if result.is_err() {
            sb.counters().io_errors.inc();
            follow_disk(inode);
            return result;
        }
        if done.size == 0 {
            return Ok(());
        }
        check!(dio_size(inode, done.pos, end));
        let result = set_size(inode, end);
        check!(dio_end(inode, &done, &result));
        result
    }
}

/// Maps what the request has staged and converts what lies between, ascending; unpins in any case.
///
/// Only what the tickets say has landed is mapped. A block that is neither ends in `EIO` (C2).
fn end_staged(sb: &Sb, inode: &Inode, done: &DioDone, status: Result) -> Result {
    let end = done.pos.saturating_add(done.size);
    let (mut at, last) = map::blocks(sb, done.pos, end);
    let pins = pins_of(inode, done.key);
    let mut result = status;
    if done.atomic && result.is_ok() {
        result = pins.iter().try_for_each(|pin| pin.check_landed(sb));
        result = result.and_then(|()| {
            let runs = pins.iter().map(|pin| (pin.fblk, pin.run));
            completion::map_atomic(inode, runs, NewSize::exactly(end))
        });
    }
    for pin in pins.iter() {
        #[cfg(calf_lab)]
        if crate::lab::dio::passes_over(sb, inode, pin) {
            at = pin.end();
            continue;
        }
        if result.is_ok() && !done.atomic {
            result = pin
                .check_landed(sb)
                .and_then(|()| between(sb, inode, done, at, pin.fblk))
                .and_then(|()| map_pin(sb, inode, pin));
        }
        at = pin.end();
        end_pin(inode, pin, result.is_err());
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

/// What a write past EOF has mapped before it failed is in the file, as after a short write: the size on disk covers it.
fn follow_disk(inode: &Inode) {
    let ext = inode.data().ext.write();
    let old = inode.size();
    let mapped = ext.disk_size;
    if mapped > old {
        inode.set_size(mapped);
        drop(ext);
        inode.isize_extended(old, mapped);
    }
}

/// Moves both sizes to `end`, the size in memory last (C-DIO-ENDIO-ORDER, C10).
fn set_size(inode: &Inode, end: u64) -> Result {
    if end <= inode.size() {
        return Ok(());
    }
    completion::grow(inode, NewSize::exactly(end))?;
    // Several may end at once: the extent lock serialises them.
    let ext = inode.data().ext.write();
    let old = inode.size();
    if end > old {
        inode.set_size(end);
        drop(ext);
        // What was stored past EOF in its page is not data (C-WR-EXTEND-FOLIO).
        inode.isize_extended(old, end);
    }
    Ok(())
}

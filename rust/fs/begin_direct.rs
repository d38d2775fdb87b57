// SPDX-License-Identifier: GPL-2.0

//! Mappings for direct I/O.
//!
//! A direct write goes in place over written blocks that nobody shares, or into preallocated ones;
//! anything else is staged: reserved, claimed and *pinned* under the same extent lock hold that
//! samples the address (C2). What begin pins, end unpins as far as it was not submitted, and
//! `end_io` the rest. Only direct writes and writeback ever see the address of a claim (C3).
//!
//! Direct reads see the data map only; the core has written back what is dirty in their range.

use super::alloc::Run;
use super::completion::{self, NewSize};
use super::inode::{Inode, InodeExt};
use super::map::{self, Old, Place};
use super::reader::NodeReader;
use super::reserve;
use super::sb::Sb;
use super::Calf;
use crate::algo::extent;
use crate::algo::staging::State;
use crate::kapi::iomap::{
    table, Answer, DirectWriteMap, Done, Flags, IomapOps, Iter, OpsRef, ReadMap, Request,
};
use crate::kapi::iomap_dio::Ticket;
use crate::kapi::memalloc::nofail;
use crate::seam::FVec;
#[cfg(calf_lab)]
use kernel::error::code::ENOTBLK;
use kernel::prelude::*;
use kernel::sync::Arc;

/// Direct reads.
pub(crate) struct DirectRead;

/// Direct writes.
pub(crate) struct DirectWrite;

/// The table of direct reads.
pub(crate) const DIRECT_READ: OpsRef<Calf> = table::<DirectRead>();
/// The table of direct writes.
pub(crate) const DIRECT_WRITE: OpsRef<Calf> = table::<DirectWrite>();

/// Most blocks that one begin stages; the rest of a long write comes with the next begin.
const MOST: u64 = 4096;

/// Staged blocks that one begin of a direct write has pinned, and the ticket that tells which of them
/// were written. Kept in the inode, under its extent lock.
#[derive(Clone)]
pub(crate) struct DioPin {
    /// The request.
    pub key: usize,
    /// First file block.
    pub fblk: u64,
    /// The blocks on the device.
    pub run: Run,
    /// What bios have carried to them.
    ticket: Arc<Ticket>,
    /// File blocks `[from, to)` whose space others count on: it stays if the write fails. What the
    /// write has reserved for itself goes back.
    keep: (u64, u64),
    /// Did part of it not get written, so that all of it is to be dropped?
    #[cfg(calf_lab)]
    pub bad: bool,
}

impl DioPin {
    /// Its ticket.
    #[cfg(calf_lab)]
    pub(crate) fn ticket(&self) -> Arc<Ticket> {
        self.ticket.clone()
    }

    /// The part from file block `at` on.
    #[cfg(calf_lab)]
    pub(crate) fn from(&self, at: u64) -> extent::Extent {
        let run = self.run.after(at.saturating_sub(self.fblk));
        extent::Extent {
            fblk: at,
            phys: run.start,
            len: run.len,
            unwritten: false,
        }
    }

    /// One past the last file block.
    pub(crate) fn end(&self) -> u64 {
        self.fblk.saturating_add(self.run.len)
    }

    /// `EIO` unless the device has taken all of it.
    pub(crate) fn check_landed(&self, sb: &Sb) -> Result {
        let bytes = self.run.len.saturating_mul(sb.block_size());
        if self.ticket.landed() == bytes {
            Ok(())
        } else {
            Err(EIO)
        }
    }
}

/// Preallocated blocks `[start, end)` for the conversion of which the direct write `key` has reserved
/// what it takes, and those of them that others count on.
pub(crate) struct DioConvert {
    key: usize,
    start: u64,
    end: u64,
    keep: (u64, u64),
}

/// Reserves what the conversion of preallocated blocks takes, for this request. The extent lock is
/// held exclusively. As [`reserve::reserve_convert`].
fn reserve_convert(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    key: usize,
    start: u64,
    end: u64,
) -> Result {
    ext.dio_converts.reserve(1)?;
    reserve::reserve_convert(sb, inode, ext, start, end)?;
    let keep = (u64::MAX, 0);
    let convert = DioConvert {
        key,
        start,
        end,
        keep,
    };
    // Room was made above.
    let _ = ext.dio_converts.push_within_capacity(convert);
    Ok(())
}

/// Takes back what a request has reserved for conversions that did not happen.
pub(super) fn end_converts(inode: &Inode, key: usize) {
    let mut ext = inode.data().ext.write();
    while let Some(i) = ext.dio_converts.iter().position(|c| c.key == key) {
        if let Some(c) = ext.dio_converts.remove(i) {
            reserve::drop_converts(inode, &mut ext, c.start, c.end, c.keep);
        }
    }
}

#[vtable]
impl IomapOps for DirectRead {
    type Fs = Calf;
    type Map = ReadMap;

    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<ReadMap>> {
        let sb = inode.sb().data();
        sb.check_readable()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        let (reader, ext) = if req.flags.has(Flags::NOWAIT) {
            let ext = inode.data().ext.try_read().ok_or(EAGAIN)?;
            (sb.reader_nowait(), ext)
        } else {
            (sb.reader(), inode.data().ext.read())
        };
        let old = map::old_by(reader, inode, &ext, at)?;
        let (_, eof) = map::blocks(sb, 0, inode.size());
        if !reader.may_wait() && old.end() < end.min(eof) {
            // All of the request that is in the file, or nothing (C-DIO-NOWAIT).
            return Err(EAGAIN);
        }
        let answer = match old {
            Old::Hole { end } => ReadMap::Hole(map::span(sb, at, end)?),
            Old::Written(e) => ReadMap::Mapped(map::run(sb, e)?),
            Old::Unwritten(e) => ReadMap::Unwritten(map::run(sb, e)?),
        };
        drop(ext);
        Ok(Answer::new(answer, inode.data().cookie()))
    }
}

/// Does reaching the data of a write up to byte `end` need a commit (C9, C-DIRTY)?
fn needs_commit(sb: &Sb, inode: &Inode, end: u64) -> bool {
    end > inode.size() || !sb.journal().is_committed(inode.data().tid(true))
}

/// Does the size on disk end before byte `end` of the file, or before its end? A write that is under way lets
/// it, when its first pages are written before it has moved EOF. What is written in place there is in the file only
/// when the size is on disk too (C10).
fn is_behind(inode: &Inode, ext: &InodeExt, end: u64) -> bool {
    ext.disk_size < end.min(inode.size())
}

/// Written blocks that nobody shares, all of `[at, end)`, below the size on disk; otherwise `EAGAIN`
/// (C-DIO-OVERWRITE-ONLY).
fn overwrite(
    reader: NodeReader<'_>,
    inode: &Inode,
    ext: &InodeExt,
    at: u64,
    end: u64,
) -> Result<DirectWriteMap> {
    if is_behind(inode, ext, end << reader.sb().block_shift()) {
        return Err(EAGAIN);
    }
    match map::place_by(reader, inode, ext, at, end)? {
        Place::Overwrite(e) if e.end() >= end || bug!(reader.sb(), NowaitMultiMap) => {
            Ok(DirectWriteMap::InPlace(map::run(reader.sb(), e)?))
        }
        _ => Err(EAGAIN),
    }
}

/// Written or preallocated blocks, all of `[at, end)`, without waiting for anything (U2); otherwise
/// `EAGAIN`, before any I/O (C-DIO-NOWAIT).
fn without_waiting(
    sb: &Sb,
    inode: &Inode,
    key: usize,
    at: u64,
    end: u64,
    only: bool,
) -> Result<DirectWriteMap> {
    let reader = sb.reader_nowait();
    let found = {
        let ext = inode.data().ext.try_read().ok_or(EAGAIN)?;
        overwrite(reader, inode, &ext, at, end)
    };
    if found.is_ok() || only {
        return found;
    }
    let mut ext = inode.data().ext.try_write().ok_or(EAGAIN)?;
    match map::place_by(reader, inode, &ext, at, end)? {
        Place::Unwritten { extent, staged } if extent.end() >= end => {
            if staged {
                adopt(&mut ext, at, extent.end());
            } else {
                reserve_convert(sb, inode, &mut ext, key, at, extent.end()).map_err(|_| EAGAIN)?;
            }
            Ok(DirectWriteMap::Unwritten(map::run(sb, extent)?))
        }
        _ => Err(EAGAIN),
    }
}

/// The page cache is about to count on what is staged in `[start, end)`: it stays if the direct
/// write fails that made the reservation. The extent lock is held exclusively.
pub(super) fn adopt(ext: &mut InodeExt, start: u64, end: u64) {
    let more = |keep: (u64, u64)| (keep.0.min(start), keep.1.max(end));
    for pin in ext.dio_pins.iter_mut() {
        if pin.fblk < end && start < pin.end() {
            pin.keep = more(pin.keep);
        }
    }
    for c in ext.dio_converts.iter_mut() {
        if c.start < end && start < c.end {
            c.keep = more(c.keep);
        }
    }
}

/// The first block behind `at` that a direct write may give up if it fails: writeback of `at` must not
/// hold on to it. The extent lock is held.
pub(super) fn may_give_up(ext: &InodeExt, at: u64) -> u64 {
    let next = at.saturating_add(1);
    let theirs = ext.dio_pins.iter().filter(|pin| pin.end() > next);
    let first = theirs.map(|pin| match pin.fblk > at {
        true => pin.fblk,
        false => pin.keep.1.max(next),
    });
    first.fold(u64::MAX, u64::min)
}

/// Pins the staged blocks from `at` on, at most up to `end`, after choosing them if that has not
/// been done; answers with what is pinned. `fresh`: they have been reserved for this.
fn stage(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    key: usize,
    at: u64,
    end: u64,
    fresh: bool,
) -> Result<DirectWriteMap> {
    ext.dio_pins.reserve(1)?;
    let ticket = Ticket::new()?;
    let mut keep = if fresh { (u64::MAX, 0) } else { (0, u64::MAX) };
    let entry = ext.staging.find(at).and_then(|e| e.clip(at, end));
    let entry = entry.ok_or(EIO)?;
    let (start, len) = match entry.state {
        State::Claimed(phys) => {
            // Another direct write to the same blocks: whose space it is goes for both.
            let other = ext.dio_pins.iter().rfind(|p| {
                let run = p.run.after(at.saturating_sub(p.fblk));
                p.fblk <= at && at < p.end() && run.start == phys
            });
            keep = other.map_or(keep, |p| p.keep);
            let next = ext.dio_pins.iter().map(|p| p.fblk).filter(|f| *f > at);
            let end = next.fold(other.map_or(entry.end, |p| p.end()), u64::min);
            (phys, entry.end.min(end).saturating_sub(at))
        }
        State::Reserved => reserve::claim(sb, inode, ext, at, entry.end)?,
        State::Convert => return Err(EIO),
    };
    let run = Run { start, len };
    let mapped = map::run(
        sb,
        extent::Extent {
            fblk: at,
            phys: start,
            len,
            unwritten: false,
        },
    )?;
    let pin = DioPin {
        key,
        fblk: at,
        run,
        ticket: ticket.clone(),
        keep,
        #[cfg(calf_lab)]
        bad: false,
    };
    // Room was made above.
    if ext.dio_pins.push_within_capacity(pin).is_err() {
        return Err(ENOMEM);
    }
    sb.alloc().pin(run);
    Ok(DirectWriteMap::Staged(mapped, ticket))
}

/// Answers for block `at` of a write of whole blocks. The extent lock is held exclusively, and not
/// released between looking the old mapping up and claiming (C-DIO-COW-RELOOKUP).
fn begin_locked(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    key: usize,
    at: u64,
    end: u64,
) -> Result<DirectWriteMap> {
    match map::place(sb, inode, ext, at, end)? {
        Place::Overwrite(e) => Ok(DirectWriteMap::InPlace(map::run(sb, e)?)),
        Place::Unwritten { extent, staged } => {
            let run = map::run(sb, extent)?;
            if staged {
                adopt(ext, at, extent.end());
            } else {
                reserve_convert(sb, inode, ext, key, extent.fblk, extent.end())?;
            }
            Ok(DirectWriteMap::Unwritten(run))
        }
        Place::Staged { entry, .. } => stage(sb, inode, ext, key, at, entry.end, false),
        Place::MustReserve { end, .. } => {
            let end = end.min(at.saturating_add(MOST));
            reserve_and_stage(sb, inode, ext, key, at, end)
        }
    }
}

/// Reserves the vacant blocks from `at` on, at most up to `end`, and pins as many as lie together.
fn reserve_and_stage(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    key: usize,
    at: u64,
    end: u64,
) -> Result<DirectWriteMap> {
    reserve::reserve_range(sb, inode, ext, at, end)?;
    let answer = stage(sb, inode, ext, key, at, end, true);
    let used = match &answer {
        Ok(DirectWriteMap::Staged(run, _)) => run.span().end() >> sb.block_shift(),
        _ => at,
    };
    // Nobody else has seen the rest, nor any of it after an error (C-BEGIN-FAIL).
    reserve::drop_locked(inode, ext, used, end);
    answer
}

/// Answers for block `at` of an atomic write: everything goes out of place, so that one transaction
/// can put it there (C-DIO-ATOMIC). As [`begin_locked`]; also `EAGAIN` when somebody else writes to
/// the blocks: to what is staged already, or, by way of the page cache, maybe to what is to be replaced.
///
/// `i_rwsem` is held exclusively, and no other direct I/O is under way.
fn begin_atomic(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    key: usize,
    at: u64,
    end: u64,
) -> Result<DirectWriteMap> {
    // Writeback that looks a block up from now on finds what is staged. Where it has looked already, the folio
    // is still locked or under writeback.
    let span = map::span(sb, at, end)?;
    if inode.range_needs_writeback(span.start(), span.end() - 1) {
        return Err(EAGAIN);
    }
    if let Some(e) = ext.staging.find(at).and_then(|e| e.clip(at, end)) {
        match e.state {
            State::Claimed(_) => return Err(EAGAIN),
            State::Reserved => return stage(sb, inode, ext, key, at, e.end, false),
            // The blocks are replaced, not converted.
            State::Convert => reserve::drop_locked(inode, ext, at, e.end),
        }
    }
    let end = end.min(ext.staging.next_start(at));
    reserve_and_stage(sb, inode, ext, key, at, end)
}

#[vtable]
impl IomapOps for DirectWrite {
    type Fs = Calf;
    type Map = DirectWriteMap;

    fn begin(inode: &Inode, req: Request, iter: Iter<'_>) -> Result<Answer<DirectWriteMap>> {
        let sb = inode.sb().data();
        sb.check_shutdown()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        let only = req.flags.has(Flags::OVERWRITE_ONLY);
        #[cfg(calf_lab)]
        crate::lab::dio::size_in_begin(inode, req.end());
        let map = if req.flags.has(Flags::ATOMIC) {
            if req.flags.has(Flags::NOWAIT) {
                return Err(EAGAIN);
            }
            sb.retry_enospc(|| {
                let mut ext = inode.data().ext.write();
                begin_atomic(sb, inode, &mut ext, iter.key(), at, end)
            })?
        } else if req.flags.has(Flags::NOWAIT) {
            without_waiting(sb, inode, iter.key(), at, end, only)?
        } else if only {
            overwrite(sb.reader(), inode, &inode.data().ext.read(), at, end)?
        } else {
            // Most direct writes overwrite: they need no more than a shared hold.
            let (place, behind) = {
                let ext = inode.data().ext.read();
                let behind = is_behind(inode, &ext, req.end());
                (map::place(sb, inode, &ext, at, end)?, behind)
            };
            #[cfg(calf_lab)]
            let lab = match crate::lab::dio::cached(sb, inode, iter.key(), at)? {
                None => crate::lab::dio::stale_imap(sb, inode, &place, at)?,
                found => found,
            };
            #[cfg(not(calf_lab))]
            let lab = None;
            let map = match place {
                _ if lab.is_some() => lab.ok_or(EIO)?,
                Place::Overwrite(e) => DirectWriteMap::InPlace(map::run(sb, e)?),
                #[cfg(calf_lab)]
                Place::MustReserve { .. } if bug!(sb, EnotblkZero) => return Err(ENOTBLK),
                _ => sb.retry_enospc(|| {
                    let mut ext = inode.data().ext.write();
                    begin_locked(sb, inode, &mut ext, iter.key(), at, end)
                })?,
            };
            if let (true, DirectWriteMap::InPlace(run)) = (behind, &map) {
                let end = run.span().end().min(req.end()).min(inode.size());
                completion::grow(inode, NewSize::exactly(end))?;
            }
            map
        };
        Ok(Answer {
            map,
            cookie: inode.data().cookie(),
            dirty: needs_commit(sb, inode, req.end()),
        })
    }

    /// Unpins what was not submitted: the ticket stays good for what was (C-DIO-PARTIAL).
    fn end(inode: &Inode, done: Done<'_>) -> Result {
        let Some(ticket) = done.ticket() else {
            return Ok(());
        };
        #[cfg(calf_lab)]
        if ticket.submitted() < done.len && crate::lab::dio::short(inode, ticket) {
            return Ok(());
        }
        if ticket.submitted() < done.len {
            cut_pin(inode, ticket);
        }
        Ok(())
    }
}

/// Ends what the pin with this ticket has pinned and no bio has carried anything to.
fn cut_pin(inode: &Inode, ticket: &Ticket) {
    let sb = inode.sb().data();
    let keep = ticket.submitted() >> sb.block_shift();
    let mut ext = inode.data().ext.write();
    let pins = &mut ext.dio_pins;
    let Some(i) = pins.iter().position(|p| core::ptr::eq(&*p.ticket, ticket)) else {
        return;
    };
    let Some(pin) = pins.get_mut(i) else {
        return;
    };
    let rest = DioPin {
        fblk: pin.fblk.saturating_add(keep),
        run: pin.run.after(keep),
        ..pin.clone()
    };
    pin.run.len = keep;
    if keep == 0 {
        pins.remove(i);
    }
    end_locked(inode, &mut ext, &rest, true);
}

/// Ends a pin that is no longer in the list.
fn end_locked(inode: &Inode, ext: &mut InodeExt, pin: &DioPin, failed: bool) {
    inode.sb().data().alloc().unpin(pin.run);
    if failed {
        reserve::give_back(inode, ext, pin.fblk, pin.run, pin.keep);
    }
}

/// Ends a pin of [`pins_of`].
pub(crate) fn end_pin(inode: &Inode, pin: &DioPin, failed: bool) {
    let mut ext = inode.data().ext.write();
    let i = ext
        .dio_pins
        .iter()
        .position(|p| Arc::ptr_eq(&p.ticket, &pin.ticket));
    if let Some(pin) = i.and_then(|i| ext.dio_pins.remove(i)) {
        end_locked(inode, &mut ext, &pin, failed);
    }
}

/// The pins of the request, by file offset. They stay until [`end_pin`].
pub(crate) fn pins_of(inode: &Inode, key: usize) -> FVec<DioPin> {
    let ext = inode.data().ext.read();
    let mut pins = FVec::new();
    for pin in ext.dio_pins.iter().filter(|p| p.key == key) {
        nofail(|| pins.reserve(1));
        let _ = pins.push_within_capacity(pin.clone());
    }
    pins.sort_unstable_by_key(|p| p.fblk);
    pins
}

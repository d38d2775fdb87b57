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
use super::inode::{Inode, InodeExt};
use super::map::{self, Old, Place};
use super::reserve;
use super::sb::{NodeReader, Sb};
use super::Calf;
use crate::algo::extent;
use crate::algo::staging::State;
use crate::kapi::iomap::{
    table, Answer, DirectWriteMap, Done, Flags, IomapOps, Iter, OpsRef, ReadMap, Request,
};
use crate::kapi::iomap_dio::Ticket;
use crate::kapi::memalloc::nofail;
use crate::seam::FVec;
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
pub(crate) struct DioPin {
    /// The request.
    pub key: usize,
    /// First file block.
    pub fblk: u64,
    /// The blocks on the device.
    pub run: Run,
    /// What bios have carried to them.
    ticket: Arc<Ticket>,
}

impl DioPin {
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
        if !reader.may_wait() && old.end() < end {
            // All of the request or nothing (C-DIO-NOWAIT).
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

/// Written blocks that nobody shares, all of `[at, end)`; otherwise `EAGAIN`
/// (C-DIO-OVERWRITE-ONLY).
fn overwrite(
    reader: NodeReader<'_>,
    inode: &Inode,
    ext: &InodeExt,
    at: u64,
    end: u64,
) -> Result<DirectWriteMap> {
    match map::place_by(reader, inode, ext, at, end)? {
        Place::Overwrite(e) if e.end() >= end => {
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
            if !staged {
                reserve::reserve_convert(sb, inode, &mut ext, at, extent.end())
                    .map_err(|_| EAGAIN)?;
            }
            Ok(DirectWriteMap::Unwritten(map::run(sb, extent)?))
        }
        _ => Err(EAGAIN),
    }
}

/// Pins the staged blocks from `at` on, at most up to `end`, after choosing them if that has not
/// been done; answers with what is pinned.
fn stage(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    key: usize,
    at: u64,
    end: u64,
) -> Result<DirectWriteMap> {
    ext.dio_pins.reserve(1)?;
    let ticket = Ticket::new()?;
    let entry = ext.staging.find(at).and_then(|e| e.clip(at, end));
    let entry = entry.ok_or(EIO)?;
    let (start, len) = match entry.state {
        State::Claimed(phys) => (phys, entry.len()),
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
            if !staged {
                reserve::reserve_convert(sb, inode, ext, extent.fblk, extent.end())?;
            }
            Ok(DirectWriteMap::Unwritten(run))
        }
        Place::Staged { entry, .. } => stage(sb, inode, ext, key, at, entry.end),
        Place::MustReserve { end, .. } => {
            let end = end.min(at.saturating_add(MOST));
            reserve::reserve_range(sb, inode, ext, at, end)?;
            let answer = stage(sb, inode, ext, key, at, end);
            if answer.is_err() {
                // C-BEGIN-FAIL: nobody else has seen the reservation.
                reserve::drop_locked(inode, ext, at, end);
            }
            answer
        }
    }
}

/// Answers for block `at` of an atomic write: everything goes out of place, so that one transaction
/// can put it there (C-DIO-ATOMIC). As [`begin_locked`]; also `EAGAIN` when somebody else writes to
/// the blocks that are staged already.
fn begin_atomic(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    key: usize,
    at: u64,
    end: u64,
) -> Result<DirectWriteMap> {
    if let Some(e) = ext.staging.find(at).and_then(|e| e.clip(at, end)) {
        match e.state {
            State::Claimed(_) => return Err(EAGAIN),
            State::Reserved => return stage(sb, inode, ext, key, at, end),
            // The blocks are replaced, not converted.
            State::Convert => reserve::drop_locked(inode, ext, at, e.end),
        }
    }
    let end = end.min(ext.staging.next_start(at));
    reserve::reserve_range(sb, inode, ext, at, end)?;
    let answer = stage(sb, inode, ext, key, at, end);
    if answer.is_err() {
        reserve::drop_locked(inode, ext, at, end);
    }
    answer
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
        let map = if req.flags.has(Flags::ATOMIC) {
            if req.flags.has(Flags::NOWAIT) {
                return Err(EAGAIN);
            }
            sb.retry_enospc(|| {
                let mut ext = inode.data().ext.write();
                begin_atomic(sb, inode, &mut ext, iter.key(), at, end)
            })?
        } else if req.flags.has(Flags::NOWAIT) {
            without_waiting(sb, inode, at, end, only)?
        } else if only {
            overwrite(sb.reader(), inode, &inode.data().ext.read(), at, end)?
        } else {
            // Most direct writes overwrite: they need no more than a shared hold.
            let place = map::place(sb, inode, &inode.data().ext.read(), at, end)?;
            match place {
                Place::Overwrite(e) => DirectWriteMap::InPlace(map::run(sb, e)?),
                _ => sb.retry_enospc(|| {
                    let mut ext = inode.data().ext.write();
                    begin_locked(sb, inode, &mut ext, iter.key(), at, end)
                })?,
            }
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
        if ticket.submitted() >= done.len {
            return Ok(());
        }
        if let Some((fblk, run)) = cut_pin(inode, ticket) {
            reserve::unpin(inode, fblk, run, true);
        }
        Ok(())
    }
}

/// Takes what was not submitted out of the pin with this ticket.
fn cut_pin(inode: &Inode, ticket: &Ticket) -> Option<(u64, Run)> {
    let keep = ticket.submitted() >> inode.sb().data().block_shift();
    let mut ext = inode.data().ext.write();
    let pins = &mut ext.dio_pins;
    let i = pins
        .iter()
        .position(|p| core::ptr::eq(&*p.ticket, ticket))?;
    let pin = pins.get_mut(i)?;
    let rest = Run {
        start: pin.run.start.checked_add(keep)?,
        len: pin.run.len.checked_sub(keep).filter(|n| *n > 0)?,
    };
    let from = pin.fblk.saturating_add(keep);
    pin.run.len = keep;
    if keep == 0 {
        pins.remove(i);
    }
    Some((from, rest))
}

/// Takes the pins of the request, by file offset.
pub(super) fn take_pins(inode: &Inode, key: usize) -> FVec<DioPin> {
    let mut ext = inode.data().ext.write();
    let pins = &mut ext.dio_pins;
    let mut taken = FVec::new();
    while let Some(i) = pins.iter().position(|p| p.key == key) {
        nofail(|| taken.reserve(1));
        if let Some(pin) = pins.remove(i) {
            let _ = taken.push_within_capacity(pin);
        }
    }
    taken.sort_unstable_by_key(|p| p.fblk);
    taken
}

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
use super::sb::Sb;
use super::Calf;
use crate::algo::extent;
use crate::algo::staging::State;
use crate::algo::store::NodeRead;
use crate::format::node::{self, NodeId};
use crate::kapi::iomap::{
    table, Answer, DirectWriteMap, Done, Flags, IomapOps, Iter, OpsRef, ReadMap, Request,
};
use kernel::prelude::*;

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

/// Staged blocks that a direct write has pinned. Kept in the inode, under its extent lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DioPin {
    /// The request.
    pub key: usize,
    /// First file block.
    pub fblk: u64,
    /// The blocks on the device.
    pub run: Run,
}

impl DioPin {
    /// One past the last file block.
    pub(crate) fn end(&self) -> u64 {
        self.fblk.saturating_add(self.run.len)
    }
}

/// Read access to tree nodes that are in memory, for callers that must not wait (U2): `EAGAIN`
/// otherwise.
struct Cached<'a>(&'a Sb);

impl NodeRead for Cached<'_> {
    type Error = Error;

    fn block_size(&self) -> usize {
        self.0.block_size() as usize
    }

    fn uuid(&self) -> &[u8; 16] {
        self.0.geo().uuid()
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let bh = self.0.dev().find(id.block).filter(|bh| bh.is_verified());
        let bh = bh.ok_or(EAGAIN)?;
        if node::verify_identity(bh.data(), &id, self.0.geo().uuid()).is_err() {
            // Whoever may wait reports it.
            return Err(EAGAIN);
        }
        Ok(f(bh.data()))
    }
}

/// Looks block `at` up without waiting.
fn old_at_nowait(sb: &Sb, inode: &Inode, ext: &InodeExt, at: u64) -> Result<Old> {
    let found = extent::lookup(&ext.tree(inode), &Cached(sb), at)?;
    map::old_from(sb, found, at)
}

#[vtable]
impl IomapOps for DirectRead {
    type Fs = Calf;
    type Map = ReadMap;

    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<ReadMap>> {
        let sb = inode.sb().data();
        sb.check_readable()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        let nowait = req.flags.has(Flags::NOWAIT);
        let (ext, old) = if nowait {
            let ext = inode.data().ext.try_read().ok_or(EAGAIN)?;
            let old = old_at_nowait(sb, inode, &ext, at)?;
            if old.end() < end {
                // All of the request or nothing (C-DIO-NOWAIT).
                return Err(EAGAIN);
            }
            (ext, old)
        } else {
            let ext = inode.data().ext.read();
            let old = map::old_at(sb, inode, &ext, at)?;
            (ext, old)
        };
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
/// (C-DIO-OVERWRITE-ONLY, C-DIO-NOWAIT).
fn overwrite(sb: &Sb, inode: &Inode, at: u64, end: u64, nowait: bool) -> Result<DirectWriteMap> {
    let ext = if nowait {
        inode.data().ext.try_read().ok_or(EAGAIN)?
    } else {
        inode.data().ext.read()
    };
    if nowait {
        let staged = ext.staging.next_data(at).is_some_and(|e| e.start < end);
        // Asking whether a block is shared may wait.
        if staged || ext.may_share() || sb.opts().always_cow {
            return Err(EAGAIN);
        }
        return match old_at_nowait(sb, inode, &ext, at)? {
            Old::Written(e) if e.end() >= end => Ok(DirectWriteMap::InPlace(map::run(
                sb,
                map::clip(e, at, end),
            )?)),
            _ => Err(EAGAIN),
        };
    }
    match map::place(sb, inode, &ext, at, end)? {
        Place::Overwrite(e) if e.end() >= end => Ok(DirectWriteMap::InPlace(map::run(sb, e)?)),
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
    let pin = DioPin { key, fblk: at, run };
    // Room was made above.
    if ext.dio_pins.push_within_capacity(pin).is_err() {
        return Err(ENOMEM);
    }
    sb.alloc().pin(run);
    Ok(DirectWriteMap::Staged(mapped))
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

#[vtable]
impl IomapOps for DirectWrite {
    type Fs = Calf;
    type Map = DirectWriteMap;

    fn begin(inode: &Inode, req: Request, iter: Iter<'_>) -> Result<Answer<DirectWriteMap>> {
        let sb = inode.sb().data();
        sb.check_shutdown()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        let nowait = req.flags.has(Flags::NOWAIT);
        let map = if nowait || req.flags.has(Flags::OVERWRITE_ONLY) {
            overwrite(sb, inode, at, end, nowait)?
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

    /// Unpins what was not submitted.
    fn end(inode: &Inode, done: Done<'_>) -> Result {
        if !done.is_staged() || done.written >= done.len {
            return Ok(());
        }
        let sb = inode.sb().data();
        let from = done.pos.saturating_add(done.written);
        let (_, from) = map::blocks(sb, done.pos, from);
        while let Some(pin) = cut_pin(inode, done.key(), from) {
            reserve::unpin(inode, pin.fblk, pin.run, true);
        }
        Ok(())
    }
}

/// Takes the part from file block `from` on out of one of the request's pins.
fn cut_pin(inode: &Inode, key: usize, from: u64) -> Option<DioPin> {
    let mut ext = inode.data().ext.write();
    let pins = &mut ext.dio_pins;
    let i = pins.iter().position(|p| p.key == key && p.end() > from)?;
    let pin = *pins.get(i)?;
    if pin.fblk >= from {
        return pins.remove(i);
    }
    let keep = from - pin.fblk;
    pins.get_mut(i)?.run.len = keep;
    Some(DioPin {
        key,
        fblk: from,
        run: Run {
            start: pin.run.start.checked_add(keep)?,
            len: pin.run.len - keep,
        },
    })
}

/// Takes the request's first pin, by file offset.
pub(super) fn take_pin(inode: &Inode, key: usize) -> Option<DioPin> {
    let mut ext = inode.data().ext.write();
    let pins = &mut ext.dio_pins;
    let first = pins
        .iter()
        .enumerate()
        .filter(|(_, p)| p.key == key)
        .min_by_key(|(_, p)| p.fblk)?
        .0;
    pins.remove(first)
}

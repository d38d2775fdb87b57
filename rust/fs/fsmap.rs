// SPDX-License-Identifier: GPL-2.0

//! `FS_IOC_GETFSMAP`: who owns which part of the device.
//!
//! There is no reverse map, so what is in use is *unknown*, as in XFS without one; beside that
//! there is free space, and the fixed areas, which are *metadata*. What the allocator has promised to
//! somebody in memory is in use (C13).

use super::sb::Sb;
use crate::format::types::BlockNr;
use crate::kapi::memalloc::{cond_resched, fatal_signal_pending};
use core::ops::ControlFlow;
use kernel::error::code::EINTR;
use kernel::prelude::*;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FMR_OF_SPECIAL_OWNER`: the owner is one of those below.
const SPECIAL_OWNER: u32 = 0x10;
/// `FMR_OF_EXTENT_MAP`.
const EXTENT_MAP: u32 = 0x4;
/// `FMR_OF_LAST`: nothing follows.
pub(crate) const LAST: u32 = 0x20;
/// `FMR_OWN_FREE`.
const FREE: u64 = 1;
/// `FMR_OWN_UNKNOWN`.
const UNKNOWN: u64 = 2;
/// `FMR_OWN_METADATA`.
const METADATA: u64 = 3;
/// `FMH_OF_DEV_T`: devices are device numbers.
const DEV_T: u32 = 1;

/// `struct fsmap`: a part of the device, or a key; bytes.
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Fsmap {
    device: u32,
    /// `FMR_OF_*`.
    pub flags: u32,
    physical: u64,
    owner: u64,
    offset: u64,
    length: u64,
    reserved: [u64; 3],
}

/// `struct fsmap_head`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct FsmapHead {
    iflags: u32,
    oflags: u32,
    /// Records that the caller has room for; 0 asks for their number only.
    pub count: u32,
    /// Records that there were.
    pub entries: u32,
    reserved: [u64; 6],
    keys: [Fsmap; 2],
}

/// A range of bytes of the device with one owner.
struct Part {
    start: u64,
    end: u64,
    owner: u64,
}

/// Answers a request: calls `emit` for the records in order, and sets `entries`. Returns whether all
/// were emitted; it ends early after `count` of them, or when `emit` says so.
///
/// Errors: `EINVAL` for keys that make no sense, `EINTR` when the task is killed, `EIO`. With no lock
/// held; `emit` may touch user memory.
pub(crate) fn getfsmap(
    sb: &Sb,
    head: &mut FsmapHead,
    mut emit: impl FnMut(Fsmap) -> Result,
) -> Result<bool> {
    let device = sb.dev().bdev().encoded_number();
    let [low, high] = head.keys;
    check(head, device)?;
    head.oflags = DEV_T;
    head.entries = 0;
    if low.device > device || high.device < device {
        return Ok(true);
    }
    // A key of another device stands for all of this one.
    let (mut start, mut again) = (0, false);
    if low.device == device {
        start = low.physical.saturating_add(low.length);
        again = low.length > 0;
    }
    let bytes = sb.geo().blocks() << sb.block_shift();
    let mut end = bytes;
    if high.device == device {
        end = bytes.min(high.physical.saturating_add(1));
    }
    let most = if head.count == 0 {
        u32::MAX
    } else {
        head.count
    };
    let all = each_part(sb, start, end, |part| {
        // What is free or fixed is reported whole, unless it was reported before.
        let mut from = part.start;
        let mut to = part.end;
        if part.owner == UNKNOWN {
            (from, to) = (from.max(start), to.min(end));
        } else if again && from < start {
            return Ok(ControlFlow::Continue(()));
        }
        if head.entries == most {
            return Ok(ControlFlow::Break(()));
        }
        head.entries += 1;
        if head.count > 0 {
            emit(Fsmap {
                device,
                flags: SPECIAL_OWNER,
                physical: from,
                owner: part.owner,
                length: to - from,
                ..Fsmap::default()
            })?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

/// The rules of XFS for keys, where they mean something without a reverse map.
fn check(head: &FsmapHead, device: u32) -> Result {
    let [low, high] = &head.keys;
    let known = |d: u32| d == 0 || d == u32::MAX || d == device;
    if head.reserved != [0; 6]
        || low.reserved != [0; 3]
        || high.reserved != [0; 3]
        || head.iflags != 0
    {
        return Err(EINVAL);
    }
    if !known(low.device) || !known(high.device) {
        return Err(EINVAL);
    }
    // An owner that is no inode has no offsets.
    let special = |k: &Fsmap| k.flags & (SPECIAL_OWNER | EXTENT_MAP) != 0;
    if special(low) && low.offset != 0 {
        return Err(EINVAL);
    }
    if high.flags != u32::MAX && special(high) && ![0, u64::MAX].contains(&high.offset) {
        return Err(EINVAL);
    }
    for key in [low, high] {
        let owners = [0, FREE, UNKNOWN, METADATA, u64::MAX];
        if key.flags & SPECIAL_OWNER != 0 && !owners.contains(&key.owner) {
            return Err(EINVAL);
        }
    }
    let place = |k: &Fsmap| (k.device, k.physical, k.owner, k.offset);
    if ![0, u64::MAX].contains(&high.length) || place(low) >= place(high) {
        return Err(EINVAL);
    }
    Ok(())
}

/// Calls `f` for the parts of the device that overlap bytes `[start, end)`, whole, in order, until it
/// breaks. Returns whether it went through.
fn each_part(
    sb: &Sb,
    start: u64,
    end: u64,
    mut f: impl FnMut(Part) -> Result<ControlFlow<()>>,
) -> Result<bool> {
    let (geo, shift) = (sb.geo(), sb.block_shift());
    if start >= end {
        return Ok(true);
    }
    // Parts do not reach over the edges of groups, as every group starts with a fixed one.
    let (mut at, _) = geo.group_range(geo.group_of(BlockNr::new(start >> shift)));
    let blocks = geo.blocks();
    while at.get() < blocks && at.get() << shift < end {
        if fatal_signal_pending() {
            return Err(EINTR);
        }
        cond_resched();
        let (len, owner) = match geo.fixed_run(at) {
            (len, true) => (len, METADATA),
            (len, false) => {
                let run = sb.alloc().run_at(at.get(), at.get().saturating_add(len));
                match run.map_err(|e| e.report(sb))? {
                    (len, true) => (len, FREE),
                    (len, false) => (len, UNKNOWN),
                }
            }
        };
        let next = at.get().saturating_add(len.max(1));
        let part = Part {
            start: at.get() << shift,
            end: next << shift,
            owner,
        };
        at = BlockNr::new(next);
        if part.end > start && f(part)?.is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}

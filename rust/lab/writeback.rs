// SPDX-License-Identifier: GPL-2.0

//! Seed 001: writeback that looks a claim up, lets the extent lock go, and on its return goes on
//! with what it remembers.
//!
//! XFS found a copy-on-write extent, took the lock again to convert it, saw that a direct write had
//! moved it to the file meanwhile, and started over with the old answer in its variables: a lookup in
//! a staging map that is empty from there on does not overwrite them. So the second try failed like
//! the first, and the folio was thrown away. A later staged extent, as speculative preallocation makes
//! them, hides the bug: then the lookup does overwrite them.

use super::gates::{pass, Gate};
use super::switches::Switch;
use crate::algo::extent::Extent;
use crate::algo::staging::State;
use crate::fs::{map, reserve, Inode, Sb};
use crate::kapi::iomap::WritebackMap;
use kernel::prelude::*;

/// Where the dirty blocks `[at, end)` go for which nobody has made a reservation, over `source` or a
/// hole, in a filesystem that does not look after them at the last moment as calf does (C6): data
/// over a hole is dropped, shared blocks are written in place. Without this, calf would heal the bugs
/// of seed 003 and of zeroing in place.
pub(crate) fn unreserved(
    sb: &Sb,
    at: u64,
    end: u64,
    source: Option<Extent>,
) -> Result<Option<WritebackMap>> {
    let bugs = sb.opts().bugs;
    let drops = [
        Switch::PunchNolock,
        Switch::PunchNolockLegacy,
        Switch::DiscardOffbyone,
    ];
    let drops = drops.iter().any(|s| bugs.has(*s));
    Ok(match source {
        None if drops => Some(WritebackMap::Hole(map::span(sb, at, end)?)),
        Some(e) if bugs.has(Switch::ZeroInplaceShared) => {
            Some(WritebackMap::InPlace(map::run(sb, e)?))
        }
        _ => None,
    })
}

/// One past the last block that the completion of I/O to blocks `[start, end)` maps: with
/// `end_cow_remaps_unwritten` all that was claimed with them, written or not.
pub(crate) fn claimed_beside(sb: &Sb, inode: &Inode, start: u64, end: u64) -> u64 {
    if !sb.opts().bugs.has(Switch::EndCowRemapsUnwritten) {
        return end;
    }
    let ext = inode.data().ext.read();
    ext.staging.find(start).map_or(end, |e| e.end.max(end))
}

/// Writeback of the range at block `at` has failed: with `discard_offbyone` all that is reserved from
/// there on in one piece goes, which may be more than the folio.
pub(crate) fn failed(sb: &Sb, inode: &Inode, at: u64) {
    if sb.opts().bugs.has(Switch::DiscardOffbyone) {
        let end = inode.data().ext.read().staging.find(at).map(|e| e.end);
        reserve::release_reserved(inode, at, end.unwrap_or(at));
    }
}

/// Comes before the lookup of block `at`, with the folio locked and no extent lock held.
pub(crate) fn before_lookup(sb: &Sb, inode: &Inode, at: u64) -> Result {
    if !sb.opts().bugs.has(Switch::WbRetryStale) {
        return pass(inode, Gate::WbLookup);
    }
    let claimed = {
        let ext = inode.data().ext.read();
        let found = ext.staging.find(at);
        found.is_some_and(|e| matches!(e.state, State::Claimed(_)))
    };
    pass(inode, Gate::WbLookup)?;
    let ext = inode.data().ext.read();
    if !claimed || ext.staging.find(at).is_some() || ext.staging.next_data(at).is_some() {
        return Ok(());
    }
    Err(EAGAIN)
}

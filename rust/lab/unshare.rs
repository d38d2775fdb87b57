// SPDX-License-Identifier: GPL-2.0

//! Seed 000: what unshare answers for a hole when a switch is on.
//!
//! In 2021 XFS answered for a hole with a shared reservation and no source, the core took the
//! destination for its own source, wanted to zero it, and refused that under unshare: a warning and
//! `EIO`. The core of 7.3 skips such a mapping, so the variants err in other ways to show what a
//! false source does today.

use super::switches::Switch;
use crate::algo::staging::{Entry, State};
use crate::fs::begin_unshare::UNSHARE;
use crate::fs::begin_write::WRITE_OPS;
use crate::fs::inode::{Inode, InodeExt};
use crate::fs::{map, reserve, Sb};
use crate::kapi::iomap::lab::{DELALLOC, MAPPED, NEW, NULL_ADDR, SHARED};
use crate::kapi::iomap::{file_unshare, InvalidateHeld, LabMap, LabSide};
use kernel::prelude::*;

/// The variants.
const SWITCHES: [Switch; 4] = [
    Switch::UnshareSrcmapAliasNew,
    Switch::UnshareSrcmapAlias,
    Switch::UnshareSrcmapNulladdr,
    Switch::UnshareHoleReserve,
];

/// The wrong answer for block `at` of a hole that ends at `end`, if a switch asks for one.
/// The extent lock is held exclusively.
pub(crate) fn hole(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    at: u64,
    end: u64,
) -> Result<Option<LabMap>> {
    let bugs = sb.opts().bugs;
    let Some(switch) = SWITCHES.into_iter().find(|s| bugs.has(*s)) else {
        return Ok(None);
    };
    let span = map::span(sb, at, end)?;
    let found = ext.staging.find(at).filter(Entry::is_data);
    let new = if found.is_none() {
        reserve::reserve_range(sb, inode, ext, at, end)?;
        NEW
    } else {
        0
    };
    let side = |ty, flags, addr| LabSide {
        ty,
        flags,
        addr,
        offset: span.start(),
        length: span.len(),
    };
    let dst = side(DELALLOC, SHARED | new, NULL_ADDR);
    let src = match switch {
        Switch::UnshareSrcmapNulladdr => Some(side(MAPPED, 0, NULL_ADDR)),
        Switch::UnshareSrcmapAlias => Some(side(MAPPED, 0, own_address(sb, inode, ext, at)?)),
        Switch::UnshareSrcmapAliasNew => Some(side(MAPPED, NEW, own_address(sb, inode, ext, at)?)),
        _ => None,
    };
    Ok(Some(LabMap { dst, src }))
}

/// Variant 5: unshare with neither `i_rwsem` nor `invalidate_lock`.
pub(crate) fn without_locks(inode: &Inode, pos: u64, len: u64) -> Result {
    let end = pos.saturating_add(len).min(inode.size());
    if pos >= end {
        return Ok(());
    }
    let nobody = InvalidateHeld::by_nobody(inode);
    file_unshare(&nobody, pos, end - pos, UNSHARE, WRITE_OPS)?;
    inode.write_and_wait(pos, end - 1)
}

/// Chooses blocks for the reservation at `at` and returns their address: what the filesystem would
/// find if it looked its own staging up as a source.
fn own_address(sb: &Sb, inode: &Inode, ext: &mut InodeExt, at: u64) -> Result<u64> {
    let phys = match ext.staging.find(at).ok_or(EIO)?.state {
        State::Claimed(_) => ext
            .staging
            .find(at)
            .and_then(|e| e.phys_at(at))
            .ok_or(EIO)?,
        _ => reserve::claim(sb, inode, ext, at, at + 1)?.0,
    };
    Ok(phys.get() << sb.block_shift())
}

// SPDX-License-Identifier: GPL-2.0

//! Mappings for `FALLOC_FL_UNSHARE_RANGE`.
//!
//! Only written and shared blocks are copied. Over anything else nothing is reserved: the core
//! skips it, and a reservation made here would never be dirtied nor taken back
//! (C-UNSHARE-HOLE-NORESV). The bug of 2021 was to answer for a hole with a shared map that had no
//! source; [`UnshareMap`] has no way to say that (C-SHARED-SRC).

use super::begin_write::release_unwritten;
use super::inode::{Inode, InodeExt};
use super::map::{self, Old};
use super::reserve::{self, ReservedToken};
use super::sb::Sb;
use super::Calf;
use crate::algo::staging::Entry;
use crate::kapi::iomap::{
    table, Answer, Done, IomapOps, Iter, OpsRef, Request, Reservation, UnshareMap,
};
use kernel::prelude::*;

/// Unsharing.
pub(crate) struct Unshare;

/// The table of unsharing.
pub(crate) const UNSHARE: OpsRef<Calf> = table::<Unshare>();

type Map = UnshareMap<ReservedToken>;

/// Most blocks that one begin reserves.
const MOST: u64 = 1024;

/// Answers for block `at`. The extent lock is held exclusively.
fn begin_locked(sb: &Sb, inode: &Inode, ext: &mut InodeExt, at: u64, end: u64) -> Result<Map> {
    let e = match map::old_at(sb, inode, ext, at)? {
        Old::Hole { end: to } => {
            #[cfg(calf_lab)]
            if let Some(lab) = crate::lab::unshare::hole(sb, inode, ext, at, end.min(to))? {
                return Ok(UnshareMap::Lab(lab));
            }
            return Ok(UnshareMap::Skip(map::span(sb, at, to)?));
        }
        Old::Unwritten(e) => return Ok(UnshareMap::Skip(map::span(sb, at, e.end())?)),
        Old::Written(e) => e,
    };
    if let Some(entry) = ext.staging.find(at).filter(Entry::is_data) {
        let e = map::clip(e, at, entry.end.min(end));
        return Ok(UnshareMap::Staged {
            to: Reservation::Found(map::span(sb, at, e.end())?),
            source: map::run(sb, e)?,
        });
    }
    let e = map::clip(e, at, ext.staging.next_start(at));
    let (shared, run) = map::shared_run(sb, ext, e.phys, e.len)?;
    let e = map::clip(e, at, at.saturating_add(run));
    if !shared {
        return Ok(UnshareMap::Unshared(map::run(sb, e)?));
    }
    let e = map::clip(e, at, end.min(at.saturating_add(MOST)));
    let source = map::run(sb, e)?;
    Ok(UnshareMap::Staged {
        to: Reservation::New(reserve::reserve_range(sb, inode, ext, at, e.end())?),
        source,
    })
}

#[vtable]
impl IomapOps for Unshare {
    type Fs = Calf;
    type Map = Map;

    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<Map>> {
        let sb = inode.sb().data();
        sb.check_shutdown()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        gate!(inode, UnshareBegin);
        sb.retry_enospc(|| {
            let mut ext = inode.data().ext.write();
            let map = begin_locked(sb, inode, &mut ext, at, end)?;
            Ok(Answer::new(map, inode.data().cookie()))
        })
    }

    fn end(inode: &Inode, done: Done<'_>) -> Result {
        release_unwritten(inode, &done)
    }
}

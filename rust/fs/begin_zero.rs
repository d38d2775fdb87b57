// SPDX-License-Identifier: GPL-2.0

//! Mappings for zeroing: `iomap_zero_range`, `iomap_truncate_page`.
//!
//! The caller holds `i_rwsem` and `invalidate_lock` exclusively. ZERO comes without WRITE, yet
//! written data that is shared must go out of place (C-ZERO-FLAGS).

use super::begin_write::release_unwritten;
use super::inode::{Inode, InodeExt};
use super::map::{self, Old};
use super::reserve::{self, ReservedToken};
use super::sb::Sb;
use super::Calf;
use crate::algo::staging::Entry;
use crate::kapi::iomap::{
    table, Answer, Done, FolioBatch, IomapOps, Iter, OpsRef, Request, Reservation, ZeroMap,
};
use kernel::prelude::*;

/// Zeroing.
pub(crate) struct Zero;

/// The table of zeroing.
pub(crate) const ZERO: OpsRef<Calf> = table::<Zero>();

type Map = ZeroMap<ReservedToken>;

/// Collects the dirty folios over blocks `[at, end)`. Returns up to which block the search went.
fn dirty(sb: &Sb, iter: &mut Iter<'_>, at: u64, end: u64) -> Result<(u64, Option<FolioBatch>)> {
    let span = map::span(sb, at, end)?;
    let (progress, batch) = iter.fill_dirty_folios(span.start(), span.end());
    let to = progress.div_ceil(sb.block_size()).clamp(at + 1, end);
    Ok((to, batch))
}

/// Answers for block `at`. The extent lock is held exclusively.
fn begin_locked(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    iter: &mut Iter<'_>,
    at: u64,
    end: u64,
) -> Result<Map> {
    let old = map::old_at(sb, inode, ext, at)?;
    // Up to where the staged range ends, or the next begins, of whatever kind: a search for the next one
    // with data would look at every preallocated block that is dirty, in every begin.
    let (staged, next) = ext.staging.around(at);
    let limit = staged.map_or(next, |e| e.end);
    let entry = staged.filter(Entry::is_data);
    // No block past the one that holds EOF needs zeroing, ever: there is no written data, and
    // folios there are not written back (C-ZERO-POSTEOF).
    let eof = inode.size().div_ceil(sb.block_size());
    let to = limit.min(old.end());
    if at >= eof {
        #[cfg(calf_lab)]
        if let Some(map) = crate::lab::zero::past_eof(sb, inode, ext, at, to.min(end))? {
            return Ok(ZeroMap::Lab(map));
        }
        return Ok(ZeroMap::Hole(map::span(sb, at, to)?));
    }
    let to = to.min(eof).min(end.max(at + 1));
    match (old, entry) {
        (Old::Written(e), Some(_)) => Ok(ZeroMap::StagedOver {
            to: Reservation::Found(map::span(sb, at, to)?),
            source: map::run(sb, map::clip(e, at, to))?,
        }),
        (Old::Written(e), None) => {
            let e = map::clip(e, at, to);
            let (shared, run) = if sb.opts().always_cow {
                (true, e.len)
            } else {
                map::cow_run(sb, ext, e.phys, e.len)?
            };
            let e = map::clip(e, at, at.saturating_add(run));
            let source = map::run(sb, e)?;
            if !shared || bug!(sb, ZeroInplaceShared) {
                return Ok(ZeroMap::InPlace(source));
            }
            Ok(ZeroMap::StagedOver {
                to: Reservation::New(reserve::reserve_to_zero(sb, inode, ext, at, e.end())?),
                source,
            })
        }
        // C4: all fresh data is staged over a hole. Only its dirty (or under writeback) folios
        // need zeroing; without any, the blocks read as zeros already.
        (Old::Hole { .. } | Old::Unwritten(_), Some(_)) if bug!(sb, ZeroHoleIgnoresCow) => {
            Ok(ZeroMap::Hole(map::span(sb, at, to)?))
        }
        (Old::Hole { .. } | Old::Unwritten(_), Some(_)) => {
            let (to, batch) = dirty(sb, iter, at, to)?;
            let span = map::span(sb, at, to)?;
            Ok(match batch {
                Some(batch) => ZeroMap::StagedDirty { span, batch },
                None => ZeroMap::Hole(span),
            })
        }
        (Old::Unwritten(_), None) if bug!(sb, ZeroUnwrittenTrustsMap) => {
            Ok(ZeroMap::Hole(map::span(sb, at, to)?))
        }
        (Old::Hole { .. }, None) => Ok(ZeroMap::Hole(map::span(sb, at, to)?)),
        (Old::Unwritten(e), None) => {
            let (to, batch) = dirty(sb, iter, at, to)?;
            Ok(match batch {
                Some(batch) => ZeroMap::Unwritten {
                    run: map::run(sb, map::clip(e, at, to))?,
                    batch: Some(batch),
                },
                // No dirty folio: on disk it is zero. Saying so spares the core a flush.
                None => ZeroMap::Hole(map::span(sb, at, to)?),
            })
        }
    }
}

#[vtable]
impl IomapOps for Zero {
    type Fs = Calf;
    type Map = Map;

    fn begin(inode: &Inode, req: Request, mut iter: Iter<'_>) -> Result<Answer<Map>> {
        let sb = inode.sb().data();
        sb.check_shutdown()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        sb.retry_enospc(|| {
            let mut ext = inode.data().ext.write();
            let map = begin_locked(sb, inode, &mut ext, &mut iter, at, end)?;
            Ok(Answer::new(map, inode.data().cookie()))
        })
    }

    fn end(inode: &Inode, done: Done<'_>) -> Result {
        release_unwritten(inode, &done)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Mappings for page cache writes: buffered writes and write faults.
//!
//! Begin makes space certain; no transaction is started, no block is chosen. To the page cache
//! everything staged is a reservation without an address (C3). The extent lock is not held on
//! return (C-NO-LOCK-ACROSS): the cookie, sampled under it, tells whether the mapping still holds.

use super::begin_direct::adopt;
use super::inode::{Inode, InodeExt};
use super::map::{self, Place};
use super::reader::NodeReader;
use super::reserve::{self, ReservedToken};
use super::Calf;
use crate::kapi::iomap::{
    delalloc_release, table, write_table, Answer, Done, Flags, InvalidateHeld, IomapOps,
    IomapWriteOps, Iter, OpsRef, Punch, Request, Reservation, Source, WriteMap, WriteOpsRef,
};
use kernel::prelude::*;

/// Most bytes that one begin reserves; the rest of a long write comes with the next begin.
const MOST: u64 = 4 << 20;

/// Buffered writes.
pub(crate) struct Write;

/// Write faults.
pub(crate) struct Fault;

/// Cookie checks of all page cache operations.
pub(crate) struct Valid;

/// The table of buffered writes.
pub(crate) const WRITE: OpsRef<Calf> = table::<Write>();
/// The table of write faults.
pub(crate) const FAULT: OpsRef<Calf> = table::<Fault>();
/// The table of page cache callbacks.
pub(crate) const WRITE_OPS: WriteOpsRef<Calf> = write_table::<Valid>();

type Map = WriteMap<ReservedToken>;

/// Reserves what block `at` needs and answers for it. The extent lock is held exclusively.
fn begin_locked(
    reader: NodeReader<'_>,
    inode: &Inode,
    ext: &mut InodeExt,
    at: u64,
    end: u64,
) -> Result<Map> {
    let sb = reader.sb();
    let source = |s| -> Result<Source> {
        Ok(match s {
            Some(e) if !bug!(sb, NoSrcmap) => Source::Mapped(map::run(sb, e)?),
            _ => Source::None,
        })
    };
    Ok(match map::place_by(reader, inode, ext, at, end)? {
        Place::Staged { entry, source: s } => {
            adopt(ext, at, entry.end);
            WriteMap::Staged {
                to: Reservation::Found(map::span(sb, at, entry.end)?),
                source: source(s)?,
            }
        }
        Place::MustReserve { end, source: s } => {
            let source = source(s)?;
            WriteMap::Staged {
                to: Reservation::New(reserve::reserve_range(sb, inode, ext, at, end)?),
                source,
            }
        }
        Place::Overwrite(e) => WriteMap::InPlace(map::run(sb, e)?),
        Place::Unwritten { extent, staged } => {
            let run = map::run(sb, extent)?;
            if staged {
                adopt(ext, at, extent.end());
            } else {
                reserve::reserve_convert(sb, inode, ext, extent.fblk, extent.end())?;
            }
            WriteMap::Unwritten(run)
        }
    })
}

#[vtable]
impl IomapOps for Write {
    type Fs = Calf;
    type Map = Map;

    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<Map>> {
        let sb = inode.sb().data();
        sb.check_shutdown()?;
        let (at, end) = map::blocks(sb, req.pos, req.pos.saturating_add(req.len.min(MOST)));
        if req.flags.has(Flags::NOWAIT) {
            // C-NOWAIT-BUF. Only who may wait can tell that there is no space (B4).
            let mut ext = inode.data().ext.try_write().ok_or(EAGAIN)?;
            return match begin_locked(sb.reader_nowait(), inode, &mut ext, at, end) {
                Ok(map) => Ok(Answer::new(map, inode.data().cookie())),
                Err(ENOSPC) => Err(EAGAIN),
                Err(e) => Err(e),
            };
        }
        sb.retry_enospc(|| {
            let mut ext = inode.data().ext.write();
            let map = begin_locked(sb.reader(), inode, &mut ext, at, end)?;
            Ok(Answer::new(map, inode.data().cookie()))
        })
    }

    fn end(inode: &Inode, done: Done<'_>) -> Result {
        release_unwritten(inode, &done)
    }
}

#[vtable]
impl IomapOps for Fault {
    type Fs = Calf;
    type Map = Map;

    /// The first call reserves all that the fault asks for or fails: the core marks the whole folio
    /// dirty after it (C-MKWRITE-RESV, C6). The folio is locked, so no folio lock, no flush here
    /// (C-MKWRITE-LOCK); waiting for a commit is fine, it never needs the folio (B4).
    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<Map>> {
        let sb = inode.sb().data();
        sb.check_shutdown()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        sb.retry_enospc(|| {
            let mut ext = inode.data().ext.write();
            if bug!(sb, MkwriteNoReserve) {
                let map = WriteMap::Staged {
                    to: Reservation::Found(map::span(sb, at, end)?),
                    source: Source::None,
                };
                return Ok(Answer::new(map, inode.data().cookie()));
            }
            reserve::reserve_all(sb, inode, &mut ext, at, end)?;
            adopt(&mut ext, at, end);
            let map = begin_locked(sb.reader(), inode, &mut ext, at, end)?;
            Ok(Answer::new(map, inode.data().cookie()))
        })
    }
}

#[vtable]
impl IomapWriteOps for Valid {
    type Fs = Calf;

    fn iomap_valid(inode: &Inode, cookie: u64) -> bool {
        gate!(inode, IomapValid);
        let now = inode.data().cookie();
        let valid = now == cookie || bug!(inode.sb().data(), NoIomapValid);
        check!(validated(inode, cookie, now, valid));
        if !valid {
            inode.sb().data().counters().stale_hits.inc();
        }
        valid
    }
}

/// Takes back what this begin reserved and the operation did not make dirty (C-PUNCH-RANGE):
/// after a short copy, an error, or a stale mapping (C-STALE-END).
///
/// The page cache is not truncated (C-PUNCH-NOTRUNC); what others made dirty keeps its
/// reservation. `invalidate_lock` keeps faults out meanwhile (C-PUNCH-LOCK); zero and unshare
/// come with it held.
pub(crate) fn release_unwritten(inode: &Inode, done: &Done<'_>) -> Result {
    if !done.is_new_reservation() || done.flags.has(Flags::FAULT) {
        return Ok(());
    }
    let Some((start, end)) = done.unwritten_blocks(inode) else {
        return Ok(());
    };
    #[cfg(calf_lab)]
    if crate::lab::release::instead(inode, done, start, end) {
        return Ok(());
    }
    if done.flags.has(Flags::ZERO) || done.flags.has(Flags::UNSHARE) {
        let held = InvalidateHeld::by_caller(inode)?;
        delalloc_release::<Calf, Release>(&held, done, start, end);
    } else {
        let guard = inode.invalidate_lock();
        delalloc_release::<Calf, Release>(&InvalidateHeld::by(&guard), done, start, end);
    }
    Ok(())
}

/// Removes reservations.
pub(crate) struct Release;

impl Punch<Calf> for Release {
    fn punch(inode: &Inode, start: u64, len: u64) {
        gate!(inode, Punch);
        check!(punching(inode, start, len));
        let sb = inode.sb().data();
        // The core goes on behind a dirty folio at EOF, if that lies in it: the block there stays.
        let first = start.div_ceil(sb.block_size());
        let (_, end) = map::blocks(sb, start, start.saturating_add(len));
        if first < end {
            reserve::release_reserved(inode, first, end);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Writeback: which blocks a dirty range is written to.
//!
//! No transaction is started here: reserved blocks are claimed in memory and become part of the
//! file at completion. The claim is made, its address sampled and the blocks pinned under one hold
//! of the extent lock (C2), so nothing can move in between and no lookup has to be repeated
//! (C-WB-RELOOKUP).

use super::alloc::Run as Blocks;
use super::completion::Worker;
use super::inode::{Inode, InodeExt};
use super::map::{self, Place};
use super::reserve;
use super::sb::Sb;
use super::Calf;
use crate::algo::extent::Extent;
use crate::algo::staging::State;
use crate::format::types::BlockNr;
use crate::kapi::folio::Folio;
use crate::kapi::iomap::{Span, WritebackMap};
use crate::kapi::iomap_writeback::{Ioend, IoendQueue, WritebackCtx, WritebackOps};
use crate::kapi::memalloc::nofail;
use crate::kapi::workqueue::Workqueue;
use kernel::prelude::*;

/// Writeback of calf files.
pub(crate) struct Writeback;

/// Most blocks that one claim takes.
const MOST: u64 = 1 << 15;

impl WritebackOps for Writeback {
    type Fs = Calf;
    type Worker = Worker;

    fn range(
        ctx: &mut WritebackCtx<'_, Calf>,
        folio: &Folio<Calf>,
        pos: u64,
        len: u32,
        end_pos: u64,
    ) -> Result<usize> {
        let result = write_range(ctx, folio, pos, len, end_pos);
        check!(wb_returned(ctx.inode(), pos, len, &result));
        result
    }

    /// Only an overwrite in place below the size on disk can end without a transaction (C10).
    fn needs_worker(ioend: &Ioend<Calf>) -> bool {
        ioend.is_staged()
            || ioend.is_unwritten()
            || ioend.offset() + ioend.size() > ioend.inode().data().ext.read().disk_size
    }

    fn queue(inode: &Inode) -> (&IoendQueue<Worker>, &Workqueue) {
        (
            inode.data().completion.queue(),
            inode.sb().data().completion_wq(),
        )
    }
}

/// Maps a range and adds it to the pending ioend: see [`WritebackOps::range`].
fn write_range(
    ctx: &mut WritebackCtx<'_, Calf>,
    folio: &Folio<Calf>,
    pos: u64,
    len: u32,
    end_pos: u64,
) -> Result<usize> {
    let inode = ctx.inode();
    let sb = inode.sb().data();
    sb.check_shutdown()?;
    let reuse = cached(ctx, inode, pos);
    let pinned = match reuse {
        true => None,
        false => map_range(ctx, inode, pos, len).inspect_err(|_| {
            ctx.clear_map();
            #[cfg(calf_lab)]
            crate::lab::writeback::failed(sb, inode, pos >> sb.block_shift());
        })?,
    };
    check!(wb_map(ctx, pos, len, reuse));
    let added = ctx.add_to_ioend(folio, pos, end_pos, len);
    gate!(inode, WbBetween);
    if let Some(run) = pinned {
        // Pinned is exactly what the I/O covers.
        let done = added.as_ref().map_or(0, |n| {
            u64::try_from(*n)
                .unwrap_or(u64::MAX)
                .div_ceil(sb.block_size())
        });
        if let Some(rest) = rest_of(run, done) {
            reserve::unpin(inode, (pos >> sb.block_shift()) + done, rest, false);
        }
    }
    added
}

/// The blocks of `run` after the first `done`.
fn rest_of(run: Blocks, done: u64) -> Option<Blocks> {
    let len = run.len.checked_sub(done).filter(|n| *n > 0)?;
    Some(Blocks {
        start: run.start.checked_add(done)?,
        len,
    })
}

/// Is the mapping of the previous range good for `pos`?
///
/// Both sequences are in the cookie (C-WB-REVALIDATE). A mapping of claimed blocks is looked up
/// again in any case, because its blocks must be pinned under the extent lock.
fn cached(ctx: &WritebackCtx<'_, Calf>, inode: &Inode, pos: u64) -> bool {
    let Some((map, cookie)) = ctx.cached() else {
        return false;
    };
    if bug!(inode.sb().data(), WbNoRevalidate) && matches!(map, WritebackMap::InPlace(_)) {
        return true;
    }
    let span: Span = match map {
        WritebackMap::InPlace(run) | WritebackMap::Unwritten(run) => run.span(),
        WritebackMap::Hole(_) | WritebackMap::Staged(_) => return false,
    };
    let covers = pos < span.end() || bug!(inode.sb().data(), WbMapEndBeforePos);
    span.start() <= pos && covers && cookie == inode.data().cookie()
}

/// Sets the mapping of `pos`. For claimed blocks returns those that were pinned for the range.
fn map_range(
    ctx: &mut WritebackCtx<'_, Calf>,
    inode: &Inode,
    pos: u64,
    len: u32,
) -> Result<Option<Blocks>> {
    let sb = inode.sb().data();
    let (at, end) = map::blocks(sb, pos, pos.saturating_add(u64::from(len)));
    #[cfg(calf_lab)]
    crate::lab::writeback::before_lookup(sb, inode, at)?;
    fault!(inode, WbMap)?;
    let mut ext = inode.data().ext.write();
    let map = decide(sb, inode, &mut ext, at, end)?;
    let mut pinned = None;
    if let WritebackMap::Staged(run) = map {
        let blocks = (run.span().len() >> sb.block_shift()).min(end - at);
        let run = Blocks {
            start: BlockNr::new(run.addr() >> sb.block_shift()),
            len: blocks,
        };
        sb.alloc().pin(run);
        pinned = Some(run);
    }
    #[cfg(calf_lab)]
    if bug!(sb, WbStaleFlags) {
        ctx.set_map_keep_flags(map, inode.data().cookie());
        return Ok(pinned);
    }
    ctx.set_map(map, inode.data().cookie());
    Ok(pinned)
}

/// Decides where block `at` goes; what must be reserved at the last moment is reserved up to `end`
/// only. The extent lock is held exclusively.
fn decide(sb: &Sb, inode: &Inode, ext: &mut InodeExt, at: u64, end: u64) -> Result<WritebackMap> {
    // A range that cannot be staged for want of memory would be a lost write (B3).
    nofail(|| ext.staging.make_room(8));
    match map::place(sb, inode, ext, at, at.saturating_add(MOST))? {
        Place::Staged { entry, .. } => {
            let (phys, n) = match entry.state {
                State::Claimed(phys) => (phys, entry.len()),
                _ => reserve::claim(sb, inode, ext, at, entry.end)?,
            };
            staged(sb, at, phys, n)
        }
        Place::MustReserve { end: to, source } => {
            // Nobody made space certain for this block (C6): now, or the write has failed.
            sb.counters().unreserved_writeback.inc();
            #[cfg(calf_lab)]
            if let Some(map) = crate::lab::writeback::unreserved(sb, at, to.min(end), source)? {
                return Ok(map);
            }
            let to = to.min(end);
            match (reserve::reserve_range(sb, inode, ext, at, to), source) {
                (Ok(_), _) => {}
                // Under always_cow, a block that is dirtied again under writeback loses its
                // reservation to the first write. Nobody shares it: as in XFS it is rather written
                // in place than not at all.
                (Err(e), Some(old)) => {
                    let own = map::unshared(sb, ext, old)?.ok_or(e)?;
                    return Ok(WritebackMap::InPlace(map::run(sb, own)?));
                }
                (Err(_), None) => return Ok(WritebackMap::Hole(map::span(sb, at, to)?)),
            }
            let (phys, n) = reserve::claim(sb, inode, ext, at, to)?;
            staged(sb, at, phys, n)
        }
        Place::Overwrite(e) => Ok(WritebackMap::InPlace(map::run(sb, e)?)),
        Place::Unwritten { extent, staged } => {
            if !staged {
                // Without a reservation the conversion may still find space in the pool.
                let to = extent.end().min(end);
                let _ = reserve::reserve_convert(sb, inode, ext, at, to);
            }
            Ok(WritebackMap::Unwritten(map::run(sb, extent)?))
        }
    }
}

fn staged(sb: &Sb, at: u64, phys: BlockNr, len: u64) -> Result<WritebackMap> {
    let e = Extent {
        fblk: at,
        phys,
        len,
        unwritten: false,
    };
    Ok(WritebackMap::Staged(map::run(sb, e)?))
}

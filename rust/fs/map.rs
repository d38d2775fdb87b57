// SPDX-License-Identifier: GPL-2.0

//! Where the data of a file block is, and where a write to it must go.
//!
//! The begin functions ask here, turn the answer into the mapping of their operation
//! ([`crate::kapi::iomap::map`]), and never look at an extent themselves.

use super::alloc;
use super::inode::{Inode, InodeExt};
use super::reader::NodeReader;
use super::sb::Sb;
use crate::algo::btree::Tree;
use crate::algo::extent::{self, Extent, Mapping};
use crate::algo::refcount;
use crate::algo::staging::Entry;
use crate::format::types::{BlockNr, Kind};
use crate::kapi::iomap::{Run, Span};
use kernel::prelude::*;

/// What the data map says of a file block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Old {
    /// Nothing up to (not including) block `end`.
    Hole {
        /// The next mapped block, `u64::MAX` if there is none.
        end: u64,
    },
    /// Written blocks, starting with the one asked for.
    Written(Extent),
    /// Preallocated blocks, starting with the one asked for.
    Unwritten(Extent),
}

impl Old {
    /// One past the last block that the answer holds for.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Hole { end } => *end,
            Self::Written(e) | Self::Unwritten(e) => e.end(),
        }
    }

    /// The written blocks, if that is what it is.
    pub(crate) fn written(&self) -> Option<Extent> {
        match self {
            Self::Written(e) => Some(*e),
            _ => None,
        }
    }
}

/// The part of `e` in `[start, end)`. The range overlaps the extent.
pub(crate) fn clip(e: Extent, start: u64, end: u64) -> Extent {
    let s = start.max(e.fblk);
    let skip = s.saturating_sub(e.fblk);
    Extent {
        fblk: s,
        phys: BlockNr::new(e.phys.get().saturating_add(skip)),
        len: e.end().min(end).saturating_sub(s),
        unwritten: e.unwritten,
    }
}

/// Looks block `fblk` up in the data map. The extent lock is held.
pub(crate) fn old_at(sb: &Sb, inode: &Inode, ext: &InodeExt, fblk: u64) -> Result<Old> {
    old_by(sb.reader(), inode, ext, fblk)
}

/// [`old_at`] with a reader that may or may not wait.
pub(crate) fn old_by(
    reader: NodeReader<'_>,
    inode: &Inode,
    ext: &InodeExt,
    fblk: u64,
) -> Result<Old> {
    let found = inode.data().last.lookup(ext, fblk, || {
        let around = extent::around(&ext.tree(inode), &reader, fblk)?;
        if let Some(e) = around.extent {
            check(reader.sb(), e)?;
        }
        Ok(around)
    })?;
    Ok(old_of(found, fblk))
}

/// [`old_at`] straight from the tree, for those who check.
#[cfg(calf_lab)]
pub(crate) fn old_in_tree(sb: &Sb, inode: &Inode, ext: &InodeExt, fblk: u64) -> Result<Old> {
    let found = extent::lookup(&ext.tree(inode), &sb.reader(), fblk)?;
    old_from(sb, found, fblk)
}

/// Checks the blocks of an extent (C11).
fn check(sb: &Sb, e: Extent) -> Result {
    sb.geo()
        .check_range(e.phys, e.len)
        .map_err(|what| sb.corrupted(super::sb::Place::Block(e.phys), what))
}

/// Makes an [`Old`] of the result of a lookup of `fblk`, and checks the blocks (C11).
pub(crate) fn old_from(sb: &Sb, found: Mapping, fblk: u64) -> Result<Old> {
    if let Mapping::Mapped(e) = found {
        check(sb, e)?;
    }
    Ok(old_of(found, fblk))
}

fn old_of(found: Mapping, fblk: u64) -> Old {
    match found {
        Mapping::Hole { len } => Old::Hole {
            end: fblk.saturating_add(len),
        },
        Mapping::Mapped(e) if e.unwritten => Old::Unwritten(clip(e, fblk, u64::MAX)),
        Mapping::Mapped(e) => Old::Written(clip(e, fblk, u64::MAX)),
    }
}

/// Are the blocks at `phys` shared? Returns the answer and for how many of `len` blocks it holds.
///
/// A file that never had shared blocks is not looked up (S1). The extent lock is held; takes the
/// refcount tree shared.
pub(crate) fn shared_run(sb: &Sb, ext: &InodeExt, phys: BlockNr, len: u64) -> Result<(bool, u64)> {
    shared_by(sb.reader(), ext, phys, len)
}

/// Must a write to the blocks at `phys` go elsewhere? They are shared, or will be again if there is a crash now
/// ([`Allocator::left_run`](super::alloc::Allocator::left_run)). Otherwise as [`shared_run`].
pub(crate) fn cow_run(sb: &Sb, ext: &InodeExt, phys: BlockNr, len: u64) -> Result<(bool, u64)> {
    cow_by(sb.reader(), ext, phys, len)
}

fn cow_by(reader: NodeReader<'_>, ext: &InodeExt, phys: BlockNr, len: u64) -> Result<(bool, u64)> {
    let sb = reader.sb();
    match shared_by(reader, ext, phys, len)? {
        // Also in a file that does not share blocks: it may have until now, and its own may have moved.
        (false, len) => Ok(sb.alloc().left_run(alloc::Run { start: phys, len })),
        shared => Ok(shared),
    }
}

fn shared_by(
    reader: NodeReader<'_>,
    ext: &InodeExt,
    phys: BlockNr,
    len: u64,
) -> Result<(bool, u64)> {
    if !ext.may_share() {
        return Ok((false, len));
    }
    let sb = reader.sb();
    let _tree = if reader.may_wait() {
        sb.refcount_lock().read()
    } else {
        sb.refcount_lock().try_read().ok_or(EAGAIN)?
    };
    let tree = Tree::global(Kind::Refcount, sb.geo().refcount_root());
    let (count, run) = refcount::lookup(&tree, &reader, phys, len)?;
    Ok((count > 1, run.max(1)))
}

/// The first blocks of `e`, if nobody shares them. Locks as [`shared_run`].
pub(crate) fn unshared(sb: &Sb, ext: &InodeExt, e: Extent) -> Result<Option<Extent>> {
    let (shared, run) = shared_run(sb, ext, e.phys, e.len)?;
    Ok((!shared).then(|| clip(e, e.fblk, e.fblk.saturating_add(run))))
}

/// Is data staged over block `at` of the hole `[at, end)`? Returns the answer and the end of the
/// part of the hole that it holds for.
pub(crate) fn staged_over_hole(ext: &InodeExt, at: u64, end: u64) -> (bool, u64) {
    match ext.staging.next(at) {
        Some(s) if s.start <= at => (true, end.min(s.end)),
        Some(s) => (false, end.min(s.start)),
        None => (false, end),
    }
}

/// Where a write to a file block goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// To data that is staged already. `entry` and `source` start with the block and are equally
    /// long; `source` is the written data below.
    Staged {
        /// The staged range.
        entry: Entry,
        /// What a partial write of a block must keep.
        source: Option<Extent>,
    },
    /// Out of place, and nothing is reserved for blocks up to `end`.
    MustReserve {
        /// One past the last block.
        end: u64,
        /// What a partial write of a block must keep.
        source: Option<Extent>,
    },
    /// Over written blocks that nobody shares.
    Overwrite(Extent),
    /// Into preallocated blocks; `staged` tells that the metadata of their conversion is reserved.
    Unwritten {
        /// The blocks.
        extent: Extent,
        /// Is there a staging entry *convert*?
        staged: bool,
    },
}

impl Place {
    /// One past the last block that the answer holds for.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Staged { entry, .. } => entry.end,
            Self::MustReserve { end, .. } => *end,
            Self::Overwrite(e) => e.end(),
            Self::Unwritten { extent, .. } => extent.end(),
        }
    }
}

/// Decides where a write to blocks `[at, end)` goes, for as many of them as the answer is the same.
///
/// Staging comes first whatever the data map says (C-WB-COW-FIRST); written blocks that are shared
/// (or any, under always_cow) are never written in place.
pub(crate) fn place(sb: &Sb, inode: &Inode, ext: &InodeExt, at: u64, end: u64) -> Result<Place> {
    place_by(sb.reader(), inode, ext, at, end)
}

/// [`place`] with a reader that may or may not wait.
pub(crate) fn place_by(
    reader: NodeReader<'_>,
    inode: &Inode,
    ext: &InodeExt,
    at: u64,
    end: u64,
) -> Result<Place> {
    let old = old_by(reader, inode, ext, at)?;
    let (entry, next) = ext.staging.around(at);
    if let Some(entry) = entry.filter(Entry::is_data) {
        let end = end.min(old.end());
        let entry = entry.clip(at, end).ok_or(EINVAL)?;
        return Ok(Place::Staged {
            entry,
            source: old.written().map(|e| clip(e, at, entry.end)),
        });
    }
    // Up to the next staged range of whatever kind: a search for the next one with data would look
    // at every preallocated block that is dirty.
    let next = entry.map_or(next, |convert| convert.end);
    let end = end.min(old.end()).min(next);
    let always_cow = reader.sb().opts().always_cow;
    match old {
        Old::Hole { .. } => Ok(Place::MustReserve { end, source: None }),
        Old::Unwritten(_) if always_cow => Ok(Place::MustReserve { end, source: None }),
        Old::Unwritten(e) => Ok(Place::Unwritten {
            extent: clip(e, at, end),
            staged: entry.is_some(),
        }),
        Old::Written(e) => {
            let e = clip(e, at, end);
            let (shared, run) = if always_cow {
                (true, e.len)
            } else {
                cow_by(reader, ext, e.phys, e.len)?
            };
            let e = clip(e, at, at.saturating_add(run));
            if shared {
                Ok(Place::MustReserve {
                    end: e.end(),
                    source: Some(e),
                })
            } else {
                Ok(Place::Overwrite(e))
            }
        }
    }
}

/// The bytes of file blocks `[start, end)`, cut behind the last block that a file can have.
pub(crate) fn span(sb: &Sb, start: u64, end: u64) -> Result<Span> {
    let shift = sb.block_shift();
    let most = (1 << 63) >> shift;
    let (start, end) = (start.min(most) << shift, end.min(most) << shift);
    Span::new(start, end.checked_sub(start).ok_or(EFBIG)?).ok_or(EFBIG)
}

/// The bytes of an extent, in the file and on the device.
pub(crate) fn run(sb: &Sb, e: Extent) -> Result<Run> {
    let span = span(sb, e.fblk, e.end())?;
    let addr = e.phys.get().checked_mul(sb.block_size());
    addr.and_then(|addr| Run::new(span, addr)).ok_or_else(|| {
        let place = super::sb::Place::Block(e.phys);
        sb.corrupted(place, "extent beyond the last byte")
    })
}

/// The file blocks that bytes `[pos, end)` touch, as `[first, one past the last)`.
pub(crate) fn blocks(sb: &Sb, pos: u64, end: u64) -> (u64, u64) {
    let shift = sb.block_shift();
    let last = end
        .checked_sub(1)
        .map_or(0, |last| (last >> shift).saturating_add(1));
    (pos >> shift, last)
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The extents of a file: a tree of kind [`Kind::Extents`](crate::format::Kind), keyed by file
//! block.
//!
//! Every function that changes the tree is one bounded step: it adds at most [`INSERTS`] records,
//! and the few edits it is made of lie side by side, so that together they touch no more nodes than
//! [`EDITS`] single ones.

use super::btree::Tree;
use super::runs::{self, Run};
use super::store::{NodeRead, NodeStore};
use crate::format::extent::RawExtent;
pub use crate::format::extent::{MAX_LEN, SIZE as RECORD_SIZE};
use crate::format::types::BlockNr;
use zerocopy::little_endian::{U32, U64};
use zerocopy::IntoBytes;

/// One call touches at most this many times `edit_nodes(height)` nodes.
pub const EDITS: u32 = 2;
/// Records that one call adds at most.
pub const INSERTS: u64 = 2;
const TAKEN: &str = "extent: moved onto another";
const BELOW: &str = "extent: moved below block 0";

/// Blocks of a file that lie together on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First file block.
    pub fblk: u64,
    /// The device block it is at.
    pub phys: BlockNr,
    /// Blocks, 1 to [`MAX_LEN`].
    pub len: u64,
    /// Allocated, but reads give zeros.
    pub unwritten: bool,
}

impl Extent {
    /// The file block after the last one.
    pub fn end(&self) -> u64 {
        self.fblk.saturating_add(self.len)
    }
}

/// What a file block is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Nothing for this many blocks; up to `u64::MAX` if no extent follows.
    Hole {
        /// Blocks from the one asked for to the next extent.
        len: u64,
    },
    /// The whole extent it lies in.
    Mapped(Extent),
}

impl Extent {
    fn at(fblk: u64, raw: &RawExtent) -> Self {
        Self {
            fblk,
            phys: BlockNr::new(raw.phys.get()),
            len: raw.len(),
            unwritten: raw.is_unwritten(),
        }
    }
}

impl Run for RawExtent {
    fn decode(key: u64, bytes: &[u8]) -> Result<Self, &'static str> {
        Self::parse(key, bytes).copied()
    }

    fn size(&self) -> u32 {
        self.len.get()
    }

    fn part(&self, by: u32, size: u32) -> Self {
        Self {
            phys: U64::new(self.phys.get().saturating_add(u64::from(by))),
            len: U32::new(size),
            ..*self
        }
    }

    fn join(&self, next: &Self) -> Option<Self> {
        let len = self.len.get().checked_add(next.len.get())?;
        let follows = self.phys.get().checked_add(self.len()) == Some(next.phys.get());
        let joins = follows && self.flags == next.flags && u64::from(len) <= MAX_LEN;
        joins.then_some(Self {
            len: U32::new(len),
            ..*self
        })
    }
}

/// What file blocks `[start, end)` are mapped to: one extent at most, which begins at `start`, and a hole
/// behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// The first block.
    pub start: u64,
    /// Where the next extent begins; `u64::MAX` if there is none.
    pub end: u64,
    /// The extent.
    pub extent: Option<Extent>,
}

impl Around {
    /// Is `fblk` one of the blocks?
    pub fn covers(&self, fblk: u64) -> bool {
        (self.start..self.end).contains(&fblk)
    }

    /// What is at `fblk`, one of the blocks. No file has a block `u64::MAX`: nothing is there, of no length.
    pub fn at(&self, fblk: u64) -> Mapping {
        match self.extent.filter(|e| e.end() > fblk) {
            Some(e) => Mapping::Mapped(e),
            None => Mapping::Hole {
                len: self.end.saturating_sub(fblk),
            },
        }
    }
}

/// The extent at or before a file block, and what lies between it and the next one.
pub fn around<S: NodeRead>(t: &Tree, s: &S, fblk: u64) -> Result<Around, S::Error> {
    let (before, next) = runs::around::<S, RawExtent>(t, s, fblk)?;
    let extent = before.map(|(start, value, _)| Extent::at(start, &value));
    Ok(Around {
        start: extent.map_or(0, |e| e.fblk),
        end: next.unwrap_or(u64::MAX),
        extent,
    })
}

/// What is at a file block.
pub fn lookup<S: NodeRead>(t: &Tree, s: &S, fblk: u64) -> Result<Mapping, S::Error> {
    Ok(around(t, s, fblk)?.at(fblk))
}

/// The first extent that ends after `fblk`.
pub fn next_extent<S: NodeRead>(t: &Tree, s: &S, fblk: u64) -> Result<Option<Extent>, S::Error> {
    if let Some((start, value, end)) = runs::before::<S, RawExtent>(t, s, fblk)? {
        if end > fblk {
            return Ok(Some(Extent::at(start, &value)));
        }
    }
    Ok(runs::after::<S, RawExtent>(t, s, fblk)?.map(|(start, value, _)| Extent::at(start, &value)))
}

/// The last extent.
pub fn last<S: NodeRead>(t: &Tree, s: &S) -> Result<Option<Extent>, S::Error> {
    let last = runs::before::<S, RawExtent>(t, s, u64::MAX)?;
    Ok(last.map(|(start, value, _)| Extent::at(start, &value)))
}

/// Maps a hole. Joins the neighbours where possible; a range that is not a hole is damage, and
/// so is an extent that is empty or longer than [`MAX_LEN`].
pub fn insert<S: NodeStore>(t: &mut Tree, s: &mut S, e: Extent) -> Result<(), S::Error> {
    let raw = RawExtent::new(e.phys, e.len, e.unwritten);
    let raw = raw.ok_or_else(|| t.damaged(s, "extent: length out of range"))?;
    RawExtent::parse(e.fblk, raw.as_bytes()).map_err(|what| t.damaged(s, what))?;
    runs::insert(t, s, e.fblk, raw)
}

/// Unmaps the first piece of one extent inside `[start, end)` and returns it, or `None` when
/// nothing is mapped there. Callers loop.
pub fn remove_step<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    start: u64,
    end: u64,
) -> Result<Option<Extent>, S::Error> {
    let found = match runs::before::<S, RawExtent>(t, s, start)? {
        Some(found) if found.2 > start => Some(found),
        _ => runs::after::<S, RawExtent>(t, s, start)?,
    };
    let Some((key, value, run_end)) = found.filter(|(key, _, _)| *key < end) else {
        return Ok(None);
    };
    let (from, to) = (key.max(start), run_end.min(end));
    let piece = value
        .skip(from.saturating_sub(key))
        .take(to.saturating_sub(from));
    runs::carve(t, s, (key, value, run_end), from, to)?;
    Ok(Some(Extent::at(from, &piece)))
}

/// Moves the first piece of one extent at or after `from` down by `by` blocks, into what must be a
/// hole. Returns its old end, or `None` when nothing is mapped there. Callers loop.
pub fn move_down_step<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    from: u64,
    by: u64,
) -> Result<Option<u64>, S::Error> {
    let found = match runs::before::<S, RawExtent>(t, s, from)? {
        Some(found) if found.2 > from => found,
        _ => match runs::after::<S, RawExtent>(t, s, from)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let (key, value, end) = found;
    let start = key.max(from);
    let to = start.checked_sub(by).ok_or_else(|| t.damaged(s, BELOW))?;
    let left = runs::before::<S, RawExtent>(t, s, to)?;
    if left.is_some_and(|(_, _, left_end)| left_end > to) {
        return Err(t.damaged(s, TAKEN));
    }
    let joins = left.is_some_and(|(_, v, left_end)| left_end == to && v.join(&value).is_some());
    if key == start && !joins {
        t.rekey(s, key, to, value.as_bytes())?;
    } else {
        runs::carve(t, s, found, start, end)?;
        runs::insert(t, s, to, value.skip(start.saturating_sub(key)))?;
    }
    Ok(Some(end))
}

/// Moves the last piece of one extent inside `[start, end)` up by `by` blocks, into what must be a
/// hole. Returns its old start, or `None` when nothing is mapped there. Callers loop.
pub fn move_up_step<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    start: u64,
    end: u64,
    by: u64,
) -> Result<Option<u64>, S::Error> {
    let Some(last) = end.checked_sub(1) else {
        return Ok(None);
    };
    let found = runs::before::<S, RawExtent>(t, s, last)?.filter(|(_, _, to)| *to > start);
    let Some((key, value, to)) = found else {
        return Ok(None);
    };
    let next = runs::after::<S, RawExtent>(t, s, end)?.map_or(u64::MAX, |(next, _, _)| next);
    let free = to <= end && to.checked_add(by).is_some_and(|to| to <= next);
    if !free {
        return Err(t.damaged(s, TAKEN));
    }
    let from = key.max(start);
    let new = from.saturating_add(by);
    RawExtent::parse(new, value.skip(from.saturating_sub(key)).as_bytes())
        .map_err(|what| t.damaged(s, what))?;
    if from == key {
        t.rekey(s, key, new, value.as_bytes())?;
    } else {
        runs::carve(t, s, (key, value, to), from, to)?;
        runs::insert(t, s, new, value.skip(from.saturating_sub(key)))?;
    }
    Ok(Some(from))
}

/// Makes `[fblk, fblk + len)`, which lies within one extent, a written one. Nothing to do when it
/// is written already; damage when it is not mapped as a whole.
pub fn set_written<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    fblk: u64,
    len: u64,
) -> Result<(), S::Error> {
    let outside = || t.damaged(s, "extent: range to convert is not mapped");
    let end = fblk.checked_add(len).ok_or_else(outside)?;
    let found = runs::before::<S, RawExtent>(t, s, fblk)?.filter(|(_, _, run_end)| *run_end >= end);
    let (key, value, run_end) = found.ok_or_else(outside)?;
    if !value.is_unwritten() || len == 0 {
        return Ok(());
    }
    let piece = value.skip(fblk.saturating_sub(key)).take(len);
    let piece = RawExtent {
        flags: U32::new(0),
        ..piece
    };
    runs::carve(t, s, (key, value, run_end), fblk, end)?;
    runs::insert(t, s, fblk, piece)
}

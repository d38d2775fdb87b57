// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The extents of a file: a tree of kind [`Kind::Extents`](crate::format::Kind), keyed by file
//! block.
//!
//! Every function that changes the tree is one bounded step: at most [`EDITS`] tree edits and at
//! most [`INSERTS`] more records.

use super::btree::Tree;
use super::runs::{self, Run};
use super::store::{NodeRead, NodeStore};
use crate::format::types::BlockNr;

/// Tree edits (of `edit_nodes(height)` nodes each) that one call makes at most.
pub const EDITS: u32 = 4;
/// Records that one call adds at most.
pub const INSERTS: u64 = 2;
/// Longest extent, in blocks.
pub const MAX_LEN: u64 = (1 << 31) - 1;
/// Bytes of an extent's value.
pub const RECORD_SIZE: usize = 16;

const UNWRITTEN: u32 = 1;

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

/// The value of an extent.
#[derive(Clone, Copy)]
struct Value {
    phys: u64,
    len: u32,
    flags: u32,
}

impl Value {
    fn new(e: &Extent) -> Option<Self> {
        let len = u32::try_from(e.len)
            .ok()
            .filter(|len| *len > 0 && e.len <= MAX_LEN)?;
        e.phys.checked_add(e.len)?;
        Some(Self {
            phys: e.phys.get(),
            len,
            flags: if e.unwritten { UNWRITTEN } else { 0 },
        })
    }

    fn at(&self, fblk: u64) -> Extent {
        Extent {
            fblk,
            phys: BlockNr::new(self.phys),
            len: u64::from(self.len),
            unwritten: self.flags & UNWRITTEN != 0,
        }
    }
}

impl Run for Value {
    type Bytes = [u8; RECORD_SIZE];

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (phys, rest) = bytes.split_first_chunk()?;
        let (len, flags) = rest.split_first_chunk()?;
        let (phys, len) = (u64::from_le_bytes(*phys), u32::from_le_bytes(*len));
        phys.checked_add(u64::from(len))?;
        Some(Self {
            phys,
            len,
            flags: u32::from_le_bytes(flags.try_into().ok()?),
        })
    }

    fn encode(&self) -> Self::Bytes {
        let mut bytes = [0; RECORD_SIZE];
        let fields = self.phys.to_le_bytes().into_iter();
        let fields = fields
            .chain(self.len.to_le_bytes())
            .chain(self.flags.to_le_bytes());
        bytes
            .iter_mut()
            .zip(fields)
            .for_each(|(byte, field)| *byte = field);
        bytes
    }

    fn len(&self) -> u64 {
        u64::from(self.len)
    }

    fn take(&self, len: u64) -> Self {
        Self {
            len: u32::try_from(len).unwrap_or(self.len).min(self.len),
            ..*self
        }
    }

    fn skip(&self, len: u64) -> Self {
        let skip = u32::try_from(len).unwrap_or(self.len).min(self.len);
        let phys = self.phys.saturating_add(u64::from(skip));
        Self {
            phys,
            len: self.len.saturating_sub(skip),
            ..*self
        }
    }

    fn join(&self, next: &Self) -> Option<Self> {
        let len = self
            .len
            .checked_add(next.len)
            .filter(|len| u64::from(*len) <= MAX_LEN)?;
        let follows = self.phys.checked_add(self.len()) == Some(next.phys);
        (follows && self.flags == next.flags).then_some(Self { len, ..*self })
    }
}

/// What is at a file block.
pub fn lookup<S: NodeRead>(t: &Tree, s: &S, fblk: u64) -> Result<Mapping, S::Error> {
    if let Some((start, value, end)) = runs::before::<S, Value>(t, s, fblk)? {
        if end > fblk {
            return Ok(Mapping::Mapped(value.at(start)));
        }
    }
    let next = runs::after::<S, Value>(t, s, fblk)?.map_or(u64::MAX, |(start, _, _)| start);
    Ok(Mapping::Hole {
        len: next.saturating_sub(fblk),
    })
}

/// The first extent that ends after `fblk`.
pub fn next_extent<S: NodeRead>(t: &Tree, s: &S, fblk: u64) -> Result<Option<Extent>, S::Error> {
    if let Some((start, value, end)) = runs::before::<S, Value>(t, s, fblk)? {
        if end > fblk {
            return Ok(Some(value.at(start)));
        }
    }
    Ok(runs::after::<S, Value>(t, s, fblk)?.map(|(start, value, _)| value.at(start)))
}

/// Maps a hole. Joins the neighbours where possible; a range that is not a hole is `Corrupt`, and
/// so is an extent that is empty or longer than [`MAX_LEN`].
pub fn insert<S: NodeStore>(t: &mut Tree, s: &mut S, e: Extent) -> Result<(), S::Error> {
    let value = Value::new(&e).ok_or(runs::bad("extent: length out of range"))?;
    runs::insert(t, s, e.fblk, value)
}

/// Unmaps the first piece of one extent inside `[start, end)` and returns it, or `None` when
/// nothing is mapped there. Callers loop.
pub fn remove_step<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    start: u64,
    end: u64,
) -> Result<Option<Extent>, S::Error> {
    let found = match runs::before::<S, Value>(t, s, start)? {
        Some(found) if found.2 > start => Some(found),
        _ => runs::after::<S, Value>(t, s, start)?,
    };
    let Some((key, value, run_end)) = found.filter(|(key, _, _)| *key < end) else {
        return Ok(None);
    };
    let (from, to) = (key.max(start), run_end.min(end));
    let piece = value
        .skip(from.saturating_sub(key))
        .take(to.saturating_sub(from));
    runs::carve(t, s, (key, value, run_end), from, to)?;
    Ok(Some(piece.at(from)))
}

/// Makes `[fblk, fblk + len)`, which lies within one extent, a written one. Nothing to do when it
/// is written already; `Corrupt` when it is not mapped as a whole.
pub fn set_written<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    fblk: u64,
    len: u64,
) -> Result<(), S::Error> {
    let outside = runs::bad("extent: range to convert is not mapped");
    let end = fblk.checked_add(len).ok_or(outside)?;
    let found = runs::before::<S, Value>(t, s, fblk)?.filter(|(_, _, run_end)| *run_end >= end);
    let (key, value, run_end) = found.ok_or(outside)?;
    if value.flags & UNWRITTEN == 0 || len == 0 {
        return Ok(());
    }
    let piece = value.skip(fblk.saturating_sub(key)).take(len);
    let piece = Value {
        flags: value.flags & !UNWRITTEN,
        ..piece
    };
    runs::carve(t, s, (key, value, run_end), fblk, end)?;
    runs::insert(t, s, fblk, piece)
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Reading and editing the records of one node, block or inline root (layout:
//! [`crate::format::node`]).
//!
//! Nodes were verified when they entered memory, yet everything here checks its bounds again, at
//! the price of a compare: a node that does not hold gives a reason, never a panic.

use crate::format::node::{
    header, verify_name, InlineRoot, NodeCore, NodeId, Slot, CHILD_SIZE, CORE_OFFSET, CORE_SIZE,
    HEADER_SIZE, MAX_LEVEL, SLOT_SIZE,
};
use crate::format::types::{BlockNr, Kind};
use zerocopy::little_endian::{U16, U64};
use zerocopy::FromBytes;

/// A node that does not hold, and why.
pub(super) type Broken = &'static str;

const SHORT: Broken = "node: too small";
const RANGE: Broken = "node: record out of range";
const FULL: Broken = "node: no room";

/// Where a node has its core and its slots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Block,
    Inline,
}

impl Layout {
    fn core_at(self) -> usize {
        match self {
            Self::Block => CORE_OFFSET,
            Self::Inline => 0,
        }
    }

    pub(super) fn slots_at(self) -> usize {
        match self {
            Self::Block => HEADER_SIZE,
            Self::Inline => CORE_SIZE,
        }
    }
}

/// The bytes a record takes in a node.
pub(super) fn weight_of(len: usize) -> usize {
    len.saturating_add(SLOT_SIZE)
}

/// A node for reading.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    slots: &'a [Slot],
    level: u8,
    heap: usize,
    slots_at: usize,
}

impl<'a> View<'a> {
    /// Views `bytes`, which must be the node called `id`.
    pub(super) fn block(bytes: &'a [u8], id: &NodeId) -> Result<Self, Broken> {
        verify_name(header(bytes).ok_or(SHORT)?, id)?;
        Self::new(bytes, Layout::Block)
    }

    /// Views an inline root, which must be of this kind.
    pub(super) fn inline(root: &'a InlineRoot, kind: Kind) -> Result<Self, Broken> {
        let view = Self::new(&root.0, Layout::Inline)?;
        match root.0.get(1) {
            Some(byte) if *byte == kind.as_u8() && view.level < MAX_LEVEL => Ok(view),
            _ => Err("root: of another kind or too high"),
        }
    }

    /// Views a node that is the right one.
    pub(super) fn new(bytes: &'a [u8], layout: Layout) -> Result<Self, Broken> {
        let core = bytes.get(layout.core_at()..).ok_or(SHORT)?;
        let (core, _) = NodeCore::ref_from_prefix(core).map_err(|_| SHORT)?;
        let slots_at = layout.slots_at();
        let slots = bytes.get(slots_at..).ok_or(SHORT)?;
        let nr = usize::from(core.nr.get());
        let (slots, _) = <[Slot]>::ref_from_prefix_with_elems(slots, nr).map_err(|_| RANGE)?;
        let heap = usize::from(core.heap.get());
        if heap > bytes.len() {
            return Err(RANGE);
        }
        Ok(Self {
            bytes,
            slots,
            level: core.level,
            heap,
            slots_at,
        })
    }

    /// 0 for a leaf.
    pub(super) fn level(&self) -> u8 {
        self.level
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes free between slots and values.
    pub(super) fn room(&self) -> usize {
        let used = self
            .slots
            .len()
            .saturating_mul(SLOT_SIZE)
            .saturating_add(self.slots_at);
        self.heap.saturating_sub(used)
    }

    /// Bytes that records can take.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len().saturating_sub(self.slots_at)
    }

    /// Bytes that records take.
    pub(super) fn weight(&self) -> usize {
        self.capacity().saturating_sub(self.room())
    }

    /// Key of record `i`.
    pub(super) fn key(&self, i: usize) -> Option<u64> {
        Some(self.slots.get(i)?.key.get())
    }

    /// Value of record `i`.
    pub(super) fn value(&self, i: usize) -> Result<&'a [u8], Broken> {
        let slot = self.slots.get(i).ok_or(RANGE)?;
        let off = usize::from(slot.off.get());
        let end = off.checked_add(usize::from(slot.len.get())).ok_or(RANGE)?;
        self.bytes.get(off..end).ok_or(RANGE)
    }

    /// Offset and length of value `i`.
    pub(super) fn place(&self, i: usize) -> Result<(usize, usize), Broken> {
        let slot = self.slots.get(i).ok_or(RANGE)?;
        Ok((usize::from(slot.off.get()), usize::from(slot.len.get())))
    }

    /// Bytes that record `i` takes.
    pub(super) fn weight_at(&self, i: usize) -> usize {
        self.slots
            .get(i)
            .map_or(0, |slot| weight_of(usize::from(slot.len.get())))
    }

    /// Child `i` of an internal node.
    pub(super) fn child(&self, i: usize) -> Result<BlockNr, Broken> {
        match self.value(i)?.first_chunk::<CHILD_SIZE>() {
            Some(child) => Ok(BlockNr::new(u64::from_le_bytes(*child))),
            None => Err("node: child pointer of a wrong size"),
        }
    }

    /// Where `key` is, or where it would go.
    pub(super) fn search(&self, key: u64) -> Result<usize, usize> {
        self.slots.binary_search_by(|slot| slot.key.get().cmp(&key))
    }

    /// Copies records from `from` on, before `to`, as many as `chunk` holds, at least one.
    pub(super) fn copy_out(&self, from: usize, to: usize, chunk: &mut Chunk) -> Result<(), Broken> {
        let end = value_end(self.slots, self.bytes.len(), from).ok_or(RANGE)?;
        let mut start = end;
        chunk.nr = 0;
        for slot in self.slots.get(from..to).ok_or(RANGE)? {
            let off = usize::from(slot.off.get());
            let used = end.checked_sub(off).ok_or(RANGE)?;
            let Some(copy) = chunk.slots.get_mut(chunk.nr) else {
                break;
            };
            if used > chunk.data.len() {
                break;
            }
            *copy = *slot;
            start = off;
            chunk.nr = chunk.nr.saturating_add(1);
        }
        if chunk.nr == 0 {
            return Err(RANGE);
        }
        let bytes = self.bytes.get(start..end).ok_or(RANGE)?;
        chunk.used = bytes.len();
        chunk
            .data
            .get_mut(..bytes.len())
            .ok_or(RANGE)?
            .copy_from_slice(bytes);
        Ok(())
    }
}

/// Where value `i` ends: at the start of the one before it.
fn value_end(slots: &[Slot], size: usize, i: usize) -> Option<usize> {
    match i.checked_sub(1) {
        None => Some(size),
        Some(before) => Some(usize::from(slots.get(before)?.off.get())),
    }
}

/// Some records on their way from one node to another.
pub(super) struct Chunk {
    nr: usize,
    used: usize,
    slots: [Slot; 16],
    data: [u8; 320],
}

impl Chunk {
    pub(super) fn new() -> Self {
        let slot = Slot {
            key: U64::new(0),
            off: U16::new(0),
            len: U16::new(0),
        };
        Self {
            nr: 0,
            used: 0,
            slots: [slot; 16],
            data: [0; 320],
        }
    }

    /// Records inside.
    pub(super) fn len(&self) -> usize {
        self.nr
    }
}

/// A node for change.
pub(super) struct Edit<'a> {
    bytes: &'a mut [u8],
    layout: Layout,
}

impl<'a> Edit<'a> {
    pub(super) fn new(bytes: &'a mut [u8], layout: Layout) -> Self {
        Self { bytes, layout }
    }

    pub(super) fn view(&self) -> Result<View<'_>, Broken> {
        View::new(self.bytes, self.layout)
    }

    fn core(&mut self) -> Result<&mut NodeCore, Broken> {
        let core = self.bytes.get_mut(self.layout.core_at()..).ok_or(SHORT)?;
        Ok(NodeCore::mut_from_prefix(core).map_err(|_| SHORT)?.0)
    }

    fn slots(&mut self, nr: usize) -> Result<&mut [Slot], Broken> {
        let slots = self.bytes.get_mut(self.layout.slots_at()..).ok_or(SHORT)?;
        Ok(<[Slot]>::mut_from_prefix_with_elems(slots, nr)
            .map_err(|_| RANGE)?
            .0)
    }

    fn set_fill(&mut self, nr: usize, heap: usize) -> Result<(), Broken> {
        let core = self.core()?;
        core.nr = U16::new(u16::try_from(nr).map_err(|_| RANGE)?);
        core.heap = U16::new(u16::try_from(heap).map_err(|_| RANGE)?);
        Ok(())
    }

    /// Changes the level, of a root.
    pub(super) fn set_level(&mut self, level: u8) -> Result<(), Broken> {
        self.core()?.level = level;
        Ok(())
    }

    /// Changes the key of record `i`; the order is the caller's business.
    pub(super) fn set_key(&mut self, i: usize, key: u64) -> Result<(), Broken> {
        let nr = self.view()?.len();
        self.slots(nr)?.get_mut(i).ok_or(RANGE)?.key = U64::new(key);
        Ok(())
    }

    /// Changes the value of record `i`.
    pub(super) fn set_value(&mut self, i: usize, value: &[u8]) -> Result<(), Broken> {
        let view = self.view()?;
        let (off, len) = view.place(i)?;
        if len == value.len() {
            let end = off.checked_add(len).ok_or(RANGE)?;
            self.bytes
                .get_mut(off..end)
                .ok_or(RANGE)?
                .copy_from_slice(value);
            return Ok(());
        }
        let key = view.key(i).ok_or(RANGE)?;
        self.remove(i, i.saturating_add(1))?;
        self.insert(i, key, value)
    }

    /// Puts a record before record `at`.
    pub(super) fn insert(&mut self, at: usize, key: u64, value: &[u8]) -> Result<(), Broken> {
        let start = self.open(at, 1, value.len())?;
        let end = start.checked_add(value.len()).ok_or(RANGE)?;
        self.bytes
            .get_mut(start..end)
            .ok_or(RANGE)?
            .copy_from_slice(value);
        let nr = self.view()?.len();
        let slot = self.slots(nr)?.get_mut(at).ok_or(RANGE)?;
        slot.key = U64::new(key);
        slot.off = U16::new(u16::try_from(start).map_err(|_| RANGE)?);
        slot.len = U16::new(u16::try_from(value.len()).map_err(|_| RANGE)?);
        Ok(())
    }

    /// Puts the records of a chunk before record `at`.
    pub(super) fn insert_chunk(&mut self, at: usize, chunk: &Chunk) -> Result<(), Broken> {
        let start = self.open(at, chunk.nr, chunk.used)?;
        let mut off = start.checked_add(chunk.used).ok_or(RANGE)?;
        let data = chunk.data.get(..chunk.used).ok_or(RANGE)?;
        self.bytes
            .get_mut(start..off)
            .ok_or(RANGE)?
            .copy_from_slice(data);
        let nr = self.view()?.len();
        let slots = self.slots(nr)?.get_mut(at..).ok_or(RANGE)?;
        for (slot, new) in slots.iter_mut().zip(chunk.slots.iter().take(chunk.nr)) {
            off = off.checked_sub(usize::from(new.len.get())).ok_or(RANGE)?;
            slot.key = new.key;
            slot.len = new.len;
            slot.off = U16::new(u16::try_from(off).map_err(|_| RANGE)?);
        }
        Ok(())
    }

    /// Makes place for `more` records with `used` bytes of values before record `at`; returns the
    /// offset of the place for the values. The slots hold old bytes until they are written.
    fn open(&mut self, at: usize, more: usize, used: usize) -> Result<usize, Broken> {
        let size = self.bytes.len();
        let view = self.view()?;
        let (nr, heap) = (view.len(), view.heap);
        let slot_bytes = more.checked_mul(SLOT_SIZE).ok_or(RANGE)?;
        if used.checked_add(slot_bytes).ok_or(RANGE)? > view.room() {
            return Err(FULL);
        }
        let end = value_end(view.slots, size, at).ok_or(RANGE)?;
        let start = end.checked_sub(used).ok_or(RANGE)?;
        let low = heap.checked_sub(used).ok_or(RANGE)?;
        if at > nr || heap > end || end > size {
            return Err(RANGE);
        }
        self.bytes.copy_within(heap..end, low);
        for slot in self.slots(nr)?.iter_mut().skip(at) {
            let off = usize::from(slot.off.get()).checked_sub(used).ok_or(RANGE)?;
            slot.off = U16::new(u16::try_from(off).map_err(|_| RANGE)?);
        }
        // Both ends fit below `low`: `room` said so.
        let slots_at = self.layout.slots_at();
        let place = |i: usize| i.saturating_mul(SLOT_SIZE).saturating_add(slots_at);
        self.bytes
            .copy_within(place(at)..place(nr), place(at).saturating_add(slot_bytes));
        self.set_fill(nr.saturating_add(more), low)?;
        Ok(start)
    }

    /// Removes the records from `from` on, before `to`.
    pub(super) fn remove(&mut self, from: usize, to: usize) -> Result<(), Broken> {
        if from >= to {
            return Ok(());
        }
        let size = self.bytes.len();
        let view = self.view()?;
        let (nr, heap) = (view.len(), view.heap);
        let end = value_end(view.slots, size, from).ok_or(RANGE)?;
        let start = value_end(view.slots, size, to).ok_or(RANGE)?;
        let gone = end.checked_sub(start).ok_or(RANGE)?;
        if heap > start || end > size || to > nr {
            return Err(RANGE);
        }
        let high = heap.checked_add(gone).ok_or(RANGE)?;
        self.bytes.copy_within(heap..start, high);
        for slot in self.slots(nr)?.iter_mut().skip(to) {
            let off = usize::from(slot.off.get()).checked_add(gone).ok_or(RANGE)?;
            slot.off = U16::new(u16::try_from(off).map_err(|_| RANGE)?);
        }
        // Within the slots, which `slots` just checked.
        let slots_at = self.layout.slots_at();
        let place = |i: usize| i.saturating_mul(SLOT_SIZE).saturating_add(slots_at);
        self.bytes.copy_within(place(to)..place(nr), place(from));
        self.set_fill(nr.saturating_sub(to.saturating_sub(from)), high)
    }
}

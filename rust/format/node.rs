// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Tree nodes: the block with its header, the slots, the inline root, and their verifiers.
//!
//! ```text
//! block:  header (64) | slot 0 | slot 1 | ... | free | ... | value 1 | value 0 |
//! inline: core    (8) | slot 0 | slot 1 | ... | free | ... | value 1 | value 0 |   112 bytes
//! ```
//!
//! Slots ascend strictly by key. Values are packed in the same order from the end downwards, with
//! no holes: value 0 ends where the node ends, value `i` ends where value `i - 1` starts, `heap` is
//! where the last one starts. So an append touches nothing but the free space, and a split is a cut.

use super::types::{BlockNr, Ino, Kind};
use super::value;
use crate::seam::crc32c;
use core::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `CALN` as the first four bytes of a node.
pub const MAGIC: u32 = u32::from_le_bytes(*b"CALN");
/// Bytes before the first slot of a block node.
pub const HEADER_SIZE: usize = 64;
/// Bytes before the first slot of an inline root.
pub const CORE_SIZE: usize = 8;
/// Offset of the [`NodeCore`] in a block node.
pub const CORE_OFFSET: usize = 40;
/// Bytes of a slot.
pub const SLOT_SIZE: usize = 12;
/// Longest value.
pub const MAX_VALUE: usize = 272;
/// Levels a tree can have; a level on disk is smaller. No tree of a filesystem of a size that we support needs more, and
/// what one change of a tree costs the journal follows from it.
pub const MAX_LEVEL: u8 = 8;
/// In a [`NodeId`]: "any level", for the fixed root of a global tree, whose level only it knows.
pub const LEVEL_ANY: u8 = u8::MAX;
/// Size of the root in the inode record.
pub const INLINE_SIZE: usize = 112;
/// Length of an internal node's values.
pub const CHILD_SIZE: usize = 8;

const _: () = assert!(size_of::<NodeHeader>() == HEADER_SIZE);
const _: () = assert!(core::mem::offset_of!(NodeHeader, core) == CORE_OFFSET);
const _: () = assert!(core::mem::offset_of!(NodeHeader, crc) == 4);
const _: () = assert!(core::mem::offset_of!(NodeHeader, tree_blocks) == 48);
const _: () = assert!(size_of::<NodeCore>() == CORE_SIZE);
const _: () = assert!(size_of::<Slot>() == SLOT_SIZE);
const _: () = assert!(size_of::<InlineRoot>() == INLINE_SIZE);

/// The part of the header that block nodes and inline roots share.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NodeCore {
    /// 0 for a leaf.
    pub level: u8,
    /// A [`Kind`].
    pub kind: u8,
    /// Records in the node.
    pub nr: U16,
    /// Offset of the lowest value byte; the node's size when there is none.
    pub heap: U16,
    /// Reclaimable bytes between values: always 0, values are packed.
    pub dead: U16,
}

/// Header of a block node.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NodeHeader {
    /// [`MAGIC`].
    pub magic: U32,
    /// [`checksum`] of the block.
    pub crc: U32,
    /// The block's own number.
    pub block: U64,
    /// Inode the tree belongs to, 0 for a global tree.
    pub owner: U64,
    /// The filesystem's uuid.
    pub uuid: [u8; 16],
    /// Level, kind and fill.
    pub core: NodeCore,
    /// Root of a global tree: blocks of the tree, this one included. Elsewhere 0.
    pub tree_blocks: U64,
    /// Zero.
    pub reserved: [u8; 8],
}

/// A record's key and where its value is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Slot {
    /// Key of the record; in an internal node the lower bound of the keys below.
    pub key: U64,
    /// Offset of the value from the node's first byte.
    pub off: U16,
    /// Length of the value.
    pub len: U16,
}

/// The root of an inode's tree, kept in its record: a small node of [`INLINE_SIZE`] bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct InlineRoot(pub [u8; INLINE_SIZE]);

impl InlineRoot {
    /// An empty leaf.
    pub fn empty(kind: Kind) -> Self {
        let mut root = Self([0; INLINE_SIZE]);
        if let Ok((core, _)) = NodeCore::mut_from_prefix(&mut root.0) {
            core.kind = kind.as_u8();
            core.heap = U16::new(INLINE_SIZE as u16);
        }
        root
    }
}

/// Names a node of a tree and says what must be found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId {
    /// Where it is.
    pub block: BlockNr,
    /// The inode it belongs to.
    pub owner: Ino,
    /// What it holds.
    pub kind: Kind,
    /// Its level, or [`LEVEL_ANY`] for the root of a global tree.
    pub level: u8,
}

/// The header of a block node.
pub fn header(bytes: &[u8]) -> Option<&NodeHeader> {
    Some(NodeHeader::ref_from_prefix(bytes).ok()?.0)
}

/// The header of a block node, for change.
pub fn header_mut(bytes: &mut [u8]) -> Option<&mut NodeHeader> {
    Some(NodeHeader::mut_from_prefix(bytes).ok()?.0)
}

/// Makes `bytes` (one block) an empty node. `tree_blocks` becomes 0.
pub fn init(bytes: &mut [u8], id: &NodeId, uuid: &[u8; 16]) {
    bytes.fill(0);
    let Ok(size) = u16::try_from(bytes.len()) else {
        return;
    };
    if let Some(header) = header_mut(bytes) {
        header.magic = U32::new(MAGIC);
        header.block = U64::new(id.block.get());
        header.owner = U64::new(id.owner.get());
        header.uuid = *uuid;
        header.core.level = id.level;
        header.core.kind = id.kind.as_u8();
        header.core.heap = U16::new(size);
    }
}

/// Checksum of a block node: crc32c over the uuid and the block with its `crc` taken as zero.
pub fn checksum(bytes: &[u8], uuid: &[u8; 16]) -> u32 {
    let crc = crc32c(!0, uuid);
    let crc = crc32c(crc, bytes.get(..4).unwrap_or_default());
    let crc = crc32c(crc, &[0; 4]);
    crc32c(crc, bytes.get(8..).unwrap_or_default())
}

/// The free space between slots and values of a block node; nothing if the header does not hold.
pub fn free_space(bytes: &[u8]) -> Range<usize> {
    parts(bytes, CORE_OFFSET, HEADER_SIZE)
        .map(|(core, slots)| slots_end(HEADER_SIZE, slots)..usize::from(core.heap.get()))
        .filter(|free| free.start <= free.end && free.end <= bytes.len())
        .unwrap_or(bytes.len()..bytes.len())
}

/// Copies a block node over another state of the same node. Its free space keeps what it had.
pub fn copy_used(from: &[u8], to: &mut [u8]) {
    let free = free_space(from);
    for part in [0..free.start, free.end..from.len()] {
        if let (Some(from), Some(to)) = (from.get(part.clone()), to.get_mut(part)) {
            to.copy_from_slice(from);
        }
    }
}

/// Stores the checksum, as the last change before the block goes to the journal.
pub fn seal(bytes: &mut [u8], uuid: &[u8; 16]) {
    let crc = checksum(bytes, uuid);
    if let Some(header) = header_mut(bytes) {
        header.crc = U32::new(crc);
    }
}

/// Checks a block that came from the device: all that can be said without other blocks (C11).
pub fn verify(bytes: &[u8], id: &NodeId, uuid: &[u8; 16]) -> Result<(), &'static str> {
    verify_structure(bytes, id, uuid)?;
    verify_values(bytes, CORE_OFFSET, HEADER_SIZE, id.kind)
}

/// The part of [`verify`] that does not look into the values.
pub fn verify_structure(bytes: &[u8], id: &NodeId, uuid: &[u8; 16]) -> Result<(), &'static str> {
    verify_identity(bytes, id, uuid)?;
    let header = header(bytes).ok_or("node: block too small")?;
    if header.crc.get() != checksum(bytes, uuid) {
        return Err("node: wrong checksum");
    }
    verify_body(bytes, CORE_OFFSET, HEADER_SIZE)
}

/// Checks that the block is the node that was asked for. Cheap; every look-up repeats it, because a
/// block verified once under one name may be asked for under another.
pub fn verify_identity(bytes: &[u8], id: &NodeId, uuid: &[u8; 16]) -> Result<(), &'static str> {
    let header = header(bytes).ok_or("node: block too small")?;
    if header.magic.get() != MAGIC {
        return Err("node: wrong magic number");
    }
    if header.uuid != *uuid {
        return Err("node: belongs to another filesystem");
    }
    verify_name(header, id)
}

/// Checks what the header says of block, owner, kind and level.
pub fn verify_name(header: &NodeHeader, id: &NodeId) -> Result<(), &'static str> {
    if header.block.get() != id.block.get() {
        return Err("node: not where it says it is");
    }
    if header.owner.get() != id.owner.get() {
        return Err("node: belongs to another inode");
    }
    if header.core.kind != id.kind.as_u8() {
        return Err("node: of another kind");
    }
    let level = header.core.level;
    if level >= MAX_LEVEL || (id.level != LEVEL_ANY && level != id.level) {
        return Err("node: wrong level");
    }
    Ok(())
}

/// Checks an inline root read from an inode record.
pub fn verify_inline(root: &InlineRoot, kind: Kind) -> Result<(), &'static str> {
    let (core, _) = NodeCore::ref_from_prefix(&root.0).map_err(|_| "root: too small")?;
    if core.kind != kind.as_u8() {
        return Err("root: of another kind");
    }
    if core.level >= MAX_LEVEL {
        return Err("root: level too high");
    }
    verify_body(&root.0, 0, CORE_SIZE)?;
    verify_values(&root.0, 0, CORE_SIZE, kind)
}

/// The core and the slots of a node.
fn parts(bytes: &[u8], core_at: usize, slots_at: usize) -> Option<(&NodeCore, &[Slot])> {
    let (core, _) = NodeCore::ref_from_prefix(bytes.get(core_at..)?).ok()?;
    let nr = usize::from(core.nr.get());
    let (slots, _) = <[Slot]>::ref_from_prefix_with_elems(bytes.get(slots_at..)?, nr).ok()?;
    Some((core, slots))
}

/// Where slots that begin at `slots_at` end.
fn slots_end(slots_at: usize, slots: &[Slot]) -> usize {
    slots_at.saturating_add(slots.len().saturating_mul(SLOT_SIZE))
}

/// Checks slots and heap of a node whose identity is known.
fn verify_body(bytes: &[u8], core_at: usize, slots_at: usize) -> Result<(), &'static str> {
    let (core, slots) = parts(bytes, core_at, slots_at).ok_or("node: more slots than fit")?;
    let floor = slots_end(slots_at, slots);
    let mut end = bytes.len();
    let mut before = None;
    for slot in slots {
        let key = slot.key.get();
        let (off, len) = (usize::from(slot.off.get()), usize::from(slot.len.get()));
        if before >= Some(key) {
            return Err("node: keys do not ascend");
        }
        if len > MAX_VALUE {
            return Err("node: value too long");
        }
        if off < floor || off.checked_add(len) != Some(end) {
            return Err("node: value out of place");
        }
        if core.level > 0 && len != CHILD_SIZE {
            return Err("node: child pointer of a wrong size");
        }
        before = Some(key);
        end = off;
    }
    if usize::from(core.heap.get()) != end || end < floor {
        return Err("node: wrong start of the values");
    }
    if core.dead.get() != 0 {
        return Err("node: holes between the values");
    }
    if core.level > 0 && slots.is_empty() {
        return Err("node: internal without children");
    }
    Ok(())
}

/// Checks the records of a leaf whose slots hold.
fn verify_values(
    bytes: &[u8],
    core_at: usize,
    slots_at: usize,
    kind: Kind,
) -> Result<(), &'static str> {
    let (core, slots) = parts(bytes, core_at, slots_at).ok_or("node: more slots than fit")?;
    if core.level > 0 {
        return Ok(());
    }
    let mut before: Option<(u64, &[u8])> = None;
    for slot in slots {
        let (key, off) = (slot.key.get(), usize::from(slot.off.get()));
        let end = off.saturating_add(usize::from(slot.len.get()));
        let value = bytes.get(off..end).ok_or("node: value out of place")?;
        value::verify_value(kind, key, value)?;
        if let Some((before, bytes)) = before {
            value::verify_order(kind, before, bytes, key)?;
        }
        before = Some((key, value));
    }
    Ok(())
}

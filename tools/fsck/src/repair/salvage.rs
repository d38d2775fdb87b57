// SPDX-License-Identifier: GPL-2.0

//! Reads trees that may be damaged: takes every record that holds, and remembers what is missing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use calf_core::format::geometry::Geometry;
use calf_core::format::group;
use calf_core::format::node::{
    self, InlineRoot, NodeCore, NodeId, Slot, CHILD_SIZE, CORE_OFFSET, CORE_SIZE, HEADER_SIZE,
    LEVEL_ANY, MAX_LEVEL, SLOT_SIZE,
};
use calf_core::format::{value, BlockNr, Ino, Kind};
use zerocopy::FromBytes;

use crate::bits::Bits;
use crate::image::Image;
use crate::space;
use crate::trees::Records;

/// Keys: from, and up to before.
type Range = (u64, Option<u64>);

/// What a slot of a node holds. Of a damaged one, the key or the value may be missing.
struct Part {
    /// Missing if it does not fit between those of its neighbours, or there is no value.
    key: Option<u64>,
    /// Missing if it does not lie where values are, or is no pointer where there has to be one.
    value: Option<Vec<u8>>,
}

/// What a tree gave.
#[derive(Default)]
pub struct Found {
    /// The records that hold, ascending by key.
    pub records: Records,
    /// Records that hold, but lie in a node where their key has no business.
    strays: Records,
    /// The nodes, without an inline root.
    pub nodes: Vec<u64>,
    /// Key ranges whose nodes are lost: from, and up to before.
    gaps: Vec<Range>,
    /// Records that were there, but do not hold.
    pub dropped: u64,
    /// Nodes whose checksum is wrong: what they say is a guess.
    pub unsealed: Vec<u64>,
    /// Keys of records that come from such leaves.
    pub doubtful: BTreeSet<u64>,
    /// Nothing was wrong with it.
    pub sound: bool,
}

impl Found {
    /// A record does not hold. What is left of an inode can still be looked for.
    fn drop_record(&mut self, kind: Kind, bounds: Range) {
        self.sound = false;
        self.dropped = self.dropped.saturating_add(1);
        if kind == Kind::Inodes {
            self.gaps.push(bounds);
        }
    }

    /// An empty tree that is sound: that of an inode without one.
    pub fn none() -> Self {
        Self {
            sound: true,
            ..Self::default()
        }
    }

    /// Are nodes missing?
    pub fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Does a key lie where nodes are missing?
    pub fn is_missing(&self, key: u64) -> bool {
        self.gaps.iter().any(|&gap| inside(key, gap))
    }
}

/// Where a tree hangs.
#[derive(Clone, Copy)]
pub enum Root<'r> {
    /// A block.
    Block(BlockNr),
    /// Bytes in an inode record.
    Inline(&'r InlineRoot),
}

/// The reader. It remembers which nodes have been seen.
pub struct Salvage<'a, 'b> {
    /// Where the nodes are.
    pub image: &'a Image<'b>,
    /// The layout.
    pub geo: &'a Geometry,
    /// Nodes seen so far.
    pub nodes: Bits,
    /// Where leaves that were taken in again say they belong.
    homes: HashSet<u64>,
    /// Where they were found. Who belongs there has not been seen.
    places: HashSet<u64>,
    /// Leaves found by looking at every block, by owner and kind.
    lost: Option<BTreeMap<(u64, u8), Vec<u64>>>,
}

struct Todo {
    block: BlockNr,
    level: u8,
    lo: u64,
    hi: Option<u64>,
}

struct Node {
    level: u8,
    parts: Vec<Part>,
    sealed: bool,
    sound: bool,
}

impl<'a, 'b> Salvage<'a, 'b> {
    /// A reader that has seen nothing.
    pub fn new(image: &'a Image<'b>, geo: &'a Geometry) -> Self {
        Self {
            image,
            geo,
            nodes: Bits::new(geo.blocks()),
            homes: HashSet::new(),
            places: HashSet::new(),
            lost: None,
        }
    }

    /// Reads a tree.
    pub fn read(&mut self, kind: Kind, owner: Ino, root: Root<'_>) -> Found {
        let mut found = Found {
            sound: true,
            ..Found::default()
        };
        let mut todo = Vec::new();
        let mut counted = None;
        match root {
            Root::Block(block) => todo.push(Todo {
                block,
                level: LEVEL_ANY,
                lo: 0,
                hi: None,
            }),
            Root::Inline(root) => {
                let sound = node::verify_inline(root, kind).is_ok();
                let level = root.0.first().copied().unwrap_or(0);
                let Some((level, parts)) = slots(&root.0, 0, CORE_SIZE, level) else {
                    found.sound = false;
                    found.gaps.push((0, None));
                    return found;
                };
                let node = Node {
                    level,
                    parts,
                    // By the leaf that it lies in.
                    sealed: true,
                    sound,
                };
                place(&mut found, &mut todo, node, kind, 0, None);
            }
        }
        while let Some(next) = todo.pop() {
            let id = NodeId {
                block: next.block,
                owner,
                kind,
                level: next.level,
            };
            match self.load(&id) {
                Some((node, tree_blocks)) => {
                    if next.level == LEVEL_ANY {
                        counted = Some(tree_blocks);
                    } else {
                        let empty = node.parts.is_empty();
                        found.sound &= tree_blocks == 0 && !empty;
                    }
                    found.nodes.push(next.block.get());
                    if !node.sealed {
                        found.unsealed.push(next.block.get());
                    }
                    place(&mut found, &mut todo, node, kind, next.lo, next.hi);
                }
                None => {
                    found.sound = false;
                    found.gaps.push((next.lo, next.hi));
                }
            }
        }
        // After the others: where a key is there twice, the first one stays.
        found.records.append(&mut found.strays);
        found.sound &= counted.is_none_or(|n| n == found.nodes.len() as u64);
        if !found.sound {
            settle(&mut found.records, kind);
        } else {
            // Leaves are each in order; a tree that is sound in its parts may not be as a whole.
            let sorted = found.records.windows(2).all(|pair| match pair {
                [(a, old), (b, _)] => a < b && value::verify_order(kind, *a, old, *b).is_ok(),
                _ => true,
            });
            if !sorted {
                found.sound = false;
                settle(&mut found.records, kind);
            }
        }
        found
    }

    /// The node called `id` and its `tree_blocks`, if it is there and was not seen before.
    fn load(&mut self, id: &NodeId) -> Option<(Node, u64)> {
        self.geo.check_block(id.block).ok()?;
        if self.nodes.has(id.block.get()) {
            return None;
        }
        let bytes = self.image.read(id.block.get()).ok()?;
        let node = open(&bytes, id, self.geo.uuid())?;
        self.nodes.take(id.block.get());
        Some((node, node::header(&bytes)?.tree_blocks.get()))
    }

    /// Fills the gaps of a tree with leaves that nothing leads to any more. `data` are blocks that
    /// files own: what looks like a node there is their content. Returns the nodes taken.
    pub fn fill(&mut self, found: &mut Found, kind: Kind, owner: Ino, data: &Bits) -> u64 {
        if !found.has_gaps() {
            return 0;
        }
        self.look(data);
        let key = (owner.get(), kind.as_u8());
        let places = self.lost.as_ref().and_then(|lost| lost.get(&key));
        let mut taken = 0u64;
        let mut have: HashSet<u64> = found.records.iter().map(|(key, _)| *key).collect();
        for &place in places.cloned().unwrap_or_default().iter() {
            let Ok(bytes) = self.image.read(place) else {
                continue;
            };
            let home = node::header(&bytes).map_or(0, |h| h.block.get());
            let seen = self.nodes.has(home) && !self.places.contains(&home);
            let known = seen || self.homes.contains(&home);
            if known || data.has(place) {
                continue;
            }
            let Some((0, parts)) = slots(&bytes, CORE_OFFSET, HEADER_SIZE, 0) else {
                continue;
            };
            let records = parts
                .into_iter()
                .filter_map(|part| Some((part.key?, part.value?)));
            let before = found.records.len();
            for (key, bytes) in records {
                let missing =
                    found.is_missing(key) && value::verify_value(kind, key, &bytes).is_ok();
                if missing && have.insert(key) {
                    found.records.push((key, bytes));
                }
            }
            if found.records.len() > before {
                taken = taken.saturating_add(1);
                // Its home may be a file's: then the header is what is damaged.
                self.homes.insert(home);
                self.places.insert(place);
                self.nodes.take(place);
                found.nodes.push(place);
            }
        }
        settle(&mut found.records, kind);
        taken
    }

    /// Owners of lost leaves of a kind.
    pub fn lost_owners(&mut self, kind: Kind, data: &Bits) -> Vec<u64> {
        self.look(data);
        let lost = self.lost.iter().flat_map(|lost| lost.keys());
        let owners = lost.filter(|(_, k)| *k == kind.as_u8());
        owners.map(|(owner, _)| *owner).collect()
    }

    /// Looks at every block in use once for leaves of this filesystem that nothing leads to.
    fn look(&mut self, data: &Bits) {
        if self.lost.is_some() {
            return;
        }
        let mut lost: BTreeMap<(u64, u8), Vec<u64>> = BTreeMap::new();
        for g in 0..self.geo.ngroups() {
            let (start, len) = self.geo.group_range(g);
            let bitmap = self.bitmap(g);
            for at in 0..len {
                let block = BlockNr::new(start.get().saturating_add(at));
                // CAST: less than a group.
                let free = bitmap
                    .as_ref()
                    .is_some_and(|b| !calf_core::algo::bitmap::test_byte(b, at as usize));
                if free || self.geo.check_block(block).is_err() || data.has(block.get()) {
                    continue;
                }
                let Ok(bytes) = self.image.read(block.get()) else {
                    continue;
                };
                if let Some((owner, kind)) = leaf(&bytes, self.geo.uuid()) {
                    lost.entry((owner, kind)).or_default().push(block.get());
                }
            }
        }
        self.lost = Some(lost);
    }

    /// The bitmap of a group, if it and its descriptor hold.
    pub fn bitmap(&self, g: u64) -> Option<Vec<u8>> {
        let (block, off) = self.geo.desc_location(g);
        let desc = self.image.read(block.get()).ok()?;
        if group::read_desc(&desc, off, self.geo, g).ok()?.is_uninit() {
            return Some(space::initial(self.geo, g));
        }
        let bytes = self.image.read(self.geo.bitmap_block(g).get()).ok()?;
        group::verify_bitmap(&desc, off, &bytes, self.geo, g).ok()?;
        Some(bytes)
    }
}

/// Sorts the records, drops what is there twice, and what reaches into the next one where ranges
/// may not. The first of two with the same key stays.
fn settle(records: &mut Records, kind: Kind) {
    records.sort_by_key(|(key, _)| *key);
    records.dedup_by_key(|(key, _)| *key);
    if kind == Kind::Refcount {
        // They are computed anew; only their order matters.
        let mut end = 0;
        records.retain(|(key, value)| {
            let len = value
                .first_chunk::<4>()
                .map_or(0, |b| u32::from_le_bytes(*b));
            let fits = *key >= end;
            if fits {
                end = key.saturating_add(len.into());
            }
            fits
        });
    }
}

/// Takes in a node: records that hold, or children.
fn place(
    found: &mut Found,
    todo: &mut Vec<Todo>,
    node: Node,
    kind: Kind,
    lo: u64,
    hi: Option<u64>,
) {
    found.sound &= node.sound;
    let bounds = neighbours(&node, lo, hi);
    if node.level == 0 {
        let (records, strays) = (found.records.len(), found.strays.len());
        for (part, bounds) in node.parts.into_iter().zip(bounds) {
            leaf_record(found, part, kind, (lo, hi), bounds);
        }
        if !node.sealed {
            let new = found.records.iter().skip(records);
            let new = new.chain(found.strays.iter().skip(strays));
            found.doubtful.extend(new.map(|(key, _)| *key));
        }
        return;
    }
    found.sound &= node.parts.first().is_some_and(|part| part.key == Some(lo));
    // What comes first goes on top.
    for (i, (part, (from, to))) in node.parts.iter().zip(bounds).enumerate().rev() {
        let key = part.key.filter(|&key| inside(key, (lo, hi)));
        found.sound &= key.is_some() || i == 0;
        let lo = if i == 0 { lo } else { key.unwrap_or(from) };
        let value = part.value.as_deref();
        let child: Option<[u8; CHILD_SIZE]> = value.and_then(|child| child.try_into().ok());
        let Some(child) = child else {
            found.sound = false;
            found.gaps.push((lo, to));
            continue;
        };
        todo.push(Todo {
            block: BlockNr::new(u64::from_le_bytes(child)),
            level: node.level.saturating_sub(1),
            lo,
            hi: to,
        });
    }
}

/// Does a key lie in a range?
fn inside(key: u64, (lo, hi): Range) -> bool {
    key >= lo && hi.is_none_or(|hi| key < hi)
}

/// What each slot can hold: from behind the last key before it that holds, up to the next one. Where
/// the key of a slot does not hold, this range and that of the slot before it overlap.
fn neighbours(node: &Node, lo: u64, hi: Option<u64>) -> Vec<Range> {
    let parts = &node.parts;
    let key = |part: &Part| part.key.filter(|&key| inside(key, (lo, hi)));
    let mut next = hi;
    let mut bounds: Vec<Range> = Vec::with_capacity(parts.len());
    for part in parts.iter().rev() {
        bounds.push((lo, next));
        next = key(part).or(next);
    }
    bounds.reverse();
    let mut before = lo;
    for (range, part) in bounds.iter_mut().zip(parts) {
        range.0 = before;
        // A key in a leaf is taken; what a child holds begins with its key.
        let taken = u64::from(node.level == 0);
        before = key(part).map_or(before, |key| key.saturating_add(taken));
    }
    bounds
}

/// Takes in a record of a leaf whose keys lie in `home`. `bounds` is what its neighbours leave it.
fn leaf_record(found: &mut Found, part: Part, kind: Kind, home: Range, bounds: Range) {
    let Some(bytes) = part.value else {
        found.drop_record(kind, bounds);
        return;
    };
    // An inode knows its own number, and names are sorted in by what they are.
    let own = match kind {
        Kind::Inodes => bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)),
        Kind::Dir => {
            let last = found.records.last();
            let free = last.map_or(Some(0), |(key, _)| key.checked_add(1));
            free.map(|free| free.max(bounds.0))
        }
        _ => None,
    };
    let key = match part.key {
        Some(key) if kind == Kind::Inodes && !inside(key, home) => {
            found.sound = false;
            own.filter(|&own| inside(own, home)).unwrap_or(key)
        }
        Some(key) => key,
        None => {
            let Some(own) = own.filter(|&own| inside(own, bounds)) else {
                found.drop_record(kind, bounds);
                return;
            };
            found.sound = false;
            own
        }
    };
    match value::verify_value(kind, key, &bytes) {
        Ok(()) => {}
        // Inode records are mended, not judged.
        Err(_) if kind == Kind::Inodes => found.sound = false,
        Err(_) => {
            found.drop_record(kind, (key, key.checked_add(1)));
            return;
        }
    }
    match inside(key, home) {
        true => found.records.push((key, bytes)),
        false => {
            found.sound = false;
            found.strays.push((key, bytes));
        }
    }
}

/// Opens a block as the node `id`. With a right checksum it must be exactly that node; with a
/// wrong one, one field of the header may be what is wrong.
fn open(bytes: &[u8], id: &NodeId, uuid: &[u8; 16]) -> Option<Node> {
    let header = node::header(bytes)?;
    let reserved = header.reserved.iter().any(|&b| b != 0);
    let sealed = header.crc.get() == node::checksum(bytes, uuid);
    if sealed {
        node::verify_identity(bytes, id, uuid).ok()?;
    } else {
        let level = header.core.level;
        let signs = [
            header.magic.get() == node::MAGIC,
            header.block.get() == id.block.get(),
            header.owner.get() == id.owner.get(),
            header.uuid == *uuid,
            header.core.kind == id.kind.as_u8()
                && (id.level == LEVEL_ANY || level == id.level)
                && level < MAX_LEVEL,
        ];
        if signs.into_iter().filter(|sign| !sign).count() > 1 {
            return None;
        }
    }
    let level = match id.level {
        LEVEL_ANY => header.core.level,
        level => level,
    };
    let (level, parts) = slots(bytes, CORE_OFFSET, HEADER_SIZE, level)?;
    Some(Node {
        level,
        parts,
        sealed,
        sound: sealed && !reserved && node::verify_structure(bytes, id, uuid).is_ok(),
    })
}

/// Is this block a leaf of the filesystem, wherever it lies? Its owner and kind.
fn leaf(bytes: &[u8], uuid: &[u8; 16]) -> Option<(u64, u8)> {
    let header = node::header(bytes)?;
    let holds = header.magic.get() == node::MAGIC
        && header.uuid == *uuid
        && header.core.level == 0
        && header.crc.get() == node::checksum(bytes, uuid);
    holds.then_some((header.owner.get(), header.core.kind))
}

/// Level and slots of a node. The values are packed without holes, so where the chain breaks,
/// something is wrong; the records on both sides of it are still good.
fn slots(bytes: &[u8], core_at: usize, slots_at: usize, level: u8) -> Option<(u8, Vec<Part>)> {
    if level >= MAX_LEVEL {
        return None;
    }
    let (core, _) = NodeCore::ref_from_prefix(bytes.get(core_at..)?).ok()?;
    let most = bytes.len().saturating_sub(slots_at) / SLOT_SIZE;
    let nr = usize::from(core.nr.get()).min(most);
    let (slots, _) = <[Slot]>::ref_from_prefix_with_elems(bytes.get(slots_at..)?, nr).ok()?;
    let floor = slots_at.saturating_add(nr.saturating_mul(SLOT_SIZE));
    let mut parts = Vec::with_capacity(nr);
    let mut before = None;
    for (i, slot) in slots.iter().enumerate() {
        let (key, off) = (slot.key.get(), usize::from(slot.off.get()));
        // A key that does not fit between its neighbours, which fit each other.
        let next = slots.get(i.saturating_add(1)).map(|next| next.key.get());
        let odd = next.is_some_and(|next| key >= next && before < Some(next));
        let end = off.saturating_add(usize::from(slot.len.get()));
        let value = bytes.get(off..end).filter(|_| off >= floor);
        let value = value.filter(|value| level == 0 || value.len() == CHILD_SIZE);
        let fits = value.is_some() && !odd && before < Some(key);
        let key = Some(key).filter(|_| fits);
        before = key.or(before);
        parts.push(Part {
            key,
            value: value.map(<[u8]>::to_vec),
        });
    }
    if level > 0 && parts.iter().all(|part| part.value.is_none()) {
        return None;
    }
    Some((level, parts))
}

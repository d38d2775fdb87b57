// SPDX-License-Identifier: GPL-2.0

//! Writes trees anew, into blocks that nothing uses yet. The roots of the global trees are the only
//! blocks that are replaced.

use std::collections::HashMap;

use calf_core::algo::bitmap;
use calf_core::algo::btree::Tree;
use calf_core::algo::dir;
use calf_core::algo::store::{NodeId, NodeRead, NodeStore, TreeError};
use calf_core::format::dirent::{DT_DIR, FIRST_KEY, PARENT_KEY};
use calf_core::format::extent::RawExtent;
use calf_core::format::geometry::Geometry;
use calf_core::format::inode::InodeRecord;
use calf_core::format::node::{self, InlineRoot};
use calf_core::format::refcount::RawRefcount;
use calf_core::format::symlink::CHUNK;
use calf_core::format::{BlockNr, Ino, Kind};
use calf_io::editor::Error;
use zerocopy::IntoBytes;

use super::attrs::Attributes;
use super::model::{Content, Entry, Model};
use crate::bits::Bits;
use crate::replay::Blocks;
use crate::report::Report;
use crate::used::Run;

/// Takes free blocks, in two rounds: first those that the old bitmaps call free as well, then those
/// that nothing known uses.
pub struct Space<'g> {
    geo: &'g Geometry,
    /// What must not be touched.
    busy: Bits,
    /// What the bitmaps on the device call used.
    marked: Bits,
    cursor: u64,
    strict: bool,
}

impl<'g> Space<'g> {
    /// Free is what is neither busy nor marked.
    pub fn new(geo: &'g Geometry, busy: Bits, marked: Bits) -> Self {
        Self {
            geo,
            busy,
            marked,
            cursor: 0,
            strict: true,
        }
    }

    fn take(&mut self) -> Result<u64, Error> {
        loop {
            while self.cursor < self.geo.blocks() {
                let block = self.cursor;
                self.cursor = block.saturating_add(1);
                let used = self.busy.has(block) || (self.strict && self.marked.has(block));
                let free = !used && self.geo.check_block(BlockNr::new(block)).is_ok();
                if free {
                    self.busy.add(block, 1);
                    return Ok(block);
                }
            }
            if !self.strict {
                return Err(Error::NoSpace);
            }
            (self.strict, self.cursor) = (false, 0);
        }
    }
}

/// New nodes.
pub struct Fresh<'g> {
    geo: &'g Geometry,
    space: Space<'g>,
    blocks: HashMap<u64, Vec<u8>>,
}

impl<'g> Fresh<'g> {
    /// None yet.
    pub fn new(geo: &'g Geometry, space: Space<'g>) -> Self {
        Self {
            geo,
            space,
            blocks: HashMap::new(),
        }
    }

    /// A global tree of these records. Its root is kept apart.
    fn global(
        &mut self,
        kind: Kind,
        root: BlockNr,
        records: impl Iterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> Result<(), Error> {
        let id = NodeId {
            block: root,
            owner: Ino::GLOBAL,
            kind,
            level: 0,
        };
        let mut bytes = vec![0; self.block_size()];
        node::init(&mut bytes, &id, self.geo.uuid());
        if let Some(header) = node::header_mut(&mut bytes) {
            header.tree_blocks = 1.into();
        }
        self.blocks.insert(root.get(), bytes);
        let mut tree = Tree::global(kind, root);
        for (key, value) in records {
            tree.insert(self, key, value.as_ref())?;
        }
        Ok(())
    }

    /// An inode's tree of these records: its root and the number of nodes.
    fn inode(
        &mut self,
        kind: Kind,
        ino: u64,
        records: impl Iterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> Result<(InlineRoot, u64), Error> {
        let mut tree = Tree::inode(kind, Ino::new(ino), InlineRoot::empty(kind));
        for (key, value) in records {
            tree.insert(self, key, value.as_ref())?;
        }
        let nodes = u64::try_from(tree.delta()).unwrap_or(0);
        let root = tree.inline_root().copied();
        Ok((root.unwrap_or(InlineRoot::empty(kind)), nodes))
    }

    /// All new nodes, sealed: those in blocks that were free, and the roots.
    pub fn finish(self) -> (Blocks, Blocks) {
        let roots = [
            self.geo.inode_root().get(),
            self.geo.refcount_root().get(),
            self.geo.orphan_root().get(),
        ];
        let (mut fresh, mut fixed) = (Blocks::new(), Blocks::new());
        for (block, mut bytes) in self.blocks {
            node::seal(&mut bytes, self.geo.uuid());
            match roots.contains(&block) {
                true => fixed.push((block, bytes)),
                false => fresh.push((block, bytes)),
            }
        }
        fresh.sort_unstable_by_key(|(block, _)| *block);
        // The inodes lead to everything else.
        fixed.sort_unstable_by_key(|(block, _)| *block != roots[0]);
        (fresh, fixed)
    }

    /// Blocks of new nodes, roots included.
    pub fn places(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }
}

impl NodeRead for Fresh<'_> {
    type Error = Error;

    fn block_size(&self) -> usize {
        // CAST: at most 4096.
        self.geo.block_size() as usize
    }

    fn uuid(&self) -> &[u8; 16] {
        self.geo.uuid()
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        match self.blocks.get(&id.block.get()) {
            Some(bytes) => Ok(f(bytes)),
            None => Err(Error::Tree(TreeError::NotFound)),
        }
    }

    fn damaged(&self, id: NodeId, what: &'static str) -> Error {
        Error::Damaged {
            block: id.block.get(),
            what,
        }
    }
}

impl NodeStore for Fresh<'_> {
    fn node_mut(&mut self, id: NodeId) -> Result<&mut [u8], Error> {
        match self.blocks.get_mut(&id.block.get()) {
            Some(bytes) => Ok(bytes),
            None => Err(Error::Tree(TreeError::NotFound)),
        }
    }

    fn alloc_node(
        &mut self,
        owner: Ino,
        kind: Kind,
        level: u8,
        _near: BlockNr,
    ) -> Result<BlockNr, Error> {
        let block = BlockNr::new(self.space.take()?);
        let id = NodeId {
            block,
            owner,
            kind,
            level,
        };
        let mut bytes = vec![0; self.block_size()];
        node::init(&mut bytes, &id, self.geo.uuid());
        self.blocks.insert(block.get(), bytes);
        Ok(block)
    }

    fn free_node(&mut self, id: NodeId) -> Result<(), Error> {
        self.blocks.remove(&id.block.get());
        Ok(())
    }
}

/// Writes all trees that need it, and sets the records of their inodes. Errors: no free block.
pub fn trees(
    model: &mut Model,
    fresh: &mut Fresh<'_>,
    hash_seed: &[u8; 16],
    report: &mut Report,
) -> Result<(), Error> {
    for (&ino, node) in &mut model.inodes {
        let kind = InodeRecord::tree_kind(node.rec.mode.get());
        let mut blocks = node.nodes.len() as u64;
        if let Some(kind) = kind.filter(|_| node.rewrite) {
            let (root, nodes) = match &node.content {
                Content::File(extents) => {
                    let records = extents.iter().filter_map(|e| {
                        let raw = RawExtent::new(BlockNr::new(e.phys), e.len, e.unwritten)?;
                        Some((e.fblk, raw.as_bytes().to_vec()))
                    });
                    fresh.inode(kind, ino, records)?
                }
                Content::Dir(parent, entries) => {
                    let records = directory(*parent, entries, hash_seed);
                    fresh.inode(kind, ino, records.into_iter())?
                }
                Content::Link(target) => fresh.inode(kind, ino, (0..).zip(target.chunks(CHUNK)))?,
                Content::None => continue,
            };
            node.rec.root = root;
            node.changed = true;
            blocks = nodes;
        }
        let attr_blocks = Attributes::write(node, ino, fresh, hash_seed)?;
        let blocks = blocks
            .saturating_add(node.data_blocks())
            .saturating_add(attr_blocks);
        if node.rec.nblocks.get() != blocks {
            if !node.rewrite && !node.attrs.rewrite {
                report.done(format_args!(
                    "inode {ino}: said it had {} blocks; set to {blocks}",
                    node.rec.nblocks
                ));
            }
            node.rec.nblocks = blocks.into();
            node.changed = true;
        }
    }
    let changed = model.inodes.values().any(|node| node.changed);
    if changed || model.inode_tree.rewrite {
        model.inode_tree.rewrite = true;
        let records = model.inodes.iter();
        let records = records.map(|(&ino, node)| (ino, node.rec.as_bytes()));
        fresh.global(Kind::Inodes, fresh.geo.inode_root(), records)?;
    }
    if model.orphan_tree.rewrite {
        let none = std::iter::empty::<(u64, [u8; 0])>();
        fresh.global(Kind::Orphans, fresh.geo.orphan_root(), none)?;
    }
    Ok(())
}

/// Writes the tree of reference counts, unless it is right. `runs` are all runs of data.
pub fn refcounts(
    model: &mut Model,
    fresh: &mut Fresh<'_>,
    runs: &[Run],
    report: &mut Report,
) -> Result<(), Error> {
    let mut right: Vec<(u64, Vec<u8>)> = Vec::new();
    for &(start, end, count) in runs.iter().filter(|run| run.2 > 1) {
        let mut at = start;
        while at < end {
            let len = u32::try_from(end.saturating_sub(at)).unwrap_or(u32::MAX);
            let raw = RawRefcount {
                len: len.into(),
                count: count.into(),
            };
            right.push((at, raw.as_bytes().to_vec()));
            at = at.saturating_add(len.into());
        }
    }
    let tree = &mut model.refcount_tree;
    // Records that say the same in other pieces need not be written.
    if !tree.rewrite && pieces(&tree.records) == pieces(&right) {
        return Ok(());
    }
    report.done(format_args!(
        "reference counts: written anew, {} records",
        right.len()
    ));
    tree.rewrite = true;
    fresh.global(Kind::Refcount, fresh.geo.refcount_root(), right.into_iter())
}

/// The runs that the records of reference counts stand for.
fn pieces(records: &[(u64, Vec<u8>)]) -> Vec<Run> {
    let mut runs = Vec::new();
    for (key, value) in records {
        if let Ok(raw) = RawRefcount::parse(*key, value) {
            let end = key.saturating_add(raw.len.get().into());
            crate::used::push(&mut runs, (*key, end, raw.count.get()));
        }
    }
    runs
}

/// The records of a directory, sorted. Names without a key get one.
fn directory(parent: u64, entries: &[Entry], hash_seed: &[u8; 16]) -> Vec<(u64, Vec<u8>)> {
    let value = |ino: u64, ftype: u8, name: &[u8]| {
        let mut value = ino.to_le_bytes().to_vec();
        value.push(ftype);
        value.extend_from_slice(name);
        value
    };
    let mut taken: HashMap<u64, &Entry> = HashMap::new();
    let (with, without): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|e| e.key.is_some());
    for e in with {
        taken.insert(e.key.unwrap_or(0), e);
    }
    for e in without {
        let base = dir::base_key(hash_seed, &e.name);
        let free = (base..base.saturating_add(FIRST_KEY)).find(|key| !taken.contains_key(key));
        taken.insert(free.unwrap_or(base), e);
    }
    let mut records: Vec<(u64, Vec<u8>)> = taken
        .into_iter()
        .map(|(key, e)| (key, value(e.ino, e.ftype, &e.name)))
        .collect();
    records.push((PARENT_KEY, value(parent, DT_DIR, b"")));
    records.sort_unstable_by_key(|(key, _)| *key);
    records
}

/// The bits that are set in a bitmap block, as blocks.
pub fn mark(bits: &mut Bits, start: u64, len: u64, bitmap: &[u8]) {
    for at in 0..len {
        // CAST: less than a group.
        if bitmap::test_byte(bitmap, at as usize) {
            bits.add(start.saturating_add(at), 1);
        }
    }
}

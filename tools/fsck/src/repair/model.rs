// SPDX-License-Identifier: GPL-2.0

//! The filesystem as it will be: everything that could be read, in memory. Names and extents take
//! about a hundred bytes each.

use std::collections::{BTreeMap, BTreeSet};

use calf_core::format::geometry::Geometry;
use calf_core::format::inode::{InodeRecord, S_IFDIR, S_IFMT, S_IFREG};
use calf_core::format::super_block::ROOT_INO;

use super::attrs::Attributes;
use crate::bits::Bits;
use crate::trees::Records;
use crate::used::Used;

/// An extent of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First file block.
    pub fblk: u64,
    /// First block.
    pub phys: u64,
    /// Blocks.
    pub len: u64,
    /// Reads as zeros.
    pub unwritten: bool,
}

impl Extent {
    /// The file block after the last one.
    pub fn end(&self) -> u64 {
        self.fblk.saturating_add(self.len)
    }
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its key; [`None`] if it needs one.
    pub key: Option<u64>,
    /// The inode it leads to.
    pub ino: u64,
    /// The type it says that inode has.
    pub ftype: u8,
    /// The name.
    pub name: Box<[u8]>,
}

/// What an inode holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Nothing: a device, a pipe, a socket.
    None,
    /// Extents, ascending, without overlaps.
    File(Vec<Extent>),
    /// The parent it names, and the names in it.
    Dir(u64, Vec<Entry>),
    /// The target of a symbolic link.
    Link(Vec<u8>),
}

/// An inode.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its record.
    pub rec: InodeRecord,
    /// What its tree holds.
    pub content: Content,
    /// The nodes of its tree as it is on the device.
    pub nodes: Vec<u64>,
    /// The tree must be written anew.
    pub rewrite: bool,
    /// The record must be written.
    pub changed: bool,
    /// Its extended attributes, if they lie in a tree.
    pub attrs: Attributes,
}

impl Node {
    /// Type bits of the mode.
    pub fn kind(&self) -> u16 {
        self.rec.mode.get() & S_IFMT
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.kind() == S_IFDIR
    }

    /// Is it a regular file?
    pub fn is_reg(&self) -> bool {
        self.kind() == S_IFREG
    }

    /// The `DT_*` number of its type.
    pub fn ftype(&self) -> u8 {
        InodeRecord::ftype(self.rec.mode.get())
    }

    /// Has it nothing that tells an empty file from a special one?
    pub fn is_bare(&self) -> bool {
        let empty = match &self.content {
            Content::None => true,
            Content::File(extents) => extents.is_empty(),
            _ => false,
        };
        empty && self.nodes.is_empty()
    }

    /// The names in it, if it is a directory.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Dir(_, entries) => entries,
            _ => &[],
        }
    }

    /// The names in it for change. The tree will be written anew.
    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        self.rewrite = true;
        match &mut self.content {
            Content::Dir(_, entries) => Some(entries),
            _ => None,
        }
    }

    /// Its extents, if it is a file.
    pub fn extents(&self) -> &[Extent] {
        match &self.content {
            Content::File(extents) => extents,
            _ => &[],
        }
    }

    /// Its extents for change. The tree will be written anew.
    pub fn extents_mut(&mut self) -> Option<&mut Vec<Extent>> {
        self.rewrite = true;
        match &mut self.content {
            Content::File(extents) => Some(extents),
            _ => None,
        }
    }

    /// Blocks of data.
    pub fn data_blocks(&self) -> u64 {
        self.extents()
            .iter()
            .fold(0, |sum: u64, e| sum.saturating_add(e.len))
    }
}

/// A global tree as it is on the device.
#[derive(Default)]
pub struct Global {
    /// Its nodes, the root included.
    pub nodes: Vec<u64>,
    /// It must be written anew.
    pub rewrite: bool,
    /// Its records.
    pub records: Records,
}

/// The filesystem.
#[derive(Default)]
pub struct Model {
    /// Inodes by number.
    pub inodes: BTreeMap<u64, Node>,
    /// Inodes with work left to do: is it a truncation?
    pub orphans: BTreeMap<u64, bool>,
    /// The tree of inodes.
    pub inode_tree: Global,
    /// The tree of reference counts.
    pub refcount_tree: Global,
    /// The tree of orphans.
    pub orphan_tree: Global,
    /// Block size, bytes.
    pub block_size: u64,
    /// Files that lost data.
    pub hurt: BTreeSet<u64>,
    /// Inodes of which something was read from a node with a wrong checksum.
    pub uncertain: BTreeSet<u64>,
    /// Inodes with an empty tree whose mode did not hold: a special file has the same tree as an
    /// empty file.
    pub untyped: BTreeSet<u64>,
}

impl Model {
    /// Nodes of trees that stay as they are.
    pub fn kept_nodes(&self, geo: &Geometry) -> Bits {
        let mut bits = Bits::new(geo.blocks());
        let trees = [&self.inode_tree, &self.refcount_tree, &self.orphan_tree];
        let global = trees.into_iter().filter(|tree| !tree.rewrite);
        for &block in global.flat_map(|tree| &tree.nodes) {
            bits.add(block, 1);
        }
        let kept = self.inodes.values().filter(|node| !node.rewrite);
        for &block in kept.flat_map(|node| &node.nodes) {
            bits.add(block, 1);
        }
        let attrs = self.inodes.values().map(|node| &node.attrs);
        for &block in attrs.filter(|a| !a.rewrite).flat_map(|a| &a.nodes) {
            bits.add(block, 1);
        }
        bits
    }

    /// All data with its references.
    pub fn data(&self, geo: &Geometry) -> Used {
        let mut used = Used::new(geo);
        for e in self.inodes.values().flat_map(Node::extents) {
            used.add(e.phys, e.len);
        }
        used
    }

    /// Blocks of data.
    pub fn data_bits(&self, geo: &Geometry) -> Bits {
        let mut bits = Bits::new(geo.blocks());
        for e in self.inodes.values().flat_map(Node::extents) {
            bits.add(e.phys, e.len);
        }
        bits
    }

    /// A path that leads to an inode, as far as there is one.
    pub fn path(&self, ino: u64) -> String {
        let mut parts = Vec::new();
        let mut at = ino;
        while at != ROOT_INO.get() && parts.len() < 64 {
            let holder = self.inodes.iter().find_map(|(&dir, node)| {
                let entry = node.entries().iter().find(|e| e.ino == at)?;
                Some((dir, entry))
            });
            let Some((dir, entry)) = holder else {
                return format!("inode {ino}");
            };
            parts.push(entry.name.escape_ascii().to_string());
            at = dir;
        }
        parts.reverse();
        format!("/{} (inode {ino})", parts.join("/"))
    }
}

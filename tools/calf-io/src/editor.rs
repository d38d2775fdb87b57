// SPDX-License-Identifier: GPL-2.0

//! Changes an unmounted filesystem: trees, bitmaps, inodes. All or nothing is not promised here;
//! changes stay in memory until [`Editor::flush`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;

use calf_core::algo::bitmap;
use calf_core::algo::btree::Tree;
use calf_core::algo::store::{NodeId, NodeRead, NodeStore, TreeError};
use calf_core::format::geometry::Geometry;
use calf_core::format::group::{self, GroupDesc};
use calf_core::format::inode::InodeRecord;
use calf_core::format::node;
use calf_core::format::{BlockNr, Ino, Kind};
use zerocopy::{FromBytes, IntoBytes};

use crate::device::Storage;

/// What stops an edit.
#[derive(Debug)]
pub enum Error {
    /// The device failed.
    Io(io::Error),
    /// A tree is damaged, or does not take the change.
    Tree(TreeError),
    /// A structure is damaged.
    Damaged {
        /// The block it is in.
        block: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No free block is left.
    NoSpace,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::Tree(e) => write!(f, "tree: {e:?}"),
            Self::Damaged { block, what } => write!(f, "block {block}: {what}"),
            Self::NoSpace => f.write_str("no free block is left"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<TreeError> for Error {
    fn from(e: TreeError) -> Self {
        Self::Tree(e)
    }
}

/// The result of an edit.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An unmounted filesystem under change.
pub struct Editor<'a> {
    storage: &'a dyn Storage,
    geo: Geometry,
    /// Blocks read or changed; nodes in here have been verified.
    cache: RefCell<BTreeMap<u64, Vec<u8>>>,
    dirty: BTreeMap<u64, Dirty>,
    /// Bitmaps in use, by group.
    bitmaps: BTreeMap<u64, Vec<u8>>,
    cursor: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dirty {
    Node,
    Raw,
}

impl<'a> Editor<'a> {
    /// An editor of the filesystem of this geometry.
    pub fn new(storage: &'a dyn Storage, geo: Geometry) -> Self {
        Self {
            storage,
            geo,
            cache: RefCell::default(),
            dirty: BTreeMap::new(),
            bitmaps: BTreeMap::new(),
            cursor: 0,
        }
    }

    /// The geometry.
    pub fn geo(&self) -> &Geometry {
        &self.geo
    }

    fn load(&self, block: BlockNr) -> Result<Vec<u8>> {
        let at = block.get().saturating_mul(self.geo.block_size());
        Ok(self.storage.read(at, self.geo.block_size() as usize)?)
    }

    /// The tree of inodes.
    pub fn inodes(&self) -> Tree {
        Tree::global(Kind::Inodes, self.geo.inode_root())
    }

    /// The tree of reference counts.
    pub fn refcounts(&self) -> Tree {
        Tree::global(Kind::Refcount, self.geo.refcount_root())
    }

    /// The tree of orphans.
    pub fn orphans(&self) -> Tree {
        Tree::global(Kind::Orphans, self.geo.orphan_root())
    }

    /// Makes the root of a global tree an empty leaf.
    pub fn init_root(&mut self, kind: Kind, block: BlockNr) {
        let id = NodeId {
            block,
            owner: Ino::GLOBAL,
            kind,
            level: 0,
        };
        let mut bytes = vec![0; self.geo.block_size() as usize];
        node::init(&mut bytes, &id, self.geo.uuid());
        if let Some(header) = node::header_mut(&mut bytes) {
            header.tree_blocks = 1.into();
        }
        self.cache.borrow_mut().insert(block.get(), bytes);
        self.dirty.insert(block.get(), Dirty::Node);
    }

    /// The record of an inode.
    pub fn inode(&self, ino: Ino) -> Result<Option<InodeRecord>> {
        let value = self.inodes().get(self, ino.get())?;
        Ok(value.and_then(|v| InodeRecord::read_from_bytes(&v).ok()))
    }

    /// Stores the record of an inode, new or not.
    pub fn put_inode(&mut self, rec: &InodeRecord) -> Result<()> {
        let mut tree = self.inodes();
        match tree.get(self, rec.ino.get())? {
            Some(_) => tree.replace(self, rec.ino.get(), rec.as_bytes()),
            None => tree.insert(self, rec.ino.get(), rec.as_bytes()),
        }
    }

    /// Removes the record of an inode.
    pub fn remove_inode(&mut self, ino: Ino) -> Result<()> {
        self.inodes().remove(self, ino.get())
    }

    /// Replaces a block that is not a tree node.
    pub fn write_raw(&mut self, block: BlockNr, bytes: Vec<u8>) {
        self.cache.borrow_mut().insert(block.get(), bytes);
        self.dirty.insert(block.get(), Dirty::Raw);
    }

    fn bitmap(&mut self, g: u64) -> Result<&mut Vec<u8>> {
        if !self.bitmaps.contains_key(&g) {
            let at = self.geo.bitmap_block(g);
            let mut bitmap = self.load(at)?;
            let (block, off) = self.geo.desc_location(g);
            let descs = self.load(block)?;
            let damaged = |what| Error::Damaged {
                block: at.get(),
                what,
            };
            if group::read_desc(&descs, off, &self.geo, g)
                .map_err(damaged)?
                .is_uninit()
            {
                group::init_bitmap(&mut bitmap, &self.geo, g);
            } else {
                group::verify_bitmap(&descs, off, &bitmap, &self.geo, g).map_err(damaged)?;
            }
            self.bitmaps.insert(g, bitmap);
        }
        self.bitmaps.get_mut(&g).ok_or(Error::NoSpace)
    }

    /// Allocates up to `want` blocks in one run, from the group of `near` on.
    pub fn alloc(&mut self, near: BlockNr, want: u64) -> Result<(BlockNr, u64)> {
        let goal = near.get().max(self.cursor);
        let first = self.geo.group_of(BlockNr::new(goal));
        for i in 0..=self.geo.ngroups() {
            let g = (first + i) % self.geo.ngroups();
            let (start, len) = self.geo.group_range(g);
            let from = if i == 0 { goal - start.get() } else { 0 };
            let bits = self.bitmap(g)?;
            let Some(bit) = (from..len).find(|&bit| !bitmap::test_byte(bits, bit as usize)) else {
                continue;
            };
            let mut n = 0;
            while n < want && bit + n < len && !bitmap::test_byte(bits, (bit + n) as usize) {
                n += 1;
            }
            bitmap::set_bytes(bits, bit as usize, n as usize);
            return Ok((BlockNr::new(start.get() + bit), n));
        }
        Err(Error::NoSpace)
    }

    /// Looks for free blocks only from `block` on, then from the start.
    pub fn set_cursor(&mut self, block: BlockNr) {
        self.cursor = block.get();
    }

    /// Frees blocks.
    pub fn free(&mut self, start: BlockNr, len: u64) -> Result<()> {
        let g = self.geo.group_of(start);
        let bit = start.get() - self.geo.group_range(g).0.get();
        bitmap::clear_bytes(self.bitmap(g)?, bit as usize, len as usize);
        Ok(())
    }

    /// Writes all changes, with checksums, and waits until they are durable.
    pub fn flush(&mut self) -> Result<()> {
        let size = self.geo.block_size();
        for (g, bits) in std::mem::take(&mut self.bitmaps) {
            let at = self.geo.bitmap_block(g).get() * size;
            self.storage.write_at(&bits, at)?;
            let free = bits.iter().map(|b| b.count_zeros()).sum();
            let crc = group::bitmap_checksum(&bits, &self.geo);
            let desc = GroupDesc::new(&self.geo, g, free, crc);
            let (block, off) = self.geo.desc_location(g);
            self.storage
                .write_at(desc.as_bytes(), block.get() * size + off as u64)?;
        }
        let mut cache = self.cache.borrow_mut();
        for (block, kind) in std::mem::take(&mut self.dirty) {
            if let Some(bytes) = cache.get_mut(&block) {
                if kind == Dirty::Node {
                    node::seal(bytes, self.geo.uuid());
                }
                self.storage.write_at(bytes, block * size)?;
            }
        }
        drop(cache);
        Ok(self.storage.sync()?)
    }
}

impl NodeRead for Editor<'_> {
    type Error = Error;

    fn block_size(&self) -> usize {
        self.geo.block_size() as usize
    }

    fn uuid(&self) -> &[u8; 16] {
        self.geo.uuid()
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if let Some(bytes) = self.cache.borrow().get(&id.block.get()) {
            return Ok(f(bytes));
        }
        let damaged = |what| self.damaged(id, what);
        self.geo.check_block(id.block).map_err(damaged)?;
        let bytes = self.load(id.block)?;
        node::verify(&bytes, &id, self.geo.uuid()).map_err(damaged)?;
        let result = f(&bytes);
        self.cache.borrow_mut().insert(id.block.get(), bytes);
        Ok(result)
    }

    fn damaged(&self, id: NodeId, what: &'static str) -> Error {
        Error::Damaged {
            block: id.block.get(),
            what,
        }
    }
}

impl NodeStore for Editor<'_> {
    fn node_mut(&mut self, id: NodeId) -> Result<&mut [u8]> {
        self.with_node(id, |_| ())?;
        self.dirty.insert(id.block.get(), Dirty::Node);
        match self.cache.get_mut().get_mut(&id.block.get()) {
            Some(bytes) => Ok(bytes),
            None => Err(Error::Tree(TreeError::NotFound)),
        }
    }

    fn alloc_node(&mut self, owner: Ino, kind: Kind, level: u8, near: BlockNr) -> Result<BlockNr> {
        let (block, _) = self.alloc(near, 1)?;
        let id = NodeId {
            block,
            owner,
            kind,
            level,
        };
        let mut bytes = vec![0; self.block_size()];
        node::init(&mut bytes, &id, self.geo.uuid());
        self.cache.borrow_mut().insert(block.get(), bytes);
        self.dirty.insert(block.get(), Dirty::Node);
        Ok(block)
    }

    fn free_node(&mut self, id: NodeId) -> Result<()> {
        self.cache.borrow_mut().remove(&id.block.get());
        self.dirty.remove(&id.block.get());
        self.free(id.block, 1)
    }
}

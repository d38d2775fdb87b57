// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A store in memory, for tests: nodes are published or dropped as a whole, every node read is
//! verified, every edit is measured, and any call can be made to fail.

use crate::algo::change::{Change, Kept};
use crate::algo::store::{NodeId, NodeRead, NodeStore, TreeError};
use crate::format::node;
use crate::format::types::{BlockNr, Ino, Kind};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a call on the store can fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemError {
    /// The tree's own errors.
    Tree(TreeError),
    /// The tree is damaged.
    Damaged(&'static str),
    /// The failure that was asked for.
    Injected,
    /// No such block.
    NoBlock,
    /// The node did not pass the verifier.
    Bad(&'static str),
}

impl From<TreeError> for MemError {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

/// The store.
#[derive(Clone)]
pub struct MemStore {
    block_size: usize,
    uuid: [u8; 16],
    /// Published nodes.
    pub blocks: BTreeMap<u64, Vec<u8>>,
    shadows: BTreeMap<u64, (NodeId, Vec<u8>)>,
    /// Changes of nodes that have no private copy.
    kept: BTreeMap<u64, (NodeId, Rc<Kept>)>,
    freed: BTreeSet<u64>,
    touched: BTreeSet<u64>,
    allocated: u64,
    next: u64,
    calls_left: Cell<Option<u64>>,
    calls: Cell<u64>,
    /// Whether to look into the values of leaves; off for trees of arbitrary bytes.
    pub check_values: bool,
    /// Whether to verify nodes at all; off to give damage to the trees themselves.
    pub check: bool,
}

impl MemStore {
    /// An empty store; values are checked.
    pub fn new(block_size: usize) -> Self {
        Self {
            block_size,
            uuid: *b"calf-memory-uuid",
            blocks: BTreeMap::new(),
            shadows: BTreeMap::new(),
            kept: BTreeMap::new(),
            freed: BTreeSet::new(),
            touched: BTreeSet::new(),
            allocated: 0,
            next: 1000,
            calls_left: Cell::new(None),
            calls: Cell::new(0),
            check_values: true,
            check: true,
        }
    }

    /// Publishes an empty root for a global tree.
    pub fn make_root(&mut self, kind: Kind, block: BlockNr) {
        let mut bytes = vec![0; self.block_size];
        let id = NodeId {
            block,
            owner: Ino::GLOBAL,
            kind,
            level: 0,
        };
        node::init(&mut bytes, &id, &self.uuid);
        node::header_mut(&mut bytes)
            .expect("a block is large enough")
            .tree_blocks = 1.into();
        node::seal(&mut bytes, &self.uuid);
        self.blocks.insert(block.get(), bytes);
    }

    /// Lets the call after the next `calls` fail.
    pub fn fail_after(&self, calls: Option<u64>) {
        self.calls_left.set(calls);
    }

    /// Calls since the store was made.
    pub fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Nodes changed, allocated or freed since the last publish or drop.
    pub fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Nodes allocated since the last publish or drop.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Publishes the changes.
    pub fn publish(&mut self) -> Result<(), MemError> {
        let shadows = std::mem::take(&mut self.shadows);
        for (block, (id, edited)) in shadows {
            // As in the kernel: what is free in a node keeps the bytes it had.
            let mut bytes = match self.blocks.remove(&block) {
                Some(old) => old,
                None => edited.clone(),
            };
            node::copy_used(&edited, &mut bytes);
            node::seal(&mut bytes, &self.uuid);
            self.verify(&bytes, &id)?;
            self.blocks.insert(block, bytes);
        }
        for (block, (id, kept)) in std::mem::take(&mut self.kept) {
            let mut bytes = self.blocks.remove(&block).ok_or(MemError::NoBlock)?;
            kept.change().apply(&mut bytes).map_err(MemError::Bad)?;
            node::seal(&mut bytes, &self.uuid);
            self.verify(&bytes, &id)?;
            self.blocks.insert(block, bytes);
        }
        for block in std::mem::take(&mut self.freed) {
            self.blocks.remove(&block);
        }
        self.reset();
        Ok(())
    }

    /// Drops the changes.
    pub fn abandon(&mut self) {
        self.shadows.clear();
        self.kept.clear();
        self.freed.clear();
        self.reset();
    }

    fn reset(&mut self) {
        self.touched.clear();
        self.allocated = 0;
    }

    fn verify(&self, bytes: &[u8], id: &NodeId) -> Result<(), MemError> {
        let verify = if self.check_values {
            node::verify
        } else {
            node::verify_structure
        };
        match self.check {
            true => verify(bytes, id, &self.uuid).map_err(MemError::Bad),
            false => Ok(()),
        }
    }

    fn call(&self) -> Result<(), MemError> {
        self.calls.set(self.calls.get() + 1);
        match self.calls_left.get() {
            Some(0) => Err(MemError::Injected),
            Some(n) => {
                self.calls_left.set(Some(n - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn published(&self, id: &NodeId) -> Result<&[u8], MemError> {
        if self.freed.contains(&id.block.get()) {
            return Err(MemError::NoBlock);
        }
        let bytes = self.blocks.get(&id.block.get()).ok_or(MemError::NoBlock)?;
        self.verify(bytes, id)?;
        Ok(bytes)
    }

    /// A node without a private copy, with the change that is kept for it.
    fn changed(&self, id: &NodeId) -> Result<Vec<u8>, MemError> {
        let mut bytes = self.published(id)?.to_vec();
        if let Some((_, kept)) = self.kept.get(&id.block.get()) {
            kept.change().apply(&mut bytes).map_err(MemError::Bad)?;
        }
        Ok(bytes)
    }
}

impl NodeRead for MemStore {
    type Error = MemError;

    fn block_size(&self) -> usize {
        self.block_size
    }

    fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R, MemError> {
        self.call()?;
        match self.shadows.get(&id.block.get()) {
            Some((_, bytes)) => Ok(f(bytes)),
            None => Ok(f(&self.changed(&id)?)),
        }
    }

    fn damaged(&self, _id: NodeId, what: &'static str) -> MemError {
        MemError::Damaged(what)
    }
}

impl NodeStore for MemStore {
    fn node_mut(&mut self, id: NodeId) -> Result<&mut [u8], MemError> {
        self.call()?;
        let block = id.block.get();
        if !self.shadows.contains_key(&block) {
            let bytes = self.changed(&id)?;
            self.kept.remove(&block);
            // A root's level changes: publish checks it against any.
            let level = node::LEVEL_ANY;
            self.shadows.insert(block, (NodeId { level, ..id }, bytes));
        }
        self.touched.insert(block);
        match self.shadows.get_mut(&block) {
            Some((_, bytes)) => Ok(bytes),
            None => Err(MemError::NoBlock),
        }
    }

    fn change(&mut self, id: NodeId, change: Change<'_>) -> Result<(), MemError> {
        let block = id.block.get();
        if self.shadows.contains_key(&block) || self.kept.contains_key(&block) {
            let made = change.apply(self.node_mut(id)?);
            return made.map_err(MemError::Damaged);
        }
        self.call()?;
        let checked = change.check(self.published(&id)?);
        checked.map_err(MemError::Damaged)?;
        let kept = Kept::new(change).map_err(TreeError::from)?;
        self.kept.insert(block, (id, Rc::new(kept)));
        self.touched.insert(block);
        Ok(())
    }

    fn alloc_node(
        &mut self,
        owner: Ino,
        kind: Kind,
        level: u8,
        _near: BlockNr,
    ) -> Result<BlockNr, MemError> {
        self.call()?;
        let block = BlockNr::new(self.next);
        self.next += 1;
        self.allocated += 1;
        let id = NodeId {
            block,
            owner,
            kind,
            level,
        };
        let mut bytes = vec![0; self.block_size];
        node::init(&mut bytes, &id, &self.uuid);
        // The root of attributes may get another level before it is published.
        let level = match kind {
            Kind::Xattr => node::LEVEL_ANY,
            _ => level,
        };
        let shadow = (NodeId { level, ..id }, bytes);
        self.shadows.insert(block.get(), shadow);
        self.touched.insert(block.get());
        Ok(block)
    }

    fn free_node(&mut self, id: NodeId) -> Result<(), MemError> {
        self.call()?;
        let block = id.block.get();
        if self.shadows.remove(&block).is_none() {
            self.published(&id)?;
        }
        self.kept.remove(&block);
        self.freed.insert(block);
        self.touched.insert(block);
        Ok(())
    }
}

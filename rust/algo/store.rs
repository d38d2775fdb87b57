// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Where trees keep their nodes: the traits a transaction, a reader or a test implements.

use super::change::Change;
pub use crate::format::node::{NodeId, LEVEL_ANY, MAX_LEVEL, MAX_VALUE};
use crate::format::types::{BlockNr, Ino, Kind};
use crate::seam::NoMem;

/// What goes wrong inside a tree that is not damaged; of damage the store hears by
/// [`NodeRead::damaged`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// An insert found the key taken.
    Exists,
    /// A replace or remove did not find the key.
    NotFound,
    /// The value is too long, the tree too high or a count too large.
    TooBig,
    /// Memory is exhausted.
    NoMem,
}

impl From<NoMem> for TreeError {
    fn from(_: NoMem) -> Self {
        Self::NoMem
    }
}

/// Read access to nodes.
pub trait NodeRead {
    /// The store's own errors, I/O and damage for example, and those of the trees.
    type Error: From<TreeError>;

    /// Size of a node in bytes: 1024, 2048 or 4096.
    fn block_size(&self) -> usize;

    /// The filesystem's uuid, which every node carries.
    fn uuid(&self) -> &[u8; 16];

    /// Does [`NodeRead::with_node`] compare what the header of a node says with `id` on every call? If
    /// not, trees do.
    const CHECKS_NAME: bool = false;

    /// Calls `f` on the node. The store ran [`verify`](crate::format::node::verify) on the block
    /// when it entered memory (C11).
    /// A node changed earlier in the same edit is seen with its changes.
    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R, Self::Error>;

    /// Hears that a node is damaged, or what its records mean: once for each failure, outside of
    /// [`NodeRead::with_node`]. Block 0 is the inline root of the owner. Returns the error for it.
    fn damaged(&self, id: NodeId, what: &'static str) -> Self::Error;

    /// Hears which leaf is about to be read, and which follow it in the order of the keys.
    fn read_ahead(&self, _leaves: impl Iterator<Item = BlockNr>) {}
}

/// Change of nodes, all or nothing: the store keeps private copies ("shadows"), publishes all of
/// them when the edit as a whole succeeded and drops them when anything failed (C5).
///
/// Trees never touch the checksum; the store calls [`seal`](crate::format::node::seal) on
/// publishing.
pub trait NodeStore: NodeRead {
    /// The private copy of a node, made on the first call.
    fn node_mut(&mut self, id: NodeId) -> Result<&mut [u8], Self::Error>;

    /// Changes one record of a node, which has room for it. The node is seen changed from here on;
    /// a store may keep the change and no copy until it publishes.
    fn change(&mut self, id: NodeId, change: Change<'_>) -> Result<(), Self::Error> {
        let made = change.apply(self.node_mut(id)?);
        made.map_err(|what| self.damaged(id, what))
    }

    /// A new node, initialised as empty ([`init`](crate::format::node::init)), near a block.
    fn alloc_node(
        &mut self,
        owner: Ino,
        kind: Kind,
        level: u8,
        near: BlockNr,
    ) -> Result<BlockNr, Self::Error>;

    /// Gives a node up, one that this edit allocated included. The tree does not name it again.
    fn free_node(&mut self, id: NodeId) -> Result<(), Self::Error>;
}

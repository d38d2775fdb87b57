// SPDX-License-Identifier: GPL-2.0

//! How many journal blocks each operation may change.
//!
//! The bounds follow from the heights of the trees: an edit touches at most
//! [`edit_nodes`](crate::algo::btree::edit_nodes) nodes, and every node that it allocates or frees
//! may touch one more bitmap and its descriptor. Rounded up generously: unused credits go back
//! when the handle stops.

use crate::algo::btree::edit_nodes;
use crate::format::node::MAX_LEVEL;

/// A demand for journal space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credits {
    /// Blocks that may be changed.
    pub blocks: u32,
    /// Metadata blocks that may be freed (C7).
    pub revokes: u32,
}

/// The most that a tree can have: a node of a higher level is refused when it is read.
const HEIGHT: u8 = MAX_LEVEL - 1;

/// One edit (insert, remove, replace) of one tree.
const fn edit() -> Credits {
    let nodes = edit_nodes(HEIGHT);
    let height = HEIGHT as u32 + 1;
    Credits {
        // Every new or freed node may lie in another group: bitmap and descriptor.
        blocks: nodes + 2 * height,
        revokes: height,
    }
}

impl Credits {
    /// An explicit demand.
    pub(crate) const fn new(blocks: u32, revokes: u32) -> Self {
        Self { blocks, revokes }
    }

    /// Both demands together.
    pub(crate) const fn plus(self, o: Self) -> Self {
        Self {
            blocks: self.blocks + o.blocks,
            revokes: self.revokes + o.revokes,
        }
    }

    /// Only an inode record.
    pub(crate) const RECORD: Self = Self::new(2, 0);

    /// One edit of one tree.
    pub(crate) const EDIT: Self = edit();

    /// One step (B1): up to three edits of an extent tree, two of the refcount tree, the bits of
    /// one run freed and one allocated (each within two groups), and the inode record.
    pub(crate) const STEP: Self = Self::EDIT
        .plus(Self::EDIT)
        .plus(Self::EDIT)
        .plus(Self::new(12, 0));

    /// Up to `n` blocks of a file replaced at once. The edits of the extent tree are neighbours; the
    /// old blocks may each be shared with others, and lie in groups of their own.
    pub(crate) const fn replace(n: u32) -> Self {
        let each = Self::new(Self::EDIT.blocks + 5, Self::EDIT.revokes);
        Self::new(
            Self::STEP.blocks + n * each.blocks,
            Self::STEP.revokes + n * each.revokes,
        )
    }

    /// A new name and a new inode: directory, inode table, both records.
    pub(crate) const CREATE: Self = Self::EDIT
        .plus(Self::EDIT)
        .plus(Self::EDIT)
        .plus(Self::new(6, 0));

    /// A name goes and its inode may become an orphan.
    pub(crate) const UNLINK: Self = Self::EDIT.plus(Self::EDIT).plus(Self::new(6, 0));

    /// Two directories, a `..` record and an orphan, or two `..` records; a whiteout, four records.
    pub(crate) const RENAME: Self = Self::EDIT
        .plus(Self::EDIT)
        .plus(Self::EDIT)
        .plus(Self::EDIT)
        .plus(Self::EDIT)
        .plus(Self::new(10, 0));

    /// The record of an inode and its orphan entry go.
    pub(crate) const REMOVE_INODE: Self = Self::EDIT.plus(Self::EDIT).plus(Self::new(4, 0));
}

/// Blocks that one edit of one tree may add to it: one at every level and a new root.
pub(crate) const EDIT_SPACE: u64 = HEIGHT as u64 + 1;

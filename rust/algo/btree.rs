// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The one B+tree: `u64` keys, values of up to [`MAX_VALUE`] bytes, all of them in the leaves.
//!
//! A tree hangs on a fixed block (global trees) or on an inline root in an inode record. An
//! internal node's key is a lower bound of everything below it, and the same key stands in slot 0
//! of the child; the leftmost path carries key 0. Leaves have no links: the way from one to the
//! next is a new descent to the upper bound, so every walk advances by key and ends on any input.
//!
//! # Minimum fill
//!
//! Every node but the root, the last one of its level and an inline root's only child is at least
//! a third full (by weight, which is value plus slot). A split that is no append leaves both sides
//! with half the weight less half a record; with at least three of the largest records to a node
//! that is more than a third. A node that falls below a third is merged when that fits and else
//! levelled with a neighbour; both together then weigh more than one full node. Internal nodes
//! have two children at least, so that a neighbour exists. [`worst_nodes`] rests on this.
//!
//! # Cost
//!
//! One edit changes, allocates and frees at most [`edit_nodes`] nodes, and one insert allocates at
//! most height + 1. Look-ups read one node a level.

mod bounds;
mod edit;
mod rekey;
mod walk;

pub use bounds::{edit_nodes, growth_nodes, worst_nodes};
pub use walk::Stats;

use super::node::{Broken, Layout, View};
use super::store::{NodeId, NodeRead, LEVEL_ANY, MAX_LEVEL, MAX_VALUE};
use crate::format::node::{header, InlineRoot};
use crate::format::types::{BlockNr, Ino, Kind};
use core::ops::{ControlFlow, Deref};

/// Where a tree hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// A block that never changes: global trees, attributes.
    Block(BlockNr),
    /// Bytes in an inode record.
    Inline(InlineRoot),
}

/// A tree. A plain value: edit a copy of an inode's root and store it back once the edit has been
/// published. After a failed edit the copy is worthless, the nodes on disk are untouched (C5).
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// What it holds.
    pub kind: Kind,
    /// The inode it belongs to, or [`Ino::GLOBAL`].
    pub owner: Ino,
    /// Where it hangs.
    pub root: Root,
    delta: i64,
}

/// A copy of a record's value; derefs to the bytes.
#[derive(Clone, Copy)]
pub struct Value {
    len: u16,
    bytes: [u8; MAX_VALUE],
}

impl Value {
    fn new(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_VALUE];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self {
            len: u16::try_from(value.len()).ok()?,
            bytes,
        })
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The keys a node may hold: from `lo` on, below `hi`.
#[derive(Clone, Copy)]
struct Bounds {
    lo: u64,
    hi: Option<u64>,
}

/// A node on the way down and the record taken in it: the child in an internal node, the record
/// or its place in a leaf.
#[derive(Clone, Copy, Default)]
struct Step {
    block: BlockNr,
    index: u16,
    nr: u16,
}

/// The way from the root to a leaf.
#[derive(Clone, Copy)]
struct Path {
    steps: [Step; MAX_LEVEL as usize],
    /// Level of the root.
    top: u8,
    bounds: Bounds,
    leaf: Fill,
}

/// How full the leaf of a [`Path`] was when the path was found.
#[derive(Clone, Copy)]
struct Fill {
    /// Bytes free.
    room: usize,
    /// Bytes that records take, and that they can take.
    weight: usize,
    capacity: usize,
    /// Length of the value that was found, 0 if none was.
    value: usize,
}

/// How a descent goes on.
enum Turn<R> {
    Down {
        level: u8,
        step: Step,
        child: BlockNr,
        bounds: Bounds,
    },
    Arrived(R),
}

impl Tree {
    /// A global tree on its fixed root block.
    pub const fn global(kind: Kind, root: BlockNr) -> Self {
        Self::fixed(kind, Ino::GLOBAL, root)
    }

    /// A tree of an inode on a root block that never moves either, and counts its blocks.
    pub const fn fixed(kind: Kind, owner: Ino, root: BlockNr) -> Self {
        Self {
            kind,
            owner,
            root: Root::Block(root),
            delta: 0,
        }
    }

    /// An inode's tree.
    pub const fn inode(kind: Kind, owner: Ino, root: InlineRoot) -> Self {
        Self {
            kind,
            owner,
            root: Root::Inline(root),
            delta: 0,
        }
    }

    /// Blocks the tree gained (or lost) since this value was made.
    pub const fn delta(&self) -> i64 {
        self.delta
    }

    /// The root to store back, when it is an inline one.
    pub const fn inline_root(&self) -> Option<&InlineRoot> {
        match &self.root {
            Root::Block(_) => None,
            Root::Inline(root) => Some(root),
        }
    }

    /// The root's block, 0 for an inline root.
    fn root_block(&self) -> BlockNr {
        match self.root {
            Root::Block(block) => block,
            Root::Inline(_) => BlockNr::ZERO,
        }
    }

    fn id(&self, block: BlockNr, level: u8) -> NodeId {
        NodeId {
            block,
            owner: self.owner,
            kind: self.kind,
            level,
        }
    }

    /// Calls `f` on a node; [`LEVEL_ANY`] means the root.
    fn visit<S: NodeRead, R>(
        &self,
        s: &S,
        block: BlockNr,
        level: u8,
        f: impl FnOnce(&View<'_>) -> Result<R, Broken>,
    ) -> Result<R, S::Error> {
        let id = self.id(block, level);
        let result = match &self.root {
            Root::Inline(root) if block == BlockNr::ZERO => {
                View::inline(root, self.kind).and_then(|view| f(&view))
            }
            _ => s.with_node(id, |bytes| {
                let view = match S::CHECKS_NAME {
                    true => View::new(bytes, Layout::Block),
                    false => View::block(bytes, &id),
                };
                f(&view?)
            })?,
        };
        result.map_err(|what| s.damaged(id, what))
    }

    /// Reports damage of the tree where the node is not known; returns the error for it.
    pub(super) fn damaged<S: NodeRead>(&self, s: &S, what: Broken) -> S::Error {
        s.damaged(self.id(self.root_block(), LEVEL_ANY), what)
    }

    /// Goes down to the leaf responsible for `key`, tells `passed` of every internal node, and
    /// calls `f` on the leaf.
    fn descend<S: NodeRead, R>(
        &self,
        s: &S,
        key: u64,
        mut passed: impl FnMut(u8, Step),
        f: impl FnOnce(&View<'_>, BlockNr, Bounds) -> Result<R, Broken>,
    ) -> Result<R, S::Error> {
        let mut f = Some(f);
        let mut block = self.root_block();
        let mut level = LEVEL_ANY;
        let mut bounds = Bounds { lo: 0, hi: None };
        loop {
            let turn = self.visit(s, block, level, |view| {
                check_bounds(view, bounds, level == LEVEL_ANY)?;
                if view.level() == 0 {
                    let Some(f) = f.take() else {
                        return Err("tree: lost");
                    };
                    return Ok(Turn::Arrived(f(view, block, bounds)?));
                }
                let turn = down(view, block, key, bounds)?;
                if let Turn::Down { level: 1, step, .. } = &turn {
                    let leaves = usize::from(step.index)..view.len();
                    s.read_ahead(leaves.map_while(|i| view.child(i).ok()));
                }
                Ok(turn)
            })?;
            match turn {
                Turn::Arrived(result) => return Ok(result),
                Turn::Down {
                    level: at,
                    step,
                    child,
                    bounds: below,
                } => {
                    passed(at, step);
                    // Levels fall with every step, so this ends.
                    level = at.saturating_sub(1);
                    bounds = below;
                    block = child;
                }
            }
        }
    }

    /// Calls `f` on the value of `key`, without a copy.
    pub fn get_with<S: NodeRead, R>(
        &self,
        s: &S,
        key: u64,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, S::Error> {
        self.descend(
            s,
            key,
            |_, _| (),
            |leaf, _, _| match leaf.search(key) {
                Ok(i) => leaf.value(i).map(|v| Some(f(v))),
                Err(_) => Ok(None),
            },
        )
    }

    /// The value of `key`.
    pub fn get<S: NodeRead>(&self, s: &S, key: u64) -> Result<Option<Value>, S::Error> {
        Ok(self.get_with(s, key, Value::new)?.flatten())
    }

    /// Calls `f` on the record with the greatest key not above `key`.
    pub fn floor_with<S: NodeRead, R>(
        &self,
        s: &S,
        key: u64,
        mut f: impl FnMut(u64, &[u8]) -> R,
    ) -> Result<Option<R>, S::Error> {
        let mut from = key;
        loop {
            let (found, lo) = self.descend(
                s,
                from,
                |_, _| (),
                |leaf, _, bounds| {
                    let i = match leaf.search(key) {
                        Ok(i) => Some(i),
                        Err(i) => i.checked_sub(1),
                    };
                    let found = record(leaf, i, &mut f)?;
                    Ok((found, bounds.lo))
                },
            )?;
            // A leaf may begin above its lower bound: look into the one before.
            match lo.checked_sub(1) {
                Some(before) if found.is_none() => from = before,
                _ => return Ok(found),
            }
        }
    }

    /// Calls `f` on the record with the greatest key not above `key`; returns its result and the key of the
    /// next record. Mostly one descent: both lie in one leaf.
    pub fn around_with<S: NodeRead, R>(
        &self,
        s: &S,
        key: u64,
        mut f: impl FnMut(u64, &[u8]) -> R,
    ) -> Result<(Option<R>, Option<u64>), S::Error> {
        let (found, next, bounds) = self.descend(
            s,
            key,
            |_, _| (),
            |leaf, _, bounds| {
                let after = match leaf.search(key) {
                    Ok(i) => i.saturating_add(1),
                    Err(i) => i,
                };
                let found = record(leaf, after.checked_sub(1), &mut f)?;
                Ok((found, leaf.key(after), bounds))
            },
        )?;
        let next = match (next, key.checked_add(1)) {
            (None, Some(above)) if bounds.hi.is_some() => self.ceil_with(s, above, |k, _| k)?,
            _ => next,
        };
        // A leaf may begin above its lower bound: look into the one before.
        let found = match bounds.lo.checked_sub(1) {
            Some(before) if found.is_none() => self.floor_with(s, before, f)?,
            _ => found,
        };
        Ok((found, next))
    }

    /// The record with the greatest key not above `key`.
    pub fn floor<S: NodeRead>(&self, s: &S, key: u64) -> Result<Option<(u64, Value)>, S::Error> {
        Ok(self.floor_with(s, key, copy)?.flatten())
    }

    /// The last record.
    pub fn last<S: NodeRead>(&self, s: &S) -> Result<Option<(u64, Value)>, S::Error> {
        self.floor(s, u64::MAX)
    }

    /// Calls `f` on the record with the least key not below `key`.
    pub fn ceil_with<S: NodeRead, R>(
        &self,
        s: &S,
        key: u64,
        mut f: impl FnMut(u64, &[u8]) -> R,
    ) -> Result<Option<R>, S::Error> {
        let mut from = key;
        loop {
            let (found, hi) = self.descend(
                s,
                from,
                |_, _| (),
                |leaf, _, bounds| {
                    let (Ok(i) | Err(i)) = leaf.search(key);
                    let found = record(leaf, Some(i), &mut f)?;
                    Ok((found, bounds.hi))
                },
            )?;
            match hi {
                Some(hi) if found.is_none() => from = hi,
                _ => return Ok(found),
            }
        }
    }

    /// The record with the least key not below `key`.
    pub fn ceil<S: NodeRead>(&self, s: &S, key: u64) -> Result<Option<(u64, Value)>, S::Error> {
        Ok(self.ceil_with(s, key, copy)?.flatten())
    }

    /// Calls `f` on every record from `from` on, ascending, until it breaks. It runs inside the
    /// store's `with_node`: no user memory, no other tree call from there (D4).
    pub fn scan<S: NodeRead>(
        &self,
        s: &S,
        from: u64,
        mut f: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let mut from = Some(from);
        while let Some(key) = from {
            from = self.descend(
                s,
                key,
                |_, _| (),
                |leaf, _, bounds| {
                    let (Ok(start) | Err(start)) = leaf.search(key);
                    for i in start..leaf.len() {
                        if let Some(ControlFlow::Break(())) = record(leaf, Some(i), &mut f)? {
                            return Ok(None);
                        }
                    }
                    Ok(bounds.hi)
                },
            )?;
        }
        Ok(())
    }

    /// Levels of the tree, the root included: 1 for a leaf.
    pub fn height<S: NodeRead>(&self, s: &S) -> Result<u8, S::Error> {
        self.visit(s, self.root_block(), LEVEL_ANY, |root| {
            Ok(root.level().saturating_add(1))
        })
    }

    /// Blocks of a global tree, from its root; 0 for an inline root, which does not count them.
    pub fn blocks<S: NodeRead>(&self, s: &S) -> Result<u64, S::Error> {
        match self.root {
            Root::Inline(_) => Ok(0),
            Root::Block(block) => s.with_node(self.id(block, LEVEL_ANY), |bytes| {
                header(bytes).map_or(0, |header| header.tree_blocks.get())
            }),
        }
    }

    /// Where the value of `key` is: the leaf's block (0 for the inline root), offset and length.
    /// For patches in place of records that keep their size.
    pub fn locate<S: NodeRead>(
        &self,
        s: &S,
        key: u64,
    ) -> Result<Option<(BlockNr, usize, usize)>, S::Error> {
        self.descend(
            s,
            key,
            |_, _| (),
            |leaf, block, _| match leaf.search(key) {
                Ok(i) => {
                    let (off, len) = leaf.place(i)?;
                    Ok(Some((block, off, len)))
                }
                Err(_) => Ok(None),
            },
        )
    }

    /// The step of a path at a level.
    fn step<S: NodeRead>(&self, s: &S, path: &Path, level: u8) -> Result<Step, S::Error> {
        let step = path.steps.get(usize::from(level)).copied();
        step.ok_or_else(|| self.damaged(s, "tree: too high"))
    }

    /// The way to `key`'s leaf with the record's place there, and whether it is the record.
    fn find<S: NodeRead>(&self, s: &S, key: u64) -> Result<(Path, bool), S::Error> {
        let mut steps = [Step::default(); MAX_LEVEL as usize];
        let mut top = 0;
        let mut put = |level: u8, step: Step| {
            top = level.max(top);
            if let Some(place) = steps.get_mut(usize::from(level)) {
                *place = step;
            }
        };
        let (last, found, bounds, leaf) =
            self.descend(s, key, &mut put, |leaf, block, bounds| {
                let found = leaf.search(key);
                let (Ok(i) | Err(i)) = found;
                let value = found.ok().map(|i| leaf.place(i)).transpose();
                let (_, value) = value?.unwrap_or_default();
                let fill = Fill {
                    room: leaf.room(),
                    weight: leaf.weight(),
                    capacity: leaf.capacity(),
                    value,
                };
                Ok((step(block, i, leaf.len()), found.is_ok(), bounds, fill))
            })?;
        put(0, last);
        let path = Path {
            steps,
            top,
            bounds,
            leaf,
        };
        Ok((path, found))
    }
}

/// A step; nodes of at most 4096 bytes have no more records than a `u16` counts.
fn step(block: BlockNr, index: usize, nr: usize) -> Step {
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    Step {
        block,
        index: short(index),
        nr: short(nr),
    }
}

/// Calls `f` on record `i` of a leaf, if it exists.
fn record<R>(
    leaf: &View<'_>,
    i: Option<usize>,
    f: &mut impl FnMut(u64, &[u8]) -> R,
) -> Result<Option<R>, Broken> {
    let Some((i, key)) = i.and_then(|i| Some((i, leaf.key(i)?))) else {
        return Ok(None);
    };
    Ok(Some(f(key, leaf.value(i)?)))
}

fn copy(key: u64, value: &[u8]) -> Option<(u64, Value)> {
    Some((key, Value::new(value)?))
}

/// Checks what the parent promised: a block linked twice does not pass in both places.
fn check_bounds(view: &View<'_>, bounds: Bounds, root: bool) -> Result<(), Broken> {
    let Some(first) = view.key(0) else {
        return match root && view.level() == 0 {
            true => Ok(()),
            false => Err("tree: empty node"),
        };
    };
    if first < bounds.lo || (view.level() > 0 && first != bounds.lo) {
        return Err("tree: node begins at a wrong key");
    }
    let last = view.len().checked_sub(1).and_then(|i| view.key(i));
    if bounds.hi.is_some_and(|hi| last >= Some(hi)) {
        return Err("tree: node reaches into the next one");
    }
    Ok(())
}

/// Chooses the child for `key`.
fn down<R>(view: &View<'_>, block: BlockNr, key: u64, bounds: Bounds) -> Result<Turn<R>, Broken> {
    let index = match view.search(key) {
        Ok(i) => i,
        Err(i) => i.checked_sub(1).ok_or("tree: key below the first child")?,
    };
    let lo = view.key(index).ok_or("tree: no child")?;
    let hi = view.key(index.saturating_add(1)).or(bounds.hi);
    let child = view.child(index)?;
    if child == BlockNr::ZERO {
        return Err("tree: child 0");
    }
    Ok(Turn::Down {
        level: view.level(),
        step: step(block, index, view.len()),
        child,
        bounds: Bounds { lo, hi },
    })
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Insert, replace, remove, and what keeps the tree in shape: split, merge, levelling, and the
//! root's way down and up. All changes stay with the store until it publishes them (C5).

use super::{step, Fill, Path, Root, Step, Tree};
use crate::algo::change::Change;
use crate::algo::node::{weight_of, Broken, Chunk, Edit, Layout, View};
use crate::algo::store::{NodeStore, TreeError, LEVEL_ANY, MAX_LEVEL, MAX_VALUE};
use crate::format::node::{header_mut, CHILD_SIZE};
use crate::format::types::BlockNr;

/// A single child moves into an inline root when it weighs no more than this. Less than the root
/// holds, or a tree at the limit would move up and down with every edit.
const PULL_UP: usize = 72;

/// Which node of a level, with its level.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub block: BlockNr,
    pub level: u8,
}

/// How a full node and the record it has no room for are divided.
struct Cut {
    /// First record that moves to the right node.
    from: usize,
    /// Where the new record goes: its place in the left or in the right node.
    left: Option<usize>,
    right: Option<usize>,
    /// First key of the right node.
    key: u64,
}

impl Path {
    fn set(&mut self, level: u8, step: Step) -> Result<(), TreeError> {
        let place = self.steps.get_mut(usize::from(level));
        *place.ok_or(TreeError::TooBig)? = step;
        Ok(())
    }

    /// Whether the node at `level` is the last of its level.
    pub(super) fn is_last(&self, level: u8) -> bool {
        let above = usize::from(level).saturating_add(1)..=usize::from(self.top);
        let above = self.steps.get(above).unwrap_or_default();
        above
            .iter()
            .all(|step| step.index.saturating_add(1) >= step.nr)
    }
}

impl Tree {
    /// Inserts a record. Fails with [`TreeError::Exists`], [`TreeError::TooBig`] or an error of the
    /// store.
    pub fn insert<S: NodeStore>(
        &mut self,
        s: &mut S,
        key: u64,
        val: &[u8],
    ) -> Result<(), S::Error> {
        let (mut path, found) = self.find_for(s, key, val)?;
        if found {
            return Err(TreeError::Exists.into());
        }
        self.insert_at(s, &mut path, key, val)
    }

    /// Gives an existing record a new value, of any size. Fails with [`TreeError::NotFound`].
    pub fn replace<S: NodeStore>(
        &mut self,
        s: &mut S,
        key: u64,
        val: &[u8],
    ) -> Result<(), S::Error> {
        let (mut path, found) = self.find_for(s, key, val)?;
        if !found {
            return Err(TreeError::NotFound.into());
        }
        let leaf = self.step(s, &path, 0)?;
        let at = usize::from(leaf.index);
        let Fill { room, value, .. } = path.leaf;
        if room.saturating_add(value) < val.len() {
            self.edit(s, leaf.block, 0, |node| {
                node.remove(at, at.saturating_add(1))
            })?;
            return self.insert_at(s, &mut path, key, val);
        }
        self.change(s, &path, Change::Replace { at, value: val })?;
        match val.len() < value {
            true => self.rebalance(s, &mut path),
            false => Ok(()),
        }
    }

    /// Removes a record. Fails with [`TreeError::NotFound`].
    pub fn remove<S: NodeStore>(&mut self, s: &mut S, key: u64) -> Result<(), S::Error> {
        let (mut path, found) = self.find(s, key)?;
        if !found {
            return Err(TreeError::NotFound.into());
        }
        let at = usize::from(self.step(s, &path, 0)?.index);
        self.change(s, &path, Change::Remove { at })?;
        match self.stays_in_shape(s, &path)? {
            true => Ok(()),
            false => self.rebalance(s, &mut path),
        }
    }

    /// Whether [`Tree::rebalance`] has nothing to do when the path's record is gone.
    fn stays_in_shape<S: NodeStore>(&self, s: &S, path: &Path) -> Result<bool, S::Error> {
        if path.top == 0 {
            return Ok(true);
        }
        let Fill {
            weight,
            capacity,
            value,
            ..
        } = path.leaf;
        let left = weight.saturating_sub(weight_of(value));
        let thin = left.saturating_mul(3) < capacity;
        // A root's only child may move up into it.
        let sole = self.step(s, path, path.top)?.nr < 2;
        let stays = !sole || (matches!(self.root, Root::Inline(_)) && left > PULL_UP);
        Ok(!thin && stays)
    }

    /// The way to `key`, and whether it is there, for a value that is not too long.
    fn find_for<S: NodeStore>(
        &self,
        s: &S,
        key: u64,
        val: &[u8],
    ) -> Result<(Path, bool), S::Error> {
        if val.len() > MAX_VALUE {
            return Err(TreeError::TooBig.into());
        }
        self.find(s, key)
    }

    /// Changes the record of the path's leaf.
    fn change<S: NodeStore>(
        &mut self,
        s: &mut S,
        path: &Path,
        change: Change<'_>,
    ) -> Result<(), S::Error> {
        let block = self.step(s, path, 0)?.block;
        match &mut self.root {
            Root::Inline(root) if block == BlockNr::ZERO => {
                let made = change.apply_inline(root);
                made.map_err(|what| self.damaged(s, what))
            }
            _ => s.change(self.id(block, 0), change),
        }
    }

    /// Calls `f` on a node for change.
    pub(super) fn edit<S: NodeStore, R>(
        &mut self,
        s: &mut S,
        block: BlockNr,
        level: u8,
        f: impl FnOnce(&mut Edit<'_>) -> Result<R, Broken>,
    ) -> Result<R, S::Error> {
        let id = self.id(block, level);
        let result = match &mut self.root {
            Root::Inline(root) if block == BlockNr::ZERO => {
                f(&mut Edit::new(&mut root.0, Layout::Inline))
            }
            _ => f(&mut Edit::new(s.node_mut(id)?, Layout::Block)),
        };
        result.map_err(|what| s.damaged(id, what))
    }

    pub(super) fn look<S: NodeStore, R>(
        &self,
        s: &S,
        at: Place,
        f: impl FnOnce(&View<'_>) -> Result<R, Broken>,
    ) -> Result<R, S::Error> {
        self.visit(s, at.block, at.level, f)
    }

    fn alloc<S: NodeStore>(
        &mut self,
        s: &mut S,
        level: u8,
        near: BlockNr,
    ) -> Result<BlockNr, S::Error> {
        let block = s.alloc_node(self.owner, self.kind, level, near)?;
        self.delta = self.delta.saturating_add(1);
        Ok(block)
    }

    fn free<S: NodeStore>(&mut self, s: &mut S, at: Place) -> Result<(), S::Error> {
        s.free_node(self.id(at.block, at.level))?;
        self.delta = self.delta.saturating_sub(1);
        Ok(())
    }

    /// Brings the count of blocks in a global tree's root up to date.
    fn settle<S: NodeStore>(&mut self, s: &mut S, before: i64) -> Result<(), S::Error> {
        let gained = self.delta.saturating_sub(before);
        let Root::Block(root) = self.root else {
            return Ok(());
        };
        if gained == 0 {
            return Ok(());
        }
        let level = self.look(
            s,
            Place {
                block: root,
                level: LEVEL_ANY,
            },
            |v| Ok(v.level()),
        )?;
        let bytes = s.node_mut(self.id(root, level))?;
        let count = header_mut(bytes).map(|header| &mut header.tree_blocks);
        let Some(count) = count else {
            return Err(self.damaged(s, "node: too small"));
        };
        match count.get().checked_add_signed(gained) {
            Some(blocks) if blocks > 0 => count.set(blocks),
            _ => return Err(self.damaged(s, "tree: wrong number of blocks")),
        }
        Ok(())
    }

    /// Inserts at the leaf place of `path`, splitting upwards as far as needed.
    fn insert_at<S: NodeStore>(
        &mut self,
        s: &mut S,
        path: &mut Path,
        mut key: u64,
        val: &[u8],
    ) -> Result<(), S::Error> {
        if path.leaf.room >= weight_of(val.len()) {
            let at = usize::from(self.step(s, path, 0)?.index);
            let value = val;
            return self.change(s, path, Change::Insert { at, key, value });
        }
        let before = self.delta;
        let mut level = 0;
        let mut child = [0; CHILD_SIZE];
        loop {
            let val = if level == 0 { val } else { &child };
            let here = self.step(s, path, level)?;
            let done = self.edit(s, here.block, level, |node| {
                if node.view()?.room() < weight_of(val.len()) {
                    return Ok(false);
                }
                node.insert(usize::from(here.index), key, val)?;
                Ok(true)
            })?;
            if done {
                break;
            }
            if level >= path.top {
                self.push_down(s, path)?;
                continue;
            }
            let right;
            (key, right) = self.split(s, path, level, key, val)?;
            child = right.get().to_le_bytes();
            level = level.saturating_add(1);
            // The right half follows the child the path went through.
            let mut up = self.step(s, path, level)?;
            up.index = up.index.saturating_add(1);
            path.set(level, up)?;
        }
        self.settle(s, before)
    }

    /// Moves the root's records into a new node below it.
    fn push_down<S: NodeStore>(&mut self, s: &mut S, path: &mut Path) -> Result<(), S::Error> {
        let level = path.top;
        let up = level.saturating_add(1);
        if up >= MAX_LEVEL {
            return Err(TreeError::TooBig.into());
        }
        let here = self.step(s, path, level)?;
        let root = Place {
            block: here.block,
            level,
        };
        let child = self.alloc(s, level, here.block)?;
        let nr = self.look(s, root, |v| Ok(v.len()))?;
        self.move_records(
            s,
            root,
            0,
            nr,
            Place {
                block: child,
                level,
            },
            0,
        )?;
        self.edit(s, here.block, level, |node| {
            node.remove(0, nr)?;
            node.set_level(up)?;
            node.insert(0, 0, &child.get().to_le_bytes())
        })?;
        path.set(
            level,
            Step {
                block: child,
                ..here
            },
        )?;
        path.set(up, step(here.block, 0, 1))?;
        path.top = up;
        Ok(())
    }

    /// Splits the full node at `level` of the path and inserts the record on its side. Returns the
    /// first key and the block of the new right node.
    fn split<S: NodeStore>(
        &mut self,
        s: &mut S,
        path: &Path,
        level: u8,
        key: u64,
        val: &[u8],
    ) -> Result<(u64, BlockNr), S::Error> {
        let here = self.step(s, path, level)?;
        let append = here.index >= here.nr && path.is_last(level);
        let left = Place {
            block: here.block,
            level,
        };
        let at = usize::from(here.index);
        let cut = self.look(s, left, |v| cut(v, at, key, weight_of(val.len()), append))?;
        let block = self.alloc(s, level, here.block)?;
        let right = Place { block, level };
        let nr = self.look(s, left, |v| Ok(v.len()))?;
        self.move_records(s, left, cut.from, nr, right, 0)?;
        self.edit(s, left.block, level, |node| {
            node.remove(cut.from, nr)?;
            cut.left.map_or(Ok(()), |at| node.insert(at, key, val))
        })?;
        if let Some(at) = cut.right {
            self.edit(s, block, level, |node| node.insert(at, key, val))?;
        }
        Ok((cut.key, block))
    }

    /// Copies records from one node into another, before record `at` there.
    fn move_records<S: NodeStore>(
        &mut self,
        s: &mut S,
        from: Place,
        mut start: usize,
        end: usize,
        to: Place,
        mut at: usize,
    ) -> Result<(), S::Error> {
        let mut chunk = Chunk::new();
        while start < end {
            self.look(s, from, |v| v.copy_out(start, end, &mut chunk))?;
            self.edit(s, to.block, to.level, |node| node.insert_chunk(at, &chunk))?;
            start = start.saturating_add(chunk.len());
            at = at.saturating_add(chunk.len());
        }
        Ok(())
    }

    /// Restores the minimum fill from the path's leaf upwards, after it lost weight.
    fn rebalance<S: NodeStore>(&mut self, s: &mut S, path: &mut Path) -> Result<(), S::Error> {
        let before = self.delta;
        let mut level = 0;
        while level < path.top {
            let here = Place {
                block: self.step(s, path, level)?.block,
                level,
            };
            let fine = self.look(s, here, |v| {
                let thin = v.weight().saturating_mul(3) < v.capacity();
                Ok(!thin && (level == 0 || v.len() > 1))
            })?;
            let up = level.saturating_add(1);
            let above = self.step(s, path, up)?;
            if fine || !self.join(s, above, level)? {
                break;
            }
            level = up;
        }
        self.pull_up(s, path.top)?;
        self.settle(s, before)
    }

    /// Merges or levels the child a step stands on with a neighbour. Returns whether the parent
    /// lost a child.
    fn join<S: NodeStore>(&mut self, s: &mut S, up: Step, level: u8) -> Result<bool, S::Error> {
        let parent = Place {
            block: up.block,
            level: level.saturating_add(1),
        };
        let li = usize::from(up.index.saturating_sub(1));
        let ri = li.saturating_add(1);
        let pair = self.look(s, parent, |v| match v.len() > ri {
            true => Ok(Some((v.child(li)?, v.child(ri)?))),
            false => Ok(None),
        })?;
        let Some((left, right)) = pair else {
            return Ok(false);
        };
        let (left, right) = (
            Place { block: left, level },
            Place {
                block: right,
                level,
            },
        );
        let size = |v: &View<'_>| Ok((v.len(), v.weight(), v.capacity()));
        let (left_nr, left_weight, capacity) = self.look(s, left, size)?;
        let (right_nr, right_weight, _) = self.look(s, right, size)?;
        if left_weight.saturating_add(right_weight) <= capacity {
            self.move_records(s, right, 0, right_nr, left, left_nr)?;
            self.free(s, right)?;
            self.edit(s, parent.block, parent.level, |node| {
                node.remove(ri, ri.saturating_add(1))
            })?;
            return Ok(true);
        }
        if left_weight > right_weight {
            let keep = self.look(s, left, |v| Ok(level_off(v, right_weight, true)))?;
            self.move_records(s, left, keep, left_nr, right, 0)?;
            self.edit(s, left.block, level, |node| node.remove(keep, left_nr))?;
        } else {
            let take = self.look(s, right, |v| Ok(level_off(v, left_weight, false)))?;
            self.move_records(s, right, 0, take, left, left_nr)?;
            self.edit(s, right.block, level, |node| node.remove(0, take))?;
        }
        let key = self.look(s, right, |v| v.key(0).ok_or("tree: empty node"))?;
        self.edit(s, parent.block, parent.level, |node| node.set_key(ri, key))?;
        Ok(false)
    }

    /// As long as the root has a single child that fits into it, takes the child's records.
    fn pull_up<S: NodeStore>(&mut self, s: &mut S, mut top: u8) -> Result<(), S::Error> {
        let root = self.root_block();
        while let Some(level) = top.checked_sub(1) {
            let at = Place {
                block: root,
                level: top,
            };
            let child = self.look(s, at, |v| (v.len() == 1).then(|| v.child(0)).transpose())?;
            let Some(child) = child else { break };
            let child = Place {
                block: child,
                level,
            };
            let (nr, weight) = self.look(s, child, |v| Ok((v.len(), v.weight())))?;
            if matches!(self.root, Root::Inline(_)) && weight > PULL_UP {
                break;
            }
            self.edit(s, root, top, |node| {
                node.remove(0, 1)?;
                node.set_level(level)
            })?;
            self.move_records(s, child, 0, nr, Place { block: root, level }, 0)?;
            self.free(s, child)?;
            top = level;
        }
        Ok(())
    }
}

/// Where to cut a full node, so that with the new record (before record `at`) both sides weigh
/// about the same; for an append, so that the left side stays full.
fn cut(v: &View<'_>, at: usize, key: u64, weight: usize, append: bool) -> Result<Cut, Broken> {
    let nr = v.len();
    let total = v.weight().saturating_add(weight);
    // Records of the left side, counted with the new one among them.
    let mut count: usize = 0;
    let mut sum: usize = 0;
    while count < nr {
        let next = match count.cmp(&at) {
            core::cmp::Ordering::Less => v.weight_at(count),
            core::cmp::Ordering::Equal => weight,
            core::cmp::Ordering::Greater => v.weight_at(count.saturating_sub(1)),
        };
        // One more, unless that takes it further from the middle.
        let more = sum.saturating_add(next);
        if count > 0
            && more.abs_diff(total.saturating_sub(more)) > total.abs_diff(sum.saturating_mul(2))
        {
            break;
        }
        sum = more;
        count = count.saturating_add(1);
    }
    if append {
        // A leaf keeps all; an internal node gives one, for two children are the least.
        count = if v.level() == 0 {
            nr
        } else {
            nr.saturating_sub(1)
        };
    }
    let (from, left, right) = if at < count {
        (count.saturating_sub(1), Some(at), None)
    } else {
        (count, None, Some(at.saturating_sub(count)))
    };
    let first = if right == Some(0) {
        Some(key)
    } else {
        v.key(from)
    };
    Ok(Cut {
        from,
        left,
        right,
        key: first.ok_or("tree: nothing to split")?,
    })
}

/// Where to cut the heavier of two neighbours, so that both weigh about the same afterwards: the
/// records from the result on (`tail`) or before it move to the other one.
fn level_off(v: &View<'_>, other: usize, tail: bool) -> usize {
    let nr = v.len();
    let (mut mine, mut other) = (v.weight(), other);
    let mut moved: usize = 0;
    while moved.saturating_add(1) < nr {
        let next = match tail {
            true => nr.saturating_sub(moved).saturating_sub(1),
            false => moved,
        };
        let weight = v.weight_at(next);
        let (less, more) = (mine.saturating_sub(weight), other.saturating_add(weight));
        if less.abs_diff(more) >= mine.abs_diff(other) {
            break;
        }
        (mine, other) = (less, more);
        moved = moved.saturating_add(1);
    }
    match tail {
        true => nr.saturating_sub(moved),
        false => moved,
    }
}

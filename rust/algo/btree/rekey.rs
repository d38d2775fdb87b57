// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Moves a record to another key, in place, and the bounds in the nodes above with it.

use super::edit::Place;
use super::{Path, Tree};
use crate::algo::store::{NodeStore, TreeError};

impl Tree {
    /// Moves a record to another key, with a new value. No other record may lie between the two
    /// keys. In place, and without a new node, if the value has the length of the old one.
    pub fn rekey<S: NodeStore>(
        &mut self,
        s: &mut S,
        old: u64,
        new: u64,
        val: &[u8],
    ) -> Result<(), S::Error> {
        if old == new {
            return self.replace(s, old, val);
        }
        let (path, found) = self.find(s, old)?;
        if !found {
            return Err(TreeError::NotFound.into());
        }
        let leaf = self.step(s, &path, 0)?;
        let index = usize::from(leaf.index);
        let done = self.edit(s, leaf.block, 0, |node| {
            let view = node.view()?;
            let before = index.checked_sub(1).and_then(|i| view.key(i));
            let after = view.key(index.saturating_add(1));
            if before >= Some(new) || after.is_some_and(|after| after <= new) {
                return Err("tree: record moved past another");
            }
            if view.place(index)?.1 != val.len() {
                return Ok(false);
            }
            node.set_key(index, new)?;
            node.set_value(index, val)?;
            Ok(true)
        })?;
        if !done {
            self.remove(s, old)?;
            return self.insert(s, new, val);
        }
        if new < path.bounds.lo {
            self.lower(s, &path, new)?;
        }
        match path.bounds.hi {
            Some(hi) if new >= hi => self.raise_next(s, &path, new.saturating_add(1)),
            _ => Ok(()),
        }
    }

    /// Lets the keys of the path's leaf begin at `key` already. The leaf before it ends below that.
    fn lower<S: NodeStore>(&mut self, s: &mut S, path: &Path, key: u64) -> Result<(), S::Error> {
        for level in 1..=path.top {
            let step = self.step(s, path, level)?;
            let index = usize::from(step.index);
            self.edit(s, step.block, level, |node| {
                let before = index
                    .checked_sub(1)
                    .and_then(|i| Some(node.view().ok()?.key(i)));
                if before.is_some_and(|before| before >= Some(key)) {
                    return Err("tree: record moved past another");
                }
                node.set_key(index, key)
            })?;
            if index > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Lets the keys of the leaf after the path's begin at `key` only, if its records do.
    fn raise_next<S: NodeStore>(
        &mut self,
        s: &mut S,
        path: &Path,
        key: u64,
    ) -> Result<(), S::Error> {
        let mut level = 1;
        let step = loop {
            let step = self.step(s, path, level)?;
            if step.index.saturating_add(1) < step.nr || level >= path.top {
                break step;
            }
            level = level.saturating_add(1);
        };
        let mut block = step.block;
        let mut index = usize::from(step.index).saturating_add(1);
        while level > 0 {
            let below = level.saturating_sub(1);
            let child = self.look(s, Place { block, level }, |v| v.child(index))?;
            self.edit(s, block, level, |node| node.set_key(index, key))?;
            (block, index, level) = (child, 0, below);
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Walks over the nodes of a tree: all of them, for fsck, dump and tests; where they are, for FIEMAP.

use super::{Path, Root, Tree};
use crate::algo::node::View;
use crate::algo::store::{NodeId, NodeRead, LEVEL_ANY};
use crate::format::types::BlockNr;
use core::ops::ControlFlow;

/// What a walk counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Levels, the root included.
    pub height: u8,
    /// Block nodes.
    pub nodes: u64,
    /// Records in leaves.
    pub records: u64,
    /// Nodes below the minimum fill that are neither the root, nor last of their level, nor the
    /// only child of an inline root: 0, unless something is wrong.
    pub thin: u64,
}

impl Tree {
    /// Calls `f` once on every block node, parents first, in the order of the keys, and checks that
    /// nodes fit their place in the tree. Nodes themselves are the store's to verify.
    pub fn walk<S: NodeRead>(
        &self,
        s: &S,
        mut f: impl FnMut(NodeId, &[u8]),
    ) -> Result<Stats, S::Error> {
        let mut stats = Stats {
            height: self.height(s)?,
            ..Stats::default()
        };
        let mut before: Option<Path> = None;
        let mut from = Some(0);
        while let Some(key) = from {
            let (path, _) = self.find(s, key)?;
            for level in (0..=path.top).rev() {
                let block = path.steps.get(usize::from(level)).map(|step| step.block);
                let seen = before.and_then(|p| p.steps.get(usize::from(level)).map(|s| s.block));
                if block == seen && before.is_some() {
                    continue;
                }
                let Some(block) = block else { continue };
                self.count(s, &path, block, level, &mut stats)?;
                if block != BlockNr::ZERO {
                    let level = if level == path.top { LEVEL_ANY } else { level };
                    let id = self.id(block, level);
                    s.with_node(id, |bytes| f(id, bytes))?;
                }
            }
            from = path.bounds.hi;
            before = Some(path);
        }
        Ok(stats)
    }

    /// Calls `f` on the block of every block node, in the order of [`Tree::walk`], from number `skip` on
    /// until it breaks off. To skip costs two descents for each node right above the leaves.
    pub fn nodes<S: NodeRead>(
        &self,
        s: &S,
        mut skip: u64,
        mut f: impl FnMut(BlockNr) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let mut before: Option<Path> = None;
        let mut from = Some(0);
        while let Some(key) = from {
            let (path, _) = self.find(s, key)?;
            for level in (0..=path.top).rev().map(usize::from) {
                let block = path.steps.get(level).map(|step| step.block);
                let seen = before.and_then(|p| p.steps.get(level).map(|step| step.block));
                let Some(block) = block.filter(|b| *b != BlockNr::ZERO && Some(*b) != seen) else {
                    continue;
                };
                match skip.checked_sub(1) {
                    Some(left) => skip = left,
                    None if f(block).is_break() => return Ok(()),
                    None => {}
                }
            }
            // Jump over leaves of the same parent, as far as the last one: behind it is another parent.
            let parent = path.steps.get(1).filter(|_| path.top > 0);
            let after = parent.map_or(0, |p| u64::from(p.nr.saturating_sub(p.index)));
            let jump = skip.min(after.saturating_sub(2));
            from = match parent {
                Some(parent) if jump > 0 => {
                    skip = skip.saturating_sub(jump);
                    let level = if path.top == 1 { LEVEL_ANY } else { 1 };
                    // CAST: Less than the node's records.
                    let to = usize::from(parent.index) + 1 + jump as usize;
                    self.visit(s, parent.block, level, |v: &View<'_>| Ok(v.key(to)))?
                }
                _ => path.bounds.hi,
            };
            before = Some(path);
        }
        Ok(())
    }

    fn count<S: NodeRead>(
        &self,
        s: &S,
        path: &Path,
        block: BlockNr,
        level: u8,
        stats: &mut Stats,
    ) -> Result<(), S::Error> {
        let level_id = if level == path.top { LEVEL_ANY } else { level };
        let (len, thin) = self.visit(s, block, level_id, |v: &View<'_>| {
            if v.level() != level {
                return Err("node: wrong level");
            }
            let thin = v.weight().saturating_mul(3) < v.capacity();
            Ok((v.len(), thin || (level > 0 && v.len() < 2)))
        })?;
        if level == 0 {
            stats.records = stats.records.saturating_add(len as u64);
        }
        if block != BlockNr::ZERO {
            stats.nodes = stats.nodes.saturating_add(1);
        }
        let sole = matches!(self.root, Root::Inline(_))
            && level.saturating_add(1) == path.top
            && path
                .steps
                .get(usize::from(path.top))
                .is_some_and(|root| root.nr < 2);
        if thin && level < path.top && !path.is_last(level) && !sole {
            stats.thin = stats.thin.saturating_add(1);
        }
        Ok(())
    }
}

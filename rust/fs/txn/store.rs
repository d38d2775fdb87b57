// SPDX-License-Identifier: GPL-2.0

//! A transaction as the store that trees are edited in: reads see its shadows, changes make them.

use super::{For, Shadow, ShadowState, Take, Trans};
use crate::algo::change::Change;
use crate::algo::store::{NodeRead, NodeStore};
use crate::format::node::{self, NodeId};
use crate::format::types::{BlockNr, Ino, Kind};
use crate::fs::alloc::Run;
use crate::fs::sb::Sb;
use crate::kapi::jbd2::JournaledBuffer;
use crate::seam::FVec;
use kernel::error::code::{EIO, ENOSPC};
use kernel::error::Result;
use kernel::prelude::*;

impl NodeRead for Trans<'_> {
    type Error = Error;
    const CHECKS_NAME: bool = true;

    fn block_size(&self) -> usize {
        self.sb.block_size() as usize
    }

    fn uuid(&self) -> &[u8; 16] {
        self.sb.geo().uuid()
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.plan(id.block) {
            Some(plan) => Ok(f(named(self.sb, plan.data(self.sb)?, id)?)),
            None => Unplanned(self).with_node(id, f),
        }
    }

    fn damaged(&self, id: NodeId, what: &'static str) -> Error {
        self.sb.damaged(id, what)
    }
}

/// The private copy `node`, if it is the node called `id`.
fn named<'a>(sb: &Sb, node: &'a [u8], id: NodeId) -> Result<&'a [u8]> {
    let header = node::header(node).ok_or(EIO)?;
    node::verify_name(header, &id).map_err(|what| sb.damaged(id, what))?;
    Ok(node)
}

/// A transaction without its plans: where the records of a node are until these are made.
pub(super) struct Unplanned<'t, 'a>(pub(super) &'t Trans<'a>);

impl NodeRead for Unplanned<'_, '_> {
    type Error = Error;
    const CHECKS_NAME: bool = true;

    fn block_size(&self) -> usize {
        self.0.block_size()
    }

    fn uuid(&self) -> &[u8; 16] {
        self.0.uuid()
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.0.find(id.block).and_then(|i| self.0.shadows.get(i)) {
            Some(s) => Ok(f(named(self.0.sb, &s.data, id)?)),
            None => self.0.sb.reader().with_node(id, f),
        }
    }

    fn damaged(&self, id: NodeId, what: &'static str) -> Error {
        self.0.damaged(id, what)
    }
}

impl NodeStore for Trans<'_> {
    fn node_mut(&mut self, id: NodeId) -> Result<&mut [u8]> {
        let index = self.shadow(id)?;
        let shadow = self.shadows.get_mut(index).ok_or(EIO)?;
        Ok(&mut shadow.data)
    }

    fn change(&mut self, id: NodeId, change: Change<'_>) -> Result<()> {
        if self.find(id.block).is_none() && self.plan(id.block).is_none() {
            return self.keep(id, change);
        }
        let made = change.apply(self.node_mut(id)?);
        made.map_err(|what| self.damaged(id, what))
    }

    fn alloc_node(&mut self, owner: Ino, kind: Kind, level: u8, near: BlockNr) -> Result<BlockNr> {
        let mut data = FVec::from_elem(0u8, self.block_size())?;
        self.takes.reserve(1)?;
        self.shadows.reserve(1)?;
        let what = if kind == Kind::Refcount {
            // B2a: the growth of the refcount tree is paid from the set-aside.
            self.sb.space().take_set_aside();
            For::RefcountNode
        } else {
            if self.space.left == 0 {
                // Who has set nothing aside may come here: a rename or truncation on a full filesystem.
                return Err(ENOSPC);
            }
            self.space.left -= 1;
            For::Node
        };
        let goal = (near != BlockNr::ZERO).then_some(near);
        let run = match self.sb.alloc().claim(goal, 1) {
            Ok(run) => run,
            Err(e) => {
                match what {
                    For::RefcountNode => self.sb.space().return_set_aside_promise(),
                    _ => self.space.left += 1,
                }
                return Err(e.report(self.sb));
            }
        };
        let take = Take { run, what };
        let buf = match self.prepare_fresh(run) {
            Ok(buf) => buf,
            Err(e) => {
                self.untake(take);
                return Err(e);
            }
        };
        let id = NodeId {
            block: run.start,
            owner,
            kind,
            level,
        };
        node::init(&mut data, &id, self.sb.geo().uuid());
        self.takes.push(take)?;
        self.shadows.push(Shadow {
            id,
            state: ShadowState::Live { buf, fresh: true },
            data,
        })?;
        Ok(run.start)
    }

    fn free_node(&mut self, id: NodeId) -> Result<()> {
        if self.plan(id.block).is_some() {
            self.shadow(id)?;
        }
        if let Some(i) = self.find(id.block) {
            let shadow = self.shadows.get_mut(i).ok_or(EIO)?;
            if let ShadowState::Live { fresh: true, .. } = shadow.state {
                shadow.state = ShadowState::Gone;
                if let Some(t) = self.takes.iter().position(|t| t.run.start == id.block) {
                    if let Some(take) = self.takes.remove(t) {
                        self.untake(take);
                    }
                }
                return Ok(());
            }
        }
        let run = Run {
            start: id.block,
            len: 1,
        };
        self.access(run)?;
        self.frees.reserve(1)?;
        let bh = self.sb.reader().node(id)?;
        match self.find(id.block).and_then(|i| self.shadows.get_mut(i)) {
            Some(shadow) => shadow.state = ShadowState::Freed { bh },
            None => self.shadows.push(Shadow {
                id,
                state: ShadowState::Freed { bh },
                data: FVec::new(),
            })?,
        }
        self.frees.push(run)?;
        Ok(())
    }
}

impl Trans<'_> {
    /// Write access to the group and create access to the block of a new node.
    fn prepare_fresh(&mut self, run: Run) -> Result<JournaledBuffer> {
        self.access(run)?;
        self.handle.create_access(self.sb.dev().get(run.start)?)
    }
}

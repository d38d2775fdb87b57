// SPDX-License-Identifier: GPL-2.0

//! A transaction as the store that trees are edited in: reads see its shadows, changes make them.

use super::{For, Shadow, ShadowState, Take, Trans};
use crate::algo::store::{NodeRead, NodeStore};
use crate::format::node::{self, NodeId};
use crate::format::types::{BlockNr, Ino, Kind};
use crate::fs::alloc::Run;
use crate::kapi::jbd2::JournaledBuffer;
use crate::seam::FVec;
use kernel::error::code::{EIO, ENOSPC};
use kernel::error::Result;
use kernel::prelude::*;

impl NodeRead for Trans<'_> {
    type Error = Error;

    fn block_size(&self) -> usize {
        self.sb.block_size() as usize
    }

    fn uuid(&self) -> &[u8; 16] {
        self.sb.geo().uuid()
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match self.find(id.block).and_then(|i| self.shadows.get(i)) {
            Some(s) => Ok(f(&s.data)),
            None => self.sb.reader().with_node(id, f),
        }
    }
}

impl NodeStore for Trans<'_> {
    fn node_mut(&mut self, id: NodeId) -> Result<&mut [u8]> {
        let index = match self.find(id.block) {
            Some(i) => i,
            None => {
                let bh = self.sb.reader().node(id)?;
                let buf = self.handle.write_access(bh)?;
                let data = private_copy(buf.buffer().data())?;
                self.shadows.push(Shadow {
                    id,
                    state: ShadowState::Live { buf, fresh: false },
                    data,
                })?;
                self.shadows.len() - 1
            }
        };
        let shadow = self.shadows.get_mut(index).ok_or(EIO)?;
        Ok(&mut shadow.data)
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
                pr_warn!("no block left for a node of kind {kind:?}\n");
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
                return Err(e);
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

/// A copy of a node, without what lies in its free space.
fn private_copy(node: &[u8]) -> Result<FVec<u8>> {
    let free = node::free_space(node);
    let part = |range| node.get(range).unwrap_or_default();
    let mut data = FVec::with_capacity(node.len())?;
    let fits = data.extend_within_capacity(part(0..free.start))
        && data.fill_within_capacity(0, free.len())
        && data.extend_within_capacity(part(free.end..node.len()));
    match fits {
        true => Ok(data),
        false => Err(EIO),
    }
}

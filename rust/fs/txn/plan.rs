// SPDX-License-Identifier: GPL-2.0

//! Changes of single records, made in the buffer itself when the transaction is applied.
//!
//! Most operations change one record of a node. Such a change is checked against the buffer and kept;
//! a private copy of the node is only made when somebody reads the node or changes it again in the
//! same step. The locks that guard a shadow guard a plan too: from when the node is read until it is
//! published.

use super::{Shadow, ShadowState, Trans};
use crate::algo::change::{Change, Kept};
use crate::format::node::{self, NodeId};
use crate::format::types::BlockNr;
use crate::fs::sb::Sb;
use crate::kapi::jbd2::{Handle, JournaledBuffer};
use crate::seam::FVec;
use core::cell::OnceCell;
use kernel::error::code::EIO;
use kernel::error::Result;

/// A change of one record that [`Trans::apply`] makes.
pub(super) struct Plan {
    id: NodeId,
    buf: JournaledBuffer,
    kept: Kept,
    /// The node as it will be, for those who ask in between.
    seen: OnceCell<FVec<u8>>,
}

impl Plan {
    /// Checks a change of the node `id` in `buf` and keeps it.
    fn new(sb: &Sb, id: NodeId, buf: JournaledBuffer, change: Change<'_>) -> Result<Self> {
        let checked = change.check(buf.buffer().data());
        checked.map_err(|what| sb.damaged(id, what))?;
        Ok(Self {
            id,
            buf,
            kept: Kept::new(change)?,
            seen: OnceCell::new(),
        })
    }

    fn copy(&self, sb: &Sb) -> Result<FVec<u8>> {
        let mut data = private_copy(self.buf.buffer().data())?;
        let made = self.kept.change().apply(&mut data);
        made.map_err(|what| sb.damaged(self.id, what))?;
        Ok(data)
    }

    /// The node as it will be.
    pub(super) fn data(&self, sb: &Sb) -> Result<&[u8]> {
        if self.seen.get().is_none() {
            // Nobody else can have set it.
            let _ = self.seen.set(self.copy(sb)?);
        }
        Ok(self.seen.get().ok_or(EIO)?)
    }

    /// A shadow with the change made.
    fn into_shadow(mut self, sb: &Sb) -> Result<Shadow> {
        let data = match self.seen.take() {
            Some(data) => data,
            None => self.copy(sb)?,
        };
        Ok(Shadow {
            id: self.id,
            state: ShadowState::Live {
                buf: self.buf,
                fresh: false,
            },
            data,
        })
    }

    /// Makes the change, and seals the node. Whether it could be made: if not, the node is as it was.
    pub(super) fn publish(&self, handle: &Handle<'_>, uuid: &[u8; 16]) -> bool {
        let change = self.kept.change();
        self.buf.update(handle, |bytes| {
            let made = change.check(bytes).is_ok() && change.apply(bytes).is_ok();
            // Records of inodes that were written before may count on it.
            node::seal(bytes, uuid);
            made
        })
    }
}

impl Trans<'_> {
    /// The plan for a block.
    pub(super) fn plan(&self, block: BlockNr) -> Option<&Plan> {
        self.plans.iter().find(|p| p.id.block == block)
    }

    /// Keeps a change of a node that has neither a plan nor a shadow.
    pub(super) fn keep(&mut self, id: NodeId, change: Change<'_>) -> Result {
        let bh = self.sb.reader().node(id)?;
        let buf = self.handle.write_access(bh)?;
        self.plans.push(Plan::new(self.sb, id, buf, change)?)?;
        Ok(())
    }

    /// The number of the shadow of a node that may have one or not, or a plan.
    pub(super) fn shadow(&mut self, id: NodeId) -> Result<usize> {
        if let Some(i) = self.find(id.block) {
            return Ok(i);
        }
        self.shadows.reserve(1)?;
        let planned = self.plans.iter().position(|p| p.id.block == id.block);
        let shadow = match planned.and_then(|i| self.plans.remove(i)) {
            Some(plan) => plan.into_shadow(self.sb)?,
            None => {
                let bh = self.sb.reader().node(id)?;
                let buf = self.handle.write_access(bh)?;
                let data = private_copy(buf.buffer().data())?;
                Shadow {
                    id,
                    state: ShadowState::Live { buf, fresh: false },
                    data,
                }
            }
        };
        self.shadows.push(shadow)?;
        Ok(self.shadows.len() - 1)
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

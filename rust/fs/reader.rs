// SPDX-License-Identifier: GPL-2.0

//! Tree nodes outside of a transaction: read through the buffer cache, each verified once (C11).

use super::sb::{Place, Sb};
use crate::algo::store::{NodeRead, TreeError};
use crate::format::node::{self, NodeId};
use crate::format::types::BlockNr;
use crate::kapi::buffer_head::BufferHead;
use kernel::error::code::{EEXIST, ENOENT, ENOMEM, ENOSPC};
use kernel::error::Result;
use kernel::prelude::*;

impl Sb {
    /// Reports a damaged node, or an inode whose tree is damaged. As [`Sb::corrupted`].
    #[cold]
    pub(super) fn damaged(&self, id: NodeId, what: &str) -> Error {
        let place = match id.block {
            BlockNr::ZERO => Place::Ino(id.owner),
            block => Place::Block(block),
        };
        self.corrupted(place, what)
    }

    /// Read access to tree nodes outside of a transaction.
    pub(crate) fn reader(&self) -> NodeReader<'_> {
        NodeReader {
            sb: self,
            wait: true,
            ahead: false,
        }
    }

    /// The same for callers that will soon want the next leaves too.
    pub(crate) fn reader_ahead(&self) -> NodeReader<'_> {
        NodeReader {
            ahead: true,
            ..self.reader()
        }
    }

    /// The same for callers that must not wait (U2): `EAGAIN` for what is not in memory, verified.
    pub(crate) fn reader_nowait(&self) -> NodeReader<'_> {
        NodeReader {
            wait: false,
            ..self.reader()
        }
    }
}

/// Reads tree nodes through the buffer cache and verifies each once (C11).
#[derive(Clone, Copy)]
pub(crate) struct NodeReader<'a> {
    sb: &'a Sb,
    wait: bool,
    ahead: bool,
}

impl<'a> NodeReader<'a> {
    /// The mount.
    pub(crate) fn sb(&self) -> &'a Sb {
        self.sb
    }

    /// May it wait for locks and I/O?
    pub(crate) fn may_wait(&self) -> bool {
        self.wait
    }

    /// The buffer of a node, verified.
    pub(crate) fn node(&self, id: NodeId) -> Result<BufferHead> {
        // Mostly it is in memory and was verified before.
        if let Some(bh) = self.sb.dev().find_verified(id.block) {
            if node::verify_identity(bh.data(), &id, self.uuid()).is_ok() {
                return Ok(bh);
            }
        }
        match self.wait {
            true => self.read(id),
            // Whoever may wait reports what is wrong.
            false => Err(EAGAIN),
        }
    }

    /// [`NodeReader::node`], from the device if need be.
    #[cold]
    fn read(&self, id: NodeId) -> Result<BufferHead> {
        let sb = self.sb;
        sb.geo()
            .check_block(id.block)
            .map_err(|what| sb.corrupted(Place::Block(id.block), what))?;
        let bh = sb.dev().read(id.block)?;
        let was_verified = bh.is_verified();
        let checked = if was_verified {
            node::verify_identity(bh.data(), &id, sb.geo().uuid())
        } else {
            node::verify(bh.data(), &id, sb.geo().uuid())
        };
        if let Err(what) = checked {
            return Err(sb.corrupted(Place::Block(id.block), what));
        }
        if !was_verified {
            bh.set_verified();
        }
        Ok(bh)
    }
}

impl NodeRead for NodeReader<'_> {
    type Error = Error;
    const CHECKS_NAME: bool = true;

    fn block_size(&self) -> usize {
        self.sb.geo().block_size() as usize
    }

    fn uuid(&self) -> &[u8; 16] {
        self.sb.geo().uuid()
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R> {
        Ok(f(self.node(id)?.data()))
    }

    fn damaged(&self, id: NodeId, what: &'static str) -> Error {
        match self.wait {
            true => self.sb.damaged(id, what),
            // Whoever may wait reports what is wrong.
            false => EAGAIN,
        }
    }

    fn read_ahead(&self, leaves: impl Iterator<Item = BlockNr>) {
        if self.ahead {
            let sound = |b: &BlockNr| self.sb.geo().check_block(*b).is_ok();
            self.sb.dev().read_ahead(leaves.filter(sound));
        }
    }
}

impl From<TreeError> for Error {
    fn from(e: TreeError) -> Self {
        match e {
            TreeError::Exists => EEXIST,
            TreeError::NotFound => ENOENT,
            TreeError::TooBig => ENOSPC,
            TreeError::NoMem => ENOMEM,
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Inode records: inserted and removed as the trees' other records are, written in place otherwise.

use super::store::Unplanned;
use super::Trans;
use crate::algo::btree::Tree;
use crate::format::inode::InodeRecord;
use crate::format::node::{self, NodeId};
use crate::format::types::{BlockNr, Ino, Kind};
use crate::fs::inode::Inode;
use crate::fs::sb::Place;
use crate::kapi::buffer_head::BufferHead;
use crate::kapi::jbd2::JournaledBuffer;
use crate::kapi::rwsem::{ReadGuard, WriteGuard};
use kernel::error::code::EIO;
use kernel::error::Result;
use kernel::prelude::*;
use zerocopy::IntoBytes;

/// An inode whose record's place is known and may be written.
pub(crate) struct Joined {
    ino: Ino,
    place: RecordPlace,
}

enum RecordPlace {
    /// In a buffer: block and byte offset, `index` into `Trans::records`.
    Buffer { index: usize },
    /// In a shadow: the record was inserted, or its leaf was changed, in this step.
    Shadow { index: usize, offset: usize },
}

/// Where the leaf of a record is.
enum Found {
    Shadow(usize),
    Buffer(BufferHead),
}

pub(super) struct Record {
    buf: JournaledBuffer,
    offset: usize,
    /// Is the record in the buffer? Then its node gets a checksum on apply.
    written: bool,
}

pub(super) enum TableLock<'a> {
    None,
    Shared(#[expect(dead_code)] ReadGuard<'a, ()>),
    Exclusive(#[expect(dead_code)] WriteGuard<'a, ()>),
}

impl Trans<'_> {
    fn inode_tree(&self) -> Tree {
        Tree::global(Kind::Inodes, self.sb.geo().inode_root())
    }

    fn lock_table_exclusive(&mut self) -> Result {
        if self.joined {
            pr_err!("inode table changed after an inode was joined\n");
            return Err(EIO);
        }
        if matches!(self.table, TableLock::None) {
            self.table = TableLock::Exclusive(self.sb.itable_lock().write());
        }
        Ok(())
    }

    /// Adds an inode record. Before any [`Trans::join_inode`] of the step, in which it is not joined.
    pub(crate) fn insert_inode(&mut self, rec: &InodeRecord) -> Result {
        self.lock_table_exclusive()?;
        let mut tree = self.inode_tree();
        tree.insert(self, rec.ino.get(), rec.as_bytes())
    }

    /// Removes an inode record. Before any [`Trans::join_inode`] of the step.
    pub(crate) fn remove_inode(&mut self, ino: Ino) -> Result {
        self.lock_table_exclusive()?;
        let mut tree = self.inode_tree();
        tree.remove(self, ino.get())
    }

    /// Gets the record of `inode` ready to be written and stamps the inode with this transaction
    /// (C9). Errors: `EFSCORRUPTED` if the record is gone, `EIO`, `ENOMEM`.
    pub(crate) fn join_inode(&mut self, inode: &Inode) -> Result<Joined> {
        let j = self.join_inode_timestamps(inode)?;
        inode.data().stamp_datasync(self.tid());
        Ok(j)
    }

    /// Like [`Trans::join_inode`] for a change that `fdatasync` does not care for.
    pub(crate) fn join_inode_timestamps(&mut self, inode: &Inode) -> Result<Joined> {
        if matches!(self.table, TableLock::None) {
            self.table = TableLock::Shared(self.sb.itable_lock().read());
        }
        let ino = Ino::new(inode.ino());
        self.joined = true;
        let tree = self.inode_tree();
        // The leaf is kept from when it was verified: one that is read again would be verified again,
        // between a record and its checksum maybe.
        let (offset, len, found) = {
            let _records = self.sb.record_lock().read();
            let located = tree.locate(&Unplanned(self), ino.get())?;
            let gone = || self.sb.corrupted(Place::Ino(ino), "no inode record");
            let (block, offset, len) = located.ok_or_else(gone)?;
            let leaf = NodeId {
                block,
                owner: Ino::GLOBAL,
                kind: Kind::Inodes,
                level: 0,
            };
            let found = match self.find(block) {
                Some(index) => Found::Shadow(index),
                None => Found::Buffer(self.sb.reader().node(leaf)?),
            };
            (offset, len, found)
        };
        if len != core::mem::size_of::<InodeRecord>() {
            return Err(self
                .sb
                .corrupted(Place::Ino(ino), "inode record of wrong size"));
        }
        inode.data().stamp_sync(self.tid());
        let place = match found {
            Found::Shadow(index) => RecordPlace::Shadow { index, offset },
            Found::Buffer(leaf) => {
                let buf = self.handle.write_access(leaf)?;
                self.records.push(Record {
                    buf,
                    offset,
                    written: false,
                })?;
                let index = self.records.len() - 1;
                RecordPlace::Buffer { index }
            }
        };
        Ok(Joined { ino, place })
    }

    /// Writes the record of a joined inode. Cannot fail, and nothing may fail between it and
    /// [`Trans::apply`].
    pub(crate) fn log_inode(&mut self, j: Joined, rec: InodeRecord) {
        debug_assert_eq!(j.ino.get(), rec.ino.get());
        match j.place {
            RecordPlace::Buffer { index } => {
                if let Some(r) = self.records.get_mut(index) {
                    let bytes = rec.as_bytes();
                    let _records = self.sb.record_lock().write();
                    r.written = r.buf.change(|block| {
                        let target = block.get_mut(r.offset..r.offset.saturating_add(bytes.len()));
                        target.map(|target| target.copy_from_slice(bytes)).is_some()
                    });
                }
            }
            RecordPlace::Shadow { index, offset } => {
                let bytes = rec.as_bytes();
                let target = self
                    .shadows
                    .get_mut(index)
                    .and_then(|s| s.data.get_mut(offset..offset + bytes.len()));
                if let Some(target) = target {
                    target.copy_from_slice(bytes);
                }
            }
        }
    }

    /// Has the record of an inode been written, and no checksum?
    pub(super) fn is_logged(&self) -> bool {
        self.records.iter().any(|r| r.written)
    }

    /// Makes the checksums of the nodes whose records were written.
    pub(super) fn seal_records(&mut self, uuid: &[u8; 16]) {
        if self.records.is_empty() {
            return;
        }
        let _records = self.sb.record_lock().write();
        let block = |r: &Record| r.written.then(|| r.buf.buffer().block());
        for (i, r) in self.records.iter().enumerate() {
            let Some(nr) = block(r) else {
                continue;
            };
            // Directory and file often lie in one leaf: the last of them makes its checksum, unless a
            // plan will.
            let mut later = self.records.iter().skip(i.saturating_add(1));
            if !later.any(|other| block(other) == Some(nr)) && self.plan(BlockNr::new(nr)).is_none()
            {
                r.buf.update(&self.handle, |block| node::seal(block, uuid));
            }
        }
        self.records.clear();
    }
}

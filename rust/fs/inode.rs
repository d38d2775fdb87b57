// SPDX-License-Identifier: GPL-2.0

//! The in-core inode.

use super::begin_direct::{DioConvert, DioPin};
use super::completion::Completion;
use super::last::LastLookup;
use crate::algo::btree::Tree;
use crate::algo::staging::Staging;
use crate::format::inode::{InodeRecord, FLAG_MAY_SHARE};
use crate::format::node::InlineRoot;
use crate::format::types::{Ino, Kind};
use crate::kapi::jbd2::Tid;
use crate::kapi::memalloc::NofsScope;
use crate::kapi::rwsem::{ReadGuard, RwSem, WriteGuard};
use crate::seam::FVec;
use core::ops::{Deref, DerefMut};
use kernel::prelude::*;
use kernel::static_lock_class;
use kernel::sync::atomic::{Atomic, Relaxed};

/// A VFS inode of calf.
pub(crate) type Inode = crate::kapi::Inode<super::Calf>;
/// A VFS superblock of calf.
pub(crate) type SuperBlock = crate::kapi::SuperBlock<super::Calf>;

/// Record flag: some block of the file may be shared, so the refcount tree must be asked (S1).
pub(crate) const MAY_SHARE: u32 = FLAG_MAY_SHARE;

/// What calf keeps for every inode in memory.
#[pin_data]
pub(crate) struct CalfInode {
    /// The *extent lock* and what it guards.
    #[pin]
    pub(crate) ext: ExtLock,
    /// The answer to the last lookup.
    #[pin]
    pub(crate) last: LastLookup,
    /// Counts changes of the data map: type, address or existence of any extent (C-COOKIE-BUMP).
    /// Written under the extent lock held exclusively.
    data_seq: Atomic<u32>,
    /// The same for the staging map.
    cow_seq: Atomic<u32>,
    /// The file is the source of a clone, which holds its locks shared: reads go on, and whoever
    /// writes with a lock shared takes it exclusively. Changes with both locks held exclusively, or
    /// back to false with them still shared.
    remapping: Atomic<bool>,
    /// Last transaction that touched the inode in any way (C9).
    sync_tid: Atomic<u32>,
    /// Last transaction that touched what `fdatasync` must make durable (C9).
    datasync_tid: Atomic<u32>,
    /// Ioends that wait for their transaction, and the work item that does it.
    #[pin]
    pub(crate) completion: Completion,
}

/// Something staged, for which the reserved tree blocks suffice, and for less of it on the same tree.
#[derive(Clone, Copy, Default)]
pub(crate) struct MetaLimit {
    /// [`InodeExt::edits`] of the tree.
    pub edits: u64,
    /// Ranges.
    pub ranges: usize,
    /// Reserved blocks.
    pub reserved: u64,
}

/// What the extent lock guards.
pub(crate) struct InodeExt {
    /// Root of the data tree: extents, directory or symbolic link. Changes with [`InodeExt::set_tree`].
    pub(crate) root: InlineRoot,
    /// Counts what [`InodeExt::set_tree`] has published.
    pub(super) edits: u64,
    /// The only size that is ever logged (C10).
    pub(crate) disk_size: u64,
    /// Blocks of data and of tree nodes.
    pub(crate) nblocks: u64,
    /// Record flags.
    pub(crate) flags: u32,
    /// Time of birth, ns.
    pub(crate) btime: i64,
    /// Project id, stored only.
    pub(crate) projid: u32,
    /// Attribute area of the record, not used yet.
    pub(crate) attr: [u8; 48],
    /// Data that has no place on disk yet, or not its final one.
    pub(crate) staging: Staging,
    /// Blocks reserved for the tree nodes that mapping the staged data may take (B2b).
    pub(crate) meta_resv: u64,
    /// What they are known to suffice for.
    pub(crate) meta_limit: MetaLimit,
    /// What direct writes in flight have pinned (C2).
    pub(crate) dio_pins: FVec<DioPin>,
    /// I/O to claims has failed while somebody else had them pinned, to whom it was left to give them
    /// back (C6).
    pub(crate) failed_claims: bool,
    /// A truncation has failed half way: what it has left past EOF is data.
    pub(crate) half_cut: bool,
    /// What they have reserved for conversions.
    pub(crate) dio_converts: FVec<DioConvert>,
}

impl InodeExt {
    /// The state of an inode that is not on disk yet; `kind` is what its tree holds.
    pub(crate) fn empty(kind: Kind) -> Self {
        Self {
            root: InlineRoot::empty(kind),
            edits: 0,
            disk_size: 0,
            nblocks: 0,
            flags: 0,
            btime: 0,
            projid: 0,
            attr: [0; 48],
            staging: Staging::new(),
            meta_resv: 0,
            meta_limit: MetaLimit::default(),
            dio_pins: FVec::new(),
            failed_claims: false,
            half_cut: false,
            dio_converts: FVec::new(),
        }
    }

    /// Takes over what the record on disk says.
    pub(crate) fn load(&mut self, rec: &InodeRecord) {
        self.root = rec.root;
        self.edits = self.edits.wrapping_add(1);
        self.disk_size = rec.size.get();
        self.nblocks = rec.nblocks.get();
        self.flags = rec.flags.get();
        self.btime = rec.btime.get();
        self.projid = rec.projid.get();
        self.attr = rec.attr;
    }

    /// A copy of the inode's tree, to edit in a transaction.
    pub(crate) fn tree(&self, inode: &Inode) -> Tree {
        Tree::inode(tree_kind(inode), Ino::new(inode.ino()), self.root)
    }

    /// Takes over the root of an edited copy and counts its nodes. Only right before
    /// [`Trans::apply`](super::txn::Trans::apply), with the extent lock held exclusively.
    pub(crate) fn set_tree(&mut self, tree: &Tree) {
        if let Some(root) = tree.inline_root() {
            self.root = *root;
        }
        self.edits = self.edits.wrapping_add(1);
        self.nblocks = self.nblocks.saturating_add_signed(tree.delta());
    }

    /// What the record of the inode should say now.
    pub(crate) fn record(&self, inode: &Inode) -> InodeRecord {
        let t = inode.times();
        InodeRecord {
            ino: inode.ino().into(),
            size: self.disk_size.into(),
            nblocks: self.nblocks.into(),
            atime: t.atime.into(),
            mtime: t.mtime.into(),
            ctime: t.ctime.into(),
            btime: self.btime.into(),
            iversion: inode.iversion().into(),
            gen: inode.generation().into(),
            flags: self.flags.into(),
            uid: inode.uid().into(),
            gid: inode.gid().into(),
            nlink: inode.nlink().into(),
            projid: self.projid.into(),
            rdev: inode.rdev().into(),
            mode: inode.mode().into(),
            reserved: 0u16.into(),
            root: self.root,
            attr: self.attr,
        }
    }

    /// May blocks of the file be shared (S1)?
    pub(crate) fn may_share(&self) -> bool {
        self.flags & MAY_SHARE != 0
    }
}

/// The kind of an inode's tree.
pub(crate) fn tree_kind(inode: &Inode) -> Kind {
    if inode.is_dir() {
        Kind::Dir
    } else if inode.is_lnk() {
        Kind::Symlink
    } else {
        Kind::Extents
    }
}

impl CalfInode {
    /// Initialiser of a blank inode; `iget` or `new_inode` fill it.
    pub(crate) fn init() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            ext <- ExtLock::new(),
            last <- LastLookup::new(),
            data_seq: Atomic::new(0),
            cow_seq: Atomic::new(0),
            remapping: Atomic::new(false),
            sync_tid: Atomic::new(0),
            datasync_tid: Atomic::new(0),
            completion <- Completion::new(),
        })
    }

    /// The validity cookie: sampled under the same extent lock hold as the mapping
    /// (C-COOKIE-SAMPLE), it covers both maps (C-COOKIE-COVER).
    pub(crate) fn cookie(&self) -> u64 {
        u64::from(self.cow_seq.load(Relaxed)) << 32 | u64::from(self.data_seq.load(Relaxed))
    }

    /// Counts a change of the data map. With the extent lock held exclusively.
    pub(crate) fn bump_data_seq(&self) {
        self.data_seq.add(1, Relaxed);
    }

    /// Counts a change of the staging map. With the extent lock held exclusively.
    pub(crate) fn bump_cow_seq(&self) {
        self.cow_seq.add(1, Relaxed);
    }

    /// Says whether the file is the source of a running clone.
    pub(crate) fn set_remapping(&self, on: bool) {
        self.remapping.store(on, Relaxed);
    }

    /// Is the file the source of a running clone? With one of its locks held.
    pub(crate) fn is_remapping(&self) -> bool {
        self.remapping.load(Relaxed)
    }

    /// Notes that transaction `tid` touched the inode.
    pub(crate) fn stamp_sync(&self, tid: Tid) {
        self.sync_tid.store(tid, Relaxed);
    }

    /// Notes that transaction `tid` touched what `fdatasync` makes durable.
    pub(crate) fn stamp_datasync(&self, tid: Tid) {
        self.sync_tid.store(tid, Relaxed);
        self.datasync_tid.store(tid, Relaxed);
    }

    /// The transaction that `fsync` (or `fdatasync`) waits for.
    pub(crate) fn tid(&self, datasync: bool) -> Tid {
        if datasync {
            self.datasync_tid.load(Relaxed)
        } else {
            self.sync_tid.load(Relaxed)
        }
    }
}

/// The extent lock of an inode. Its guards open a NOFS scope (D1).
#[pin_data]
pub(crate) struct ExtLock {
    #[pin]
    sem: RwSem<InodeExt>,
}

/// Shared hold of an extent lock.
pub(crate) struct ExtRead<'a> {
    // Dropped in this order: the lock, then the scope.
    guard: ReadGuard<'a, InodeExt>,
    _nofs: NofsScope,
}

/// Exclusive hold of an extent lock.
pub(crate) struct ExtWrite<'a> {
    guard: WriteGuard<'a, InodeExt>,
    _nofs: NofsScope,
}

impl ExtLock {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            sem <- RwSem::new(
                InodeExt::empty(Kind::Extents),
                c"calf_extent_lock",
                static_lock_class!(),
            ),
        })
    }

    /// Does the current task hold it exclusively?
    #[cfg(calf_lab)]
    pub(crate) fn is_mine(&self) -> bool {
        self.sem.is_mine()
    }

    /// Waits for a shared hold.
    pub(crate) fn read(&self) -> ExtRead<'_> {
        let nofs = NofsScope::enter();
        ExtRead {
            guard: self.sem.read(),
            _nofs: nofs,
        }
    }

    /// A shared hold if it is to be had at once (U2).
    pub(crate) fn try_read(&self) -> Option<ExtRead<'_>> {
        let nofs = NofsScope::enter();
        Some(ExtRead {
            guard: self.sem.try_read()?,
            _nofs: nofs,
        })
    }

    /// An exclusive hold if it is to be had at once (U2).
    pub(crate) fn try_write(&self) -> Option<ExtWrite<'_>> {
        let nofs = NofsScope::enter();
        Some(ExtWrite {
            guard: self.sem.try_write()?,
            _nofs: nofs,
        })
    }

    /// Waits for an exclusive hold.
    pub(crate) fn write(&self) -> ExtWrite<'_> {
        let nofs = NofsScope::enter();
        ExtWrite {
            guard: self.sem.write(),
            _nofs: nofs,
        }
    }

    /// Waits for an exclusive hold when the caller has `nth` (at most 7) extent locks already. The
    /// order is that of the addresses (D6).
    pub(super) fn write_nth(&self, nth: u8) -> ExtWrite<'_> {
        let nofs = NofsScope::enter();
        ExtWrite {
            guard: self.sem.write_nested(nth),
            _nofs: nofs,
        }
    }
}

impl Deref for ExtRead<'_> {
    type Target = InodeExt;
    fn deref(&self) -> &InodeExt {
        &self.guard
    }
}

impl Deref for ExtWrite<'_> {
    type Target = InodeExt;
    fn deref(&self) -> &InodeExt {
        &self.guard
    }
}

impl DerefMut for ExtWrite<'_> {
    fn deref_mut(&mut self) -> &mut InodeExt {
        &mut self.guard
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Transactions: one journal handle and the private copies of the blocks it is going to change.
//!
//! jbd2 has no undo (C5), so every operation has two halves. In the first, *prepare*, trees are
//! edited in private copies ("shadows") or single records in thought ("plans"), write access to the
//! real buffers is taken, blocks are claimed: all of it may fail, and then nothing has happened. The
//! second cannot fail: [`Trans::log_inode`] writes records of inodes, [`Trans::apply`] copies the
//! shadows into the buffers and makes the planned changes there.
//!
//! ```text
//! space = MetaSpace::reserve(sb, n)?;            // may wait for a commit: no lock held
//! let mut t = Trans::start(sb, credits, space)?;
//! let mut ext = inode.data().ext.write();        // extent locks, in address order
//! let mut tree = ext.tree(ino);                  // a copy of the root
//! extent::insert(&mut tree, &mut t, e)?;         // prepare
//! let j = t.join_inode(&inode)?;
//! ext.set_tree(&tree);                           // from here on nothing fails
//! t.log_inode(j, ext.record(&inode));
//! t.apply();
//! drop(ext);
//! t.stop()
//! ```
//!
//! Lock order inside a handle: extent locks -> refcount tree -> orphans -> inode table -> record
//! lock -> allocator groups. Tree locks are taken by the transaction when it first needs them and
//! held until `apply`, because the shadows are made from what the tree looked like under the lock.

use super::alloc::{GroupAccess, Run};
use super::credits::Credits;
use super::mount::mark_used;
use super::sb::{Place, Sb};
use super::space::Share;
use crate::algo::btree::Tree;
use crate::format::node::{self, NodeId};
use crate::format::types::{BlockNr, Kind};
use crate::kapi::buffer_head::BufferHead;
use crate::kapi::jbd2::{Handle, JournaledBuffer, Tid};
use crate::kapi::memalloc::retry_nomem;
use crate::kapi::rwsem::WriteGuard;
use crate::seam::FVec;
use kernel::error::code::EIO;
use kernel::error::Result;
use kernel::prelude::*;

mod plan;
mod record;
mod store;

use plan::Plan;
use record::{Record, TableLock};

/// Blocks set aside for the tree nodes that an operation may add (B2).
///
/// What is left goes back to the account on drop.
pub(crate) struct MetaSpace<'a> {
    sb: &'a Sb,
    left: u64,
}

impl<'a> MetaSpace<'a> {
    /// Sets `n` blocks aside; waits for a commit if freed blocks are pending (B4).
    /// Errors: `ENOSPC`. Not under a handle.
    pub(crate) fn reserve(sb: &'a Sb, n: u64) -> Result<Self> {
        Self::reserve_from(sb, n, Share::None)
    }

    /// The same, of the pool too as far as `share` says.
    pub(crate) fn reserve_from(sb: &'a Sb, n: u64, share: Share) -> Result<Self> {
        sb.reserve_blocks(n, share)?;
        Ok(Self { sb, left: n })
    }

    /// The same for what needs blocks only if a tree grows, which is seldom: without any space it is tried with
    /// none (B2c), and an edit that cannot do without ends with `ENOSPC` before anything has changed.
    pub(crate) fn or_none(sb: &'a Sb, n: u64, share: Share) -> Result<Self> {
        match Self::reserve_from(sb, n, share) {
            Err(ENOSPC) => Ok(Self::adopt(sb, 0)),
            other => other,
        }
    }

    /// Sets `most` blocks aside, or on a full filesystem `least`, of the pool too as far as `share` says: so
    /// that many may take a step each at the same time.
    pub(crate) fn batch(sb: &'a Sb, most: u64, least: u64, share: Share) -> Result<Self> {
        if sb.space().reserve(most, Share::None).is_ok() {
            return Ok(Self { sb, left: most });
        }
        Self::reserve_from(sb, least, share)
    }

    /// Takes over `n` blocks that the caller has reserved before (B2b).
    pub(crate) fn adopt(sb: &'a Sb, n: u64) -> Self {
        Self { sb, left: n }
    }
}

impl Drop for MetaSpace<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.sb.space().release(self.left);
        }
    }
}

/// The private copy of one node.
struct Shadow {
    id: NodeId,
    state: ShadowState,
    data: FVec<u8>,
}

enum ShadowState {
    /// Will be copied into the buffer; `fresh` if it was allocated in this step.
    Live { buf: JournaledBuffer, fresh: bool },
    /// Will be revoked and freed.
    Freed { bh: BufferHead },
    /// Allocated and freed in this step, or published.
    Gone,
}

/// A claimed run that apply turns into an allocation.
#[derive(Clone, Copy)]
struct Take {
    run: Run,
    what: For,
}

/// Whom a claim goes back to when a step is dropped.
#[derive(Clone, Copy)]
enum For {
    /// The claim belongs to the caller's staging map and stays.
    Caller,
    /// Back to the promise that the caller made before.
    Data,
    /// Back to the space of the transaction.
    Node,
    /// Back to the set-aside of the refcount tree.
    RefcountNode,
}

/// A running transaction of the current task.
pub(crate) struct Trans<'a> {
    sb: &'a Sb,
    space: MetaSpace<'a>,
    shadows: FVec<Shadow>,
    /// Changes of nodes that have no shadow.
    plans: FVec<Plan>,
    /// Runs to allocate on apply.
    takes: FVec<Take>,
    frees: FVec<Run>,
    /// Runs that are left to one owner on apply.
    lefts: FVec<Run>,
    groups: FVec<GroupAccess>,
    records: FVec<Record>,
    refcount: Option<WriteGuard<'a, ()>>,
    orphans: Option<WriteGuard<'a, ()>>,
    table: TableLock<'a>,
    /// Has an inode been joined in this step?
    joined: bool,
    /// Last, so that it is stopped after everything above is gone.
    handle: Handle<'a>,
}

impl<'a> Trans<'a> {
    /// Starts a handle for `credits` and with `space` for new nodes.
    ///
    /// Goes on until there is memory: many callers are in the middle of something (B3). Errors: `EIO` after a
    /// shutdown (C1), `EBUSY` inside another handle (D3).
    pub(crate) fn start(sb: &'a Sb, credits: Credits, space: MetaSpace<'a>) -> Result<Self> {
        sb.check_shutdown()?;
        let handle = loop {
            mark_used(sb)?;
            let handle = retry_nomem(|| sb.journal().start(credits.blocks, credits.revokes))?;
            // The mark goes away only while there is no handle.
            if sb.is_in_use() {
                break handle;
            }
        };
        Ok(Self {
            sb,
            space,
            shadows: FVec::new(),
            plans: FVec::new(),
            takes: FVec::new(),
            frees: FVec::new(),
            lefts: FVec::new(),
            groups: FVec::new(),
            records: FVec::new(),
            refcount: None,
            orphans: None,
            table: TableLock::None,
            joined: false,
            handle,
        })
    }

    /// The mount.
    pub(crate) fn sb(&self) -> &'a Sb {
        self.sb
    }

    /// The id of the transaction.
    pub(crate) fn tid(&self) -> Tid {
        self.handle.tid()
    }

    /// Do the credits last for what has been prepared and another step that needs `need` (B1)?
    pub(crate) fn can_continue(&self, need: Credits) -> bool {
        let freed = |s: &&Shadow| matches!(s.state, ShadowState::Freed { .. });
        let revokes = self.shadows.iter().filter(freed).count();
        let last = |have: u32, need: u32, pending: usize| {
            u32::try_from(pending).is_ok_and(|n| have >= need.saturating_add(n))
        };
        last(self.handle.credits(), need.blocks, self.pending())
            && last(self.handle.revokes(), need.revokes, revokes)
    }

    /// Do the credits last for what has been prepared? For steps whose demand is not a constant.
    pub(crate) fn fits(&self) -> bool {
        self.can_continue(Credits::new(0, 0))
    }

    /// Blocks that [`Trans::apply`] is going to change, at most.
    fn pending(&self) -> usize {
        let nodes = self.shadows.len() + self.plans.len();
        nodes + self.records.len() + self.groups.len().saturating_mul(2)
    }

    /// Blocks that are left for new nodes.
    pub(crate) fn space_left(&self) -> u64 {
        self.space.left
    }

    /// Adds `n` blocks that the caller has reserved.
    pub(crate) fn add_space(&mut self, n: u64) {
        self.space.left += n;
    }

    /// Takes out what is left for new nodes; it stays reserved and belongs to the caller.
    pub(crate) fn take_space(&mut self) -> u64 {
        core::mem::take(&mut self.space.left)
    }

    /// The refcount tree, locked until [`Trans::apply`].
    pub(crate) fn refcount(&mut self) -> Result<Tree> {
        if self.refcount.is_none() {
            debug_assert!(self.orphans.is_none() && matches!(self.table, TableLock::None));
            self.refcount = Some(self.sb.refcount_lock().write());
        }
        Ok(Tree::global(Kind::Refcount, self.sb.geo().refcount_root()))
    }

    /// The tree of inodes with work left to do, locked until [`Trans::apply`].
    pub(crate) fn orphans(&mut self) -> Result<Tree> {
        if self.orphans.is_none() {
            debug_assert!(matches!(self.table, TableLock::None));
            self.orphans = Some(self.sb.orphan_lock().write());
        }
        Ok(Tree::global(Kind::Orphans, self.sb.geo().orphan_root()))
    }

    /// Write access to the group of every block of `run`.
    fn access(&mut self, run: Run) -> Result {
        let mut rest = run;
        while rest.len > 0 {
            let g = self.sb.alloc().group_of(rest.start);
            if !self.groups.iter().any(|a| a.group() == g) {
                let access = self.sb.alloc().access(&self.handle, g);
                self.groups.push(access.map_err(|e| e.report(self.sb))?)?;
            }
            rest = advance(rest, self.sb.alloc().in_group(rest)).ok_or_else(|| {
                let place = Place::Block(rest.start);
                self.sb.corrupted(place, "blocks of no group")
            })?;
        }
        Ok(())
    }

    /// Makes a claim an allocation on apply.
    pub(crate) fn take_claim(&mut self, start: BlockNr, len: u64) -> Result {
        let run = Run { start, len };
        self.access(run)?;
        self.takes.push(Take {
            run,
            what: For::Caller,
        })?;
        Ok(())
    }

    /// Chooses up to `want` blocks near `goal` and makes them an allocation on apply. The caller
    /// holds a promise of `want` blocks and keeps it for those it did not get; if the step is
    /// dropped the promise is the caller's again.
    pub(crate) fn alloc_data(&mut self, goal: Option<BlockNr>, want: u64) -> Result<Run> {
        self.takes.reserve(1)?;
        let run = self.sb.alloc().claim(goal, want);
        let run = run.map_err(|e| e.report(self.sb))?;
        if let Err(e) = self.access(run) {
            self.sb.alloc().unclaim(run, true);
            return Err(e);
        }
        self.takes.push(Take {
            run,
            what: For::Data,
        })?;
        Ok(run)
    }

    /// Frees data blocks on apply. They are allocatable after the commit, when nothing pins them.
    pub(crate) fn free_data(&mut self, start: BlockNr, len: u64) -> Result {
        self.sb
            .geo()
            .check_range(start, len)
            .map_err(|what| self.sb.corrupted(Place::Block(start), what))?;
        let run = Run { start, len };
        self.access(run)?;
        self.frees.push(run)?;
        Ok(())
    }

    /// Notes on apply that written blocks have one owner, or one place in it, less, and one is left.
    pub(crate) fn leave_data(&mut self, start: BlockNr, len: u64) -> Result {
        let run = Run { start, len };
        let ready = self.sb.alloc().prepare_leave(run);
        ready.map_err(|e| e.report(self.sb))?;
        self.lefts.push(run)?;
        Ok(())
    }

    /// Publishes everything prepared since the last call and releases the tree locks. Cannot fail:
    /// if the journal refuses a buffer it is aborted, and nothing of the transaction survives.
    /// The caller still holds the extent locks of the inodes concerned.
    pub(crate) fn apply(&mut self) {
        let uuid = *self.sb.geo().uuid();
        let mut sane = true;
        for s in self.shadows.iter_mut() {
            match core::mem::replace(&mut s.state, ShadowState::Gone) {
                ShadowState::Live { buf, fresh } => {
                    buf.update(&self.handle, |bytes| {
                        match fresh {
                            // What was in the buffer may be another file's data.
                            true => bytes.copy_from_slice(&s.data),
                            false => node::copy_used(&s.data, bytes),
                        }
                        node::seal(bytes, &uuid);
                    });
                    buf.buffer().set_verified();
                }
                ShadowState::Freed { bh } => {
                    // C7: revoked before the bit is cleared.
                    sane &= self.handle.revoke(bh).is_ok();
                    if s.id.kind == Kind::Refcount {
                        self.sb.space().return_set_aside();
                    }
                }
                ShadowState::Gone => {}
            }
        }
        self.shadows.clear();
        for take in self.takes.iter() {
            sane &= self.change_bits(take.run, true);
        }
        self.takes.clear();
        for &run in self.frees.iter() {
            sane &= self.change_bits(run, false);
        }
        self.frees.clear();
        for &run in self.lefts.iter() {
            self.sb.alloc().leave(self.tid(), run);
        }
        self.lefts.clear();
        self.groups.clear();
        self.seal_records(&uuid);
        for plan in self.plans.iter() {
            sane &= plan.publish(&self.handle, &uuid);
        }
        self.plans.clear();
        self.unlock_trees();
        if !sane && !self.sb.journal().is_aborted() {
            let _ = self.sb.corrupted(
                Place::Block(BlockNr::ZERO),
                "bitmap disagrees with the trees, or a node changed without its lock",
            );
        }
    }

    fn change_bits(&self, run: Run, set: bool) -> bool {
        let alloc = self.sb.alloc();
        let mut rest = run;
        let mut ok = true;
        while rest.len > 0 {
            let n = alloc.in_group(rest);
            let g = alloc.group_of(rest.start);
            let part = Run {
                start: rest.start,
                len: n,
            };
            let Some(access) = self.groups.iter().find(|a| a.group() == g) else {
                return false;
            };
            ok &= if set {
                alloc.take(&self.handle, access, part)
            } else {
                alloc.free(&self.handle, access, part)
            };
            match advance(rest, n) {
                Some(r) => rest = r,
                None => return false,
            }
        }
        ok
    }

    /// Drops what has been prepared since the last apply, keeps the handle. Not after
    /// [`Trans::log_inode`], which nothing takes back (C5).
    pub(crate) fn cancel(&mut self) {
        if self.is_logged() {
            pr_err!("step dropped after an inode was logged\n");
            self.sb.journal().abort(EIO);
        }
        self.shadows.clear();
        self.plans.clear();
        self.records.clear();
        self.groups.clear();
        self.frees.clear();
        self.lefts.clear();
        while let Some(take) = self.takes.pop() {
            self.untake(take);
        }
        self.unlock_trees();
    }

    /// The end of a step.
    fn unlock_trees(&mut self) {
        self.joined = false;
        self.table = TableLock::None;
        self.orphans = None;
        self.refcount = None;
    }

    /// Gives back what a step has claimed.
    fn untake(&mut self, take: Take) {
        if let For::Caller = take.what {
            return;
        }
        self.sb.alloc().unclaim(take.run, true);
        match take.what {
            For::Caller | For::Data => {}
            For::Node => self.space.left += take.run.len,
            For::RefcountNode => self.sb.space().return_set_aside_promise(),
        }
    }

    /// Ends the handle. Whatever was not applied is dropped. Not with guards of tree locks alive.
    pub(crate) fn stop(self) -> Result {
        if self.sb.journal().is_aborted() {
            return Err(EIO);
        }
        Ok(())
    }

    fn find(&self, block: BlockNr) -> Option<usize> {
        self.shadows
            .iter()
            .position(|s| s.id.block == block && matches!(s.state, ShadowState::Live { .. }))
    }
}

impl Drop for Trans<'_> {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The run without its first `n` blocks, of which there is one at least.
fn advance(run: Run, n: u64) -> Option<Run> {
    Some(Run {
        start: run.start.checked_add(n).filter(|_| n > 0)?,
        len: run.len.saturating_sub(n),
    })
}

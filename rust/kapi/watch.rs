// SPDX-License-Identifier: GPL-2.0

//! What a laboratory build looks at where a filesystem and the kernel meet: what begin answers, what
//! end is told, which locks are taken, and in what state the task is.
//!
//! C header: [`include/linux/rwsem.h`](srctree/include/linux/rwsem.h)

use super::fs::FileSystem;
use super::inode::Inode;
use super::iomap::{Done, LabSide, Request};
use super::rwsem::RwSem;
use crate::bindings;
use kernel::prelude::*;

/// A lock of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// `i_rwsem`.
    Inode,
    /// `invalidate_lock`.
    Invalidate,
    /// No lock: page cache of the file is about to be written back or dropped.
    PageCache,
}

/// What begin has answered, as the core sees it.
#[derive(Clone, Copy, Debug)]
pub struct Begun<'a> {
    /// Type name of the implementation.
    pub op: &'static str,
    /// What was asked for.
    pub req: &'a Request,
    /// Destination.
    pub dst: LabSide,
    /// Source; a hole if there is none.
    pub src: LabSide,
    /// `validity_cookie`.
    pub cookie: u64,
    /// Will end be called?
    pub has_end: bool,
}

/// The observer of a filesystem.
pub trait Watch<F: FileSystem> {
    /// Begin succeeded. An error becomes that of begin; end is called first.
    fn begun(inode: &Inode<F>, begun: &Begun<'_>) -> Result;
    /// End is about to run. The answer is passed to [`Watch::ended`].
    fn ending(inode: &Inode<F>, done: &Done<'_>) -> bool;
    /// End has run.
    fn ended(inode: &Inode<F>, done: &Done<'_>, before: bool);
    /// The core was told that a mapping still holds.
    fn held_valid(inode: &Inode<F>, map: &LabSide, cookie: u64);
    /// A lock is about to be taken.
    fn locking(inode: &Inode<F>, lock: Lock);
}

/// In what state the current task is.
#[derive(Clone, Copy, Debug)]
pub struct Context(u32);

impl Context {
    /// That of now.
    pub fn now() -> Self {
        // SAFETY: Only reads the current task.
        Self(unsafe { bindings::calf_lab_context() })
    }

    /// Do allocations keep out of filesystems?
    pub fn is_nofs(self) -> bool {
        self.0 & bindings::CALF_LAB_NOFS != 0
    }

    /// Is a jbd2 handle open?
    pub fn has_handle(self) -> bool {
        self.0 & bindings::CALF_LAB_HANDLE != 0
    }

    /// May it not sleep?
    pub fn is_atomic(self) -> bool {
        self.0 & bindings::CALF_LAB_ATOMIC != 0
    }

    /// Does it free memory for others?
    pub fn is_reclaim(self) -> bool {
        self.0 & bindings::CALF_LAB_RECLAIM != 0
    }
}

impl<F: FileSystem> Inode<F> {
    /// Does the current task hold `i_rwsem` exclusively?
    pub fn is_rwsem_mine(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_lab_inode_is_mine(self.as_ptr()) }
    }

    /// Does the current task hold `invalidate_lock` exclusively?
    pub fn is_invalidate_mine(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_lab_invalidate_is_mine(self.as_ptr()) }
    }

    /// Does anybody hold `invalidate_lock`?
    pub fn is_invalidate_held(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_lab_invalidate_is_held(self.as_ptr()) }
    }

    /// Direct I/O under way.
    pub fn dio_count(&self) -> i32 {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_lab_dio_count(self.as_ptr()) }
    }

    /// Is any of bytes `[start, end)` in the page cache?
    pub fn has_page(&self, start: u64, end: u64) -> bool {
        // CAST: file offsets are below `i64::MAX`.
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_lab_has_page(self.as_ptr(), start as i64, end as i64) }
    }

    /// May a block of `[start, end)` be dirty or under writeback? Yes where a folio is locked.
    pub fn is_busy(&self, start: u64, end: u64) -> bool {
        // CAST: As above.
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_lab_is_busy(self.as_ptr(), start as i64, end as i64) }
    }

    /// Is a folio of `[start, end)` dirty or under writeback?
    pub fn is_dirty(&self, start: u64, end: u64) -> bool {
        // CAST: As above.
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_lab_is_dirty(self.as_ptr(), start as i64, end as i64) }
    }
}

impl<T> RwSem<T> {
    /// Does the current task hold it exclusively?
    pub fn is_mine(&self) -> bool {
        // SAFETY: Initialised by the type invariant.
        unsafe { bindings::calf_lab_rwsem_is_mine(self.as_ptr()) }
    }
}

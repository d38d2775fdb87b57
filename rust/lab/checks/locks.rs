// SPDX-License-Identifier: GPL-2.0

//! The order of locks, as far as it can be seen where one is taken.
//!
//! Handles, extent locks and completion all open a NOFS scope (D1), so being in one stands for holding
//! one of them.

use super::table::Check;
use super::Seam;
use crate::fs::Inode;
use crate::kapi::watch::{Context, Lock};
use kernel::prelude::*;

/// `lock` is about to be taken.
pub(super) fn taking(inode: &Inode, lock: Lock) {
    let now = Context::now();
    let s = Seam::new(inode, "lock", 0, 0);
    if lock == Lock::PageCache {
        let ext = inode.data().ext.is_mine();
        let fine = !now.has_handle() && !ext;
        let facts = fmt!("handle: {}, extent lock: {}", now.has_handle(), ext);
        s.demand(Check::Lock1, fine, facts);
        return;
    }
    let invalidate = inode.is_invalidate_mine();
    s.demand(
        Check::LockOrder,
        !now.is_nofs() && (lock != Lock::Inode || !invalidate),
        fmt!(
            "{:?} in a NOFS scope: {}, under invalidate_lock: {}",
            lock,
            now.is_nofs(),
            invalidate
        ),
    );
    s.demand(
        Check::PunchLock,
        lock != Lock::Invalidate || !invalidate,
        fmt!("this task has invalidate_lock already"),
    );
}

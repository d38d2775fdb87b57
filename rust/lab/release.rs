// SPDX-License-Identifier: GPL-2.0

//! Seeds 002 and 003: what end does with a reservation that was not used up.
//!
//! In 2022 several forms were tried before the one that stayed: drop the page cache and punch (which
//! loses what others made dirty meanwhile), leave it when the mapping had become stale (which leaks
//! it), and punch without `invalidate_lock` (which takes it away under a folio that a write fault
//! has just made dirty).

use super::switches::Switch;
use crate::fs::begin_write::Release;
use crate::fs::Inode;
use crate::kapi::iomap::{delalloc_release, Done, Flags, InvalidateHeld, Punch};
use crate::kapi::memalloc::wait_a_tick;
use kernel::prelude::*;

/// How often `punch_relock` asks for the lock that its own task holds, a tick apart, before it gives
/// up. The bug would wait for ever, and take the machine with it.
const RELOCK_TRIES: u32 = 100;

/// Does with the unused reservation `[start, end)` what the switch of this mount says. Returns
/// false if no switch is on that concerns it.
pub(crate) fn instead(inode: &Inode, done: &Done<'_>, start: u64, end: u64) -> bool {
    let bugs = inode.sb().data().opts().bugs;
    let nested = done.flags.has(Flags::ZERO) || done.flags.has(Flags::UNSHARE);
    if bugs.has(Switch::PunchWrongFork) && done.is_shared() {
        return true;
    }
    if bugs.has(Switch::EndSkipPunchIfStale) && done.is_stale() {
        return true;
    }
    if bugs.has(Switch::UnshareNolock) && done.flags.has(Flags::UNSHARE) {
        delalloc_release::<_, Release>(&InvalidateHeld::by_nobody(inode), done, start, end);
        return true;
    }
    if nested {
        return bugs.has(Switch::PunchRelock) && !relock(inode);
    }
    if bugs.has(Switch::EndTruncatesCache) {
        let _faults = inode.invalidate_lock();
        inode.truncate_pagecache_range(start, end - 1);
        Release::punch(inode, start, end - start);
        return true;
    }
    if bugs.has(Switch::PunchNolockLegacy) {
        inode.truncate_pagecache_range(start, end - 1);
        Release::punch(inode, start, end - start);
        return true;
    }
    if bugs.has(Switch::PunchNolock) || bugs.has(Switch::PunchNolockEnospc) {
        delalloc_release::<_, Release>(&InvalidateHeld::by_nobody(inode), done, start, end);
        return true;
    }
    false
}

/// Asks for `invalidate_lock`. Returns false, with a message, when it cannot be had.
fn relock(inode: &Inode) -> bool {
    for _ in 0..RELOCK_TRIES {
        if inode.try_invalidate_lock().is_some() {
            return true;
        }
        wait_a_tick();
    }
    pr_err!("punch_relock: this task waits for the invalidate_lock that it holds\n");
    false
}

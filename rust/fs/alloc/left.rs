// SPDX-License-Identifier: GPL-2.0

//! Blocks of written data that a transaction has left to one owner, or to one offset, while on disk they
//! are still somebody else's too, until it has committed.
//!
//! Who writes them in place meanwhile writes what the other would have back after a crash: a write goes elsewhere,
//! as if they were shared still (docs/crash-promise.md, 5).

use super::{Allocator, Failed, Run};
use crate::algo::bitmap;
use crate::kapi::jbd2::Tid;
use kernel::sync::atomic::Relaxed;

/// Index of what belongs to transaction `tid`. At most two have not committed, one after the other.
pub(super) fn parity(tid: Tid) -> usize {
    (tid & 1) as usize
}

impl Allocator {
    /// Reads what [`Allocator::leave`] must know of the groups of `run`. May sleep for I/O. Errors: `EIO`,
    /// `ENOMEM`, damage.
    pub(crate) fn prepare_leave(&self, run: Run) -> Result<(), Failed> {
        let mut rest = run;
        while rest.len > 0 {
            self.load(self.group_of(rest.start))?;
            rest = rest.after(self.in_group(rest).max(1));
        }
        Ok(())
    }

    /// Transaction `tid`, which is running, leaves the run to the one who names it then. The extent lock of the
    /// one who named it too, and whatever else keeps others from looking at it, are still held.
    pub(crate) fn leave(&self, tid: Tid, run: Run) {
        let at = parity(tid);
        self.split(run, |group, bit, n| {
            let mut view = group.view.lock();
            let Some(left) = view.planes.as_mut().and_then(|p| p.left.get_mut(at)) else {
                return;
            };
            bitmap::set_range(&mut left.bits, bit, n);
            left.any = true;
        });
        if let Some(any) = self.left.get(at) {
            any.store(true, Relaxed);
        }
    }

    /// Is the first block of the run left to its owner by a transaction that has not committed, and for how
    /// many of them is the answer the same? The run is not empty; the caller holds a lock under which it learned
    /// that it is the only owner.
    pub(crate) fn left_run(&self, run: Run) -> (bool, u64) {
        if !self.any_left() {
            return (false, run.len);
        }
        let mut answer = (false, self.in_group(run));
        let first = Run {
            len: answer.1,
            ..run
        };
        self.split(first, |group, bit, n| {
            let view = group.view.lock();
            for left in view.planes.iter().flat_map(|p| &p.left).filter(|l| l.any) {
                let is = bitmap::test(&left.bits, bit);
                let bits = left.bits.get(..bit.saturating_add(n).div_ceil(64));
                let bits = bits.unwrap_or(&left.bits);
                let end = match is {
                    true => bitmap::first_zero(bits, bit),
                    false => bitmap::first_set(bits, bit),
                };
                let alike = end.map_or(n, |end| n.min(end.saturating_sub(bit))) as u64;
                answer = match (answer.0, is) {
                    (was, is) if was == is => (is, answer.1.min(alike)),
                    (true, _) => answer,
                    (false, _) => (true, alike),
                };
            }
        });
        answer
    }

    /// May there be blocks for which [`Allocator::left_run`] says yes? Until a commit; whoever finds no space to
    /// write them elsewhere waits for it (B4).
    pub(crate) fn any_left(&self) -> bool {
        self.left.iter().any(|any| any.load(Relaxed))
    }
}

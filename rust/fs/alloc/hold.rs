// SPDX-License-Identifier: GPL-2.0

//! Runs that are taken away from everybody while they are discarded, and what is free now (C13).

use super::{next_run, release_bits, Allocator, Failed, Group, Run};
use crate::algo::bitmap;
use crate::format::types::BlockNr;
use kernel::sync::atomic::Relaxed;

impl Allocator {
    /// Takes the first run of at least `min` free blocks in `[start, end)` away from everybody, for
    /// a discard (C13); [`Allocator::unhold`] gives it back. Promised blocks are left alone, so the
    /// run may be shorter than what is free there, and there may be none. May sleep for I/O.
    pub(crate) fn hold_free(&self, start: u64, end: u64, min: u64) -> Result<Option<Run>, Failed> {
        let mut at = start;
        while at < end {
            let group = self.load(self.geo().group_of(BlockNr::new(at)))?;
            let stop = end.min(group.start + u64::from(group.len.load(Relaxed)));
            if let Some(run) = self.hold_in(group, at, stop, min.max(1)) {
                return Ok(Some(run));
            }
            at = stop;
        }
        Ok(None)
    }

    fn hold_in(&self, group: &Group, start: u64, end: u64, min: u64) -> Option<Run> {
        let mut view = group.view.lock();
        let p = view.planes.as_mut()?;
        let mut from = (start - group.start) as usize;
        loop {
            let whole = group.len.load(Relaxed) as usize;
            let (bit, len) = bitmap::find_zero_run(&p.busy, from, whole, min as usize)?;
            from = bit + len;
            let first = group.start + bit as u64;
            let len = (len as u64).min(end.checked_sub(first)?);
            if len < min {
                return None;
            }
            let len = self.space.hold(len);
            if len < min {
                self.space.discarded(len, len);
                continue;
            }
            bitmap::set_range(&mut p.busy, bit, len as usize);
            bitmap::set_range(&mut p.claimed, bit, len as usize);
            view.free = view.free.saturating_sub(len as u32);
            return Some(Run {
                start: BlockNr::new(first),
                len,
            });
        }
    }

    /// Makes a run allocatable that [`Allocator::hold_free`] or [`Allocator::next_discard`] gave.
    pub(crate) fn unhold(&self, run: Run) {
        let mut usable = 0;
        self.split(run, |group, bit, n| {
            let mut view = group.view.lock();
            if let Some(p) = view.planes.as_mut() {
                bitmap::clear_range(&mut p.claimed, bit, n);
                let freed = release_bits(p, bit, n);
                view.free += freed;
                usable += u64::from(freed);
            }
        });
        self.space.discarded(run.len, usable);
    }

    /// Says whether blocks freed from now on are discarded before they become allocatable.
    pub(crate) fn set_discard(&self, on: bool) {
        self.discard.store(on, Relaxed);
    }

    /// The next run at or after block `from` that waits for its discard; the caller discards it
    /// and calls [`Allocator::unhold`].
    pub(crate) fn next_discard(&self, from: u64) -> Option<Run> {
        let first = self.geo().group_of(BlockNr::new(from));
        for group in (first..self.geo().ngroups()).map_while(|g| self.group(g).ok()) {
            let bit = from.saturating_sub(group.start) as usize;
            let mut view = group.view.lock();
            let Some(p) = view.planes.as_mut() else {
                continue;
            };
            if let Some((bit, len)) = next_run(&p.discard, bit) {
                bitmap::clear_range(&mut p.discard, bit, len);
                return Some(Run {
                    start: BlockNr::new(group.start + bit as u64),
                    len: len as u64,
                });
            }
        }
        None
    }

    /// The run that starts with block `from`, ends before `end`, lies in one group, and is either
    /// free or not. Returns its length and whether it is free. Blocks in an in-memory set are not
    /// (C13). May sleep for I/O.
    pub(crate) fn run_at(&self, from: u64, end: u64) -> Result<(u64, bool), Failed> {
        let group = self.load(self.geo().group_of(BlockNr::new(from)))?;
        let bit = from.saturating_sub(group.start) as usize;
        let view = group.view.lock();
        let busy = view.planes.as_ref().map_or(&[][..], |p| &p.busy);
        let free = !bitmap::test(busy, bit);
        let next = if free {
            bitmap::first_set(busy, bit)
        } else {
            bitmap::first_zero(busy, bit)
        };
        let end_of_group = group.len.load(Relaxed);
        let stop = next.map_or(end_of_group, |n| (n as u32).min(end_of_group));
        let len = (group.start + u64::from(stop))
            .min(end)
            .saturating_sub(from);
        Ok((len, free))
    }
}

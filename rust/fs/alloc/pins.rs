// SPDX-License-Identifier: GPL-2.0

//! Blocks under staged I/O, or about to be: counted, and not allocatable before it has ended (C2).

use super::{Allocator, Run};
use crate::algo::bitmap;
use crate::kapi::memalloc::nofail;

impl Allocator {
    /// Counts an I/O on the run (C2). The run is claimed or allocated, and the caller holds the
    /// extent lock under which it learned the address.
    pub(crate) fn pin(&self, run: Run) {
        self.split(run, |group, bit, n| {
            let mut pins = group.pins.lock();
            nofail(|| pins.pin(bit as u64, n as u64));
            let mut view = group.view.lock();
            if let Some(p) = view.planes.as_mut() {
                bitmap::set_range(&mut p.pinned, bit, n);
            }
        });
    }

    /// Ends what [`Allocator::pin`] began. Blocks that were freed meanwhile become allocatable.
    pub(crate) fn unpin(&self, run: Run) {
        let mut usable = 0;
        self.split(run, |group, bit, n| {
            let mut pins = group.pins.lock();
            nofail(|| pins.reserve_unpin());
            pins.unpin(bit as u64, n as u64, |start, len| {
                let mut view = group.view.lock();
                let Some(p) = view.planes.as_mut() else {
                    return;
                };
                let (bit, n) = (start as usize, len as usize);
                bitmap::clear_range(&mut p.pinned, bit, n);
                let freed = bitmap::release_held(&mut p.busy, &mut p.held, bit, n) as u32;
                view.free += freed;
                usable += u64::from(freed);
            });
        });
        if usable > 0 {
            self.space.freed(usable, false);
        }
    }

    /// Is the first block of the run pinned, and for how many of them is the answer the same? Does not
    /// look beyond a group. The run is not empty.
    pub(crate) fn pinned_run(&self, run: Run) -> (bool, u64) {
        let mut answer = (false, 0);
        let run = Run {
            len: self.in_group(run),
            ..run
        };
        self.split(run, |group, bit, n| {
            if let Some(p) = group.view.lock().planes.as_ref() {
                let pinned = bitmap::test(&p.pinned, bit);
                let end = match pinned {
                    true => bitmap::first_zero(&p.pinned, bit),
                    false => bitmap::first_set(&p.pinned, bit),
                };
                let alike = end.map_or(n, |end| n.min(end.saturating_sub(bit)));
                answer = (pinned, alike as u64);
            }
        });
        answer
    }
}

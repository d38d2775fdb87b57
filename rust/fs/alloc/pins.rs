// SPDX-License-Identifier: GPL-2.0

//! Blocks under staged I/O: counted, and not allocatable before it has ended (C2).

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

    /// Is I/O under way on any block of the run?
    pub(crate) fn is_pinned(&self, run: Run) -> bool {
        let mut any = false;
        self.split(run, |group, bit, n| {
            if let Some(p) = group.view.lock().planes.as_ref() {
                any |= bitmap::count_range(&p.pinned, bit, n) > 0;
            }
        });
        any
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The oracle: rules for directed tests, which remember what was written. Off until it is asked for.

use crate::judge::oracle::{Flight, Oracle as Rules, Subject};
use crate::judge::ranges::Range;
use crate::judge::rules::Rule;
use crate::kapi::inode::InodeRef;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_spinlock_irq, SpinLockIrq};

/// Ranges remembered.
const RANGES: usize = 256;
/// Direct writes under way.
const FLIGHTS: usize = 16;
/// Violations that one event can show.
const HITS: usize = 4;

type Known = Rules<KVec<Range>, KVec<Flight>>;
type Hits = [Option<(Rule, &'static str)>; HITS];

/// What an event gives to hear of violations.
pub(crate) type Hear<'a> = dyn FnMut(Rule, &'static str) + 'a;

/// The oracle.
#[pin_data]
pub(crate) struct Oracle {
    on: Atomic<bool>,
    // Direct I/O and writeback end in interrupts, too.
    #[pin]
    known: SpinLockIrq<Known>,
}

impl Oracle {
    /// Off. Errors: `ENOMEM`.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            on: Atomic::new(false),
            known <- new_spinlock_irq!(Rules::new(
                KVec::from_elem(Range::default(), RANGES, GFP_KERNEL)?,
                KVec::from_elem(Flight::default(), FLIGHTS, GFP_KERNEL)?,
            )),
        })
    }

    /// Is it listening?
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// On or off, knowing nothing.
    pub(crate) fn set(&self, on: bool) {
        self.on.store(on, Relaxed);
        self.forget();
    }

    /// Forgets everything, for ranges may have changed in ways that it does not see.
    pub(crate) fn forget(&self) {
        self.known.lock().forget();
    }

    /// Ranges that something is known of.
    pub(crate) fn known(&self) -> usize {
        self.known.lock().known()
    }

    /// Tells it of an event, if it is on. The violations come after its lock was dropped.
    pub(crate) fn tell(&self, event: impl FnOnce(&mut Known, &mut Hear<'_>)) -> Hits {
        let mut hits = [None; HITS];
        if self.is_on() {
            let mut slots = hits.iter_mut();
            event(&mut self.known.lock(), &mut |rule, why| {
                if let Some(slot) = slots.next() {
                    *slot = Some((rule, why));
                }
            });
        }
        hits
    }

    /// The file, as the rules want it.
    pub(crate) fn subject(inode: &InodeRef<'_>) -> Subject {
        Subject {
            id: inode.id(),
            file: inode.file(),
            quiet: inode.is_quiet(),
        }
    }
}

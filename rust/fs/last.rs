// SPDX-License-Identifier: GPL-2.0

//! The last extent that was looked up in a file, and the hole behind it.
//!
//! Most lookups ask for the blocks that the one before had, or for those behind: a write asks in its
//! begin and again in writeback, a reader comes once for each request.

use super::inode::InodeExt;
use crate::algo::extent::{Around, Mapping};
use kernel::error::Result;
use kernel::prelude::*;
use kernel::sync::{new_spinlock, SpinLock};

struct Last {
    /// [`InodeExt::edits`] when the tree was asked.
    edits: u64,
    around: Around,
}

/// What the tree has said last. Lives beside the extent lock, so that holders of that lock shared
/// may remember too.
#[pin_data]
pub(crate) struct LastLookup {
    #[pin]
    last: SpinLock<Last>,
}

impl LastLookup {
    /// Initialiser: nothing is known.
    pub(crate) fn new() -> impl PinInit<Self> {
        let nothing = Around {
            start: 0,
            end: 0,
            extent: None,
        };
        pin_init!(Self {
            last <- new_spinlock!(Last { edits: 0, around: nothing }, "calf_last_lookup"),
        })
    }

    /// What is at `fblk`; asks the tree with `ask` if that is not known. The caller holds the extent lock, in
    /// either way, of which `ext` is what it guards.
    pub(crate) fn lookup(
        &self,
        ext: &InodeExt,
        fblk: u64,
        ask: impl FnOnce() -> Result<Around>,
    ) -> Result<Mapping> {
        {
            let last = self.last.lock();
            if last.edits == ext.edits && last.around.covers(fblk) {
                return Ok(last.around.at(fblk));
            }
        }
        let around = ask()?;
        *self.last.lock() = Last {
            edits: ext.edits,
            around,
        };
        Ok(around.at(fblk))
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Telling the device which blocks nobody needs: `FITRIM`, and `-o discard`.
//!
//! Either way a run is taken away from the allocator first, discarded, and given back (C13), so the
//! device never forgets a block that is in use, claimed, under I/O, or freed by a transaction that
//! may still be lost. Meanwhile the blocks count as pending, so that whoever finds no space waits
//! for them (B4).

use super::alloc::{Allocator, Run};
use super::sb::Sb;
use crate::kapi::jbd2::{CommitCallback, Tid};
use crate::kapi::memalloc::{cond_resched, fatal_signal_pending, freezing, NofsScope};
use crate::kapi::workqueue::{Work, Worker};
use kernel::prelude::*;
use kernel::sync::Arc;

/// `struct fstrim_range`, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrimRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// Free runs that are shorter are left alone.
    pub minlen: u64,
}

/// `FITRIM`: discards what is free in `range`, rounded out to blocks as XFS does. Returns the bytes
/// of the filesystem that the range covers.
///
/// Ends early when the task is killed or the machine is suspended. Errors: `EOPNOTSUPP` when the device cannot discard, `EINVAL`
/// for a range outside of the filesystem or less than a block, `EIO`. With no lock held.
pub(crate) fn trim(sb: &Sb, range: TrimRange) -> Result<u64> {
    let (geo, dev) = (sb.geo(), sb.dev().bdev());
    let (bs, shift) = (geo.block_size(), sb.block_shift());
    let granularity = dev.discard_granularity().ok_or(EOPNOTSUPP)?;
    let bytes = geo.blocks() << shift;
    let minlen = range.minlen.max(granularity);
    if range.start >= bytes || minlen > geo.group_blocks() << shift || range.len < bs {
        return Err(EINVAL);
    }
    let len = range.len.min(bytes - range.start);
    // What was freed before the call is free on disk afterwards.
    sb.check_shutdown()?;
    sb.journal().force_commit()?;
    let mut at = range.start >> shift;
    let end = (range.start + len).div_ceil(bs);
    let next = |at| {
        let run = sb.alloc().hold_free(at, end, minlen.div_ceil(bs));
        run.map_err(|e| e.report(sb))
    };
    while let Some(run) = next(at)? {
        let done = sb
            .check_shutdown()
            .and_then(|()| dev.discard(run.start.get(), run.len));
        sb.alloc().unhold(run);
        done?;
        if fatal_signal_pending() || freezing() {
            break;
        }
        // Who waits until nothing is pending waits for one discard.
        sb.space().let_settle();
        at = run.start.get() + run.len;
        cond_resched();
    }
    Ok(len)
}

/// Hears of commits for the allocator, and has a worker discard what they freed. The worker ends
/// with the journal, after its last commit (D5).
pub(crate) struct Discarder {
    alloc: Arc<Allocator>,
    worker: Worker<Allocator>,
}

impl Discarder {
    /// For the mount called `name`.
    pub(crate) fn new(name: &CStr, alloc: &Arc<Allocator>) -> Result<Arc<Self>> {
        let this = Self {
            alloc: alloc.clone(),
            worker: Worker::new(name, alloc.clone())?,
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }
}

impl CommitCallback for Discarder {
    fn committed(&self, tid: Tid, aborted: bool) {
        if self.alloc.committed(tid, aborted) {
            self.worker.wake();
        }
    }
}

impl Work for Allocator {
    /// Discards all that waits for it. A discard that fails is none; the blocks are free anyway.
    fn run(&self) {
        let _nofs = NofsScope::enter();
        let mut at = 0;
        while let Some(run @ Run { start, len }) = self.next_discard(at) {
            // Reported by the block layer; nothing depends on it.
            let _ = self.dev().discard(start.get(), len);
            self.unhold(run);
            at = start.get() + len;
            cond_resched();
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The block allocator.
//!
//! A block is allocatable if its bit is clear in the bitmap on disk *and* it is in none of three
//! sets that exist only in memory (C2):
//!
//! * *claimed*: chosen for data whose mapping is not on disk yet, or for a tree node that the
//!   running operation prepares;
//! * *pending*: freed in a transaction that has not committed;
//! * *pinned*: under staged I/O, or about to be, counted.
//!
//! A group keeps these sets as bit planes beside a plane `busy` = all of them together, and one of blocks in use
//! that may not be written in place ([`left`]); groups are
//! loaded on first use and stay loaded, so nobody ever looks at the raw bitmap alone (C13).
//!
//! Locks: `Group::load` (sleeping, around reading a bitmap) -> `Group::disk` (sleeping, around
//! changes of bitmap and descriptor buffers) -> `Group::pins` (sleeping, memory only) -> `Group::view` (spinlock, innermost, the only one
//! that the commit callback takes, D7) -> the account's spinlock.

mod grow;
mod hold;
mod left;
mod pins;

use super::sb::{Dev, Place, Sb};
use super::space::Space;
use crate::algo::bitmap;
use crate::algo::counted::Counted;
use crate::format::geometry::Geometry;
use crate::format::group;
use crate::format::types::BlockNr;
use crate::kapi::block_dev::BlockDev;
use crate::kapi::jbd2::{Handle, JournaledBuffer, Tid};
use crate::kapi::memalloc::NofsScope;
use crate::seam::{FVec, NoMem};
use kernel::error::code::ENOSPC;
use kernel::error::Result;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed};
use kernel::sync::{new_mutex, new_spinlock, Arc, Mutex, SetOnce, SpinLock};

/// Runs of this many blocks are long enough to stop looking for a longer one.
const GOOD_RUN: u64 = 64;
/// Searches of the whole device before the promise of free blocks is declared broken.
const SEARCHES: u32 = 16;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First block.
    pub start: BlockNr,
    /// Number of blocks.
    pub len: u64,
}

impl Run {
    /// The run without its first `n` blocks.
    pub(crate) fn after(self, n: u64) -> Self {
        Self {
            start: BlockNr::new(self.start.get().saturating_add(n)),
            len: self.len.saturating_sub(n),
        }
    }
}

/// What the allocator fails with. It does not know the mount, to which damage is reported: its callers
/// do.
#[derive(Debug)]
pub(crate) enum Failed {
    /// This block is damaged.
    Damaged(BlockNr, &'static str),
    /// Anything else.
    With(Error),
}

impl Failed {
    /// Reports damage, as [`Sb::corrupted`]. Returns the error for the caller's own callers.
    pub(crate) fn report(self, sb: &Sb) -> Error {
        match self {
            Self::Damaged(block, what) => sb.corrupted(Place::Block(block), what),
            Self::With(e) => e,
        }
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Self::With(e)
    }
}

impl From<NoMem> for Failed {
    fn from(e: NoMem) -> Self {
        Self::With(e.into())
    }
}

/// The sets of a loaded group. Bit `i` stands for block `start + i` of the group.
struct Planes {
    /// Not allocatable, for whatever reason.
    busy: FVec<u64>,
    /// Chosen in memory, not yet allocated on disk.
    claimed: FVec<u64>,
    /// Freed in the transaction whose tid has this parity.
    pending: [FVec<u64>; 2],
    npending: [u32; 2],
    /// Freed by a committed transaction, and to be discarded before it is allocatable.
    discard: FVec<u64>,
    /// Free but for pins: becomes allocatable with the last unpin.
    held: FVec<u64>,
    /// Under staged I/O; the counts are in `Group::pins`.
    pinned: FVec<u64>,
    /// Left to one owner in the transaction whose tid has this parity; in use, and not in `busy` for it.
    left: [Left; 2],
}

/// A set of [`left`].
struct Left {
    bits: FVec<u64>,
    /// Are any set?
    any: bool,
}

struct View {
    /// Clear bits of `busy`; for a group not loaded the number in its descriptor.
    free: u32,
    planes: Option<Planes>,
}

#[pin_data]
struct Group {
    start: u64,
    /// Blocks. Grows under `load` and `view`.
    len: Atomic<u32>,
    #[pin]
    load: Mutex<()>,
    /// Guards the content of the bitmap block and of the descriptor.
    #[pin]
    disk: Mutex<()>,
    /// How many I/Os are under way on each block (C2). Not taken by the commit callback.
    #[pin]
    pins: Mutex<Counted>,
    #[pin]
    view: SpinLock<View>,
}

/// The allocator of a mounted filesystem; hears of every commit.
#[pin_data]
pub(crate) struct Allocator {
    dev: Dev,
    /// The layout and the groups at mount.
    first: Part,
    /// What each growth of the filesystem has added. What is there never moves.
    grown: [SetOnce<Part>; GROWTHS],
    ngrown: Atomic<usize>,
    /// Where to look next when a caller has no goal.
    cursor: Atomic<u64>,
    /// Are freed blocks discarded (`-o discard`)?
    discard: Atomic<bool>,
    /// Has a transaction of this parity left blocks ([`left`])?
    left: [Atomic<bool>; 2],
    /// The account; see [`Space`].
    #[pin]
    pub(crate) space: Space,
}

/// How often a mounted filesystem can grow.
const GROWTHS: usize = 64;

/// The groups that mounting or a growth has brought, and the layout from then on.
pub(crate) struct Part {
    geo: Geometry,
    first_group: u64,
    groups: KVVec<Pin<KBox<Group>>>,
}

impl Part {
    /// The groups of `geo` from `first_group` on, with `free(g)` free blocks each.
    fn new(geo: Geometry, first_group: u64, mut free: impl FnMut(u64) -> u32) -> Result<Self> {
        let count = geo.ngroups().saturating_sub(first_group) as usize;
        let mut groups = KVVec::with_capacity(count, GFP_KERNEL)?;
        for g in first_group..geo.ngroups() {
            let (start, len) = geo.group_range(g);
            let free = free(g);
            let group = KBox::pin_init(
                pin_init!(Group {
                    start: start.get(),
                    len: Atomic::new(len as u32),
                    load <- new_mutex!((), "calf_group_load"),
                    disk <- new_mutex!((), "calf_group_disk"),
                    pins <- new_mutex!(Counted::new(), "calf_group_pins"),
                    view <- new_spinlock!(View { free, planes: None }, "calf_group"),
                }),
                GFP_KERNEL,
            )?;
            groups.push(group, GFP_KERNEL)?;
        }
        Ok(Self {
            geo,
            first_group,
            groups,
        })
    }
}

/// Write access to the bitmap and the descriptor of one group.
pub(crate) struct GroupAccess {
    group: u64,
    bitmap: JournaledBuffer,
    desc: JournaledBuffer,
}

impl GroupAccess {
    /// The group this is for.
    pub(crate) fn group(&self) -> u64 {
        self.group
    }
}

impl Allocator {
    /// Initialiser. `free[g]` is the free count of group `g` from its verified descriptor.
    pub(crate) fn new(
        geo: Geometry,
        dev: Dev,
        free: &[u32],
        account: super::space::Account,
    ) -> Result<Arc<Self>> {
        let count = |g: u64| free.get(g as usize).copied().unwrap_or(0);
        let first = Part::new(geo, 0, count)?;
        Arc::pin_init(
            pin_init!(Self {
                dev,
                first,
                grown: [const { SetOnce::new() }; GROWTHS],
                ngrown: Atomic::new(0),
                cursor: Atomic::new(0),
                discard: Atomic::new(false),
                left: [const { Atomic::new(false) }; 2],
                space <- Space::new(account),
            }),
            GFP_KERNEL,
        )
    }

    /// The device.
    pub(crate) fn dev(&self) -> &BlockDev {
        self.dev.bdev()
    }

    /// The layout as it is now.
    pub(crate) fn geo(&self) -> &Geometry {
        let last = self.ngrown.load(Acquire).checked_sub(1);
        let part = last.and_then(|i| self.grown.get(i)?.as_ref());
        &part.unwrap_or(&self.first).geo
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        let grown = self.grown.iter().map_while(SetOnce::as_ref);
        Iterator::chain(core::iter::once(&self.first), grown)
    }

    fn group(&self, g: u64) -> Result<&Group, Failed> {
        for part in self.parts() {
            let at = g.checked_sub(part.first_group);
            if let Some(group) = at.and_then(|at| part.groups.get(at as usize)) {
                return Ok(group);
            }
        }
        let (start, _) = self.geo().group_range(g);
        Err(Failed::Damaged(start, "block of no group"))
    }

    /// Calls `f(group, first bit, bits)` for the part of the run in each group.
    fn split(&self, run: Run, mut f: impl FnMut(&Group, usize, usize)) {
        let mut start = run.start.get();
        let mut left = run.len;
        while left > 0 {
            let g = self.geo().group_of(BlockNr::new(start));
            let Ok(group) = self.group(g) else {
                return;
            };
            let bit = start - group.start;
            let n = left.min(u64::from(group.len.load(Relaxed)).saturating_sub(bit));
            if n == 0 {
                return;
            }
            f(group, bit as usize, n as usize);
            start += n;
            left -= n;
        }
    }

    /// Reads the bitmap of group `g` unless it is in memory. May sleep for I/O.
    fn load(&self, g: u64) -> Result<&Group, Failed> {
        let group = self.group(g)?;
        if group.view.lock().planes.is_some() {
            return Ok(group);
        }
        // Reclaim may come back for a group, with an inode that it evicts.
        let _nofs = NofsScope::enter();
        let _load = group.load.lock();
        if group.view.lock().planes.is_some() {
            return Ok(group);
        }
        // Of the last group too, which may grow.
        let n = (self.geo().group_blocks() / 64) as usize;
        let len = group.len.load(Relaxed) as usize;
        let left = |n| -> Result<Left, Failed> {
            Ok(Left {
                bits: FVec::from_elem(0u64, n)?,
                any: false,
            })
        };
        let mut busy = FVec::from_elem(0u64, n)?;
        let block = self.geo().bitmap_block(g);
        let bh = self.dev.read(block)?;
        let (desc_block, desc_off) = self.geo().desc_location(g);
        let desc_bh = self.dev.read(desc_block)?;
        let free = {
            let _disk = group.disk.lock();
            let uninit = group::is_uninit(desc_bh.data(), desc_off);
            if !uninit && !bh.is_verified() {
                group::verify_bitmap(desc_bh.data(), desc_off, bh.data(), self.geo(), g)
                    .map_err(|what| Failed::Damaged(block, what))?;
                bh.set_verified();
            }
            if uninit {
                bitmap::set_range(&mut busy, 0, self.geo().head(g) as usize);
            } else {
                bitmap::load_plane(bh.data(), &mut busy);
            }
            bitmap::set_range(&mut busy, len, n * 64 - len);
            (n * 64 - bitmap::count(&busy)) as u32
        };
        let planes = Planes {
            busy,
            claimed: FVec::from_elem(0u64, n)?,
            pending: [FVec::from_elem(0u64, n)?, FVec::from_elem(0u64, n)?],
            npending: [0; 2],
            discard: FVec::from_elem(0u64, n)?,
            held: FVec::from_elem(0u64, n)?,
            pinned: FVec::from_elem(0u64, n)?,
            left: [left(n)?, left(n)?],
        };
        let mut view = group.view.lock();
        if view.free != free {
            let what = "bitmap and descriptor disagree about free blocks";
            return Err(Failed::Damaged(block, what));
        }
        view.planes = Some(planes);
        Ok(group)
    }

    /// Chooses up to `want` contiguous blocks near `goal`; the caller holds a promise of `want`
    /// blocks ([`Space::reserve`]) and keeps it for those it did not get.
    ///
    /// A fresh claim is known only in memory: it becomes an allocation when a transaction takes it
    /// ([`Allocator::take`]) or goes back by [`Allocator::unclaim`]. Errors: `ENOSPC` if nothing
    /// is free now (blocks may be pending), `EIO`, damage. May sleep for I/O.
    pub(crate) fn claim(&self, goal: Option<BlockNr>, want: u64) -> Result<Run, Failed> {
        let blocks = self.geo().blocks().max(1);
        let goal = match goal {
            Some(b) if b.get() < blocks => b.get(),
            _ => self.cursor.load(Relaxed) % blocks,
        };
        let ngroups = self.geo().ngroups();
        let first = self.geo().group_of(BlockNr::new(goal));
        // The promise guarantees that a block is free at every moment, but others may free and
        // claim behind the search; so it is repeated.
        for _ in 0..SEARCHES {
            // Round 0 takes only runs that are long enough, round 1 whatever there is.
            for enough in [want.clamp(1, GOOD_RUN), 1] {
                for i in 0..=ngroups {
                    let g = (first + i) % ngroups.max(1);
                    if u64::from(self.group(g)?.view.lock().free) < enough {
                        continue;
                    }
                    let group = self.load(g)?;
                    let from = if i == 0 {
                        goal.saturating_sub(group.start)
                    } else {
                        0
                    };
                    if let Some(run) = self.claim_in(group, from as usize, want, enough) {
                        self.cursor.store(run.start.get() + run.len, Relaxed);
                        return Ok(run);
                    }
                }
            }
        }
        Err(ENOSPC.into())
    }

    fn claim_in(&self, group: &Group, from: usize, want: u64, enough: u64) -> Option<Run> {
        let mut view = group.view.lock();
        let p = view.planes.as_mut()?;
        let (bit, len) = bitmap::find_zero_run(&p.busy, from, want as usize, enough as usize)?;
        bitmap::set_range(&mut p.busy, bit, len);
        bitmap::set_range(&mut p.claimed, bit, len);
        view.free = view.free.saturating_sub(len as u32);
        drop(view);
        let run = Run {
            start: BlockNr::new(group.start + bit as u64),
            len: len as u64,
        };
        self.space.claimed(run.len);
        Some(run)
    }

    /// Gives a claim back. With `promised` the blocks stay promised to the caller (C6: a claim
    /// whose I/O failed becomes a reservation again). Pinned blocks become free with the last
    /// unpin (C2a); they are then taken out of the promise, so a caller that wants to keep it
    /// unpins first.
    pub(crate) fn unclaim(&self, run: Run, promised: bool) {
        let mut usable = 0;
        self.split(run, |group, bit, n| {
            let mut view = group.view.lock();
            let Some(p) = view.planes.as_mut() else {
                return;
            };
            bitmap::clear_range(&mut p.claimed, bit, n);
            let freed = release_bits(p, bit, n);
            view.free += freed;
            usable += u64::from(freed);
        });
        self.space.freed(usable, promised);
    }

    /// Write access to the bitmap and descriptor of group `g`, for [`Allocator::take`] and
    /// [`Allocator::free`]. May sleep for I/O.
    pub(crate) fn access(&self, handle: &Handle<'_>, g: u64) -> Result<GroupAccess, Failed> {
        self.load(g)?;
        let (desc_block, _) = self.geo().desc_location(g);
        Ok(GroupAccess {
            group: g,
            bitmap: handle.write_access(self.dev.read(self.geo().bitmap_block(g))?)?,
            desc: handle.write_access(self.dev.read(desc_block)?)?,
        })
    }

    /// The group that holds block `b`.
    pub(crate) fn group_of(&self, b: BlockNr) -> u64 {
        self.geo().group_of(b)
    }

    /// Blocks of `run` that lie in the same group as its start.
    pub(crate) fn in_group(&self, run: Run) -> u64 {
        let (start, len) = self.geo().group_range(self.geo().group_of(run.start));
        run.len
            .min((start.get() + len).saturating_sub(run.start.get()))
    }

    /// Turns a claim inside the group of `access` into an allocation. Cannot fail; a bit that is
    /// set already means damage that the caller reports.
    pub(crate) fn take(&self, handle: &Handle<'_>, access: &GroupAccess, run: Run) -> bool {
        let Ok(group) = self.group(access.group) else {
            return false;
        };
        let bit = (run.start.get() - group.start) as usize;
        let ok = self.change_disk(handle, group, access, bit, run.len as usize, true);
        let mut view = group.view.lock();
        if let Some(p) = view.planes.as_mut() {
            bitmap::clear_range(&mut p.claimed, bit, run.len as usize);
        }
        ok
    }

    /// Frees a run inside the group of `access`: the bits are cleared now, the blocks become
    /// allocatable when the transaction has committed.
    pub(crate) fn free(&self, handle: &Handle<'_>, access: &GroupAccess, run: Run) -> bool {
        let Ok(group) = self.group(access.group) else {
            return false;
        };
        let bit = (run.start.get() - group.start) as usize;
        let ok = self.change_disk(handle, group, access, bit, run.len as usize, false);
        let parity = left::parity(handle.tid());
        let mut view = group.view.lock();
        if let Some(p) = view.planes.as_mut() {
            if let (Some(plane), Some(n)) = (p.pending.get_mut(parity), p.npending.get_mut(parity))
            {
                bitmap::set_range(plane, bit, run.len as usize);
                *n += run.len as u32;
            }
        }
        drop(view);
        self.space.pending(run.len);
        ok
    }

    fn change_disk(
        &self,
        handle: &Handle<'_>,
        group: &Group,
        access: &GroupAccess,
        bit: usize,
        len: usize,
        set: bool,
    ) -> bool {
        let _disk = group.disk.lock();
        let (_, off) = self.geo().desc_location(access.group);
        let uninit = access
            .desc
            .update(handle, |bytes| group::is_uninit(bytes, off));
        let (ok, crc) = access.bitmap.update(handle, |bytes| {
            if uninit {
                group::init_bitmap(bytes, self.geo(), access.group);
            }
            let was = bitmap::count_bytes(bytes, bit, len);
            let ok = was == if set { 0 } else { len };
            if set {
                bitmap::set_bytes(bytes, bit, len);
            } else {
                bitmap::clear_bytes(bytes, bit, len);
            }
            (ok, group::bitmap_checksum(bytes, self.geo()))
        });
        access.desc.update(handle, |bytes| {
            group::update_desc(bytes, off, self.geo(), access.group, len as u32, set, crc)
        });
        ok
    }

    /// The number of blocks in each in-memory set: claimed, pinned, pending.
    pub(crate) fn set_sizes(&self) -> (u64, u64, u64) {
        let (mut claimed, mut pinned, mut pending) = (0, 0, 0);
        for group in self.parts().flat_map(|part| part.groups.iter()) {
            if let Some(p) = group.view.lock().planes.as_ref() {
                claimed += bitmap::count(&p.claimed) as u64;
                pinned += bitmap::count(&p.pinned) as u64;
                pending += p.npending.iter().map(|&n| u64::from(n)).sum::<u64>();
            }
        }
        (claimed, pinned, pending)
    }

    /// Releases what transaction `tid` freed or left to one owner. An aborted one releases nothing: its blocks still
    /// belong to their old owners on disk (C1). Called by the commit thread: takes spinlocks only
    /// and allocates nothing (D7). Returns whether blocks wait for [`Allocator::next_discard`].
    pub(crate) fn committed(&self, tid: Tid, aborted: bool) -> bool {
        if aborted {
            self.space.committed(0, 0, 0);
            return false;
        }
        let parity = left::parity(tid);
        if let Some(any) = self.left.get(parity) {
            any.store(false, Relaxed);
        }
        let discard = self.discard.load(Relaxed);
        let (mut all, mut usable, mut waiting) = (0, 0, 0);
        for group in self.parts().flat_map(|part| part.groups.iter()) {
            let mut view = group.view.lock();
            let Some(p) = view.planes.as_mut() else {
                continue;
            };
            if let Some(left) = p.left.get_mut(parity).filter(|left| left.any) {
                left.bits.fill(0);
                left.any = false;
            }
            let Some(n) = p.npending.get_mut(parity).filter(|n| **n > 0) else {
                continue;
            };
            let count = u64::from(core::mem::take(n));
            let mut freed = 0;
            let mut from = 0;
            while let Some((bit, len)) = p.pending.get(parity).and_then(|b| next_run(b, from)) {
                if let Some(plane) = p.pending.get_mut(parity) {
                    bitmap::clear_range(plane, bit, len);
                }
                if discard {
                    bitmap::set_range(&mut p.discard, bit, len);
                } else {
                    freed += release_bits(p, bit, len);
                }
                from = bit + len;
            }
            view.free += freed;
            usable += u64::from(freed);
            if discard {
                waiting += count;
            } else {
                all += count;
            }
        }
        self.space.committed(all, usable, waiting);
        waiting > 0
    }
}

/// The first run of set bits at or after `from`.
fn next_run(plane: &[u64], from: usize) -> Option<(usize, usize)> {
    let bit = bitmap::first_set(plane, from)?;
    let end = bitmap::first_zero(plane, bit).unwrap_or(plane.len() * 64);
    Some((bit, end - bit))
}

/// Frees bits that have just left a set: those that are pinned are held until the last unpin.
/// Returns how many became allocatable.
fn release_bits(p: &mut Planes, bit: usize, n: usize) -> u32 {
    bitmap::release(&mut p.busy, &mut p.held, &p.pinned, bit, n) as u32
}

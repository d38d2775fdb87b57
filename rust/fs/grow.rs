// SPDX-License-Identifier: GPL-2.0

//! Growing a mounted filesystem to the size of its device.
//!
//! On disk it grows in steps, each a transaction that leaves a whole filesystem: first the last
//! group up to its full length, then new groups, so many at a time. In memory everything that is on
//! disk by then appears at the end, also when a step has failed.

use super::inode::SuperBlock;
use super::sb::Sb;
use crate::format::geometry::Geometry;
use crate::format::group::init_group;
use crate::format::super_block::RawSuperBlock;
use crate::format::types::BlockNr;
use crate::kapi::log::{log, Level};
use crate::kapi::memalloc::NofsScope;
use crate::seam::FVec;
use kernel::error::code::EINVAL;
use kernel::prelude::*;

/// Groups that are added in one transaction.
const STEP: u64 = 64;
/// Blocks that a step changes: a bitmap for each group, their descriptors (32 in the smallest block), the group
/// that was the last one, the superblock and its copy.
const CREDITS: u32 = STEP as u32 + 3 + 2 + 2;

/// Grows the filesystem to `blocks` blocks, or with 0 to the end of the device; on return it is
/// durable. The caller has write access to the mount. Errors: `EINVAL` if it would shrink, outgrow
/// its device or its descriptors; `EBUSY` when it has grown too often since it was mounted; `ENOMEM`, `EIO`.
pub(crate) fn grow(sb: &SuperBlock, blocks: u64) -> Result {
    let d = sb.data();
    d.check_shutdown()?;
    let _lock = d.super_lock().lock();
    // Reclaim may evict an inode, whose handle needs the lock for the mark "in use" (D1).
    let _nofs = NofsScope::enter();
    let say = |what: &str| log::<super::Calf>(Level::Error, sb.id(), fmt!("cannot grow: {}", what));
    let old = *d.geo();
    let device = d.dev().bdev().bytes() >> old.block_shift();
    let blocks = if blocks == 0 { device } else { blocks };
    if blocks > device {
        say("the device is too small");
        return Err(EINVAL);
    }
    let target = old.grown(blocks).map_err(|what| {
        say(what);
        EINVAL
    })?;
    if target == old {
        return Ok(());
    }
    let part = d.alloc().prepare_grow(target).map_err(|e| e.report(d))?;
    d.dev().grow(target.blocks());
    let mut now = old;
    let mut ret = Ok(());
    while now != target && ret.is_ok() {
        // A whole number of groups, or the end.
        let end = (now.ngroups().saturating_add(STEP)).saturating_mul(now.group_blocks());
        ret = now
            .grown(end.min(target.blocks()))
            .map_err(|_| EINVAL)
            .and_then(|next| step(d, &now, &next).map(|()| now = next));
    }
    d.dev().grow(now.blocks());
    if now != old {
        d.alloc().publish_grown(part, now);
        let args = fmt!("grown from {} to {} blocks", old.blocks(), now.blocks());
        log::<super::Calf>(Level::Info, sb.id(), args);
    }
    ret.and(d.journal().force_commit())
}

/// One transaction: from the layout `now` to `next`.
fn step(d: &Sb, now: &Geometry, next: &Geometry) -> Result {
    let handle = d.journal().start(CREDITS, 0)?;
    // What can fail (C5).
    let last = now.ngroups().saturating_sub(1);
    let tail = if now.group_range(last) == next.group_range(last) {
        None
    } else {
        let access = d.alloc().access(&handle, last);
        Some(access.map_err(|e| e.report(d))?)
    };
    let mut fresh = FVec::new();
    for g in now.ngroups()..next.ngroups() {
        let bitmap = handle.create_access(d.dev().get(next.bitmap_block(g))?)?;
        let (block, off) = next.desc_location(g);
        let desc = handle.write_access(d.dev().read(block)?)?;
        fresh.push((g, bitmap, desc, off))?;
    }
    let main = handle.write_access(d.dev().read(BlockNr::ZERO)?)?;
    let copy = match (now.backup_block(), next.backup_block()) {
        (Some(block), _) => Some(handle.write_access(d.dev().read(block)?)?),
        (None, Some(block)) => Some(handle.create_access(d.dev().get(block)?)?),
        (None, None) => None,
    };
    // What cannot.
    let mut sane = tail.is_none_or(|access| d.alloc().open_tail(&handle, &access, now, next));
    for (g, bitmap, desc, off) in fresh.iter() {
        sane &= bitmap.update(&handle, |bits| {
            desc.update(&handle, |descs| {
                init_group(bits, descs, *off, next, *g).is_some()
            })
        });
    }
    let raw = main.update(&handle, |bytes| {
        let raw = RawSuperBlock::of_mut(bytes)?;
        raw.set_grown(next);
        Some(*raw)
    });
    if let (Some(copy), Some(raw)) = (copy, raw) {
        copy.update(&handle, |bytes| {
            if let Some(to) = RawSuperBlock::of_mut(bytes) {
                *to = raw;
            }
        });
    }
    if !sane {
        return Err(d.corrupted(
            super::sb::Place::Block(BlockNr::ZERO),
            "bitmap of the last group",
        ));
    }
    handle.stop()
}

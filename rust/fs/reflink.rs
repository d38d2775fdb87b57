// SPDX-License-Identifier: GPL-2.0

//! Clones: FICLONE, FICLONERANGE, FIDEDUPERANGE.
//!
//! Both files are locked against everybody, both ranges are written back, the destination's range
//! is out of the page cache and its staging is empty (C-REMAP, B5). Then the destination's blocks
//! are exchanged in *chunks*, many to a transaction: one more reference on a run of the source's
//! blocks, the old blocks of the destination dropped, the new mapping, the size on disk. A crash
//! in between leaves a clone of a part, of which every block is old or new. A signal that kills the
//! task, or an error, stops between two chunks.
//!
//! ```text
//!   source       |AAAAAAAA|BBBB|    |CCCC|       extents, a hole, an unwritten extent (not shown)
//!   destination  |xxxx|    |yyyyyyyy|zzzz|
//!   chunks       |1   |2   |3  |4   |5   |       cut wherever either side or a count changes
//! ```

use super::alloc::Run;
use super::begin_write::WRITE_OPS;
use super::begin_zero::ZERO;
use super::credits::{Credits, EDIT_SPACE};
use super::ext_set::ExtSet;
use super::extents::{
    self, drop_blocks, may_continue, publish_blocks, Mode, BATCH, BATCH_SPACE, MOST,
};
use super::fallocate::flush_unmap;
use super::inode::{Inode, MAY_SHARE};
use super::itable;
use super::map::{self, Old};
use super::sb::Sb;
use super::space::Share;
use super::txn::{MetaSpace, Trans};
use super::Calf;
use super::{reserve, truncate};
use crate::algo::btree::Tree;
use crate::algo::extent::{self, Extent};
use crate::algo::refcount;
use crate::format::types::Kind;
use crate::kapi::iomap::{zero_range, InvalidateHeld};
use crate::kapi::kiocb::File;
use crate::kapi::memalloc::{cond_resched, fatal_signal_pending};
use crate::kapi::remap::{remap_prep, RemapLocks, REMAP_FILE_CAN_SHORTEN, REMAP_FILE_DEDUP};
use kernel::error::code::{EINTR, EINVAL, EIO, EMLINK, ENOSPC};
use kernel::prelude::*;

/// `remap_file_range`: makes `[dst_pos, dst_pos + len)` of `dst` share the blocks of `src`.
///
/// Returns the bytes done, which may be fewer than asked for only if the caller said so. Errors:
/// `EINVAL` for unknown flags or unaligned ranges, `ENOSPC`, `EIO`, `EINTR`, `EBADE` (dedupe of
/// different data), `EMLINK` (a block has 2^32 - 1 owners). Takes `i_rwsem` and `invalidate_lock`
/// of both; while blocks are exchanged those of `src` are shared, so that reads go on.
pub(crate) fn remap_file_range(
    src: &File<Calf>,
    src_pos: u64,
    dst: &File<Calf>,
    dst_pos: u64,
    len: u64,
    flags: u32,
) -> Result<u64> {
    if flags & !(REMAP_FILE_DEDUP | REMAP_FILE_CAN_SHORTEN) != 0 {
        return Err(EINVAL);
    }
    let (from, to) = (src.inode(), dst.inode());
    let sb = to.sb().data();
    sb.check_shutdown()?;
    let mut locks = RemapLocks::lock(from, to);
    let len = remap_prep(&locks, src, src_pos, dst, dst_pos, len, flags)?;
    if len == 0 {
        return Ok(0);
    }
    let clone = Remap {
        sb,
        from,
        to,
        src: src_pos >> sb.block_shift(),
        dst: dst_pos >> sb.block_shift(),
        blocks: len.div_ceil(sb.block_size()),
        end: (flags & REMAP_FILE_DEDUP == 0).then_some(dst_pos.saturating_add(len)),
    };
    clone.clear_destination(dst_pos, len)?;
    clone.mark_shared()?;
    from.data().set_remapping(true);
    locks.demote_first();
    let (done, result) = clone.run();
    from.data().set_remapping(false);
    let bytes = done.saturating_mul(sb.block_size()).min(len);
    if bytes > 0 && (src.is_sync() || dst.is_sync() || from.is_sync() || to.is_sync()) {
        sb.commit_and_wait(to.data().tid(false))?;
    }
    match result {
        // Who cannot take less must hear why it is not all, as in XFS.
        Err(e) if bytes == 0 || flags & REMAP_FILE_CAN_SHORTEN == 0 => Err(e),
        _ => Ok(bytes),
    }
}

/// A clone under way. Both inodes are locked; blocks are counted in file blocks.
struct Remap<'a> {
    sb: &'a Sb,
    from: &'a Inode,
    to: &'a Inode,
    src: u64,
    dst: u64,
    blocks: u64,
    /// Size that the destination has afterwards, at least; `None` for dedupe, which keeps it.
    end: Option<u64>,
}

impl Remap<'_> {
    /// Zeroes from the destination's EOF to the range, takes the range out of the page cache, and
    /// drops what is staged there: nothing is dirty, and the locks keep it so (C6).
    fn clear_destination(&self, pos: u64, len: u64) -> Result {
        let held = InvalidateHeld::by_caller(self.to)?;
        let size = self.to.size();
        truncate::finish(self.to)?;
        if pos > size {
            zero_range(&held, size, pos - size, ZERO, WRITE_OPS)?;
        }
        // What was zeroed must be on disk before the size moves over it.
        let end = pos.saturating_add(len);
        if bug!(self.sb, RemapNoInvalidate) {
            self.to.write_and_wait(pos.min(size), end - 1)?;
        } else {
            flush_unmap(self.to, pos.min(size), end)?;
        }
        reserve::staging_drop(self.to, self.dst, self.dst.saturating_add(self.blocks));
        Ok(())
    }

    /// Notes on disk that both files may have shared blocks, before they have (S1, B5).
    fn mark_shared(&self) -> Result {
        let shared = |i: &Inode| i.data().ext.read().may_share();
        if shared(self.from) && shared(self.to) {
            return Ok(());
        }
        let credits = Credits::RECORD.plus(Credits::RECORD);
        let mut trans = Trans::start(self.sb, credits, MetaSpace::adopt(self.sb, 0))?;
        let mut ext = ExtSet::lock([self.from, self.to]);
        let a = trans.join_inode(self.from)?;
        let b = match core::ptr::eq(self.from, self.to) {
            true => None,
            false => Some(trans.join_inode(self.to)?),
        };

        ext.of(self.from).flags |= MAY_SHARE;
        ext.of(self.to).flags |= MAY_SHARE;
        // What writes in place must look again (C-COOKIE-BUMP).
        self.from.data().bump_data_seq();
        self.to.data().bump_data_seq();
        trans.log_inode(a, ext.of(self.from).record(self.from));
        if let Some(b) = b {
            trans.log_inode(b, ext.of(self.to).record(self.to));
        }
        trans.apply();
        drop(ext);
        trans.stop()
    }

    /// Goes through the range. Returns the blocks that are done, and how it ended.
    fn run(&self) -> (u64, Result) {
        let mut done = 0;
        while done < self.blocks {
            if fatal_signal_pending() {
                return (done, Err(EINTR));
            }
            match self.batch(done) {
                Ok(next) if next > done => done = next,
                // Nothing may be passed by.
                Ok(_) => return (done, Err(EIO)),
                Err((at, e)) => return (at, Err(e)),
            }
            cond_resched();
        }
        (done, self.grow(self.blocks))
    }

    /// The chunks of one handle, from `at` on. Returns where to go on.
    fn batch(&self, at: u64) -> Result<u64, (u64, Error)> {
        check!(sharing(
            self.from,
            self.to,
            self.dst + at,
            self.dst + self.blocks
        ));
        if let Some(hole) = self.hole_at(at).map_err(|e| (at, e))? {
            let start = self.dst + at;
            extents::unmap_range(self.to, start, start + hole, Mode::User).map_err(|e| (at, e))?;
            let next = at + hole;
            self.grow(next).map_err(|e| (at, e))?;
            return Ok(next);
        }
        let space = match self.space(at) {
            Ok(space) => space,
            // What is done needs none.
            Err(e) => match self.done_before(at) {
                Ok(n) if e == ENOSPC && n > 0 => {
                    self.grow(at + n).map_err(|e| (at, e))?;
                    return Ok(at + n);
                }
                _ => return Err((at, e)),
            },
        };
        let mut trans = Trans::start(self.sb, BATCH, space).map_err(|e| (at, e))?;
        let mut done = at;
        let mut most = MOST;
        loop {
            match self.chunks(&mut trans, done, most) {
                Ok(0) => break,
                Ok(n) => done += n,
                // Those before the one that fails are done one by one.
                Err(_) if most > 1 && !self.sb.is_shutdown() => {
                    trans.cancel();
                    most = 1;
                    continue;
                }
                Err(e) => return Err((done, e)),
            }
            if done >= self.blocks || !may_continue(&trans) {
                break;
            }
        }
        trans.stop().map_err(|e| (at, e))?;
        Ok(done)
    }

    /// Room for the nodes of a batch from `at` on.
    fn space(&self, at: u64) -> Result<MetaSpace<'_>> {
        if self.sb.space().reserve(BATCH_SPACE, Share::None).is_ok() {
            return Ok(MetaSpace::adopt(self.sb, BATCH_SPACE));
        }
        match self.frees(at)? {
            // On a full disk a clone can make room, like a punch (B2c).
            true => MetaSpace::reserve_from(self.sb, 2 * EDIT_SPACE, Share::Half),
            false => MetaSpace::reserve(self.sb, BATCH_SPACE),
        }
    }

    /// Does the destination give up blocks that nobody shares, soon behind `at`?
    fn frees(&self, at: u64) -> Result<bool> {
        let (mut at, end) = (self.dst + at, self.dst + self.blocks);
        let end = end.min(at.saturating_add(MOST as u64));
        let ext = self.to.data().ext.read();
        while let Some(e) = extent::next_extent(&ext.tree(self.to), &self.sb.reader(), at)? {
            if e.fblk >= end {
                break;
            }
            let e = map::clip(e, at, end);
            let (shared, run) = map::shared_run(self.sb, &ext, e.phys, e.len)?;
            if !shared {
                return Ok(true);
            }
            at = e.fblk.saturating_add(run);
        }
        Ok(false)
    }

    /// How many blocks from `at` on are the source's already, of a clone that did not come to its end, or
    /// [stay](stays) what they are.
    fn done_before(&self, at: u64) -> Result<u64> {
        let mut ext = ExtSet::lock([self.from, self.to]);
        let (from, to) = (self.src + at, self.dst + at);
        let source = map::old_at(self.sb, self.from, ext.of(self.from), from)?;
        let old = map::old_at(self.sb, self.to, ext.of(self.to), to)?;
        Ok(match (source, old) {
            (Old::Written(s), Old::Written(d)) if s.phys == d.phys => {
                s.len.min(d.len).min(self.blocks - at)
            }
            (s, d) if stays(&s, &d) => {
                let hole = s.end().saturating_sub(from);
                hole.min(d.end().saturating_sub(to)).min(self.blocks - at)
            }
            _ => 0,
        })
    }

    /// Blocks from `at` on that are not written in the source; they become holes (B5). None if they [stay](stays)
    /// what they are.
    fn hole_at(&self, at: u64) -> Result<Option<u64>> {
        let mut ext = ExtSet::lock([self.from, self.to]);
        let (from, to) = (self.src + at, self.dst + at);
        let source = map::old_at(self.sb, self.from, ext.of(self.from), from)?;
        if source.written().is_some() {
            return Ok(None);
        }
        let hole = source.end().saturating_sub(from).clamp(1, self.blocks - at);
        let old = map::old_at(self.sb, self.to, ext.of(self.to), to)?;
        let n = hole.min(old.end().saturating_sub(to));
        Ok(match source {
            // What is preallocated behind that may stay.
            Old::Unwritten(_) => (!stays(&source, &old)).then_some(n),
            _ => (!stays(&source, &old) || n < hole).then_some(hole),
        })
    }

    /// Up to `most` chunks from `at` on, published together. Returns how many blocks they have; 0 where
    /// the destination must lose blocks for a hole in the source.
    fn chunks(&self, trans: &mut Trans<'_>, at: u64, most: usize) -> Result<u64> {
        let mut ext = ExtSet::lock([self.from, self.to]);
        let mut tree = ext.of(self.to).tree(self.to);
        let (mut done, mut mapped, mut dropped) = (0u64, 0u64, 0u64);
        for nth in 0..most {
            if at + done >= self.blocks || (nth > 0 && !may_continue(trans)) {
                break;
            }
            let (n, new, old) = self.chunk(trans, &mut ext, &mut tree, at + done)?;
            if n == 0 {
                break;
            }
            done += n;
            mapped += new;
            dropped += old;
        }
        if done == 0 {
            return Ok(0);
        }
        let joined = trans.join_inode(self.to)?;

        // From here on nothing fails.
        let target = ext.of(self.to);
        target.set_tree(&tree);
        target.nblocks = target
            .nblocks
            .saturating_add(mapped)
            .saturating_sub(dropped);
        let size = self.size_after(at + done);
        target.disk_size = target.disk_size.max(size);
        if size > self.to.size() {
            self.to.set_size(size);
        }
        publish_blocks(self.to, target);
        trans.log_inode(joined, target.record(self.to));
        self.from.data().bump_data_seq();
        self.to.data().bump_data_seq();
        trans.apply();
        Ok(done)
    }

    /// Prepares one chunk: as many blocks from `at` on as lie in one extent and one group on both sides and
    /// have one reference count each, or are holes. Returns how many, 0 where the destination has something
    /// for a hole in the source; how many are mapped now, and how many were before.
    ///
    /// What is mapped from `at` on is read as it was before the chunks that are prepared already, which do
    /// not change it; the counts as they will be.
    fn chunk(
        &self,
        trans: &mut Trans<'_>,
        ext: &mut ExtSet<'_>,
        tree: &mut Tree,
        at: u64,
    ) -> Result<(u64, u64, u64)> {
        let sb = self.sb;
        let from = self.src + at;
        let to = self.dst + at;
        let source = match map::old_by(sb.reader_ahead(), self.from, ext.of(self.from), from)? {
            Old::Written(e) => map::clip(e, from, from.saturating_add(self.blocks - at)),
            source => {
                let hole = source.end().saturating_sub(from).min(self.blocks - at);
                let old = map::old_at(sb, self.to, ext.of(self.to), to)?;
                let n = match stays(&source, &old) {
                    true => hole.min(old.end().saturating_sub(to)),
                    false => 0,
                };
                return Ok((n, 0, 0));
            }
        };
        let old = map::old_at(sb, self.to, ext.of(self.to), to)?;
        let mut n = source.len.min(old.end().saturating_sub(to));
        n = n.min(one_group(sb, source, n));
        n = uniform(trans, source, n)?;
        let old = match old {
            Old::Hole { .. } => None,
            Old::Written(e) | Old::Unwritten(e) => {
                n = one_group(sb, e, n);
                n = uniform(trans, e, n)?;
                // Where both sides overlap on the device, counting one up splits the other's run.
                let apart = source.phys.get().abs_diff(e.phys.get());
                if apart != 0 {
                    n = n.min(apart);
                }
                Some(map::clip(e, to, to.saturating_add(n)))
            }
        };

        // One reference more before one less: the two may be the same blocks.
        let mut counts = trans.refcount()?;
        let more = refcount::increase_step(&mut counts, trans, source.phys, n)?;
        if more.ok_or(EMLINK)? != n {
            return Err(EINVAL);
        }
        let mut dropped = 0;
        if let Some(old) = old {
            dropped = drop_blocks(trans, true, old)?.len;
            if dropped != n {
                return Err(EINVAL);
            }
            extent::remove_step(tree, trans, to, to + n)?;
        }
        let new = Extent {
            fblk: to,
            phys: source.phys,
            len: n,
            unwritten: false,
        };
        extent::insert(tree, trans, new)?;
        Ok((n, n, dropped))
    }

    /// The least size of the destination when `done` blocks are done.
    fn size_after(&self, done: u64) -> u64 {
        let blocks = (self.dst + done).saturating_mul(self.sb.block_size());
        self.end.map_or(0, |end| end.min(blocks))
    }

    /// Moves the size over what became a hole.
    fn grow(&self, done: u64) -> Result {
        let size = self.size_after(done);
        if self.to.data().ext.read().disk_size >= size {
            return Ok(());
        }
        itable::change_record(self.to, |ext| {
            ext.disk_size = size;
            if size > self.to.size() {
                self.to.set_size(size);
            }
        })
    }
}

/// Does the destination stay what it is? It has no data and is to have none: a hole, or preallocated as in the
/// source, which is worth keeping (as in XFS).
fn stays(source: &Old, old: &Old) -> bool {
    matches!(
        (source, old),
        (Old::Hole { .. } | Old::Unwritten(_), Old::Hole { .. })
            | (Old::Unwritten(_), Old::Unwritten(_))
    )
}

/// The first blocks of `e`, at most `n`, that lie in one group.
fn one_group(sb: &Sb, e: Extent, n: u64) -> u64 {
    sb.alloc().in_group(Run {
        start: e.phys,
        len: n.min(e.len),
    })
}

/// The first blocks of `e`, at most `n`, that have the same number of references.
fn uniform(trans: &mut Trans<'_>, e: Extent, n: u64) -> Result<u64> {
    let counts: Tree = trans.refcount()?;
    debug_assert_eq!(counts.kind, Kind::Refcount);
    let (_, run) = refcount::lookup(&counts, &*trans, e.phys, n)?;
    Ok(run.clamp(1, n))
}

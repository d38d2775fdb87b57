// SPDX-License-Identifier: GPL-2.0

//! Where blocks are mapped, unmapped and shared, and reservations are punched.

use super::table::Check;
use super::{lies, report, Seam};
use crate::format::types::BlockNr;
use crate::fs::alloc::Run;
use crate::fs::{Inode, Sb};
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

fn blocks_seam<'a>(inode: &'a Inode, place: &'a str, start: u64, end: u64) -> Seam<'a> {
    let bytes = |b: u64| b.saturating_mul(inode.sb().block_size());
    Seam::new(inode, place, bytes(start), bytes(end))
}

/// Reservations of bytes `[start, start + len)` are about to be punched.
pub(crate) fn punching(inode: &Inode, start: u64, len: u64) {
    let s = Seam::new(inode, "punch", start, start.saturating_add(len));
    s.demand(
        Check::PunchLock,
        inode.is_invalidate_mine(),
        fmt!("this task does not have invalidate_lock"),
    );
}

/// A cookie was compared: `now` is that of now.
pub(crate) fn validated(inode: &Inode, cookie: u64, now: u64, valid: bool) {
    let s = Seam::new(inode, "iomap_valid", 0, 0);
    s.demand(
        Check::Valid,
        !valid || cookie == now,
        fmt!("cookie {:#x}, now {:#x}", cookie, now),
    );
}

/// File blocks from `fblk` on are about to be mapped to the claimed `run`.
pub(crate) fn mapping_claim(inode: &Inode, fblk: u64, run: Run) {
    let sb = inode.sb().data();
    let s = blocks_seam(inode, "completion", fblk, fblk.saturating_add(run.len));
    let loose = (0..run.len).find(|n| {
        let start = BlockNr::new(run.start.get().saturating_add(*n));
        !sb.alloc().pinned_run(Run { start, len: 1 }).0
    });
    s.demand(
        Check::IoendCow,
        loose.is_none(),
        fmt!("block {:?} of {} was not written", loose, run.len),
    );
}

/// The size on disk goes from `old` to `new` for data that ends at `data`.
pub(crate) fn size_on_disk(inode: &Inode, old: u64, new: u64, data: u64) {
    let s = Seam::new(inode, "completion", old, new);
    s.demand(
        Check::IoendAppend,
        new <= old.max(data),
        fmt!("from {} to {}, data ends at {}", old, new, data),
    );
}

/// Blocks `[start, end)` are about to be unmapped.
pub(crate) fn unmapping(inode: &Inode, start: u64, end: u64) {
    let s = blocks_seam(inode, "unmap", start, end);
    let n = inode.dio_count();
    s.demand(Check::DioSerialise, n == 0, fmt!("{} under way", n));
}

/// fallocate looks at the size.
pub(crate) fn falloc_size(inode: &Inode, start: u64, end: u64) {
    let s = Seam::new(inode, "fallocate", start, end);
    let n = inode.dio_count();
    let fine = n == 0 && inode.is_rwsem_mine();
    s.demand(Check::FallocDiowait, fine, fmt!("{} under way", n));
}

/// Blocks `[start, end)` of `to` are about to share those of `from`.
pub(crate) fn sharing(from: &Inode, to: &Inode, start: u64, end: u64) {
    let s = blocks_seam(to, "clone", start, end);
    let fine = to.is_rwsem_mine() && to.is_invalidate_mine() && from.is_invalidate_held();
    s.demand(Check::Lock5, fine, fmt!("source ino {}", from.ino()));
    let sb = to.sb().data();
    let bytes = |b: u64| b.saturating_mul(sb.block_size());
    let page = to.has_page(bytes(start), bytes(end));
    let staged = to.data().ext.read().staging.next(start);
    let staged = staged.filter(|e| e.start < end);
    s.demand(
        Check::Remap,
        !page && staged.is_none(),
        fmt!("cached: {}, staged: {:?}", page, staged),
    );
}

/// The filesystem is about to be unmounted: all its inodes are gone.
pub(crate) fn unmounting(sb: &Sb) {
    let open = sb.debug().checks().open.load(Relaxed);
    if open != 0 {
        let facts = fmt!("{} begins without end", open);
        report(sb, Check::EndAlways, 0, (0, 0), "umount", facts);
    }
    let (claimed, pinned, _) = sb.alloc().set_sizes();
    let reserved = sb.alloc().space.account().reserved;
    let left = claimed + pinned + reserved != 0 || lies::turns(Check::BeginFail);
    if left && !sb.is_shutdown() {
        let facts = fmt!(
            "{} reserved, {} claimed, {} pinned",
            reserved,
            claimed,
            pinned
        );
        report(sb, Check::BeginFail, 0, (0, 0), "umount", facts);
    }
}

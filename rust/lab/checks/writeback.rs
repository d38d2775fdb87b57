// SPDX-License-Identifier: GPL-2.0

//! Where writeback puts a range, and what completion makes of it.
//!
//! The folio is locked, or under writeback: nobody unmaps its blocks meanwhile, so what is looked up
//! here must agree with the mapping whatever its cookie says.

use super::begin::{plain, type_name};
use super::table::Check;
use super::truth::{address_of, is_shared, Found};
use super::{lies, Seam};
use crate::algo::staging::State;
use crate::format::types::BlockNr;
use crate::fs::alloc::Run;
use crate::fs::completion::blocks_of;
use crate::fs::map::{self, Old};
use crate::fs::{Calf, Inode, Sb};
use crate::kapi::iomap::lab::{DELALLOC, HOLE, MAPPED, SHARED, UNWRITTEN};
use crate::kapi::iomap_writeback::{CompletedIoend, WritebackCtx};
use crate::kapi::watch::Context;
use kernel::prelude::*;

/// The mapping that `len` bytes at `pos` are about to be added to an ioend with; `reused` if it is
/// that of an earlier range.
pub(crate) fn wb_map(ctx: &WritebackCtx<'_, Calf>, pos: u64, len: u32, reused: bool) {
    let inode = ctx.inode();
    let sb = inode.sb().data();
    let (map, _) = ctx.raw();
    let map = lies::retyped(Check::WbType, &map, DELALLOC);
    let s = Seam::new(inode, "writeback", pos, pos + u64::from(len));
    let now = Context::now();
    let quiet = now.is_nofs() && !now.has_handle() && !now.is_reclaim();
    s.demand(Check::WbContext, quiet, fmt!("{:?}", now));
    plain(&s, &map, pos);
    let covers = map.offset <= pos && pos < map.end();
    s.demand(
        Check::WbCover,
        covers,
        fmt!(
            "byte {} not in mapping [{}, {})",
            pos,
            map.offset,
            map.end()
        ),
    );
    let known = matches!(map.ty, HOLE | MAPPED | UNWRITTEN);
    s.demand(Check::WbType, known, fmt!("{}", type_name(map.ty)));
    if !covers || sb.is_shutdown() {
        return;
    }
    let ext = inode.data().ext.read();
    let Some(f) = Found::look(sb, inode, &ext, pos >> sb.block_shift()) else {
        return;
    };
    let facts = fmt!(
        "{}{} at {:#x} flags {:#x}, but {:?} {:?}, size {}",
        if reused { "reused " } else { "" },
        type_name(map.ty),
        map.addr,
        map.flags,
        f.old,
        f.entry,
        inode.size()
    );
    let addr = address_of(sb, &map, pos);
    let here = |written| f.is_at(sb, &map, pos, written);
    if map.ty == HOLE {
        s.demand(Check::WbHole, pos >= inode.size(), facts);
    } else if map.has(SHARED) {
        let run = Run {
            start: BlockNr::new(addr >> sb.block_shift()),
            len: (map.end().min(pos + u64::from(len)) - pos) >> sb.block_shift(),
        };
        let (pinned, blocks) = sb.alloc().pinned_run(run);
        let all = pinned && blocks == sb.alloc().in_group(run);
        s.demand(Check::WbFresh, all, facts);
        // A direct write to the same block may have mapped it already.
        s.demand(
            Check::WbRevalidate,
            f.claim(sb) == Some(addr) || here(true),
            facts,
        );
    } else {
        let true_now = match map.ty {
            MAPPED => here(true),
            _ => here(false) || here(true),
        };
        s.demand(
            Check::WbRevalidate,
            true_now && !(reused && f.entry.is_some()),
            facts,
        );
        s.demand(Check::WbCowFirst, f.entry.is_none(), facts);
        // Under always_cow, what nobody has reserved for may go in place rather than be lost.
        let shared = map.ty == MAPPED && is_shared(sb, &ext, &f.old);
        s.demand(Check::WbNoInplaceShared, !shared, facts);
    }
}

/// What the callback of writeback answers for `len` bytes at `pos`.
pub(crate) fn wb_returned(inode: &Inode, pos: u64, len: u32, result: &Result<usize>) {
    let s = Seam::new(inode, "writeback", pos, pos + u64::from(len));
    match *result {
        Ok(n) => {
            let most = u64::from(len);
            let fine = n > 0 && lies::more(Check::WbRangeRet, n as u64) <= most;
            s.demand(Check::WbRangeRet, fine, fmt!("{} of {} bytes", n, len));
        }
        Err(e) => s.demand(Check::WbRelookup, e != EAGAIN, fmt!("EAGAIN")),
    }
}

/// An ioend that is about to be finished with `result`.
pub(crate) fn ioend_completed(sb: &Sb, ioend: &CompletedIoend<Calf>, result: &Result) {
    let inode = ioend.inode();
    let (start, run) = blocks_of(sb, ioend);
    let end = start.saturating_add(run.len);
    let s = Seam::new(
        inode,
        "completion",
        ioend.offset(),
        ioend.offset() + ioend.size(),
    );
    let now = Context::now();
    s.demand(Check::IoendCtx, !now.is_atomic(), fmt!("{:?}", now));
    if sb.is_shutdown() {
        return;
    }
    let ext = inode.data().ext.read();
    if result.is_err() {
        let mut at = start;
        while let Some(e) = ext.staging.next(at).and_then(|e| e.clip(at, end)) {
            let State::Claimed(phys) = e.state else {
                at = e.end;
                continue;
            };
            let ours = phys.get().wrapping_sub(run.start.get()) == e.start.wrapping_sub(start);
            let (pinned, alike) = sb.alloc().pinned_run(Run {
                start: phys,
                len: e.len(),
            });
            at = e.start.saturating_add(alike.max(1));
            let left = ioend.is_staged() && ours && !pinned;
            s.demand(Check::IoendError, !left, fmt!("{:?} is left", e));
        }
        return;
    }
    let check = match (ioend.is_staged(), ioend.is_unwritten()) {
        (true, _) => Check::IoendCow,
        (_, true) => Check::IoendUnwritten,
        _ => return,
    };
    let end = lies::more(check, end);
    first_unmapped(inode, &ext, start, end, |at, old| {
        s.demand(check, false, fmt!("block {} is {:?}", at, old))
    });
}

/// Calls `f` with the first block of `[start, end)` that is not written.
pub(super) fn first_unmapped(
    inode: &Inode,
    ext: &crate::fs::inode::InodeExt,
    start: u64,
    end: u64,
    f: impl FnOnce(u64, &Old),
) {
    let mut at = start;
    while at < end {
        match map::old_in_tree(inode.sb().data(), inode, ext, at) {
            Ok(Old::Written(e)) => at = e.end(),
            Ok(old) => return f(at, &old),
            Err(_) => return,
        }
    }
}

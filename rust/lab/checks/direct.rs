// SPDX-License-Identifier: GPL-2.0

//! Rounds of direct I/O, and what is true when a direct write ends.

use super::table::Check;
use super::writeback::first_unmapped;
use super::{lies, Seam};
use crate::fs::dio::Outcome;
use crate::fs::map;
use crate::fs::Inode;
use crate::kapi::iomap_dio::DioDone;
use crate::kapi::watch::Context;
use kernel::prelude::*;

/// A direct write goes on to its metadata.
pub(crate) fn dio_metadata(inode: &Inode, done: &DioDone) {
    let s = Seam::new(inode, "end_io", done.pos, done.pos + done.size);
    let now = Context::now();
    s.demand(Check::DioEndioCtx, !now.is_atomic(), fmt!("{:?}", now));
}

/// The size is about to be moved over `[pos, end)`.
pub(crate) fn dio_size(inode: &Inode, pos: u64, end: u64) {
    let sb = inode.sb().data();
    let s = Seam::new(inode, "size", pos, end);
    let (first, last) = map::blocks(sb, pos, end);
    let ext = inode.data().ext.read();
    first_unmapped(inode, &ext, first, last, |at, old| {
        s.demand(
            Check::DioEndioOrder,
            false,
            fmt!("block {} is {:?} and not written", at, old),
        )
    });
}

/// A direct write ends with `result`.
pub(crate) fn dio_end(inode: &Inode, done: &DioDone, result: &Result) {
    let sb = inode.sb().data();
    let touched = done.staged || done.unwritten || done.pos + done.size > inode.size();
    if result.is_err() || done.size == 0 || !touched || sb.is_shutdown() {
        return;
    }
    let end = done.pos.saturating_add(done.size);
    let s = Seam::new(inode, "end_io", done.pos, end);
    s.demand(
        Check::DioEndioOrder,
        end <= inode.size(),
        fmt!("size is {}", inode.size()),
    );
    let (first, last) = map::blocks(sb, done.pos, end);
    let ext = inode.data().ext.read();
    let check = if done.staged {
        Check::DioCow
    } else {
        Check::DioUnwritten
    };
    let last = lies::more(check, last);
    first_unmapped(inode, &ext, first, last, |at, old| {
        s.demand(check, false, fmt!("block {} is {:?}", at, old))
    });
}

/// A round of direct I/O has moved `moved` bytes after the `before` of the rounds before it, and said
/// `said`.
pub(crate) fn dio_round(inode: &Inode, before: usize, moved: usize, said: &Result<usize>) {
    let Ok(n) = *said else {
        return;
    };
    let s = Seam::new(inode, "direct I/O", 0, 0);
    s.demand(
        Check::DioDoneBefore,
        n == before + moved || n == 0 && moved == 0,
        fmt!("{} bytes, after {} and {} more", n, before, moved),
    );
}

/// A round of a direct write begins with as many bytes left as `same` rounds before it. Once memory is
/// faulted in, once space is made; whoever is where he was after that does not advance.
pub(crate) fn dio_progress(inode: &Inode, same: u32) {
    let s = Seam::new(inode, "direct write", 0, 0);
    s.demand(
        Check::DioDoneBefore,
        same <= 2,
        fmt!("{} rounds without progress", same),
    );
}

/// A direct write of which `left` bytes are left ends with `said`.
pub(crate) fn dio_written(inode: &Inode, said: &Result<Outcome>, left: usize) {
    let s = Seam::new(inode, "direct write", 0, 0);
    let nothing = matches!(*said, Ok(Outcome::Done(0)));
    s.demand(
        Check::DioEnotblk,
        !nothing || left == 0,
        fmt!("0 bytes, {} left", left),
    );
}

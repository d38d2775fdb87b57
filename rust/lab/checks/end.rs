// SPDX-License-Identifier: GPL-2.0

//! What end does with a reservation that its begin made and that was not used up.

use super::table::Check;
use super::{lies, Seam};
use crate::algo::staging::State;
use crate::fs::map::{self, Old};
use crate::fs::Inode;
use crate::kapi::iomap::{Done, Flags};
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

/// Whole blocks of a new reservation that the operation left unwritten, as bytes.
fn unused(inode: &Inode, done: &Done<'_>) -> Option<(u64, u64)> {
    if !done.is_new_reservation() || done.flags.has(Flags::FAULT) {
        return None;
    }
    done.unwritten_blocks(inode)
}

/// Is there a dirty page over what end may take back?
pub(super) fn ending(inode: &Inode, done: &Done<'_>) -> bool {
    unused(inode, done).is_some_and(|(start, end)| inode.is_dirty(start, end))
}

/// Looks at what end has left.
pub(super) fn ended(inode: &Inode, done: &Done<'_>, was_dirty: bool) {
    let sb = inode.sb().data();
    let s = Seam::new(inode, "end", done.pos, done.pos.saturating_add(done.len));
    let map = done.map();
    s.demand(
        Check::EndArgs,
        map.offset <= done.pos
            && s.end <= map.end()
            && lies::more(Check::EndArgs, done.written) <= done.len,
        fmt!(
            "{} of {} bytes, mapping [{}, {})",
            done.written,
            done.len,
            map.offset,
            map.end()
        ),
    );
    let before = sb.debug().checks().open.fetch_add(-1, Relaxed);
    s.demand(Check::EndAlways, before > 0, fmt!("no begin"));
    let Some((start, end)) = unused(inode, done) else {
        return;
    };
    if was_dirty {
        kept_pages(&s, start, end);
    }
    left_over(&s, done, start, end);
}

/// Was a dirty page dropped? Its data is then neither in the page cache nor staged nor on disk.
fn kept_pages(s: &Seam<'_>, start: u64, end: u64) {
    let inode = s.inode;
    let sb = inode.sb().data();
    if inode.has_page(start, end) {
        return;
    }
    let (at, to) = map::blocks(sb, start, end);
    let ext = inode.data().ext.read();
    let staged = ext.staging.next(at).is_some_and(|e| e.start < to);
    let Ok(old) = map::old_in_tree(sb, inode, &ext, at) else {
        return;
    };
    let empty = matches!(old, Old::Hole { end } if end >= to);
    s.demand(
        Check::PunchNotrunc,
        staged || !empty,
        fmt!("dirty pages of [{}, {}) are gone", start, end),
    );
}

/// Reservations without a page that will be written, or past EOF, are lost.
fn left_over(s: &Seam<'_>, done: &Done<'_>, start: u64, end: u64) {
    let inode = s.inode;
    let sb = inode.sb().data();
    let (mut at, to) = map::blocks(sb, start, end);
    let eof = inode.size().div_ceil(sb.block_size());
    let ext = inode.data().ext.read();
    while let Some(e) = ext.staging.next(at).and_then(|e| e.clip(at, to)) {
        at = e.end;
        if e.state != State::Reserved {
            continue;
        }
        let bytes = |block: u64| block.saturating_mul(sb.block_size());
        let below = e.end.min(eof);
        if e.start < below && inode.is_busy(bytes(e.start), bytes(below)) {
            continue;
        }
        let over_data = matches!(
            map::old_in_tree(sb, inode, &ext, e.start),
            Ok(Old::Written(_))
        );
        let check = match (done.is_stale(), over_data) {
            (true, _) => Check::StaleEnd,
            (false, true) => Check::PunchFork,
            (false, false) => Check::PunchRange,
        };
        let facts = fmt!("blocks [{}, {}) stay reserved", e.start, e.end);
        s.demand(check, false, facts);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Is a mapping true? It is compared with the data map and the staging map, looked up again under the
//! extent lock, unless its cookie has changed meanwhile.

use super::begin::{type_name, Op};
use super::table::Check;
use super::{lies, Seam};
use crate::algo::staging::Entry;
use crate::format::types::BlockNr;
use crate::fs::inode::InodeExt;
use crate::fs::map::{self, Old, Place};
use crate::fs::{Inode, Sb};
use crate::kapi::iomap::lab::{DELALLOC, HOLE, MAPPED, NEW, NULL_ADDR, SHARED, UNWRITTEN};
use crate::kapi::iomap::LabSide;
use crate::kapi::watch::Begun;
use kernel::prelude::*;

/// Are the blocks of the mapping data blocks of the device?
pub(super) fn is_on_device(inode: &Inode, map: &LabSide) -> bool {
    let sb = inode.sb().data();
    let bs = sb.block_size();
    let start = BlockNr::new(map.addr >> sb.block_shift());
    map.addr % bs == 0 && sb.geo().check_range(start, map.length / bs).is_ok()
}

/// What the two maps say of a block.
pub(super) struct Found {
    /// Data map.
    pub(super) old: Old,
    /// Staged data.
    pub(super) entry: Option<Entry>,
    at: u64,
}

impl Found {
    /// Looks block `at` up; `None` if that fails.
    pub(super) fn look(sb: &Sb, inode: &Inode, ext: &InodeExt, at: u64) -> Option<Self> {
        Some(Self {
            old: map::old_in_tree(sb, inode, ext, at).ok()?,
            entry: ext.staging.find(at).filter(Entry::is_data),
            at,
        })
    }

    /// Byte address of the block in the data map, written (`Some(true)`) or not.
    fn address(&self, sb: &Sb, written: bool) -> Option<u64> {
        match (&self.old, written) {
            (Old::Written(e), true) | (Old::Unwritten(e), false) => {
                Some(e.phys.get() << sb.block_shift())
            }
            _ => None,
        }
    }

    /// Byte address of the claim on the block.
    pub(super) fn claim(&self, sb: &Sb) -> Option<u64> {
        let phys = self.entry.and_then(|e| e.phys_at(self.at))?;
        Some(phys.get() << sb.block_shift())
    }

    /// Is block `at` mapped at what `map` says for byte `pos` of it?
    pub(super) fn is_at(&self, sb: &Sb, map: &LabSide, pos: u64, written: bool) -> bool {
        self.address(sb, written) == Some(address_of(sb, map, pos))
    }
}

/// Where `map` puts the block of byte `pos`.
pub(super) fn address_of(sb: &Sb, map: &LabSide, pos: u64) -> u64 {
    let start = pos & !(sb.block_size() - 1);
    map.addr.wrapping_add(start.wrapping_sub(map.offset))
}

/// Is any owner of the written block beside this file? Not known: no.
pub(super) fn is_shared(sb: &Sb, ext: &InodeExt, old: &Old) -> bool {
    match old {
        Old::Written(e) => map::shared_run(sb, ext, e.phys, 1).is_ok_and(|(shared, _)| shared),
        _ => false,
    }
}

/// Looks at what begin has answered.
pub(super) fn begun(s: &Seam<'_>, op: Op, b: &Begun<'_>) {
    let inode = s.inode;
    let sb = inode.sb().data();
    // What is below describes data.
    if sb.is_shutdown() || op == Op::ReportAttrs {
        return;
    }
    let ext = inode.data().ext.read();
    if inode.data().cookie() != b.cookie {
        return;
    }
    let (at, _) = map::blocks(sb, b.req.pos, b.req.end());
    let Some(f) = Found::look(sb, inode, &ext, at) else {
        return;
    };
    let pos = b.req.pos;
    let (dst, src) = (&b.dst, &b.src);
    let facts = fmt!(
        "{} [{}, {}) address {:#x} flags {:#x} source {} address {:#x}, but {:?} {:?}",
        type_name(dst.ty),
        dst.offset,
        dst.end(),
        dst.addr,
        dst.flags,
        type_name(src.ty),
        src.addr,
        f.old,
        f.entry
    );
    let end_of_old = f.old.end().saturating_mul(sb.block_size());
    if src.ty == MAPPED {
        let check = if op == Op::Unshare {
            Check::SharedSrc
        } else {
            Check::SrcSane
        };
        let fine = f.is_at(sb, src, pos, true) && src.end() <= end_of_old;
        s.demand(check, src.addr == NULL_ADDR || fine, facts);
    }
    let whole = dst.end() <= end_of_old;
    match op {
        Op::Read | Op::DirectRead => {
            let fine = match dst.ty {
                HOLE => matches!(f.old, Old::Hole { .. }),
                UNWRITTEN => f.is_at(sb, dst, pos, false),
                _ => f.is_at(sb, dst, pos, true),
            };
            s.demand(Check::ReadZero, fine, facts);
            s.demand(Check::MapTrueEnd, whole, facts);
        }
        Op::Report | Op::Seek => report(s, op, b, sb, &ext, &f, facts),
        Op::DirectWrite => direct(s, dst, pos, sb, &ext, &f, facts),
        _ => {
            staged(s, op, b, sb, &ext, &f, facts);
            s.demand(Check::MapTrueEnd, whole || dst.ty == HOLE, facts);
        }
    }
}

fn report(
    s: &Seam<'_>,
    op: Op,
    b: &Begun<'_>,
    sb: &Sb,
    ext: &InodeExt,
    f: &Found,
    facts: kernel::fmt::Arguments<'_>,
) {
    let (dst, pos) = (&b.dst, b.req.pos);
    let end = dst.end() >> sb.block_shift();
    let staged = f.entry.is_some() || ext.staging.next_data(f.at).is_some_and(|e| e.start < end);
    let no_data = matches!(f.old, Old::Hole { .. }) && !staged;
    if op == Op::Seek {
        s.demand(Check::SeekUnwritten, dst.ty != HOLE || no_data, facts);
        return;
    }
    let fine = match dst.ty {
        HOLE => no_data,
        DELALLOC => f.entry.is_some(),
        UNWRITTEN => f.is_at(sb, dst, pos, false),
        _ => f.is_at(sb, dst, pos, true) && dst.has(SHARED) == is_shared(sb, ext, &f.old),
    };
    s.demand(Check::ReportPure, fine, facts);
}

fn direct(
    s: &Seam<'_>,
    dst: &LabSide,
    pos: u64,
    sb: &Sb,
    ext: &InodeExt,
    f: &Found,
    facts: kernel::fmt::Arguments<'_>,
) {
    let written = f.is_at(sb, dst, pos, true);
    if dst.has(SHARED) {
        // Another write to the same blocks may have ended already.
        let fine = f.claim(sb) == Some(address_of(sb, dst, pos)) || written;
        s.demand(Check::DioCow, fine, facts);
        let run = crate::fs::alloc::Run {
            start: BlockNr::new(dst.addr >> sb.block_shift()),
            len: 1,
        };
        s.demand(Check::Pin, sb.alloc().pinned_run(run).0, facts);
    } else if dst.ty == MAPPED {
        let fine = written && f.entry.is_none() && !is_shared(sb, ext, &f.old);
        s.demand(Check::DioCowRelookup, fine, facts);
    } else if dst.ty == UNWRITTEN {
        let fine = written || f.is_at(sb, dst, pos, false);
        s.demand(Check::MapTrueEnd, fine, facts);
    }
}

/// Page cache operations that write.
fn staged(
    s: &Seam<'_>,
    op: Op,
    b: &Begun<'_>,
    sb: &Sb,
    ext: &InodeExt,
    f: &Found,
    facts: kernel::fmt::Arguments<'_>,
) {
    let (dst, src, pos) = (&b.dst, &b.src, b.req.pos);
    let over_data = f.old.written().is_some();
    if op == Op::Zero {
        zero(s, b, sb, ext, f, facts);
    } else if op == Op::Fault {
        // Which may be more than this mapping: the core makes all of the folio dirty.
        fault(s, sb, ext, facts);
    } else if dst.ty == MAPPED && op == Op::Write {
        let fine = f.is_at(sb, dst, pos, true) && !is_shared(sb, ext, &f.old);
        s.demand(Check::WbNoInplaceShared, fine, facts);
    }
    match dst.ty {
        DELALLOC => {
            if op != Op::Fault {
                let end = dst.end() >> sb.block_shift();
                let reserved = covers(ext, f.at, end);
                s.demand(Check::SharedMeaning, reserved && dst.has(SHARED), facts);
            }
            if op != Op::Unshare {
                s.demand(Check::SrcRmw, !over_data || src.ty == MAPPED, facts);
                s.demand(Check::SrcHole, over_data || src.ty == HOLE, facts);
            }
        }
        HOLE => {}
        _ => s.demand(
            Check::SharedMeaning,
            f.entry.is_none() && !dst.has(SHARED),
            facts,
        ),
    }
}

/// Is all of blocks `[at, end)` staged data?
fn covers(ext: &InodeExt, mut at: u64, end: u64) -> bool {
    while at < end {
        match ext.staging.find(at) {
            Some(e) if e.is_data() => at = e.end,
            _ => return false,
        }
    }
    true
}

fn fault(s: &Seam<'_>, sb: &Sb, ext: &InodeExt, facts: kernel::fmt::Arguments<'_>) {
    let (mut at, end) = map::blocks(sb, s.start, s.end.min(s.inode.size()));
    while at < end {
        let Ok(place) = map::place(sb, s.inode, ext, at, end) else {
            return;
        };
        let ready = match place {
            Place::Staged { .. } | Place::Overwrite(_) => true,
            Place::Unwritten { staged, .. } => staged,
            Place::MustReserve { .. } => false,
        };
        s.demand(Check::MkwriteResv, ready, facts);
        if !ready {
            return;
        }
        at = place.end().max(at + 1);
    }
}

fn zero(
    s: &Seam<'_>,
    b: &Begun<'_>,
    sb: &Sb,
    ext: &InodeExt,
    f: &Found,
    facts: kernel::fmt::Arguments<'_>,
) {
    let (dst, pos) = (&b.dst, b.req.pos);
    let bs = sb.block_size();
    let past = pos >= s.inode.size().next_multiple_of(bs);
    s.demand(
        Check::ZeroPosteof,
        !past || dst.ty == HOLE || dst.ty == UNWRITTEN,
        facts,
    );
    if past {
        return;
    }
    let own = sb.opts().always_cow || f.entry.is_some() || is_shared(sb, ext, &f.old);
    let in_place = dst.ty == MAPPED && !dst.has(SHARED);
    let needless = dst.has(NEW) && f.old.written().is_none();
    s.demand(Check::ZeroFlags, !(needless || in_place && own), facts);
    if dst.ty != HOLE {
        return;
    }
    // What is skipped must be zero in the page cache as well.
    let end = dst.end().min(b.req.end()).max(pos + 1);
    let skipped = s.inode.is_dirty(pos, end);
    match (&f.old, f.entry) {
        (Old::Written(_), _) => s.demand(Check::ReadZero, false, facts),
        (_, Some(_)) => s.demand(Check::ZeroHoleDirty, !skipped, facts),
        (Old::Unwritten(_), None) => s.demand(Check::ZeroUnwritten, !skipped, facts),
        (Old::Hole { .. }, None) => {}
    }
}

/// Looks at a mapping that was called valid just now. The extent lock keeps its cookie.
pub(super) fn held_valid(inode: &Inode, map: &LabSide, cookie: u64) {
    let map = &lies::retyped(Check::CookieBump, map, MAPPED);
    let sb = inode.sb().data();
    let ext = inode.data().ext.read();
    if inode.data().cookie() != cookie || sb.is_shutdown() {
        return;
    }
    let at = map.offset >> sb.block_shift();
    let Some(f) = Found::look(sb, inode, &ext, at) else {
        return;
    };
    let fine = match map.ty {
        MAPPED => f.is_at(sb, map, map.offset, true),
        UNWRITTEN => f.is_at(sb, map, map.offset, false),
        DELALLOC => f.entry.is_some(),
        _ => true,
    };
    let s = Seam::new(inode, "iomap_valid", map.offset, map.end());
    s.demand(
        Check::CookieBump,
        fine,
        fmt!(
            "{} address {:#x}, but {:?} {:?}",
            type_name(map.ty),
            map.addr,
            f.old,
            f.entry
        ),
    );
}

// SPDX-License-Identifier: GPL-2.0

//! What begin answers: the shape of a mapping, its flags, and the locks around it. Whether it is true
//! is looked at in [`super::truth`].

use super::table::Check;
use super::{end, lies, locks, truth, Seam};
use crate::fs::{Calf, Inode};
use crate::kapi::iomap::lab::{
    DELALLOC, DIRECT, DIRTY, FOLIO_BATCH, HOLE, KNOWN, MAPPED, NEW, NULL_ADDR, OF_THE_CORE, REPORT,
    SHARED, UNWRITTEN, WRITE,
};
use crate::kapi::iomap::{Done, Flags, LabSide, Request};
use crate::kapi::watch::{Begun, Context, Lock, Watch};
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

/// Sees begin, end and locks of calf.
pub(crate) struct Checker;

/// Which operation a begin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Write,
    Fault,
    Zero,
    Unshare,
    DirectRead,
    DirectWrite,
    Report,
    ReportAttrs,
    Seek,
}

impl Op {
    fn of(name: &str, flags: Flags) -> Self {
        let has = |bits: u32| flags.bits() & bits != 0;
        if flags.has(Flags::UNSHARE) {
            Self::Unshare
        } else if flags.has(Flags::FAULT) {
            Self::Fault
        } else if flags.has(Flags::ZERO) {
            Self::Zero
        } else if has(DIRECT) {
            if has(WRITE) {
                Self::DirectWrite
            } else {
                Self::DirectRead
            }
        } else if has(WRITE) {
            Self::Write
        } else if !has(REPORT) {
            Self::Read
        } else if name == "Seek" {
            Self::Seek
        } else if name == "ReportAttrs" {
            Self::ReportAttrs
        } else {
            Self::Report
        }
    }

    /// Goes through the page cache and stages what cannot be written in place.
    pub(super) fn stages(self) -> bool {
        matches!(self, Self::Write | Self::Fault | Self::Zero | Self::Unshare)
    }
}

/// The last part of the path of a type.
fn short(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// Name of a mapping type.
pub(super) fn type_name(ty: u16) -> &'static str {
    match ty {
        HOLE => "hole",
        DELALLOC => "reservation",
        MAPPED => "mapped",
        UNWRITTEN => "unwritten",
        _ => "other",
    }
}

impl Watch<Calf> for Checker {
    fn begun(inode: &Inode, b: &Begun<'_>) -> Result {
        let b = &lies::begun(b);
        let name = short(b.op);
        let op = Op::of(name, b.req.flags);
        let s = Seam::new(inode, name, b.req.pos, b.req.end());
        if b.has_end {
            inode.sb().data().debug().checks().open.add(1, Relaxed);
        }
        shape(&s, op, b);
        source(&s, op, b);
        held(&s, op);
        if op == Op::DirectWrite || op == Op::DirectRead {
            direct(&s, op, b);
        }
        // A request that must not wait is not made to wait by a check.
        if !b.req.flags.has(Flags::NOWAIT) {
            truth::begun(&s, op, b);
        }
        s.result()
    }

    fn ending(inode: &Inode, done: &Done<'_>) -> bool {
        end::ending(inode, done)
    }

    fn ended(inode: &Inode, done: &Done<'_>, before: bool) {
        end::ended(inode, done, before)
    }

    fn held_valid(inode: &Inode, map: &LabSide, cookie: u64) {
        truth::held_valid(inode, map, cookie)
    }

    fn locking(inode: &Inode, lock: Lock) {
        locks::taking(inode, lock)
    }
}

/// What must hold of any mapping, as the core sees it.
pub(super) fn plain(s: &Seam<'_>, map: &LabSide, pos: u64) {
    let bs = s.inode.sb().block_size();
    s.demand(Check::MapLen0, map.length > 0, fmt!("no bytes"));
    let end = map.end();
    s.demand(
        Check::MapAlign,
        map.offset % bs == 0 && end % bs == 0,
        fmt!("mapping [{}, {})", map.offset, end),
    );
    let placed = map.ty == MAPPED || map.ty == UNWRITTEN;
    // The seek code never looks at an address.
    let no_address = s.place == "Seek" && map.addr == NULL_ADDR;
    let fine = if placed {
        no_address || map.addr != NULL_ADDR && truth::is_on_device(s.inode, map)
    } else {
        map.addr == NULL_ADDR
    };
    s.demand(
        Check::MapAddr,
        fine,
        fmt!(
            "{} at address {:#x}, byte {}",
            type_name(map.ty),
            map.addr,
            pos
        ),
    );
    s.demand(Check::Inline, map.ty <= UNWRITTEN, fmt!("type {}", map.ty));
    s.demand(
        Check::AnonWrite,
        map.flags & !(KNOWN | OF_THE_CORE) == 0,
        fmt!("flags {:#x}", map.flags),
    );
}

fn shape(s: &Seam<'_>, op: Op, b: &Begun<'_>) {
    let (dst, pos) = (&b.dst, b.req.pos);
    plain(s, dst, pos);
    s.demand(
        Check::MapCover,
        dst.offset <= pos && pos < dst.end(),
        fmt!(
            "byte {} not in mapping [{}, {})",
            pos,
            dst.offset,
            dst.end()
        ),
    );
    let batch = dst.has(FOLIO_BATCH) && op != Op::Zero;
    s.demand(
        Check::FlagOwn,
        dst.flags & OF_THE_CORE == 0 && !batch,
        fmt!("flags {:#x}", dst.flags),
    );
    let writes = matches!(op, Op::Write | Op::Fault | Op::DirectWrite);
    s.demand(
        Check::MapNoholeWrite,
        !writes || dst.ty != HOLE,
        fmt!("a hole"),
    );
    s.demand(
        Check::NewZero,
        !dst.has(NEW) || dst.ty == DELALLOC,
        fmt!("new and {}", type_name(dst.ty)),
    );
    s.demand(
        Check::ReportPure,
        !matches!(op, Op::Report | Op::ReportAttrs | Op::Seek) || !dst.has(NEW),
        fmt!("flags {:#x}", dst.flags),
    );
}

fn source(s: &Seam<'_>, op: Op, b: &Begun<'_>) {
    let (dst, src, pos) = (&b.dst, &b.src, b.req.pos);
    let given = src.ty != HOLE;
    if op == Op::Unshare {
        let wrong = given && (src.ty != MAPPED || src.has(NEW) || src.addr == NULL_ADDR);
        let bare = dst.has(SHARED) && (!given || pos >= s.inode.size());
        s.demand(
            Check::SharedSrc,
            !wrong && !bare,
            fmt!(
                "shared {} with source {} flags {:#x} address {:#x}, size {}",
                type_name(dst.ty),
                type_name(src.ty),
                src.flags,
                src.addr,
                s.inode.size()
            ),
        );
        s.demand(
            Check::UnshareHoleNoresv,
            given || !dst.has(NEW),
            fmt!("a new reservation without source"),
        );
        return;
    }
    s.demand(
        Check::SrcNotForRead,
        op.stages() || op == Op::DirectWrite || !given,
        fmt!("source {}", type_name(src.ty)),
    );
    if !given {
        return;
    }
    let apart = dst.ty != MAPPED || dst.addr.abs_diff(src.addr) >= dst.length.min(src.length);
    s.demand(
        Check::SrcSane,
        src.ty == MAPPED && !src.has(NEW) && src.offset <= pos && pos < src.end() && apart,
        fmt!(
            "source {} [{}, {}) flags {:#x}",
            type_name(src.ty),
            src.offset,
            src.end(),
            src.flags
        ),
    );
}

/// The locks that each operation comes with, and that begin must not keep.
fn held(s: &Seam<'_>, op: Op) {
    let inode = s.inode;
    let now = Context::now();
    s.demand(
        Check::NoLockAcross,
        !now.has_handle() && !inode.data().ext.is_mine(),
        fmt!(
            "handle: {}, extent lock: {}",
            now.has_handle(),
            inode.data().ext.is_mine()
        ),
    );
    let (rwsem, invalidate) = (inode.is_rwsem_mine(), inode.is_invalidate_mine());
    let facts = fmt!("i_rwsem: {}, invalidate_lock: {}", rwsem, invalidate);
    match op {
        Op::Write => s.demand(Check::WrPrecheck, rwsem, facts),
        Op::Zero | Op::Unshare => s.demand(Check::ZeroLock, rwsem && invalidate, facts),
        Op::Fault => {
            let fine = inode.is_invalidate_held() && !rwsem;
            s.demand(Check::MkwriteLock, fine, facts);
        }
        _ => {}
    }
}

/// What only direct I/O asks for.
fn direct(s: &Seam<'_>, op: Op, b: &Begun<'_>) {
    let Request { pos, len, flags } = *b.req;
    let (dst, end) = (&b.dst, b.req.end());
    let facts = fmt!(
        "{} [{}, {}) flags {:#x}",
        type_name(dst.ty),
        dst.offset,
        dst.end(),
        dst.flags
    );
    s.demand(Check::DioDelalloc, dst.ty != DELALLOC, facts);
    let whole = dst.end() >= end;
    s.demand(
        Check::DioNowait,
        !flags.has(Flags::NOWAIT) || whole || end > s.inode.size() && op == Op::DirectRead,
        facts,
    );
    if op == Op::DirectRead {
        return;
    }
    let bare = dst.ty == MAPPED && dst.flags & (NEW | SHARED) == 0;
    s.demand(
        Check::DioOverwriteOnly,
        !flags.has(Flags::OVERWRITE_ONLY) || whole && bare,
        facts,
    );
    s.demand(
        Check::DioAtomic,
        !flags.has(Flags::ATOMIC) || dst.has(SHARED),
        facts,
    );
    s.demand(Check::Dirty, end <= s.inode.size() || dst.has(DIRTY), facts);
    if (pos | len) % s.inode.sb().block_size() != 0 {
        let alone = s.inode.is_rwsem_mine() && s.inode.dio_count() <= 1;
        let zeroes = dst.ty == UNWRITTEN || dst.has(NEW);
        s.demand(Check::DioUnaligned, !zeroes || alone, facts);
        s.demand(Check::DioUnalignedCow, !dst.has(SHARED), facts);
    }
}

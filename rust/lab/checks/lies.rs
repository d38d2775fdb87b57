// SPDX-License-Identifier: GPL-2.0

//! Lies to the checks: every check must be able to fire, also where no switch breaks its contract.
//!
//! `echo C-MAP-COVER >/sys/kernel/debug/calf/checks` has the checks see something that breaks this contract,
//! until something else is written there. What the core gets stays as it is. The test `lies` tells all of them.
//!
//! Where a check looks at locks or at the task, nothing can be made up. Its verdict is turned instead
//! ([`TURNED`]): that shows that somebody asks, and not that the question is the right one.

use super::table::Check;
use crate::kapi::iomap::lab::{
    DELALLOC, DIRTY, HOLE, KNOWN, MAPPED, NEW, NULL_ADDR, OF_THE_CORE, SHARED, UNWRITTEN,
};
use crate::kapi::iomap::LabSide;
use crate::kapi::watch::Begun;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

/// The place in the table of the check that is lied to.
static SUBJECT: Atomic<u64> = Atomic::new(u64::MAX);

/// Checks whose verdict is turned.
const TURNED: &[Check] = &[
    Check::BeginFail,
    Check::EndAlways,
    Check::NoLockAcross,
    Check::WrPrecheck,
    Check::MkwriteLock,
    Check::WbContext,
    Check::IoendCtx,
    Check::DioEndioCtx,
    Check::DioSerialise,
    Check::LockOrder,
    Check::Lock1,
    Check::Lock5,
];

/// Lies to the check of this contract from now on; any word that is no contract ends it.
pub(super) fn tell(word: &[u8]) -> Result {
    let check = Check::ALL.iter().find(|c| c.id().as_bytes() == word);
    if check.is_none() && word.starts_with(b"C-") {
        return Err(EINVAL);
    }
    SUBJECT.store(check.map_or(u64::MAX, |c| *c as u64), Relaxed);
    Ok(())
}

/// Is this check lied to?
pub(super) fn to(check: Check) -> bool {
    SUBJECT.load(Relaxed) == check as u64
}

/// Is its verdict turned?
pub(super) fn turns(check: Check) -> bool {
    to(check) && TURNED.contains(&check)
}

/// What the checks of begin see.
pub(super) fn begun<'a>(b: &Begun<'a>) -> Begun<'a> {
    let mut seen = *b;
    let (dst, src) = (&mut seen.dst, &mut seen.src);
    let subject = usize::try_from(SUBJECT.load(Relaxed)).unwrap_or(usize::MAX);
    let Some(check) = Check::ALL.get(subject) else {
        return seen;
    };
    match check {
        Check::MapCover => dst.offset = dst.end(),
        Check::MapLen0 => dst.length = 0,
        Check::MapAlign => dst.length = dst.length.saturating_sub(1),
        Check::MapAddr if dst.addr == NULL_ADDR => dst.addr = 0,
        Check::MapAddr => dst.addr = NULL_ADDR,
        Check::MapNoholeWrite | Check::ReadZero => (dst.ty, dst.addr) = (HOLE, NULL_ADDR),
        Check::FlagOwn => dst.flags |= OF_THE_CORE,
        Check::SrcHole | Check::SrcNotForRead => *src = LabSide { ty: MAPPED, ..*dst },
        Check::SrcSane => {
            *src = LabSide {
                ty: MAPPED,
                flags: NEW,
                ..*dst
            }
        }
        Check::SharedMeaning => dst.flags ^= SHARED,
        Check::NewZero => dst.flags |= NEW,
        Check::Dirty => dst.flags &= !DIRTY,
        Check::AnonWrite => dst.flags |= !(KNOWN | OF_THE_CORE),
        Check::Inline => dst.ty = UNWRITTEN + 1,
        Check::DioDelalloc => dst.ty = DELALLOC,
        Check::DioOverwriteOnly | Check::DioUnalignedCow => dst.flags |= SHARED,
        Check::DioAtomic => dst.flags &= !SHARED,
        // The blocks behind those of the mapping.
        Check::Pin => dst.addr = dst.addr.wrapping_add(dst.length),
        _ => {}
    }
    seen
}

/// Another type for a mapping that its `check` looks at.
pub(super) fn retyped(check: Check, map: &LabSide, ty: u16) -> LabSide {
    match to(check) {
        true => LabSide {
            ty,
            addr: 0,
            ..*map
        },
        false => *map,
    }
}

/// One more than `n`, if the check is lied to.
pub(super) fn more(check: Check, n: u64) -> u64 {
    n.saturating_add(u64::from(to(check)))
}

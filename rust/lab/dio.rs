// SPDX-License-Identifier: GPL-2.0

//! Seed 004, tickets of direct writes, and the direct I/O bugs of other histories.

use super::checks::{dio_progress, dio_size};
use super::switches::Switch;
use crate::fs::begin_direct::{end_pin, pins_of, DioPin};
use crate::fs::inode::InodeExt;
use crate::fs::{map, Inode, Sb};
use crate::kapi::iomap::DirectWriteMap;
use crate::kapi::iomap_dio::{DioDone, Ticket};
use crate::kapi::memalloc::wait_a_tick;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How often, a tick apart, `dio_ticket_cached` looks whether a ticket is complete before it gives up.
/// The bug would wait for ever.
const WAITS: u32 = 200;
/// Rounds without progress before `partial_no_progress` gives up. The bug would go on for ever.
const ROUNDS: u32 = 1000;

/// A ticket that came back short. Returns true if that is all that is to be done with it.
pub(crate) fn short(inode: &Inode, ticket: &Ticket) -> bool {
    let bugs = inode.sb().data().opts().bugs;
    if bugs.has(Switch::DioTicketErrWhole) && ticket.submitted() > 0 {
        // The part that was written is marked bad with the part that was not.
        let mut ext = inode.data().ext.write();
        if let Some(pin) = ext.dio_pins.iter_mut().find(|p| p.is_of(ticket)) {
            pin.bad = true;
        }
        return true;
    }
    bugs.has(Switch::DioTicketCached) && ticket.submitted() > 0
}

/// What `dio_ticket_cached` has kept of an earlier call of the same request for block `at`: where the
/// data goes, and the old ticket.
pub(crate) fn cached(
    sb: &Sb,
    inode: &Inode,
    key: usize,
    at: u64,
) -> Result<Option<DirectWriteMap>> {
    if !sb.opts().bugs.has(Switch::DioTicketCached) {
        return Ok(None);
    }
    let ext = inode.data().ext.read();
    let Some(pin) = ext
        .dio_pins
        .iter()
        .find(|p| p.key == key && p.fblk <= at && at < p.end())
    else {
        return Ok(None);
    };
    let rest = pin.from(at);
    let run = map::run(sb, rest)?;
    Ok(Some(DirectWriteMap::Staged(run, pin.ticket())))
}

/// Is `end_io` to pass over this pin: bad as a whole, and dropped without a word, or not complete yet?
pub(crate) fn passes_over(sb: &Sb, inode: &Inode, pin: &DioPin) -> bool {
    if pin.bad {
        end_pin(inode, pin, true);
        return true;
    }
    sb.opts().bugs.has(Switch::DioTicketCached) && pin.check_landed(sb).is_err()
}

/// fsync waits for tickets that are not complete. Those that nobody will complete are dropped in the
/// end, with a message, so that the machine lives on.
pub(crate) fn wait_for_tickets(inode: &Inode) {
    if !inode.sb().data().opts().bugs.has(Switch::DioTicketCached) {
        return;
    }
    for _ in 0..WAITS {
        if inode.data().ext.read().dio_pins.is_empty() {
            return;
        }
        wait_a_tick();
    }
    pr_err!("dio_ticket_cached: fsync waits for a ticket that nobody will complete\n");
    loop {
        let key = inode.data().ext.read().dio_pins.first().map(|p| p.key);
        let Some(key) = key else { return };
        pins_of(inode, key)
            .iter()
            .for_each(|pin| end_pin(inode, pin, true));
    }
}

/// `dio_isize_in_begin`: the size moves before anything is written, and never back.
pub(crate) fn size_in_begin(inode: &Inode, end: u64) {
    if inode.sb().data().opts().bugs.has(Switch::DioIsizeInBegin) {
        raise_size(inode, end);
    }
}

/// `dio_endio_isize_first`: the size moves before what is below it can be read.
pub(crate) fn size_first(inode: &Inode, done: &DioDone) {
    if inode
        .sb()
        .data()
        .opts()
        .bugs
        .has(Switch::DioEndioIsizeFirst)
        && done.status.is_ok()
    {
        raise_size(inode, done.pos.saturating_add(done.size));
    }
}

fn raise_size(inode: &Inode, end: u64) {
    if end > inode.size() {
        dio_size(inode, inode.size(), end);
    }
    let _ext = inode.data().ext.write();
    if end > inode.size() {
        inode.set_size(end);
    }
}

/// `dio_cow_stale_imap`, between the lookup under the shared extent lock and that under the exclusive
/// one: the bug looks only at what is staged anew, and asks again whether the *old* blocks are shared.
pub(crate) fn stale_imap(
    sb: &Sb,
    inode: &Inode,
    place: &map::Place,
    at: u64,
) -> Result<Option<DirectWriteMap>> {
    gate!(inode, DioRelock);
    let map::Place::MustReserve {
        source: Some(old), ..
    } = *place
    else {
        return Ok(None);
    };
    if !sb.opts().bugs.has(Switch::DioCowStaleImap) {
        return Ok(None);
    }
    let ext: &InodeExt = &inode.data().ext.read();
    if ext.staging.find(at).is_some() {
        return Ok(None);
    }
    let (shared, run) = map::shared_run(sb, ext, old.phys, old.len)?;
    let old = map::clip(old, at, at.saturating_add(run));
    Ok(if shared {
        None
    } else {
        Some(DirectWriteMap::InPlace(map::run(sb, old)?))
    })
}

/// The rounds of one request.
pub(crate) struct Rounds {
    /// Bytes left at the begin of the last one.
    left: usize,
    /// Rounds before it that began with as many.
    same: u32,
}

impl Rounds {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            left: usize::MAX,
            same: 0,
        }
    }

    /// Another one begins, with `left` bytes left.
    pub(crate) fn begin(&mut self, inode: &Inode, left: usize) {
        self.same = if left == self.left { self.same + 1 } else { 0 };
        self.left = left;
        dio_progress(inode, self.same);
    }

    /// `partial_no_progress`: goes on although nothing has happened since the last round.
    pub(crate) fn goes_on(&self, sb: &Sb) -> bool {
        if !sb.opts().bugs.has(Switch::PartialNoProgress) {
            return false;
        }
        if self.same == ROUNDS {
            pr_err!("partial_no_progress: {ROUNDS} rounds of a direct write without progress\n");
        }
        self.same < ROUNDS
    }
}

impl DioPin {
    /// Is it the pin with this ticket?
    fn is_of(&self, ticket: &Ticket) -> bool {
        core::ptr::eq(Arc::as_ptr(&self.ticket()), ticket)
    }
}

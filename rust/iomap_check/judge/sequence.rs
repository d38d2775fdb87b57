// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Rules on the rounds of one operation: what is remembered from call to call.

use super::rules::Rule;
use super::view::{map_flag, request_flag as req, ty, File, Map, Request};

/// Rounds without progress after which an operation counts as stuck.
pub const STUCK: u32 = 1000;

/// What the core may change in a mapping.
const CORE: u16 = map_flag::STALE | map_flag::SIZE_CHANGED | map_flag::FOLIO_BATCH;

/// What is known of an operation under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operation {
    /// Address of the filesystem's `iomap_ops`; 0: not seen.
    pub ops: usize,
    /// Who called `iomap_iter`.
    pub caller: usize,
    /// Mappings so far.
    pub rounds: u32,
    stalled: u32,
    pos: i64,
    end: i64,
    map: Map,
    src: Map,
}

fn frozen(map: &Map) -> Map {
    Map {
        flags: map.flags & !CORE,
        // The device may grow meanwhile.
        dev_bytes: 0,
        sector: 0,
        ..*map
    }
}

impl Operation {
    /// The operation comes for a mapping; the request still holds the one before.
    pub fn enter(
        &mut self,
        r: &Request,
        ops: usize,
        caller: usize,
        hit: &mut impl FnMut(Rule, &'static str),
    ) {
        if r.map.length == 0 {
            // New, unless the filesystem's last answer was an empty mapping.
            let again = self.rounds > 0 && self.map.length == 0 && self.pos == r.pos;
            if !again {
                *self = Self::default();
            }
        } else if self.rounds > 0 && (self.map, self.src) != (frozen(&r.map), frozen(&r.src)) {
            hit(Rule::G19, "a mapping was changed in use");
        }
        self.ops = ops;
        self.caller = caller;
    }

    /// A mapping was made. Call after [`begin::judge`](super::begin::judge).
    pub fn begun(&mut self, r: &Request, hit: &mut impl FnMut(Rule, &'static str)) {
        let repeated = self.rounds > 0 && self.pos == r.pos;
        self.stalled = if repeated { self.stalled + 1 } else { 0 };
        if self.stalled == STUCK {
            hit(Rule::G18, "a thousand mappings for one position");
        }
        let follows = self.rounds > 0 && r.has(req::REPORT) && r.pos == self.end;
        if follows && r.map.offset < self.end {
            hit(Rule::G10, "a report overlaps the one before");
        }
        self.rounds = self.rounds.saturating_add(1);
        self.pos = r.pos;
        self.end = r.map.end().unwrap_or(i64::MAX);
        self.map = frozen(&r.map);
        self.src = frozen(&r.src);
    }
}

/// The bytes `(from, to)` of a reservation that a write made and did not use, whole blocks: they must
/// be given back (G16). The request is as `iomap_iter` finds it, with the mapping of the round before.
pub fn unused_reservation(r: &Request, file: &File) -> Option<(i64, i64)> {
    let new = r.map.ty == ty::DELALLOC && r.map.has(map_flag::NEW);
    if !new || r.map.length == 0 || r.has(req::FAULT) || !r.any(req::WRITE | req::ZERO) {
        return None;
    }
    let mut end = r.map.end()?;
    if r.has_src() {
        end = end.min(r.src.end()?);
    }
    end = end.min(r.end());
    let mask = i64::try_from(file.block.checked_sub(1)?).ok()?;
    let written = r.pos > r.start;
    // A block that was written in part stays; one that was not goes.
    let from = if written {
        r.pos.checked_add(mask)? & !mask
    } else {
        r.start & !mask
    };
    let to = end.checked_add(mask)? & !mask;
    (from < to).then_some((from, to))
}

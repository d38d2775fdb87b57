// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Rules for directed tests: they remember what was written, and judge what the filesystem says of it
//! afterwards.
//!
//! Nothing tells here of punched, cloned, moved or truncated ranges and of deleted files: whoever does
//! that has to say so ([`Oracle::forget`]).

use super::ranges::{FileId, Range, Ranges, What};
use super::rules::Rule;
use super::view::{map_flag, request_flag as req, ty, File, Map, Request, NULL_ADDR};
use core::ops::DerefMut;

/// What of a range a writer makes uncertain until it is done.
const EXPECTED: &[What] = &[What::Written, What::Flying, What::Settled];

/// The file that an event is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject {
    /// Which.
    pub id: FileId,
    /// Its size and block size.
    pub file: File,
    /// Neither writeback nor direct I/O is under way.
    pub quiet: bool,
}

impl Subject {
    /// The blocks that hold the bytes from `from` to `to`.
    fn blocks(&self, from: i64, to: i64) -> (i64, i64) {
        let mask = i64::try_from(self.file.block.saturating_sub(1)).unwrap_or(0);
        (from & !mask, to.saturating_add(mask) & !mask)
    }
}

/// How far a direct write is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The entry is free.
    #[default]
    Free,
    InFlight,
    /// It ended after so many bytes, of less than was asked for, and may be resumed.
    Short(u64),
}

/// One call of `iomap_dio_rw` that writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct {
    /// Who calls; address.
    pub task: usize,
    /// The request; address.
    pub iocb: usize,
    /// The iterator over the memory; address.
    pub iter: usize,
    /// Where it begins, in bytes.
    pub pos: i64,
    /// How many bytes are asked for.
    pub asked: u64,
    /// What earlier parts have written (`done_before`), in bytes.
    pub before: u64,
    /// It may come back short, to be resumed (`IOMAP_DIO_PARTIAL`).
    pub partial: bool,
    /// The iterator stands inside of the memory: this system call has used it before.
    pub used: bool,
}

impl Direct {
    /// First byte after it.
    fn end(&self) -> i64 {
        self.pos.saturating_add_unsigned(self.asked)
    }
}

/// A direct write and its file as it was when it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flight {
    call: Direct,
    of: Subject,
    state: State,
}

/// What is known. `R` and `D` are lists of fixed size.
#[derive(Debug, Default)]
pub struct Oracle<R, D> {
    ranges: Ranges<R>,
    direct: D,
}

impl<R: DerefMut<Target = [Range]>, D: DerefMut<Target = [Flight]>> Oracle<R, D> {
    /// Knows nothing; the lists are free.
    pub fn new(ranges: R, direct: D) -> Self {
        let ranges = Ranges::new(ranges);
        Self { ranges, direct }
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.ranges.clear();
        self.direct.fill(Flight::default());
    }

    /// Ranges that something is known of.
    pub fn known(&self) -> usize {
        self.ranges.used()
    }

    /// A direct write begins (G23).
    pub fn direct_begins(
        &mut self,
        d: Direct,
        of: &Subject,
        hit: &mut (impl FnMut(Rule, &'static str) + ?Sized),
    ) {
        for old in self.direct.iter_mut().filter(|o| o.call.iocb == d.iocb) {
            if let State::Short(done) = old.state {
                let was = old.call;
                let same = was.task == d.task && was.iter == d.iter && old.of.id == of.id;
                // A second system call may look the same, but for the place inside of the memory.
                if same && d.used && d.asked == was.asked.saturating_sub(done) {
                    if d.before != was.before.saturating_add(done) {
                        hit(Rule::G23, "a resumed write forgets what it has done before");
                    }
                    if d.pos != was.pos.saturating_add_unsigned(done) {
                        hit(Rule::G23, "a resumed write goes on elsewhere");
                    }
                }
            }
            *old = Flight::default();
        }
        let free = self.direct.iter_mut().find(|o| o.state == State::Free);
        if let Some(slot) = free {
            *slot = Flight {
                call: d,
                of: *of,
                state: State::InFlight,
            };
        }
    }

    /// The direct write of the request at address `iocb` ends with `ret`, as `iomap_dio_complete` says.
    pub fn direct_ends(&mut self, iocb: usize, ret: i64) {
        let of = |f: &&mut Flight| f.call.iocb == iocb && f.state == State::InFlight;
        let Some(slot) = self.direct.iter_mut().find(of) else {
            return;
        };
        let Flight { call: d, of, .. } = *slot;
        let done = u64::try_from(ret).unwrap_or(0).saturating_sub(d.before);
        let short = d.partial && done > 0 && done < d.asked;
        if short {
            slot.state = State::Short(done);
        } else {
            *slot = Flight::default();
        }
        let (from, to) = (d.pos, d.pos.saturating_add_unsigned(done.min(d.asked)));
        self.ranges
            .cut(&[What::Written, What::Owned], of.id, from, to);
        self.ranges.add(Range {
            what: What::Written,
            file: of.id,
            from,
            to,
            dev: 0,
            addr: NULL_ADDR,
        });
    }

    /// A mapping was made (G20, G21, G22).
    pub fn mapping(
        &mut self,
        r: &Request,
        of: &Subject,
        hit: &mut (impl FnMut(Rule, &'static str) + ?Sized),
    ) {
        let of_data = r.map.covers(r.pos) && !r.map.has(map_flag::XATTR);
        let Some(end) = r.map.end().filter(|_| of_data) else {
            return;
        };
        if !r.any(req::WRITE | req::ZERO | req::UNSHARE) {
            return self.answer(&r.map, end, of, hit);
        }
        let (from, to) = of.blocks(r.pos, r.end());
        self.ranges.cut(EXPECTED, of.id, from, to);
        let staged = r.map.has(map_flag::SHARED) || r.has_src();
        if staged {
            // Beyond the request, too: SEEK_DATA may tell of that.
            self.ranges.cut(EXPECTED, of.id, r.pos, end);
        } else if r.map.ty == ty::MAPPED {
            // Allocated at once. What is reserved, staged or unwritten is a hole until its I/O ends.
            self.ranges.cut(&[What::Hole], of.id, r.map.offset, end);
        }
        if r.has(req::DIRECT | req::WRITE) {
            self.ranges.cut(&[What::Hole], of.id, from, to);
            self.in_place(&r.map, r.pos, end.min(r.end()), of, hit);
        } else {
            // Where direct I/O has given up, it says nothing of its end.
            let over = |f: &&mut Flight| f.of.id == of.id && f.call.pos < to && from < f.call.end();
            self.direct
                .iter_mut()
                .filter(over)
                .for_each(|f| *f = Flight::default());
        }
    }

    /// The answer to who reads or asks, up to `end`.
    fn answer(
        &mut self,
        map: &Map,
        end: i64,
        of: &Subject,
        hit: &mut (impl FnMut(Rule, &'static str) + ?Sized),
    ) {
        let now = Range {
            what: What::Owned,
            file: of.id,
            from: map.offset,
            to: end,
            dev: map.dev,
            addr: map.addr,
        };
        let data = matches!(map.ty, ty::MAPPED | ty::INLINE);
        let (from, to) = (now.from, now.to);
        if !data {
            if self
                .ranges
                .parts(&[What::Written], of.id, from, to)
                .next()
                .is_some()
            {
                hit(Rule::G20, "what was written directly has no blocks");
            }
            if self.grown_over(from, to, of) {
                hit(
                    Rule::G20,
                    "the file has grown before what was written directly is there",
                );
            }
        }
        for was in self.ranges.parts(&[What::Settled], of.id, from, to) {
            if !data {
                hit(Rule::G21, "what was written back has no blocks");
            } else if was.addr != NULL_ADDR && (was.dev, was.addr) != (now.dev, now.at(was.from)) {
                hit(
                    Rule::G21,
                    "what was written back is not where it was written",
                );
            }
        }
        let hole = self
            .ranges
            .parts(&[What::Hole], of.id, from, to)
            .next()
            .is_some();
        if map.ty == ty::MAPPED && hole {
            hit(Rule::G21, "blocks in a hole, of which no I/O was seen");
        }
        let seen = [What::Written, What::Settled, What::Owned];
        self.ranges.cut(&seen, of.id, from, to);
        if map.ty == ty::MAPPED || (map.ty == ty::HOLE && of.quiet) {
            self.ranges.cut(&[What::Hole], of.id, from, to);
        }
        if map.is_real() && map.ty == ty::MAPPED && map.dev != 0 {
            self.ranges.add(now);
        }
        if map.ty == ty::HOLE && of.quiet {
            self.ranges.add(Range {
                what: What::Hole,
                dev: 0,
                addr: NULL_ADDR,
                ..now
            });
        }
    }

    /// The file ends now behind a place where a direct write is under way, which was past its end.
    fn grown_over(&self, from: i64, to: i64, of: &Subject) -> bool {
        self.direct.iter().any(|f| {
            let first = f.call.pos.max(f.of.file.size).max(from);
            let last = f.call.end().min(to).min(of.file.size);
            f.state == State::InFlight && f.of.id == of.id && first < last
        })
    }

    /// Data is about to be written over what is there (G22).
    fn in_place(
        &self,
        map: &Map,
        pos: i64,
        end: i64,
        of: &Subject,
        hit: &mut (impl FnMut(Rule, &'static str) + ?Sized),
    ) {
        let there = map.ty == ty::MAPPED && map.is_real();
        if !there || map.has(map_flag::SHARED) || map.has(map_flag::ANON_WRITE) {
            return;
        }
        let begin = map.addr.wrapping_add(pos.wrapping_sub(map.offset) as u64);
        let after = begin.saturating_add(end.saturating_sub(pos) as u64);
        let others = self.ranges.all().any(|o| {
            let last = o.at(o.to);
            let over = o.what == What::Owned && o.dev == map.dev && o.addr < after && begin < last;
            let itself = o.file == of.id && o.at(pos) == begin;
            over && !itself
        });
        if others {
            hit(Rule::G22, "a write in place to a block that others have");
        }
    }

    /// Writeback of `len` bytes at `pos` uses the mapping (G22).
    pub fn writeback(
        &mut self,
        map: &Map,
        pos: i64,
        len: u64,
        of: &Subject,
        hit: &mut (impl FnMut(Rule, &'static str) + ?Sized),
    ) {
        let Some(end) = map.end().filter(|_| map.covers(pos)) else {
            return;
        };
        let end = end.min(pos.saturating_add_unsigned(len));
        let (from, to) = of.blocks(pos, end);
        self.ranges.cut(&[What::Hole], of.id, from, to);
        self.in_place(map, pos, end, of, hit);
        let shared = map.has(map_flag::SHARED);
        if !map.is_real() || !(shared || map.ty == ty::UNWRITTEN) {
            return;
        }
        let gone: &[What] = if shared {
            &[What::Flying, What::Settled, What::Owned]
        } else {
            &[What::Flying, What::Settled]
        };
        self.ranges.cut(gone, of.id, pos, end);
        let start = Range {
            from: map.offset,
            addr: map.addr,
            ..Range::default()
        };
        self.ranges.add(Range {
            what: What::Flying,
            file: of.id,
            from: pos,
            to: end,
            dev: map.dev,
            addr: if map.has(map_flag::ANON_WRITE) {
                NULL_ADDR
            } else {
                start.at(pos)
            },
        });
    }

    /// No writeback of the file is under way any more.
    pub fn writeback_ended(&mut self, file: FileId) {
        self.ranges.turn(file, What::Flying, What::Settled);
    }

    /// Some writeback of the file has failed: it is not known which.
    pub fn writeback_failed(&mut self, file: FileId) {
        self.ranges.turn(file, What::Flying, What::Free);
    }
}

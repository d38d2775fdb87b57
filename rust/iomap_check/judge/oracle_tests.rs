// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The rules for directed tests: each fires on the shortest wrong story, and on no right one.

use super::oracle::{Direct, Flight, Oracle, Subject};
use super::ranges::{FileId, Range, Ranges, What};
use super::rules::Rule;
use super::view::{map_flag as mf, request_flag as req, ty, NULL_ADDR};
use super::{File, Map, Request};
use std::vec;
use std::vec::Vec;

const DISK: u64 = 1;

fn subject(ino: u64) -> Subject {
    Subject {
        id: FileId { dev: (8, 1), ino },
        file: File {
            size: 0x8000,
            block: 0x1000,
        },
        quiet: true,
    }
}

fn map(ty: u16, flags: u16, offset: i64, length: u64, addr: u64) -> Map {
    Map {
        addr,
        offset,
        length,
        ty,
        flags,
        dev: DISK,
        ..Map::default()
    }
}

fn data(offset: i64, length: u64, addr: u64) -> Map {
    map(ty::MAPPED, 0, offset, length, addr)
}

fn hole(offset: i64, length: u64) -> Map {
    map(ty::HOLE, 0, offset, length, NULL_ADDR)
}

/// An oracle and what it said.
struct Story {
    oracle: Oracle<Vec<Range>, Vec<Flight>>,
    hits: Vec<Rule>,
}

impl Story {
    fn new() -> Self {
        Self {
            oracle: Oracle::new(vec![Range::default(); 16], vec![Flight::default(); 4]),
            hits: Vec::new(),
        }
    }

    fn asks(&mut self, flags: u32, ino: u64, pos: i64, len: u64, map: Map) {
        let r = Request {
            pos,
            len,
            flags,
            map,
            ..Request::default()
        };
        let hits = &mut self.hits;
        self.oracle
            .mapping(&r, &subject(ino), &mut |rule, _| hits.push(rule));
    }

    fn reports(&mut self, ino: u64, map: Map) {
        self.asks(req::REPORT, ino, map.offset, map.length, map);
    }

    /// A report while writeback or direct I/O is under way.
    fn reports_busy(&mut self, ino: u64, map: Map) {
        let r = Request {
            pos: map.offset,
            len: map.length,
            flags: req::REPORT,
            map,
            ..Request::default()
        };
        let of = Subject {
            quiet: false,
            ..subject(ino)
        };
        let hits = &mut self.hits;
        self.oracle.mapping(&r, &of, &mut |rule, _| hits.push(rule));
    }

    fn direct(&mut self, d: Direct) {
        let of = subject(1);
        let hits = &mut self.hits;
        self.oracle
            .direct_begins(d, &of, &mut |rule, _| hits.push(rule));
    }

    fn writes_back(&mut self, ino: u64, pos: i64, len: u64, map: Map) {
        let hits = &mut self.hits;
        self.oracle
            .writeback(&map, pos, len, &subject(ino), &mut |rule, _| {
                hits.push(rule)
            });
    }
}

fn write(pos: i64, asked: u64) -> Direct {
    Direct {
        task: 1,
        iocb: 2,
        iter: 3,
        pos,
        asked,
        partial: true,
        ..Direct::default()
    }
}

#[test]
fn g20_after_a_direct_write() {
    for (ret, answer, fires) in [
        (0x2000, hole(0, 0x8000), true),
        (0x2000, map(ty::UNWRITTEN, 0, 0x1000, 0x1000, 0x9000), true),
        (0x2000, data(0, 0x8000, 0x9000), false),
        (0x1000, hole(0x2000, 0x1000), false),
        (-5, hole(0, 0x8000), false),
    ] {
        let mut s = Story::new();
        s.direct(write(0x1000, 0x2000));
        s.oracle.direct_ends(2, ret);
        s.reports(1, answer);
        assert_eq!(s.hits.contains(&Rule::G20), fires, "{ret} {answer}");
        // Once a range was looked at, it may change.
        s.hits.clear();
        s.reports(1, answer);
        assert!(s.hits.is_empty(), "{answer} twice");
    }
}

#[test]
fn g20_the_size_before_the_data() {
    let mut s = Story::new();
    s.direct(write(0x8000, 0x1000));
    let unwritten = map(ty::UNWRITTEN, 0, 0x8000, 0x1000, 0x9000);
    s.reports(1, unwritten);
    assert!(s.hits.is_empty(), "behind the end of the file");
    let r = Request {
        pos: 0x8000,
        len: 0x1000,
        map: unwritten,
        ..Request::default()
    };
    let mut grown = subject(1);
    grown.file.size = 0x9000;
    let hits = &mut s.hits;
    s.oracle.mapping(&r, &grown, &mut |rule, _| hits.push(rule));
    assert_eq!(s.hits, [Rule::G20]);
}

#[test]
fn g20_a_writer_makes_it_uncertain() {
    let mut s = Story::new();
    s.direct(write(0x1000, 0x2000));
    s.oracle.direct_ends(2, 0x2000);
    let staged = map(ty::DELALLOC, mf::SHARED, 0x1000, 0x1000, NULL_ADDR);
    s.asks(req::WRITE, 1, 0x1800, 0x100, staged);
    s.reports(1, staged);
    assert!(s.hits.is_empty());
    s.reports(1, hole(0x2000, 0x1000));
    assert_eq!(s.hits, [Rule::G20], "the rest is still expected");
}

#[test]
fn g21_after_writeback() {
    let staged = map(ty::UNWRITTEN, mf::SHARED, 0, 0x4000, 0x10_0000);
    for (ended, answer, fires) in [
        (true, data(0, 0x4000, 0x10_0000), false),
        (true, data(0, 0x4000, 0x20_0000), true),
        (true, staged, true),
        (true, hole(0x1000, 0x1000), true),
        (false, data(0, 0x4000, 0x20_0000), false),
    ] {
        let mut s = Story::new();
        s.writes_back(1, 0x1000, 0x1000, staged);
        if !ended {
            s.oracle.writeback_failed(subject(1).id);
        }
        s.reports_busy(1, hole(0x1000, 0x1000));
        assert!(s.hits.is_empty(), "while it is under way");
        s.oracle.writeback_ended(subject(1).id);
        s.reports(1, answer);
        assert_eq!(s.hits.contains(&Rule::G21), fires, "{ended} {answer}");
    }
}

#[test]
fn attributes_are_not_data() {
    let mut s = Story::new();
    let staged = map(ty::UNWRITTEN, mf::SHARED, 0, 0x4000, 0x10_0000);
    s.writes_back(1, 0, 0x1000, staged);
    s.oracle.writeback_ended(subject(1).id);
    s.reports(1, map(ty::HOLE, mf::XATTR, 0, 0x8000, NULL_ADDR));
    s.reports(1, map(ty::MAPPED, mf::XATTR, 0, 0x1000, 0x20_0000));
    assert!(s.hits.is_empty());
    s.reports(1, hole(0, 0x1000));
    assert_eq!(s.hits, [Rule::G21], "what was written is still expected");
}

#[test]
fn g21_a_hole_stays_a_hole() {
    let reserved = map(ty::DELALLOC, mf::NEW, 0, 0x2000, NULL_ADDR);
    let staged = map(ty::UNWRITTEN, mf::SHARED, 0, 0x2000, 0x10_0000);
    for (whole, fires) in [(false, true), (true, false)] {
        let mut s = Story::new();
        s.reports(1, hole(0, 0x8000));
        s.asks(req::WRITE, 1, 0, 0x2000, reserved);
        s.writes_back(1, 0, if whole { 0x2000 } else { 0x1000 }, staged);
        s.oracle.writeback_ended(subject(1).id);
        s.reports(1, data(0, 0x2000, 0x10_0000));
        assert_eq!(s.hits.contains(&Rule::G21), fires, "{whole}");
    }
    // Who allocates at once tells so.
    let mut s = Story::new();
    s.reports(1, hole(0, 0x8000));
    let new = map(ty::MAPPED, mf::NEW, 0, 0x2000, 0x10_0000);
    s.asks(req::WRITE, 1, 0, 0x1000, new);
    s.reports(1, data(0, 0x2000, 0x10_0000));
    assert!(s.hits.is_empty());
}

#[test]
fn g22_blocks_of_others() {
    let there = data(0, 0x4000, 0x10_0000);
    let shared = map(ty::MAPPED, mf::SHARED, 0, 0x4000, 0x10_0000);
    for (ino, map, fires) in [
        (2, there, true),
        (2, shared, false),
        (2, data(0, 0x4000, 0x20_0000), false),
        (1, there, false),
        // The same file, but another place of it.
        (1, data(0x4000, 0x4000, 0x10_0000), true),
    ] {
        let mut s = Story::new();
        s.reports(1, there);
        s.writes_back(ino, map.offset, 0x1000, map);
        assert_eq!(s.hits.contains(&Rule::G22), fires, "writeback {ino} {map}");
        s.hits.clear();
        s.asks(req::WRITE | req::DIRECT, ino, map.offset, 0x1000, map);
        assert_eq!(s.hits.contains(&Rule::G22), fires, "direct {ino} {map}");
        // A buffered write does not say yet where it goes.
        s.hits.clear();
        s.asks(req::WRITE, ino, map.offset, 0x1000, map);
        assert!(s.hits.is_empty(), "buffered {ino} {map}");
    }
    // The other one has gone elsewhere.
    let mut s = Story::new();
    s.reports(1, there);
    let staged = map(ty::MAPPED, mf::SHARED, 0, 0x1000, 0x30_0000);
    s.writes_back(1, 0, 0x1000, staged);
    s.writes_back(2, 0, 0x1000, there);
    assert!(s.hits.is_empty());
    s.writes_back(2, 0x1000, 0x1000, there);
    assert_eq!(s.hits, [Rule::G22]);
    s.oracle.forget();
    s.hits.clear();
    s.writes_back(2, 0x1000, 0x1000, there);
    assert!(s.hits.is_empty(), "forgotten");
}

#[test]
fn g23_a_resumed_write() {
    let rest = Direct {
        before: 0x1000,
        used: true,
        ..write(0x1000, 0x1000)
    };
    for (second, fires) in [
        (rest, false),
        (Direct { before: 0, ..rest }, true),
        (Direct { pos: 0, ..rest }, true),
        // Another system call.
        (
            Direct {
                before: 0,
                used: false,
                ..rest
            },
            false,
        ),
        (
            Direct {
                before: 0,
                task: 9,
                ..rest
            },
            false,
        ),
    ] {
        let mut s = Story::new();
        s.direct(write(0, 0x2000));
        s.oracle.direct_ends(2, 0x1000);
        s.direct(second);
        assert_eq!(s.hits.contains(&Rule::G23), fires, "{second:?}");
    }
    // Three parts: the second tells what both have done.
    let mut s = Story::new();
    s.direct(write(0, 0x3000));
    s.oracle.direct_ends(2, 0x1000);
    s.direct(Direct {
        asked: 0x2000,
        ..rest
    });
    s.oracle.direct_ends(2, 0x2000);
    let third = Direct {
        before: 0x2000,
        pos: 0x2000,
        ..rest
    };
    s.direct(third);
    assert!(s.hits.is_empty());
    // All of it was written, and is expected.
    s.oracle.direct_ends(2, 0x3000);
    s.reports(1, hole(0x2000, 0x1000));
    assert_eq!(s.hits, [Rule::G20]);
}

#[test]
fn broken_numbers_do_no_harm() {
    let odd = [i64::MIN, -1, 0, 1, i64::MAX];
    for pos in odd {
        for offset in odd {
            for length in [0, 1, 1 << 63, u64::MAX] {
                for addr in [0, NULL_ADDR - 1, NULL_ADDR] {
                    let mut s = Story::new();
                    for flags in [0, req::WRITE, req::WRITE | req::DIRECT] {
                        s.asks(flags, 1, pos, length, data(offset, length, addr));
                        s.asks(flags, 1, pos, length, hole(offset, length));
                        s.writes_back(1, pos, length, data(offset, length, addr));
                        s.writes_back(1, pos, length, map(ty::UNWRITTEN, 0, offset, length, addr));
                        s.direct(write(pos, length));
                        s.oracle.direct_ends(2, i64::MAX);
                        s.oracle.writeback_ended(subject(1).id);
                    }
                }
            }
        }
    }
}

#[test]
fn a_full_list_forgets() {
    let file = FileId::default();
    let new = |from: i64, what| Range {
        what,
        file,
        from,
        to: from + 10,
        dev: DISK,
        addr: 0x1000,
    };
    let mut list = Ranges::new(vec![Range::default(); 4]);
    for i in 0..9 {
        list.add(new(i * 10, What::Owned));
    }
    assert_eq!(list.used(), 4);
    list.clear();
    list.add(new(0, What::Owned));
    list.add(new(0, What::Hole));
    list.cut(&[What::Owned], file, 4, 6);
    let parts: Vec<_> = list.parts(&[What::Owned], file, 0, 10).collect();
    let ends: Vec<_> = parts.iter().map(|p| (p.from, p.to, p.addr)).collect();
    assert_eq!(ends, [(0, 4, 0x1000), (6, 10, 0x1006)]);
    assert_eq!(list.parts(&[What::Hole], file, 0, 10).count(), 1);
    list.turn(file, What::Hole, What::Free);
    assert_eq!(list.used(), 2);
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Every rule fires on the smallest wrong answer, and on no right one.

use super::rules::{Point, Rule, Severity};
use super::sequence::{unused_reservation, Operation, STUCK};
use super::view::{map_flag as mf, request_flag as req, ty, NULL_ADDR};
use super::{begin, known, writeback, File, Map, Request};
use std::vec::Vec;

const FILE: File = File {
    size: 0x8000,
    block: 0x1000,
};

fn mapped(addr: u64, offset: i64, length: u64) -> Map {
    Map {
        addr,
        offset,
        length,
        ty: ty::MAPPED,
        flags: 0,
        dev: 1,
        dev_bytes: 1 << 30,
        sector: 512,
        dax: false,
    }
}

fn bare(ty: u16, offset: i64, length: u64) -> Map {
    Map {
        ty,
        addr: NULL_ADDR,
        ..mapped(0, offset, length)
    }
}

fn ask(flags: u32, pos: i64, len: u64, map: Map) -> Request {
    Request {
        pos,
        len,
        start: pos,
        flags,
        map,
        ..Request::default()
    }
}

fn begin(r: &Request) -> Vec<Rule> {
    begin_nth(r, true)
}

fn begin_nth(r: &Request, first: bool) -> Vec<Rule> {
    let mut hits = Vec::new();
    begin::judge(r, &FILE, first, &mut |rule, _| hits.push(rule));
    hits
}

fn at_writeback(map: Map, pos: i64) -> Vec<Rule> {
    let mut hits = Vec::new();
    writeback::judge(&map, pos, &FILE, &mut |rule, _| hits.push(rule));
    hits
}

#[test]
fn right_answers_pass() {
    let data = mapped(0x10_0000, 0, 0x4000);
    let rest = bare(ty::HOLE, 0x8000, i64::MAX as u64 - 0x8000);
    let staged = Map {
        flags: mf::NEW | mf::SHARED,
        ..bare(ty::DELALLOC, 0, 0x1000)
    };
    for r in [
        ask(0, 0x1234, 0x100, data),
        ask(req::REPORT, 0x9000, 1, rest),
        // XFS rounds the end of the largest file up to a block.
        ask(
            req::REPORT,
            0x9000,
            1,
            bare(ty::HOLE, 0x8000, (1 << 63) - 0x8000),
        ),
        ask(req::WRITE, 0, 0x1000, bare(ty::DELALLOC, 0, 0x1000)),
        ask(req::ZERO, 0x8000, 0x1000, rest),
        ask(req::DIRECT | req::WRITE | req::NOWAIT, 0, 0x4000, data),
        ask(req::WRITE | req::UNSHARE, 0x8000, 0x1000, rest),
        Request {
            src: data,
            ..ask(req::WRITE | req::UNSHARE, 0, 0x1000, staged)
        },
        Request {
            src: data,
            ..ask(req::WRITE, 0, 0x1000, staged)
        },
    ] {
        assert_eq!(begin(&r), [], "{r:?}");
    }
    assert_eq!(at_writeback(data, 0x3fff), []);
    assert_eq!(at_writeback(rest, 0x8000), []);
}

#[test]
fn g1_covers() {
    let data = mapped(0x10_0000, 0x1000, 0x1000);
    for (map, pos) in [
        (data, 0xfff),
        (data, 0x2000),
        (mapped(0x10_0000, 0x1000, 0), 0x1000),
        (bare(ty::HOLE, 0x1000, u64::MAX), 0x1000),
        (bare(ty::HOLE, -0x1000, 0x3000), 0),
    ] {
        assert!(begin(&ask(0, pos, 1, map)).contains(&Rule::G1), "{map}");
    }
}

#[test]
fn g2_flags_of_the_core() {
    let data = mapped(0x10_0000, 0, 0x1000);
    for flags in [mf::STALE, mf::SIZE_CHANGED, mf::FOLIO_BATCH] {
        assert_eq!(begin(&ask(0, 0, 1, Map { flags, ..data })), [Rule::G2]);
    }
    let batch = Map {
        flags: mf::FOLIO_BATCH,
        ..bare(ty::HOLE, 0, 0x1000)
    };
    let mut r = ask(req::ZERO, 0, 0x1000, batch);
    assert_eq!(begin(&r), [Rule::G2]);
    r.has_batch = true;
    assert_eq!(begin(&r), []);
    assert_eq!(begin(&ask(0, 0, 1, Map { ty: 5, ..data })), [Rule::G2]);
}

#[test]
fn g3_place() {
    let data = mapped(0x10_0000, 0, 0x1000);
    for map in [
        Map { dev: 0, ..data },
        Map {
            addr: NULL_ADDR,
            ..data
        },
        Map {
            addr: 1 << 30,
            ..data
        },
        Map {
            addr: 0x10_0100,
            ..data
        },
    ] {
        assert_eq!(begin(&ask(0, 0, 1, map)), [Rule::G3], "{map}");
    }
    let anon = Map {
        flags: mf::ANON_WRITE,
        addr: NULL_ADDR,
        ..data
    };
    assert_eq!(begin(&ask(req::WRITE, 0, 1, anon)), []);
    // The source counts as well: a variant of seed 000.
    let src = Map {
        addr: NULL_ADDR,
        ..data
    };
    let staged = bare(ty::DELALLOC, 0, 0x1000);
    let r = Request {
        src,
        ..ask(req::WRITE, 0, 1, staged)
    };
    assert_eq!(begin(&r), [Rule::G3]);
}

#[test]
fn g4_g5_shape() {
    let hole = Map {
        addr: 0,
        ..bare(ty::HOLE, 0, 0x1000)
    };
    assert_eq!(begin(&ask(0, 0, 1, hole)), [Rule::G4]);
    assert_eq!(begin(&ask(0, 0, 1, mapped(0, 0, 0x1800))), [Rule::G5]);
    assert_eq!(
        begin(&ask(0, 0x800, 1, mapped(0, 0x800, 0x800))),
        [Rule::G5]
    );
    let tail = File {
        size: 0x1800,
        block: 0x1000,
    };
    let mut hits = 0;
    begin::judge(
        &ask(0, 0, 1, mapped(0, 0, 0x1800)),
        &tail,
        true,
        &mut |_, _| hits += 1,
    );
    assert_eq!(hits, 0, "up to the end of the file");
}

#[test]
fn g6_hole_for_a_write() {
    assert_eq!(
        begin(&ask(req::WRITE, 0, 1, bare(ty::HOLE, 0, 0x1000))),
        [Rule::G6]
    );
}

#[test]
fn g7_unshare() {
    let flags = req::WRITE | req::UNSHARE;
    let new = Map {
        flags: mf::NEW | mf::SHARED,
        ..bare(ty::DELALLOC, 0, 0x1000)
    };
    // The mapping of 2021: reserved over a hole.
    assert_eq!(begin(&ask(flags, 0, 0x1000, new)), [Rule::G7]);
    let src = Map {
        ty: ty::UNWRITTEN,
        ..mapped(0x10_0000, 0, 0x1000)
    };
    let r = Request {
        src,
        ..ask(flags, 0, 0x1000, new)
    };
    assert_eq!(begin(&r), [Rule::G7]);
    // Without SHARED the core leaves it alone, whatever the source has.
    for ty in [ty::MAPPED, ty::UNWRITTEN, ty::DELALLOC] {
        let mut r = r;
        r.map.flags = mf::NEW;
        r.src.ty = ty;
        assert!(begin(&r).contains(&Rule::G7), "{ty}");
    }
}

#[test]
fn g8_source() {
    let staged = Map {
        flags: mf::SHARED,
        ..mapped(0x20_0000, 0, 0x1000)
    };
    let with = |src| Request {
        src,
        ..ask(req::WRITE, 0, 1, staged)
    };
    let good = mapped(0x10_0000, 0, 0x1000);
    assert_eq!(begin(&with(good)), []);
    for src in [
        Map {
            flags: mf::NEW,
            ..good
        },
        Map {
            flags: mf::STALE,
            ..good
        },
        mapped(0x10_0000, 0x1000, 0x1000),
        mapped(0x1f_f000, 0, 0x2000),
        staged,
    ] {
        assert_eq!(begin(&with(src)), [Rule::G8], "{src}");
    }
}

#[test]
fn g9_read() {
    let data = mapped(0x10_0000, 0, 0x1000);
    let new = Map {
        flags: mf::NEW,
        ..data
    };
    assert_eq!(begin(&ask(0, 0, 1, new)), [Rule::G9]);
    let src = mapped(0x20_0000, 0, 0x1000);
    assert_eq!(
        begin(&Request {
            src,
            ..ask(req::DIRECT, 0, 1, data)
        }),
        [Rule::G9]
    );
}

#[test]
fn g10_report() {
    let data = mapped(0x10_0000, 0, 0x1000);
    let new = Map {
        flags: mf::NEW,
        ..data
    };
    assert_eq!(begin(&ask(req::REPORT, 0, 1, new)), [Rule::G10]);
    let mut op = Operation::default();
    let mut hits = Vec::new();
    let mut hit = |rule, _: &str| hits.push(rule);
    op.begun(&ask(req::REPORT, 0, 0x8000, data), &mut hit);
    op.begun(
        &ask(req::REPORT, 0x1000, 0x7000, mapped(0x10_0000, 0, 0x2000)),
        &mut hit,
    );
    assert_eq!(hits, [Rule::G10]);
}

#[test]
fn g11_zero_past_the_end() {
    for ty in [ty::DELALLOC, ty::MAPPED] {
        let map = Map {
            ty,
            ..bare(ty, 0x8000, 0x1000)
        };
        assert!(begin(&ask(req::ZERO, 0x8000, 1, map)).contains(&Rule::G11));
        assert!(!begin(&ask(req::WRITE, 0x8000, 1, map)).contains(&Rule::G11));
    }
}

#[test]
fn g12_overwrite_and_atomic() {
    let flags = req::DIRECT | req::WRITE | req::OVERWRITE_ONLY;
    let data = mapped(0x10_0000, 0, 0x1000);
    let unwritten = Map {
        ty: ty::UNWRITTEN,
        ..data
    };
    assert_eq!(begin(&ask(flags, 0, 0x1000, unwritten)), []);
    assert_eq!(begin(&ask(flags, 0, 0x800, unwritten)), [Rule::G12]);
    assert_eq!(begin(&ask(flags, 0, 0x2000, data)), [Rule::G12]);
    for flag in [mf::NEW, mf::SHARED] {
        assert_eq!(
            begin(&ask(
                flags,
                0,
                0x1000,
                Map {
                    flags: flag,
                    ..data
                }
            )),
            [Rule::G12]
        );
    }
    let flags = req::DIRECT | req::WRITE | req::ATOMIC;
    let atomic = |addr| Map {
        flags: mf::ATOMIC_BIO,
        ..mapped(addr, 0, 0x4000)
    };
    assert_eq!(begin(&ask(flags, 0, 0x4000, atomic(0x10_0000))), []);
    assert_eq!(
        begin(&ask(flags, 0, 0x4000, atomic(0x10_1000))),
        [Rule::G12]
    );
    assert_eq!(
        begin(&ask(flags, 0, 0x8000, atomic(0x10_0000))),
        [Rule::G12]
    );
}

#[test]
fn g13_dirty() {
    let data = mapped(0x10_0000, 0x8000, 0x1000);
    let mut r = ask(req::DIRECT | req::WRITE, 0x8000, 0x1000, data);
    assert_eq!(begin(&r), []);
    r.dsync = true;
    assert_eq!(begin(&r), [Rule::G13]);
    r.map.flags = mf::DIRTY;
    assert_eq!(begin(&r), []);
    // Inside the file nothing changes with the write.
    let inside = ask(req::DIRECT | req::WRITE, 0, 0x1000, mapped(0, 0, 0x9000));
    assert_eq!(
        begin(&Request {
            dsync: true,
            ..inside
        }),
        []
    );
}

#[test]
fn g14_g15_writeback() {
    let data = mapped(0x10_0000, 0, 0x1000);
    assert_eq!(at_writeback(data, 0x1000), [Rule::G14]);
    for map in [
        Map {
            addr: NULL_ADDR,
            ..data
        },
        Map {
            addr: 1 << 30,
            ..data
        },
        Map { dev: 0, ..data },
        bare(ty::DELALLOC, 0, 0x1000),
        Map {
            ty: ty::INLINE,
            ..data
        },
    ] {
        assert_eq!(at_writeback(map, 0), [Rule::G14], "{map}");
    }
    assert_eq!(at_writeback(bare(ty::HOLE, 0, 0x1000), 0), [Rule::G15]);
}

#[test]
fn g16_what_is_owed() {
    let map = Map {
        flags: mf::NEW,
        ..bare(ty::DELALLOC, 0, 0x4000)
    };
    let left = |pos, start, len| {
        let r = Request {
            pos,
            start,
            len,
            ..ask(req::WRITE, 0, 0, map)
        };
        unused_reservation(&r, &FILE)
    };
    assert_eq!(left(0, 0, 0x4000), Some((0, 0x4000)), "nothing was written");
    assert_eq!(left(0x1001, 0, 0x2fff), Some((0x2000, 0x4000)), "a part");
    assert_eq!(left(0x3001, 0, 0xfff), None, "the last block is in use");
    assert_eq!(left(0x4000, 0, 0), None, "everything");
    // What the request did not reach is the filesystem's own.
    assert_eq!(left(0x800, 0, 0), None);
    let old = Request {
        map: bare(ty::DELALLOC, 0, 0x4000),
        ..ask(req::WRITE, 0, 0x4000, map)
    };
    assert_eq!(
        unused_reservation(
            &Request {
                map: old.map,
                ..old
            },
            &FILE
        ),
        None
    );
    let fault = ask(req::WRITE | req::FAULT, 0, 0x4000, map);
    assert_eq!(unused_reservation(&fault, &FILE), None);
}

#[test]
fn g18_g19_rounds() {
    let data = mapped(0x10_0000, 0, 0x1000);
    let mut hits = Vec::new();
    let mut hit = |rule, _: &str| hits.push(rule);
    let mut op = Operation::default();
    let first = ask(0, 0, 0x1000, Map::default());
    op.enter(&first, 1, 2, &mut hit);
    op.begun(&ask(0, 0, 0x1000, data), &mut hit);
    // The core's flags may come.
    let stale = Map {
        flags: mf::STALE,
        ..data
    };
    op.enter(&ask(0, 0, 0x1000, stale), 1, 2, &mut hit);
    op.begun(&ask(0, 0, 0x1000, data), &mut hit);
    op.enter(&ask(0, 0, 0x1000, Map { addr: 0, ..data }), 1, 2, &mut hit);
    assert_eq!(hits, [Rule::G19]);

    // An empty mapping comes again and again: the core takes each for the first.
    let mut hits = Vec::new();
    let mut hit = |rule, _: &str| hits.push(rule);
    let mut op = Operation::default();
    for _ in 0..=STUCK {
        op.enter(&first, 1, 2, &mut hit);
        op.begun(&first, &mut hit);
    }
    assert_eq!(hits, [Rule::G18]);
    // Another operation on the same piece of stack begins anew.
    op.enter(&ask(0, 0x1000, 1, Map::default()), 1, 2, &mut |_, _| ());
    assert_eq!(op.rounds, 0);
}

#[test]
fn g26_nowait() {
    let flags = req::DIRECT | req::WRITE | req::NOWAIT;
    let r = ask(flags, 0, 0x2000, mapped(0x10_0000, 0, 0x1000));
    assert_eq!(begin(&r), [Rule::G26]);
    assert_eq!(begin_nth(&r, false), [], "too late to say so");
}

#[test]
fn g28_errors_of_writeback() {
    assert!(writeback::is_odd_error(11), "EAGAIN");
    assert!(!writeback::is_odd_error(5), "EIO");
    assert!(!writeback::is_odd_error(28), "ENOSPC");
}

/// A checker that a broken filesystem can stop is no use: the kernel may check for overflows.
#[test]
fn broken_numbers_do_no_harm() {
    let odd = [i64::MIN, -1, 0, 0x1234, i64::MAX];
    let flags = [
        0,
        req::WRITE,
        req::WRITE | req::UNSHARE,
        req::ZERO,
        req::REPORT,
        req::WRITE | req::DIRECT | req::ATOMIC | req::OVERWRITE_ONLY | req::NOWAIT,
    ];
    for pos in odd {
        for offset in odd {
            for (length, addr) in [
                (0, 0),
                (1, NULL_ADDR),
                (1 << 63, 1),
                (u64::MAX, NULL_ADDR - 1),
            ] {
                for ty in 0..6 {
                    let map = Map {
                        ty,
                        flags: mf::NEW | mf::SHARED | mf::ATOMIC_BIO,
                        ..mapped(addr, offset, length)
                    };
                    for flags in flags {
                        let r = Request {
                            src: map,
                            start: offset,
                            ..ask(flags, pos, length, map)
                        };
                        begin(&r);
                        unused_reservation(&r, &FILE);
                        let mut op = Operation::default();
                        op.enter(&r, 0, 0, &mut |_, _| {});
                        op.begun(&r, &mut |_, _| {});
                        op.enter(&r, 0, 0, &mut |_, _| {});
                    }
                    at_writeback(map, pos);
                }
            }
        }
    }
}

#[test]
fn the_tables_are_sound() {
    for k in known::KNOWN {
        assert_ne!(
            k.rule.severity(),
            Severity::Error,
            "{} masks {}",
            k.fs,
            k.rule
        );
        assert!(k.reason.len() > 20, "{} {} has no reason", k.fs, k.rule);
        let same = known::KNOWN
            .iter()
            .filter(|o| (o.fs, o.rule) == (k.fs, k.rule));
        assert_eq!(same.count(), 1, "{} {} twice", k.fs, k.rule);
    }
    assert!(known::find(b"exfat", Rule::G5).is_some());
    assert!(known::find(b"xfs", Rule::G5).is_none());
    assert!(Rule::ALL.iter().any(|r| r.point() == Point::Probe));
}

#[test]
fn text() {
    let map = Map {
        flags: mf::NEW | mf::SHARED,
        ..bare(ty::DELALLOC, 0x1000, 0x2000)
    };
    assert_eq!(
        std::format!("{map}"),
        "DELALLOC 0x1000+0x2000 @- NEW|SHARED"
    );
    let flags = super::view::RequestFlags(req::WRITE | req::UNSHARE | 1 << 20);
    assert_eq!(std::format!("{flags}"), "WRITE|UNSHARE|0x100000");
    assert_eq!(std::format!("{}", super::view::RequestFlags(0)), "READ");
}

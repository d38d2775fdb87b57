// SPDX-License-Identifier: GPL-2.0

//! Replay of journals made by hand.

mod common;

use calf_core::format::geometry::Geometry;
use calf_core::format::journal::*;
use calf_core::format::super_block::RawSuperBlock;
use calf_fsck::check::Mode;
use calf_io::device::{Memory, Storage};
use calf_io::log::Log;
use calf_io::seal::Seal;
use common::*;

const SIZE: u64 = 1024;

/// A log that begins at place `at` with transaction `tid`.
fn log<'a>(memory: &'a Memory, geo: &Geometry, at: u64, tid: u32) -> Log<'a> {
    Log::new(memory, geo, at, tid).unwrap()
}

/// A block of data outside of everything that is in use.
fn spare(geo: &Geometry, i: u64) -> u64 {
    geo.blocks() - 10 + i
}

fn byte(memory: &Memory, block: u64) -> u8 {
    memory.read(block * SIZE, 1).unwrap()[0]
}

fn data(b: u8) -> Vec<u8> {
    vec![b; SIZE as usize]
}

#[test]
fn transactions_are_replayed_and_revoked_blocks_are_not() {
    // Once in the middle of the journal with small numbers, once around both ends.
    for (at, tid) in [(5, 1), (2044, u32::MAX - 1)] {
        let (memory, geo) = empty(10, 4096);
        let mut escaped = data(9);
        escaped[..4].copy_from_slice(&MAGIC.to_be_bytes());
        let mut log = log(&memory, &geo, at, tid);
        log.blocks(&[
            (spare(&geo, 0), data(1)),
            (spare(&geo, 1), data(1)),
            (spare(&geo, 2), data(1)),
        ])
        .unwrap();
        log.commit().unwrap();
        // Block 1 is revoked for good, block 2 is logged again after the revoke.
        log.revoke(&[spare(&geo, 1), spare(&geo, 2)]).unwrap();
        log.commit().unwrap();
        log.blocks(&[(spare(&geo, 2), data(3)), (spare(&geo, 3), escaped)])
            .unwrap();
        log.commit().unwrap();
        // Not committed.
        log.blocks(&[(spare(&geo, 0), data(4))]).unwrap();

        let out = assert_clean(&memory);
        assert!(out.replay.dirty && !out.changed);
        assert_eq!(
            (
                out.replay.transactions,
                out.replay.blocks,
                out.replay.revoked
            ),
            (3, 3, 2)
        );
        assert_eq!(byte(&memory, spare(&geo, 0)), 0, "-n must not write");

        let (out, lines) = run(&memory, Mode::Repair);
        let out = out.unwrap();
        assert_eq!((out.left, out.changed), (0, true), "{lines:#?}");
        let got: Vec<u8> = (0..4).map(|i| byte(&memory, spare(&geo, i))).collect();
        assert_eq!(got, [1, 0, 3, 0xc0]);
        let sb = memory.read(geo.journal_start().get() * SIZE, 1024).unwrap();
        let sb = JournalSuperBlock::of(&sb).unwrap();
        sb.verify(SIZE, geo.journal_blocks()).unwrap();
        assert_eq!(
            (sb.start.get(), sb.sequence.get()),
            (0, tid.wrapping_add(4))
        );
        assert!(!assert_clean(&memory).replay.dirty);
    }
}

#[test]
fn what_is_judged_is_the_replayed_state() {
    // The journal brings home what makes a damaged image whole.
    let (memory, geo, _) = full(10, 20000);
    let root = geo.inode_root().get();
    let good = memory.read(root * SIZE, SIZE as usize).unwrap();
    memory.write_at(&data(0), root * SIZE).unwrap();
    let mut log = log(&memory, &geo, 1, 7);
    log.blocks(&[(root, good)]).unwrap();
    log.commit().unwrap();
    assert_clean(&memory);
    assert!(run(&memory, Mode::Repair).0.unwrap().changed);
    assert_clean(&memory);
}

#[test]
fn a_damaged_log_is_replayed_up_to_the_damage_and_reset() {
    for (place, text) in [
        (1, "wrong checksum in a committed transaction"),
        (2, "wrong checksum of a logged block"),
        (3, "wrong checksum in a committed transaction"),
    ] {
        let (memory, geo) = empty(10, 4096);
        let mut log = log(&memory, &geo, 1, 1);
        log.blocks(&[(spare(&geo, 0), data(1)), (spare(&geo, 1), data(1))])
            .unwrap();
        log.commit().unwrap();
        log.blocks(&[(spare(&geo, 0), data(2))]).unwrap();
        log.commit().unwrap();
        log.blocks(&[(spare(&geo, 0), data(3))]).unwrap();
        log.commit().unwrap();
        // The second transaction begins after four blocks.
        let at = (geo.journal_start().get() + 4 + place) * SIZE + if place == 3 { 50 } else { 100 };
        memory.write_at(&[0x77], at).unwrap();
        assert_finds(&memory, text);
        let (out, lines) = run(&memory, Mode::Repair);
        let out = out.unwrap();
        assert!(out.left == 0 && out.changed, "{lines:#?}");
        assert!(!assert_clean(&memory).replay.dirty);
        let read = |i| memory.read(spare(&geo, i) * SIZE, SIZE as usize).unwrap();
        assert!(read(0) == data(1) && read(1) == data(1));
        assert_wiped(&memory, &geo);
    }
}

#[test]
fn leftovers_of_an_earlier_round_end_the_log() {
    let (memory, geo) = empty(10, 4096);
    let mut log = log(&memory, &geo, 1, 1);
    log.blocks(&[(spare(&geo, 0), data(1))]).unwrap();
    log.commit().unwrap();
    // Older than the transaction before it, and damaged.
    log.time = 10;
    log.blocks(&[(spare(&geo, 1), data(2))]).unwrap();
    log.commit().unwrap();
    memory
        .write_at(&[0x77], (geo.journal_start().get() + 4) * SIZE + 100)
        .unwrap();
    let out = assert_clean(&memory);
    assert_eq!(out.replay.transactions, 1);
}

/// jbd2 refuses such a log even where it is not committed.
#[test]
fn a_revoke_block_lists_no_more_than_it_holds() {
    for committed in [false, true] {
        let (memory, geo) = empty(10, 4096);
        let mut log = log(&memory, &geo, 1, 1);
        log.blocks(&[(spare(&geo, 0), data(1))]).unwrap();
        log.commit().unwrap();
        let place = log.revoke(&[spare(&geo, 1)]).unwrap();
        if committed {
            log.commit().unwrap();
        }
        assert_clean(&memory);
        let most = SIZE as u32 - 4;
        for (count, good) in [(most, true), (most + 1, false), (u32::MAX, false)] {
            memory.write_at(&count.to_be_bytes(), place + 12).unwrap();
            Seal::LogTail(place).apply(&memory, &geo).unwrap();
            if good {
                assert_clean(&memory);
            } else {
                assert_finds(&memory, "lists more blocks than it holds");
            }
        }
        let out = run(&memory, Mode::Repair).0.unwrap();
        assert_eq!((out.left, out.replay.transactions), (0, 1));
        assert!(!assert_clean(&memory).replay.dirty);
    }
}

/// The log goes around the end of the journal, and its third transaction is damaged. Whenever the
/// repair is interrupted, the second one stays home.
#[test]
fn an_interrupted_reset_does_not_replay_half_of_the_log() {
    let (memory, geo) = empty(10, 4096);
    let mut log = log(&memory, &geo, geo.journal_blocks() - 3, 77);
    log.blocks(&[(spare(&geo, 0), data(1))]).unwrap();
    log.commit().unwrap();
    assert_eq!(log.at, 1);
    log.blocks(&[(spare(&geo, 0), data(2))]).unwrap();
    log.commit().unwrap();
    let place = log.blocks(&[(spare(&geo, 0), data(3))]).unwrap();
    log.commit().unwrap();
    memory.write_at(&[0x77], place + SIZE).unwrap();
    for writes in 0.. {
        let memory = memory.clone();
        let failing = damage::Failing::new(&memory, writes);
        let first = run(&failing, Mode::Repair).0;
        let (out, lines) = run(&memory, Mode::Repair);
        assert_eq!(out.unwrap().left, 0, "{writes} writes, {lines:#?}");
        assert_eq!(byte(&memory, spare(&geo, 0)), 2, "{writes} writes");
        assert!(!assert_clean(&memory).replay.dirty);
        assert_wiped(&memory, &geo);
        if first.is_ok() {
            assert!(writes > 3);
            return;
        }
    }
}

/// Nothing of the old log is left that could be taken for a part of a new one.
fn assert_wiped(memory: &Memory, geo: &Geometry) {
    for at in 1..geo.journal_blocks() {
        let block = (geo.journal_start().get() + at) * SIZE;
        assert_ne!(memory.read(block, 4).unwrap(), MAGIC.to_be_bytes());
    }
}

/// What was committed behind the damage is lost, and that is no matter for -p.
#[test]
fn transactions_that_are_left_out_are_counted() {
    for (lost, text) in [
        (1, "1 committed transaction "),
        (3, "3 committed transactions "),
    ] {
        let (memory, geo) = empty(10, 4096);
        let mut log = log(&memory, &geo, 5, 9);
        log.blocks(&[(spare(&geo, 0), data(1))]).unwrap();
        log.commit().unwrap();
        let place = log.blocks(&[(spare(&geo, 0), data(2))]).unwrap();
        log.commit().unwrap();
        for i in 1..lost {
            log.blocks(&[(spare(&geo, i), data(3))]).unwrap();
            log.commit().unwrap();
        }
        memory.write_at(&[0x77], place + SIZE).unwrap();
        assert_finds(&memory, text);
        let before = memory.clone();
        let out = run(&memory, Mode::Preen).0.unwrap();
        assert!(out.left > 0 && !out.changed);
        assert!(*before.0.borrow() == *memory.0.borrow());
        let (out, lines) = run(&memory, Mode::Repair);
        let out = out.unwrap();
        assert_eq!((out.left, out.losses), (0, 1), "{lines:#?}");
        assert_eq!(out.replay.left_out, lost as u32);
        assert!(lines
            .iter()
            .any(|l| l.starts_with("repair: ") && l.contains(text)));
    }
}

/// Nobody knows what a log holds whose superblock is lost, but that of a filesystem that was
/// unmounted is empty.
#[test]
fn a_lost_journal_superblock_is_no_loss_where_the_log_was_empty() {
    for (clean, left) in [(true, 0), (false, 1)] {
        let (memory, geo) = empty(10, 4096);
        if !clean {
            edit_super(&memory, |sb| sb.set_mounted(1));
        }
        memory
            .write_at(&data(0x77), geo.journal_start().get() * SIZE)
            .unwrap();
        let out = run(&memory, Mode::Preen).0.unwrap();
        assert_eq!((out.left.min(1), out.changed), (left, clean));
        let out = run(&memory, Mode::Repair).0.unwrap();
        assert_eq!((out.left, out.changed), (0, !clean));
        assert_clean(&memory);
    }
}

/// The mark "in use" may still be in the log: a superblock that says clean does not say that the log is empty.
#[test]
fn a_lost_journal_superblock_hides_what_was_committed() {
    let (memory, geo) = empty(10, 4096);
    let mut log = log(&memory, &geo, 1, 7);
    let mut first = memory.read(0, SIZE as usize).unwrap();
    RawSuperBlock::of_mut(&mut first).unwrap().set_mounted(5);
    log.blocks(&[(0, first), (spare(&geo, 0), data(1))])
        .unwrap();
    log.commit().unwrap();
    assert_eq!(assert_clean(&memory).replay.transactions, 1);
    let at = geo.journal_start().get() * SIZE + 20;
    memory.write_at(&[0x77], at).unwrap();
    let before = memory.clone();
    let (out, lines) = run(&memory, Mode::Preen);
    let out = out.unwrap();
    assert!(out.left > 0 && !out.changed, "{lines:#?}");
    assert!(*before.0.borrow() == *memory.0.borrow());
    let (out, lines) = run(&memory, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{lines:#?}");
    let told = |l: &String| l.contains("what was committed in it, if anything, is left out");
    assert!(lines.iter().any(told), "{lines:#?}");
    assert_clean(&memory);
    assert_wiped(&memory, &geo);
}

/// As the kernel: but for a growth, the journal does not move anything.
#[test]
fn the_journal_brings_no_other_layout() {
    let (memory, geo) = empty(10, 20000);
    let mut log = log(&memory, &geo, 1, 7);
    let mut first = memory.read(0, SIZE as usize).unwrap();
    let sb = RawSuperBlock::of_mut(&mut first).unwrap();
    sb.desc_blocks = (sb.desc_blocks.get() - 1).into();
    sb.seal();
    log.blocks(&[(0, first)]).unwrap();
    log.commit().unwrap();
    assert_finds(&memory, "superblock after the replay: another layout");
    let (out, lines) = run(&memory, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{lines:#?}");
    assert_eq!(
        calf_fsck::superblock::clean(&memory).unwrap().unwrap().geo,
        geo
    );
}

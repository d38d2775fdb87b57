// SPDX-License-Identifier: GPL-2.0

//! Replay of journals made by hand.

mod common;

use calf_core::format::geometry::Geometry;
use calf_core::format::journal::*;
use calf_fsck::check::Mode;
use calf_io::device::{Memory, Storage};
use common::*;
use zerocopy::{FromZeros, IntoBytes};

const SIZE: u64 = 1024;

/// Writes a log, block by block.
struct Log<'a> {
    memory: &'a Memory,
    start: u64,
    len: u64,
    seed: u32,
    at: u64,
    tid: u32,
    time: u64,
}

impl<'a> Log<'a> {
    /// A log that begins at place `at` with transaction `tid`.
    fn new(memory: &'a Memory, geo: &Geometry, at: u64, tid: u32) -> Self {
        let start = geo.journal_start().get();
        let bytes = memory.read(start * SIZE, 1024).unwrap();
        let mut sb = *JournalSuperBlock::of(&bytes).unwrap();
        sb.start = (at as u32).into();
        sb.sequence = tid.into();
        sb.seal();
        memory.write_at(sb.as_bytes(), start * SIZE).unwrap();
        let (len, seed) = (geo.journal_blocks(), sb.seed());
        Self {
            memory,
            start,
            len,
            seed,
            at,
            tid,
            time: 1000,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let place = (self.start + self.at) * SIZE;
        self.memory.write_at(bytes, place).unwrap();
        self.at = if self.at + 1 == self.len {
            1
        } else {
            self.at + 1
        };
    }

    fn head(&self, kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; SIZE as usize];
        let header = Header {
            magic: MAGIC.into(),
            blocktype: kind.into(),
            sequence: self.tid.into(),
        };
        bytes[..12].copy_from_slice(header.as_bytes());
        bytes
    }

    fn tail(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = bytes.len() - TAIL_SIZE;
        let crc = block_checksum(self.seed, &bytes, at);
        bytes[at..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn blocks(&mut self, blocks: &[(u64, Vec<u8>)]) {
        let mut bytes = self.head(TYPE_DESCRIPTOR);
        let mut at = 12;
        let mut data = Vec::new();
        for (i, (block, content)) in blocks.iter().enumerate() {
            let mut content = content.clone();
            let mut tag = Tag::new_zeroed();
            tag.blocknr = (*block as u32).into();
            tag.blocknr_high = ((*block >> 32) as u32).into();
            let mut flags = if i == 0 { 0 } else { FLAG_SAME_UUID };
            if content[..4] == MAGIC.to_be_bytes() {
                content[..4].fill(0);
                flags |= FLAG_ESCAPE;
            }
            if i + 1 == blocks.len() {
                flags |= FLAG_LAST_TAG;
            }
            tag.flags = flags.into();
            tag.checksum = data_checksum(self.seed, self.tid, &content).into();
            bytes[at..at + 16].copy_from_slice(tag.as_bytes());
            at += if i == 0 { 32 } else { 16 };
            data.push(content);
        }
        let bytes = self.tail(bytes);
        self.put(&bytes);
        for content in data {
            self.put(&content);
        }
    }

    fn revoke(&mut self, blocks: &[u64]) {
        let mut bytes = self.head(TYPE_REVOKE);
        let used = 16 + 8 * blocks.len();
        bytes[12..16].copy_from_slice(&(used as u32).to_be_bytes());
        for (to, block) in bytes[16..used].chunks_exact_mut(8).zip(blocks) {
            to.copy_from_slice(&block.to_be_bytes());
        }
        let bytes = self.tail(bytes);
        self.put(&bytes);
    }

    fn commit(&mut self) {
        let mut bytes = self.head(TYPE_COMMIT);
        bytes[48..56].copy_from_slice(&self.time.to_be_bytes());
        let crc = block_checksum(self.seed, &bytes, 16);
        bytes[16..20].copy_from_slice(&crc.to_be_bytes());
        self.put(&bytes);
        self.tid = self.tid.wrapping_add(1);
        self.time += 1;
    }
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
        let mut log = Log::new(&memory, &geo, at, tid);
        log.blocks(&[
            (spare(&geo, 0), data(1)),
            (spare(&geo, 1), data(1)),
            (spare(&geo, 2), data(1)),
        ]);
        log.commit();
        // Block 1 is revoked for good, block 2 is logged again after the revoke.
        log.revoke(&[spare(&geo, 1), spare(&geo, 2)]);
        log.commit();
        log.blocks(&[(spare(&geo, 2), data(3)), (spare(&geo, 3), escaped)]);
        log.commit();
        // Not committed.
        log.blocks(&[(spare(&geo, 0), data(4))]);

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
    let mut log = Log::new(&memory, &geo, 1, 7);
    log.blocks(&[(root, good)]);
    log.commit();
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
        let mut log = Log::new(&memory, &geo, 1, 1);
        log.blocks(&[(spare(&geo, 0), data(1)), (spare(&geo, 1), data(1))]);
        log.commit();
        log.blocks(&[(spare(&geo, 0), data(2))]);
        log.commit();
        log.blocks(&[(spare(&geo, 0), data(3))]);
        log.commit();
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
        // Nothing of the old log is left that could be taken for a part of a new one.
        for at in 1..geo.journal_blocks() {
            let block = (geo.journal_start().get() + at) * SIZE;
            assert_ne!(memory.read(block, 4).unwrap(), MAGIC.to_be_bytes());
        }
    }
}

#[test]
fn leftovers_of_an_earlier_round_end_the_log() {
    let (memory, geo) = empty(10, 4096);
    let mut log = Log::new(&memory, &geo, 1, 1);
    log.blocks(&[(spare(&geo, 0), data(1))]);
    log.commit();
    // Older than the transaction before it, and damaged.
    log.time = 10;
    log.blocks(&[(spare(&geo, 1), data(2))]);
    log.commit();
    memory
        .write_at(&[0x77], (geo.journal_start().get() + 4) * SIZE + 100)
        .unwrap();
    let out = assert_clean(&memory);
    assert_eq!(out.replay.transactions, 1);
}

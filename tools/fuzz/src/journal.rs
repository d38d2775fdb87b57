// SPDX-License-Identifier: GPL-2.0

//! Target `journal`: any log, of blocks that are in order and such that are not. Replay ends, brings back
//! what the log says, and what it leaves is repaired like any damage.

use calf_core::format::journal::{data_checksum, JournalSuperBlock, TAG_SIZE, TAIL_SIZE};
use calf_core::format::node;
use calf_fsck::check::Mode;
use calf_io::device::Storage;
use calf_io::log::{self, Log};
use zerocopy::IntoBytes;

use crate::image::judge;
use crate::images::{self, fsck, Base};
use crate::input::Input;
use crate::shadow::Shadow;
use crate::Target;

pub const TARGET: Target = Target {
    name: "journal",
    run,
    seeds,
    max_len: 600,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let head = input.u8();
    let base = images::base(head & 1 != 0);
    let storage = Shadow::new(&base.bytes);
    write(&storage, base, head, &mut input).expect("memory does not fail");
    judge(&storage, head & 8 != 0);
}

/// Writes the log that the input describes.
fn write(storage: &Shadow, base: &Base, head: u8, input: &mut Input<'_>) -> std::io::Result<()> {
    let geo = &base.geo;
    let size = geo.block_size() as usize;
    let blocks = geo.journal_blocks();
    // Small numbers at the start, or around both ends.
    let (at, tid) = match head >> 1 & 3 {
        0 => (1, 1),
        1 => (blocks - 3, 7),
        2 => (1, u32::MAX),
        _ => (1 + input.any() % (blocks - 1), input.any() as u32),
    };
    let sb = geo.journal_start().get() * size as u64;
    let seed = JournalSuperBlock::new(0, 0, *geo.uuid()).seed();
    let mut log = Log::new(storage, geo, at, tid)?;
    let (mut whole, mut commits, mut items) = (true, 0, 0);
    let mut open = false;
    while !input.is_empty() && items < 24 {
        items += 1;
        let what = input.u8();
        match what % 8 {
            0..=2 => {
                let n = usize::from(what >> 3) % 4 + 1;
                let content: Vec<_> = (0..n).map(|_| logged(storage, base, input)).collect();
                whole &= content.iter().all(|(block, _)| *block < geo.blocks());
                log.blocks(&content)?;
                open = true;
            }
            3 => {
                let n = usize::from(what >> 3) % 8;
                let list: Vec<u64> = (0..n).map(|_| block(base, input)).collect();
                log.revoke(&list)?;
                open = true;
            }
            4 => {
                log.commit()?;
                commits += 1;
                open = false;
            }
            5 => {
                // A block of the log so far, changed, with its checksum put right or not.
                whole = false;
                let back = u64::from(input.u8() % 16);
                let turn = blocks - 1;
                let place = 1 + (log.at - 1 + turn - back % turn) % turn;
                let place = sb + place * size as u64;
                let mut bytes = storage.read(place, size)?;
                let at = match what >> 3 & 1 {
                    0 => usize::from(input.u8() % 80),
                    _ => input.below(size),
                };
                for to in bytes[at..].iter_mut().take(1 + usize::from(what >> 6)) {
                    *to = input.u8();
                }
                match what >> 4 & 3 {
                    0 => log::tail(&mut bytes, seed)?,
                    1 => log::commit_sum(&mut bytes, seed)?,
                    2 => {
                        // The tag's own checksum of the block that follows.
                        let next = storage.read(place + size as u64, size).unwrap_or_default();
                        let crc = data_checksum(seed, log.tid, &next).to_be_bytes();
                        bytes[12 + TAG_SIZE - 4..12 + TAG_SIZE].copy_from_slice(&crc);
                        log::tail(&mut bytes, seed)?;
                    }
                    _ => {}
                }
                storage.write_at(&bytes, place)?;
            }
            6 => {
                whole = false;
                let mut bytes = storage.read(sb, 1024)?;
                let at = match what >> 3 & 3 {
                    0 => 24,
                    1 => 28,
                    _ => usize::from(input.u8() & !3),
                };
                bytes[at..at + 4].copy_from_slice(&(input.any() as u32).to_be_bytes());
                let mut raw = *JournalSuperBlock::of(&bytes).expect("1024 bytes");
                raw.seal();
                storage.write_at(raw.as_bytes(), sb)?;
            }
            _ => {
                // Any bytes, a descriptor with any tags, a revoke block with any count.
                whole = false;
                let mut bytes = vec![0; size];
                let head = [0xc0u8, 0x3b, 0x39, 0x98, 0, 0, 0, what >> 3 & 7];
                bytes[..8].copy_from_slice(&head);
                bytes[8..12].copy_from_slice(&log.tid.to_be_bytes());
                let n = usize::from(input.u8()) % 64;
                let from = input.bytes(n);
                bytes[12..12 + from.len()].copy_from_slice(from);
                if what >> 6 == 0 {
                    // Full of tags of one kind, none of them the last.
                    let tag: Vec<u8> = bytes[12..12 + TAG_SIZE].to_vec();
                    for to in bytes[12..size - TAIL_SIZE].chunks_exact_mut(TAG_SIZE) {
                        to.copy_from_slice(&tag);
                    }
                }
                log::tail(&mut bytes, seed)?;
                log.put(&bytes)?;
            }
        }
    }
    if whole {
        let (out, lines) = fsck(storage, Mode::Check);
        let replay = out.expect("a superblock").replay;
        // A log that is as long as the journal has overwritten itself.
        let long = items > 20 && head >> 1 & 3 == 3;
        if !long && (commits > 0 || open) {
            let journal = lines.iter().any(|l| l.contains("place outside"));
            assert!(
                journal || replay.transactions == commits,
                "{replay:?} {lines:#?}"
            );
        }
    }
    Ok(())
}

/// The number of a block: of metadata mostly.
fn block(base: &Base, input: &mut Input<'_>) -> u64 {
    let geo = &base.geo;
    match input.u8() {
        n @ 0..=31 => u64::from(n),
        n @ 32..=199 => geo.inode_root().get() + u64::from(n - 32),
        n @ 200..=215 => geo.blocks() - 8 + u64::from(n - 200),
        n @ 216..=223 => geo.journal_start().get() + u64::from(n - 216),
        n @ 224..=231 => geo.backup_block().map_or(0, |b| b.get()) + u64::from(n - 224),
        _ => input.any(),
    }
}

/// A block in the log: what is at its place now, with a few changes.
fn logged(storage: &Shadow, base: &Base, input: &mut Input<'_>) -> (u64, Vec<u8>) {
    let geo = &base.geo;
    let size = geo.block_size() as usize;
    let (block, how) = (block(base, input), input.u8());
    let now = block
        .checked_mul(size as u64)
        .and_then(|at| storage.read(at, size).ok());
    let mut bytes = now.unwrap_or_else(|| vec![how; size]);
    if how & 1 != 0 {
        let at = input.below(size);
        bytes[at] = input.u8();
    }
    if how & 2 != 0 && bytes.starts_with(b"CALN") {
        node::seal(&mut bytes, geo.uuid());
    }
    if how & 0x1c == 0x1c {
        bytes[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
    }
    (block, bytes)
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for head in [0u8, 8, 2, 4, 6, 1, 3] {
        // Three transactions, with an edit of each kind behind them.
        let log = [
            0x10, 32, 0, 33, 0, 201, 0x1c, 4, 0x1b, 201, 202, 203, 0, 202, 1, 9, 9, 4,
        ];
        all.push([&[head][..], &log, &[0, 40, 2, 4]].concat());
        for what in (5..=255u8).step_by(8) {
            all.push([&[head][..], &log, &[what, 2, 20, 3, 1, 1, 0, 35, 2, 4]].concat());
        }
        for what in (6..=255u8).step_by(8).chain((7..=255).step_by(8)) {
            all.push([&[head][..], &log, &[what, 40, 1, 0, 35, 2, 4]].concat());
        }
    }
    all
}

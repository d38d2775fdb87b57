// SPDX-License-Identifier: GPL-2.0

//! Single slots of nodes that are damaged: what they lead to is not lost without a word.

mod common;

use calf_core::format::node::{self, HEADER_SIZE, SLOT_SIZE};
use calf_core::format::Kind;
use calf_fsck::check::Mode;
use calf_io::device::{Memory, Storage};
use common::damage::{files, same_content};
use common::*;

/// Blocks with nodes of this kind with at least four records, leaves or others.
fn nodes(memory: &Memory, blocks: u64, kind: Kind, leaf: bool) -> Vec<(u64, u64, u64)> {
    let wanted = |block: u64| {
        let bytes = memory.read(block << 10, 1 << 10).unwrap();
        let header = node::header(&bytes)?;
        let here = header.magic.get() == node::MAGIC
            && header.block.get() == block
            && header.core.kind == kind.as_u8()
            && (header.core.level == 0) == leaf
            && header.core.nr.get() >= 4;
        here.then_some((block, header.owner.get(), header.core.nr.get().into()))
    };
    (0..blocks).filter_map(wanted).collect()
}

/// Makes the key of a slot larger than that of the next one.
fn raise_key(memory: &Memory, block: u64, slot: u64) {
    let at = (block << 10) + HEADER_SIZE as u64 + slot * SLOT_SIZE as u64 + 7;
    let byte = memory.read(at, 1).unwrap()[0];
    memory.write_at(&[byte ^ 0x40], at).unwrap();
}

/// The child is still there, and says itself what it is.
#[test]
fn a_wrong_key_of_a_child_loses_nothing() {
    let (memory, geo, _) = rich(10, 20000);
    let before = files(&memory, geo);
    let mut tried = 0;
    for kind in [Kind::Inodes, Kind::Extents] {
        for (block, _, nr) in nodes(&memory, geo.blocks(), kind, false) {
            for slot in [0, 1, nr - 2] {
                let memory = memory.clone();
                raise_key(&memory, block, slot);
                let (out, lines) = run(&memory, Mode::Repair);
                let out = out.unwrap();
                let what = format!("block {block}, slot {slot}: {lines:#?}");
                assert_eq!((out.left, out.losses), (0, 0), "{what}");
                same_content(&before, &files(&memory, geo), &what);
                tried += 1;
            }
        }
    }
    assert!(tried > 0);
}

/// Where an extent lies in its file is not said anywhere else.
#[test]
fn a_record_without_a_key_is_a_loss() {
    let (memory, geo, _) = rich(10, 20000);
    let (block, owner, _) = nodes(&memory, geo.blocks(), Kind::Extents, true)[0];
    raise_key(&memory, block, 1);
    let before = memory.clone();
    let (out, lines) = run(&memory, Mode::Preen);
    let out = out.unwrap();
    assert!(out.left > 0 && !out.changed, "{lines:#?}");
    assert!(*before.0.borrow() == *memory.0.borrow());
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap();
    assert_eq!((out.left, out.losses), (0, 1), "{lines:#?}");
    let text = format!("inode {owner}: 1 records of its tree make no sense; dropped");
    assert!(lines.iter().any(|l| l.contains(&text)), "{lines:#?}");
    assert_clean(&memory);
}

/// Inodes know their number, and names are where they are because of what they are.
#[test]
fn records_that_know_their_key_are_kept() {
    let (memory, geo, _) = rich(10, 20000);
    let before = files(&memory, geo);
    for kind in [Kind::Inodes, Kind::Dir] {
        for (block, _, nr) in nodes(&memory, geo.blocks(), kind, true).into_iter().take(9) {
            let memory = memory.clone();
            for slot in [0, nr / 2] {
                raise_key(&memory, block, slot);
            }
            let (out, lines) = run(&memory, Mode::Repair);
            let out = out.unwrap();
            let what = format!("block {block}: {lines:#?}");
            assert_eq!((out.left, out.losses), (0, 0), "{what}");
            same_content(&before, &files(&memory, geo), &what);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What a node with a wrong checksum says is a guess: the automatic repair leaves it to a person.

mod common;

use calf_core::format::inode::InodeRecord;
use calf_core::format::node;
use calf_core::random::Random;
use calf_fsck::check::Mode;
use calf_io::damage::metadata;
use calf_io::device::{Memory, Storage};
use common::damage::{files, same_content};
use common::*;
use zerocopy::IntoBytes;

fn flip(memory: &Memory, at: u64, bit: u8) {
    let byte = memory.read(at, 1).unwrap()[0];
    memory.write_at(&[byte ^ 1 << bit], at).unwrap();
}

/// Where the bytes are on the device.
fn find(memory: &Memory, bytes: &[u8]) -> u64 {
    let all = memory.0.borrow();
    let at = all.windows(bytes.len()).position(|here| here == bytes);
    at.unwrap() as u64
}

/// -p changes nothing, -y names the inode.
fn uncertain(memory: &Memory, ino: u64) {
    let before = memory.clone();
    let (out, lines) = run(memory, Mode::Preen);
    let out = out.unwrap();
    assert!(out.left > 0 && !out.changed, "{lines:#?}");
    assert!(lines.iter().any(|l| l.contains("run fsck.calf -y by hand")));
    assert!(*before.0.borrow() == *memory.0.borrow());
    let (out, lines) = run(memory, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{lines:#?}");
    let named = |l: &String| l.contains("uncertain") && l.contains(&format!("inode {ino}"));
    assert!(lines.iter().any(named), "{ino}: {lines:#?}");
    assert_clean(memory);
}

#[test]
fn a_record_may_say_anything() {
    let (memory, geo, [big, copy, _]) = full(10, 20000);
    let b = Builder::new(&memory, geo);
    for ino in [big, copy] {
        let memory = memory.clone();
        let rec = b.editor.inode(ino).unwrap().unwrap();
        let at = find(&memory, rec.as_bytes());
        flip(
            &memory,
            at + std::mem::offset_of!(InodeRecord, mode) as u64 + 1,
            3,
        );
        uncertain(&memory, ino.get());
    }
}

/// The name with another letter is a name as well.
#[test]
fn a_name_may_say_anything() {
    let (memory, _, [_, _, sub]) = full(10, 20000);
    let at = find(&memory, b"a name that takes some room 77");
    flip(&memory, at, 1);
    uncertain(&memory, sub.get());
}

/// Two names that became one: the second one is lost, which is said.
#[test]
fn a_name_that_is_there_twice_is_a_loss() {
    let (memory, _, _) = full(10, 20000);
    let at = find(&memory, b"a name that takes some room 77");
    flip(&memory, at + 29, 0);
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap();
    assert_eq!((out.left, out.losses), (0, 1), "{lines:#?}");
    assert!(lines.iter().any(|l| l.contains("room 76\" is there twice")));
    assert_clean(&memory);
}

/// Whatever single bit it is: what the automatic repair changes, nobody can see.
#[test]
fn the_automatic_repair_changes_no_content() {
    let (memory, geo, _) = rich(10, 20000);
    let before = files(&memory, geo);
    let places = metadata(&memory, &geo).unwrap();
    let mut random = Random::new(5);
    let mut repaired = 0;
    for _ in 0..200 {
        let memory = memory.clone();
        let block = places[random.below(places.len() as u64) as usize];
        let at = (block << 10) + random.below(1 << 10);
        let bit = random.below(8) as u8;
        flip(&memory, at, bit);
        let (out, lines) = run(&memory, Mode::Preen);
        let what = format!("byte {at}, bit {bit}: {lines:#?}");
        // Without the superblock, nothing can be compared.
        if out.unwrap().left == 0 {
            repaired += 1;
            same_content(&before, &files(&memory, geo), &what);
        }
    }
    assert!(repaired > 0);
}

/// All of these can be computed from the rest.
#[test]
fn what_is_known_from_elsewhere_is_beyond_doubt() {
    let (memory, geo, _) = rich(10, 20000);
    let before = files(&memory, geo);
    for block in [
        geo.refcount_root(),
        geo.bitmap_block(0),
        geo.desc_start(),
        geo.backup_block().unwrap(),
    ] {
        let memory = memory.clone();
        let at = (block.get() << 10) + node::HEADER_SIZE as u64 + 70;
        flip(&memory, at, 4);
        let (out, lines) = run(&memory, Mode::Preen);
        let out = out.unwrap();
        assert!(out.left == 0 && out.changed, "block {block}: {lines:#?}");
        same_content(&before, &files(&memory, geo), "repaired");
        assert_clean(&memory);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What a node with a wrong checksum says is a guess: the automatic repair leaves it to a person.

mod common;

use calf_core::format::geometry::{Geometry, Layout};
use calf_core::format::inode::InodeRecord;
use calf_core::format::node;
use calf_core::format::super_block::SuperBlock;
use calf_core::random::Random;
use calf_fsck::check::Mode;
use calf_io::damage::metadata;
use calf_io::device::{Memory, Storage};
use calf_io::make::{make, Options};
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

/// Where a filesystem of another block size was: puts back what a mkfs of an earlier calf left of it, the copy of its
/// superblock and its roots.
fn with_an_older_one(memory: &Memory) -> Geometry {
    let old = Memory::new(memory.size() as usize);
    let layout = Layout::plan(10, memory.size() >> 10, [3; 16]).unwrap();
    let options = Options {
        layout,
        label: [0; 64],
        hash_seed: SEED,
        gen: 1,
        time: 0,
    };
    make(&old, &options).unwrap();
    let geo = Geometry::check(&layout).unwrap();
    let roots = [geo.inode_root(), geo.refcount_root(), geo.orphan_root()];
    for block in roots.into_iter().chain(geo.backup_block()) {
        let at = block.get() << 10;
        memory
            .write_at(&old.read(at, 1 << 10).unwrap(), at)
            .unwrap();
    }
    geo
}

/// Once with a copy of its own, once without.
#[test]
fn the_copy_of_an_older_filesystem_is_not_gone_on_with() {
    for (log, blocks) in [(11, 20480), (12, 10240)] {
        let (memory, geo, _) = full(log, blocks);
        let before = files(&memory, geo);
        with_an_older_one(&memory);
        assert_clean(&memory);
        memory.write_at(&[0; 1024], 0).unwrap();
        let torn = memory.clone();
        let (out, lines) = run(&memory, Mode::Repair);
        assert_eq!(out.unwrap().left, 0, "{lines:#?}");
        let sb = SuperBlock::parse(&memory.0.borrow(), memory.size()).unwrap();
        assert_eq!(sb.geo, geo, "{lines:#?}");
        assert!(before.keys().eq(files(&memory, geo).keys()), "{lines:#?}");
        // Its own copy is beyond doubt; without it the label is lost.
        let out = run(&torn, Mode::Preen).0.unwrap();
        assert_eq!(out.changed, geo.backup_block().is_some());
    }
}

/// The start of the device is gone, with the journal and the descriptors: nothing says which of the copies is right.
#[test]
fn a_copy_that_only_roots_agree_with_is_a_guess() {
    let (memory, geo, _) = full(11, 20480);
    let old = with_an_older_one(&memory);
    memory.write_at(&[0; 64 << 10], 0).unwrap();
    assert!(old.inode_root().get() << 10 > 64 << 10);
    let before = memory.clone();
    let (out, lines) = run(&memory, Mode::Preen);
    let out = out.unwrap();
    assert!(out.left > 0 && !out.changed, "{lines:#?}");
    assert!(*before.0.borrow() == *memory.0.borrow());
    // The later one is the better guess.
    let (out, lines) = run(&memory, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{lines:#?}");
    let sb = SuperBlock::parse(&memory.0.borrow(), memory.size()).unwrap();
    assert_eq!(sb.geo, geo, "{lines:#?}");
}

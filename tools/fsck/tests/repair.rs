// SPDX-License-Identifier: GPL-2.0

//! Images damaged at random: after a repair they are clean, and what was not hit is still there.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use calf_core::format::geometry::Geometry;
use calf_core::format::super_block::SuperBlock;
use calf_core::format::{node, Kind};
use calf_core::random::Random;
use calf_fsck::check::Mode;
use calf_io::damage::{damage, metadata};
use calf_io::device::{Memory, Storage};
use common::damage::{files, way_to, Failing, File};
use common::*;

/// An image, an earlier state of it, and what is in it.
struct Base {
    memory: Memory,
    old: Memory,
    geo: Geometry,
    places: Vec<u64>,
    files: BTreeMap<Vec<u8>, File>,
    ways: BTreeMap<u64, BTreeSet<u64>>,
}

fn base(log: u32, blocks: u64) -> Base {
    let (memory, geo, old) = rich(log, blocks);
    let places = metadata(&memory, &geo).unwrap();
    let files = files(&memory, geo);
    let ways = files
        .values()
        .map(|file| (file.ino, way_to(&memory, geo, file.ino)))
        .collect();
    Base {
        memory,
        old,
        geo,
        places,
        files,
        ways,
    }
}

/// Files whose own blocks, records and directories were not hit are as they were.
fn untouched_survive(base: &Base, after: &Memory, hit: &BTreeSet<u64>, note: &str) {
    let sb = SuperBlock::parse(&after.0.borrow(), after.size()).unwrap();
    let now = files(after, sb.geo);
    let by_path = |path: &[u8]| base.files.get(path).unwrap();
    for (path, file) in &base.files {
        // The directories on the way, and everybody's place in the tree of inodes.
        let mut inos = vec![file.ino];
        for (i, _) in path.iter().enumerate().filter(|(_, &b)| b == b'/') {
            inos.push(by_path(&path[..i]).ino);
        }
        let whole =
            file.blocks.is_disjoint(hit) && inos.iter().all(|ino| base.ways[ino].is_disjoint(hit));
        if !whole {
            continue;
        }
        let name = path.escape_ascii();
        let Some(found) = now.get(path) else {
            panic!("{note}: {name} (inode {}) is gone", file.ino);
        };
        assert_eq!(
            (found.ino, found.mode),
            (file.ino, file.mode),
            "{note}: {name}"
        );
        if file.mode >> 12 == 4 {
            continue;
        }
        assert_eq!(found.size, file.size, "{note}: {name}");
        assert!(
            found.data == file.data,
            "{note}: {name} has another content"
        );
    }
}

/// Damages the base under `seed`, repairs, and judges.
fn one(base: &Base, seed: u64) {
    let mut random = Random::new(seed);
    let memory = base.memory.clone();
    let mut hit = BTreeSet::new();
    let mut note = format!("seed {seed}:");
    for _ in 0..=random.below(5) {
        let (blocks, kind) = damage(
            &memory,
            Some(&base.old),
            &base.geo,
            &base.places,
            &mut random,
        )
        .unwrap();
        note += &format!(" {kind} in {blocks:?},");
        hit.extend(blocks);
    }
    let damaged = memory.clone();
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap_or_else(|e| panic!("{note} {e}"));
    assert_eq!(out.left, 0, "{note} {lines:#?}");
    let (out, after) = run(&memory, Mode::Check);
    assert_eq!(out.unwrap().errors, 0, "{note} {after:#?}");
    assert!(
        !run(&memory, Mode::Repair).0.unwrap().changed,
        "{note} again"
    );
    untouched_survive(base, &memory, &hit, &format!("{note} {lines:#?}"));
    // Killed after some writes and run again, it ends in the same way.
    let writes = random.below(60);
    let failing = Failing::new(&damaged, writes);
    note += &format!(" killed after {writes} writes");
    let (first, _) = run(&failing, Mode::Repair);
    let (out, lines) = run(&damaged, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{note} {lines:#?}");
    assert_clean(&damaged);
    untouched_survive(base, &damaged, &hit, &note);
    if first.is_err() {
        same_names(&memory, &damaged, &note);
    }
}

/// The interrupted repair has lost nothing that the other one kept.
fn same_names(whole: &Memory, twice: &Memory, note: &str) {
    let names = |memory: &Memory| -> BTreeSet<Vec<u8>> {
        let sb = SuperBlock::parse(&memory.0.borrow(), memory.size()).unwrap();
        files(memory, sb.geo).into_keys().collect()
    };
    let (whole, twice) = (names(whole), names(twice));
    let lost: Vec<_> = whole.difference(&twice).collect();
    assert!(lost.is_empty(), "{note}: lost {lost:?}");
}

/// Judges images, on two threads.
fn range(first: u64, images: u64) {
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                let bases = [base(10, 20000), base(12, 8192), base(10, 4096)];
                for seed in (first + thread..first + images).step_by(2) {
                    one(&bases[(seed % 3) as usize], seed);
                }
            });
        }
    });
}

/// Each of them says that it belongs where the other one is.
#[test]
fn two_leaves_that_changed_places_are_both_read() {
    let base = base(10, 20000);
    let block = |at: u64| base.memory.read(at << 10, 1 << 10).unwrap();
    let is_leaf = |&at: &u64| {
        node::header(&block(at)).is_some_and(|h| {
            h.block.get() == at && h.core.level == 0 && h.core.kind == Kind::Inodes.as_u8()
        })
    };
    let leaves: Vec<u64> = base.places.iter().copied().filter(is_leaf).collect();
    let (&a, &b) = (leaves.first().unwrap(), leaves.last().unwrap());
    assert_ne!(a, b);
    let memory = base.memory.clone();
    memory.write_at(&block(a), b << 10).unwrap();
    memory.write_at(&block(b), a << 10).unwrap();
    let (out, lines) = run(&memory, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{lines:#?}");
    assert_clean(&memory);
    same_names(&base.memory, &memory, &format!("{lines:#?}"));
}

#[test]
fn damaged_images_are_repaired() {
    range(0, 60);
}

/// All of them: `make damage`, or `cargo test --release -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_damaged_images_are_repaired() {
    let number = |name, or| std::env::var(name).map_or(or, |n: String| n.parse().unwrap());
    let images = number("CALF_DAMAGE_IMAGES", 1000);
    assert!(images > 0, "CALF_DAMAGE_IMAGES=0: no image");
    range(number("CALF_DAMAGE_FIRST", 1000), images);
}

#[test]
fn a_full_device_is_left_alone() {
    let (memory, geo, inos) = full(10, 4096);
    let mut b = Builder::new(&memory, geo);
    // Everything is in use, and one inode has a wrong count.
    let mut rec = b.editor.inode(inos[0]).unwrap().unwrap();
    let mut tree = b.tree(&rec);
    let (mut at, mut data) = (5000, 0);
    while let Ok((phys, len)) = b.editor.alloc(calf_core::format::BlockNr::ZERO, 1) {
        let e = calf_core::algo::extent::Extent {
            fblk: at,
            phys,
            len,
            unwritten: true,
        };
        if calf_core::algo::extent::insert(&mut tree, &mut b.editor, e).is_err() {
            let _ = b.editor.free(phys, len);
            break;
        }
        (at, data) = (at + 2, data + len);
    }
    rec.nlink = 7.into();
    b.store(&mut rec, &tree, data);
    b.editor.flush().unwrap();
    let before = memory.clone();
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap();
    assert!(out.left > 0 && !out.changed, "{lines:#?}");
    assert!(lines.iter().any(|l| l.contains("no free block is left")));
    assert!(*before.0.borrow() == *memory.0.borrow());
}

#[test]
fn preen_does_nothing_that_loses_something() {
    let (memory, geo, [big, _, _]) = full(10, 20000);
    edit_super(&memory, |sb| sb.set_mounted(1));
    let out = run(&memory, Mode::Preen).0.unwrap();
    assert!(out.left == 0 && out.changed && out.losses == 0);
    let mut b = Builder::new(&memory, geo);
    let mut rec = b.editor.inode(big).unwrap().unwrap();
    rec.mode = 0.into();
    rec.root.0[1] = 99;
    b.editor.put_inode(&rec).unwrap();
    b.editor.flush().unwrap();
    let before = memory.clone();
    let (out, lines) = run(&memory, Mode::Preen);
    let out = out.unwrap();
    assert!(out.left > 0 && !out.changed, "{lines:#?}");
    assert!(*before.0.borrow() == *memory.0.borrow());
    assert_eq!(run(&memory, Mode::Repair).0.unwrap().left, 0);
}

#[test]
fn orphans_are_worked_off() {
    use calf_core::format::inode::S_IFREG;
    use calf_core::format::orphan::RawOrphan;
    use zerocopy::IntoBytes;
    let (memory, geo) = empty(10, 4096);
    let mut b = Builder::new(&memory, geo);
    let mut rec = b.record(S_IFREG, 0);
    let tree = b.tree(&rec);
    b.store(&mut rec, &tree, 0);
    let long = b.file(ROOT, "long", 30);
    let mut cut = b.editor.inode(long).unwrap().unwrap();
    cut.size = 4000.into();
    b.editor.put_inode(&cut).unwrap();
    let mut orphans = b.editor.orphans();
    for (ino, orphan) in [
        (rec.ino.get(), RawOrphan::unlinked()),
        (long.get(), RawOrphan::truncate(4000)),
    ] {
        orphans
            .insert(&mut b.editor, ino, orphan.as_bytes())
            .unwrap();
    }
    b.finish(&memory);
    let (out, lines) = run(&memory, Mode::Preen);
    let out = out.unwrap();
    assert_eq!(
        (out.errors, out.left, out.changed, out.inodes),
        (0, 0, true, 2),
        "{lines:#?}"
    );
    let b = Builder::new(&memory, geo);
    assert_eq!(b.editor.inode(long).unwrap().unwrap().nblocks.get(), 3);
}

/// Restores what cannot be read at all: the superblock and every copy of it.
#[test]
fn the_superblock_is_made_again() {
    for log in [10, 12] {
        let (memory, geo, _) = full(log, 8192);
        let before = files(&memory, geo);
        memory.write_at(&[0xaa; 1024], 0).unwrap();
        if let Some(copy) = geo.backup_block() {
            let at = copy.get() << log;
            memory.write_at(&[0xaa; 1024], at).unwrap();
        }
        let (out, lines) = run(&memory, Mode::Repair);
        assert_eq!(out.unwrap().left, 0, "{lines:#?}");
        assert_clean(&memory);
        let after = files(&memory, geo);
        assert!(before.keys().eq(after.keys()));
    }
}

/// Messages say what, where, and what was done.
#[test]
fn repairs_are_told() {
    let (memory, geo, [big, _, sub]) = full(10, 20000);
    let mut b = Builder::new(&memory, geo);
    let mut rec = b.editor.inode(big).unwrap().unwrap();
    let mut tree = b.tree(&rec);
    let e = calf_core::algo::extent::Extent {
        fblk: 2,
        phys: calf_core::format::BlockNr::new(1),
        len: 1,
        unwritten: false,
    };
    calf_core::algo::extent::insert(&mut tree, &mut b.editor, e).unwrap();
    b.store(&mut rec, &tree, 1);
    let mut rec = b.record(calf_core::format::inode::S_IFREG, 1);
    rec.ino = 4711.into();
    b.link(sub, "ghost", &rec);
    let mut rec = b.record(calf_core::format::inode::S_IFREG | 0o644, 1);
    rec.ino = 5000.into();
    let tree = b.tree(&rec);
    b.store(&mut rec, &tree, 0);
    b.editor.flush().unwrap();
    let (_, lines) = run(&memory, Mode::Repair);
    for text in [
        "extent at file block 2 (block 1, 1 blocks): block number inside a fixed area; dropped",
        "name \"ghost\" leads to inode 4711, which does not exist; dropped",
        "inode 5000: no name leads to it; it is lost+found/#5000 now",
        "not whole any more: /big (inode",
    ] {
        assert!(lines.iter().any(|l| l.contains(text)), "{text}: {lines:#?}");
    }
    assert!(files(&memory, geo).contains_key(&b"/lost+found/#5000"[..]));
}

/// An extent may lie where no size can cover it.
#[test]
fn extents_past_the_largest_size_are_dropped() {
    let (memory, geo) = empty(12, 8192);
    let mut b = Builder::new(&memory, geo);
    let ino = b.file(ROOT, "far", 3);
    let mut rec = b.editor.inode(ino).unwrap().unwrap();
    let mut tree = b.tree(&rec);
    let last = (i64::MAX as u64).div_ceil(geo.block_size());
    let mut data = 0;
    for fblk in [last - 1, last + 7] {
        let (phys, len) = b.editor.alloc(calf_core::format::BlockNr::ZERO, 2).unwrap();
        let e = calf_core::algo::extent::Extent {
            fblk,
            phys,
            len,
            unwritten: false,
        };
        calf_core::algo::extent::insert(&mut tree, &mut b.editor, e).unwrap();
        data += len;
    }
    b.store(&mut rec, &tree, data);
    b.finish(&memory);
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap();
    assert_eq!((out.left, out.losses), (0, 2), "{lines:#?}");
    assert!(lines
        .iter()
        .any(|l| l.contains("beyond the largest size; dropped")));
    assert!(lines
        .iter()
        .any(|l| l.contains("beyond the largest size; cut")));
    assert!(lines.iter().any(|l| l.contains("not whole any more: /far")));
    assert_clean(&memory);
    let b = Builder::new(&memory, geo);
    let rec = b.editor.inode(ino).unwrap().unwrap();
    assert_eq!(rec.size.get(), i64::MAX as u64);
}

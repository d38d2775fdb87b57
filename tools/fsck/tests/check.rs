// SPDX-License-Identifier: GPL-2.0

//! Sound images are clean, damaged ones are not.

mod common;

use calf_core::algo::extent;
use calf_core::algo::{dir, refcount};
use calf_core::format::inode::S_IFREG;
use calf_core::format::orphan::RawOrphan;
use calf_core::format::BlockNr;
use calf_core::random::Random;
use calf_fsck::check::Mode;
use calf_io::device::Storage;
use calf_io::editor::Editor;
use common::*;
use zerocopy::IntoBytes;

#[test]
fn new_images_are_clean() {
    for (log, blocks) in [(10, 4096), (10, 20000), (11, 4096), (12, 4096), (12, 40000)] {
        let (memory, _) = empty(log, blocks);
        let out = assert_clean(&memory);
        assert_eq!((out.inodes, out.changed), (1, false));
    }
}

#[test]
fn full_images_are_clean_and_repair_leaves_them_alone() {
    for (log, blocks) in [(10, 20000), (12, 8192)] {
        let (memory, _, _) = full(log, blocks);
        let out = assert_clean(&memory);
        assert_eq!(out.inodes, 127);
        let before = memory.clone();
        let (out, lines) = run(&memory, Mode::Repair);
        let out = out.unwrap();
        assert_eq!(
            (out.errors, out.left, out.changed),
            (0, 0, false),
            "{lines:#?}"
        );
        assert!(*before.0.borrow() == *memory.0.borrow());
    }
}

/// Applies `f` to a full image and expects a finding.
fn broken(text: &str, f: impl FnOnce(&mut Builder<'_>, [calf_core::format::Ino; 3])) {
    let (memory, geo, inos) = full(10, 20000);
    let mut b = Builder::new(&memory, geo);
    f(&mut b, inos);
    b.editor.flush().unwrap();
    assert_finds(&memory, text);
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap();
    assert!(out.left == 0 && out.changed, "{lines:#?}");
    assert_clean(&memory);
    // A second repair finds nothing to do.
    let before = memory.clone();
    assert!(!run(&memory, Mode::Repair).0.unwrap().changed);
    assert!(*before.0.borrow() == *memory.0.borrow());
}

#[test]
fn records_of_inodes_are_checked() {
    let edit = |text: &str, f: fn(&mut calf_core::format::inode::InodeRecord)| {
        broken(text, |b, [big, _, _]| {
            let mut rec = b.editor.inode(big).unwrap().unwrap();
            f(&mut rec);
            b.editor.put_inode(&rec).unwrap();
        });
    };
    edit("says it has 0 blocks", |rec| rec.nblocks = 0.into());
    edit("has 2 links, but has 1", |rec| rec.nlink = 2.into());
    edit("lies past the size", |rec| rec.size = 5.into());
    // The last written extent, blocks 894 and 895, begins inside the file.
    edit("lies past the size", |rec| rec.size = (895 * 1024).into());
    edit("says it shares none", |rec| rec.flags = 0.into());
    edit("unknown type", |rec| rec.mode = 0.into());
    edit("flags do not fit", |rec| rec.mode = 0o40755.into());
    edit("of another kind", |rec| {
        rec.mode = 0o40755.into();
        rec.flags = 0.into();
    });
}

/// Check, repair and kernel take the same numbers, of which there is always a next one.
#[test]
fn numbers_of_inodes_end_somewhere() {
    for (ino, good) in [
        ((1u64 << 63) - 2, true),
        ((1 << 63) - 1, false),
        (u64::MAX, false),
    ] {
        let (memory, geo, _) = full(10, 20000);
        let mut b = Builder::new(&memory, geo);
        let mut rec = b.record(S_IFREG | 0o644, 1);
        rec.ino = ino.into();
        let tree = b.tree(&rec);
        b.store(&mut rec, &tree, 0);
        b.link(ROOT, "last", &rec);
        b.inodes = 128;
        b.finish(&memory);
        if good {
            assert_clean(&memory);
        } else {
            assert_finds(&memory, "number out of range");
        }
        let (out, lines) = run(&memory, Mode::Repair);
        let out = out.unwrap();
        assert_eq!(out.left, 0, "{lines:#?}");
        assert_eq!(out.changed, !good, "{lines:#?}");
    }
}

#[test]
fn directories_are_checked() {
    broken("which does not exist", |b, _| {
        let mut rec = b.record(S_IFREG, 1);
        rec.ino = 4711.into();
        b.link(ROOT, "ghost", &rec);
    });
    broken("is of type 4, it is 8", |b, [big, _, _]| {
        let mut rec = b.editor.inode(big).unwrap().unwrap();
        rec.mode = 0o40755.into();
        b.link(ROOT, "twice", &rec);
    });
    broken("names 3 its parent", |b, [_, _, sub]| {
        let mut rec = b.editor.inode(sub).unwrap().unwrap();
        let mut tree = b.tree(&rec);
        dir::set_parent(&mut tree, &mut b.editor, calf_core::format::Ino::new(3)).unwrap();
        b.store(&mut rec, &tree, 0);
    });
    broken("directory with two names", |b, [_, _, sub]| {
        let rec = b.editor.inode(sub).unwrap().unwrap();
        b.link(ROOT, "again", &rec);
    });
    broken("its names call for", |b, [_, _, sub]| {
        let mut rec = b.editor.inode(sub).unwrap().unwrap();
        rec.size = 64.into();
        b.editor.put_inode(&rec).unwrap();
    });
    broken("of another name", |b, [_, _, sub]| {
        let mut rec = b.editor.inode(sub).unwrap().unwrap();
        let mut tree = b.tree(&rec);
        let (key, value) = tree.ceil(&b.editor, 1).unwrap().unwrap();
        tree.remove(&mut b.editor, key).unwrap();
        tree.insert(&mut b.editor, key + (1 << 22), &value).unwrap();
        b.store(&mut rec, &tree, 0);
    });
    broken(
        "directory without a record of its parent",
        |b, [_, _, sub]| {
            let mut rec = b.editor.inode(sub).unwrap().unwrap();
            let mut tree = b.tree(&rec);
            tree.remove(&mut b.editor, 0).unwrap();
            b.store(&mut rec, &tree, 0);
        },
    );
    broken("no name leads to it", |b, _| {
        let rec = b.record(S_IFREG, 1);
        let mut rec = calf_core::format::inode::InodeRecord {
            ino: 4711.into(),
            ..rec
        };
        let tree = b.tree(&rec);
        b.store(&mut rec, &tree, 0);
    });
}

#[test]
fn loops_of_directories_are_found() {
    let (memory, geo) = empty(10, 4096);
    let mut b = Builder::new(&memory, geo);
    let one = b.mkdir(ROOT, "one");
    let two = b.mkdir(one, "two");
    // Moves "one" from the root into "two".
    let mut root = b.editor.inode(ROOT).unwrap().unwrap();
    let mut tree = b.tree(&root);
    dir::remove(&mut tree, &mut b.editor, dir::base_key(&SEED, b"one")).unwrap();
    (root.size, root.nlink) = (0.into(), 2.into());
    b.store(&mut root, &tree, 0);
    let mut rec = b.editor.inode(one).unwrap().unwrap();
    let mut tree = b.tree(&rec);
    dir::set_parent(&mut tree, &mut b.editor, two).unwrap();
    b.store(&mut rec, &tree, 0);
    b.link(two, "one", &rec);
    b.finish(&memory);
    assert_finds(&memory, "cannot be reached from the root");
}

#[test]
fn references_are_checked() {
    broken(
        "2 references, the count says no record",
        |b, [big, _, _]| {
            let rec = b.editor.inode(big).unwrap().unwrap();
            let e = extent::next_extent(&b.tree(&rec), &b.editor, 0)
                .unwrap()
                .unwrap();
            let mut counts = b.editor.refcounts();
            refcount::decrease_step(&mut counts, &mut b.editor, e.phys, 1).unwrap();
        },
    );
    broken("2 references, the count says 3", |b, [big, _, _]| {
        let rec = b.editor.inode(big).unwrap().unwrap();
        let e = extent::next_extent(&b.tree(&rec), &b.editor, 0)
            .unwrap()
            .unwrap();
        let mut counts = b.editor.refcounts();
        refcount::increase_step(&mut counts, &mut b.editor, e.phys, 1).unwrap();
    });
    broken("at most 1 references, the count says 2", |b, _| {
        let last = BlockNr::new(b.editor.geo().blocks() - 5);
        let mut counts = b.editor.refcounts();
        refcount::increase_step(&mut counts, &mut b.editor, last, 1).unwrap();
    });
    broken("are tree nodes, too", |b, [big, _, _]| {
        let mut rec = b.editor.inode(big).unwrap().unwrap();
        let mut tree = b.tree(&rec);
        let phys = b.editor.geo().inode_root();
        let e = extent::Extent {
            fblk: 2,
            phys,
            len: 1,
            unwritten: false,
        };
        extent::insert(&mut tree, &mut b.editor, e).unwrap();
        b.store(&mut rec, &tree, 1);
    });
    broken("inside a fixed area", |b, [big, _, _]| {
        let mut rec = b.editor.inode(big).unwrap().unwrap();
        let mut tree = b.tree(&rec);
        let phys = BlockNr::new(1);
        let e = extent::Extent {
            fblk: 2,
            phys,
            len: 1,
            unwritten: false,
        };
        extent::insert(&mut tree, &mut b.editor, e).unwrap();
        b.store(&mut rec, &tree, 1);
    });
}

#[test]
fn orphans_are_checked() {
    broken("which does not exist", |b, _| {
        let mut tree = b.editor.orphans();
        let rec = RawOrphan::unlinked();
        tree.insert(&mut b.editor, 4711, rec.as_bytes()).unwrap();
    });
    broken("also 1 links", |b, [big, _, _]| {
        let mut tree = b.editor.orphans();
        let rec = RawOrphan::unlinked();
        tree.insert(&mut b.editor, big.get(), rec.as_bytes())
            .unwrap();
    });
    broken("not a regular file", |b, [_, _, sub]| {
        let mut tree = b.editor.orphans();
        let rec = RawOrphan::truncate(0);
        tree.insert(&mut b.editor, sub.get(), rec.as_bytes())
            .unwrap();
    });
    // An unlinked file with its record is fine.
    let (memory, geo) = empty(10, 4096);
    let mut b = Builder::new(&memory, geo);
    let mut rec = b.record(S_IFREG, 0);
    let tree = b.tree(&rec);
    b.store(&mut rec, &tree, 0);
    let mut orphans = b.editor.orphans();
    let orphan = RawOrphan::unlinked();
    orphans
        .insert(&mut b.editor, rec.ino.get(), orphan.as_bytes())
        .unwrap();
    b.finish(&memory);
    assert_clean(&memory);
}

#[test]
fn leaks_and_holes_in_bitmaps_are_found_and_repaired() {
    let (memory, geo, [big, _, _]) = full(10, 20000);
    let mut editor = Editor::new(&memory, geo);
    let (leak, _) = editor.alloc(BlockNr::new(15000), 3).unwrap();
    let b = Builder::new(&memory, geo);
    let rec = b.editor.inode(big).unwrap().unwrap();
    let e = extent::next_extent(&b.tree(&rec), &b.editor, 0)
        .unwrap()
        .unwrap();
    editor.free(e.phys, 1).unwrap();
    editor.flush().unwrap();
    assert_finds(&memory, &format!("blocks {leak} + 3: marked in use"));
    assert_finds(
        &memory,
        &format!("blocks {} + 1: in use, but marked free", e.phys),
    );
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap();
    assert_eq!(
        (out.errors, out.left, out.changed),
        (2, 0, true),
        "{lines:#?}"
    );
    assert_clean(&memory);
}

#[test]
fn descriptors_bitmaps_and_the_state_are_repaired() {
    let (memory, geo, _) = full(10, 20000);
    let at = geo.bitmap_block(2).get() * 1024 + 100;
    memory.write_at(&[0x55], at).unwrap();
    memory.write_at(&[1, 2, 3], 1024 + 40).unwrap();
    edit_super(&memory, |sb| sb.set_clean(5));
    assert_finds(&memory, "bitmap: wrong checksum");
    assert_finds(&memory, "group descriptor: wrong checksum");
    assert_finds(&memory, "says there are 5 inodes");
    assert_eq!(run(&memory, Mode::Repair).0.unwrap().left, 0);
    assert_clean(&memory);
    edit_super(&memory, |sb| {
        sb.set_mounted(1);
        sb.set_error(5, 6, 7);
    });
    assert!(run(&memory, Mode::Repair).0.unwrap().changed);
    assert_eq!(assert_clean(&memory).inodes, 127);
    assert!(calf_fsck::check::looks_clean(&memory));
}

#[test]
fn the_copy_of_the_superblock_helps() {
    let (memory, geo, _) = full(10, 20000);
    memory.write_at(&[0; 1024], 0).unwrap();
    assert_finds(&memory, "going on with the copy");
    memory
        .write_at(&[0; 1024], geo.group_blocks() * 1024)
        .unwrap();
    assert_finds(&memory, "going on with the layout");
    memory
        .write_at(&[0; 1024], geo.journal_start().get() * 1024)
        .unwrap();
    for root in [geo.inode_root(), geo.orphan_root()] {
        memory.write_at(&[0; 1024], root.get() * 1024).unwrap();
    }
    assert!(run(&memory, Mode::Check).0.is_err());
}

/// All blocks whose content matters: fixed areas but the log, and tree nodes.
fn metadata(memory: &calf_io::device::Memory, blocks: u64, size: u64) -> Vec<u64> {
    let is_node = |b: &u64| memory.read(b * size, 4).unwrap() == b"CALN";
    (0..blocks).filter(is_node).collect()
}

#[test]
fn no_flipped_byte_goes_unnoticed() {
    let (memory, geo, _) = full(10, 20000);
    let mut places = metadata(&memory, geo.blocks(), 1024);
    assert!(places.len() > 60);
    for g in 0..geo.ngroups() {
        let (block, off) = geo.desc_location(g);
        let descs = memory.read(block.get() * 1024, 1024).unwrap();
        if !calf_core::format::group::is_uninit(&descs, off) {
            places.push(geo.bitmap_block(g).get());
        }
    }
    places.extend([
        0,
        geo.backup_block().unwrap().get(),
        geo.journal_start().get(),
    ]);
    let mut random = Random::new(1);
    for _ in 0..600 {
        let block = places[random.below(places.len() as u64) as usize];
        let at = block * 1024 + random.below(1024);
        let old = memory.read(at, 1).unwrap();
        let flip = old[0] ^ (1 << random.below(8));
        memory.write_at(&[flip], at).unwrap();
        let (out, _) = run(&memory, Mode::Check);
        assert!(
            out.map_or(true, |out| out.errors > 0),
            "block {block}, byte {}",
            at % 1024
        );
        memory.write_at(&old, at).unwrap();
    }
    // Descriptors: 32 bytes for each group, zeros after that.
    for at in 1024..1024 + 32 * geo.ngroups() {
        let old = memory.read(at, 1).unwrap();
        memory.write_at(&[old[0] ^ 4], at).unwrap();
        assert!(run(&memory, Mode::Check).0.unwrap().errors > 0);
        memory.write_at(&old, at).unwrap();
    }
    assert_clean(&memory);
}

#[test]
fn damage_with_right_checksums_never_panics() {
    let (memory, geo, _) = full(10, 20000);
    let places = metadata(&memory, geo.blocks(), 1024);
    let mut random = Random::new(2);
    for _ in 0..1500 {
        let block = places[random.below(places.len() as u64) as usize];
        let old = memory.read(block * 1024, 1024).unwrap();
        let mut new = old.clone();
        for _ in 0..=random.below(3) {
            // Mostly where the structure is.
            let at = match random.below(3) {
                0 => random.below(1024),
                1 => random.below(64),
                _ => 64 + random.below(120),
            };
            new[at as usize] = random.any() as u8;
        }
        calf_core::format::node::seal(&mut new, geo.uuid());
        memory.write_at(&new, block * 1024).unwrap();
        let _ = run(&memory, Mode::Check);
        memory.write_at(&old, block * 1024).unwrap();
    }
    assert_clean(&memory);
}

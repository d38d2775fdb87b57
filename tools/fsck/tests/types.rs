// SPDX-License-Identifier: GPL-2.0

//! The type of an inode: its mode, the root of its tree, its size and its names all tell of it, and
//! one of them alone is not believed against the others.

mod common;

use calf_core::format::inode::{InodeRecord, S_IFIFO, S_IFMT};
use calf_core::format::node::InlineRoot;
use calf_core::format::orphan::RawOrphan;
use calf_core::format::{Ino, Kind};
use calf_fsck::check::{Mode, Outcome};
use calf_io::device::{Memory, Storage};
use common::damage::{files, same_content};
use common::*;
use zerocopy::IntoBytes;

fn record(memory: &Memory, ino: Ino) -> InodeRecord {
    let b = Builder::again(memory, geo());
    b.editor.inode(ino).unwrap().unwrap()
}

fn geo() -> calf_core::format::geometry::Geometry {
    empty(10, 20000).1
}

/// Changes a record, with the checksum put right.
fn change(memory: &Memory, ino: Ino, f: impl FnOnce(&mut InodeRecord)) {
    let mut b = Builder::again(memory, geo());
    let mut rec = b.editor.inode(ino).unwrap().unwrap();
    f(&mut rec);
    b.editor.put_inode(&rec).unwrap();
    b.finish(memory);
}

fn flip_type(memory: &Memory, ino: Ino, bits: u16) {
    change(memory, ino, |rec| rec.mode = (rec.mode.get() ^ bits).into());
}

/// Repairs; nothing is wrong afterwards.
fn repair(memory: &Memory, mode: Mode) -> (Outcome, Vec<String>) {
    let (out, lines) = run(memory, mode);
    let out = out.unwrap();
    assert!(out.changed && out.left == 0, "{lines:#?}");
    assert_clean(memory);
    (out, lines)
}

/// The automatic repair leaves it to a person.
fn preen_refuses(memory: &Memory) {
    let before = memory.clone();
    let (out, lines) = run(memory, Mode::Preen);
    let out = out.unwrap();
    assert!(out.left > 0 && !out.changed, "{lines:#?}");
    assert!(*before.0.borrow() == *memory.0.borrow());
}

/// One bit makes a socket of a file, a block device of a directory, and a character device of a link.
#[test]
fn what_has_a_tree_is_no_special_file() {
    let (memory, geo, [big, copy, sub]) = full(10, 20000);
    let before = files(&memory, geo);
    let link = |path: &[u8]| Ino::new(before[path].ino);
    let (short, long) = (link(b"/short"), link(b"/sub/long"));
    for (ino, bit) in [
        (big, 0o040_000),
        (copy, 0o040_000),
        (sub, 0o020_000),
        (short, 0o100_000),
        (long, 0o100_000),
    ] {
        let note = format!("inode {ino}");
        let sealed = memory.clone();
        flip_type(&sealed, ino, bit);
        let (out, _) = repair(&sealed, Mode::Preen);
        assert_eq!(out.losses, 0, "{note}");
        same_content(&before, &files(&sealed, geo), &note);
        // With a wrong checksum.
        let unsealed = memory.clone();
        let rec = record(&memory, ino);
        let at = {
            let all = unsealed.0.borrow();
            let mut windows = all.windows(rec.as_bytes().len());
            windows.position(|here| here == rec.as_bytes()).unwrap() as u64
        };
        let at = at + std::mem::offset_of!(InodeRecord, mode) as u64;
        let mode = rec.mode.get() ^ bit;
        unsealed.write_at(&mode.to_le_bytes(), at).unwrap();
        let (out, _) = repair(&unsealed, Mode::Repair);
        assert_eq!(out.losses, 0, "{note}");
        same_content(&before, &files(&unsealed, geo), &note);
    }
}

/// A file, a sparse one, an empty one and a fifo.
fn small() -> (Memory, [Ino; 4]) {
    let (memory, geo) = empty(10, 20000);
    let mut b = Builder::new(&memory, geo);
    let file = b.file(ROOT, "file", 3);
    let sparse = b.file(ROOT, "sparse", 0);
    let nothing = b.file(ROOT, "nothing", 0);
    let mut rec = b.editor.inode(sparse).unwrap().unwrap();
    rec.size = 8192.into();
    b.editor.put_inode(&rec).unwrap();
    let fifo = b.record(S_IFIFO | 0o644, 1);
    b.editor.put_inode(&fifo).unwrap();
    b.link(ROOT, "fifo", &fifo);
    b.finish(&memory);
    assert_clean(&memory);
    (memory, [file, sparse, nothing, Ino::new(fifo.ino.get())])
}

/// Its size and its name say that it is a file, although its tree is empty.
#[test]
fn a_sparse_file_is_no_socket() {
    let (memory, [_, sparse, ..]) = small();
    let before = files(&memory, geo());
    flip_type(&memory, sparse, 0o040_000);
    let (out, _) = repair(&memory, Mode::Preen);
    assert_eq!(out.losses, 0);
    same_content(&before, &files(&memory, geo()), "sparse");
}

/// A size alone makes no file of it.
#[test]
fn a_fifo_has_no_size() {
    let (memory, [.., fifo]) = small();
    let before = files(&memory, geo());
    change(&memory, fifo, |rec| rec.size = 4096.into());
    let (out, _) = repair(&memory, Mode::Preen);
    assert_eq!(out.losses, 0);
    same_content(&before, &files(&memory, geo()), "fifo");
}

/// Where the mode is no witness and the tree is empty, the name is.
#[test]
fn a_name_tells_of_what_kind_a_special_file_is() {
    let (memory, [.., fifo]) = small();
    let before = files(&memory, geo());
    // An unknown type, and that of a directory with the root of something else.
    for bits in [0o020_000, 0o050_000] {
        let memory = memory.clone();
        flip_type(&memory, fifo, bits);
        let (out, _) = repair(&memory, Mode::Preen);
        assert_eq!(out.losses, 0);
        same_content(&before, &files(&memory, geo()), "fifo");
    }
}

/// Its mode says one thing, its name another, and nothing else tells.
#[test]
fn one_word_against_another_is_a_guess() {
    let (memory, [_, _, nothing, fifo]) = small();
    for (ino, bits) in [(nothing, 0o040_000), (fifo, 0o030_000)] {
        let memory = memory.clone();
        flip_type(&memory, ino, bits);
        preen_refuses(&memory);
        let (out, _) = repair(&memory, Mode::Repair);
        assert_eq!(out.losses, 0);
    }
}

/// Neither the mode nor the tree is as it was: what hung on the tree is lost, which is said.
#[test]
fn a_tree_that_is_dropped_is_a_loss() {
    let (memory, [file, ..]) = small();
    change(&memory, file, |rec| {
        rec.mode = (rec.mode.get() ^ 0o040_000).into();
        rec.root.0[0] = 0xff;
    });
    preen_refuses(&memory);
    let (out, lines) = repair(&memory, Mode::Repair);
    assert!(out.losses > 0, "{lines:#?}");
}

/// The kernel could not take such an inode apart.
#[test]
fn a_special_file_has_the_root_of_an_empty_file() {
    let (memory, [.., fifo]) = small();
    let before = files(&memory, geo());
    for root in [
        InlineRoot([0; 112]),
        InlineRoot::empty(Kind::Dir),
        InlineRoot::empty(Kind::Symlink),
    ] {
        let memory = memory.clone();
        change(&memory, fifo, |rec| rec.root = root);
        assert_finds(&memory, "special file with a tree");
        let (out, _) = repair(&memory, Mode::Preen);
        assert_eq!(out.losses, 0);
        let rec = record(&memory, fifo);
        assert!(rec.root == InlineRoot::empty(Kind::Extents));
        assert_eq!(rec.mode.get() & S_IFMT, S_IFIFO);
        same_content(&before, &files(&memory, geo()), "fifo");
    }
}

/// A directory is empty when it is unlinked. What is in it would have no name after the next mount.
#[test]
fn an_unlinked_directory_has_no_names() {
    let (memory, geo) = empty(10, 20000);
    let mut b = Builder::new(&memory, geo);
    let dir = b.mkdir(ROOT, "dir");
    let inside = ["a", "b", "c"].map(|name| b.file(dir, name, 2));
    let mut rec = b.editor.inode(dir).unwrap().unwrap();
    rec.nlink = 0.into();
    b.editor.put_inode(&rec).unwrap();
    let mut orphans = b.editor.orphans();
    let value = RawOrphan::unlinked();
    orphans
        .insert(&mut b.editor, dir.get(), value.as_bytes())
        .unwrap();
    let mut root = b.editor.inode(ROOT).unwrap().unwrap();
    let mut tree = b.tree(&root);
    let key = calf_core::algo::dir::base_key(&SEED, b"dir");
    calf_core::algo::dir::remove(&mut tree, &mut b.editor, key).unwrap();
    root.nlink = 2.into();
    root.size = 0.into();
    b.store(&mut root, &tree, 0);
    b.finish(&memory);
    assert_finds(&memory, "unlinked directory with 3 names");
    preen_refuses(&memory);
    let (out, _) = repair(&memory, Mode::Repair);
    assert_eq!(out.losses, 0);
    let after = files(&memory, geo);
    for ino in inside {
        let path = format!("/lost+found/#{ino}").into_bytes();
        assert_eq!(after[&path].ino, ino.get());
    }
}

/// Emptied, but still there: as the kernel leaves it between `rmdir` and the last close.
#[test]
fn an_empty_unlinked_directory_is_sound() {
    let (memory, geo) = empty(10, 20000);
    let mut b = Builder::new(&memory, geo);
    for init in [true, false] {
        let mut rec = b.record(0o040_755, 0);
        let mut tree = b.tree(&rec);
        if init {
            calf_core::algo::dir::init(&mut tree, &mut b.editor, ROOT).unwrap();
        }
        b.store(&mut rec, &tree, 0);
        let mut orphans = b.editor.orphans();
        let value = RawOrphan::unlinked();
        orphans
            .insert(&mut b.editor, rec.ino.get(), value.as_bytes())
            .unwrap();
    }
    b.finish(&memory);
    assert_clean(&memory);
}

/// A link that says it has no name, but has one, and whose size or target is wrong as well.
#[test]
fn a_named_link_without_links() {
    let (memory, geo, _) = full(10, 20000);
    let before = files(&memory, geo);
    let long = Ino::new(before[b"/sub/long".as_slice()].ino);
    // The target is there: the size follows it.
    let sized = memory.clone();
    change(&sized, long, |rec| {
        rec.nlink = 0.into();
        rec.size = (rec.size.get() + 1).into();
    });
    let (out, _) = repair(&sized, Mode::Repair);
    assert_eq!(out.losses, 0);
    same_content(&before, &files(&sized, geo), "size");
    // It is not: the link goes, and the name with it.
    let gone = memory.clone();
    change(&gone, long, |rec| {
        rec.nlink = 0.into();
        rec.root = InlineRoot::empty(Kind::Symlink);
    });
    let (out, lines) = repair(&gone, Mode::Repair);
    assert!(out.losses > 0, "{lines:#?}");
    assert!(!files(&gone, geo).contains_key(b"/sub/long".as_slice()));
}

// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: sound ones are clean, damaged ones are not.

mod common;

use calf_core::algo::btree::Tree;
use calf_core::algo::xattr::{base_key, Attrs, Name};
use calf_core::format::inode::{InodeRecord, S_IFIFO};
use calf_core::format::orphan::RawOrphan;
use calf_core::format::xattr::{
    form, Form, ACL_ACCESS, ACL_DEFAULT, PIECE, SECURITY, TRUSTED, USER,
};
use calf_core::format::{Ino, Kind};
use calf_fsck::check::Mode;
use calf_io::editor::Editor;
use common::*;
use zerocopy::IntoBytes;

const LARGE: Name<'_> = Name {
    index: USER,
    name: b"large",
};

fn geo() -> calf_core::format::geometry::Geometry {
    empty(10, 20000).1
}

/// A full image, with attributes on a file, a directory and a fifo. Returns the file.
fn image(f: impl FnOnce(&mut Builder<'_>, Ino)) -> calf_io::device::Memory {
    let (memory, geo) = empty(10, 20000);
    let mut b = Builder::new(&memory, geo);
    let file = b.file(ROOT, "file", 3);
    let dir = b.mkdir(ROOT, "dir");
    let fifo = b.record(S_IFIFO | 0o644, 1);
    b.editor.put_inode(&fifo).unwrap();
    b.link(ROOT, "fifo", &fifo);
    for ino in [file, dir, Ino::new(fifo.ino.get())] {
        for i in 0..40 {
            let name = format!("n{i}");
            let name = Name {
                index: TRUSTED,
                name: name.as_bytes(),
            };
            b.set_attr(ino, name, &vec![i; usize::from(i) * 30]);
        }
        b.set_attr(ino, LARGE, &[1; 10_000]);
    }
    let small = b.file(ROOT, "small", 1);
    let name = Name {
        index: SECURITY,
        name: b"small",
    };
    b.set_attr(small, name, b"value");
    f(&mut b, file);
    b.finish(&memory);
    memory
}

fn tree(rec: &InodeRecord) -> Tree {
    match form(&rec.attr) {
        Form::Tree(root) => Tree::fixed(Kind::Xattr, Ino::new(rec.ino.get()), root),
        other => panic!("{other:?}"),
    }
}

fn broken(text: &str, kept: usize, f: impl FnOnce(&mut Builder<'_>, Tree, InodeRecord)) {
    let memory = image(|b, file| {
        assert_eq!(file.get(), 2);
        let rec = b.editor.inode(file).unwrap().unwrap();
        f(b, tree(&rec), rec);
    });
    assert_finds(&memory, text);
    let (out, lines) = run(&memory, Mode::Repair);
    let out = out.unwrap();
    assert!(out.changed && out.left == 0, "{lines:#?}");
    assert_clean(&memory);
    // What is sound is still there.
    let editor = Editor::new(&memory, geo());
    for ino in 2..6 {
        let rec = editor.inode(Ino::new(ino)).unwrap().unwrap();
        let attrs = Attrs::new(Ino::new(ino), rec.attr);
        let mut n = 0;
        attrs.for_each(&editor, |_, _| n += 1).unwrap();
        match ino {
            2 => assert!(n == kept, "{n} attributes: {lines:#?}"),
            5 => assert_eq!(n, 1),
            _ => assert_eq!(n, 41),
        }
    }
}

#[test]
fn sound_ones_are_clean() {
    assert_clean(&image(|_, _| ()));
}

#[test]
fn trees_are_checked() {
    let key = base_key(&SEED, LARGE);
    broken(
        "\"large\" has 9792 bytes in place of 10011",
        40,
        |b, mut t, _| {
            let last = key + 36;
            t.remove(&mut b.editor, last).unwrap();
        },
    );
    broken("stray piece", 40, |b, mut t, _| {
        t.remove(&mut b.editor, key).unwrap();
    });
    broken("has 10010 bytes in place of 10011", 40, |b, mut t, _| {
        t.replace(&mut b.editor, key + 1, &[1; PIECE - 1]).unwrap();
    });
    broken("of another name", 42, |b, mut t, _| {
        let value = t.get(&b.editor, base_key(&SEED, LARGE) + 36).unwrap();
        assert!(value.is_some());
        let mut other = vec![USER, 5, 0, 0, 0, 0];
        other.extend(b"other");
        t.insert(&mut b.editor, key - (1 << 30), &other).unwrap();
    });
    broken("\"large\" is there twice", 41, |b, mut t, _| {
        let mut again = vec![USER, 5, 0, 0, 0, 0];
        again.extend(b"large");
        t.insert(&mut b.editor, key + (1 << 8), &again).unwrap();
    });
    broken("says it has", 41, |b, _, mut rec| {
        rec.nblocks = (rec.nblocks.get() + 1).into();
        b.editor.put_inode(&rec).unwrap();
    });
    broken("attributes: no root", 0, |b, _, mut rec| {
        rec.attr[8..16].fill(0);
        b.editor.put_inode(&rec).unwrap();
    });
    broken("attributes: unknown form", 0, |b, _, mut rec| {
        rec.attr[0] = 9;
        b.editor.put_inode(&rec).unwrap();
    });
}

/// An ACL of the owner, user 1 and all others.
const ACL: [u8; 28] = [
    2, 0, 0, 0, // version
    1, 0, 6, 0, 255, 255, 255, 255, // the owner
    2, 0, 4, 0, 1, 0, 0, 0, // user 1
    32, 0, 4, 0, 255, 255, 255, 255, // others
];

/// What the kernel cannot parse: the file could not be used. In a tree, and in the record.
#[test]
fn acls_are_checked() {
    let with = |at: usize, byte: u8| {
        let mut bad = ACL.to_vec();
        bad[at] = byte;
        bad
    };
    let nobody = [&ACL[..16], &[255; 4], &ACL[20..]].concat();
    for (text, bad) in [
        ("ACL without a version", ACL[..3].to_vec()),
        ("ACL of an unknown version", with(0, 1)),
        ("ACL with a part of an entry", ACL[..27].to_vec()),
        ("ACL with an unknown entry", with(12, 3)),
        ("ACL with an entry for nobody", nobody),
    ] {
        for index in [ACL_ACCESS, ACL_DEFAULT] {
            let name = Name { index, name: b"" };
            // The file has its attributes in a tree; the last has one in the record.
            for ino in [2, 5] {
                let text = format!("inode {ino}: attributes: {text}");
                broken(&text, 41, |b, _, _| b.set_attr(Ino::new(ino), name, &bad));
            }
        }
    }
    let sound = image(|b, _| {
        for (ino, value) in [(2, &ACL[..]), (5, &ACL[..]), (3, &ACL[..4])] {
            for index in [ACL_ACCESS, ACL_DEFAULT] {
                b.set_attr(Ino::new(ino), Name { index, name: b"" }, value);
            }
        }
    });
    assert_clean(&sound);
}

#[test]
fn unlinked_inodes_may_have_half_of_them() {
    let memory = image(|b, _| {
        let mut rec = b.record(0o100_644, 0);
        let ino = Ino::new(rec.ino.get());
        b.editor.put_inode(&rec).unwrap();
        b.set_attr(ino, LARGE, &[1; 10_000]);
        rec = b.editor.inode(ino).unwrap().unwrap();
        let mut attrs = Attrs::new(ino, rec.attr);
        let mut gained = 0;
        for _ in 0..20 {
            attrs.remove_any(&mut b.editor).unwrap();
            gained = attrs.delta();
        }
        let blocks = rec.nblocks.get().checked_add_signed(gained).unwrap();
        rec.nblocks = blocks.into();
        b.editor.put_inode(&rec).unwrap();
        let mut orphans = b.editor.orphans();
        let work = RawOrphan::unlinked();
        orphans
            .insert(&mut b.editor, ino.get(), work.as_bytes())
            .unwrap();
    });
    assert_clean(&memory);
}

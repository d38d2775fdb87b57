// SPDX-License-Identifier: GPL-2.0

//! Images for the tests.

#![allow(dead_code)]

pub mod damage;
pub mod shadow;
pub mod structures;

use std::cell::RefCell;
use std::rc::Rc;

use calf_core::algo::btree::Tree;
use calf_core::algo::extent::{self, Extent};
use calf_core::algo::xattr::{Attrs, Name};
use calf_core::algo::{dir, refcount, symlink};
use calf_core::format::geometry::{Geometry, Layout};
use calf_core::format::inode::{InodeRecord, FLAG_MAY_SHARE, S_IFDIR, S_IFLNK, S_IFREG};
use calf_core::format::node::InlineRoot;
use calf_core::format::super_block::RawSuperBlock;
use calf_core::format::{BlockNr, Ino, Kind};
use calf_fsck::check::{check, Error, Mode, Outcome};
use calf_fsck::report::Report;
use calf_io::device::{Memory, Storage};
use calf_io::editor::Editor;
use calf_io::make::{make, Options};
use zerocopy::{FromZeros, IntoBytes};

pub const SEED: [u8; 16] = [7; 16];
pub const ROOT: Ino = Ino::new(1);

/// An empty filesystem of `blocks` blocks.
pub fn empty(log: u32, blocks: u64) -> (Memory, Geometry) {
    let memory = Memory::new((blocks << log) as usize);
    let layout = Layout::plan(log, blocks, [9; 16]).unwrap();
    let options = Options {
        layout,
        label: [0; 64],
        hash_seed: SEED,
        gen: 1,
        time: 1,
    };
    make(&memory, &options).unwrap();
    (memory, Geometry::check(&layout).unwrap())
}

/// Runs the checker; also returns what it printed.
pub fn run(storage: &dyn Storage, mode: Mode) -> (Result<Outcome, Error>, Vec<String>) {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let to = lines.clone();
    let mut report = Report::new(move |line| to.borrow_mut().push(line.to_owned()));
    let out = check(storage, mode, &mut report);
    let lines = lines.borrow().clone();
    (out, lines)
}

/// Asserts that nothing is wrong.
pub fn assert_clean(storage: &dyn Storage) -> Outcome {
    let (out, lines) = run(storage, Mode::Check);
    let out = out.unwrap();
    assert_eq!(out.errors, 0, "{lines:#?}");
    out
}

/// Asserts that a finding contains `text`.
pub fn assert_finds(storage: &dyn Storage, text: &str) {
    let (out, lines) = run(storage, Mode::Check);
    assert!(out.unwrap().errors > 0, "nothing found, not {text:?}");
    assert!(
        lines.iter().any(|l| l.contains(text)),
        "no {text:?} in {lines:#?}"
    );
}

/// Builds files.
pub struct Builder<'a> {
    pub editor: Editor<'a>,
    next: u64,
    pub inodes: u64,
}

impl<'a> Builder<'a> {
    pub fn new(storage: &'a Memory, geo: Geometry) -> Self {
        Self {
            editor: Editor::new(storage, geo),
            next: 2,
            inodes: 1,
        }
    }

    /// Goes on with an image that was finished.
    pub fn again(storage: &'a Memory, geo: Geometry) -> Self {
        let inodes = RawSuperBlock::of(&storage.read(0, 1024).unwrap())
            .unwrap()
            .inode_count
            .get();
        Self {
            editor: Editor::new(storage, geo),
            next: inodes + 1,
            inodes,
        }
    }

    pub fn record(&mut self, mode: u16, nlink: u32) -> InodeRecord {
        let mut rec = InodeRecord::new_zeroed();
        rec.ino = self.next.into();
        rec.mode = mode.into();
        rec.nlink = nlink.into();
        let kind = InodeRecord::tree_kind(mode).unwrap_or(Kind::Extents);
        rec.root = InlineRoot::empty(kind);
        self.next += 1;
        self.inodes += 1;
        rec
    }

    /// Stores a record with the tree it has now and `data` blocks of data more.
    pub fn store(&mut self, rec: &mut InodeRecord, tree: &Tree, data: u64) {
        rec.root = *tree.inline_root().unwrap();
        let gained = rec.nblocks.get().checked_add_signed(tree.delta()).unwrap();
        rec.nblocks = (gained + data).into();
        self.editor.put_inode(rec).unwrap();
    }

    pub fn tree(&self, rec: &InodeRecord) -> Tree {
        let kind = InodeRecord::tree_kind(rec.mode.get()).unwrap();
        Tree::inode(kind, Ino::new(rec.ino.get()), rec.root)
    }

    /// Puts a name into a directory.
    pub fn link(&mut self, into: Ino, name: &str, rec: &InodeRecord) -> u64 {
        let mut parent = self.editor.inode(into).unwrap().unwrap();
        let mut tree = self.tree(&parent);
        let ftype = InodeRecord::ftype(rec.mode.get());
        let ino = Ino::new(rec.ino.get());
        dir::insert(
            &mut tree,
            &mut self.editor,
            &SEED,
            name.as_bytes(),
            ino,
            ftype,
        )
        .unwrap();
        parent.size = (parent.size.get() + dir::size_for(1)).into();
        if ftype == 4 {
            parent.nlink = (parent.nlink.get() + 1).into();
        }
        self.store(&mut parent, &tree, 0);
        dir::base_key(&SEED, name.as_bytes())
    }

    pub fn mkdir(&mut self, into: Ino, name: &str) -> Ino {
        let mut rec = self.record(S_IFDIR | 0o755, 2);
        let mut tree = self.tree(&rec);
        dir::init(&mut tree, &mut self.editor, into).unwrap();
        self.store(&mut rec, &tree, 0);
        self.link(into, name, &rec);
        Ino::new(rec.ino.get())
    }

    /// A file of `n` extents of two blocks with holes between.
    pub fn file(&mut self, into: Ino, name: &str, n: u64) -> Ino {
        let mut rec = self.record(S_IFREG | 0o644, 1);
        let mut tree = self.tree(&rec);
        let mut data = 0;
        for i in 0..n {
            let (phys, len) = self.editor.alloc(BlockNr::ZERO, 2).unwrap();
            let e = Extent {
                fblk: i * 3,
                phys,
                len,
                unwritten: i % 5 == 4,
            };
            extent::insert(&mut tree, &mut self.editor, e).unwrap();
            data += len;
            for j in 0..len {
                let text = format!("{name}, extent {i}, block {j}; ");
                let mut bytes = text.repeat(4096 / text.len() + 1).into_bytes();
                bytes.truncate(self.editor.geo().block_size() as usize);
                let block = phys.checked_add(j).unwrap();
                self.editor.write_raw(block, bytes);
            }
        }
        rec.size = (n * 3 * self.editor.geo().block_size()).into();
        self.store(&mut rec, &tree, data);
        self.link(into, name, &rec);
        Ino::new(rec.ino.get())
    }

    pub fn symlink(&mut self, into: Ino, name: &str, target: &str) -> Ino {
        let mut rec = self.record(S_IFLNK | 0o777, 1);
        let mut tree = self.tree(&rec);
        symlink::write(&mut tree, &mut self.editor, target.as_bytes()).unwrap();
        rec.size = (target.len() as u64).into();
        self.store(&mut rec, &tree, 0);
        self.link(into, name, &rec);
        Ino::new(rec.ino.get())
    }

    /// Gives an inode an attribute.
    pub fn set_attr(&mut self, ino: Ino, name: Name<'_>, value: &[u8]) {
        let mut rec = self.editor.inode(ino).unwrap().unwrap();
        let mut attrs = Attrs::new(ino, rec.attr);
        attrs
            .set(&mut self.editor, &SEED, name, Some(value))
            .unwrap();
        rec.attr = *attrs.area();
        let blocks = rec.nblocks.get().checked_add_signed(attrs.delta());
        rec.nblocks = blocks.unwrap().into();
        self.editor.put_inode(&rec).unwrap();
    }

    /// A file that shares all blocks with `from`.
    pub fn clone_file(&mut self, from: Ino, into: Ino, name: &str) -> Ino {
        let mut old = self.editor.inode(from).unwrap().unwrap();
        old.flags = FLAG_MAY_SHARE.into();
        self.editor.put_inode(&old).unwrap();
        let mut rec = self.record(S_IFREG | 0o644, 1);
        rec.flags = FLAG_MAY_SHARE.into();
        let (source, mut tree) = (self.tree(&old), self.tree(&rec));
        let mut counts = self.editor.refcounts();
        let (mut at, mut data) = (0, 0);
        while let Some(e) = extent::next_extent(&source, &self.editor, at).unwrap() {
            extent::insert(&mut tree, &mut self.editor, e).unwrap();
            let mut done = 0;
            while done < e.len {
                let phys = e.phys.checked_add(done).unwrap();
                done += refcount::increase_step(&mut counts, &mut self.editor, phys, e.len - done)
                    .unwrap()
                    .unwrap();
            }
            at = e.end();
            data += e.len;
        }
        rec.size = old.size;
        self.store(&mut rec, &tree, data);
        self.link(into, name, &rec);
        Ino::new(rec.ino.get())
    }

    /// Writes everything, and the number of inodes.
    pub fn finish(mut self, storage: &Memory) {
        self.editor.flush().unwrap();
        edit_super(storage, |sb| sb.set_clean(self.inodes));
    }
}

pub fn edit_super(storage: &Memory, f: impl FnOnce(&mut RawSuperBlock)) {
    let mut bytes = storage.read(0, 1024).unwrap();
    let sb = RawSuperBlock::of_mut(&mut bytes).unwrap();
    f(sb);
    sb.seal();
    let bytes = sb.as_bytes().to_vec();
    storage.write_at(&bytes, 0).unwrap();
}

/// An image with some of everything: directories, files, links, shared blocks. Returns one file,
/// its clone and one directory.
pub fn full(log: u32, blocks: u64) -> (Memory, Geometry, [Ino; 3]) {
    let (memory, geo) = empty(log, blocks);
    let mut b = Builder::new(&memory, geo);
    let sub = b.mkdir(ROOT, "sub");
    b.mkdir(sub, "deeper");
    for i in 0..120 {
        b.file(sub, &format!("a name that takes some room {i}"), i % 4);
    }
    let big = b.file(ROOT, "big", 300);
    let copy = b.clone_file(big, sub, "copy");
    b.symlink(ROOT, "short", "target");
    b.symlink(sub, "long", &"x/".repeat(700));
    b.finish(&memory);
    (memory, geo, [big, copy, sub])
}

/// An image with everything: deep and wide directories, files of many extents with content, shared
/// and unwritten blocks, long targets, hard links, device files, orphans. Also an earlier state.
pub fn rich(log: u32, blocks: u64) -> (Memory, Geometry, Memory) {
    use calf_core::format::orphan::RawOrphan;
    let (memory, geo) = empty(log, blocks);
    let mut b = Builder::new(&memory, geo);
    let mut dir = ROOT;
    for depth in 0..6 {
        dir = b.mkdir(dir, &format!("depth {depth}"));
        b.file(dir, "here", depth);
    }
    let wide = b.mkdir(ROOT, "wide");
    for i in 0..250 {
        b.file(wide, &format!("file with a number {i}"), i % 3);
    }
    b.editor.flush().unwrap();
    let old = memory.clone();
    for i in 250..300 {
        b.file(wide, &format!("file with a number {i}"), i % 3);
    }
    let big = b.file(ROOT, "big", 200);
    let other = b.file(dir, "other", 90);
    b.clone_file(big, wide, "copy");
    b.clone_file(other, dir, "copy");
    b.symlink(ROOT, "short", "target");
    for i in 0..10 {
        b.symlink(
            wide,
            &format!("long {i}"),
            &format!("{i}/").repeat(300 + i * 150),
        );
    }
    for name in ["one more name", "and another"] {
        let mut rec = b.editor.inode(other).unwrap().unwrap();
        rec.nlink = (rec.nlink.get() + 1).into();
        b.editor.put_inode(&rec).unwrap();
        b.link(ROOT, name, &rec);
    }
    for (name, mode) in [("fifo", 0o010644), ("null", 0o020666), ("disk", 0o060600)] {
        let mut rec = b.record(mode, 1);
        rec.rdev = 0x103.into();
        b.editor.put_inode(&rec).unwrap();
        b.link(dir, name, &rec);
    }
    let mut orphan = b.record(S_IFREG, 0);
    let tree = b.tree(&orphan);
    b.store(&mut orphan, &tree, 0);
    let mut orphans = b.editor.orphans();
    let value = RawOrphan::unlinked();
    orphans
        .insert(&mut b.editor, orphan.ino.get(), value.as_bytes())
        .unwrap();
    b.finish(&memory);
    assert_clean(&memory);
    (memory, geo, old)
}

/// What tree a test edits.
pub fn inodes(geo: &Geometry) -> Tree {
    Tree::global(Kind::Inodes, geo.inode_root())
}

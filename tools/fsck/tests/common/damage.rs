// SPDX-License-Identifier: GPL-2.0

//! Damage, and what must survive it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use calf_core::algo::dir::Record;
use calf_core::algo::extent;
use calf_core::algo::symlink;
use calf_core::format::geometry::Geometry;
use calf_core::format::node::{self, NodeCore, Slot};
use calf_core::format::{BlockNr, Ino, Kind};
use calf_io::device::{Memory, Storage};
use calf_io::editor::Editor;
use std::ops::ControlFlow;
use zerocopy::FromBytes;

use super::{Builder, ROOT};

/// A device that fails for good after some writes, as if the power had gone.
pub struct Failing<'a> {
    memory: &'a Memory,
    left: Cell<u64>,
}

impl<'a> Failing<'a> {
    /// It takes `writes` more.
    pub fn new(memory: &'a Memory, writes: u64) -> Self {
        let left = Cell::new(writes);
        Self { memory, left }
    }
}

impl Storage for Failing<'_> {
    fn size(&self) -> u64 {
        self.memory.size()
    }
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.memory.read_at(buf, at)
    }
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        match self.left.get().checked_sub(1) {
            None => Err(io::Error::other("the power is gone")),
            Some(left) => {
                self.left.set(left);
                self.memory.write_at(buf, at)
            }
        }
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What a path leads to, and all blocks that say so.
#[derive(Clone, Debug)]
pub struct File {
    pub ino: u64,
    pub mode: u16,
    pub size: u64,
    pub nlink: u32,
    /// Content, as far as there is any: blocks by file block, or the target.
    pub data: Vec<(u64, Vec<u8>)>,
    /// The blocks without which it cannot be read: nodes of its tree and of all directories on the
    /// way, and its data.
    pub blocks: BTreeSet<u64>,
}

/// The level of a node, and the key and the first number in the value of each record that has one.
fn records(bytes: &[u8], core_at: usize, slots_at: usize) -> (u8, Vec<(u64, u64)>) {
    let (core, _) = NodeCore::ref_from_prefix(&bytes[core_at..]).unwrap();
    let nr = usize::from(core.nr.get());
    let (slots, _) = <[Slot]>::ref_from_prefix_with_elems(&bytes[slots_at..], nr).unwrap();
    let number = |slot: &Slot| {
        let value = bytes[usize::from(slot.off.get())..].first_chunk()?;
        Some((slot.key.get(), u64::from_le_bytes(*value)))
    };
    (core.level, slots.iter().filter_map(number).collect())
}

/// The blocks of a tree's nodes.
fn nodes(editor: &Editor<'_>, tree: &calf_core::algo::btree::Tree, out: &mut BTreeSet<u64>) {
    use calf_core::algo::store::NodeRead;
    let size = editor.geo().block_size() as usize;
    let mut todo: Vec<(u64, u8)> = Vec::new();
    let take = |bytes: &[u8], core_at: usize, slots_at: usize, todo: &mut Vec<(u64, u8)>| {
        let (level, records) = records(bytes, core_at, slots_at);
        if level > 0 {
            todo.extend(records.into_iter().map(|(_, child)| (child, level - 1)));
        }
    };
    match &tree.root {
        calf_core::algo::btree::Root::Inline(root) => take(&root.0, 0, node::CORE_SIZE, &mut todo),
        calf_core::algo::btree::Root::Block(block) => todo.push((block.get(), node::LEVEL_ANY)),
    }
    while let Some((block, level)) = todo.pop() {
        out.insert(block);
        let id = node::NodeId {
            block: BlockNr::new(block),
            owner: tree.owner,
            kind: tree.kind,
            level,
        };
        let bytes = editor.with_node(id, |bytes| bytes.to_vec()).unwrap();
        assert_eq!(bytes.len(), size);
        take(&bytes, node::CORE_OFFSET, node::HEADER_SIZE, &mut todo);
    }
}

/// All files by path, read with the trees' own code.
pub fn files(memory: &Memory, geo: Geometry) -> BTreeMap<Vec<u8>, File> {
    let b = Builder::new(memory, geo);
    let size = geo.block_size();
    let mut out = BTreeMap::new();
    let mut todo = vec![(Vec::new(), ROOT, BTreeSet::new())];
    let mut hops = 0;
    while let Some((path, ino, way)) = todo.pop() {
        hops += 1;
        assert!(hops < 100_000, "the directories go round");
        let rec = b.editor.inode(ino).unwrap().unwrap();
        let mut file = File {
            ino: ino.get(),
            mode: rec.mode.get(),
            size: rec.size.get(),
            nlink: rec.nlink.get(),
            data: Vec::new(),
            blocks: way,
        };
        if let Some(kind) = calf_core::format::inode::InodeRecord::tree_kind(file.mode) {
            let tree = b.tree(&rec);
            nodes(&b.editor, &tree, &mut file.blocks);
            match kind {
                Kind::Extents => {
                    let mut at = 0;
                    while let Some(e) = extent::next_extent(&tree, &b.editor, at).unwrap() {
                        for i in 0..e.len {
                            let block = e.phys.get() + i;
                            file.blocks.insert(block);
                            let bytes = memory.read(block * size, size as usize).unwrap();
                            let unwritten = if e.unwritten { Vec::new() } else { bytes };
                            file.data.push((e.fblk + i, unwritten));
                        }
                        at = e.end();
                    }
                }
                Kind::Dir => {
                    tree.scan(&b.editor, 1, |key, value| {
                        let record = Record::parse(key, value).unwrap();
                        let path = [&path[..], b"/", record.name].concat();
                        todo.push((path, record.ino, file.blocks.clone()));
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                }
                _ => {
                    let target = symlink::read(&tree, &b.editor, file.size).unwrap();
                    file.data.push((0, target.to_vec()));
                }
            }
        }
        out.insert(path, file);
    }
    out
}

/// The blocks of the tree of inodes that lead to an inode.
pub fn way_to(memory: &Memory, geo: Geometry, ino: u64) -> BTreeSet<u64> {
    let editor = Editor::new(memory, geo);
    let mut out = BTreeSet::new();
    let (mut block, mut level) = (geo.inode_root().get(), node::LEVEL_ANY);
    loop {
        use calf_core::algo::store::NodeRead;
        out.insert(block);
        let id = node::NodeId {
            block: BlockNr::new(block),
            owner: Ino::GLOBAL,
            kind: Kind::Inodes,
            level,
        };
        let bytes = editor.with_node(id, |bytes| bytes.to_vec()).unwrap();
        let (here, records) = records(&bytes, node::CORE_OFFSET, node::HEADER_SIZE);
        if here == 0 {
            return out;
        }
        let below = records.into_iter().rev().find(|&(key, _)| key <= ino);
        block = below.unwrap().1;
        level = here - 1;
    }
}

/// Both have the same files, with the same content.
pub fn same_content(before: &BTreeMap<Vec<u8>, File>, after: &BTreeMap<Vec<u8>, File>, note: &str) {
    assert!(before.keys().eq(after.keys()), "{note}: other names");
    for (path, old) in before {
        let new = &after[path];
        let says = |f: &File| (f.ino, f.mode, f.size, f.nlink);
        let name = path.escape_ascii();
        assert_eq!(says(old), says(new), "{name}, {note}");
        assert!(old.data == new.data, "{name} has another content, {note}");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A walk over a tree that trusts nothing: every node is verified, named once only, and in the
//! place its parent says.

use calf_core::format::geometry::Geometry;
use calf_core::format::node::{
    self, InlineRoot, NodeCore, NodeId, Slot, CORE_OFFSET, CORE_SIZE, HEADER_SIZE, LEVEL_ANY,
    MAX_LEVEL,
};
use calf_core::format::{value, BlockNr, Ino, Kind};
use zerocopy::FromBytes;

use crate::image::Image;
use crate::report::Report;
use crate::used::Used;

/// Records of a leaf: key and value.
pub type Records = Vec<(u64, Vec<u8>)>;

/// What a walk needs besides the tree.
pub struct Context<'a, 'b> {
    /// Where the nodes are.
    pub image: &'a Image<'b>,
    /// The layout.
    pub geo: &'a Geometry,
    /// Nodes seen so far.
    pub used: &'a mut Used,
    /// Takes the findings.
    pub report: &'a mut Report,
}

struct Todo {
    block: BlockNr,
    level: u8,
    lo: u64,
    hi: Option<u64>,
}

/// A walk in progress.
pub struct Walk {
    kind: Kind,
    owner: Ino,
    todo: Vec<Todo>,
    inline: Option<Records>,
    before: Option<(u64, Vec<u8>)>,
    /// Block nodes found.
    pub nodes: u64,
    /// Is everything of it readable?
    pub whole: bool,
    /// `tree_blocks` of the root of a global tree.
    counted: Option<u64>,
    root: BlockNr,
}

fn slots(bytes: &[u8], core_at: usize, slots_at: usize) -> Option<(u8, Records)> {
    let (core, _) = NodeCore::ref_from_prefix(bytes.get(core_at..)?).ok()?;
    let nr = usize::from(core.nr.get());
    let (slots, _) = <[Slot]>::ref_from_prefix_with_elems(bytes.get(slots_at..)?, nr).ok()?;
    let mut records = Vec::with_capacity(nr);
    for slot in slots {
        let off = usize::from(slot.off.get());
        let end = off.checked_add(usize::from(slot.len.get()))?;
        records.push((slot.key.get(), bytes.get(off..end)?.to_vec()));
    }
    Some((core.level, records))
}

fn child(value: &[u8]) -> BlockNr {
    BlockNr::new(value.try_into().map_or(0, u64::from_le_bytes))
}

impl Walk {
    fn new(kind: Kind, owner: Ino) -> Self {
        Self {
            kind,
            owner,
            todo: Vec::new(),
            inline: None,
            before: None,
            nodes: 0,
            whole: true,
            counted: None,
            root: BlockNr::ZERO,
        }
    }

    /// A walk over a global tree.
    pub fn global(kind: Kind, root: BlockNr) -> Self {
        Self::fixed(kind, Ino::GLOBAL, root)
    }

    /// A walk over a tree with a root block that never moves.
    pub fn fixed(kind: Kind, owner: Ino, root: BlockNr) -> Self {
        let mut walk = Self::new(kind, owner);
        walk.root = root;
        walk.todo.push(Todo {
            block: root,
            level: LEVEL_ANY,
            lo: 0,
            hi: None,
        });
        walk
    }

    /// A walk over the tree of an inode.
    pub fn inode(kind: Kind, owner: Ino, root: &InlineRoot, report: &mut Report) -> Self {
        let mut walk = Self::new(kind, owner);
        let parts = match node::verify_inline(root, kind) {
            Ok(()) => slots(&root.0, 0, CORE_SIZE).ok_or("root: records out of range"),
            Err(what) => Err(what),
        };
        match parts {
            Ok((0, records)) => walk.inline = Some(records),
            Ok((level, records)) => {
                if records.first().is_some_and(|(key, _)| *key != 0) {
                    walk.bad(report, BlockNr::ZERO, "tree: node begins at a wrong key");
                }
                walk.push(level, &records, None);
            }
            Err(what) => walk.bad(report, BlockNr::ZERO, what),
        }
        walk
    }

    fn bad(&mut self, report: &mut Report, block: BlockNr, what: &str) {
        self.whole = false;
        let kind = self.kind;
        match (self.owner, block) {
            (Ino::GLOBAL, _) => {
                report.error(format_args!("block {block}, tree of {kind:?}: {what}"))
            }
            (owner, BlockNr::ZERO) => {
                report.error(format_args!("inode {owner}, root of its {kind:?}: {what}"))
            }
            (owner, _) => report.error(format_args!(
                "block {block}, {kind:?} of inode {owner}: {what}"
            )),
        }
    }

    /// Notes the children of an internal node, the first one on top.
    fn push(&mut self, level: u8, records: &Records, hi: Option<u64>) {
        let mut hi = hi;
        for (key, value) in records.iter().rev() {
            self.todo.push(Todo {
                block: child(value),
                level: level.saturating_sub(1),
                lo: *key,
                hi,
            });
            hi = Some(*key);
        }
    }

    /// The next leaf with records that hold; [`None`] at the end.
    pub fn next(&mut self, cx: &mut Context<'_, '_>) -> Option<(BlockNr, Records)> {
        if let Some(records) = self.inline.take() {
            return Some((BlockNr::ZERO, records));
        }
        while let Some(todo) = self.todo.pop() {
            let (block, hi) = (todo.block, todo.hi);
            match self.load(cx, &todo) {
                Ok((0, records)) => {
                    return Some((block, self.leaf(cx, block, records)));
                }
                Ok((level, records)) => self.push(level, &records, hi),
                Err(what) => self.bad(cx.report, block, &what),
            }
        }
        if let Some(counted) = self
            .counted
            .take()
            .filter(|&n| self.whole && n != self.nodes)
        {
            let nodes = self.nodes;
            let what = format!("root says {counted} nodes, there are {nodes}");
            let root = self.root;
            self.bad(cx.report, root, &what);
            // All of it could be read.
            self.whole = true;
        }
        None
    }

    fn load(&mut self, cx: &mut Context<'_, '_>, todo: &Todo) -> Result<(u8, Records), String> {
        let block = todo.block;
        cx.geo.check_block(block)?;
        if !cx.used.take(block.get()) {
            return Err("node is used twice".into());
        }
        self.nodes = self.nodes.saturating_add(1);
        let bytes = cx
            .image
            .read(block.get())
            .map_err(|e| format!("cannot be read: {e}"))?;
        let id = NodeId {
            block,
            owner: self.owner,
            kind: self.kind,
            level: todo.level,
        };
        node::verify_structure(&bytes, &id, cx.geo.uuid())?;
        let (level, records) =
            slots(&bytes, CORE_OFFSET, HEADER_SIZE).ok_or("node: record out of range")?;
        let header = node::header(&bytes).ok_or("node: too small")?;
        let root = todo.level == LEVEL_ANY;
        if root {
            self.counted = Some(header.tree_blocks.get());
        } else if header.tree_blocks.get() != 0 {
            return Err("node: counts blocks, but is not the root of a global tree".into());
        }
        if header.reserved.iter().any(|&b| b != 0) {
            return Err("node: reserved bytes are not zero".into());
        }
        if level >= MAX_LEVEL {
            return Err("node: level too high".into());
        }
        let Some((first, _)) = records.first() else {
            return match root {
                true => Ok((level, records)),
                false => Err("tree: empty node".into()),
            };
        };
        if *first < todo.lo || (level > 0 && *first != todo.lo) {
            return Err("tree: node begins at a wrong key".into());
        }
        let last = records.last().map(|(key, _)| *key);
        if todo.hi.is_some_and(|hi| last >= Some(hi)) {
            return Err("tree: node reaches into the next one".into());
        }
        Ok((level, records))
    }

    /// Keeps the records of a leaf that hold.
    fn leaf(&mut self, cx: &mut Context<'_, '_>, block: BlockNr, records: Records) -> Records {
        let mut good = Records::with_capacity(records.len());
        for (key, bytes) in records {
            let mut held = value::verify_value(self.kind, key, &bytes);
            // Pieces of attributes are counted by whoever knows the names.
            let alone = self.kind == Kind::Xattr;
            if let (Ok(()), false, Some((before, old))) = (held, alone, &self.before) {
                held = value::verify_order(self.kind, *before, old, key);
            }
            match held {
                Ok(()) => {
                    self.before = Some((key, bytes.clone()));
                    good.push((key, bytes));
                }
                Err(what) => self.bad(cx.report, block, &format!("record {key}: {what}")),
            }
        }
        good
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Every field of every structure on an image, for tests that damage one after the other. Those of the log are
//! in [`crate::log_fields`]: on a clean image there is none.

use std::collections::BTreeSet;
use std::io;
use std::mem::offset_of;

use calf_core::format::extent::RawExtent;
use calf_core::format::geometry::Geometry;
use calf_core::format::group::{self, GroupDesc};
use calf_core::format::inode::{InodeRecord, FLAG_MAY_SHARE};
use calf_core::format::journal::{self, JournalSuperBlock};
use calf_core::format::node::{self, NodeCore, NodeHeader, Slot};
use calf_core::format::orphan::{RawOrphan, KIND_TRUNCATE};
use calf_core::format::refcount::RawRefcount;
use calf_core::format::super_block::RawSuperBlock;
use calf_core::format::{dirent, xattr, Kind};
use zerocopy::FromBytes;

use crate::device::Storage;
use crate::seal::Seal;

/// A field of a structure on the device.
#[derive(Clone, Debug)]
pub struct Field {
    /// Structure and field, as in `inode(file).size`; each name is there once.
    pub name: String,
    /// Its first byte on the device.
    pub at: u64,
    /// Bytes.
    pub len: usize,
    /// Numbers of the journal have their highest byte first.
    pub big_endian: bool,
    /// The checksums over it.
    pub seal: Seal,
}

/// Fields of a structure: name, offset, length.
pub(crate) type Layout = Vec<(&'static str, usize, usize)>;

pub(crate) fn len_of<S, F>(_: impl Fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// The [`Layout`] of a type. What is not named shows up as `unnamed`.
macro_rules! layout {
    ($t:ty: $($f:ident)+) => {{
        let named = vec![$((stringify!($f), std::mem::offset_of!($t, $f), $crate::fields::len_of(|s: &$t| &s.$f))),+];
        $crate::fields::with_gaps(named, size_of::<$t>())
    }};
}
pub(crate) use layout;

pub(crate) fn with_gaps(named: Layout, size: usize) -> Layout {
    let mut all = Layout::new();
    let mut end = 0;
    for (name, at, len) in named {
        if at > end {
            all.push(("unnamed", end, at - end));
        }
        all.push((name, at, len));
        end = at + len;
    }
    if end < size {
        all.push(("unnamed", end, size - end));
    }
    all
}

fn super_layout() -> Layout {
    layout!(RawSuperBlock: magic crc version feature_compat feature_ro_compat feature_incompat uuid label
        hash_seed block_size_log state blocks desc_start desc_blocks ngroups journal_start journal_blocks
        inode_root refcount_root orphan_root root_ino inode_count mkfs_time last_mount error_code reserved
        error_block error_time backup_block rest)
}

pub(crate) fn journal_layout() -> Layout {
    let mut all = layout!(journal::Header: magic blocktype sequence);
    let rest = layout!(JournalSuperBlock: header blocksize maxlen first sequence start errno feature_compat
        feature_incompat feature_ro_compat uuid nr_users dynsuper max_transaction max_trans_data
        checksum_type num_fc_blks head padding checksum users);
    all.extend(rest.into_iter().skip(1).map(|(name, at, len)| match name {
        "sequence" => ("first_sequence", at, len),
        _ => (name, at, len),
    }));
    all
}

fn inode_layout() -> Layout {
    layout!(InodeRecord: ino size nblocks atime mtime ctime btime iversion gen flags uid gid nlink projid
        rdev mode reserved root attr)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// Lists the fields of a clean filesystem: of each structure one, of each kind of tree a leaf and a node
/// above it, of each kind of inode one, of the records in a node the first, the last and one between.
/// Errors: those of the device; `InvalidData` where the image is not in order.
pub fn fields(storage: &dyn Storage, geo: &Geometry) -> io::Result<Vec<Field>> {
    let mut w = Walk {
        storage,
        geo,
        found: Vec::new(),
        seen: BTreeSet::new(),
        half_cut: BTreeSet::new(),
    };
    w.fixed()?;
    let roots = [
        // They say which files are half cut.
        (geo.orphan_root(), Kind::Orphans),
        (geo.inode_root(), Kind::Inodes),
        (geo.refcount_root(), Kind::Refcount),
    ];
    for (root, kind) in roots {
        w.tree(root.get(), kind, "")?;
    }
    Ok(w.found)
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    geo: &'a Geometry,
    found: Vec<Field>,
    /// Structures that have been listed.
    seen: BTreeSet<String>,
    /// Inodes whose truncation is not done.
    half_cut: BTreeSet<u64>,
}

impl Walk<'_> {
    fn add(&mut self, structure: &str, layout: &Layout, at: u64, seal: Seal) {
        for &(field, off, len) in layout {
            let name = format!("{structure}.{field}");
            let again = self.found.iter().any(|f| f.name == name);
            self.found.push(Field {
                name: if again { format!("{name}@{off}") } else { name },
                at: at.saturating_add(off as u64),
                len,
                big_endian: structure == "journal",
                // A checksum that is damaged is not put right.
                seal: if matches!(field, "crc" | "checksum") {
                    Seal::None
                } else {
                    seal
                },
            });
        }
    }

    fn byte(&self, block: u64) -> u64 {
        block.saturating_mul(self.geo.block_size())
    }

    fn block(&self, block: u64) -> io::Result<Vec<u8>> {
        // CAST: a block has at most 4096 bytes.
        self.storage
            .read(self.byte(block), self.geo.block_size() as usize)
    }

    /// What has its place from the beginning.
    fn fixed(&mut self) -> io::Result<()> {
        self.add("super", &super_layout(), 0, Seal::Super(0));
        if let Some(backup) = self.geo.backup_block() {
            let at = self.byte(backup.get());
            self.add("backup", &super_layout(), at, Seal::Super(at));
        }
        let at = self.byte(self.geo.journal_start().get());
        self.add("journal", &journal_layout(), at, Seal::Journal(at));
        for g in 0..self.geo.ngroups() {
            let (block, off) = self.geo.desc_location(g);
            let uninit = group::is_uninit(&self.block(block.get())?, off);
            let name = if uninit { "group(uninit)" } else { "group" };
            if !self.seen.insert(name.into()) {
                continue;
            }
            let layout = layout!(GroupDesc: bitmap free bitmap_crc flags reserved crc);
            let at = self.byte(block.get()).saturating_add(off as u64);
            self.add(name, &layout, at, Seal::Desc(g));
            if !uninit {
                self.bitmap(g)?;
            }
        }
        Ok(())
    }

    /// Words of a bitmap: its first, the first that is neither full nor empty, its last.
    fn bitmap(&mut self, g: u64) -> io::Result<()> {
        let block = self.geo.bitmap_block(g).get();
        let bytes = self.block(block)?;
        let mixed = bytes.iter().position(|&b| b != 0 && b != 0xff).unwrap_or(0) & !7;
        let last = bytes.len().saturating_sub(8);
        let layout = vec![("first", 0, 8), ("mixed", mixed, 8), ("last", last, 8)];
        self.add("bitmap", &layout, self.byte(block), Seal::Bitmap(g));
        Ok(())
    }

    /// All nodes of a tree with its root in a block. What may be wrong depends on whom it is `of`.
    fn tree(&mut self, root: u64, kind: Kind, of: &str) -> io::Result<()> {
        let mut todo = vec![root];
        let mut left = self.geo.blocks();
        while let Some(block) = todo.pop() {
            left = left
                .checked_sub(1)
                .ok_or_else(|| bad("a tree goes round"))?;
            let bytes = self.block(block)?;
            let header = node::header(&bytes).ok_or_else(|| bad("a node is too short"))?;
            if header.magic.get() != node::MAGIC {
                return Err(bad("a node without its magic number"));
            }
            let level = if header.core.level == 0 {
                "leaf"
            } else {
                "node"
            };
            let name = format!("{level}({kind:?}{of})");
            let at = self.byte(block);
            let children = self.node(
                &name,
                kind,
                &bytes,
                node::CORE_OFFSET,
                at,
                Seal::Node(block),
            )?;
            todo.extend(children);
        }
        Ok(())
    }

    /// One node, in a block or in an inode. Returns its children.
    fn node(
        &mut self,
        name: &str,
        kind: Kind,
        bytes: &[u8],
        core_at: usize,
        at: u64,
        seal: Seal,
    ) -> io::Result<Vec<u64>> {
        let rest = bytes.get(core_at..).unwrap_or_default();
        let (core, _) = NodeCore::ref_from_prefix(rest).map_err(|_| bad("a node is too short"))?;
        let new = self.seen.insert(name.into());
        let inline = core_at == 0;
        let slots = if inline {
            node::CORE_SIZE
        } else {
            node::HEADER_SIZE
        };
        if new {
            let core = layout!(NodeCore: level kind nr heap dead);
            if !inline {
                let mut header =
                    layout!(NodeHeader: magic crc block owner uuid core tree_blocks reserved);
                header.retain(|f| f.0 != "core");
                self.add(name, &header, at, seal);
            }
            self.add(name, &core, at.saturating_add(core_at as u64), seal);
        }
        let nr = usize::from(core.nr.get());
        let mut children = Vec::new();
        for i in 0..nr {
            let off = slots + i * node::SLOT_SIZE;
            let slot = bytes
                .get(off..)
                .and_then(|b| Some(Slot::ref_from_prefix(b).ok()?.0));
            let slot = slot.ok_or_else(|| bad("a slot beyond its node"))?;
            let start = usize::from(slot.off.get());
            let value = bytes.get(start..start + usize::from(slot.len.get()));
            let value = value.ok_or_else(|| bad("a value beyond its node"))?;
            let value_at = at.saturating_add(start as u64);
            let which = match i {
                0 => "first",
                _ if i + 1 == nr => "last",
                _ if i == nr / 2 => "middle",
                _ => "",
            };
            if new && !which.is_empty() {
                let layout = layout!(Slot: key off len);
                self.add(
                    &format!("{name}.{which}"),
                    &layout,
                    at.saturating_add(off as u64),
                    seal,
                );
            }
            if core.level > 0 {
                let child = value.first_chunk().ok_or_else(|| bad("a short child"))?;
                children.push(u64::from_le_bytes(*child));
                if new && !which.is_empty() {
                    self.add(
                        &format!("{name}.{which}"),
                        &vec![("child", 0, 8)],
                        value_at,
                        seal,
                    );
                }
            } else if kind == Kind::Inodes {
                self.inode(value, value_at, seal)?;
            } else if kind == Kind::Orphans {
                self.orphan(slot.key.get(), value, value_at, seal)?;
            } else if new && !which.is_empty() {
                let layout = value_layout(kind, slot.key.get(), value);
                self.add(&format!("{name}.{which}"), &layout, value_at, seal);
            }
        }
        Ok(children)
    }

    /// The record of an orphan, of each kind one.
    fn orphan(&mut self, ino: u64, value: &[u8], at: u64, seal: Seal) -> io::Result<()> {
        let record = RawOrphan::ref_from_bytes(value).map_err(|_| bad("an orphan's length"))?;
        let cut = record.kind.get() == KIND_TRUNCATE;
        if cut {
            self.half_cut.insert(ino);
        }
        let name = if cut {
            "orphan(truncation)"
        } else {
            "orphan(unlinked)"
        };
        if self.seen.insert(name.into()) {
            let layout = layout!(RawOrphan: kind reserved size);
            self.add(name, &layout, at, seal);
        }
        Ok(())
    }

    /// The record of an inode, and its trees.
    fn inode(&mut self, value: &[u8], at: u64, seal: Seal) -> io::Result<()> {
        let record =
            InodeRecord::ref_from_bytes(value).map_err(|_| bad("an inode of a wrong length"))?;
        let mode = record.mode.get();
        let kind = InodeRecord::tree_kind(mode);
        let name = match kind {
            Some(Kind::Extents) => "file",
            Some(Kind::Dir) => "directory",
            Some(_) => "symlink",
            None => "special",
        };
        let orphan = if record.nlink.get() == 0 {
            ",unlinked"
        } else if self.half_cut.contains(&record.ino.get()) {
            ",half cut"
        } else {
            ""
        };
        let attrs = match xattr::form(&record.attr) {
            xattr::Form::None => "",
            xattr::Form::Short => ",short attributes",
            xattr::Form::Tree(_) => ",attributes",
        };
        let height = if record.root.0.first() == Some(&0) {
            ""
        } else {
            ",tree"
        };
        let shared = if record.flags.get() & FLAG_MAY_SHARE != 0 {
            ",shared"
        } else {
            ""
        };
        let name = format!("inode({name}{height}{shared}{attrs}{orphan})");
        if self.seen.insert(name.clone()) {
            let mut layout = inode_layout();
            layout.retain(|f| f.0 != "root" && f.0 != "attr");
            layout.extend(
                area_layout(record)
                    .into_iter()
                    .map(|(n, off, len)| (n, off + offset_of!(InodeRecord, attr), len)),
            );
            self.add(&name, &layout, at, seal);
            if kind.is_none() {
                let at = at.saturating_add(offset_of!(InodeRecord, root) as u64);
                let mut layout = layout!(NodeCore: level kind nr heap dead);
                layout = with_gaps(layout, node::INLINE_SIZE);
                self.add(&format!("{name}.root"), &layout, at, seal);
            }
        }
        if let Some(kind) = kind {
            let name = format!("{name}.root");
            let at = at.saturating_add(offset_of!(InodeRecord, root) as u64);
            for child in self.node(&name, kind, &record.root.0, 0, at, seal)? {
                self.tree(child, kind, orphan)?;
            }
        }
        if let xattr::Form::Tree(root) = xattr::form(&record.attr) {
            self.tree(root.get(), Kind::Xattr, orphan)?;
        }
        Ok(())
    }
}

/// The attribute area of a record, all of it.
fn area_layout(record: &InodeRecord) -> Layout {
    let mut layout = vec![("attr_form", 0, 1)];
    match xattr::form(&record.attr) {
        xattr::Form::None => layout.push(("attr_unused", 1, xattr::AREA - 1)),
        xattr::Form::Short => {
            let mut at = 1;
            for (name, value) in xattr::short(&record.attr) {
                let name_at = at + xattr::SHORT_HEAD;
                let value_at = name_at + name.name.len();
                layout.extend([
                    ("attr_index", at, 1),
                    ("attr_name_len", at + 1, 1),
                    ("attr_value_len", at + 2, 1),
                    ("attr_name", name_at, name.name.len()),
                    ("attr_value", value_at, value.len()),
                ]);
                at = value_at + value.len();
            }
            layout.push(("attr_unused", at, xattr::AREA.saturating_sub(at)));
        }
        xattr::Form::Tree(_) => {
            let after = xattr::ROOT_AT + 8;
            layout.extend([
                ("attr_reserved", 1, xattr::ROOT_AT - 1),
                ("attr_root", xattr::ROOT_AT, 8),
                ("attr_unused", after, xattr::AREA - after),
            ]);
        }
    }
    layout.retain(|&(_, _, len)| len > 0);
    layout
}

/// A record of a leaf.
fn value_layout(kind: Kind, key: u64, value: &[u8]) -> Layout {
    match kind {
        Kind::Extents => layout!(RawExtent: phys len flags),
        Kind::Refcount => layout!(RawRefcount: len count),
        Kind::Dir => {
            let name = value.len().saturating_sub(dirent::HEADER);
            let mut layout = vec![
                ("ino", 0, 8),
                ("ftype", 8, 1),
                ("name", dirent::HEADER, name),
            ];
            // The record of the parent has none.
            layout.retain(|&(_, _, len)| len > 0);
            layout
        }
        Kind::Xattr if xattr::piece_of(key) == 0 => {
            let name = usize::from(value.get(1).copied().unwrap_or(0));
            let after = xattr::HEAD + name;
            let mut layout = vec![
                ("index", 0, 1),
                ("name_len", 1, 1),
                ("value_len", 2, 4),
                ("name", xattr::HEAD, name),
                ("value", after, value.len().saturating_sub(after)),
            ];
            layout.retain(|&(_, _, len)| len > 0);
            layout
        }
        Kind::Xattr | Kind::Symlink | Kind::Inodes | Kind::Orphans => {
            vec![("bytes", 0, value.len())]
        }
    }
}

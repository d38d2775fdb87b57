// SPDX-License-Identifier: GPL-2.0

//! Reads everything that can be read into a [`Model`]. What is wrong with a single inode is mended
//! here; what is wrong between inodes, later.

use std::collections::BTreeSet;

use calf_core::algo::dir::{self, PARENT_KEY};
use calf_core::format::dirent::SEQ_BITS;
use calf_core::format::extent::RawExtent;
use calf_core::format::inode::{InodeRecord, MAX_SIZE, S_IFDIR, S_IFLNK, S_IFREG};
use calf_core::format::node::InlineRoot;
use calf_core::format::orphan::{RawOrphan, KIND_TRUNCATE};
use calf_core::format::symlink::{CHUNK, TARGET_MAX};
use calf_core::format::{BlockNr, Ino, Kind};
use zerocopy::FromZeros;

use super::attrs::Attributes;
use super::mend::{mend, Mended};
use super::model::{Content, Entry, Extent, Global, Model, Node};
use super::salvage::{Found, Root, Salvage};
use crate::report::Report;
use crate::trees::Records;

/// What the reading needs.
pub struct Gather<'s, 'a, 'b> {
    /// Reads the trees.
    pub salvage: &'s mut Salvage<'a, 'b>,
    /// Secret key of the directory hash.
    pub hash_seed: [u8; 16],
    /// Takes the messages.
    pub report: &'s mut Report,
}

/// An inode whose tree has been read, but not yet been understood.
struct Raw {
    rec: InodeRecord,
    changed: bool,
    kind: Option<Kind>,
    tree: Found,
}

fn global(found: Found) -> Global {
    Global {
        nodes: found.nodes,
        rewrite: !found.sound,
        records: found.records,
    }
}

impl Gather<'_, '_, '_> {
    /// Reads everything.
    pub fn run(&mut self) -> Model {
        let geo = self.salvage.geo;
        let mut model = Model::default();
        let root = |block| Root::Block(block);
        let orphans = self
            .salvage
            .read(Kind::Orphans, Ino::GLOBAL, root(geo.orphan_root()));
        for (key, value) in &orphans.records {
            if let Ok(orphan) = RawOrphan::parse(*key, value) {
                let cut = orphan.kind.get() == KIND_TRUNCATE;
                model.orphans.insert(*key, cut);
            }
        }
        self.unsealed("tree of orphans", &orphans);
        if orphans.has_gaps() || orphans.dropped > 0 {
            self.report.guessed(format_args!(
                "tree of orphans: cannot be read whole; written anew"
            ));
        }
        model.orphan_tree = global(orphans);
        let counts = self
            .salvage
            .read(Kind::Refcount, Ino::GLOBAL, root(geo.refcount_root()));
        model.refcount_tree = global(counts);
        let mut inodes = self
            .salvage
            .read(Kind::Inodes, Ino::GLOBAL, root(geo.inode_root()));
        self.unsealed("tree of inodes", &inodes);
        for &ino in &inodes.doubtful {
            self.report.guessed(format_args!(
                "inode {ino}: its record lies in a node with a wrong checksum; contents uncertain"
            ));
            model.uncertain.insert(ino);
        }
        if inodes.dropped > 0 {
            let n = inodes.dropped;
            self.report.lost(format_args!(
                "tree of inodes: {n} records make no sense; dropped"
            ));
        }
        self.inodes(&mut model, std::mem::take(&mut inodes.records));
        if inodes.has_gaps() {
            let data = model.data_bits(geo);
            let taken = self
                .salvage
                .fill(&mut inodes, Kind::Inodes, Ino::GLOBAL, &data);
            if taken > 0 {
                self.report.guessed(format_args!(
                    "tree of inodes: {taken} nodes that nothing led to taken in again"
                ));
            }
            let found = std::mem::take(&mut inodes.records);
            let found = found
                .into_iter()
                .filter(|(ino, _)| !model.inodes.contains_key(ino))
                .collect();
            self.inodes(&mut model, found);
            self.homeless(&mut model, &inodes);
        }
        model.inode_tree = global(inodes);
        model
    }

    /// Says which nodes of a tree are believed without a right checksum.
    fn unsealed(&mut self, what: &str, found: &Found) {
        for block in &found.unsealed {
            self.report.guessed(format_args!(
                "{what}: block {block} has a wrong checksum; what it says is taken for true"
            ));
        }
    }

    /// Understands inode records and reads their trees, then fills the gaps of the trees.
    fn inodes(&mut self, model: &mut Model, records: Records) {
        let mut broken = Vec::new();
        for (ino, value) in records {
            let Some(Mended {
                rec,
                what,
                lost,
                untyped,
            }) = mend(ino, &value)
            else {
                self.report.lost(format_args!(
                    "inode {ino}: record makes no sense; dropped with its names"
                ));
                model.inode_tree.rewrite = true;
                continue;
            };
            let changed = !what.is_empty();
            let what = format!("inode {ino}: {}", what.join(", "));
            if lost {
                self.report.lost(format_args!("{what}"));
            } else if changed {
                self.report.done(format_args!("{what}"));
            }
            if untyped {
                model.untyped.insert(ino);
            }
            let kind = InodeRecord::tree_kind(rec.mode.get());
            let tree = match kind {
                Some(kind) => self
                    .salvage
                    .read(kind, Ino::new(ino), Root::Inline(&rec.root)),
                None => Found::none(),
            };
            let raw = Raw {
                rec,
                changed,
                kind,
                tree,
            };
            if raw.tree.has_gaps() {
                broken.push((ino, raw));
            } else {
                self.understand(model, ino, raw);
            }
        }
        if broken.is_empty() {
            return;
        }
        let data = model.data_bits(self.salvage.geo);
        for (ino, mut raw) in broken {
            if let Some(kind) = raw.kind {
                let taken = self.salvage.fill(&mut raw.tree, kind, Ino::new(ino), &data);
                if taken > 0 {
                    self.report.guessed(format_args!(
                        "inode {ino}: {taken} nodes of its {kind:?} that nothing led to taken in again"
                    ));
                }
            }
            self.understand(model, ino, raw);
        }
    }

    /// Makes inodes again whose record is lost, but nodes of their tree are not.
    fn homeless(&mut self, model: &mut Model, inodes: &Found) {
        let data = model.data_bits(self.salvage.geo);
        let kinds = [
            (Kind::Dir, S_IFDIR | 0o700),
            (Kind::Extents, S_IFREG | 0o600),
            (Kind::Symlink, S_IFLNK | 0o777),
        ];
        for (kind, mode) in kinds {
            for ino in self.salvage.lost_owners(kind, &data) {
                if ino == 0 || !inodes.is_missing(ino) || model.inodes.contains_key(&ino) {
                    continue;
                }
                let root = InlineRoot::new_zeroed();
                let mut tree = self.salvage.read(kind, Ino::new(ino), Root::Inline(&root));
                if self.salvage.fill(&mut tree, kind, Ino::new(ino), &data) == 0 {
                    continue;
                }
                let rec = new_record(ino, mode);
                self.report.guessed(format_args!(
                    "inode {ino}: record is lost, made anew from what is left of its {kind:?}"
                ));
                let raw = Raw {
                    rec,
                    changed: true,
                    kind: Some(kind),
                    tree,
                };
                self.understand(model, ino, raw);
                model.hurt.insert(ino);
            }
        }
    }

    /// Turns the records of an inode's tree into its content.
    fn understand(&mut self, model: &mut Model, ino: u64, raw: Raw) {
        let Raw {
            rec, changed, kind, ..
        } = raw;
        let Found {
            records,
            nodes,
            sound,
            ..
        } = &raw.tree;
        if !raw.tree.unsealed.is_empty() {
            let n = raw.tree.unsealed.len();
            self.report.guessed(format_args!(
                "inode {ino}: {n} nodes of its {} have a wrong checksum; contents uncertain",
                kind.map_or("tree".into(), |kind| format!("{kind:?}")),
            ));
            model.uncertain.insert(ino);
        }
        if raw.tree.has_gaps() {
            self.report.lost(format_args!(
                "inode {ino}: nodes of its {} cannot be read; it is rebuilt from {} records",
                kind.map_or("tree".into(), |kind| format!("{kind:?}")),
                records.len()
            ));
            model.hurt.insert(ino);
        } else if raw.tree.dropped > 0 {
            let n = raw.tree.dropped;
            self.report.lost(format_args!(
                "inode {ino}: {n} records of its tree make no sense; dropped"
            ));
            model.hurt.insert(ino);
        }
        let mut node = Node {
            rec,
            content: Content::None,
            nodes: nodes.clone(),
            rewrite: !sound,
            changed,
            attrs: Attributes::default(),
        };
        self.attributes(ino, &mut node);
        match kind {
            Some(Kind::Extents) => {
                node.content = Content::File(self.extents(model, ino, records, &mut node.rewrite));
            }
            Some(Kind::Dir) => {
                node.content = self.names(ino, records, &mut node.rewrite);
            }
            Some(_) => {
                let Some(target) = self.target(ino, &rec, records, &mut node) else {
                    model.inode_tree.rewrite = true;
                    return;
                };
                node.content = Content::Link(target);
            }
            None => {}
        }
        model.inodes.insert(ino, node);
    }

    fn extents(
        &mut self,
        model: &mut Model,
        ino: u64,
        records: &Records,
        rewrite: &mut bool,
    ) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::with_capacity(records.len());
        // Where the largest size ends; an extent may say that it lies behind that.
        let size = self.salvage.geo.block_size().max(1);
        let limit = MAX_SIZE.div_ceil(size);
        for (fblk, value) in records {
            let Ok(raw) = RawExtent::parse(*fblk, value) else {
                *rewrite = true;
                continue;
            };
            let mut e = Extent {
                fblk: *fblk,
                phys: raw.phys.get(),
                len: raw.len.get().into(),
                unwritten: raw.is_unwritten(),
            };
            let end = extents.last().map_or(0, Extent::end);
            let (phys, len) = (e.phys, e.len);
            let held = self.salvage.geo.check_range(BlockNr::new(phys), len);
            let what = match held {
                Err(what) => what,
                Ok(()) if e.end() <= end => "lies inside another extent",
                Ok(()) if e.fblk < end => "overlaps the extent before it",
                Ok(()) if e.end() > limit => "lies beyond the largest size",
                Ok(()) => {
                    extents.push(e);
                    continue;
                }
            };
            *rewrite = true;
            model.hurt.insert(ino);
            let (from, to) = (e.fblk.max(end), e.end().min(limit));
            let part = from < to && held.is_ok();
            self.report.lost(format_args!(
                "inode {ino}: extent at file block {fblk} (block {phys}, {len} blocks): {what}; {}",
                if part { "cut" } else { "dropped" }
            ));
            if part {
                e.phys = e.phys.saturating_add(from.saturating_sub(e.fblk));
                (e.fblk, e.len) = (from, to.saturating_sub(from));
                extents.push(e);
            }
        }
        extents
    }

    fn names(&mut self, ino: u64, records: &Records, rewrite: &mut bool) -> Content {
        let mut parent = 0;
        let mut entries: Vec<Entry> = Vec::with_capacity(records.len());
        let mut seen: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let mut hash = 0;
        for (key, value) in records {
            let Some(record) = dir::Record::parse(*key, value) else {
                *rewrite = true;
                continue;
            };
            if *key == PARENT_KEY {
                parent = record.ino.get();
                continue;
            }
            let name = record.name.escape_ascii();
            let mut entry = Entry {
                key: Some(*key),
                ino: record.ino.get(),
                ftype: record.ftype,
                name: record.name.into(),
            };
            let right = dir::base_key(&self.hash_seed, record.name) >> SEQ_BITS;
            if *key >> SEQ_BITS != right {
                self.report.guessed(format_args!(
                    "inode {ino}: name \"{name}\" under the key {key:#x} of another name; moved"
                ));
                *rewrite = true;
                entry.key = None;
            }
            if *key >> SEQ_BITS != hash {
                hash = *key >> SEQ_BITS;
                seen.clear();
            }
            if !seen.insert(entry.name.clone()) {
                self.report.lost(format_args!(
                    "inode {ino}: name \"{name}\" is there twice; the second one, which leads to inode {}, dropped",
                    entry.ino
                ));
                *rewrite = true;
                continue;
            }
            entries.push(entry);
        }
        if *rewrite {
            // Names under wrong keys may be there twice, too.
            let mut all: BTreeSet<Box<[u8]>> = BTreeSet::new();
            entries.sort_by_key(|e| e.key.is_none());
            entries.retain(|e| {
                let first = all.insert(e.name.clone());
                if !first {
                    self.report.lost(format_args!(
                        "inode {ino}: name \"{}\" is there twice; the second one, which leads to inode {}, dropped",
                        e.name.escape_ascii(),
                        e.ino
                    ));
                }
                first
            });
        }
        Content::Dir(parent, entries)
    }

    /// The target of a symbolic link; [`None`] if too much of it is lost to keep it.
    fn target(
        &mut self,
        ino: u64,
        rec: &InodeRecord,
        records: &Records,
        node: &mut Node,
    ) -> Option<Vec<u8>> {
        let mut target = Vec::new();
        let mut whole = true;
        for (i, (key, piece)) in (0u64..).zip(records) {
            let last = i.saturating_add(1) == records.len() as u64;
            whole &= *key == i && (piece.len() == CHUNK || last);
            target.extend_from_slice(piece);
        }
        node.rewrite |= !whole;
        // What is being removed may have lost its target already; if it stays after all, `names` judges it.
        if rec.nlink.get() == 0 {
            return Some(target);
        }
        whole &= target.len() as u64 == rec.size.get() || !node.rewrite;
        judge_target(ino, node, target.len(), whole, self.report).then_some(target)
    }
}

/// Whether the symbolic link `ino` can be kept, whose target has `len` bytes and may be `whole`. If so, its size is that.
pub fn judge_target(
    ino: u64,
    node: &mut Node,
    len: usize,
    whole: bool,
    report: &mut Report,
) -> bool {
    let size = node.rec.size.get();
    if !whole || len == 0 || len > TARGET_MAX {
        report.lost(format_args!(
            "inode {ino}: symbolic link of {size} bytes whose target cannot be read; dropped with its names"
        ));
        return false;
    }
    if size != len as u64 {
        report.done(format_args!(
            "inode {ino}: symbolic link of {size} bytes with a target of {len}; size set"
        ));
        node.rec.size = (len as u64).into();
        node.changed = true;
    }
    true
}

/// The record of an inode of which nothing but its number is known.
pub fn new_record(ino: u64, mode: u16) -> InodeRecord {
    let mut rec = InodeRecord::new_zeroed();
    rec.ino = ino.into();
    rec.mode = mode.into();
    rec.iversion = 1.into();
    rec.gen = calf_core::seam::crc32c(!0, &(now().to_le_bytes())).into();
    for time in [
        &mut rec.atime,
        &mut rec.mtime,
        &mut rec.ctime,
        &mut rec.btime,
    ] {
        *time = now().into();
    }
    if let Some(kind) = InodeRecord::tree_kind(mode) {
        rec.root = InlineRoot::empty(kind);
    }
    rec
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

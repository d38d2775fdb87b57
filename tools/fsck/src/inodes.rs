// SPDX-License-Identifier: GPL-2.0

//! Inodes and their trees: extents, names, targets.

use std::collections::{BTreeMap, HashSet};

use calf_core::algo::dir::{self, Record, PARENT_KEY};
use calf_core::format::dirent::SEQ_BITS;
use calf_core::format::extent::RawExtent;
use calf_core::format::inode::{InodeRecord, FLAG_MAY_SHARE, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use calf_core::format::orphan::{RawOrphan, KIND_TRUNCATE};
use calf_core::format::refcount::RawRefcount;
use calf_core::format::symlink::{CHUNK, TARGET_MAX};
use calf_core::format::{BlockNr, Ino, Kind};
use zerocopy::FromBytes;

use crate::attrs;
use crate::trees::{Context, Records, Walk};
use crate::used::{self, Run};

/// What is known of an inode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inode {
    /// Type and permissions.
    pub mode: u16,
    /// Names it says it has.
    pub nlink: u32,
    /// Bytes, as recorded.
    pub size: u64,
    /// Names that were found.
    pub names: u32,
    /// Directories found in it.
    pub subdirs: u32,
    /// The parent that a directory names.
    pub parent: u64,
    /// The directory that was found to hold it.
    pub found_in: u64,
    /// May its blocks be shared?
    pub may_share: bool,
}

impl Inode {
    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    /// Is it a regular file?
    pub fn is_reg(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }
}

/// A directory entry.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The directory.
    pub dir: u64,
    /// The inode the name leads to.
    pub ino: u64,
    /// The type the entry says it has.
    pub ftype: u8,
}

/// All that the trees say.
#[derive(Default)]
pub struct Found {
    /// Inodes by number.
    pub inodes: BTreeMap<u64, Inode>,
    /// All directory entries.
    pub links: Vec<Link>,
    /// Runs of the refcount tree.
    pub refcounts: Vec<Run>,
    /// Orphan records: is it a truncation?
    pub orphans: BTreeMap<u64, bool>,
    /// Runs of blocks of files that may not share: start, end, inode.
    pub exclusive: Vec<(u64, u64, u64)>,
    /// Could all nodes be read?
    pub whole: bool,
}

/// Reads all trees.
pub fn read(cx: &mut Context<'_, '_>, hash_seed: &[u8; 16]) -> Found {
    let mut found = Found {
        whole: true,
        ..Found::default()
    };
    let mut walk = Walk::global(Kind::Orphans, cx.geo.orphan_root());
    while let Some((_, records)) = walk.next(cx) {
        for (key, value) in records {
            if let Ok(orphan) = RawOrphan::parse(key, &value) {
                found
                    .orphans
                    .insert(key, orphan.kind.get() == KIND_TRUNCATE);
            }
        }
    }
    found.whole &= walk.whole;
    let mut walk = Walk::global(Kind::Refcount, cx.geo.refcount_root());
    while let Some((block, records)) = walk.next(cx) {
        for (key, value) in records {
            let Ok(run) = RawRefcount::parse(key, &value) else {
                continue;
            };
            let len = u64::from(run.len.get());
            if let Err(what) = cx.geo.check_range(BlockNr::new(key), len) {
                cx.report.error(format_args!(
                    "block {block}, reference count of {len} blocks from {key}: {what}"
                ));
                continue;
            }
            let end = key.saturating_add(len);
            used::push(&mut found.refcounts, (key, end, run.count.get()));
        }
    }
    found.whole &= walk.whole;
    let mut walk = Walk::global(Kind::Inodes, cx.geo.inode_root());
    while let Some((block, records)) = walk.next(cx) {
        for (ino, value) in records {
            if let Ok(rec) = InodeRecord::read_from_bytes(&value) {
                inode(cx, &mut found, ino, &rec, hash_seed);
            } else {
                let what = "record of a wrong size";
                cx.report
                    .error(format_args!("block {block}, inode {ino}: {what}"));
            }
        }
    }
    found.whole &= walk.whole;
    found
}

/// Reports what is wrong with an inode.
pub(crate) fn bad(cx: &mut Context<'_, '_>, ino: u64, what: std::fmt::Arguments<'_>) {
    cx.report.error(format_args!("inode {ino}: {what}"));
}

fn inode(
    cx: &mut Context<'_, '_>,
    found: &mut Found,
    ino: u64,
    rec: &InodeRecord,
    hash_seed: &[u8; 16],
) {
    let mode = rec.mode.get();
    let mut info = Inode {
        mode,
        nlink: rec.nlink.get(),
        size: rec.size.get(),
        may_share: rec.flags.get() & FLAG_MAY_SHARE != 0,
        ..Inode::default()
    };
    let gone = info.nlink == 0 && found.orphans.get(&ino) == Some(&false);
    let attr_nodes = attrs::check(cx, ino, rec, hash_seed, gone);
    found.whole &= attr_nodes.is_some();
    if let Some(kind) = InodeRecord::tree_kind(mode) {
        let mut walk = Walk::inode(kind, Ino::new(ino), &rec.root, cx.report);
        let mut content = Content::new(ino, info, found.orphans.get(&ino).copied());
        while let Some((block, records)) = walk.next(cx) {
            match kind {
                Kind::Extents => content.extents(cx, found, block, &records),
                Kind::Dir => content.names(cx, found, &records, hash_seed),
                _ => content.target(cx, &records),
            }
        }
        found.whole &= walk.whole;
        if let Some(nodes) = attr_nodes.filter(|_| walk.whole) {
            content.finish(cx, rec, walk.nodes.saturating_add(nodes));
        }
        info.parent = content.parent.unwrap_or(0);
    } else if let Some(nodes) = attr_nodes.filter(|&n| n != rec.nblocks.get()) {
        let stored = rec.nblocks.get();
        bad(
            cx,
            ino,
            format_args!("says it has {stored} blocks, but has {nodes}"),
        );
    }
    found.inodes.insert(ino, info);
}

/// What the tree of one inode holds.
struct Content {
    ino: u64,
    info: Inode,
    orphan: Option<bool>,
    blocks: u64,
    entries: u64,
    parent: Option<u64>,
    pieces: u64,
    bytes: u64,
    short: bool,
    hash: u64,
    same_hash: HashSet<Vec<u8>>,
}

impl Content {
    fn new(ino: u64, info: Inode, orphan: Option<bool>) -> Self {
        Self {
            ino,
            info,
            orphan,
            blocks: 0,
            entries: 0,
            parent: None,
            pieces: 0,
            bytes: 0,
            short: false,
            hash: 0,
            same_hash: HashSet::new(),
        }
    }

    fn extents(
        &mut self,
        cx: &mut Context<'_, '_>,
        found: &mut Found,
        block: BlockNr,
        records: &Records,
    ) {
        let past = self.info.size.div_ceil(cx.geo.block_size());
        for (fblk, value) in records {
            let Ok(e) = RawExtent::parse(*fblk, value) else {
                continue;
            };
            let (phys, len) = (e.phys.get(), u64::from(e.len.get()));
            self.blocks = self.blocks.saturating_add(len);
            if let Err(what) = cx.geo.check_range(BlockNr::new(phys), len) {
                bad(
                    cx,
                    self.ino,
                    format_args!("extent at file block {fblk} (block {phys}, {len} blocks; node {block}): {what}"),
                );
                found.whole = false;
                continue;
            }
            cx.used.add(phys, len);
            if !self.info.may_share {
                found
                    .exclusive
                    .push((phys, phys.saturating_add(len), self.ino));
            }
            if fblk.saturating_add(len) > past && !e.is_unwritten() && self.orphan.is_none() {
                let size = self.info.size;
                bad(
                    cx,
                    self.ino,
                    format_args!("written extent at file block {fblk} ({len} blocks) lies past the size {size}"),
                );
            }
        }
    }

    fn names(
        &mut self,
        cx: &mut Context<'_, '_>,
        found: &mut Found,
        records: &Records,
        hash_seed: &[u8; 16],
    ) {
        for (key, value) in records {
            let Some(record) = Record::parse(*key, value) else {
                continue;
            };
            if *key == PARENT_KEY {
                self.parent = Some(record.ino.get());
                continue;
            }
            self.entries = self.entries.saturating_add(1);
            let name = record.name.escape_ascii();
            let hash = *key >> SEQ_BITS;
            if hash != dir::base_key(hash_seed, record.name) >> SEQ_BITS {
                bad(
                    cx,
                    self.ino,
                    format_args!("name \"{name}\" lies under the key {key:#x} of another name"),
                );
            }
            if hash != self.hash {
                self.hash = hash;
                self.same_hash.clear();
            }
            if !self.same_hash.insert(record.name.to_vec()) {
                bad(cx, self.ino, format_args!("name \"{name}\" is there twice"));
            }
            found.links.push(Link {
                dir: self.ino,
                ino: record.ino.get(),
                ftype: record.ftype,
            });
        }
    }

    fn target(&mut self, cx: &mut Context<'_, '_>, records: &Records) {
        for (key, value) in records {
            if *key != self.pieces || self.short {
                bad(
                    cx,
                    self.ino,
                    format_args!("symbolic link: piece {key} of the target is out of place"),
                );
            }
            self.pieces = key.saturating_add(1);
            self.short = value.len() < CHUNK;
            self.bytes = self.bytes.saturating_add(value.len() as u64);
        }
    }

    fn finish(&mut self, cx: &mut Context<'_, '_>, rec: &InodeRecord, nodes: u64) {
        let (ino, size) = (self.ino, self.info.size);
        let (stored, counted) = (rec.nblocks.get(), self.blocks.saturating_add(nodes));
        if stored != counted {
            bad(
                cx,
                ino,
                format_args!("says it has {stored} blocks, but has {counted}"),
            );
        }
        // An unlinked inode is being taken apart. What a directory holds would lose its name with it.
        if self.info.nlink == 0 && self.orphan == Some(false) {
            if self.entries > 0 {
                let n = self.entries;
                bad(cx, ino, format_args!("unlinked directory with {n} names"));
            }
            return;
        }
        match self.info.mode & S_IFMT {
            S_IFLNK => {
                if self.bytes != size || size == 0 || size > TARGET_MAX as u64 {
                    let bytes = self.bytes;
                    bad(
                        cx,
                        ino,
                        format_args!("symbolic link of {size} bytes with a target of {bytes}"),
                    );
                }
            }
            S_IFDIR => {
                if self.parent.is_none() {
                    bad(
                        cx,
                        ino,
                        format_args!("directory without a record of its parent"),
                    );
                }
                let fit = dir::size_for(self.entries);
                if size != fit {
                    bad(
                        cx,
                        ino,
                        format_args!("directory with a size of {size}, its names call for {fit}"),
                    );
                }
            }
            _ => {}
        }
    }
}

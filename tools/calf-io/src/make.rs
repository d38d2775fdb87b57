// SPDX-License-Identifier: GPL-2.0

//! Writes a new filesystem.

use calf_core::algo::bitmap;
use calf_core::algo::btree::Tree;
use calf_core::algo::dir;
use calf_core::format::geometry::{Geometry, Layout};
use calf_core::format::group::{self, bitmap_checksum, GroupDesc};
use calf_core::format::inode::{InodeRecord, S_IFDIR};
use calf_core::format::journal::JournalSuperBlock;
use calf_core::format::node::InlineRoot;
use calf_core::format::super_block::{RawSuperBlock, ROOT_INO};
use calf_core::format::Kind;
use zerocopy::{FromZeros, IntoBytes};

use crate::device::Storage;
use crate::editor::{Editor, Error, Result};
use crate::probe;

/// What a new filesystem is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Its layout.
    pub layout: Layout,
    /// Its label, filled up with zeros.
    pub label: [u8; 64],
    /// Secret key of the directory hash.
    pub hash_seed: [u8; 16],
    /// Generation of the root directory.
    pub gen: u32,
    /// Now, ns since 1970.
    pub time: i64,
}

/// Writes a new filesystem; the superblock last, when all else is durable.
pub fn make(storage: &dyn Storage, options: &Options) -> Result<()> {
    let layout = &options.layout;
    let damaged = |what| Error::Damaged { block: 0, what };
    let geo = Geometry::check(layout).map_err(damaged)?;
    let size = geo.block_size();

    // Nobody shall take it for what was here.
    storage.zero(0, probe::HEAD)?;
    let end = storage.size();
    storage.zero(end.saturating_sub(probe::HEAD), end)?;
    wipe_copies(storage)?;
    storage.sync()?;

    write_groups(storage, &geo)?;
    write_journal(storage, &geo)?;
    write_root(storage, &geo, options)?;

    let mut sb = RawSuperBlock::new(layout, options.hash_seed, options.time);
    sb.label = options.label;
    sb.seal();
    let mut block = vec![0; size as usize];
    block[..sb.as_bytes().len()].copy_from_slice(sb.as_bytes());
    if let Some(copy) = geo.backup_block() {
        storage.write_at(&block, copy.get() * size)?;
    }
    storage.sync()?;
    storage.write_at(&block, 0)?;
    Ok(storage.sync()?)
}

/// Wipes copies of the superblock. With another block size they lie where nothing else overwrites them, and fsck could
/// take one for that of this filesystem.
fn wipe_copies(storage: &dyn Storage) -> Result<()> {
    for log in 10..=12 {
        // What does not read cannot be taken for anything.
        if matches!(probe::holds_calf_copy(storage, log), Ok(true)) {
            let at = probe::copy_place(log);
            storage.zero(at, storage.size().min(at + (1 << log)))?;
        }
    }
    Ok(())
}

/// The bitmap of a group where nothing is in use but the fixed areas and the roots.
fn empty_bitmap(geo: &Geometry, g: u64) -> Vec<u8> {
    let (start, len) = geo.group_range(g);
    let mut bits = vec![0; geo.block_size() as usize];
    let mut set = |from: u64, len: u64| bitmap::set_bytes(&mut bits, from as usize, len as usize);
    set(0, geo.head(g));
    set(len, geo.group_blocks() - len);
    if geo.group_of(geo.journal_start()) == g {
        set(
            geo.journal_start().get() - start.get(),
            geo.journal_blocks(),
        );
    }
    for root in [geo.inode_root(), geo.refcount_root(), geo.orphan_root()] {
        if geo.group_of(root) == g {
            set(root.get() - start.get(), 1);
        }
    }
    bits
}

/// Writes the descriptors, and the bitmaps of groups that hold more than their fixed blocks: with
/// 16 TiB the others would be half a GiB, spread over the whole device.
fn write_groups(storage: &dyn Storage, geo: &Geometry) -> Result<()> {
    let size = geo.block_size();
    let mut descs = vec![0; (geo.ngroups().div_ceil(size / 32) * size) as usize];
    for (g, to) in (0..geo.ngroups()).zip(descs.chunks_exact_mut(32)) {
        let (bits, mut plain) = (empty_bitmap(geo, g), vec![0; size as usize]);
        group::init_bitmap(&mut plain, geo, g);
        let uninit = GroupDesc::new_uninit(geo, g).filter(|_| bits == plain);
        let desc = uninit.unwrap_or_else(|| {
            let free = bits.iter().map(|b| b.count_zeros()).sum();
            GroupDesc::new(geo, g, free, bitmap_checksum(&bits, geo))
        });
        to.copy_from_slice(desc.as_bytes());
        if !desc.is_uninit() {
            storage.write_at(&bits, geo.bitmap_block(g).get() * size)?;
        }
    }
    let at = geo.desc_start().get() * size;
    storage.write_at(&descs, at)?;
    let end = at + geo.desc_blocks() * size;
    Ok(storage.zero(at + descs.len() as u64, end)?)
}

fn write_journal(storage: &dyn Storage, geo: &Geometry) -> Result<()> {
    let size = geo.block_size();
    let at = geo.journal_start().get() * size;
    storage.zero(at, at + geo.journal_blocks() * size)?;
    // CAST: a journal fits into a group.
    let sb = JournalSuperBlock::new(size as u32, geo.journal_blocks() as u32, *geo.uuid());
    storage.write_at(sb.as_bytes(), at)?;
    Ok(())
}

fn write_root(storage: &dyn Storage, geo: &Geometry, options: &Options) -> Result<()> {
    let mut editor = Editor::new(storage, *geo);
    editor.init_root(Kind::Inodes, geo.inode_root());
    editor.init_root(Kind::Refcount, geo.refcount_root());
    editor.init_root(Kind::Orphans, geo.orphan_root());
    let mut tree = Tree::inode(Kind::Dir, ROOT_INO, InlineRoot::empty(Kind::Dir));
    dir::init(&mut tree, &mut editor, ROOT_INO)?;
    let mut rec = InodeRecord::new_zeroed();
    rec.ino = ROOT_INO.get().into();
    rec.size = dir::size_for(0).into();
    for time in [
        &mut rec.atime,
        &mut rec.mtime,
        &mut rec.ctime,
        &mut rec.btime,
    ] {
        *time = options.time.into();
    }
    rec.iversion = 1.into();
    rec.gen = options.gen.into();
    rec.nlink = 2.into();
    rec.mode = (S_IFDIR | 0o755).into();
    if let Some(root) = tree.inline_root() {
        rec.root = *root;
    }
    editor.put_inode(&rec)?;
    editor.flush()
}

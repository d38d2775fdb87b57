// SPDX-License-Identifier: GPL-2.0

//! The parts of a filesystem, one function each.

use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;

use calf_core::algo::btree::Tree;
use calf_core::format::geometry::Geometry;
use calf_core::format::group;
use calf_core::format::inode::InodeRecord;
use calf_core::format::node::{self, NodeHeader, NodeId, Slot};
use calf_core::format::super_block::{RawSuperBlock, SuperBlock};
use calf_core::format::xattr::{form, short, Form};
use calf_core::format::{BlockNr, Ino, Kind};
use calf_fsck::image::Image;
use calf_fsck::replay;
use calf_io::device::Storage;
use calf_io::editor::Editor;
use uuid::Uuid;
use zerocopy::FromBytes;

use crate::text;

type Result = std::result::Result<(), Box<dyn Error>>;

/// Prints `name: value`, aligned.
macro_rules! field {
    ($out:expr, $name:expr, $($value:tt)*) => {
        writeln!($out, "{:<18} {}", concat!($name, ":"), format_args!($($value)*))
    };
}

/// The superblock.
pub fn superblock(out: &mut impl Write, raw: &RawSuperBlock, sb: &SuperBlock) -> Result {
    let geo = &sb.geo;
    field!(out, "uuid", "{}", Uuid::from_bytes(*geo.uuid()))?;
    field!(out, "label", "{}", text::quoted(sb.label()))?;
    field!(out, "version", "{}", raw.version)?;
    field!(
        out,
        "features",
        "compat {:#x}, ro_compat {:#x}, incompat {:#x}",
        raw.feature_compat,
        raw.feature_ro_compat,
        raw.feature_incompat
    )?;
    let clean = if sb.clean { "clean" } else { "not clean" };
    let error = if sb.error { ", with errors" } else { "" };
    field!(out, "state", "{clean}{error}")?;
    field!(out, "block size", "{}", geo.block_size())?;
    field!(out, "blocks", "{}", geo.blocks())?;
    field!(
        out,
        "groups",
        "{} of {} blocks",
        geo.ngroups(),
        geo.group_blocks()
    )?;
    field!(
        out,
        "descriptors",
        "{} +{}",
        geo.desc_start(),
        geo.desc_blocks()
    )?;
    field!(
        out,
        "journal",
        "{} +{}",
        geo.journal_start(),
        geo.journal_blocks()
    )?;
    field!(out, "copy", "{}", raw.backup_block)?;
    field!(out, "inode root", "{}", geo.inode_root())?;
    field!(out, "refcount root", "{}", geo.refcount_root())?;
    field!(out, "orphan root", "{}", geo.orphan_root())?;
    field!(
        out,
        "kept blocks",
        "{} for reference counts, {} for freeing",
        geo.refcount_reserve(),
        geo.pool_blocks()
    )?;
    if sb.clean {
        field!(out, "inodes", "{}", sb.inode_count)?;
    }
    field!(out, "made", "{}", text::time(raw.mkfs_time.get()))?;
    if raw.last_mount.get() != 0 {
        field!(out, "last mounted", "{}", text::time(raw.last_mount.get()))?;
    }
    if raw.error_code.get() != 0 {
        field!(
            out,
            "last error",
            "errno {} at block {}, {}",
            raw.error_code,
            raw.error_block,
            text::time(raw.error_time.get())
        )?;
    }
    Ok(())
}

/// The group descriptors.
pub fn groups(out: &mut impl Write, storage: &dyn Storage, geo: &Geometry) -> Result {
    let size = geo.block_size();
    let mut free = 0;
    writeln!(
        out,
        "{:>8} {:>14} {:>8} {:>14} {:>8}",
        "group", "first", "blocks", "bitmap", "free"
    )?;
    for g in 0..geo.ngroups() {
        let (start, len) = geo.group_range(g);
        let (block, off) = geo.desc_location(g);
        let desc = group::read_desc(
            &storage.read(block.get() * size, size as usize)?,
            off,
            geo,
            g,
        );
        let bitmap = geo.bitmap_block(g);
        write!(out, "{g:>8} {start:>14} {len:>8} {bitmap:>14} ")?;
        match desc {
            Ok(desc) => {
                free += u64::from(desc.free.get());
                if desc.is_uninit() {
                    writeln!(out, "{:>8}  bitmap: not written yet", desc.free)?;
                    continue;
                }
                let bits = storage.read(bitmap.get() * size, size as usize)?;
                let good = desc.bitmap_crc.get() == group::bitmap_checksum(&bits, geo);
                let note = if good { "" } else { "  bitmap: wrong checksum" };
                writeln!(out, "{:>8}{note}", desc.free)?;
            }
            Err(what) => writeln!(out, "{what}")?,
        }
    }
    writeln!(out, "free blocks: {free}")?;
    Ok(())
}

/// The records of a tree.
pub fn tree(out: &mut impl Write, fs: &Editor<'_>, tree: &Tree) -> Result {
    writeln!(
        out,
        "tree {}: {} levels, {} blocks",
        crate::kind_name(tree.kind),
        tree.height(fs)?,
        tree.blocks(fs)?
    )?;
    records(out, fs, tree)
}

fn records(out: &mut impl Write, fs: &Editor<'_>, tree: &Tree) -> Result {
    let mut result = Ok(());
    tree.scan(fs, 0, |key, value| {
        result = writeln!(out, "  {}", text::record(tree.kind, key, value));
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    Ok(result?)
}

/// One inode.
pub fn inode(out: &mut impl Write, fs: &Editor<'_>, number: u64) -> Result {
    let rec = fs
        .inode(Ino::new(number))?
        .ok_or_else(|| format!("there is no inode {number}"))?;
    field!(out, "inode", "{}", rec.ino)?;
    field!(out, "mode", "{}", text::mode(rec.mode.get()))?;
    field!(out, "nlink", "{}", rec.nlink)?;
    field!(
        out,
        "owner",
        "{}:{} project {}",
        rec.uid,
        rec.gid,
        rec.projid
    )?;
    field!(out, "size", "{}", rec.size)?;
    field!(out, "blocks", "{}", rec.nblocks)?;
    field!(out, "accessed", "{}", text::time(rec.atime.get()))?;
    field!(out, "modified", "{}", text::time(rec.mtime.get()))?;
    field!(out, "changed", "{}", text::time(rec.ctime.get()))?;
    field!(out, "born", "{}", text::time(rec.btime.get()))?;
    field!(out, "version", "{}", rec.iversion)?;
    field!(out, "generation", "{:#010x}", rec.gen)?;
    field!(out, "flags", "{}", text::inode_flags(rec.flags.get()))?;
    if rec.rdev.get() != 0 {
        field!(out, "device", "{:#x}", rec.rdev)?;
    }
    match form(&rec.attr) {
        Form::None => {}
        Form::Short => {
            for (name, value) in short(&rec.attr) {
                let what = text::attribute(name, value.len(), value);
                field!(out, "attribute", "{}", what)?;
            }
        }
        Form::Tree(root) => {
            let attrs = Tree::fixed(Kind::Xattr, Ino::new(number), root);
            let height = attrs.height(fs)?;
            field!(out, "attributes", "root {root}, {height} levels")?;
            records(out, fs, &attrs)?;
        }
    }
    let Some(kind) = InodeRecord::tree_kind(rec.mode.get()) else {
        return Ok(());
    };
    let tree = Tree::inode(kind, Ino::new(number), rec.root);
    field!(
        out,
        "tree",
        "{}, {} levels",
        crate::kind_name(kind),
        tree.height(fs)?
    )?;
    records(out, fs, &tree)
}

/// The journal.
pub fn journal(out: &mut impl Write, image: &mut Image<'_>, geo: &Geometry) -> Result {
    let sb = replay::superblock(image, geo).map_err(|e| replay_error(&e))?;
    field!(
        out,
        "place",
        "{} +{}",
        geo.journal_start(),
        geo.journal_blocks()
    )?;
    field!(out, "uuid", "{}", Uuid::from_bytes(sb.uuid))?;
    field!(out, "features", "incompat {:#x}", sb.feature_incompat)?;
    field!(out, "next transaction", "{}", sb.sequence)?;
    if sb.errno.get() != 0 {
        field!(out, "aborted", "errno {}", sb.errno)?;
    }
    if sb.start.get() == 0 {
        field!(out, "log", "empty")?;
        return Ok(());
    }
    field!(out, "log", "starts at block {} of the journal", sb.start)?;
    let done = replay::replay(image, geo)?;
    if let Some((block, what)) = done.damaged {
        field!(out, "damaged", "block {block}: {what}")?;
    }
    field!(
        out,
        "a replay brings",
        "{} blocks in {} transactions, {} copies are revoked",
        done.blocks,
        done.transactions,
        done.revoked
    )?;
    Ok(())
}

/// Why there is no replay.
pub fn replay_error(e: &replay::Error) -> String {
    match e {
        replay::Error::Io(e) => format!("journal: {e}"),
        replay::Error::Damaged { block, what } => format!("block {block}: {what}"),
    }
}

/// A block as a tree node, damaged or not.
pub fn node(out: &mut impl Write, storage: &dyn Storage, geo: &Geometry, block: u64) -> Result {
    if block >= geo.blocks() {
        return Err(format!("block {block} is beyond the end of the filesystem").into());
    }
    let size = geo.block_size();
    let bytes = storage.read(block * size, size as usize)?;
    let (header, rest) = NodeHeader::ref_from_prefix(&bytes)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let kind = Kind::from_u8(header.core.kind);
    if header.magic.get() != node::MAGIC {
        return Err(format!("block {block} is not a tree node").into());
    }
    field!(out, "block", "{}", header.block)?;
    field!(out, "owner", "{}", header.owner)?;
    field!(out, "uuid", "{}", Uuid::from_bytes(header.uuid))?;
    field!(out, "level", "{}", header.core.level)?;
    field!(out, "kind", "{}", kind.map_or("unknown", crate::kind_name))?;
    field!(out, "tree blocks", "{}", header.tree_blocks)?;
    field!(
        out,
        "records",
        "{}, values from byte {}",
        header.core.nr,
        header.core.heap
    )?;
    let (level, nr) = (header.core.level, usize::from(header.core.nr.get()));
    let Some(kind) = kind else { return Ok(()) };
    let id = NodeId {
        block: BlockNr::new(block),
        owner: Ino::new(header.owner.get()),
        kind,
        level,
    };
    match node::verify(&bytes, &id, geo.uuid()) {
        Ok(()) => field!(out, "verified", "yes")?,
        Err(what) => field!(out, "verified", "NO: {what}")?,
    }
    let slots = <[Slot]>::ref_from_prefix_with_elems(rest, nr).map_or(&[][..], |(slots, _)| slots);
    for slot in slots {
        let (off, len) = (usize::from(slot.off.get()), usize::from(slot.len.get()));
        let value = bytes.get(off..).and_then(|rest| rest.get(..len));
        match (level, value) {
            (_, None) => writeln!(out, "  key {}: value out of the block", slot.key)?,
            (0, Some(value)) => {
                writeln!(out, "  {}", text::record(kind, slot.key.get(), value))?;
            }
            (_, Some(value)) => match value.first_chunk::<8>() {
                Some(child) => {
                    writeln!(
                        out,
                        "  from key {}: block {}",
                        slot.key,
                        u64::from_le_bytes(*child)
                    )?;
                }
                None => writeln!(out, "  key {}: no child", slot.key)?,
            },
        }
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! The same as JSON, for programs. Numbers are numbers, times are nanoseconds since 1970, keys stay
//! what they are. Names, targets and labels are strings, in which a backslash is `\\` and a byte
//! that is not UTF-8 is `\xNN`.

use std::error::Error;
use std::ops::ControlFlow;

use calf_core::algo::btree::Tree;
use calf_core::format::dirent::{HEADER, PARENT_KEY, SEQ_BITS};
use calf_core::format::extent::RawExtent;
use calf_core::format::geometry::Geometry;
use calf_core::format::group;
use calf_core::format::inode::InodeRecord;
use calf_core::format::node::{self, NodeHeader, NodeId, Slot};
use calf_core::format::orphan::{RawOrphan, KIND_UNLINKED};
use calf_core::format::refcount::RawRefcount;
use calf_core::format::super_block::{RawSuperBlock, SuperBlock};
use calf_core::format::xattr::{form, piece_of, short, First, Form, Name};
use calf_core::format::{BlockNr, Ino, Kind};
use calf_fsck::image::Image;
use calf_fsck::replay;
use calf_io::device::Storage;
use calf_io::editor::Editor;
use serde_json::{json, Map, Value};
use uuid::Uuid;
use zerocopy::FromBytes;

type Result = std::result::Result<Value, Box<dyn Error>>;

/// Bytes as a string from which they can be had back.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text += &chunk.valid().replace('\\', "\\\\");
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// The superblock.
pub fn superblock(raw: &RawSuperBlock, sb: &SuperBlock) -> Value {
    let geo = &sb.geo;
    json!({
        "uuid": Uuid::from_bytes(*geo.uuid()).to_string(),
        "label": text(sb.label()),
        "version": raw.version.get(),
        "feature_compat": raw.feature_compat.get(),
        "feature_ro_compat": raw.feature_ro_compat.get(),
        "feature_incompat": raw.feature_incompat.get(),
        "clean": sb.clean,
        "error": sb.error,
        "block_size": geo.block_size(),
        "blocks": geo.blocks(),
        "groups": geo.ngroups(),
        "group_blocks": geo.group_blocks(),
        "desc_start": geo.desc_start().get(),
        "desc_blocks": geo.desc_blocks(),
        "journal_start": geo.journal_start().get(),
        "journal_blocks": geo.journal_blocks(),
        "backup_block": raw.backup_block.get(),
        "inode_root": geo.inode_root().get(),
        "refcount_root": geo.refcount_root().get(),
        "orphan_root": geo.orphan_root().get(),
        "refcount_reserve": geo.refcount_reserve(),
        "pool_blocks": geo.pool_blocks(),
        "inode_count": sb.clean.then_some(sb.inode_count),
        "mkfs_time": raw.mkfs_time.get(),
        "last_mount": raw.last_mount.get(),
        "error_code": raw.error_code.get(),
        "error_block": raw.error_block.get(),
        "error_time": raw.error_time.get(),
    })
}

/// The group descriptors.
pub fn groups(storage: &dyn Storage, geo: &Geometry) -> Result {
    let size = geo.block_size();
    let mut list = Vec::new();
    let mut free = 0u64;
    for g in 0..geo.ngroups() {
        let (start, len) = geo.group_range(g);
        let (block, off) = geo.desc_location(g);
        let bitmap = geo.bitmap_block(g).get();
        let mut group = json!({
            "group": g, "first": start.get(), "blocks": len, "bitmap": bitmap,
        });
        let descs = storage.read(block.get() * size, size as usize)?;
        match group::read_desc(&descs, off, geo, g) {
            Ok(desc) => {
                free += u64::from(desc.free.get());
                group["free"] = desc.free.get().into();
                group["bitmap_written"] = (!desc.is_uninit()).into();
                let bits = storage.read(bitmap * size, size as usize)?;
                let good = desc.bitmap_crc.get() == group::bitmap_checksum(&bits, geo);
                group["valid"] = (desc.is_uninit() || good).into();
            }
            Err(what) => {
                group["valid"] = false.into();
                group["problem"] = what.into();
            }
        }
        list.push(group);
    }
    Ok(json!({ "groups": list, "free": free }))
}

/// The records of a tree.
pub fn tree(fs: &Editor<'_>, tree: &Tree) -> Result {
    Ok(json!({
        "kind": crate::kind_name(tree.kind),
        "levels": tree.height(fs)?,
        "blocks": tree.blocks(fs)?,
        "records": records(fs, tree)?,
    }))
}

fn records(fs: &Editor<'_>, tree: &Tree) -> Result {
    let mut list = Vec::new();
    tree.scan(fs, 0, |key, value| {
        list.push(record(tree.kind, key, value));
        ControlFlow::Continue(())
    })?;
    Ok(list.into())
}

/// One inode.
pub fn inode(fs: &Editor<'_>, number: u64) -> Result {
    let rec = fs
        .inode(Ino::new(number))?
        .ok_or_else(|| format!("there is no inode {number}"))?;
    let mut value = fields(&rec);
    let attributes = match form(&rec.attr) {
        Form::None => json!([]),
        Form::Short => short(&rec.attr)
            .map(|(name, value)| described(name, value.len(), value))
            .collect(),
        Form::Tree(root) => records(fs, &Tree::fixed(Kind::Xattr, Ino::new(number), root))?,
    };
    value.insert("attributes".into(), attributes);
    if let Some(kind) = InodeRecord::tree_kind(rec.mode.get()) {
        let tree = Tree::inode(kind, Ino::new(number), rec.root);
        value.insert("tree".into(), crate::kind_name(kind).into());
        value.insert("levels".into(), tree.height(fs)?.into());
        value.insert("records".into(), records(fs, &tree)?);
    }
    Ok(value.into())
}

fn fields(rec: &InodeRecord) -> Map<String, Value> {
    let value = json!({
        "ino": rec.ino.get(),
        "mode": rec.mode.get(),
        "nlink": rec.nlink.get(),
        "uid": rec.uid.get(),
        "gid": rec.gid.get(),
        "projid": rec.projid.get(),
        "size": rec.size.get(),
        "nblocks": rec.nblocks.get(),
        "atime": rec.atime.get(),
        "mtime": rec.mtime.get(),
        "ctime": rec.ctime.get(),
        "btime": rec.btime.get(),
        "iversion": rec.iversion.get(),
        "gen": rec.gen.get(),
        "flags": rec.flags.get(),
        "rdev": rec.rdev.get(),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The journal.
pub fn journal(image: &mut Image<'_>, geo: &Geometry) -> Result {
    let sb = replay::superblock(image, geo).map_err(|e| crate::show::replay_error(&e))?;
    let done = replay::replay(image, geo)?;
    Ok(json!({
        "start": geo.journal_start().get(),
        "blocks": geo.journal_blocks(),
        "uuid": Uuid::from_bytes(sb.uuid).to_string(),
        "feature_incompat": sb.feature_incompat.get(),
        "sequence": sb.sequence.get(),
        "errno": sb.errno.get(),
        "log_start": sb.start.get(),
        "replay": {
            "transactions": done.transactions,
            "blocks": done.blocks,
            "revoked": done.revoked,
            "damaged_block": done.damaged.map(|(block, _)| block),
            "damage": done.damaged.map(|(_, what)| what),
        },
    }))
}

/// A block as a tree node, damaged or not.
pub fn node(storage: &dyn Storage, geo: &Geometry, block: u64) -> Result {
    if block >= geo.blocks() {
        return Err(format!("block {block} is beyond the end of the filesystem").into());
    }
    let size = geo.block_size();
    let bytes = storage.read(block * size, size as usize)?;
    let Ok((header, rest)) = NodeHeader::ref_from_prefix(&bytes) else {
        return Err(format!("block {block} is too small").into());
    };
    if header.magic.get() != node::MAGIC {
        return Err(format!("block {block} is not a tree node").into());
    }
    let kind = Kind::from_u8(header.core.kind);
    let level = header.core.level;
    let problem = kind.map_or(Some("unknown kind"), |kind| {
        let id = NodeId {
            block: BlockNr::new(block),
            owner: Ino::new(header.owner.get()),
            kind,
            level,
        };
        node::verify(&bytes, &id, geo.uuid()).err()
    });
    let nr = usize::from(header.core.nr.get());
    let slots = <[Slot]>::ref_from_prefix_with_elems(rest, nr).map_or(&[][..], |(slots, _)| slots);
    let list: Vec<Value> = slots
        .iter()
        .map(|slot| {
            let key = slot.key.get();
            let off = usize::from(slot.off.get());
            let value = bytes
                .get(off..)
                .and_then(|b| b.get(..slot.len.get().into()));
            match (level, kind, value) {
                (0, Some(kind), Some(value)) => record(kind, key, value),
                (1.., _, Some(value)) => {
                    let child = value.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
                    json!({ "key": key, "child": child })
                }
                _ => json!({ "key": key }),
            }
        })
        .collect();
    Ok(json!({
        "block": header.block.get(),
        "owner": header.owner.get(),
        "uuid": Uuid::from_bytes(header.uuid).to_string(),
        "level": level,
        "kind": kind.map_or("unknown", crate::kind_name),
        "tree_blocks": header.tree_blocks.get(),
        "valid": problem.is_none(),
        "problem": problem,
        "records": list,
    }))
}

/// One record. One that makes no sense has its bytes only.
fn record(kind: Kind, key: u64, value: &[u8]) -> Value {
    let found = match kind {
        Kind::Inodes => InodeRecord::ref_from_bytes(value)
            .ok()
            .map(|rec| fields(rec).into()),
        Kind::Extents => RawExtent::parse(key, value).ok().map(|e| {
            json!({
                "file_block": key, "block": e.phys.get(), "blocks": e.len.get(),
                "unwritten": e.is_unwritten(),
            })
        }),
        Kind::Dir => entry(key, value),
        Kind::Refcount => RawRefcount::parse(key, value)
            .ok()
            .map(|r| json!({ "block": key, "blocks": r.len.get(), "count": r.count.get() })),
        Kind::Orphans => RawOrphan::parse(key, value).ok().map(|o| {
            let unlinked = o.kind.get() == KIND_UNLINKED;
            json!({ "ino": key, "unlinked": unlinked, "size": o.size.get() })
        }),
        Kind::Symlink => Some(json!({ "piece": key, "target": text(value) })),
        Kind::Xattr => attribute(key, value),
    };
    found.unwrap_or_else(|| json!({ "key": key, "bytes": value }))
}

/// The first piece of an attribute tells all about it, the others are values only.
fn attribute(key: u64, value: &[u8]) -> Option<Value> {
    let piece = piece_of(key);
    if piece > 0 {
        return Some(json!({ "key": key, "piece": piece, "value": text(value) }));
    }
    let first = First::parse(value).ok()?;
    let mut told = described(first.name, first.value_len, first.value);
    told["key"] = key.into();
    Some(told)
}

/// An attribute whose value is `len` bytes and begins with `value`.
fn described(name: Name<'_>, len: usize, value: &[u8]) -> Value {
    json!({
        "namespace": name.index, "name": text(name.name), "length": len, "value": text(value),
    })
}

fn entry(key: u64, value: &[u8]) -> Option<Value> {
    let (head, name) = value.split_at_checked(HEADER)?;
    let (ino, ftype) = head.split_first_chunk::<8>()?;
    let ino = u64::from_le_bytes(*ino);
    if key == PARENT_KEY {
        return Some(json!({ "parent": ino }));
    }
    let (hash, seq) = (key >> SEQ_BITS, key & ((1 << SEQ_BITS) - 1));
    Some(json!({
        "hash": hash, "seq": seq, "ino": ino, "type": ftype.first()?, "name": text(name),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_bytes() {
        assert_eq!(text(b"a\\x\xff\xc3\xa4"), "a\\\\x\\xff\u{e4}");
    }

    #[test]
    fn nonsense_has_a_value() {
        for kind in (1..=7).filter_map(Kind::from_u8) {
            for len in 0..300 {
                assert!(record(kind, 1 << 30, &vec![0xff; len]).is_object());
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Sets right what is wrong with the record of an inode, as far as the record itself tells.

use calf_core::format::inode::{
    InodeRecord, FLAGS_DIR, FLAGS_KNOWN, FLAGS_REG, MAX_INO, MAX_SIZE, S_IFDIR, S_IFLNK, S_IFMT,
    S_IFREG,
};
use calf_core::format::node::{verify_inline, InlineRoot, NodeCore, CORE_SIZE};
use calf_core::format::xattr::{check_area, AREA};
use calf_core::format::Kind;
use zerocopy::FromBytes;

/// A record that holds, or nearly: a special file may still have a size, of which its names tell
/// more, and a wrong number of blocks.
pub struct Mended {
    /// The record.
    pub rec: InodeRecord,
    /// What was wrong with it.
    pub what: Vec<&'static str>,
    /// Something is lost by it.
    pub lost: bool,
    /// Its type was set to that of an empty file, but it may have been a special file.
    pub untyped: bool,
}

/// Does a root that holds lead to anything?
fn has_records(root: &InlineRoot) -> bool {
    NodeCore::ref_from_prefix(&root.0).map_or(true, |(core, _)| core.nr.get() > 0)
}

/// Sets the record under key `ino` right; [`None`] if it cannot even be said what kind of file it is.
pub fn mend(ino: u64, value: &[u8]) -> Option<Mended> {
    let mut rec = InodeRecord::read_from_bytes(value).ok()?;
    let mut what = Vec::new();
    let (mut lost, mut untyped) = (false, false);
    if ino == 0 || ino > MAX_INO {
        return None;
    }
    if rec.ino.get() != ino {
        rec.ino = ino.into();
        what.push("number set right");
    }
    let mode = rec.mode.get();
    let holds = |kind| verify_inline(&rec.root, kind).is_ok();
    let by_root = match rec.root.0.get(1).copied().and_then(Kind::from_u8) {
        Some(Kind::Extents) if holds(Kind::Extents) => Some(S_IFREG),
        Some(Kind::Dir) if holds(Kind::Dir) => Some(S_IFDIR),
        Some(Kind::Symlink) if holds(Kind::Symlink) => Some(S_IFLNK),
        _ => None,
    };
    let known = [1u16, 2, 4, 6, 8, 10, 12].contains(&(mode >> 12));
    // One bit makes a socket of a file. A special file never has anything in its tree.
    let full = by_root.is_some() && has_records(&rec.root);
    let of_kind = InodeRecord::tree_kind(mode).map_or(!full, holds);
    match by_root {
        Some(fmt) if !known || !of_kind => {
            rec.mode = (mode & !S_IFMT | fmt).into();
            what.push("type set to that of its tree");
            untyped = fmt == S_IFREG && !full;
        }
        None if !known => return None,
        _ => {}
    }
    let fit = match rec.mode.get() & S_IFMT {
        S_IFREG => FLAGS_KNOWN & !FLAGS_DIR,
        S_IFDIR => FLAGS_KNOWN & !FLAGS_REG,
        _ => FLAGS_KNOWN & !(FLAGS_DIR | FLAGS_REG),
    };
    if rec.flags.get() & !fit != 0 {
        rec.flags = (rec.flags.get() & fit).into();
        what.push("flags that do not fit cleared");
    }
    if rec.reserved.get() != 0 {
        rec.reserved = 0.into();
        what.push("reserved bytes cleared");
    }
    if check_area(&rec.attr).is_err() {
        rec.attr = [0; AREA];
        lost = true;
        what.push("extended attributes that make no sense dropped");
    }
    if rec.size.get() > MAX_SIZE {
        rec.size = 0.into();
        what.push("impossible size dropped");
    }
    let special = InodeRecord::tree_kind(rec.mode.get()).is_none();
    let empty = InlineRoot::empty(Kind::Extents);
    if special && rec.root != empty {
        // Without a slot, nothing ever hung on it, whatever its header says.
        let slots = rec.root.0.get(CORE_SIZE..).unwrap_or_default();
        if by_root.is_some() || slots.iter().all(|&b| b == 0) {
            what.push("root of a special file set");
        } else {
            lost = true;
            what.push("tree of a special file dropped");
        }
        rec.root = empty;
    }
    Some(Mended {
        rec,
        what,
        lost,
        untyped,
    })
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What the values of each kind of tree must look like.

use super::extent::RawExtent;
use super::inode::InodeRecord;
use super::orphan::RawOrphan;
use super::refcount::RawRefcount;
use super::types::{Ino, Kind};
use super::{dirent, symlink, xattr};

/// Checks one record of a leaf.
pub fn verify_value(kind: Kind, key: u64, value: &[u8]) -> Result<(), &'static str> {
    match kind {
        Kind::Inodes => InodeRecord::parse(Ino::new(key), value).map(drop),
        Kind::Extents => RawExtent::parse(key, value).map(drop),
        Kind::Dir => dirent::verify(key, value),
        Kind::Xattr => xattr::verify(key, value),
        Kind::Refcount => RawRefcount::parse(key, value).map(drop),
        Kind::Orphans => RawOrphan::parse(key, value).map(drop),
        Kind::Symlink => symlink::verify(key, value),
    }
}

/// Checks two neighbouring records of a leaf, `key < next`, both good by themselves: a range must
/// not reach into the one after it, and pieces of a value follow each other.
pub fn verify_order(kind: Kind, key: u64, value: &[u8], next: u64) -> Result<(), &'static str> {
    let len = match kind {
        Kind::Extents => RawExtent::parse(key, value)?.len.get(),
        Kind::Refcount => RawRefcount::parse(key, value)?.len.get(),
        Kind::Xattr => return xattr::verify_order(key, value, next),
        _ => return Ok(()),
    };
    if key.checked_add(len.into()).is_none_or(|end| end > next) {
        return Err("node: ranges overlap");
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The inode record: 256 bytes, the value in the inode tree under the inode's number.
//!
//! Its size never changes, so that a growing root of extents never splits the inode tree (B2d).

use super::node::{verify_inline, InlineRoot};
use super::types::{Ino, Kind};
use super::xattr::{check_area, form, Form, AREA};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a record.
pub const SIZE: usize = 256;
/// Bit of `flags`: blocks of this file may be shared (S1). Without it none is.
pub const FLAG_MAY_SHARE: u32 = 1;
/// Bit of `flags`: nothing of the inode may be changed.
pub const FLAG_IMMUTABLE: u32 = 1 << 1;
/// Bit of `flags`: a file only grows at its end, a directory loses no names.
pub const FLAG_APPEND: u32 = 1 << 2;
/// Bit of `flags`: backups leave the inode out.
pub const FLAG_NODUMP: u32 = 1 << 3;
/// Bit of `flags`: reading does not change the time of last access.
pub const FLAG_NOATIME: u32 = 1 << 4;
/// Bit of `flags`: changes are durable before system calls return.
pub const FLAG_SYNC: u32 = 1 << 5;
/// Bit of `flags`: changes of names are. Directories only.
pub const FLAG_DIRSYNC: u32 = 1 << 6;
/// Bit of `flags`: what is made in here belongs to the same project. Directories only.
pub const FLAG_PROJINHERIT: u32 = 1 << 7;
/// The flags that only regular files have.
pub const FLAGS_REG: u32 = FLAG_MAY_SHARE;
/// The flags that only directories have.
pub const FLAGS_DIR: u32 = FLAG_DIRSYNC | FLAG_PROJINHERIT;
/// The flags there are.
pub const FLAGS_KNOWN: u32 = (1 << 8) - 1;
/// Largest file, bytes: what `loff_t` holds.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// Largest number of an inode. Small enough that neither it nor the next one is negative to anybody who takes it for
/// signed; no number is used twice, so there are none left after it.
pub const MAX_INO: u64 = i64::MAX as u64 - 1;

/// Mask of the type in `mode`.
pub const S_IFMT: u16 = 0o170000;
/// Socket.
pub const S_IFSOCK: u16 = 0o140000;
/// Symbolic link.
pub const S_IFLNK: u16 = 0o120000;
/// Regular file.
pub const S_IFREG: u16 = 0o100000;
/// Block device.
pub const S_IFBLK: u16 = 0o060000;
/// Directory.
pub const S_IFDIR: u16 = 0o040000;
/// Character device.
pub const S_IFCHR: u16 = 0o020000;
/// Named pipe.
pub const S_IFIFO: u16 = 0o010000;

const _: () = assert!(size_of::<InodeRecord>() == SIZE);
const _: () = assert!(core::mem::offset_of!(InodeRecord, iversion) == 56);
const _: () = assert!(core::mem::offset_of!(InodeRecord, mode) == 92);
const _: () = assert!(core::mem::offset_of!(InodeRecord, root) == 96);
const _: () = assert!(core::mem::offset_of!(InodeRecord, attr) == 208);

/// An inode on disk.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InodeRecord {
    /// The inode's number, which is also the record's key.
    pub ino: U64,
    /// Size in bytes.
    pub size: U64,
    /// Blocks it uses: data (shared ones included) and tree nodes.
    pub nblocks: U64,
    /// Last access, ns since 1970.
    pub atime: I64,
    /// Last change of the content, ns since 1970.
    pub mtime: I64,
    /// Last change of the inode, ns since 1970.
    pub ctime: I64,
    /// Birth, ns since 1970.
    pub btime: I64,
    /// Change counter.
    pub iversion: U64,
    /// Random; tells apart two inodes that had the same number.
    pub gen: U32,
    /// `FLAG_*`.
    pub flags: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Names it has; a directory has 2 and one for every directory in it.
    pub nlink: U32,
    /// Project.
    pub projid: U32,
    /// Device number of a device file.
    pub rdev: U32,
    /// Type and permissions.
    pub mode: U16,
    /// Zero.
    pub reserved: U16,
    /// Root of the inode's tree; that of an empty file for special files.
    pub root: InlineRoot,
    /// Extended attributes, or where they are ([`form`]).
    pub attr: [u8; AREA],
}

impl InodeRecord {
    /// What the tree of an inode of type `mode` holds; [`None`] for those without a tree.
    pub const fn tree_kind(mode: u16) -> Option<Kind> {
        match mode & S_IFMT {
            S_IFREG => Some(Kind::Extents),
            S_IFDIR => Some(Kind::Dir),
            S_IFLNK => Some(Kind::Symlink),
            _ => None,
        }
    }

    /// The `DT_*` number that directory entries carry for an inode of type `mode`.
    pub const fn ftype(mode: u16) -> u8 {
        // CAST: four bits.
        (mode >> 12) as u8
    }

    /// Checks a record found under the key `ino`.
    pub fn parse(ino: Ino, bytes: &[u8]) -> Result<&Self, &'static str> {
        let rec = Self::ref_from_bytes(bytes).map_err(|_| "inode: record of a wrong size")?;
        if rec.ino.get() != ino.get() || ino.get() == 0 {
            return Err("inode: record has another number");
        }
        if ino.get() > MAX_INO {
            return Err("inode: number out of range");
        }
        let mode = rec.mode.get();
        match mode & S_IFMT {
            S_IFREG | S_IFDIR | S_IFLNK | S_IFBLK | S_IFCHR | S_IFIFO | S_IFSOCK => {}
            _ => return Err("inode: unknown type"),
        }
        if rec.size.get() > MAX_SIZE {
            return Err("inode: size out of range");
        }
        if rec.flags.get() & !FLAGS_KNOWN != 0 {
            return Err("inode: unknown flags");
        }
        let not_for = match mode & S_IFMT {
            S_IFREG => FLAGS_DIR,
            S_IFDIR => FLAGS_REG,
            _ => FLAGS_DIR | FLAGS_REG,
        };
        if rec.flags.get() & not_for != 0 {
            return Err("inode: flags do not fit the type");
        }
        if rec.reserved.get() != 0 {
            return Err("inode: reserved bytes are not zero");
        }
        check_area(&rec.attr)?;
        match Self::tree_kind(mode) {
            Some(kind) => verify_inline(&rec.root, kind)?,
            None => {
                // The end of an inode reads it as the tree of an empty file.
                let empty = rec.root == InlineRoot::empty(Kind::Extents);
                let blocks = rec.nblocks.get() != 0 && !matches!(form(&rec.attr), Form::Tree(_));
                if !empty || blocks {
                    return Err("inode: special file with a tree");
                }
                if rec.size.get() != 0 {
                    return Err("inode: special file with a size");
                }
            }
        }
        Ok(rec)
    }
}

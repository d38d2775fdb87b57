// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What the rules look at: copies of the few fields of the C structures that matter.

use core::fmt;

/// `IOMAP_NULL_ADDR`: no address.
pub const NULL_ADDR: u64 = u64::MAX;

/// Types of mappings (`IOMAP_HOLE` ...).
pub mod ty {
    /// Nothing there.
    pub const HOLE: u16 = 0;
    /// Space is reserved, blocks are not chosen.
    pub const DELALLOC: u16 = 1;
    /// Blocks with data.
    pub const MAPPED: u16 = 2;
    /// Blocks that read as zeros.
    pub const UNWRITTEN: u16 = 3;
    /// Data in the inode.
    pub const INLINE: u16 = 4;
}

/// Flags of mappings (`IOMAP_F_*`).
pub mod map_flag {
    /// Contents undefined until written.
    pub const NEW: u16 = 1 << 0;
    /// Metadata must be committed to reach the data.
    pub const DIRTY: u16 = 1 << 1;
    /// Shared, or staging for a shared block.
    pub const SHARED: u16 = 1 << 2;
    /// Of the extended attributes, not of the data.
    pub const XATTR: u16 = 1 << 5;
    /// No target yet; submission chooses it.
    pub const ANON_WRITE: u16 = 1 << 7;
    /// To be written as one atomic bio.
    pub const ATOMIC_BIO: u16 = 1 << 8;
    /// The iterator's folio batch is in use (core).
    pub const FOLIO_BATCH: u16 = 1 << 13;
    /// The operation changed the file's size (core).
    pub const SIZE_CHANGED: u16 = 1 << 14;
    /// No longer valid (core).
    pub const STALE: u16 = 1 << 15;
}

/// Flags of requests (`IOMAP_*`).
pub mod request_flag {
    /// Blocks are needed.
    pub const WRITE: u32 = 1 << 0;
    /// Zeroing; may skip holes.
    pub const ZERO: u32 = 1 << 1;
    /// Only asks (FIEMAP, SEEK_DATA).
    pub const REPORT: u32 = 1 << 2;
    /// From a page fault.
    pub const FAULT: u32 = 1 << 3;
    /// Direct I/O.
    pub const DIRECT: u32 = 1 << 4;
    /// Must not wait.
    pub const NOWAIT: u32 = 1 << 5;
    /// Must not allocate.
    pub const OVERWRITE_ONLY: u32 = 1 << 6;
    /// Unshare.
    pub const UNSHARE: u32 = 1 << 7;
    /// DAX.
    pub const DAX: u32 = 1 << 8;
    /// Untorn write.
    pub const ATOMIC: u32 = 1 << 9;
}

const TYPES: [&str; 5] = ["HOLE", "DELALLOC", "MAPPED", "UNWRITTEN", "INLINE"];

const MAP_FLAGS: [&str; 16] = [
    "NEW",
    "DIRTY",
    "SHARED",
    "MERGED",
    "BH",
    "XATTR",
    "BOUNDARY",
    "ANON_WRITE",
    "ATOMIC_BIO",
    "INTEGRITY",
    "ZERO_TAIL",
    "FSVERITY",
    "PRIVATE",
    "FOLIO_BATCH",
    "SIZE_CHANGED",
    "STALE",
];

const REQUEST_FLAGS: [&str; 11] = [
    "WRITE",
    "ZERO",
    "REPORT",
    "FAULT",
    "DIRECT",
    "NOWAIT",
    "OVERWRITE_ONLY",
    "UNSHARE",
    "DAX",
    "ATOMIC",
    "DONTCACHE",
];

fn names(f: &mut fmt::Formatter<'_>, bits: u32, table: &[&str], none: &str) -> fmt::Result {
    if bits == 0 {
        return f.write_str(none);
    }
    let mut bar = "";
    for (i, name) in table.iter().enumerate() {
        if bits & (1 << i) != 0 {
            write!(f, "{bar}{name}")?;
            bar = "|";
        }
    }
    match bits >> table.len() {
        0 => Ok(()),
        rest => write!(f, "{bar}{:#x}", u64::from(rest) << table.len()),
    }
}

/// Prints the flags of a request by name.
#[derive(Clone, Copy, Debug)]
pub struct RequestFlags(pub u32);

impl fmt::Display for RequestFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        names(f, self.0, &REQUEST_FLAGS, "READ")
    }
}

/// A mapping (`struct iomap`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Address on the device in bytes, or [`NULL_ADDR`].
    pub addr: u64,
    /// Offset in the file in bytes.
    pub offset: i64,
    /// Bytes.
    pub length: u64,
    /// One of [`ty`].
    pub ty: u16,
    /// Of [`map_flag`].
    pub flags: u16,
    /// Which block device; 0: none.
    pub dev: u64,
    /// Its size in bytes.
    pub dev_bytes: u64,
    /// Its logical block size in bytes.
    pub sector: u32,
    /// Has a DAX device.
    pub dax: bool,
}

impl Map {
    /// Has all of these flags?
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    /// First byte after it. Where that is more than a file can have: `None`. The last block of the
    /// largest file ends one byte past what the type can tell; that is taken for its end.
    pub fn end(&self) -> Option<i64> {
        let end = u64::try_from(self.offset).ok()?.checked_add(self.length)?;
        if end == 1 << 63 {
            return Some(i64::MAX);
        }
        i64::try_from(end).ok()
    }

    /// Covers the byte at `pos`, and has a start and an end that a file can have.
    pub fn covers(&self, pos: i64) -> bool {
        self.offset >= 0 && self.offset <= pos && self.end().is_some_and(|end| pos < end)
    }

    /// Has blocks.
    pub fn is_real(&self) -> bool {
        matches!(self.ty, ty::MAPPED | ty::UNWRITTEN) && self.addr != NULL_ADDR
    }

    /// First byte on the device after it, saturating.
    pub fn addr_end(&self) -> u64 {
        self.addr.saturating_add(self.length)
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TYPES.get(usize::from(self.ty)) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "type {}", self.ty)?,
        }
        write!(f, " {:#x}+{:#x}", self.offset, self.length)?;
        if self.addr == NULL_ADDR {
            f.write_str(" @-")?;
        } else {
            write!(f, " @{:#x}", self.addr)?;
        }
        f.write_str(" ")?;
        names(f, u32::from(self.flags), &MAP_FLAGS, "-")
    }
}

/// The file (`struct inode`).
#[derive(Clone, Copy, Debug, Default)]
pub struct File {
    /// `i_size` in bytes.
    pub size: i64,
    /// Block size in bytes, a power of two.
    pub block: u64,
}

impl File {
    /// A multiple of the block size?
    pub fn aligned(&self, bytes: u64) -> bool {
        bytes & (self.block.wrapping_sub(1)) == 0
    }

    /// The end of the block that holds the last byte, saturating.
    pub fn size_up(&self) -> i64 {
        let mask = i64::try_from(self.block.saturating_sub(1)).unwrap_or(0);
        self.size.saturating_add(mask) & !mask
    }
}

/// A request and the answer to it (`struct iomap_iter`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Where the operation is, in bytes.
    pub pos: i64,
    /// Bytes left.
    pub len: u64,
    /// Where it was when the mapping was made.
    pub start: i64,
    /// Status of the last round.
    pub status: i32,
    /// Of [`request_flag`].
    pub flags: u32,
    /// The mapping.
    pub map: Map,
    /// The source.
    pub src: Map,
    /// There is a folio batch.
    pub has_batch: bool,
    /// The write is synchronous (`IOCB_DSYNC`), where that is known.
    pub dsync: bool,
}

impl Request {
    /// Has all of these flags?
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Has one of these flags?
    pub fn any(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// End of the request, saturating.
    pub fn end(&self) -> i64 {
        self.pos
            .saturating_add(i64::try_from(self.len).unwrap_or(i64::MAX))
    }

    /// There is a source: a hole means that there is none.
    pub fn has_src(&self) -> bool {
        self.src.ty != ty::HOLE
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The superblock: the first 1024 bytes of block 0, with a copy at the start of group 1.
//!
//! [`RawSuperBlock`] is what lies on disk and proves nothing. [`SuperBlock::parse`] makes the
//! trusted form of it, or says what is wrong, where, and what to do about it.

use super::geometry::{Geometry, Layout};
use super::types::{BlockNr, Ino};
use crate::seam::crc32c;
use core::fmt;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight bytes of a calf filesystem.
pub const MAGIC: [u8; 8] = *b"CALFfs\x01\n";
/// The one version there is.
pub const VERSION: u32 = 1;
/// Bytes of the structure, whatever the block size.
pub const SIZE: usize = 1024;
/// Bytes of a label.
pub const LABEL_MAX: usize = 64;
/// Number of the root directory.
pub const ROOT_INO: Ino = Ino::new(1);
/// Bit of `state`: unmounted properly, `inode_count` is right.
pub const STATE_CLEAN: u32 = 1;
/// Bit of `state`: damage was found; stays until fsck.calf has seen to it.
pub const STATE_ERROR: u32 = 2;
/// Features that a reader need not know.
pub const COMPAT_KNOWN: u64 = 0;
/// Features that a writer must know.
pub const RO_COMPAT_KNOWN: u64 = 0;
/// Features that everybody must know.
pub const INCOMPAT_KNOWN: u64 = 0;

const CRC_OFFSET: usize = 8;

const _: () = assert!(size_of::<RawSuperBlock>() == SIZE);
const _: () = assert!(core::mem::offset_of!(RawSuperBlock, crc) == CRC_OFFSET);
const _: () = assert!(core::mem::offset_of!(RawSuperBlock, uuid) == 40);
const _: () = assert!(core::mem::offset_of!(RawSuperBlock, block_size_log) == 136);
const _: () = assert!(core::mem::offset_of!(RawSuperBlock, blocks) == 144);
const _: () = assert!(core::mem::offset_of!(RawSuperBlock, inode_root) == 192);
const _: () = assert!(core::mem::offset_of!(RawSuperBlock, mkfs_time) == 232);
const _: () = assert!(core::mem::offset_of!(RawSuperBlock, backup_block) == 272);

/// The superblock as it lies on disk.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawSuperBlock {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// crc32c, seed all ones, over the 1024 bytes with this field taken as zero.
    pub crc: U32,
    /// [`VERSION`].
    pub version: U32,
    /// Features that may be ignored.
    pub feature_compat: U64,
    /// Features that may be ignored by a reader.
    pub feature_ro_compat: U64,
    /// Features that may not be ignored.
    pub feature_incompat: U64,
    /// Identity of the filesystem; seeds the checksums of all metadata.
    pub uuid: [u8; 16],
    /// Name given by the user, filled up with zeros.
    pub label: [u8; LABEL_MAX],
    /// Secret key of the directory hash.
    pub hash_seed: [u8; 16],
    /// log2 of the block size: 10, 11 or 12.
    pub block_size_log: U32,
    /// [`STATE_CLEAN`], [`STATE_ERROR`].
    pub state: U32,
    /// Blocks of the filesystem.
    pub blocks: U64,
    /// First block of the group descriptors: 1.
    pub desc_start: U64,
    /// Blocks of group descriptors.
    pub desc_blocks: U64,
    /// Groups.
    pub ngroups: U64,
    /// First block of the journal.
    pub journal_start: U64,
    /// Blocks of the journal.
    pub journal_blocks: U64,
    /// Root of the inode tree.
    pub inode_root: U64,
    /// Root of the tree of reference counts.
    pub refcount_root: U64,
    /// Root of the orphan tree.
    pub orphan_root: U64,
    /// The root directory: 1.
    pub root_ino: U64,
    /// Inodes in use; only when clean.
    pub inode_count: U64,
    /// When it was made, ns since 1970.
    pub mkfs_time: I64,
    /// When a mount last began to change it, ns since 1970.
    pub last_mount: I64,
    /// Errno of the last error, 0 if there was none.
    pub error_code: U32,
    /// Zero.
    pub reserved: U32,
    /// Block the last error was about, 0 if none.
    pub error_block: U64,
    /// When the last error was found, ns since 1970.
    pub error_time: I64,
    /// Block of the copy of this structure, 0 if there is none.
    pub backup_block: U64,
    /// Zero.
    pub rest: [u8; 744],
}

impl RawSuperBlock {
    /// The structure at the start of `bytes`, for change; [`None`] if `bytes` is too short.
    pub fn of_mut(bytes: &mut [u8]) -> Option<&mut Self> {
        Some(Self::mut_from_prefix(bytes).ok()?.0)
    }

    /// The structure at the start of `bytes`; [`None`] if `bytes` is too short.
    pub fn of(bytes: &[u8]) -> Option<&Self> {
        Some(Self::ref_from_prefix(bytes).ok()?.0)
    }

    /// A new superblock of this layout, sealed, clean, without label and with one inode.
    pub fn new(layout: &Layout, hash_seed: [u8; 16], time: i64) -> Self {
        let mut sb = Self::new_zeroed();
        sb.magic = MAGIC;
        sb.version = U32::new(VERSION);
        sb.uuid = layout.uuid;
        sb.hash_seed = hash_seed;
        sb.block_size_log = U32::new(layout.block_size_log);
        sb.state = U32::new(STATE_CLEAN);
        sb.blocks = U64::new(layout.blocks);
        sb.desc_start = U64::new(layout.desc_start);
        sb.desc_blocks = U64::new(layout.desc_blocks);
        sb.ngroups = U64::new(layout.ngroups);
        sb.journal_start = U64::new(layout.journal_start);
        sb.journal_blocks = U64::new(layout.journal_blocks);
        sb.inode_root = U64::new(layout.inode_root);
        sb.refcount_root = U64::new(layout.refcount_root);
        sb.orphan_root = U64::new(layout.orphan_root);
        sb.backup_block = U64::new(layout.backup_block);
        sb.root_ino = U64::new(ROOT_INO.get());
        sb.inode_count = U64::new(1);
        sb.mkfs_time = I64::new(time);
        sb.seal();
        sb
    }

    /// The checksum that the content calls for.
    pub fn checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        let crc = crc32c(!0, bytes.get(..CRC_OFFSET).unwrap_or_default());
        let crc = crc32c(crc, &[0; 4]);
        crc32c(crc, bytes.get(CRC_OFFSET + 4..).unwrap_or_default())
    }

    /// Stores the checksum: the last step of every change.
    pub fn seal(&mut self) {
        self.crc = U32::new(self.checksum());
    }

    /// Sets the label.
    pub fn set_label(&mut self, label: [u8; LABEL_MAX]) {
        self.label = label;
        self.seal();
    }

    /// Records that the filesystem has grown to the layout `geo`.
    pub fn set_grown(&mut self, geo: &Geometry) {
        self.blocks = U64::new(geo.blocks());
        self.ngroups = U64::new(geo.ngroups());
        self.backup_block = U64::new(geo.backup_block().map_or(0, BlockNr::get));
        self.seal();
    }

    /// Records that the filesystem is in use: no longer clean.
    pub fn set_mounted(&mut self, time: i64) {
        self.state = U32::new(self.state.get() & !STATE_CLEAN);
        self.last_mount = I64::new(time);
        self.seal();
    }

    /// Records a proper end with `inodes` inodes in use.
    pub fn set_clean(&mut self, inodes: u64) {
        self.state = U32::new(self.state.get() | STATE_CLEAN);
        self.inode_count = U64::new(inodes);
        self.seal();
    }

    /// Records an error.
    pub fn set_error(&mut self, code: u32, block: u64, time: i64) {
        self.state = U32::new(self.state.get() | STATE_ERROR);
        self.error_code = U32::new(code);
        self.error_block = U64::new(block);
        self.error_time = I64::new(time);
        self.seal();
    }

    /// Whether `other` describes the same filesystem: all fields that never change agree.
    pub fn same_filesystem(&self, other: &Self) -> bool {
        let constant = |sb: &Self| {
            let mut sb = *sb;
            sb.crc = U32::ZERO;
            sb.state = U32::ZERO;
            sb.label = [0; LABEL_MAX];
            sb.inode_count = U64::ZERO;
            sb.last_mount = I64::ZERO;
            sb.error_code = U32::ZERO;
            sb.error_block = U64::ZERO;
            sb.error_time = I64::ZERO;
            sb
        };
        constant(self).as_bytes() == constant(other).as_bytes()
    }

    fn layout(&self) -> Layout {
        Layout {
            uuid: self.uuid,
            block_size_log: self.block_size_log.get(),
            blocks: self.blocks.get(),
            desc_start: self.desc_start.get(),
            desc_blocks: self.desc_blocks.get(),
            ngroups: self.ngroups.get(),
            journal_start: self.journal_start.get(),
            journal_blocks: self.journal_blocks.get(),
            inode_root: self.inode_root.get(),
            refcount_root: self.refcount_root.get(),
            orphan_root: self.orphan_root.get(),
            backup_block: self.backup_block.get(),
        }
    }
}

/// Why a superblock is not accepted. `Display` gives the sentence for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SbError {
    /// Fewer than 1024 bytes.
    Short,
    /// Another filesystem, or none.
    NotCalf,
    /// Damaged.
    Checksum {
        /// What is stored.
        stored: u32,
        /// What the content calls for.
        computed: u32,
    },
    /// Made by something newer.
    Version(u32),
    /// Unknown features that may not be ignored.
    Incompat(u64),
    /// Unknown features that forbid writing.
    RoCompat(u64),
    /// Block size out of range.
    BlockSize(u32),
    /// The device ends before the filesystem.
    Device {
        /// Bytes of the filesystem.
        need: u64,
        /// Bytes of the device.
        have: u64,
    },
    /// The places it names contradict each other.
    Layout(&'static str),
}

impl fmt::Display for SbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("superblock (byte 0): ")?;
        match *self {
            Self::Short => f.write_str("cannot be read whole; is this the right device?"),
            Self::NotCalf => f.write_str("no calf filesystem here; is this the right device?"),
            Self::Checksum { stored, computed } => write!(
                f,
                "damaged: checksum {stored:#010x}, content calls for {computed:#010x}; \
                 run fsck.calf, which looks for the copy in group 1"
            ),
            Self::Version(v) => write!(
                f,
                "format version {v}, only {VERSION} is understood; use the calf that made it"
            ),
            Self::Incompat(bits) => write!(
                f,
                "unknown incompatible features {bits:#x}; use a newer calf"
            ),
            Self::RoCompat(bits) => write!(
                f,
                "unknown features {bits:#x} that forbid writing; use a newer calf"
            ),
            Self::BlockSize(log) => write!(
                f,
                "block size 2^{log} is not one of 1024, 2048, 4096; run fsck.calf"
            ),
            Self::Device { need, have } => write!(
                f,
                "filesystem has {need} bytes, device only {have}; was the device or image cut?"
            ),
            Self::Layout(what) => write!(f, "{what}; run fsck.calf"),
        }
    }
}

/// The superblock, checked.
#[derive(Clone, Copy, Debug)]
pub struct SuperBlock {
    /// The layout.
    pub geo: Geometry,
    /// Secret key of the directory hash.
    pub hash_seed: [u8; 16],
    /// Name given by the user, filled up with zeros.
    pub label: [u8; 64],
    /// Was it unmounted properly?
    pub clean: bool,
    /// Was damage found since the last fsck?
    pub error: bool,
    /// Inodes in use; only when clean.
    pub inode_count: u64,
    /// Unknown features that forbid writing; mount read-only if not 0.
    pub unknown_ro_compat: u64,
}

impl SuperBlock {
    /// Checks the superblock at the start of `bytes` against a device of `device_bytes` bytes.
    pub fn parse(bytes: &[u8], device_bytes: u64) -> Result<Self, SbError> {
        let raw = RawSuperBlock::of(bytes).ok_or(SbError::Short)?;
        if raw.magic != MAGIC {
            return Err(SbError::NotCalf);
        }
        let (stored, computed) = (raw.crc.get(), raw.checksum());
        if stored != computed {
            return Err(SbError::Checksum { stored, computed });
        }
        if raw.version.get() != VERSION {
            return Err(SbError::Version(raw.version.get()));
        }
        let unknown = raw.feature_incompat.get() & !INCOMPAT_KNOWN;
        if unknown != 0 {
            return Err(SbError::Incompat(unknown));
        }
        let layout = raw.layout();
        if !(10..=12).contains(&layout.block_size_log) {
            return Err(SbError::BlockSize(layout.block_size_log));
        }
        let geo = Geometry::check(&layout).map_err(SbError::Layout)?;
        let need = layout.blocks.saturating_mul(geo.block_size());
        if need > device_bytes {
            return Err(SbError::Device {
                need,
                have: device_bytes,
            });
        }
        if raw.root_ino.get() != ROOT_INO.get() {
            return Err(SbError::Layout("the root directory is not inode 1"));
        }
        if raw.state.get() & !(STATE_CLEAN | STATE_ERROR) != 0 {
            return Err(SbError::Layout("unknown bits in the state"));
        }
        if raw.reserved.get() != 0 || raw.rest.iter().any(|&b| b != 0) {
            return Err(SbError::Layout("reserved bytes are not zero"));
        }
        Ok(Self {
            geo,
            hash_seed: raw.hash_seed,
            label: raw.label,
            clean: raw.state.get() & STATE_CLEAN != 0,
            error: raw.state.get() & STATE_ERROR != 0,
            inode_count: raw.inode_count.get(),
            unknown_ro_compat: raw.feature_ro_compat.get() & !RO_COMPAT_KNOWN,
        })
    }

    /// The label without the zeros at its end.
    pub fn label(&self) -> &[u8] {
        let end = self.label.iter().position(|&b| b == 0);
        end.and_then(|end| self.label.get(..end))
            .unwrap_or(&self.label)
    }

    /// The root directory.
    pub const fn root_ino(&self) -> Ino {
        ROOT_INO
    }

    /// Block of the copy of the superblock.
    pub fn backup_block(&self) -> Option<BlockNr> {
        self.geo.backup_block()
    }
}

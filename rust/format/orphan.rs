// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Orphans: the value of kind 6, keyed by inode number. Work that a crash must not forget.

use zerocopy::little_endian::{U32, U64};
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the value.
pub const SIZE: usize = 16;
/// The inode has no name any more and goes with its last user.
pub const KIND_UNLINKED: u32 = 1;
/// All beyond `size` goes (B5).
pub const KIND_TRUNCATE: u32 = 2;

const _: () = assert!(size_of::<RawOrphan>() == SIZE);

/// An orphan record as it lies on disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawOrphan {
    /// [`KIND_UNLINKED`] or [`KIND_TRUNCATE`].
    pub kind: U32,
    /// Zero.
    pub reserved: U32,
    /// For a truncation the size that stays, bytes; otherwise 0.
    pub size: U64,
}

impl RawOrphan {
    /// The record of an inode without a name.
    pub const fn unlinked() -> Self {
        Self {
            kind: U32::new(KIND_UNLINKED),
            reserved: U32::ZERO,
            size: U64::ZERO,
        }
    }

    /// The record of a truncation to `size` bytes.
    pub const fn truncate(size: u64) -> Self {
        Self {
            kind: U32::new(KIND_TRUNCATE),
            reserved: U32::ZERO,
            size: U64::new(size),
        }
    }

    /// Checks the value under `key`.
    pub fn parse(key: u64, value: &[u8]) -> Result<&Self, &'static str> {
        let r = Self::ref_from_bytes(value).map_err(|_| "orphan: wrong size")?;
        if key == 0 {
            return Err("orphan: inode number 0");
        }
        if !matches!(r.kind.get(), KIND_UNLINKED | KIND_TRUNCATE) || r.reserved.get() != 0 {
            return Err("orphan: unknown kind");
        }
        if r.kind.get() == KIND_UNLINKED && r.size.get() != 0 {
            return Err("orphan: size of one that goes as a whole");
        }
        Ok(r)
    }
}

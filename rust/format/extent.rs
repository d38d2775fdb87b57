// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Extents: the value of kind 2, keyed by the first block of the file it maps.

use super::types::BlockNr;
use zerocopy::little_endian::{U32, U64};
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the value.
pub const SIZE: usize = 16;
/// Bit of `flags`: allocated, reads as zeros.
pub const FLAG_UNWRITTEN: u32 = 1;
/// Longest extent, blocks.
pub const MAX_LEN: u64 = (1 << 31) - 1;
/// File blocks lie below this number: offsets in bytes fit `loff_t` with every block size.
pub const MAX_FBLK: u64 = 1 << 53;

const _: () = assert!(size_of::<RawExtent>() == SIZE);

/// An extent as it lies on disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawExtent {
    /// First block on the device.
    pub phys: U64,
    /// Blocks.
    pub len: U32,
    /// [`FLAG_UNWRITTEN`].
    pub flags: U32,
}

impl RawExtent {
    /// An extent for storage; [`None`] if `len` is out of range.
    pub fn new(phys: BlockNr, len: u64, unwritten: bool) -> Option<Self> {
        if len == 0 || len > MAX_LEN {
            return None;
        }
        Some(Self {
            phys: U64::new(phys.get()),
            len: U32::new(u32::try_from(len).ok()?),
            flags: U32::new(if unwritten { FLAG_UNWRITTEN } else { 0 }),
        })
    }

    /// Checks the value under `key`. Whether the blocks exist is a question for the geometry.
    pub fn parse(key: u64, value: &[u8]) -> Result<&Self, &'static str> {
        let e = Self::ref_from_bytes(value).map_err(|_| "extent: wrong size")?;
        let len = u64::from(e.len.get());
        if len == 0 || len > MAX_LEN {
            return Err("extent: length out of range");
        }
        if e.flags.get() & !FLAG_UNWRITTEN != 0 {
            return Err("extent: unknown flags");
        }
        if key.checked_add(len).is_none_or(|end| end > MAX_FBLK) {
            return Err("extent: beyond the largest file");
        }
        if e.phys.get() == 0 || e.phys.get().checked_add(len).is_none() {
            return Err("extent: block number out of range");
        }
        Ok(e)
    }

    /// Reads as zeros?
    pub fn is_unwritten(&self) -> bool {
        self.flags.get() & FLAG_UNWRITTEN != 0
    }
}

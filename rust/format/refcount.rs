// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Reference counts of two and more: the value of kind 5, keyed by the first block of the run.

use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the value.
pub const SIZE: usize = 8;

const _: () = assert!(size_of::<RawRefcount>() == SIZE);

/// A run of blocks that are all referenced equally often.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawRefcount {
    /// Blocks.
    pub len: U32,
    /// References to each of them, two or more.
    pub count: U32,
}

impl RawRefcount {
    /// Checks the value under `key`.
    pub fn parse(key: u64, value: &[u8]) -> Result<&Self, &'static str> {
        let r = Self::ref_from_bytes(value).map_err(|_| "reference count: wrong size")?;
        if r.len.get() == 0 || key.checked_add(u64::from(r.len.get())).is_none() {
            return Err("reference count: length out of range");
        }
        if r.count.get() < 2 {
            return Err("reference count: less than two");
        }
        Ok(r)
    }
}

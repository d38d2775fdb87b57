// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Groups: the descriptor of 32 bytes and the checksum of the bitmap.

use super::geometry::Geometry;
use super::types::BlockNr;
use crate::algo::bitmap::set_bytes;
use crate::seam::crc32c;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const _: () = assert!(size_of::<GroupDesc>() == 32);
const _: () = assert!(core::mem::offset_of!(GroupDesc, crc) == 28);

/// Bit of `flags`: the bitmap was never written. All that is in use are the fixed blocks at the
/// start of the group, and nothing else of the block counts. The last group never has it.
pub const FLAG_UNINIT: u32 = 1;

/// Descriptor of a group.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GroupDesc {
    /// The block with the group's bitmap.
    pub bitmap: U64,
    /// Clear bits in it.
    pub free: U32,
    /// [`bitmap_checksum`] of it; 0 with [`FLAG_UNINIT`].
    pub bitmap_crc: U32,
    /// [`FLAG_UNINIT`].
    pub flags: U32,
    /// Zero.
    pub reserved: U64,
    /// [`GroupDesc::checksum`] of the other 28 bytes.
    pub crc: U32,
}

impl GroupDesc {
    /// A sealed descriptor.
    pub fn new(geo: &Geometry, g: u64, free: u32, bitmap_crc: u32) -> Self {
        let mut desc = Self {
            bitmap: U64::new(geo.bitmap_block(g).get()),
            free: U32::new(free),
            bitmap_crc: U32::new(bitmap_crc),
            flags: U32::ZERO,
            reserved: U64::ZERO,
            crc: U32::ZERO,
        };
        desc.crc = U32::new(desc.checksum(geo, g));
        desc
    }

    /// A sealed descriptor of a group whose bitmap is not written; [`None`] where there has to be
    /// one: in the last group, and in that with the journal.
    pub fn new_uninit(geo: &Geometry, g: u64) -> Option<Self> {
        let mut desc = Self::new(geo, g, Self::free_if_uninit(geo, g)?, 0);
        desc.flags = U32::new(FLAG_UNINIT);
        desc.crc = U32::new(desc.checksum(geo, g));
        Some(desc)
    }

    /// The free blocks of group `g` if its bitmap was never written, [`None`] if it has to be.
    fn free_if_uninit(geo: &Geometry, g: u64) -> Option<u32> {
        let (_, len) = geo.group_range(g);
        let last = g.saturating_add(1) >= geo.ngroups();
        if last || g == geo.group_of(geo.journal_start()) {
            return None;
        }
        u32::try_from(len.checked_sub(geo.head(g))?).ok()
    }

    /// Was the bitmap never written?
    pub fn is_uninit(&self) -> bool {
        self.flags.get() & FLAG_UNINIT != 0
    }

    /// crc32c over the uuid, the number of the group (8 bytes) and the first 28 bytes.
    pub fn checksum(&self, geo: &Geometry, g: u64) -> u32 {
        let crc = crc32c(!0, geo.uuid());
        let crc = crc32c(crc, &g.to_le_bytes());
        crc32c(crc, self.as_bytes().get(..28).unwrap_or_default())
    }

    /// Checks the descriptor of group `g`.
    pub fn verify(&self, geo: &Geometry, g: u64) -> Result<(), &'static str> {
        if self.crc.get() != self.checksum(geo, g) {
            return Err("group descriptor: wrong checksum");
        }
        if BlockNr::new(self.bitmap.get()) != geo.bitmap_block(g) {
            return Err("group descriptor: bitmap out of place");
        }
        let (_, len) = geo.group_range(g);
        if u64::from(self.free.get()) > len.saturating_sub(geo.head(g)) {
            return Err("group descriptor: more free blocks than blocks");
        }
        if self.flags.get() & !FLAG_UNINIT != 0 || self.reserved.get() != 0 {
            return Err("group descriptor: reserved bytes are not zero");
        }
        let plain =
            || Self::free_if_uninit(geo, g) == Some(self.free.get()) && self.bitmap_crc.get() == 0;
        if self.is_uninit() && !plain() {
            return Err("group descriptor: says that a bitmap in use was never written");
        }
        Ok(())
    }
}

/// The verified descriptor of group `g`, from the block it is in
/// ([`Geometry::desc_location`]).
pub fn read_desc(
    block: &[u8],
    off: usize,
    geo: &Geometry,
    g: u64,
) -> Result<GroupDesc, &'static str> {
    let (desc, _) = block
        .get(off..)
        .and_then(|rest| GroupDesc::read_from_prefix(rest).ok())
        .ok_or("group descriptor: out of the block")?;
    desc.verify(geo, g)?;
    Ok(desc)
}

/// Does the descriptor at `off`, which was verified, say that the bitmap was never written?
pub fn is_uninit(desc_block: &[u8], off: usize) -> bool {
    let rest = desc_block.get(off..).unwrap_or_default();
    GroupDesc::ref_from_prefix(rest).is_ok_and(|(desc, _)| desc.is_uninit())
}

/// Makes `bitmap` that of group `g` with nothing in use but its fixed blocks.
pub fn init_bitmap(bitmap: &mut [u8], geo: &Geometry, g: u64) {
    let (_, len) = geo.group_range(g);
    bitmap.fill(0);
    // CAST: bits of a block.
    set_bytes(bitmap, 0, geo.head(g) as usize);
    let beyond = geo.group_blocks().saturating_sub(len);
    set_bytes(bitmap, len as usize, beyond as usize);
}

/// Checks the bitmap of group `g` against its descriptor, which lies at `off` in `desc_block` and
/// does not say that the bitmap was never written.
pub fn verify_bitmap(
    desc_block: &[u8],
    off: usize,
    bitmap: &[u8],
    geo: &Geometry,
    g: u64,
) -> Result<(), &'static str> {
    let desc = read_desc(desc_block, off, geo, g)?;
    if desc.bitmap_crc.get() != bitmap_checksum(bitmap, geo) {
        return Err("bitmap: wrong checksum");
    }
    let clear: u64 = bitmap.iter().map(|b| u64::from(b.count_zeros())).sum();
    if clear != u64::from(desc.free.get()) {
        return Err("bitmap: free blocks do not match the group descriptor");
    }
    let (_, len) = geo.group_range(g);
    if first_clear_bit(bitmap, 0, geo.head(g)) || first_clear_bit(bitmap, len, geo.group_blocks()) {
        return Err("bitmap: a fixed block or one beyond the end is free");
    }
    Ok(())
}

/// Is any of the bits `[from, to)` clear?
fn first_clear_bit(bitmap: &[u8], from: u64, to: u64) -> bool {
    let mut at = from;
    while at < to {
        let byte = usize::try_from(at >> 3).ok().and_then(|i| bitmap.get(i));
        let Some(&byte) = byte else {
            return true;
        };
        if at & 7 == 0 && to.saturating_sub(at) >= 8 {
            if byte != 0xff {
                return true;
            }
            at = at.saturating_add(8);
        } else {
            if byte & (1 << (at & 7)) == 0 {
                return true;
            }
            at = at.saturating_add(1);
        }
    }
    false
}

/// Checksum of a bitmap block: crc32c over the uuid and the block.
pub fn bitmap_checksum(bitmap: &[u8], geo: &Geometry) -> u32 {
    crc32c(crc32c(!0, geo.uuid()), bitmap)
}

/// Writes the bitmap and the descriptor of group `g`, which is new: all that is in use are its
/// fixed blocks and what lies beyond the end. `desc_block` holds the descriptor at `off`. Returns the
/// number of free blocks; [`None`] if the buffers are too short.
pub fn init_group(
    bitmap: &mut [u8],
    desc_block: &mut [u8],
    off: usize,
    geo: &Geometry,
    g: u64,
) -> Option<u32> {
    let (_, len) = geo.group_range(g);
    let free = u32::try_from(len.checked_sub(geo.head(g))?).ok()?;
    init_bitmap(bitmap, geo, g);
    let (desc, _) = GroupDesc::mut_from_prefix(desc_block.get_mut(off..)?).ok()?;
    *desc = GroupDesc::new(geo, g, free, bitmap_checksum(bitmap, geo));
    Some(free)
}

/// Brings the descriptor of group `g` up to date after `len` bits of its bitmap were `set` or
/// cleared. False if the free count would leave its range; the descriptor is then unchanged.
pub fn update_desc(
    block: &mut [u8],
    off: usize,
    geo: &Geometry,
    g: u64,
    len: u32,
    set: bool,
    bitmap_crc: u32,
) -> bool {
    let desc = block
        .get_mut(off..)
        .and_then(|rest| GroupDesc::mut_from_prefix(rest).ok());
    let Some((desc, _)) = desc else {
        return false;
    };
    let free = desc.free.get();
    let free = if set {
        free.checked_sub(len)
    } else {
        free.checked_add(len)
    };
    let Some(free) = free else {
        return false;
    };
    *desc = GroupDesc::new(geo, g, free, bitmap_crc);
    true
}

// SPDX-License-Identifier: GPL-2.0

//! Where the blocks of a file are: FIEMAP, FIBMAP.

use super::{last, Result};
use std::fs::File;
use std::os::fd::AsRawFd;

/// `FIEMAP_EXTENT_LAST`: nothing follows.
pub const FIEMAP_LAST: u32 = 0x1;
/// `FIEMAP_EXTENT_DELALLOC`: no block chosen yet.
pub const FIEMAP_DELALLOC: u32 = 0x4;
/// `FIEMAP_EXTENT_UNWRITTEN`: allocated, reads as zeros.
pub const FIEMAP_UNWRITTEN: u32 = 0x800;
/// `FIEMAP_EXTENT_SHARED`: the blocks have other owners too.
pub const FIEMAP_SHARED: u32 = 0x2000;

/// One extent as FIEMAP reports it, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FiemapExtent {
    /// First byte in the file.
    pub logical: u64,
    /// First byte on the device.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
    reserved64: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
    reserved: [u32; 3],
}

const FIEMAP_BATCH: usize = 256;

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; FIEMAP_BATCH],
}

/// `FIEMAP_FLAG_XATTR`: the extents of the extended attributes.
pub const FIEMAP_FLAG_XATTR: u32 = 2;

/// Reports up to 256 extents from `start`; empty when there are none. `sync` writes the file back
/// first.
pub fn fiemap(file: &File, start: u64, length: u64, sync: bool) -> Result<Vec<FiemapExtent>> {
    fiemap_with(file, start, length, sync.into())
}

/// [`fiemap`] with any `FIEMAP_FLAG_*`.
pub fn fiemap_with(file: &File, start: u64, length: u64, flags: u32) -> Result<Vec<FiemapExtent>> {
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    let mut map = Box::new(Fiemap {
        start,
        length,
        flags,
        mapped: 0,
        count: FIEMAP_BATCH as u32,
        reserved: 0,
        extents: [FiemapExtent::default(); FIEMAP_BATCH],
    });
    // SAFETY: `map` is a `struct fiemap` with room for `count` extents and lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &mut *map as *mut Fiemap) };
    if r < 0 {
        return Err(last());
    }
    Ok(map.extents[..(map.mapped as usize).min(FIEMAP_BATCH)].to_vec())
}

/// The number of extents that FIEMAP would report.
pub fn fiemap_count(file: &File) -> Result<u32> {
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    // `struct fiemap` without room for extents: start, length, flags and mapped, count.
    let mut map = [0, u64::MAX, 0, 0u64];
    // SAFETY: `map` is a `struct fiemap` that lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, map.as_mut_ptr()) };
    if r < 0 {
        return Err(last());
    }
    Ok((map[2] >> 32) as u32)
}

/// `FIBMAP`: the block of the device that holds block `block` of a file; 0 for none.
pub fn fibmap(file: &File, block: u32) -> Result<u32> {
    const FIBMAP: libc::c_ulong = 1;
    let mut at = block;
    // SAFETY: the argument is an int that lives over the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), FIBMAP, &raw mut at) } {
        0 => Ok(at),
        _ => Err(last()),
    }
}

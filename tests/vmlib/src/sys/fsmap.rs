// SPDX-License-Identifier: GPL-2.0

//! What each block of a filesystem is used for: `FS_IOC_GETFSMAP`.

use super::{last, Result};
use std::fs::File;
use std::os::fd::AsRawFd;

/// `FMR_OWN_FREE`.
pub const FSMAP_FREE: u64 = 1;
/// `FMR_OWN_UNKNOWN`.
pub const FSMAP_UNKNOWN: u64 = 2;
/// `FMR_OWN_METADATA`.
pub const FSMAP_METADATA: u64 = 3;
/// `FMR_OF_SPECIAL_OWNER`.
pub const FSMAP_SPECIAL: u32 = 0x10;
/// `FMR_OF_LAST`.
pub const FSMAP_LAST: u32 = 0x20;

/// `struct fsmap`, bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fsmap {
    /// Device number.
    pub device: u32,
    /// `FMR_OF_*`.
    pub flags: u32,
    /// First byte on the device.
    pub physical: u64,
    /// `FMR_OWN_*`.
    pub owner: u64,
    /// Byte of the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

impl Fsmap {
    /// The key that nothing is greater than.
    pub const MAX: Fsmap = Fsmap {
        device: u32::MAX,
        flags: u32::MAX,
        physical: u64::MAX,
        owner: u64::MAX,
        offset: u64::MAX,
        length: 0,
        reserved: [0; 3],
    };
}

/// `FS_IOC_GETFSMAP` with room for `count` records. Returns the records and the number that the
/// kernel says (which is all there is with `count` 0).
pub fn getfsmap(file: &File, low: Fsmap, high: Fsmap, count: usize) -> Result<(Vec<Fsmap>, u32)> {
    const FS_IOC_GETFSMAP: libc::c_ulong = 0xc0c0_583b;
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Head {
        iflags: u32,
        oflags: u32,
        count: u32,
        entries: u32,
        reserved: [u64; 6],
        keys: [Fsmap; 2],
    }
    const _: () = assert!(std::mem::size_of::<Head>() == 3 * std::mem::size_of::<Fsmap>());
    // The head takes the place of three records.
    let mut buf = vec![Fsmap::default(); 3 + count];
    let head: *mut Head = buf.as_mut_ptr().cast();
    // SAFETY: the head lies within the buffer, whose alignment is the same.
    unsafe {
        head.write(Head {
            iflags: 0,
            oflags: 0,
            count: count as u32,
            entries: 0,
            reserved: [0; 6],
            keys: [low, high],
        })
    };
    // SAFETY: the buffer is a `struct fsmap_head` with room for `count` records.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSMAP, head) };
    if r < 0 {
        return Err(last());
    }
    // SAFETY: as above; the kernel has written it.
    let entries = unsafe { head.read() }.entries;
    buf.drain(..3);
    buf.truncate(entries as usize);
    Ok((buf, entries))
}

// SPDX-License-Identifier: GPL-2.0

//! Calls for a whole filesystem: freeze, thaw, trim, and ioctls that pass plain bytes.

use super::{last, Result};
use std::fs::File;
use std::os::fd::AsRawFd;

/// `FITRIM`. Returns the bytes that the kernel says.
pub fn fitrim(file: &File, start: u64, len: u64, minlen: u64) -> Result<u64> {
    const FITRIM: libc::c_ulong = 0xc018_5879;
    let mut range = [start, len, minlen];
    // SAFETY: `range` is a `struct fstrim_range` that lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FITRIM, range.as_mut_ptr()) };
    if r < 0 {
        return Err(last());
    }
    Ok(range[1])
}

/// Freezes the filesystem of an open file (`FIFREEZE`).
pub fn freeze(file: &File) -> Result<()> {
    const FIFREEZE: libc::c_ulong = 0xc004_5877;
    // SAFETY: the argument is not used.
    match unsafe { libc::ioctl(file.as_raw_fd(), FIFREEZE, 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Ends what [`freeze`] began (`FITHAW`).
pub fn thaw(file: &File) -> Result<()> {
    const FITHAW: libc::c_ulong = 0xc004_5878;
    // SAFETY: the argument is not used.
    match unsafe { libc::ioctl(file.as_raw_fd(), FITHAW, 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// `FIFREEZE`.
pub const FIFREEZE: u32 = 0xc004_5877;
/// `FITHAW`.
pub const FITHAW: u32 = 0xc004_5878;
/// `FS_IOC_GETVERSION`.
pub const GETVERSION: u32 = 0x8008_7601;
/// `XFS_IOC_GOINGDOWN`.
pub const GOINGDOWN: u32 = 0x8004_587d;
/// `FS_IOC_GETFSLABEL`.
pub const GETFSLABEL: u32 = 0x8100_9431;
/// `FS_IOC_SETFSLABEL`.
pub const SETFSLABEL: u32 = 0x4100_9432;
/// `FS_IOC_GETFSUUID`: the length, then 16 bytes.
pub const GETFSUUID: u32 = 0x8011_1500;
/// `FS_IOC_GETFSSYSFSPATH`: the length, then 128 bytes.
pub const GETFSSYSFSPATH: u32 = 0x8081_1501;
/// `BLKROSET`: an int follows.
pub const BLKROSET: u32 = 0x125d;

/// An ioctl whose argument is a plain structure without pointers, given as its bytes.
pub fn ioctl(file: &File, cmd: u32, arg: &mut [u8]) -> Result<i32> {
    let size = (cmd >> 16 & 0x3fff) as usize;
    assert!(arg.len() >= size.max(4), "argument of ioctl {cmd:#x}");
    // SAFETY: `arg` is at least as long as the command says and lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), cmd as _, arg.as_mut_ptr()) };
    if r < 0 {
        return Err(last());
    }
    Ok(r)
}

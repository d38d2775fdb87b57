// SPDX-License-Identifier: GPL-2.0

//! Telling a block device that nothing on it is needed any more. `unsafe` is for the one ioctl.

use calf_io::device::{Device, Storage};
use calf_io::say;
use rustix::io::Errno;
use rustix::ioctl::{opcode, Setter};

/// `BLKDISCARD` (C header: include/uapi/linux/fs.h), two numbers: first byte and length.
const BLKDISCARD: rustix::ioctl::Opcode = opcode::none(0x12, 119);

/// Discards the device. What it reads afterwards is up to it.
///
/// Does nothing with an image file, nor with a device that cannot discard. If it fails otherwise, a
/// warning says so: the filesystem is made all the same, as [`make`](calf_io::make::make) zeroes what has to be.
pub fn discard(device: &Device) {
    let sector = u64::from(device.sector_size()).max(512);
    let len = device.size() / sector * sector;
    if !device.is_block_device() || len == 0 {
        return;
    }
    // SAFETY: the ioctl takes a pointer to two numbers of 64 bits, which it only reads.
    let request = unsafe { Setter::<BLKDISCARD, [u64; 2]>::new([0, len]) };
    // SAFETY: as above; the device is open for writing, and the caller has decided to overwrite it.
    match unsafe { rustix::ioctl::ioctl(device, request) } {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOTTY) => {}
        Err(e) => say::error(
            "mkfs.calf",
            format_args!("warning: cannot discard the device: {e}"),
        ),
    }
}

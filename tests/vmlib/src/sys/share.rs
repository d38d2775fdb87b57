// SPDX-License-Identifier: GPL-2.0

//! Making files share blocks: FICLONERANGE, FIDEDUPERANGE.

use super::{last, Result};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// Makes `dst` at `dst_off` share `len` bytes with `src` at `src_off` (0: up to the end).
pub fn clone_range(dst: &File, src: &File, src_off: u64, len: u64, dst_off: u64) -> Result<()> {
    const FICLONERANGE: libc::c_ulong = 0x4020_940d;
    #[repr(C)]
    struct Range {
        fd: i64,
        src_off: u64,
        len: u64,
        dst_off: u64,
    }
    let arg = Range {
        fd: src.as_raw_fd().into(),
        src_off,
        len,
        dst_off,
    };
    // SAFETY: `arg` is a `struct file_clone_range` that lives over the call, which only reads it.
    let r = unsafe { libc::ioctl(dst.as_raw_fd(), FICLONERANGE, &arg as *const Range) };
    if r < 0 {
        return Err(last());
    }
    Ok(())
}

/// Makes `dst` at `dst_off` share `len` bytes with `src` at `src_off` if they are the same
/// (`FIDEDUPERANGE`). Returns the bytes that are shared now, or `None` if the ranges differ.
pub fn dedupe(src: &File, src_off: u64, len: u64, dst: &File, dst_off: u64) -> Result<Option<u64>> {
    const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
    #[repr(C)]
    struct Range {
        src_off: u64,
        len: u64,
        count: u16,
        reserved: [u16; 3],
        fd: i64,
        dst_off: u64,
        deduped: u64,
        status: i32,
        reserved2: u32,
    }
    let mut arg = Range {
        src_off,
        len,
        count: 1,
        reserved: [0; 3],
        fd: dst.as_raw_fd().into(),
        dst_off,
        deduped: 0,
        status: 0,
        reserved2: 0,
    };
    // SAFETY: `arg` is a `struct file_dedupe_range` with one target that lives over the call.
    let r = unsafe { libc::ioctl(src.as_raw_fd(), FIDEDUPERANGE, &mut arg as *mut Range) };
    match (r, arg.status) {
        (r, _) if r < 0 => Err(last()),
        (_, 0) => Ok(Some(arg.deduped)),
        (_, 1) => Ok(None),
        (_, e) => Err(Errno::from_raw_os_error(-e)),
    }
}

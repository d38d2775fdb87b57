// SPDX-License-Identifier: GPL-2.0

//! Loop devices.

use std::fs::File;
use std::os::fd::AsRawFd;

/// A loop device over the first part of a device or file; it goes when this is dropped.
pub struct Loop {
    /// Its path.
    pub path: std::path::PathBuf,
    _open: File,
}

impl Loop {
    /// Makes a device of `bytes` bytes over the start of `backing`.
    pub fn new(backing: &std::path::Path, bytes: u64) -> std::io::Result<Loop> {
        const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
        const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
        const LO_FLAGS_AUTOCLEAR: u32 = 4;
        /// `struct loop_config` with its `struct loop_info64`.
        #[repr(C)]
        struct Config {
            fd: u32,
            block_size: u32,
            device: u64,
            inode: u64,
            rdevice: u64,
            offset: u64,
            sizelimit: u64,
            number: u32,
            encrypt_type: u32,
            encrypt_key_size: u32,
            flags: u32,
            names_and_rest: [u64; 22],
            reserved: [u64; 8],
        }
        const _: () = assert!(std::mem::size_of::<Config>() == 304);
        let rw = |p: &std::path::Path| File::options().read(true).write(true).open(p);
        let under = rw(backing)?;
        let control = rw("/dev/loop-control".as_ref())?;
        // SAFETY: this request takes no argument.
        let n = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if n < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let path = std::path::PathBuf::from(format!("/dev/loop{n}"));
        let open = rw(&path)?;
        let config = Config {
            fd: under.as_raw_fd() as u32,
            block_size: 0,
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: bytes,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            names_and_rest: [0; 22],
            reserved: [0; 8],
        };
        // SAFETY: `config` is a `struct loop_config` that lives over the call, which reads it.
        let r = unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CONFIGURE, &config as *const Config) };
        if r < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Loop { path, _open: open })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! File handles, as the NFS server uses them.

use super::{last, Result};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// A file handle (`struct file_handle`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// Bytes of `data` in use.
    pub bytes: u32,
    /// `FILEID_*` and flags.
    pub kind: i32,
    /// What the filesystem put in.
    pub data: [u8; 128],
}

/// The handle of `path`; `connectable` ones know the parent too.
pub fn name_to_handle(path: &std::path::Path, connectable: bool) -> Result<Handle> {
    const AT_HANDLE_CONNECTABLE: libc::c_int = 2;
    let path =
        std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    let flags = if connectable {
        AT_HANDLE_CONNECTABLE
    } else {
        0
    };
    let mut h = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0i32;
    // SAFETY: the path ends in NUL, `h` has room for the 128 bytes it announces.
    let r = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &mut h as *mut Handle,
            &mut mount as *mut i32,
            flags,
        )
    };
    if r < 0 {
        return Err(last());
    }
    Ok(h)
}

/// Opens what a handle names, on the filesystem that `mount` is on.
pub fn open_by_handle(mount: &File, h: &Handle) -> Result<File> {
    let mut h = *h;
    // SAFETY: `h` holds at least the bytes it announces, which the kernel limits to 128.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &mut h as *mut Handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) })
}

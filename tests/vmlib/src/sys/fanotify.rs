// SPDX-License-Identifier: GPL-2.0

//! What the watchers of a filesystem are told of its errors (`FAN_FS_ERROR`).

use super::{last, Result};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;

const FAN_CLOEXEC: u32 = 0x1;
const FAN_NONBLOCK: u32 = 0x2;
const FAN_REPORT_FID: u32 = 0x200;
const FAN_MARK_ADD: u32 = 0x1;
const FAN_MARK_FILESYSTEM: u32 = 0x100;
const FAN_FS_ERROR: u64 = 0x8000;

/// A watcher of one filesystem.
#[derive(Debug)]
pub struct FsErrors(File);

impl FsErrors {
    /// Watches the filesystem of `path` from now on.
    pub fn new(path: &std::path::Path) -> Result<Self> {
        let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| Errno::INVAL)?;
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::fanotify_init(FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_FID, 0) };
        if fd < 0 {
            return Err(last());
        }
        // SAFETY: just opened, and ours.
        let group = Self(unsafe { File::from_raw_fd(fd) });
        let mark = FAN_MARK_ADD | FAN_MARK_FILESYSTEM;
        // SAFETY: the path ends in NUL.
        let r =
            unsafe { libc::fanotify_mark(fd, mark, FAN_FS_ERROR, libc::AT_FDCWD, path.as_ptr()) };
        if r < 0 {
            return Err(last());
        }
        Ok(group)
    }

    /// Was there an error? All that were reported are here when the filesystem has been unmounted.
    pub fn any(&self) -> Result<bool> {
        let mut events = [0; 4096];
        match (&self.0).read(&mut events) {
            Ok(n) => Ok(n > 0),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
        }
    }
}

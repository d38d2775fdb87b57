// SPDX-License-Identifier: GPL-2.0

//! A device past the page cache.

use crate::sys::Aligned;
use crate::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Opens a device for direct I/O.
pub fn raw(dev: &Path, write: bool) -> Result<File> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::DIRECT | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dev, flags, Mode::empty()).ctx(dev.display())?;
    Ok(fd.into())
}

/// Copies the first `bytes` bytes of a device as they are now to another one.
pub fn copy(from: &Path, to: &Path, bytes: u64) -> Result {
    let (from, to) = (raw(from, false)?, raw(to, true)?);
    let mut buf = Aligned::new(1 << 20);
    for at in (0..bytes).step_by(buf.len()) {
        from.read_exact_at(&mut buf, at).ctx("copy: read")?;
        to.write_all_at(&buf, at).ctx("copy: write")?;
    }
    to.sync_all().ctx("copy: fsync")
}

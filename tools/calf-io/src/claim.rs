// SPDX-License-Identifier: GPL-2.0

//! Who else uses an image file. A block device is guarded by the kernel, which gives it to one program or
//! mount alone; a file is not, so its writers ask here.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Where the kernel shows its block devices.
const BLOCK_DEVICES: &str = "/sys/block";

/// Claims an image file until it is closed. Errors: `ResourceBusy` if it lies under a loop device, or another
/// tool has claimed it.
pub(crate) fn claim(file: &File) -> io::Result<()> {
    if let Some(user) = loop_user(file, Path::new(BLOCK_DEVICES))? {
        return Err(busy(&format!(
            "attached to {user}; use that device, or detach it first"
        )));
    }
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(busy("in use by another program; wait until it ends")),
        // A host that knows no locks protects no files.
        Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Somebody else has it; `what` goes on after "the file is".
pub(crate) fn busy(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, what)
}

/// The loop device that uses this file, under whatever name. `devices` is a folder like `/sys/block`; there
/// need not be one.
pub fn loop_user(file: &File, devices: &Path) -> io::Result<Option<String>> {
    let file = file.metadata()?;
    for entry in fs::read_dir(devices).into_iter().flatten().flatten() {
        let Ok(backing) = fs::read(entry.path().join("loop/backing_file")) else {
            continue;
        };
        // A file that was removed since has no name by which it could be looked at.
        let backing = backing.strip_suffix(b"\n").unwrap_or(&backing);
        let backing = fs::metadata(OsStr::from_bytes(backing));
        if backing.is_ok_and(|b| (b.dev(), b.ino()) == (file.dev(), file.ino())) {
            return Ok(Some(format!(
                "/dev/{}",
                entry.file_name().to_string_lossy()
            )));
        }
    }
    Ok(None)
}

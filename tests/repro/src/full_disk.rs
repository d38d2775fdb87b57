// SPDX-License-Identifier: GPL-2.0

//! What reproducers on a full disk share.

use crate::case::{fill, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::sys::Map;
use calf_vmlib::Result;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Preallocates as much as there is, in large pieces.
fn preallocate(stage: &Stage) -> Result {
    let f = stage.file("ballast")?;
    let (mut at, mut step) = (0u64, 1u64 << 30);
    while step >= PAGE {
        match rustix::fs::fallocate(&f, FallocateFlags::empty(), at, step) {
            Ok(()) => at += step,
            Err(Errno::NOSPC) => step /= 2,
            Err(e) => return Err(e).ctx("fallocate"),
        }
    }
    Ok(())
}

/// Takes all space there is: at the end not even one block can be written. Writes dirty data of all
/// files back on the way.
pub fn fill_up(stage: &Stage) -> Result {
    preallocate(stage)?;
    let g = stage.file("crumbs")?;
    for n in 0..10_000 {
        let wrote = fill(&g, b'c', n * PAGE, PAGE).and_then(|()| g.sync_all().ctx("fsync"));
        match wrote {
            Ok(()) => {}
            Err(e) if e.errno == Some(Errno::NOSPC.raw_os_error()) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Err(window_missed("the filesystem does not fill up"))
}

/// Takes all space there is, and starts no writeback: the last blocks are reserved by stores through
/// maps, first of one file, then, as its tree asks for a block too, of fresh ones.
pub fn take_all(stage: &Stage) -> Result {
    const FRESH: usize = 64;
    const MOST: usize = 16 << 20;
    let byte = stage.filled("byte", b'T', 1)?;
    let mut files = vec![(stage.file("stores")?, MOST)];
    for n in 0..FRESH {
        files.push((stage.file(&format!("store{n}"))?, PAGE as usize));
    }
    for (f, len) in &files {
        f.set_len(*len as u64).ctx("truncate")?;
    }
    preallocate(stage)?;
    let mut full = false;
    for (f, len) in &files {
        let map = Map::new(f, 0, *len).ctx("mmap")?;
        full = false;
        for page in (0..*len).step_by(PAGE as usize) {
            // The kernel does the store, and says EFAULT where we would get SIGBUS.
            match map.read_from(page, 1, &byte, 0) {
                Ok(_) => {}
                Err(Errno::FAULT) => {
                    full = true;
                    break;
                }
                Err(e) => return Err(e).ctx("store"),
            }
        }
        if full && *len == PAGE as usize {
            break;
        }
    }
    if full {
        return Ok(());
    }
    Err(window_missed("the filesystem does not fill up"))
}

// SPDX-License-Identifier: GPL-2.0

//! The filesystem as a whole: mounting, a full disk, memory.

use super::{check, make, make_extents, stamp, Case, BLOCK};
use crate::turn::Turn;
use calf_vmlib::error::Context;
use calf_vmlib::{ensure, file, Result};
use rustix::fs::FallocateFlags;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

pub(super) const CASES: &[Case] = &[
    Case::new("mount-clean", "mount", mount_clean),
    Case::new("mount-crash", "mount", mount_crash),
    Case::new("write-full-disk", "write", full_disk),
    Case::new("memory-inode", "inode", inodes),
    Case::new("memory-extent", "extent", extents),
];

/// Something to mount: a folder with files.
fn populate(t: &Turn, count: u64) -> Result {
    for i in 0..count {
        fs::write(t.path(&format!("f{i}")), [b'x'; 5000]).ctx("write")?;
    }
    Ok(())
}

fn mount_clean(t: &mut Turn, _: u64) -> Result {
    populate(t, 200)?;
    t.umount()?;
    t.measure_mount()?;
    there(t, 200)
}

fn there(t: &Turn, count: u64) -> Result {
    for i in 0..count {
        let m = fs::metadata(t.path(&format!("f{i}"))).ctx("stat")?;
        ensure!(m.len() == 5000, "file {i} has {} bytes", m.len());
    }
    Ok(())
}

/// The journal holds what was done.
fn mount_crash(t: &mut Turn, _: u64) -> Result {
    for part in 0..8 {
        for i in 0..100 {
            fs::write(t.path(&format!("f{}", part * 100 + i)), [b'x'; 5000]).ctx("write")?;
        }
        crate::turn::sync_fs(t.root())?;
    }
    t.crash()?;
    t.measure_mount()?;
    there(t, 800)
}

/// Free space is left only in pieces of a block each, but for the end of the disk.
fn full_disk(t: &mut Turn, _: u64) -> Result {
    const HOLES: u64 = 4000;
    const WRITES: u64 = 2048;
    let hog = file::open(&t.path("hog"))?;
    let size = (t.free()? - (24 << 20)) / BLOCK * BLOCK;
    file::fallocate(&hog, FallocateFlags::empty(), 0, size)?;
    let step = size / BLOCK / HOLES;
    for i in 0..HOLES {
        file::punch(&hog, i * step * BLOCK, BLOCK)?;
    }
    drop(hog);
    t.fresh()?;
    let path = t.path("f");
    let f = file::open(&path)?;
    let mut buf = vec![b'w'; BLOCK as usize];
    t.measure(WRITES, move || {
        for i in 0..WRITES {
            stamp(&mut buf, i);
            f.write_all_at(&buf, i * BLOCK).ctx("write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&path, WRITES, |i| i)
}

/// Inodes that were looked at stay in memory, with their names.
fn inodes(t: &mut Turn, _: u64) -> Result {
    const N: u64 = 2000;
    populate(t, N)?;
    t.fresh()?;
    let paths: Vec<_> = (0..N).map(|i| t.path(&format!("f{i}"))).collect();
    t.measure_memory(N, || {
        for p in &paths {
            fs::metadata(p).ctx("stat")?;
        }
        Ok(())
    })
}

/// The extents of a file that was read.
fn extents(t: &mut Turn, _: u64) -> Result {
    const N: u64 = 10000;
    let path = t.path("f");
    make_extents(&path, N)?;
    make(&t.path("small"), 1)?;
    t.fresh()?;
    // What the first file needs of the filesystem is not of the extents.
    check(&t.path("small"), 1, |i| i)?;
    t.measure_memory(N, || {
        let f = File::open(&path).ctx("open")?;
        // Looks at all of them without a page for each.
        ensure!(super::extent_count(&f)? == N, "extents");
        Ok(f)
    })
}

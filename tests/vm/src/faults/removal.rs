// SPDX-License-Identifier: GPL-2.0

//! A disk that goes away while it is mounted, and comes back.

use super::life::fill;
use super::sweep::{complete, disk, is_down, no_complaint};
use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::observe::Kmsg;
use calf_vmlib::sys::Map;
use calf_vmlib::{ensure, ensure_errno, Context, Env, Result};
use rustix::io::Errno;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Four threads work in folders of their own; `f` gets what returns after so many steps more of theirs.
fn while_working(m: &Mounted, f: impl FnOnce(&dyn Fn(u64)) -> Result) -> Result {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|s| {
        for w in 0..4u64 {
            let (stop, count, dir) = (&stop, &count, m.path(&format!("w{w}")));
            s.spawn(move || {
                let mut i = 0;
                while !stop.load(Ordering::Relaxed) {
                    i += 1;
                    // Without the disk everything fails, which is right.
                    let _ = some_work(&dir, i);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let outcome = f(&|n| {
            let until = count.load(Ordering::Relaxed) + n;
            while count.load(Ordering::Relaxed) < until {
                std::thread::yield_now();
            }
        });
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// From some moment on every request fails while four threads work: all of them come back, and so does umount.
pub fn every_request(env: &Env) -> Result {
    for round in 0..3u64 {
        let disk = disk("flt0", 64)?;
        cfs::mkfs(env, &disk.path, &[])?;
        let mut m = Mounted::new(&disk.path, &env.mnt, "")?;
        fill(&m)?;
        let held = open(&m.path("held"))?;
        while_working(&m, |progress| {
            progress(30 + 40 * round);
            let broken = disk.break_range(0, 64 << 20);
            write_pattern(&held, 1, 0, 40_000).ok();
            let told = held.sync_all();
            progress(40);
            broken?;
            ensure_errno!(told, Errno::IO, "fsync without a disk");
            Ok(())
        })?;
        drop(held);
        // The disk is back, as it was.
        m.umount()?;
        m.mount()?;
        check_pattern(&File::open(m.path("kept"))?, 9, 0, 100_000)?;
        m.umount()?;
        cfs::fsck(env, &disk.path)?;
    }
    Ok(())
}

/// What the module says when the kernel tells it.
const TOLD: &str = "the device is gone";

/// The disk is pulled out while four threads work and files are open. The kernel has the filesystem write what is dirty,
/// as far as the disk takes it (`works`), and then tells it that the device is gone (`super_operations.shutdown`).
fn pulled_out(env: &Env, works: bool) -> Result {
    let disk = disk("flt0", 32)?;
    cfs::mkfs(env, &disk.path, &[])?;
    let mut m = Mounted::new(&disk.path, &env.mnt, "")?;
    fill(&m)?;
    let mut log = Kmsg::new()?;
    let (dirty, unlinked) = (open(&m.path("dirty"))?, open(&m.path("unlinked"))?);
    let mapped = open(&m.path("mapped"))?;
    write_pattern(&mapped, 2, 0, 40_000)?;
    let map = Map::new(&mapped, 0, 8192).ctx("mmap")?;
    map.write(100, b"by map");
    write_pattern(&unlinked, 3, 0, 40_000)?;
    fs::remove_file(m.path("unlinked"))?;
    while_working(&m, |progress| {
        progress(40);
        write_pattern(&dirty, 1, 0, 40_000)?;
        let broken = match works {
            true => None,
            false => Some(disk.break_range(0, 32 << 20)?),
        };
        disk.power(false)?;
        // Those who work meet a filesystem without a disk.
        progress(40);
        drop(broken);
        Ok(())
    })?;
    ensure!(is_down(&m)?, "the filesystem goes on without a disk");
    let said = log.read();
    // Without a disk that takes anything it may have gone down before it is told.
    let told = said.iter().any(|l| l.contains(TOLD));
    ensure!(told || !works, "nobody has told it: {said:?}");
    no_complaint(&said)?;
    // Everything is refused, and returns.
    ensure_errno!(dirty.sync_all(), Errno::IO, "fsync");
    ensure_errno!(write_pattern(&dirty, 4, 0, 10), Errno::IO, "write");
    ensure_errno!(unlinked.set_len(5), Errno::IO, "truncate");
    ensure_errno!(map.sync(), Errno::IO, "msync");
    ensure_errno!(File::create(m.path("new")), Errno::IO, "create");
    ensure_errno!(m.sync(), Errno::IO, "syncfs");
    drop((dirty, unlinked, map, mapped));
    m.umount().ctx("umount without a disk")?;
    ensure_errno!(m.mount(), Errno::NOENT, "mount without a disk");
    disk.power(true)?;
    m.mount().ctx("when the disk is back")?;
    check_pattern(&File::open(m.path("kept"))?, 9, 0, 100_000)?;
    if works {
        // Written before the device went.
        check_pattern(&File::open(m.path("dirty"))?, 1, 0, 40_000)?;
    }
    m.umount()?;
    no_complaint(&log.read())?;
    cfs::fsck(env, &disk.path)
}

/// [`pulled_out`], of a disk that works until then and of one that does not; the module can be unloaded afterwards.
pub fn power(env: &Env) -> Result {
    for round in 0..if complete() { 5 } else { 1 } {
        for works in [true, false] {
            pulled_out(env, works).ctx(format!("round {round}, works: {works}"))?;
        }
    }
    if cfs::fstype() == "calf" {
        cfs::rmmod()?;
        cfs::insmod(env)?;
    }
    Ok(())
}

fn some_work(dir: &Path, i: u64) -> Result {
    fs::create_dir_all(dir)?;
    let (a, b) = (dir.join(format!("{}", i % 7)), dir.join("renamed"));
    let f = open(&a)?;
    write_pattern(&f, i, 0, 4096 * (i % 20))?;
    match i % 6 {
        0 => f.sync_all()?,
        1 => fs::rename(&a, &b)?,
        2 => fs::remove_file(&a)?,
        3 => f.set_len(5000)?,
        4 => calf_vmlib::file::clone_file(&open(&b)?, &f)?,
        _ => calf_vmlib::file::punch(&f, 0, 8192)?,
    }
    Ok(())
}

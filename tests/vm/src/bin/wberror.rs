// SPDX-License-Identifier: GPL-2.0

//! Writeback that fails on the device: every open file is told once, by fsync; the filesystem goes on.

use calf_vmlib::file::{check_pattern, extents, open, patterned, write_pattern};
use calf_vmlib::fs::{drop_caches, with_fs, Mounted};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::{cases, ensure_errno, ktap, observe, Context, Env, Fail, Result};
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;

/// A filesystem on a disk that can fail, and a file of four blocks that is open four times, each for
/// one block, all of it on the disk.
fn four_times(env: &Env, f: impl Fn(&NullDisk, &mut Mounted, &[File; 4]) -> Result) -> Result {
    let disk = NullDisk::new("wberror", 100, &[])?;
    with_fs(&disk.env(env), &[], "", |m| {
        let p = m.path("f");
        let files = [open(&p)?, open(&p)?, open(&p)?, open(&p)?];
        write_each(&files, 1)?;
        for f in &files {
            f.sync_all().ctx("fsync before any error")?;
        }
        f(&disk, m, &files)
    })
}

fn write_each(files: &[File; 4], seed: u64) -> Result {
    for (i, f) in (0u64..).zip(files) {
        f.write_all_at(&patterned(seed, i * BLOCK, BLOCK as usize), i * BLOCK)?;
    }
    Ok(())
}

fn each_is_told_once(env: &Env) -> Result {
    four_times(env, |disk, m, files| {
        let place = extents(&files[0])?;
        let first = place
            .first()
            .ok_or_else(|| Fail::new("no extent"))?
            .physical;
        {
            let _broken = disk.break_range(first, first + 4 * BLOCK)?;
            write_each(files, 2)?;
            for f in files {
                ensure_errno!(f.sync_all(), Errno::IO, "the first fsync of each");
            }
            for f in files {
                f.sync_all().ctx("the second fsync")?;
            }
            open(&m.path("f"))?
                .sync_all()
                .ctx("fsync of who opened it later")?;
        }
        write_each(files, 3)?;
        for f in files {
            f.sync_all().ctx("fsync when the disk is well")?;
        }
        drop_caches()?;
        check_pattern(&files[0], 3, 0, 4 * BLOCK)
    })
}

/// Also when the mount has become read-only in between.
fn told_on_a_read_only_mount(env: &Env) -> Result {
    let disk = NullDisk::new("wberror", 100, &[])?;
    with_fs(&disk.env(env), &[], "", |m| {
        let writer = open(&m.path("f"))?;
        write_pattern(&writer, 1, 0, 4 * BLOCK)?;
        writer.sync_all()?;
        let first = extents(&writer)?
            .first()
            .ok_or_else(|| Fail::new("no extent"))?
            .physical;
        let reader = File::open(m.path("f"))?;
        {
            let _broken = disk.break_range(first, first + 4 * BLOCK)?;
            write_pattern(&writer, 2, 0, 4 * BLOCK)?;
            ensure_errno!(writer.sync_all(), Errno::IO, "fsync of the writer");
        }
        drop(writer);
        m.remount(true).ctx("remount")?;
        ensure_errno!(reader.sync_all(), Errno::IO, "fsync of a reader");
        reader.sync_all().ctx("the second fsync")?;
        m.remount(false).ctx("remount")
    })
}

/// An fsync whose data did not reach the disk does not ask the journal to follow: that would fail too,
/// and stop the filesystem for good.
fn the_journal_is_not_asked(env: &Env) -> Result {
    // The journal's own timer commits after five seconds; if it was first, nothing is learned.
    for _ in 0..20 {
        let late = Cell::new(false);
        let result = four_times(env, |disk, m, files| {
            let begin = Instant::now();
            {
                let _broken = disk.break_range(0, 100 * MIB)?;
                write_each(files, 2)?;
                for f in files {
                    ensure_errno!(f.sync_all(), Errno::IO, "fsync without a disk");
                }
            }
            late.set(begin.elapsed() > Duration::from_secs(4));
            let f = open(&m.path("f"))?;
            f.sync_all().ctx("fsync of who opened it later")?;
            write_pattern(&f, 3, 0, 4 * BLOCK)?;
            f.sync_all().ctx("fsync when the disk is well")?;
            File::create(m.path("new")).ctx("the filesystem stopped")?;
            // syncfs has its own memory of the error.
            let dir = File::open(&m.mnt)?;
            ensure_errno!(rustix::fs::syncfs(&dir), Errno::IO, "the first syncfs");
            rustix::fs::syncfs(&dir).ctx("the second syncfs")?;
            m.check_idle()
        });
        if !late.get() {
            return result;
        }
    }
    Err(Fail::new("twenty times the journal's timer came first"))
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            each_is_told_once,
            told_on_a_read_only_mount,
            the_journal_is_not_asked
        ],
        |_| {},
    )
}

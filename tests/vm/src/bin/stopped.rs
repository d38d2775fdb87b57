// SPDX-License-Identifier: GPL-2.0

//! What others may do while a request stands still half way, because a disk does not answer: the disk with the
//! filesystem, or the one from which the data to be written comes.

use calf_vmlib::dm::Suspended;
use calf_vmlib::file::{
    check_pattern, open, open_direct, open_with, patterned, write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, with_fs};
use calf_vmlib::stopped::{start, Disk};
use calf_vmlib::sys::{
    freeze, sync_range, thaw, Aio, Aligned, Dir, Map, Queue, O_DIRECT, O_DSYNC, RWF_NOWAIT,
};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, sys, Context, Env, Result};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::thread::scope;
use std::time::{Duration, SystemTime};

const MIB: u64 = 1 << 20;

fn open_append(path: &Path, flags: i32) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options.append(true).custom_flags(flags).open(path);
    file.ctx("open with O_APPEND")
}

/// Lets the disk go on, and takes the result of the only request.
fn go_on(stopped: Suspended<'_>, q: &mut dyn Queue) -> Result<usize> {
    drop(stopped);
    let (_, result, _) = q.wait().ctx("wait")?;
    result.ctx("the direct write")
}

/// An append through the page cache begins where an append past it ends that is under way.
fn an_append_behind_a_direct_one(env: &Env) -> Result {
    const LEN: usize = 4096;
    let disk = Disk::new("stopped", 192)?;
    with_fs(&disk.env(env), &[], "", |m| {
        let path = m.path("f");
        write_pattern(&open(&path)?, 1, 0, LEN as u64)?;
        m.sync()?;
        let direct = open_append(&path, O_DIRECT)?;
        let cached = open_append(&path, 0)?;
        let (second, third) = (
            patterned(2, LEN as u64, LEN),
            patterned(3, 2 * LEN as u64, LEN),
        );
        let mut q = Aio::new(1).ctx("io_setup")?;
        scope(|s| {
            let stopped = disk.dm.suspend()?;
            q.submit(direct.as_fd(), Dir::Write, 0, Aligned::from(&second))
                .ctx("submit")?;
            let now = sys::write_flags(&cached, &third, 0, RWF_NOWAIT);
            let other = start(s, || Ok(std::io::Write::write(&mut &cached, &third)?));
            let waits = other.is_stopped()?;
            ensure_eq!(go_on(stopped, &mut q)?, LEN, "bytes of the direct append");
            ensure_eq!(other.result()?, LEN, "bytes of the other");
            ensure!(waits, "the second append did not wait for the first");
            ensure_errno!(now, Errno::AGAIN, "an append that must not wait");
            Ok(())
        })?;
        cached.sync_all().ctx("fsync")?;
        drop_caches()?;
        let f = open(&path)?;
        ensure_eq!(f.metadata()?.len(), 3 * LEN as u64, "size");
        for i in 0..3 {
            check_pattern(&f, 1 + i, i * LEN as u64, LEN as u64)?;
        }
        Ok(())
    })
}

/// A direct write up to EOF in the middle of a block is over when it returns: the rest of the block is filled with zeros, and
/// those must not come over what somebody appends.
fn a_direct_write_up_to_eof(env: &Env) -> Result {
    const SECTOR: usize = 512;
    let disk = Disk::new("stopped", 192)?;
    with_fs(&disk.env(env), &[], "", |m| {
        let path = m.path("f");
        let end = 4096 + SECTOR as u64;
        write_pattern(&open(&path)?, 1, 0, end)?;
        m.sync()?;
        let f = open_direct(&path)?;
        let mut q = Aio::new(1).ctx("io_setup")?;
        scope(|s| {
            let stopped = disk.dm.suspend()?;
            let q = &mut q;
            let buf = Aligned::from(&patterned(2, 4096, SECTOR));
            let fd = f.as_fd();
            let submit = start(s, move || {
                q.submit(fd, Dir::Write, 4096, buf)?;
                Ok(q)
            });
            let waits = submit.is_stopped()?;
            drop(stopped);
            let q = submit.result()?;
            ensure_eq!(q.wait()?.1.ctx("the write")?, SECTOR, "bytes");
            ensure!(waits, "io_submit did not wait");
            Ok(())
        })?;
        write_direct(&f, 3, 8192, 4096)?;
        drop_caches()?;
        let f = open(&path)?;
        check_pattern(&f, 1, 0, 4096)?;
        check_pattern(&f, 2, 4096, SECTOR as u64)?;
        check_pattern(&f, 3, 8192, 4096)
    })
}

/// Writes `len` bytes that are to be had from `device` first, at 4096 of `f`.
fn write_from(device: &File, len: usize, f: &File) -> Result<usize> {
    let data = Map::new(device, 0, len).ctx("mmap")?;
    Ok(data.write_to(0, len, f, 4096, 0)?)
}

/// A write that has zeroed up to where it begins, and waits for its data; the zeros are on disk, and EOF has not moved. A
/// direct write then, with O_DSYNC, into the block that was EOF's: all of it is there after a crash.
fn behind_the_size_on_disk(env: &Env) -> Result {
    let source = Disk::new("source", 8)?;
    for other in ["direct", "direct, a part of the block"] {
        with_fs(env, &[], "", |m| {
            let path = m.path("f");
            let f = open(&path)?;
            write_pattern(&f, 1, 0, 2000)?;
            m.sync()?;
            let device = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&source.dm.path)?;
            scope(|s| {
                let stopped = source.dm.suspend()?;
                let write = start(s, || write_from(&device, 4096, &f));
                ensure!(write.is_stopped()?, "the write has got its data");
                sync_range(&f, 0, 4096).ctx("sync_file_range")?;
                drop(stopped);
                ensure_eq!(write.result()?, 4096, "bytes");
                Ok(())
            })?;
            let len = if other == "direct" { 4096 } else { 3072 };
            let sync = open_with(&path, O_DIRECT | O_DSYNC)?;
            write_direct(&sync, 2, 0, len)?;
            drop((f, sync, device));
            m.crash()?;
            let f = open(&path)?;
            ensure!(
                f.metadata()?.len() >= len as u64,
                "{} bytes",
                f.metadata()?.len()
            );
            check_pattern(&f, 2, 0, len as u64)
        })
        .ctx(other)?;
        // What has been read of it is in memory now.
        drop_caches()?;
    }
    Ok(())
}

/// A write that is cut short after writeback has chosen the blocks for all of it: those that it did not need are free.
fn cut_short_under_writeback(env: &Env) -> Result {
    let source = Disk::new("source", 8)?;
    with_fs(env, &[], "", |m| {
        let f = open(&m.path("f"))?;
        f.set_len(8 * MIB)?;
        write_pattern(&f, 1, 0, 4096)?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&source.dm.path)?;
        // Some of it is in memory, not all.
        device.read_exact_at(&mut [0; 512], 0)?;
        let written = scope(|s| {
            let stopped = source.dm.suspend()?;
            let write = start(s, || write_from(&device, 4 * MIB as usize, &f));
            ensure!(write.is_stopped()?, "the write has got its data");
            sync_range(&f, 0, 4096).ctx("sync_file_range")?;
            source.fail(true)?;
            drop(stopped);
            write.result()
        })?;
        ensure!(
            written > 0 && written < 4 * MIB as usize,
            "{written} bytes written"
        );
        ensure_eq!(written % 4096, 0, "bytes of the last page");
        m.check_idle()?;
        ensure_eq!(
            f.metadata()?.blocks() * 512,
            4096 + written as u64,
            "bytes on disk"
        );
        Ok(())
    })
}

/// A time that an fsync could not make durable, for it could not read what it must change, is durable after the next.
fn a_time_after_an_error(env: &Env) -> Result {
    let disk = Disk::new("stopped", 192)?;
    with_fs(&disk.env(env), &[], "", |m| {
        let path = m.path("f");
        let f = open(&path)?;
        write_pattern(&f, 1, 0, 512)?;
        m.sync()?;
        // Neither the journal nor the cache has the record any more.
        freeze(&m.dir()?).ctx("freeze")?;
        thaw(&m.dir()?).ctx("thaw")?;
        drop_caches()?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        f.set_modified(time)?;
        disk.fail(true)?;
        let failed = f.sync_all();
        disk.fail(false)?;
        ensure!(failed.is_err(), "fsync has read nothing");
        f.sync_all().ctx("the second fsync")?;
        drop(f);
        m.crash()?;
        ensure!(
            std::fs::metadata(&path)?.modified()? == time,
            "another time"
        );
        Ok(())
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    ktap::run(
        &env,
        cases![
            an_append_behind_a_direct_one,
            a_direct_write_up_to_eof,
            behind_the_size_on_disk,
            cut_short_under_writeback,
            a_time_after_an_error,
        ],
        |_| {},
    )
}

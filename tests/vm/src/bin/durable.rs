// SPDX-License-Identifier: GPL-2.0

//! `O_DSYNC` direct writes and the cache of the device: what needs no metadata goes through it
//! (`REQ_FUA`), all else is followed by a flush; either way it is there after everything stopped.

use calf_vmlib::file::{
    check_pattern, clone_file, extents, fallocate, open, open_direct, open_with, patterned,
    write_direct, write_pattern,
};
use calf_vmlib::fs::{self as cfs, each_block_size, with_fs, Mounted};
use calf_vmlib::gate::until;
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::observe::{self, Trace};
use calf_vmlib::sys::{self, Aio, Aligned, Dir, Queue, O_DIRECT, O_DSYNC, O_SYNC};
use calf_vmlib::user::as_user;
use calf_vmlib::{cases, ensure, ensure_eq, ktap, Context, Env, Fail, Result};
use rustix::fs::{FallocateFlags, StatVfsMountFlags};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::process::ExitCode;

const KIB: usize = 1 << 10;

/// A request that the device got.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    /// As the kernel writes it: `F` before `W` or `N` is a flush, after it `FUA`.
    rwbs: String,
    sector: u64,
    sectors: u64,
}

impl Sent {
    fn is_flush(&self) -> bool {
        self.rwbs.starts_with('F')
    }
    fn is_fua(&self) -> bool {
        self.rwbs.trim_start_matches('F').contains('F')
    }
    fn is_write(&self) -> bool {
        self.rwbs.contains('W')
    }
}

/// `block_rq_issue: 252,0 WFS 4096 () 2048 + 8 none,0,0 [task]`
fn sent(line: &str) -> Option<Sent> {
    let mut words = line.split_whitespace().skip(2);
    let rwbs = words.next()?.to_string();
    let mut words = words.skip_while(|w| !w.starts_with("("));
    while !words.next()?.ends_with(')') {}
    let sector = words.next()?.parse().ok()?;
    let sectors = words.nth(1)?.parse().ok()?;
    Some(Sent {
        rwbs,
        sector,
        sectors,
    })
}

/// What the only device that is used got while `f` ran.
fn watch(f: impl FnOnce() -> Result) -> Result<Vec<Sent>> {
    let trace = Trace::start_in("block", &["block_rq_issue"])?;
    let result = f();
    let lines = trace.stop()?;
    result?;
    let sent: Option<Vec<Sent>> = lines.iter().map(|l| sent(l)).collect();
    sent.ok_or_else(|| Fail::new(format!("a trace line of another form: {lines:?}")))
}

/// A file on disk, all of whose transactions have committed.
fn settled(m: &Mounted, name: &str, len: usize) -> Result<File> {
    let f = open_direct(&m.path(name))?;
    write_direct(&f, 1, 0, len)?;
    f.sync_all()?;
    m.sync()?;
    Ok(f)
}

fn write(f: &File, seed: u64, off: u64, len: usize) -> Result {
    let buf = Aligned::from(&patterned(seed, off, len));
    ensure_eq!(f.write_at(&buf, off).ctx("write")?, len, "bytes");
    Ok(())
}

/// The filesystem goes down without its journal; what `check` demands must be there.
fn after_the_crash(m: &mut Mounted, check: impl FnOnce(&Mounted) -> Result) -> Result {
    let dir = File::open(&m.mnt).ctx("open the mount point")?;
    sys::vfs::shutdown(&dir, sys::vfs::Shutdown::NoFlush).ctx("shutdown")?;
    drop(dir);
    m.cycle()?;
    check(m)
}

/// The data requests of a write of `len` bytes to where `f` has its block at `off`.
fn data<'a>(all: &'a [Sent], f: &File, off: u64) -> Result<Vec<&'a Sent>> {
    let all_extents = extents(f)?;
    let e = all_extents
        .iter()
        .find(|e| e.logical <= off && off < e.logical + e.length)
        .ok_or_else(|| Fail::new("no extent there"))?;
    let sector = (e.physical + off - e.logical) / 512;
    Ok(all
        .iter()
        .filter(|s| s.is_write() && s.sector <= sector && sector < s.sector + s.sectors)
        .collect())
}

fn with_cache(fua: &str) -> Result<NullDisk> {
    NullDisk::new("cache0", 192, &[("cache_size", "64"), ("fua", fua)])
}

/// Overwriting needs one request, which the device must not keep in its cache.
fn overwrite_is_one_request(env: &Env) -> Result {
    let disk = with_cache("1")?;
    each_block_size(&disk.env(env), |m| {
        settled(m, "f", 64 * KIB)?;
        let f = open_with(&m.path("f"), O_DIRECT | O_DSYNC)?;
        let all = watch(|| write(&f, 2, 8192, 4096))?;
        ensure_eq!(all.len(), 1, "{all:?}");
        ensure!(all[0].is_fua() && !all[0].is_flush(), "{all:?}");
        ensure_eq!(data(&all, &f, 8192)?.len(), 1, "its place: {all:?}");
        // The same without waiting for it.
        let mut aio = Aio::new(4).ctx("io_setup")?;
        let all = watch(|| {
            for i in 0..4u64 {
                let off = 16384 + i * 8192;
                let buf = Aligned::from(&patterned(2, off, 4096));
                aio.submit(f.as_fd(), Dir::Write, off, buf).ctx("submit")?;
            }
            while aio.pending() > 0 {
                aio.wait().ctx("wait")?.1.ctx("request")?;
            }
            Ok(())
        })?;
        ensure_eq!(all.len(), 4, "{all:?}");
        ensure!(all.iter().all(|s| s.is_fua() && !s.is_flush()), "{all:?}");
        drop(f);
        after_the_crash(m, |m| {
            let f = open(&m.path("f"))?;
            check_pattern(&f, 2, 8192, 4096)?;
            (0..4u64).try_for_each(|i| check_pattern(&f, 2, 16384 + i * 8192, 4096))
        })
    })
}

/// Without `FUA` a flush follows; without a cache nothing does.
fn other_devices(env: &Env) -> Result {
    for (settings, flushes) in [(&[("cache_size", "64"), ("fua", "0")][..], 1), (&[][..], 0)] {
        let disk = NullDisk::new("cache0", 192, settings)?;
        each_block_size(&disk.env(env), |m| {
            settled(m, "f", 64 * KIB)?;
            let f = open_with(&m.path("f"), O_DIRECT | O_DSYNC)?;
            let all = watch(|| write(&f, 2, 8192, 4096))?;
            let writes = all.iter().filter(|s| s.is_write()).count();
            ensure_eq!(writes, 1, "writes: {all:?}");
            ensure!(!all.iter().any(Sent::is_fua), "{all:?}");
            let flushed = all.iter().filter(|s| s.is_flush()).count();
            ensure_eq!(flushed, flushes, "flushes: {all:?}");
            if flushes > 0 {
                ensure!(!all[0].is_flush(), "the flush comes first: {all:?}");
            }
            Ok(())
        })
        .ctx(format!("{settings:?}"))?;
    }
    Ok(())
}

/// What needs metadata: the data goes into the cache, then a commit brings both to the disk.
fn what_needs_a_commit(env: &Env) -> Result {
    let disk = with_cache("1")?;
    let env = disk.env(env);
    let shapes = [
        "extending",
        "hole",
        "preallocated",
        "shared",
        "O_SYNC",
        "fresh",
    ];
    let each = |m: &mut Mounted, always_cow: bool| -> Result {
        let mut shapes = shapes.to_vec();
        if always_cow {
            shapes = vec!["overwrite"];
        }
        for shape in &shapes {
            let f = settled(m, shape, 64 * KIB)?;
            let off = match *shape {
                "extending" => 64 * KIB as u64,
                "hole" | "preallocated" => 128 * KIB as u64,
                _ => 8192,
            };
            match *shape {
                "hole" => f.set_len(256 * KIB as u64)?,
                "preallocated" => fallocate(&f, FallocateFlags::empty(), off, 64 * KIB as u64)?,
                "shared" => clone_file(&open(&m.path("clone"))?, &f)?,
                _ => {}
            }
            f.sync_all()?;
            m.sync()?;
            if *shape == "fresh" {
                // Its blocks are written in place, and belong to it only when T has committed.
                write_direct(&f, 1, 64 * KIB as u64, 64 * KIB)?;
            }
            let off = if *shape == "fresh" {
                64 * KIB as u64
            } else {
                off
            };
            let how = match *shape {
                "O_SYNC" => O_SYNC,
                _ => O_DSYNC,
            };
            let s = open_with(&m.path(shape), O_DIRECT | how)?;
            let all = watch(|| write(&s, 3, off, 4096))?;
            let to = data(&all, &s, off)?;
            ensure_eq!(to.len(), 1, "{shape}: data requests: {all:?}");
            ensure!(!to[0].is_fua(), "{shape}: FUA is not enough: {all:?}");
            let i = all.iter().position(|s| s == to[0]).unwrap_or(0);
            ensure!(
                all[i..].iter().any(Sent::is_flush),
                "{shape}: no flush after the data: {all:?}"
            );
            let last = all.iter().rposition(Sent::is_write).unwrap_or(0);
            ensure!(
                all[last].is_fua() || all[last..].iter().any(Sent::is_flush),
                "{shape}: the end of the commit may stay in the cache: {all:?}"
            );
            ensure!(last > i, "{shape}: nothing but data was written: {all:?}");
        }
        let shapes = shapes.clone();
        after_the_crash(m, |m| {
            for shape in shapes {
                let f = open(&m.path(shape))?;
                let off = match shape {
                    "extending" | "fresh" => 64 * KIB as u64,
                    "hole" | "preallocated" => 128 * KIB as u64,
                    _ => 8192,
                };
                check_pattern(&f, 3, off, 4096).ctx(shape)?;
            }
            Ok(())
        })
    };
    each_block_size(&env, |m| each(m, false))?;
    with_fs(&env, &[], "always_cow", |m| each(m, true)).ctx("always_cow")
}

/// A program that runs as root, and that somebody else has written to, does not come back as one.
fn privileges_are_gone(env: &Env) -> Result {
    each_block_size(env, |m| {
        let path = m.path("f");
        for how in ["fdatasync", "O_DSYNC", "direct"] {
            let f = settled(m, "f", 64 * KIB)?;
            f.set_permissions(Permissions::from_mode(0o6777))?;
            m.sync()?;
            drop(f);
            as_user(1000, 1000, || {
                let flags = match how {
                    "fdatasync" => 0,
                    "O_DSYNC" => O_DSYNC,
                    _ => O_DSYNC | O_DIRECT,
                };
                let f = OpenOptions::new()
                    .write(true)
                    .custom_flags(flags)
                    .open(&path)?;
                write(&f, 2, 8192, 4096)?;
                match how {
                    "fdatasync" => f.sync_data().ctx("fdatasync"),
                    _ => Ok(()),
                }
            })?;
            after_the_crash(m, |m| {
                let f = open(&m.path("f"))?;
                check_pattern(&f, 2, 8192, 4096)?;
                let mode = f.metadata()?.permissions().mode() & 0o7777;
                ensure_eq!(mode, 0o777, "{how}: mode, octal {mode:o}");
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// A mount that changes nothing writes nothing. One change costs a commit (two requests), what changed and the
/// superblock at home, and the superblock of the journal before and after.
fn mount_to_umount(env: &Env) -> Result {
    let disk = with_cache("1")?;
    let env = disk.env(env);
    cfs::mkfs(&env, &env.dev, &[])?;
    let mut m = Mounted::new(&env.dev, &env.mnt, "")?;
    m.umount()?;
    let mut cycle = |f: &dyn Fn(&Mounted) -> Result| -> Result<(usize, usize)> {
        let all = watch(|| {
            m.mount()?;
            f(&m)?;
            m.umount()
        })?;
        cfs::fsck(&env, &env.dev)?;
        let writes = all.iter().filter(|s| s.is_write() && s.sectors > 0);
        let flushes = all.iter().filter(|s| s.is_flush());
        Ok((writes.count(), flushes.count()))
    };
    let (writes, flushes) = cycle(&|m| m.space().map(drop))?;
    ensure!(writes == 0 && flushes <= 1, "idle: {writes}, {flushes}");
    let chmod = |mode| {
        move |m: &Mounted| fs::set_permissions(&m.mnt, Permissions::from_mode(mode)).ctx("chmod")
    };
    let (writes, flushes) = cycle(&chmod(0o700))?;
    ensure!(writes <= 6 && flushes <= 2, "chmod: {writes}, {flushes}");
    // Committed and home before it ends: only the mark "clean" is left.
    let (writes, flushes) = cycle(&|m| chmod(0o711)(m).and_then(|()| m.sync()))?;
    ensure!(writes <= 7 && flushes <= 3, "sync: {writes}, {flushes}");
    Ok(())
}

/// A file that is open for writing when its filesystem becomes read-only by force: what it takes and syncs is durable.
fn after_a_forced_remount(env: &Env) -> Result {
    const LEN: u64 = 4096;
    with_fs(env, &[], "", |m| {
        let path = m.path("f");
        let f = open(&path)?;
        write_pattern(&f, 1, 0, 2 * LEN)?;
        m.sync()?;
        fs::write("/proc/sysrq-trigger", "u").ctx("SysRq-U")?;
        let rdonly = || -> Result<bool> {
            let flags = rustix::fs::statvfs(&m.mnt)?.f_flag;
            Ok(flags.contains(StatVfsMountFlags::RDONLY))
        };
        until("the forced remount", || rdonly().unwrap_or(true))?;
        ensure!(rdonly()?, "not read-only");
        // In place, into a hole, and past EOF.
        for at in [0, 2 * LEN, 9 * LEN] {
            write_pattern(&f, 2, at, LEN)?;
            f.sync_all().ctx("fsync")?;
        }
        drop(f);
        m.crash()?;
        let f = open(&path)?;
        check_pattern(&f, 1, LEN, LEN)?;
        for at in [0, 2 * LEN, 9 * LEN] {
            check_pattern(&f, 2, at, LEN)?;
        }
        Ok(())
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            after_a_forced_remount,
            overwrite_is_one_request,
            other_devices,
            what_needs_a_commit,
            privileges_are_gone,
            mount_to_umount,
        ],
        |_| {},
    )
}

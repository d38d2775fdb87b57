// SPDX-License-Identifier: GPL-2.0

//! Direct I/O that fails on the device: the error is told, nothing is left behind, what was there is
//! untouched, and the same request succeeds once the device is well.

use calf_vmlib::file::{
    check_direct, check_pattern, check_zero, clone_file, extents, fallocate, open, open_direct,
    open_with, patterned, write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_way, Mounted};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::sys::{Aio, Aligned, Dir, Map, Queue, Ring, O_DIRECT, O_DSYNC};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;

/// What is promised and in flight.
fn promises(m: &Mounted) -> BTreeMap<String, i64> {
    let mut all = observe::counters(&m.bdev());
    all.retain(|k, _| ["delalloc_reserved", "meta_reserved", "claimed", "pinned"].contains(&&**k));
    all
}

/// The first and one past the last byte of a file on the device.
fn place(f: &File) -> Result<(u64, u64)> {
    let all = extents(f)?;
    let start = all.iter().map(|e| e.physical).min().unwrap_or(0);
    let end = all.iter().map(|e| e.physical + e.length).max().unwrap_or(0);
    ensure!(start < end, "a file without blocks");
    Ok((start, end))
}

/// Where new blocks go: from the first of these files on.
fn behind(files: &[&File]) -> Result<(u64, u64)> {
    let mut start = u64::MAX;
    for f in files {
        start = start.min(place(f)?.0);
    }
    Ok((start, start + 32 * MIB))
}

/// Every kind of request for `len` bytes at each of `offs`: the results.
fn request(
    how: &str,
    f: &File,
    dir: Dir,
    seed: u64,
    offs: &[u64],
    len: usize,
) -> Vec<Result<usize>> {
    let buf = |off| match dir {
        Dir::Read => Aligned::new(len),
        Dir::Write => Aligned::from(&patterned(seed, off, len)),
    };
    let mut q: Box<dyn Queue> = match how {
        "sync" => {
            let one = |off: &u64| match dir {
                Dir::Read => f.read_at(&mut buf(*off), *off).ctx("read"),
                Dir::Write => f.write_at(&buf(*off), *off).ctx("write"),
            };
            return offs.iter().map(one).collect();
        }
        "aio" => Box::new(Aio::new(offs.len()).expect("io_setup")),
        _ => Box::new(Ring::new(offs.len()).expect("io_uring_setup")),
    };
    let mut results = Vec::new();
    for off in offs {
        if let Err(e) = q.submit(f.as_fd(), dir, *off, buf(*off)) {
            results.push(Err(e).ctx("submit"));
        }
    }
    while q.pending() > 0 {
        results.push(q.wait().and_then(|(_, res, _)| res).ctx("request"));
    }
    results
}

const HOW: [&str; 3] = ["sync", "aio", "ring"];
const OFFS: [u64; 4] = [0, 64 << 10, 256 << 10, 320 << 10];

fn disk() -> Result<NullDisk> {
    NullDisk::new("dioerr0", 192, &[])
}

/// Writes fail where nothing is, over preallocated, written and shared blocks, and past the end.
fn writes(env: &Env) -> Result {
    let disk = disk()?;
    each_way(&disk.env(env), |m, cow| {
        for (i, shape) in ["hole", "preallocated", "written", "shared", "extending"]
            .iter()
            .enumerate()
        {
            for how in HOW {
                let path = m.path(&format!("{shape}-{how}"));
                let f = open_direct(&path)?;
                match *shape {
                    "hole" => f.set_len(MIB)?,
                    "preallocated" if cow => continue,
                    "preallocated" => fallocate(&f, FallocateFlags::empty(), 0, MIB)?,
                    "written" => write_direct(&f, 9, 0, MIB as usize)?,
                    "shared" => {
                        let src = open_direct(&m.path("src"))?;
                        write_direct(&src, 9, 0, MIB as usize)?;
                        clone_file(&f, &src)?;
                    }
                    _ => {}
                }
                m.sync()?;
                let last = open_direct(&m.path(&format!("{shape}-{how}-last")))?;
                write_direct(&last, 1, 0, 4096)?;
                m.sync()?;
                // Out of place it goes behind what was written last, in place where the file is.
                let place = match *shape {
                    "preallocated" | "written" if !cow => place(&f)?,
                    "shared" | "written" => behind(&[&f, &last])?,
                    _ => behind(&[&last])?,
                };
                let (size, before) = (f.metadata()?.len(), promises(m));
                let broken = disk.break_range(place.0, place.1)?;
                let results = request(how, &f, Dir::Write, 3, &OFFS, 64 * KIB);
                ensure_eq!(results.len(), OFFS.len(), "{shape} {how}: results");
                for r in results {
                    ensure_errno!(r, Errno::IO, "{shape} {how}: on a bad device");
                }
                ensure_eq!(promises(m), before, "{shape} {how}: left behind");
                ensure_eq!(f.metadata()?.len(), size, "{shape} {how}: size");
                drop(broken);
                f.sync_all().ctx(format!("{shape} {how}: fsync"))?;
                let b = open(&path)?;
                match *shape {
                    "written" if !cow => {}
                    "written" | "shared" => check_pattern(&b, 9, 0, MIB)?,
                    _ => check_zero(&b, 0, size)?,
                }
                let seed = 20 + i as u64;
                for r in request(how, &f, Dir::Write, seed, &OFFS, 64 * KIB) {
                    ensure_eq!(r.ctx(format!("{shape} {how}"))?, 64 * KIB, "bytes");
                }
                drop_caches()?;
                for off in OFFS {
                    check_pattern(&b, seed, off, 64 * KIB as u64).ctx(format!("{shape} {how}"))?;
                }
                m.check_idle()?;
                ensure_eq!(promises(m), before, "{shape} {how}: promised at rest");
            }
        }
        check_pattern(&open(&m.path("src"))?, 9, 0, MIB)
    })
}

/// A request of which the device takes a part: all of it fails, and what is mapped is whole.
fn half_a_request(env: &Env) -> Result {
    let disk = disk()?;
    each_way(&disk.env(env), |m, _| {
        for how in HOW {
            let path = m.path(how);
            let f = open_direct(&path)?;
            write_direct(&f, 1, 0, MIB as usize)?;
            m.sync()?;
            // The first 128 KiB behind the file still work.
            let (_, end) = place(&f)?;
            let before = promises(m);
            let broken = disk.break_range(end + 128 * KIB as u64, end + 16 * MIB)?;
            for r in request(how, &f, Dir::Write, 2, &[MIB], 512 * KIB) {
                ensure_errno!(r, Errno::IO, "{how}: half of it");
            }
            drop(broken);
            ensure_eq!(promises(m), before, "{how}: left behind");
            ensure_eq!(f.metadata()?.len(), MIB, "{how}: size");
            drop_caches()?;
            check_pattern(&open(&path)?, 1, 0, MIB)?;
            for r in request(how, &f, Dir::Write, 2, &[MIB], 512 * KIB) {
                ensure_eq!(r.ctx(how)?, 512 * KIB, "{how}: bytes");
            }
            check_direct(&f, 2, MIB, 512 * KIB)?;
            m.check_idle()?;
        }
        Ok(())
    })
}

/// A store through a map finds the space of a direct write that then fails: the store keeps it.
fn a_store_takes_over(env: &Env) -> Result {
    let disk = NullDisk::new(
        "dioerr0",
        192,
        &[("irqmode", "2"), ("completion_nsec", "300000000")],
    )?;
    each_way(&disk.env(env), |m, _| {
        let path = m.path("f");
        let f = open_direct(&path)?;
        f.set_len(64 * KIB as u64)?;
        m.sync()?;
        let last = open_direct(&m.path("last"))?;
        write_direct(&last, 1, 0, 4096)?;
        m.sync()?;
        let bad = behind(&[&last])?;
        let map = Map::new(&open(&path)?, 0, 64 * KIB).ctx("mmap")?;
        let before = promises(m);
        let broken = disk.break_range(bad.0, bad.1)?;
        let mut aio = Aio::new(1).ctx("io_setup")?;
        let buf = Aligned::from(&patterned(3, 0, 64 * KIB));
        aio.submit(f.as_fd(), Dir::Write, 0, buf).ctx("submit")?;
        ensure!(promises(m)["pinned"] > 0, "nothing is in flight");
        map.write(16 * KIB, &patterned(4, 16 * KIB as u64, 4096));
        let (_, res, _) = aio.wait().ctx("wait")?;
        ensure_errno!(res, Errno::IO, "the direct write");
        drop(broken);
        let after = promises(m);
        let page = (4096 / m.space()?.bsize) as i64;
        ensure!(
            after["delalloc_reserved"] >= page,
            "the store has lost its space: {after:?}"
        );
        ensure_eq!(after["claimed"] + after["pinned"], 0, "in flight");
        map.sync().ctx("msync")?;
        drop(map);
        drop_caches()?;
        let b = open(&path)?;
        check_zero(&b, 0, 16 * KIB as u64)?;
        check_pattern(&b, 4, 16 * KIB as u64, 4096)?;
        check_zero(&b, 20 * KIB as u64, 44 * KIB as u64)?;
        m.check_idle()?;
        ensure!(before["claimed"] == 0, "claimed before");
        Ok(())
    })
}

/// Reads fail where the device does, and only there.
fn reads(env: &Env) -> Result {
    let disk = disk()?;
    each_way(&disk.env(env), |m, _| {
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, MIB as usize)?;
        m.sync()?;
        let (start, end) = place(&f)?;
        ensure_eq!(end - start, MIB, "the file lies in one piece");
        let bad = (start + 128 * KIB as u64, start + 192 * KIB as u64);
        for how in HOW {
            let broken = disk.break_range(bad.0, bad.1)?;
            for (off, len) in [(128, 4), (128, 64), (64, 256), (188, 8)] {
                let r = request(how, &f, Dir::Read, 0, &[off * KIB as u64], len * KIB);
                for r in r {
                    ensure_errno!(r, Errno::IO, "{how}: read {len} KiB at {off} KiB");
                }
            }
            for (off, len) in [(0, 4), (0, 128), (192, 512)] {
                let r = request(how, &f, Dir::Read, 0, &[off * KIB as u64], len * KIB);
                for r in r {
                    ensure_eq!(r.ctx(how)?, len * KIB, "{how}: bytes at {off} KiB");
                }
            }
            drop(broken);
            check_direct(&f, 1, 0, MIB as usize)?;
        }
        m.check_idle()
    })
}

/// `O_DSYNC`, buffered data and a failed direct write: every error is told to who asked, once.
fn sync_afterwards(env: &Env) -> Result {
    let disk = disk()?;
    each_way(&disk.env(env), |m, _| {
        let path = m.path("f");
        let b = open(&path)?;
        write_pattern(&b, 1, 0, MIB)?;
        b.sync_all()?;
        let dsync = open_with(&path, O_DIRECT | O_DSYNC)?;
        let (start, end) = place(&b)?;
        let broken = disk.break_range(end, start + 32 * MIB)?;
        let buf = Aligned::from(&patterned(2, MIB, 64 * KIB));
        ensure_errno!(dsync.write_at(&buf, MIB), Errno::IO, "past the end");
        drop(broken);
        // The error of a direct write is told by the write; fsync has nothing to say.
        b.sync_all().ctx("fsync")?;
        ensure_eq!(dsync.write_at(&buf, MIB).ctx("again")?, 64 * KIB, "bytes");
        drop_caches()?;
        check_pattern(&b, 1, 0, MIB)?;
        check_pattern(&b, 2, MIB, 64 * KIB as u64)?;
        m.check_idle()
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            writes,
            half_a_request,
            a_store_takes_over,
            reads,
            sync_afterwards,
        ],
        |_| {},
    )
}

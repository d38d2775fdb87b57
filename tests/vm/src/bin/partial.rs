// SPDX-License-Identifier: GPL-2.0

//! Direct I/O from and to memory that is not there: the request is done in parts, and nothing of it
//! is lost, reported twice, or left behind.

use calf_vmlib::file::{
    check_direct, check_pattern, clone_file, compare, extent_bytes, extents, fallocate, open,
    open_direct, patterned, read_at, write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_way, Mounted};
use calf_vmlib::observe::{self, Trace};
use calf_vmlib::sys::{write_into_the_void, Aio, Aligned, Dir, Map, Queue};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A private map of a file that holds pattern `seed`, of which only the pages that `keep` names are
/// present.
fn memory(m: &Mounted, seed: u64, len: usize, keep: impl Fn(usize) -> bool) -> Result<Map> {
    let src = open(&m.path("src"))?;
    write_pattern(&src, seed, 0, len as u64)?;
    src.sync_all()?;
    let map = Map::private(&src, 0, len).ctx("mmap")?;
    for page in 0..len / 4096 {
        let mut byte = [0];
        map.read(page * 4096, &mut byte);
    }
    for page in (0..len / 4096).filter(|p| !keep(*p)) {
        map.zap(page * 4096, 4096).ctx("madvise")?;
    }
    Ok(map)
}

/// The values of `done_before` of the calls that the core has seen, 0 left out.
fn resumed(lines: &[String]) -> Vec<u64> {
    lines
        .iter()
        .filter_map(|l| observe::field(l, "done_before"))
        .filter(|n| *n > 0)
        .collect()
}

/// What the file is before, and the write.
fn missing_pages(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let shapes = ["hole", "preallocated", "written", "shared", "append"];
        for (i, shape) in shapes.iter().enumerate() {
            let f = open_direct(&m.path(shape))?;
            match *shape {
                "hole" => f.set_len(64 * KIB as u64)?,
                "preallocated" if cow => continue,
                "preallocated" => fallocate(&f, FallocateFlags::empty(), 0, 64 * KIB as u64)?,
                "written" => write_direct(&f, 90, 0, 64 * KIB)?,
                "shared" => {
                    let g = open_direct(&m.path("other"))?;
                    write_direct(&g, 91, 0, 64 * KIB)?;
                    clone_file(&f, &g)?;
                }
                _ => {}
            }
            f.sync_all()?;
            let seed = 10 + i as u64;
            let map = memory(m, seed, 8 * KIB, |page| page == 0)?;
            let trace = Trace::start(&["iomap_dio_rw_begin"])?;
            let n = map.write_to(0, 8 * KIB, &f, 0, 0);
            let lines = trace.stop()?;
            ensure_eq!(n.ctx(*shape)?, 8 * KIB, "{shape}: bytes written");
            ensure_eq!(resumed(&lines), [4096], "{shape}: {lines:?}");
            check_direct(&f, seed, 0, 8 * KIB).ctx(*shape)?;
            drop_caches()?;
            check_pattern(&open(&m.path(shape))?, seed, 0, 8 * KIB as u64).ctx(*shape)?;
            ensure_eq!(
                extent_bytes(&extents(&f)?, 0) >= 8 * KIB as u64,
                true,
                "{shape}: mapped"
            );
        }
        check_pattern(&open(&m.path("other"))?, 91, 0, 64 * KIB as u64)?;
        m.check_idle()
    })
}

/// A long request with every other page missing, and one whose memory is a few bytes off.
fn long_requests(env: &Env) -> Result {
    each_way(env, |m, _| {
        let f = open_direct(&m.path("f"))?;
        let map = memory(m, 7, 2 * MIB, |page| page % 2 == 0)?;
        ensure_eq!(
            map.write_to(0, 2 * MIB, &f, 0, 0).ctx("write")?,
            2 * MIB,
            "bytes"
        );
        check_direct(&f, 7, 0, 2 * MIB)?;
        map.zap(0, 2 * MIB)?;
        let n = map.write_to(512, MIB, &f, 4 * MIB as u64, 0).ctx("write")?;
        ensure_eq!(n, MIB, "bytes of an odd place in memory");
        drop_caches()?;
        let want = &patterned(7, 0, MIB + 512)[512..];
        let have = read_at(&open(&m.path("f"))?, 4 * MIB as u64, MIB)?;
        compare("from an odd place", &have, want)?;
        // And back: every page of the target is missing, and the file has a hole.
        let target = memory(m, 8, 8 * MIB, |_| false)?;
        let n = target.read_from(0, 5 * MIB, &f, 0).ctx("read")?;
        ensure_eq!(n, 5 * MIB, "bytes read");
        let mut have = vec![0; 5 * MIB];
        target.read(0, &mut have);
        compare("read", &have[..2 * MIB], &patterned(7, 0, 2 * MIB))?;
        compare("hole", &have[2 * MIB..4 * MIB], &vec![0; 2 * MIB])?;
        compare("read", &have[4 * MIB..], want)?;
        // Past EOF there is nothing, and that is no reason to go on.
        target.zap(0, 8 * MIB)?;
        let n = target.read_from(0, 8 * MIB, &f, 0).ctx("read past EOF")?;
        ensure_eq!(n, 5 * MIB, "bytes read up to EOF");
        m.check_idle()
    })
}

/// The memory is a map of the very file, or of what is written to.
fn memory_is_the_file(env: &Env) -> Result {
    each_way(env, |m, _| {
        let len = 256 * KIB;
        let path = m.path("f");
        write_pattern(&open(&path)?, 1, 0, 2 * len as u64)?;
        let d = open_direct(&path)?;
        d.sync_all()?;
        let map = Map::new(&d, 0, 2 * len).ctx("mmap")?;
        for (at, off, what) in [
            (0, 0, "onto itself"),
            (0, len as u64, "onto another part"),
            (4096, 0, "overlapping"),
        ] {
            write_pattern(&open(&path)?, 1, 0, 2 * len as u64)?;
            let n = map.write_to(at, len, &d, off, 0).ctx(what)?;
            ensure_eq!(n, len, "{what}: bytes");
            if at == 0 {
                let have = read_at(&open(&path)?, off, len)?;
                compare(what, &have, &patterned(1, 0, len))?;
            }
        }
        // Read into itself: dirties what it reads.
        write_pattern(&open(&path)?, 2, 0, 2 * len as u64)?;
        for (at, off, what) in [
            (0, 0, "into itself"),
            (len, 0, "into another part"),
            (0, 4096, "overlapping"),
        ] {
            map.zap(0, 2 * len)?;
            let n = map.read_from(at, len, &d, off).ctx(what)?;
            ensure_eq!(n, len, "{what}: bytes");
        }
        drop(map);
        drop_caches()?;
        // Two files, each the memory of the other's request, at the same time.
        let g = open_direct(&m.path("g"))?;
        write_direct(&g, 3, 0, len)?;
        write_direct(&d, 4, 0, len)?;
        let (mf, mg) = (Map::new(&d, 0, len)?, Map::new(&g, 0, len)?);
        let (d, g) = (&d, &g);
        std::thread::scope(|s| {
            let write = move || (0..40).try_for_each(|_| all(mf.write_to(0, len, g, 0, 0), len));
            let read = move || (0..40).try_for_each(|_| all(mg.read_from(0, len, d, 0), len));
            let (a, b) = (s.spawn(write), s.spawn(read));
            let result = |h: std::thread::ScopedJoinHandle<'_, Result>| {
                h.join().unwrap_or(Err("a thread panicked".into()))
            };
            result(a).and(result(b))
        })?;
        m.check_idle()
    })
}

fn all(n: std::result::Result<usize, Errno>, want: usize) -> Result {
    ensure_eq!(n.ctx("a request")?, want, "bytes");
    Ok(())
}

/// Memory that never comes: what was there is written, the rest is not.
fn bad_memory(env: &Env) -> Result {
    each_way(env, |m, _| {
        let d = open_direct(&m.path("f"))?;
        let g = open_direct(&m.path("g"))?;
        write_direct(&g, 1, 0, 64 * KIB)?;
        clone_file(&d, &g)?;
        let free = m.space()?.free;
        let none = write_into_the_void(&d, &[], 16 * KIB, 0);
        ensure_errno!(none, Errno::FAULT, "no memory at all");
        let n = write_into_the_void(&d, &patterned(2, 0, 8 * KIB), 32 * KIB, 0).ctx("half")?;
        ensure_eq!(n, 8 * KIB, "bytes of what was there");
        let end = 64 * KIB as u64;
        let n = write_into_the_void(&d, &patterned(2, end, 8 * KIB), 32 * KIB, end).ctx("EOF")?;
        ensure_eq!(n, 8 * KIB, "bytes past EOF");
        ensure_eq!(d.metadata()?.len(), end + 8 * KIB as u64, "size");
        for what in ["delalloc_reserved", "meta_reserved", "claimed", "pinned"] {
            let n = observe::counters(&m.bdev()).get(what).copied();
            ensure_eq!(n.unwrap_or(0), 0, "{what} for what was not written");
        }
        drop((d, g));
        drop_caches()?;
        let f = open(&m.path("f"))?;
        check_pattern(&f, 2, 0, 8 * KIB as u64)?;
        check_pattern(&f, 1, 8 * KIB as u64, 56 * KIB as u64)?;
        check_pattern(&f, 2, end, 8 * KIB as u64)?;
        check_pattern(&open(&m.path("g"))?, 1, 0, 64 * KIB as u64)?;
        drop(f);
        m.check_idle()?;
        // 16 KiB went out of place.
        m.cycle()?;
        let used = (free - m.space()?.free) * m.space()?.bsize;
        ensure!(used <= 24 * KIB as u64, "{used} bytes are gone");
        Ok(())
    })
}

/// Asynchronous requests whose memory is missing, and appends: one result, for all of it.
fn asynchronous_and_append(env: &Env) -> Result {
    each_way(env, |m, _| {
        let f = open_direct(&m.path("f"))?;
        let mut aio = Aio::new(8).ctx("io_setup")?;
        for i in 0..8u64 {
            let len = 128 * KIB;
            let buf = Aligned::from(&patterned(5, i * len as u64, len));
            aio.submit(f.as_fd(), Dir::Write, i * len as u64, buf)
                .ctx("io_submit")?;
        }
        while aio.pending() > 0 {
            let (_, res, buf) = aio.wait().ctx("io_getevents")?;
            ensure_eq!(res.ctx("a request")?, buf.len(), "bytes");
        }
        check_direct(&f, 5, 0, MIB)?;
        let map = memory(m, 6, 64 * KIB, |page| page < 3)?;
        let mut log: File = OpenOptions::new()
            .append(true)
            .create(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
            .open(m.path("log"))?;
        log.write_all(&Aligned::from(&patterned(6, 0, 4096)))?;
        let n = map.write_to(4096, 60 * KIB, &log, 0, 0).ctx("append")?;
        ensure_eq!(n, 60 * KIB, "bytes appended");
        ensure_eq!(
            log.metadata()?.len(),
            64 * KIB as u64,
            "size after the append"
        );
        drop_caches()?;
        check_pattern(&open(&m.path("log"))?, 6, 0, 64 * KIB as u64)?;
        m.check_idle()
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            missing_pages,
            long_requests,
            memory_is_the_file,
            bad_memory,
            asynchronous_and_append,
        ],
        |_| {},
    )
}

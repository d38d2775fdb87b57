// SPDX-License-Identifier: GPL-2.0

//! Direct I/O where it is not simple: parts of blocks, shared blocks, requests that must not wait,
//! requests that overlap, races with maps, clones and punches.

use calf_vmlib::file::{
    check_pattern, check_zero, clone_file, compare, extent_bytes, extents, fallocate, open,
    open_direct, patterned, punch, read_at, unshare, write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_way};
use calf_vmlib::rng::Rng;
use calf_vmlib::sys::{
    Aio, Aligned, Dir, FsErrors, Map, Queue, FIEMAP_SHARED, FIEMAP_UNWRITTEN, O_DIRECT, O_DSYNC,
};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::{AtFlags, FallocateFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::ExitCode;

const MIB: u64 = 1 << 20;

fn parts_of_blocks(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, 65536)?;
        let before = extents(&f)?;
        // In place over written blocks.
        write_direct(&f, 2, 512, 512)?;
        write_direct(&f, 2, 4096 - 512, 1024)?;
        if !cow {
            ensure!(
                extents(&f)? == before,
                "an overwrite of sectors moved blocks"
            );
        }
        // Into a hole, over unwritten blocks, past the end.
        f.set_len(MIB)?;
        write_direct(&f, 3, 131072 + 512, 1536)?;
        if !cow {
            fallocate(&f, FallocateFlags::empty(), 262144, 65536)?;
        }
        write_direct(&f, 4, 262144 + 512, 512)?;
        write_direct(&f, 5, MIB + 512, 512)?;
        // Over shared blocks.
        let g = open_direct(&m.path("g"))?;
        clone_file(&g, &f)?;
        write_direct(&g, 6, 32768 + 512, 512)?;
        let look = |f: &File, seed: u64| -> Result {
            check_pattern(f, 1, 0, 512)?;
            check_pattern(f, 2, 512, 512)?;
            check_pattern(f, 1, 1024, 2560)?;
            check_pattern(f, 2, 3584, 1024)?;
            check_pattern(f, 1, 4608, 32768 - 4608 + 512)?;
            check_pattern(f, seed, 32768 + 512, 512)?;
            check_pattern(f, 1, 32768 + 1024, 32768 - 1024)?;
            check_zero(f, 65536, 65536 + 512)?;
            check_pattern(f, 3, 131072 + 512, 1536)?;
            check_zero(f, 131072 + 2048, 131072 - 2048 + 512)?;
            check_pattern(f, 4, 262144 + 512, 512)?;
            check_zero(f, 262144 + 1024, MIB - 262144 - 512)?;
            check_pattern(f, 5, MIB + 512, 512)
        };
        for _ in 0..2 {
            look(&open(&m.path("f"))?, 1)?;
            look(&open(&m.path("g"))?, 6)?;
            drop_caches()?;
        }
        m.check_idle()
    })
}

/// Nothing to read or write, buffered and directly, inside the file and past its end.
fn nothing(env: &Env) -> Result {
    each_way(env, |m, _| {
        write_pattern(&open(&m.path("f"))?, 1, 0, 10_000)?;
        for f in [open(&m.path("f"))?, open_direct(&m.path("f"))?] {
            let before = f.metadata()?.modified()?;
            for off in [0, 4096, MIB] {
                ensure_eq!(f.write_at(&[], off).ctx("write")?, 0, "written");
                ensure_eq!(f.read_at(&mut [], off).ctx("read")?, 0, "read");
            }
            let now = f.metadata()?;
            ensure_eq!(now.len(), 10_000, "size");
            ensure_eq!(now.modified()?, before, "mtime");
        }
        check_pattern(&open(&m.path("f"))?, 1, 0, 10_000)
    })
}

/// Parts of a block may be written directly unless they must be copied.
fn alignment_is_reported(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let sector = rustix::fs::ioctl_blksszget(File::open(&m.dev)?)?;
        let block = rustix::fs::statvfs(&m.mnt)?.f_bsize as u32;
        let ask = |f: &File| -> Result<(u32, u32)> {
            // STATX_DIO_READ_ALIGN has no name here yet.
            let want = StatxFlags::DIOALIGN | StatxFlags::from_bits_retain(0x20000);
            let s = rustix::fs::statx(f, "", AtFlags::EMPTY_PATH, want)?;
            ensure_eq!(s.stx_mask & want.bits(), want.bits(), "known");
            ensure!(s.stx_dio_mem_align > 0, "no alignment in memory");
            Ok((s.stx_dio_offset_align, s.stx_dio_read_offset_align))
        };
        let (f, g) = (open(&m.path("f"))?, open(&m.path("g"))?);
        write_pattern(&f, 1, 0, 65536)?;
        let alone = if cow { block } else { sector };
        ensure_eq!(ask(&f)?, (alone, sector), "a file of its own");
        clone_file(&g, &f)?;
        ensure_eq!(ask(&f)?, (block, sector), "a cloned file");
        ensure_eq!(ask(&g)?, (block, sector), "its clone");
        Ok(())
    })
}

fn requests_that_must_not_wait(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, 65536)?;
        f.set_len(MIB)?;
        f.sync_all()?;
        let write = |off: u64| {
            let buf = Aligned::from(&patterned(2, off, 4096));
            rustix::io::pwritev2(&f, &[IoSlice::new(&buf)], off, ReadWriteFlags::NOWAIT)
        };
        let read = |off: u64| {
            let mut buf = Aligned::new(4096);
            let n = rustix::io::preadv2(
                &f,
                &mut [IoSliceMut::new(&mut buf)],
                off,
                ReadWriteFlags::NOWAIT,
            )?;
            Ok::<_, Errno>((n, buf))
        };
        if cow {
            ensure_errno!(write(8192), Errno::AGAIN, "out of place without waiting");
        } else {
            ensure_eq!(write(8192).ctx("overwrite")?, 4096, "overwrite");
            let (n, buf) = read(8192).ctx("read")?;
            ensure_eq!(n, 4096, "read");
            compare("read", &buf, &patterned(2, 8192, 4096))?;
        }
        ensure_errno!(write(131072), Errno::AGAIN, "a hole without waiting");
        ensure_errno!(write(2 * MIB), Errno::AGAIN, "past EOF without waiting");
        Ok(())
    })
}

fn append_and_sync(env: &Env) -> Result {
    each_way(env, |m, _| {
        let path = m.path("log");
        let mut f = OpenOptions::new()
            .append(true)
            .create(true)
            .custom_flags(O_DIRECT | O_DSYNC)
            .open(&path)?;
        for i in 0..32u64 {
            let n = 4096 * (1 + i as usize % 3);
            let at = f.metadata()?.len();
            let buf = Aligned::from(&patterned(7, at, n));
            ensure_eq!(f.write(&buf)?, n, "appended");
        }
        let len = f.metadata()?.len();
        check_pattern(&open(&path)?, 7, 0, len)?;
        // A buffered tail that is no whole block, then a direct append to it.
        write_pattern(&open(&path)?, 7, len, 100)?;
        write_direct(&open_direct(&path)?, 7, len + 8192, 4096)?;
        drop_caches()?;
        let f = open(&path)?;
        check_pattern(&f, 7, 0, len + 100)?;
        check_zero(&f, len + 100, 8192 - 100)?;
        check_pattern(&f, 7, len + 8192, 4096)?;
        m.check_idle()
    })
}

/// Requests for the same blocks at the same time: each block is of one of them.
fn overlapping_requests(env: &Env) -> Result {
    each_way(env, |m, cow| {
        const LEN: u64 = 16 * 65536;
        let src = open_direct(&m.path("src"))?;
        write_direct(&src, 1, 0, LEN as usize)?;
        let f = open_direct(&m.path("f"))?;
        let mut rng = Rng::new(5);
        for round in 0..6u64 {
            match round % 3 {
                0 => clone_file(&f, &src)?,
                1 => {
                    f.set_len(0)?;
                    f.set_len(LEN)?;
                }
                _ if cow => {}
                _ => {
                    f.set_len(0)?;
                    fallocate(&f, FallocateFlags::empty(), 0, LEN)?;
                }
            }
            let mut aio = Aio::new(16).ctx("io_setup")?;
            for n in 0..48u64 {
                if aio.pending() == 16 {
                    let (_, res, buf) = aio.wait().ctx("io_getevents")?;
                    ensure_eq!(res.ctx("a request")?, buf.len(), "bytes");
                }
                let off = rng.below(16) * 65536;
                let len = (LEN - off).min(65536 * (1 + rng.below(3)));
                let buf = Aligned::from(&vec![(n + 2) as u8; len as usize]);
                aio.submit(f.as_fd(), Dir::Write, off, buf)
                    .ctx("io_submit")?;
            }
            while aio.pending() > 0 {
                let (_, res, buf) = aio.wait().ctx("io_getevents")?;
                ensure_eq!(res.ctx("a request")?, buf.len(), "bytes");
            }
            let warm = read_at(&open(&m.path("f"))?, 0, LEN as usize)?;
            for (i, block) in warm.chunks(1024).enumerate() {
                let first = block[0];
                // What no request hit is as before: a pattern or zeros.
                if block.iter().all(|b| *b == first) {
                    ensure!(first < 50, "block {i}: byte {first}");
                } else {
                    let want = patterned(1, i as u64 * 1024, 1024);
                    compare(&format!("round {round}, block {i}"), block, &want)?;
                    ensure_eq!(round % 3, 0, "a pattern where none was");
                }
            }
            drop_caches()?;
            let cold = read_at(&open(&m.path("f"))?, 0, LEN as usize)?;
            compare("cold and warm", &cold, &warm)?;
            check_pattern(&open(&m.path("src"))?, 1, 0, LEN)?;
            m.check_idle()?;
        }
        Ok(())
    })
}

/// Direct and buffered writers, maps, clones, punches, preallocation and unsharing at the same
/// time. Every 512 bytes must be of one writer; the module's counters and fsck judge the rest.
fn everything_at_once(env: &Env) -> Result {
    each_way(env, |m, cow| {
        const LEN: u64 = 512 * 1024;
        let path = m.path("f");
        let other = m.path("g");
        open(&path)?.set_len(LEN)?;
        open(&other)?.set_len(LEN)?;
        let work = |t: u64| -> Result {
            let mut rng = Rng::new(100 + t);
            let f = open(&path)?;
            let d = open_direct(&path)?;
            let g = open(&other)?;
            let map = Map::new(&f, 0, LEN as usize).ctx("mmap")?;
            for i in 0..120u64 {
                let off = rng.below(LEN / 4096) * 4096;
                let len = (LEN - off).min(4096 * (1 + rng.below(16)));
                let byte = (1 + t * 40 + i % 40) as u8;
                match (t, rng.below(4)) {
                    (0 | 1, 0) => {
                        let n = 512 * (1 + rng.below(7));
                        let buf = Aligned::from(&vec![byte; n as usize]);
                        ensure_eq!(d.write_at(&buf, off)?, n as usize, "sectors");
                    }
                    (0 | 1, _) => {
                        let buf = Aligned::from(&vec![byte; len as usize]);
                        ensure_eq!(d.write_at(&buf, off)?, len as usize, "direct write");
                    }
                    (2, 0) => f.write_all_at(&vec![byte; len as usize], off)?,
                    (2, 1) => map.write(off as usize, &[byte; 512]),
                    // The kernel tells of pages that stay in the way of a direct write by an error.
                    (2, 2) => match map.sync() {
                        Ok(()) | Err(Errno::IO) => {}
                        Err(e) => return Err(e).ctx("msync"),
                    },
                    (2, _) => {
                        let mut buf = Aligned::new(len as usize);
                        ensure_eq!(d.read_at(&mut buf, off)?, len as usize, "direct read");
                    }
                    (_, 0) => clone_file(&g, &f)?,
                    (_, 1) => punch(&f, off, len)?,
                    (_, 2) => unshare(&f, 0, LEN)?,
                    (_, _) if cow => {}
                    (_, _) => fallocate(&f, FallocateFlags::empty(), off, len)?,
                }
            }
            Ok(())
        };
        std::thread::scope(|s| {
            let all: Vec<_> = (0..4).map(|t| s.spawn(move || work(t))).collect();
            all.into_iter()
                .try_for_each(|h| h.join().unwrap_or(Err("a thread panicked".into())))
        })?;
        let warm = read_at(&open(&path)?, 0, LEN as usize)?;
        drop_caches()?;
        let cold = read_at(&open(&path)?, 0, LEN as usize)?;
        compare("cold and warm", &cold, &warm)?;
        for (i, s) in cold.chunks(512).enumerate() {
            ensure!(
                s.iter().all(|b| *b == s[0]),
                "sector {i} is of several writers"
            );
        }
        m.check_idle()
    })
}

/// What is written directly into preallocated blocks is converted, the rest is not; sharing ends
/// where direct writes went.
fn extents_after(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let f = open_direct(&m.path("f"))?;
        if !cow {
            fallocate(&f, FallocateFlags::empty(), 0, MIB)?;
            write_direct(&f, 1, 65536, 65536)?;
            let all = extents(&f)?;
            ensure_eq!(
                extent_bytes(&all, FIEMAP_UNWRITTEN),
                MIB - 65536,
                "bytes still unwritten"
            );
            check_zero(&open(&m.path("f"))?, 0, 65536)?;
        }
        write_direct(&f, 2, 0, MIB as usize)?;
        let g = open_direct(&m.path("g"))?;
        clone_file(&g, &f)?;
        ensure_eq!(
            extent_bytes(&extents(&g)?, FIEMAP_SHARED),
            MIB,
            "shared by the clone"
        );
        write_direct(&g, 3, 131072, 131072)?;
        for (file, what) in [(&f, "the source"), (&g, "the clone")] {
            ensure_eq!(
                extent_bytes(&extents(file)?, FIEMAP_SHARED),
                MIB - 131072,
                "shared in {what} after a direct write"
            );
        }
        let free = m.space()?;
        drop(g);
        std::fs::remove_file(m.path("g"))?;
        m.sync()?;
        ensure!(m.space()? != free, "nothing came back with the clone");
        check_pattern(&open(&m.path("f"))?, 2, 0, MIB)?;
        m.check_idle()
    })
}

/// Memory that is not present yet is no error of the filesystem.
fn fresh_memory(env: &Env) -> Result {
    each_way(env, |m, _| {
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, MIB as usize)?;
        let watcher = FsErrors::new(&m.mnt).ctx("fanotify")?;
        for len in [4096, 65536, MIB as usize] {
            let memory = Map::huge(2 << 20).ctx("mmap")?;
            ensure_eq!(memory.read_from(0, len, &f, 0)?, len, "bytes read");
        }
        let source = open(&m.path("source"))?;
        write_pattern(&source, 2, 0, MIB)?;
        m.sync()?;
        drop_caches()?;
        let memory = Map::private(&source, 0, MIB as usize).ctx("mmap")?;
        ensure_eq!(
            memory.write_to(0, MIB as usize, &f, 0, 0)?,
            MIB as usize,
            "bytes written"
        );
        drop((f, source, memory));
        m.cycle()?;
        ensure!(!watcher.any()?, "an error of the filesystem was reported");
        check_pattern(&open(&m.path("f"))?, 2, 0, MIB)
    })
}

/// Where there is nothing to read, nobody looks at the memory; elsewhere, memory that is not there is an error.
fn nothing_into_the_void(env: &Env) -> Result {
    each_way(env, |m, _| {
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, 4096)?;
        // Behind the last page of a file there is no memory.
        let map = Map::new(&f, 0, 8192).ctx("mmap")?;
        for file in [&f, &open(&m.path("f"))?] {
            for at in [4096, 8192] {
                ensure_eq!(map.read_from(4096, 4096, file, at)?, 0, "bytes at {at}");
            }
            let n = map.read_from(4096, 4096, file, 0);
            ensure_errno!(n, Errno::FAULT, "into memory that is not there");
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
            parts_of_blocks,
            nothing,
            alignment_is_reported,
            requests_that_must_not_wait,
            append_and_sync,
            overlapping_requests,
            everything_at_once,
            extents_after,
            fresh_memory,
            nothing_into_the_void,
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Contents of files: buffered, mapped and direct I/O, holes, SEEK, FIEMAP.

use calf_vmlib::error::Fail;
use calf_vmlib::file::{
    check_direct, check_pattern, check_zero, clone_file, compare, extent_bytes, extents, fallocate,
    open, open_direct, patterned, read_all, read_at, seek_data, seek_hole, write_direct,
    write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_block_size as each};
use calf_vmlib::rng::Rng;
use calf_vmlib::sys::{write_into_the_void, Aio, Aligned, Dir, Map, Queue, FIEMAP_DELALLOC};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::ExitCode;

const MIB: u64 = 1 << 20;

fn buffered(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 5 * MIB + 123)?;
        check_pattern(&f, 1, 0, 5 * MIB + 123)?;
        // Overwrite across blocks, read back cold.
        write_pattern(&f, 2, MIB - 77, 200_000)?;
        drop_caches()?;
        check_pattern(&f, 1, 0, MIB - 77)?;
        check_pattern(&f, 2, MIB - 77, 200_000)?;
        check_pattern(&f, 1, MIB - 77 + 200_000, 3 * MIB)?;
        drop(f);
        m.cycle()?;
        let f = open(&m.path("f"))?;
        ensure_eq!(f.metadata()?.len(), 5 * MIB + 123, "size");
        check_pattern(&f, 2, MIB - 77, 200_000)
    })
}

fn append(env: &Env) -> Result {
    each(env, |m| {
        let p = m.path("log");
        let mut f = OpenOptions::new().append(true).create(true).open(&p)?;
        let mut want = Vec::new();
        for i in 0..500usize {
            let chunk = patterned(7, want.len() as u64, 1 + i * 13 % 700);
            f.write_all(&chunk)?;
            want.extend(chunk);
            if i % 100 == 50 {
                f.sync_data()?;
            }
        }
        drop(f);
        m.cycle()?;
        compare("log", &read_all(&p)?, &want)
    })
}

fn truncate(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 2 * MIB)?;
        // Down into a block, up again: zeros, not what was there.
        for sync in [false, true] {
            write_pattern(&f, 1, 0, 2 * MIB)?;
            if sync {
                f.sync_all()?;
            }
            f.set_len(MIB + 1001)?;
            f.set_len(2 * MIB)?;
            check_pattern(&f, 1, 0, MIB + 1001)?;
            check_zero(&f, MIB + 1001, MIB - 1001)?;
            drop_caches()?;
            check_pattern(&f, 1, 0, MIB + 1001)?;
            check_zero(&f, MIB + 1001, MIB - 1001)?;
        }
        f.set_len(0)?;
        f.sync_all()?;
        ensure_eq!(f.metadata()?.blocks(), 0, "blocks of an empty file");
        ensure!(extents(&f)?.is_empty(), "extents of an empty file");
        // Extend without data.
        f.set_len(1 << 40)?;
        check_zero(&f, (1 << 40) - 5000, 5000)
    })
}

fn holes(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        for i in (0..64).step_by(2) {
            write_pattern(&f, 3, i * 65536, 65536)?;
        }
        for cold in [false, true] {
            for i in 0..63 {
                match i % 2 {
                    0 => check_pattern(&f, 3, i * 65536, 65536)?,
                    _ => check_zero(&f, i * 65536, 65536)?,
                }
            }
            if !cold {
                drop_caches()?;
            }
        }
        ensure!(
            f.metadata()?.blocks() * 512 < 34 * 65536,
            "holes use blocks"
        );
        // Fill the holes.
        for i in (1..64).step_by(2) {
            write_pattern(&f, 4, i * 65536, 65536)?;
        }
        drop_caches()?;
        for i in 0..64 {
            check_pattern(&f, if i % 2 == 0 { 3 } else { 4 }, i * 65536, 65536)?;
        }
        Ok(())
    })
}

fn mapped(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        f.set_len(4 * MIB)?;
        write_pattern(&f, 1, MIB, MIB)?;
        let map = Map::new(&f, 0, 4 << 20)?;
        // Into a hole, over data, in the last page.
        map.write(5000, &patterned(9, 5000, 100_000));
        map.write((MIB + 4096) as usize, &patterned(9, MIB + 4096, 10));
        map.write((4 << 20) - 100, &patterned(9, 4 * MIB - 100, 100));
        // read(2) sees it at once.
        check_pattern(&f, 9, 5000, 100_000)?;
        map.sync().ctx("msync")?;
        drop_caches()?;
        drop(map);
        drop(f);
        m.cycle()?;
        let f = open(&m.path("f"))?;
        check_zero(&f, 0, 5000)?;
        check_pattern(&f, 9, 5000, 100_000)?;
        check_zero(&f, 105_000, MIB - 105_000)?;
        check_pattern(&f, 1, MIB, 4096)?;
        check_pattern(&f, 9, MIB + 4096, 10)?;
        check_pattern(&f, 1, MIB + 4106, MIB - 4106)?;
        check_pattern(&f, 9, 4 * MIB - 100, 100)
    })
}

fn truncate_under_a_map(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 65536)?;
        let map = Map::new(&f, 0, 65536)?;
        f.set_len(5000)?;
        // What a map writes beyond the end inside the last page must not come back.
        map.write(5000, &[0xee; 8]);
        map.sync().ctx("msync")?;
        f.set_len(65536)?;
        check_pattern(&f, 1, 0, 5000)?;
        check_zero(&f, 5000, 65536 - 5000)?;
        drop_caches()?;
        check_zero(&f, 5000, 65536 - 5000)
    })
}

fn direct_io(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f = open_direct(&m.path("f"))?;
        // Into nothing, over written blocks, into a hole, over unwritten blocks.
        write_direct(&f, 1, 0, 1 << 20)?;
        check_direct(&f, 1, 0, 1 << 20)?;
        write_direct(&f, 2, 65536, 65536)?;
        write_direct(&f, 3, 3 * MIB, 65536)?;
        fallocate(&f, FallocateFlags::empty(), 2 * MIB, MIB)?;
        write_direct(&f, 4, 2 * MIB + 8192, 65536)?;
        ensure_eq!(f.metadata()?.len(), 3 * MIB + 65536, "size");
        let look = |f: &File| -> Result {
            check_pattern(f, 1, 0, 65536)?;
            check_pattern(f, 2, 65536, 65536)?;
            check_pattern(f, 1, 131072, MIB - 131072)?;
            check_zero(f, MIB, MIB + 8192)?;
            check_pattern(f, 4, 2 * MIB + 8192, 65536)?;
            check_zero(f, 2 * MIB + 8192 + 65536, MIB - 8192 - 65536)?;
            check_pattern(f, 3, 3 * MIB, 65536)
        };
        look(&open(&m.path("f"))?)?;
        // Over shared blocks.
        let g = open_direct(&m.path("g"))?;
        clone_file(&g, &f)?;
        write_direct(&g, 9, 65536, 8192)?;
        look(&open(&m.path("f"))?)?;
        check_direct(&g, 9, 65536, 8192)?;
        check_direct(&g, 2, 65536 + 8192, 65536 - 8192)?;
        // One block, if the device's sectors are smaller.
        write_direct(&g, 10, 5 * bs, bs as usize)?;
        check_direct(&g, 10, 5 * bs, bs as usize)?;
        // At the end of the file a read is short.
        let end = g.metadata()?.len();
        let mut buf = Aligned::new(65536);
        ensure_eq!(g.read_at(&mut buf, end - 4096)?, 4096, "read at the end");
        ensure_eq!(g.read_at(&mut buf, end + 4096)?, 0, "read beyond the end");
        let mut odd = vec![0u8; 100];
        ensure_errno!(
            g.write_at(&odd[..100], 1),
            Errno::INVAL,
            "an unaligned direct write"
        );
        ensure_errno!(
            g.read_at(&mut odd, 1),
            Errno::INVAL,
            "an unaligned direct read"
        );
        drop((f, g));
        m.cycle()?;
        look(&open(&m.path("f"))?)?;
        check_pattern(&open(&m.path("g"))?, 9, 65536, 8192)
    })
}

fn direct_and_buffered(env: &Env) -> Result {
    each(env, |m| {
        let d = open_direct(&m.path("f"))?;
        let b = open(&m.path("f"))?;
        for round in 0..10u64 {
            write_pattern(&b, round, 0, 300_000)?;
            check_direct(&d, round, 4096, 65536)?;
            write_direct(&d, 100 + round, 8192, 65536)?;
            check_pattern(&b, 100 + round, 8192, 65536)?;
            check_pattern(&b, round, 0, 8192)?;
            check_pattern(&b, round, 8192 + 65536, 300_000 - 8192 - 65536)?;
        }
        Ok(())
    })
}

fn asynchronous_direct_io(env: &Env) -> Result {
    each(env, |m| {
        let f = open_direct(&m.path("f"))?;
        f.set_len(8 * MIB)?;
        fallocate(&f, FallocateFlags::empty(), 2 * MIB, 2 * MIB)?;
        write_direct(&f, 50, 4 * MIB, 1 << 20)?;
        f.sync_all()?;
        let mut aio = Aio::new(16).ctx("io_setup")?;
        let chunk = 65536u64;
        let mut order: Vec<u64> = (0..8 * MIB / chunk + 16).collect();
        let mut rng = Rng::new(11);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let reap = |aio: &mut Aio| -> Result {
            let (_, res, buf) = aio.wait().ctx("io_getevents")?;
            ensure_eq!(res.ctx("a request")?, buf.len(), "bytes of a request");
            Ok(())
        };
        for n in &order {
            if aio.pending() == 16 {
                reap(&mut aio)?;
            }
            let buf = Aligned::from(&patterned(60, n * chunk, chunk as usize));
            aio.submit(f.as_fd(), Dir::Write, n * chunk, buf)
                .ctx("io_submit")?;
        }
        while aio.pending() > 0 {
            reap(&mut aio)?;
        }
        let len = order.len() as u64 * chunk;
        ensure_eq!(f.metadata()?.len(), len, "size after writes past the end");
        f.sync_all()?;
        for n in 0..order.len() as u64 {
            aio.submit(
                f.as_fd(),
                Dir::Read,
                n * chunk,
                Aligned::new(chunk as usize),
            )
            .ctx("read")?;
            let (_, res, buf) = aio.wait().ctx("io_getevents")?;
            ensure_eq!(res.ctx("a read")?, chunk as usize, "bytes read");
            compare(
                "async read",
                &buf,
                &patterned(60, n * chunk, chunk as usize),
            )?;
        }
        drop(f);
        m.cycle()?;
        check_pattern(&open(&m.path("f"))?, 60, 0, len)
    })
}

fn seek_and_fiemap(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        f.set_len(10 * MIB)?;
        ensure_eq!(seek_data(&f, 0)?, None, "data in an empty sparse file");
        ensure_eq!(seek_hole(&f, 0)?, 0, "hole in an empty sparse file");
        write_pattern(&f, 1, MIB, MIB)?;
        write_pattern(&f, 1, 4 * MIB, 65536)?;
        // Dirty pages over holes are data.
        ensure_eq!(seek_data(&f, 0)?, Some(MIB), "dirty data");
        ensure_eq!(seek_hole(&f, MIB)?, 2 * MIB, "hole after dirty data");
        ensure!(
            extent_bytes(&extents(&f)?, FIEMAP_DELALLOC) > 0,
            "delayed extents in FIEMAP"
        );
        f.sync_all()?;
        for _ in 0..2 {
            ensure_eq!(seek_data(&f, 0)?, Some(MIB), "data");
            ensure_eq!(seek_data(&f, MIB + 5)?, Some(MIB + 5), "data inside");
            ensure_eq!(seek_hole(&f, MIB + 5)?, 2 * MIB, "hole");
            ensure_eq!(seek_data(&f, 2 * MIB)?, Some(4 * MIB), "second data");
            ensure_eq!(seek_hole(&f, 4 * MIB)?, 4 * MIB + 65536, "second hole");
            ensure_eq!(seek_data(&f, 5 * MIB)?, None, "no more data");
            drop_caches()?;
        }
        ensure_errno!(
            rustix::fs::seek(&f, rustix::fs::SeekFrom::Data(10 * MIB)),
            Errno::NXIO,
            "SEEK_DATA at the end"
        );
        let all = extents(&f)?;
        ensure_eq!(extent_bytes(&all, 0), MIB + 65536, "mapped bytes");
        ensure_eq!(
            extent_bytes(&all, FIEMAP_DELALLOC),
            0,
            "delayed bytes after fsync"
        );
        // Unwritten extents are holes to SEEK unless there is dirty data over them.
        fallocate(&f, FallocateFlags::empty(), 6 * MIB, MIB)?;
        write_pattern(&f, 1, 6 * MIB + 262_144, 4096)?;
        let data = seek_data(&f, 6 * MIB)?.ok_or(Fail::new("no data"))?;
        ensure_eq!(data, 6 * MIB + 262_144, "dirty data over unwritten blocks");
        Ok(())
    })
}

fn parallel_writers(env: &Env) -> Result {
    each(env, |m| {
        let path = m.path("f");
        open(&path)?.set_len(8 * MIB)?;
        let work = |t: u64| -> Result {
            let f = open(&path)?;
            let d = open_direct(&path)?;
            for i in 0..64u64 {
                let at = (i * 4 + t) * 32768;
                if t % 2 == 0 {
                    write_pattern(&f, 1, at, 32768)?;
                } else {
                    write_direct(&d, 1, at, 32768)?;
                }
                if i % 16 == 0 {
                    f.sync_data()?;
                }
            }
            Ok(())
        };
        std::thread::scope(|s| {
            let all: Vec<_> = (0..4).map(|t| s.spawn(move || work(t))).collect();
            all.into_iter()
                .try_for_each(|h| h.join().unwrap_or(Err("a thread panicked".into())))
        })?;
        drop_caches()?;
        check_pattern(&open(&path)?, 1, 0, 8 * MIB)
    })
}

/// A write whose buffer ends early takes back exactly the reservations that it made (C-PUNCH-RANGE,
/// C-PUNCH-NOTRUNC): what a map has made dirty meanwhile stays.
fn short_writes(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        f.set_len(4 * MIB)?;
        f.sync_all()?;
        let nothing_left = |what: &str| -> Result {
            f.sync_all()?;
            for name in ["delalloc_reserved", "reserved", "claimed"] {
                let n = observe::counters(&m.bdev()).get(name).copied();
                ensure_eq!(n.unwrap_or(0), 0, "{what}: {name}");
            }
            Ok(())
        };
        let data = patterned(1, 0, 65536);

        let n = write_into_the_void(&f, &data, MIB as usize, 0).ctx("into a hole")?;
        ensure_eq!(n, data.len(), "bytes written into a hole");
        nothing_left("into a hole")?;
        ensure_eq!(f.metadata()?.blocks() * 512, 65536, "space taken");

        let map = Map::new(&f, 0, 4 * MIB as usize)?;
        map.write(3 * MIB as usize, b"M");
        let at = 3 * MIB - 65536 - 4096;
        let n = write_into_the_void(&f, &data, MIB as usize, at).ctx("before a store")?;
        ensure_eq!(n, data.len(), "bytes written before a store");
        nothing_left("before a store")?;
        drop(map);

        let r = write_into_the_void(&f, &[], 4096, 2 * MIB);
        ensure_eq!(r, Err(Errno::FAULT), "nothing but a bad buffer");
        nothing_left("a bad buffer")?;

        let end = 8 * MIB + 5;
        let n = write_into_the_void(&f, &data, MIB as usize, end).ctx("past the end")?;
        ensure_eq!(f.metadata()?.len(), end + n as u64, "size");
        nothing_left("past the end")?;

        m.sync()?;
        drop_caches()?;
        check_pattern(&f, 1, 0, 65536)?;
        check_zero(&f, 65536, at - 65536)?;
        ensure_eq!(read_at(&f, 3 * MIB, 1)?, b"M", "the store");
        check_zero(&f, 4 * MIB, end - 4 * MIB)
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            buffered,
            append,
            truncate,
            holes,
            mapped,
            truncate_under_a_map,
            direct_io,
            direct_and_buffered,
            asynchronous_direct_io,
            seek_and_fiemap,
            parallel_writers,
            short_writes,
        ],
        |_| {},
    )
}

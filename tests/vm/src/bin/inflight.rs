// SPDX-License-Identifier: GPL-2.0

//! Direct I/O that goes on while the program does something else: kernel AIO and io_uring, several
//! requests in flight, mixed with the page cache, with files that are closed meanwhile.

use calf_vmlib::file::{
    check_direct, check_pattern, check_zero, clone_file, compare, fallocate, open, open_direct,
    open_with, patterned, read_at, write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_way, Mounted};
use calf_vmlib::gate::until;
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::sys::{self, Aio, Aligned, Dir, Map, Queue, Ring, O_DIRECT, O_DSYNC, RWF_NOWAIT};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Both kinds of queues, with room for `n` requests.
fn each_queue(n: usize, mut f: impl FnMut(&str, &mut dyn Queue) -> Result) -> Result {
    f("aio", &mut Aio::new(n).ctx("io_setup")?).ctx("aio")?;
    f("ring", &mut Ring::new(n).ctx("io_uring_setup")?).ctx("io_uring")
}

/// Starts a write of pattern `seed`.
fn write(q: &mut dyn Queue, f: &File, seed: u64, off: u64, len: usize) -> Result {
    let buf = Aligned::from(&patterned(seed, off, len));
    q.submit(f.as_fd(), Dir::Write, off, buf).ctx("submit")?;
    Ok(())
}

/// Waits for all requests, which must have done all.
fn all_done(q: &mut dyn Queue) -> Result {
    while q.pending() > 0 {
        let (n, res, buf) = q.wait().ctx("wait")?;
        ensure_eq!(res.ctx(format!("request {n}"))?, buf.len(), "bytes");
    }
    Ok(())
}

fn at_rest(m: &Mounted) -> Result {
    m.check_idle()?;
    let reserved = observe::counters(&m.bdev());
    ensure_eq!(
        *reserved.get("delalloc_reserved").unwrap_or(&0),
        0,
        "reserved"
    );
    Ok(())
}

/// Whatever is below, sixteen requests of all sizes arrive whole, in whatever order they end.
fn writes(env: &Env) -> Result {
    each_way(env, |m, cow| {
        for shape in ["hole", "preallocated", "written", "shared", "extending"] {
            each_queue(16, |name, q| {
                const LEN: u64 = 2 * MIB as u64;
                let path = m.path(&format!("{shape}-{name}"));
                let f = open_direct(&path)?;
                match shape {
                    "hole" => f.set_len(LEN)?,
                    "preallocated" if cow => return Ok(()),
                    "preallocated" => fallocate(&f, FallocateFlags::empty(), 0, LEN)?,
                    "written" => write_direct(&f, 9, 0, LEN as usize)?,
                    "shared" => {
                        let src = open_direct(&m.path("src"))?;
                        write_direct(&src, 8, 0, LEN as usize)?;
                        clone_file(&f, &src)?;
                    }
                    _ => {}
                }
                for i in (0..16).rev() {
                    write(q, &f, 3, i * 128 * KIB as u64, (4 + 4 * i as usize) * KIB)?;
                }
                all_done(q)?;
                ensure_eq!(
                    f.metadata()?.len() >= (15 * 128 + 64) * KIB as u64,
                    true,
                    "size"
                );
                for cold in [false, true] {
                    let f = open(&path)?;
                    for i in 0..16u64 {
                        let (off, len) = (i * 128 * KIB as u64, (4 + 4 * i) * KIB as u64);
                        check_pattern(&f, 3, off, len)?;
                        let rest = (off + len, (128 * KIB) as u64 - len);
                        match shape {
                            "written" => check_pattern(&f, 9, rest.0, rest.1)?,
                            "shared" => check_pattern(&f, 8, rest.0, rest.1)?,
                            // The last request ends the file.
                            "extending" if i == 15 => {}
                            _ => check_zero(&f, rest.0, rest.1)?,
                        }
                    }
                    if !cold {
                        drop_caches()?;
                    }
                }
                at_rest(m)
            })
            .ctx(shape)?;
        }
        check_pattern(&open(&m.path("src"))?, 8, 0, 2 * MIB as u64)
    })
}

/// Reads of data, holes and preallocated blocks, across and past EOF.
fn reads(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, 256 * KIB)?;
        write_direct(&f, 1, 512 * KIB as u64, 256 * KIB)?;
        if !cow {
            fallocate(
                &f,
                FallocateFlags::empty(),
                300 * KIB as u64,
                64 * KIB as u64,
            )?;
        }
        write_pattern(&open(&m.path("f"))?, 1, 768 * KIB as u64, 1000)?;
        let size = (768 * KIB + 1000) as u64;
        let mut want = patterned(1, 0, 256 * KIB);
        want.resize(512 * KIB, 0);
        want.extend(patterned(1, 512 * KIB as u64, 256 * KIB + 1000));
        each_queue(16, |_, q| {
            for i in 0..16u64 {
                let len = if i % 2 == 0 { 4096 } else { 128 * KIB };
                q.submit(f.as_fd(), Dir::Read, i * 56 * KIB as u64, Aligned::new(len))
                    .ctx("submit")?;
            }
            while q.pending() > 0 {
                let (n, res, buf) = q.wait().ctx("wait")?;
                let off = n * 56 * KIB;
                let end = (off + buf.len()).min(size as usize);
                let have = res.ctx(format!("read {n}"))?;
                ensure_eq!(have, end.saturating_sub(off), "bytes of read {n}");
                compare(&format!("read {n}"), &buf[..have], &want[off.min(end)..end])?;
            }
            Ok(())
        })
    })
}

/// What `O_DSYNC` has acknowledged is there after the filesystem went down without its journal.
fn acknowledged_is_durable(env: &Env) -> Result {
    for name in ["aio", "ring"] {
        each_way(env, |m, _| {
            let f = open_with(&m.path("f"), O_DIRECT | O_DSYNC)?;
            let src = open_direct(&m.path("src"))?;
            write_direct(&src, 2, 0, 256 * KIB)?;
            clone_file(&f, &src)?;
            open(&m.path("f"))?.sync_all()?;
            each_queue(8, |q_name, q| {
                if q_name == name {
                    // Over shared blocks, over a hole, past the end.
                    for i in [0u64, 3, 5, 7, 9, 20] {
                        write(q, &f, 7, i * 64 * KIB as u64, 32 * KIB)?;
                    }
                    all_done(q)?;
                }
                Ok(())
            })?;
            let size = (20 * 64 + 32) * KIB as u64;
            ensure_eq!(f.metadata()?.len(), size, "size before");
            sys::vfs::shutdown(&f, sys::vfs::Shutdown::NoFlush).ctx("shutdown")?;
            drop((f, src));
            m.cycle()?;
            let f = open(&m.path("f"))?;
            ensure_eq!(f.metadata()?.len(), size, "size after");
            for i in [0u64, 3, 5, 7, 9, 20] {
                check_pattern(&f, 7, i * 64 * KIB as u64, 32 * KIB as u64)?;
            }
            check_pattern(&f, 2, 64 * KIB as u64, 128 * KIB as u64)?;
            check_zero(&f, 10 * 64 * KIB as u64, 10 * 64 * KIB as u64)?;
            check_pattern(&open(&m.path("src"))?, 2, 0, 256 * KIB as u64)
        })
        .ctx(name)?;
    }
    Ok(())
}

/// Parts of blocks: eight requests of 512 bytes make one block, whatever is below.
fn parts_of_blocks(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let mut round = 0;
        for shape in ["hole", "preallocated", "written", "shared"] {
            each_queue(8, |name, q| {
                round += 1;
                let path = m.path(&format!("{shape}-{name}"));
                let f = open_direct(&path)?;
                match shape {
                    "hole" => f.set_len(64 * KIB as u64)?,
                    "preallocated" if cow => return Ok(()),
                    "preallocated" => {
                        fallocate(&f, FallocateFlags::empty(), 0, 64 * KIB as u64)?;
                    }
                    "written" => write_direct(&f, 9, 0, 64 * KIB)?,
                    _ => {
                        let src = open_direct(&m.path("src"))?;
                        write_direct(&src, 9, 0, 64 * KIB)?;
                        clone_file(&f, &src)?;
                    }
                }
                for i in 0..8 {
                    write(q, &f, 30 + round, 8192 + i * 512, 512)?;
                }
                all_done(q)?;
                drop_caches()?;
                let f = open(&path)?;
                check_pattern(&f, 30 + round, 8192, 4096)?;
                match shape {
                    "written" | "shared" => check_pattern(&f, 9, 12288, 52 * KIB as u64)?,
                    _ => check_zero(&f, 12288, 52 * KIB as u64)?,
                }
                at_rest(m)
            })
            .ctx(shape)?;
        }
        Ok(())
    })
}

/// A disk on which a request takes a while, so that requests are in flight for certain.
fn slow_disk() -> Result<NullDisk> {
    NullDisk::new(
        "slow0",
        192,
        &[("irqmode", "2"), ("completion_nsec", "30000000")],
    )
}

/// Unlinked files that have gone.
fn evicted(m: &Mounted) -> i64 {
    observe::counters(&m.bdev())["evicted_unlinked"]
}

/// Closes a file, and removes it if it is to be `unlinked`, with requests in flight. All of them have ended when this
/// returns; `false` if none was seen in flight.
fn close_in_flight(m: &Mounted, name: &str, q: &mut dyn Queue, unlinked: bool) -> Result<bool> {
    let gone = evicted(m);
    let path = m.path(&format!("{name}-{unlinked}"));
    let f = open_direct(&path)?;
    f.set_len(0).ctx("truncate")?;
    for i in 0..8 {
        write(q, &f, 4, i * 64 * KIB as u64, 64 * KIB)?;
    }
    drop(f);
    // io_uring lets a worker do what would wait.
    let seen = until("a request to be in flight", || {
        observe::counters(&m.bdev())["pinned"] > 0
    })
    .is_ok();
    if unlinked {
        std::fs::remove_file(&path)?;
    }
    all_done(q)?;
    if unlinked {
        // The last reference may go in a worker after the result was told.
        until("the file to go", || evicted(m) > gone)?;
        return Ok(seen);
    }
    drop_caches()?;
    let f = open(&path)?;
    ensure_eq!(f.metadata()?.len(), 512 * KIB as u64, "size");
    check_pattern(&f, 4, 0, 512 * KIB as u64)?;
    Ok(seen)
}

/// The file is closed, and has no name any more, while requests are in flight.
fn closed_meanwhile(env: &Env) -> Result {
    let disk = slow_disk()?;
    each_way(&disk.env(env), |m, _| {
        each_queue(8, |name, q| {
            for unlinked in [false, true] {
                // A busy machine may look only when all is done.
                let mut seen = false;
                for _ in 0..5 {
                    seen = seen || close_in_flight(m, name, q, unlinked)?;
                }
                ensure!(seen, "no request was seen in flight");
            }
            at_rest(m)
        })
    })
}

/// Page cache and direct requests in one file: each range is what was written to it last, and nobody
/// reads a mix of old and new.
fn with_the_page_cache(env: &Env) -> Result {
    let disk = slow_disk()?;
    each_way(&disk.env(env), |m, _| {
        each_queue(8, |name, q| {
            let path = m.path(name);
            let f = open_direct(&path)?;
            write_direct(&f, 1, 0, MIB)?;
            let b = open(&path)?;
            let map = Map::new(&b, 0, MIB).ctx("mmap")?;
            // Even 64 KiB ranges are written directly, odd ones through the cache and a map.
            for i in (0..16u64).step_by(2) {
                write(q, &f, 5, i * 64 * KIB as u64, 64 * KIB)?;
            }
            for i in (1..16u64).step_by(4) {
                write_pattern(&b, 6, i * 64 * KIB as u64, 64 * KIB as u64)?;
            }
            for i in (3..16u64).step_by(4) {
                let off = i * 64 * KIB as u64;
                map.write(off as usize, &patterned(6, off, 64 * KIB));
            }
            // Reading what is under way brings it into the cache, old or new.
            let seen = read_at(&b, 0, 64 * KIB)?;
            let (old, new) = (patterned(1, 0, 64 * KIB), patterned(5, 0, 64 * KIB));
            for (i, page) in seen.chunks(4096).enumerate() {
                let at = i * 4096..(i + 1) * 4096;
                ensure!(
                    page == &old[at.clone()] || page == &new[at],
                    "page {i} is neither old nor new"
                );
            }
            all_done(q)?;
            for cold in [false, true] {
                for i in 0..16u64 {
                    let seed = if i % 2 == 0 { 5 } else { 6 };
                    check_pattern(&b, seed, i * 64 * KIB as u64, 64 * KIB as u64)?;
                }
                if !cold {
                    b.sync_all()?;
                    drop_caches()?;
                }
            }
            at_rest(m)
        })
    })
}

/// A request that must not wait is done whole or not at all.
fn without_waiting(env: &Env) -> Result {
    each_way(env, |m, cow| {
        let path = m.path("f");
        let f = open_direct(&path)?;
        write_direct(&f, 1, 0, 64 * KIB)?;
        f.set_len(MIB as u64)?;
        f.sync_all()?;
        let mut q = Ring::new(4).ctx("io_uring_setup")?;
        let mut now = |dir: Dir, off: u64, len: usize, flags: i32| {
            let buf = Aligned::from(&patterned(2, off, len));
            q.submit_with(f.as_fd(), dir, off, buf, flags)?;
            let (_, res, buf) = q.wait()?;
            res.map(|n| (n, buf))
        };
        let (hole, past) = (512 * KIB as u64, 2 * MIB as u64);
        ensure_errno!(
            now(Dir::Write, 32 * KIB as u64, 64 * KIB, RWF_NOWAIT),
            Errno::AGAIN,
            "from data into a hole"
        );
        check_direct(&f, 1, 0, 64 * KIB).ctx("after a request that would have waited")?;
        ensure_errno!(
            now(Dir::Read, 32 * KIB as u64, 64 * KIB, RWF_NOWAIT),
            Errno::AGAIN,
            "a read of data and hole"
        );
        ensure_errno!(
            now(Dir::Write, hole, 4096, RWF_NOWAIT),
            Errno::AGAIN,
            "a hole"
        );
        ensure_errno!(
            now(Dir::Write, past, 4096, RWF_NOWAIT),
            Errno::AGAIN,
            "past EOF"
        );
        ensure_eq!(f.metadata()?.len(), MIB as u64, "size");
        let (n, buf) = now(Dir::Read, 8192, 4096, RWF_NOWAIT).ctx("read")?;
        ensure_eq!(n, 4096, "bytes read");
        compare("read", &buf, &patterned(1, 8192, 4096))?;
        if cow {
            ensure_errno!(
                now(Dir::Write, 0, 4096, RWF_NOWAIT),
                Errno::AGAIN,
                "out of place"
            );
        } else {
            let (n, _) = now(Dir::Write, 0, 16 * KIB, RWF_NOWAIT).ctx("overwrite")?;
            ensure_eq!(n, 16 * KIB, "bytes written");
            check_direct(&f, 2, 0, 16 * KIB)?;
        }
        // io_uring tries the same without waiting, and then lets a worker wait.
        for off in [hole, past, 0] {
            let (n, _) = now(Dir::Write, off, 64 * KIB, 0).ctx(format!("write at {off}"))?;
            ensure_eq!(n, 64 * KIB, "bytes at {off}");
        }
        drop_caches()?;
        let b = open(&path)?;
        for off in [hole, past, 0] {
            check_pattern(&b, 2, off, 64 * KIB as u64)?;
        }
        check_zero(&b, 64 * KIB as u64, hole - 64 * KIB as u64)?;
        at_rest(m)
    })
}

/// A read that must not wait and reaches over EOF gets what is there.
fn without_waiting_at_the_end(env: &Env) -> Result {
    each_way(env, |m, _| {
        let path = m.path("f");
        write_pattern(&open(&path)?, 1, 0, 10_240)?;
        m.sync()?;
        drop_caches()?;
        let f = open_direct(&path)?;
        // What says where the data is has to be in memory.
        check_direct(&f, 1, 0, 4096)?;
        let mut buf = Aligned::new(64 * KIB);
        let mut parts = [std::io::IoSliceMut::new(&mut buf)];
        let n = rustix::io::preadv2(&f, &mut parts, 0, rustix::io::ReadWriteFlags::NOWAIT);
        ensure_eq!(n, Ok(10_240), "bytes read over EOF");
        compare("read", &buf[..10_240], &patterned(1, 0, 10_240))?;
        at_rest(m)
    })
}

/// Memory in huge pages, and files in large folios.
fn huge(env: &Env) -> Result {
    each_way(env, |m, _| {
        let path = m.path("f");
        let len = 8 * MIB;
        let memory = Map::huge(len + 2 * MIB).ctx("mmap")?;
        memory.write(0, &patterned(1, 0, len + 2 * MIB));
        let f = open_direct(&path)?;
        // Large folios, clean and dirty, over what is written next.
        write_pattern(&open(&path)?, 9, 0, len as u64)?;
        read_at(&open(&path)?, 0, len)?;
        for (at, what) in [(0, "aligned"), (4096, "a page off"), (MIB + 512, "odd")] {
            let n = memory.write_to(at, len, &f, 0, 0).ctx(what)?;
            ensure_eq!(n, len, "{what}: bytes written");
            let want = &patterned(1, 0, len + 2 * MIB)[at..at + len];
            compare(what, &read_at(&open(&path)?, 0, len)?, want)?;
            let back = Map::huge(len + 2 * MIB).ctx("mmap")?;
            let n = back.read_from(at, len, &f, 0).ctx(what)?;
            ensure_eq!(n, len, "{what}: bytes read");
            let mut have = vec![0; len];
            back.read(at, &mut have);
            compare(what, &have, want)?;
        }
        drop_caches()?;
        let want = &patterned(1, 0, len + 2 * MIB)[MIB + 512..MIB + 512 + len];
        compare("cold", &read_at(&open(&path)?, 0, len)?, want)?;
        // The memory is a map of a file in large folios, none of it present.
        let src = open(&m.path("src"))?;
        write_pattern(&src, 3, 0, len as u64)?;
        src.sync_all()?;
        drop_caches()?;
        let map = Map::new(&src, 0, len).ctx("mmap")?;
        ensure_eq!(map.write_to(0, len, &f, 0, 0)?, len, "from a file");
        check_direct(&f, 3, 0, len)?;
        ensure_eq!(map.read_from(0, len, &f, 0)?, len, "into a file");
        // Each of them a part of a huge page.
        each_queue(16, |_, q| {
            for i in 0..16u64 {
                write(q, &f, 11, i * 512 * KIB as u64, 512 * KIB)?;
            }
            all_done(q)
        })?;
        check_direct(&f, 11, 0, len)?;
        f.sync_all()?;
        at_rest(m)
    })
}

/// Two writers to the same range at a time, one through the cache: bytes are of one of them.
fn one_range_two_ways(env: &Env) -> Result {
    each_way(env, |m, _| {
        let path = m.path("f");
        let f = open_direct(&path)?;
        write_direct(&f, 1, 0, MIB)?;
        let b = open(&path)?;
        each_queue(8, |_, q| {
            for round in 0..20u64 {
                let off = (round % 4) * 256 * KIB as u64;
                for i in 0..4 {
                    let buf = Aligned::from(&vec![b'd'; 64 * KIB]);
                    q.submit(f.as_fd(), Dir::Write, off + i * 64 * KIB as u64, buf)
                        .ctx("submit")?;
                }
                b.write_all_at(&vec![b'b'; 256 * KIB], off)?;
                all_done(q)?;
                let warm = read_at(&b, off, 256 * KIB)?;
                for (i, sector) in warm.chunks(512).enumerate() {
                    ensure!(
                        matches!(sector[0], b'b' | b'd') && sector.iter().all(|x| *x == sector[0]),
                        "round {round}, sector {i} is of both"
                    );
                }
            }
            // The kernel tells of pages that stayed in the way of a direct write by an error.
            match b.sync_all() {
                Err(e) if e.raw_os_error() != Some(libc_eio()) => Err(e).ctx("fsync"),
                _ => Ok(()),
            }
        })?;
        m.check_idle()
    })
}

fn libc_eio() -> i32 {
    Errno::IO.raw_os_error()
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            writes,
            reads,
            acknowledged_is_durable,
            parts_of_blocks,
            closed_meanwhile,
            with_the_page_cache,
            without_waiting,
            without_waiting_at_the_end,
            huge,
            one_range_two_ways,
        ],
        |_| {},
    )
}

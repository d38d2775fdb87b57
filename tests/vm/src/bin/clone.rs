// SPDX-License-Identifier: GPL-2.0

//! Files that share blocks: FICLONE, FICLONERANGE, FIDEDUPERANGE, copy_file_range, unsharing.

use calf_vmlib::file::{
    check_pattern, check_zero, clone_file, clone_range, compare, extent_bytes, extents, fallocate,
    open, patterned, punch, read_at, unshare, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_block_size as each, with_fs};
use calf_vmlib::sys::{dedupe as dedupe_range, Map, FIEMAP_SHARED, FIEMAP_UNWRITTEN};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const MIB: u64 = 1 << 20;

fn mapped_over_shared(env: &Env) -> Result {
    each(env, |m| {
        let f1 = open(&m.path("f1"))?;
        write_pattern(&f1, 1, 0, MIB)?;
        let f2 = open(&m.path("f2"))?;
        clone_file(&f2, &f1)?;
        let map = Map::new(&f2, 0, 1 << 20)?;
        for at in (0..1usize << 20).step_by(65536) {
            map.write(at + 17, &patterned(2, at as u64 + 17, 3000));
        }
        map.sync().ctx("msync")?;
        drop(map);
        drop_caches()?;
        check_pattern(&f1, 1, 0, MIB)?;
        for at in (0..MIB).step_by(65536) {
            check_pattern(&f2, 1, at, 17)?;
            check_pattern(&f2, 2, at + 17, 3000)?;
            check_pattern(&f2, 1, at + 3017, 65536 - 3017)?;
        }
        Ok(())
    })
}

fn clones(env: &Env) -> Result {
    each(env, |m| {
        let f1 = open(&m.path("f1"))?;
        write_pattern(&f1, 1, 0, 3 * MIB + 500)?;
        f1.sync_all()?;
        m.sync()?;
        let free = m.space()?.free;
        let f2 = open(&m.path("f2"))?;
        clone_file(&f2, &f1)?;
        m.sync()?;
        let cost = free as i64 - m.space()?.free as i64;
        ensure!(cost < 40, "a clone of one extent costs {cost} blocks");
        ensure_eq!(f2.metadata()?.len(), 3 * MIB + 500, "size of the clone");
        for f in [&f1, &f2] {
            let all = extents(f)?;
            let shared = extent_bytes(&all, FIEMAP_SHARED);
            ensure!(shared >= 3 * MIB, "{shared} bytes are shared");
        }
        // Changes stay with the one that was changed.
        write_pattern(&f2, 2, MIB + 100, 10_000)?;
        write_pattern(&f1, 3, 0, 1)?;
        f1.set_len(2 * MIB + 5)?;
        drop_caches()?;
        check_pattern(&f1, 3, 0, 1)?;
        check_pattern(&f1, 1, 1, 2 * MIB + 4)?;
        check_pattern(&f2, 1, 0, MIB + 100)?;
        check_pattern(&f2, 2, MIB + 100, 10_000)?;
        check_pattern(&f2, 1, MIB + 10_100, 2 * MIB + 500 - 10_100)?;
        drop((f1, f2));
        std::fs::remove_file(m.path("f1"))?;
        m.cycle()?;
        let f2 = open(&m.path("f2"))?;
        check_pattern(&f2, 1, 0, MIB + 100)?;
        check_pattern(&f2, 1, MIB + 10_100, 2 * MIB + 500 - 10_100)?;
        m.sync()?;
        ensure_eq!(
            extent_bytes(&extents(&f2)?, FIEMAP_SHARED),
            0,
            "shared bytes of the last owner"
        );
        Ok(())
    })
}

fn clones_of_ranges(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f1 = open(&m.path("f1"))?;
        write_pattern(&f1, 1, 0, MIB)?;
        punch(&f1, 16 * 4096, 8 * 4096)?;
        fallocate(&f1, FallocateFlags::empty(), MIB, 65536)?;
        let f2 = open(&m.path("f2"))?;
        write_pattern(&f2, 2, 0, MIB)?;
        // Over dirty data, with a hole in the source.
        clone_range(&f2, &f1, 8 * 4096, 32 * 4096, 64 * 4096)?;
        // In the same file.
        clone_range(&f2, &f2, 0, 65536, 2 * MIB)?;
        // Unwritten source blocks become holes that read as zeros.
        clone_range(&f2, &f1, MIB, 65536, 3 * MIB)?;
        for _ in 0..2 {
            let mut want = patterned(2, 0, MIB as usize);
            let mut src = patterned(1, 0, MIB as usize);
            src[16 * 4096..24 * 4096].fill(0);
            want[64 * 4096..96 * 4096].copy_from_slice(&src[8 * 4096..40 * 4096]);
            compare("f2", &read_at(&f2, 0, MIB as usize)?, &want)?;
            check_zero(&f2, MIB, MIB)?;
            check_pattern_moved(&f2, 2, 0, 2 * MIB, 65536)?;
            check_zero(&f2, 3 * MIB, 65536)?;
            drop_caches()?;
        }
        ensure_errno!(
            clone_range(&f2, &f1, 100, bs, 0),
            Errno::INVAL,
            "unaligned source"
        );
        ensure_errno!(
            clone_range(&f2, &f1, 0, bs, 100),
            Errno::INVAL,
            "unaligned target"
        );
        ensure_errno!(
            clone_range(&f2, &f2, 0, 65536, 4096),
            Errno::INVAL,
            "overlap"
        );
        ensure_errno!(
            clone_range(&f2, &f1, 64 * MIB, bs, 0),
            Errno::INVAL,
            "beyond the end"
        );
        Ok(())
    })
}

fn check_pattern_moved(f: &File, seed: u64, from: u64, to: u64, len: usize) -> Result {
    compare("moved", &read_at(f, to, len)?, &patterned(seed, from, len))
}

fn many_owners(env: &Env) -> Result {
    each(env, |m| {
        m.sync()?;
        let start = m.space()?.free;
        let f = open(&m.path("f0"))?;
        write_pattern(&f, 1, 0, 256 * 1024)?;
        f.sync_all()?;
        for i in 1..60 {
            clone_file(&open(&m.path(&format!("f{i}")))?, &f)?;
        }
        // Each owner changes its own block, in two halves.
        for i in 0..60u64 {
            let f = open(&m.path(&format!("f{i}")))?;
            write_pattern(&f, 100 + i, i * 4096, 4096)?;
        }
        drop_caches()?;
        for i in 0..60u64 {
            let f = open(&m.path(&format!("f{i}")))?;
            check_pattern(&f, 1, 0, i * 4096)?;
            check_pattern(&f, 100 + i, i * 4096, 4096)?;
            check_pattern(&f, 1, (i + 1) * 4096, 256 * 1024 - (i + 1) * 4096)?;
        }
        drop(f);
        for i in 0..60 {
            std::fs::remove_file(m.path(&format!("f{i}")))?;
        }
        m.cycle()?;
        let end = m.space()?.free;
        ensure!(
            start.abs_diff(end) <= 8,
            "free blocks: {start} before, {end} after"
        );
        Ok(())
    })
}

fn unshare_range(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f1 = open(&m.path("f1"))?;
        write_pattern(&f1, 1, 0, 2 * MIB)?;
        punch(&f1, MIB / 2, MIB / 4)?;
        let f2 = open(&m.path("f2"))?;
        clone_file(&f2, &f1)?;
        drop_caches()?;
        unshare(&f2, 4096, MIB)?;
        m.sync()?;
        let all = extents(&f2)?;
        ensure_eq!(
            extent_bytes(&all, FIEMAP_SHARED),
            2 * MIB - MIB / 4 - (MIB - MIB / 4),
            "shared"
        );
        ensure_eq!(
            extent_bytes(&all, 0),
            2 * MIB - MIB / 4,
            "bytes mapped: holes stay holes"
        );
        unshare(&f2, 0, 2 * MIB)?;
        m.sync()?;
        ensure_eq!(
            extent_bytes(&extents(&f2)?, FIEMAP_SHARED),
            0,
            "shared after all"
        );
        ensure_eq!(
            extent_bytes(&extents(&f1)?, FIEMAP_SHARED),
            0,
            "shared in the source"
        );
        drop_caches()?;
        for f in [&f1, &f2] {
            check_pattern(f, 1, 0, MIB / 2)?;
            check_zero(f, MIB / 2, MIB / 4)?;
            check_pattern(f, 1, MIB / 2 + MIB / 4, 2 * MIB - MIB / 2 - MIB / 4)?;
        }
        ensure!(bs > 0, "block size");
        Ok(())
    })
}

fn copy_range(dst: &File, at: u64, src: &File, from: u64, len: u64) -> Result<u64> {
    let (mut from, mut at) = (from, at);
    rustix::fs::copy_file_range(src, Some(&mut from), dst, Some(&mut at), len as usize)
        .map(|n| n as u64)
        .ctx("copy_file_range")
}

/// copy_file_range shares whole blocks, and copies where it cannot.
fn copies(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, MIB + 77)?;
        f.sync_all()?;
        m.sync()?;
        let free = m.space()?.free;
        let g = open(&m.path("g"))?;
        ensure_eq!(
            copy_range(&g, 0, &f, 0, MIB + 77)?,
            MIB + 77,
            "bytes copied"
        );
        m.sync()?;
        let cost = free as i64 - m.space()?.free as i64;
        ensure!(cost < 20, "a copy by sharing costs {cost} blocks");
        let shared = extent_bytes(&extents(&g)?, FIEMAP_SHARED);
        ensure_eq!(shared, MIB + bs, "bytes shared");
        check_pattern(&g, 1, 0, MIB + 77)?;
        // Past the end of the source; at an odd place, where bytes are copied.
        ensure_eq!(copy_range(&g, 2 * MIB, &f, MIB, MIB)?, 77, "up to the end");
        ensure_eq!(copy_range(&g, 3 * MIB + 1, &f, 5, 1000)?, 1000, "odd");
        compare(
            "odd",
            &read_at(&g, 3 * MIB + 1, 1000)?,
            &patterned(1, 5, 1000),
        )?;
        compare("tail", &read_at(&g, 2 * MIB, 77)?, &patterned(1, MIB, 77))?;
        check_zero(&g, 2 * MIB + 77, MIB - 76)?;
        check_pattern(&f, 1, 0, MIB + 77)
    })
}

/// What is preallocated on both sides stays, and is not shared.
fn preallocated_on_both_sides(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let (a, b) = (open(&m.path("a"))?, open(&m.path("b"))?);
        for f in [&a, &b] {
            fallocate(f, FallocateFlags::empty(), 0, 64 * bs)?;
        }
        // Data in the middle of one, and of the other.
        write_pattern(&a, 1, 16 * bs, 8 * bs)?;
        write_pattern(&b, 2, 32 * bs, 8 * bs)?;
        m.sync()?;
        let n = dedupe_range(&a, 48 * bs, 16 * bs, &b, 48 * bs).ctx("FIDEDUPERANGE")?;
        ensure_eq!(n, Some(16 * bs), "bytes that are the same");
        let unwritten =
            |f: &File| -> Result<u64> { Ok(extent_bytes(&extents(f)?, FIEMAP_UNWRITTEN)) };
        ensure_eq!(unwritten(&b)?, 56 * bs, "preallocated after FIDEDUPERANGE");
        clone_file(&b, &a)?;
        check_zero(&b, 0, 16 * bs)?;
        check_pattern(&b, 1, 16 * bs, 8 * bs)?;
        check_zero(&b, 24 * bs, 40 * bs)?;
        ensure_eq!(unwritten(&b)?, 48 * bs, "preallocated after FICLONE");
        ensure_eq!(extent_bytes(&extents(&b)?, FIEMAP_SHARED), 8 * bs, "shared");
        Ok(())
    })
}

fn dedupe(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        m.sync()?;
        let start = m.space()?.free;
        let f = open(&m.path("f"))?;
        let g = open(&m.path("g"))?;
        for h in [&f, &g] {
            write_pattern(h, 1, 0, MIB + 77)?;
        }
        write_pattern(&g, 2, 40 * bs + 5, 1)?;
        let n = dedupe_range(&f, 0, 40 * bs, &g, 0).ctx("FIDEDUPERANGE")?;
        ensure_eq!(n, Some(40 * bs), "bytes that are the same");
        let n = dedupe_range(&f, 40 * bs, bs, &g, 40 * bs).ctx("FIDEDUPERANGE")?;
        ensure_eq!(n, None, "bytes that differ");
        // Up to both ends.
        let rest = MIB + 77 - 48 * bs;
        let n = dedupe_range(&f, 48 * bs, rest, &g, 48 * bs).ctx("FIDEDUPERANGE")?;
        ensure!(n.is_some_and(|n| n >= rest / bs * bs), "{n:?} of {rest}");
        let shared = extent_bytes(&extents(&g)?, FIEMAP_SHARED);
        ensure!(shared >= MIB - 8 * bs, "{shared} bytes are shared");
        for h in [&f, &g] {
            check_pattern(h, 1, 0, 40 * bs + 5)?;
            check_pattern(h, 1, 40 * bs + 6, MIB + 77 - 40 * bs - 6)?;
        }
        // What was one is two again after a write.
        write_pattern(&f, 3, 3 * bs, 2 * bs)?;
        drop_caches()?;
        check_pattern(&g, 1, 0, 40 * bs)?;
        check_pattern(&f, 3, 3 * bs, 2 * bs)?;
        let r = dedupe_range(&f, 0, 16 * MIB, &g, 0);
        ensure_errno!(r, Errno::INVAL, "past the end");
        drop((f, g));
        std::fs::remove_file(m.path("f"))?;
        std::fs::remove_file(m.path("g"))?;
        m.sync()?;
        ensure_eq!(m.space()?.free, start, "free blocks");
        Ok(())
    })
}

/// Where the last block of the source may go.
fn clones_of_the_end(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 3 * bs + 7)?;
        let g = open(&m.path("g"))?;
        write_pattern(&g, 2, 0, 8 * bs)?;
        // Nothing up to the end: nothing happens.
        clone_file(&g, &open(&m.path("empty"))?)?;
        ensure_eq!(g.metadata()?.len(), 8 * bs, "size after a clone of nothing");
        let r = clone_range(&g, &f, 2 * bs, 0, 4 * bs);
        ensure_errno!(r, Errno::INVAL, "an end into the middle");
        check_pattern(&g, 2, 0, 8 * bs)?;
        clone_range(&g, &f, 2 * bs, 0, 7 * bs)?;
        ensure_eq!(g.metadata()?.len(), 8 * bs + 7, "size");
        compare(
            "end",
            &read_at(&g, 7 * bs, bs as usize + 7)?,
            &patterned(1, 2 * bs, bs as usize + 7),
        )?;
        // Past the end, over a gap that starts in the middle of a block.
        clone_range(&g, &f, 0, 0, 20 * bs)?;
        for _ in 0..2 {
            check_zero(&g, 8 * bs + 7, 12 * bs - 7)?;
            compare(
                "moved",
                &read_at(&g, 20 * bs, 3 * bs as usize + 7)?,
                &patterned(1, 0, 3 * bs as usize + 7),
            )?;
            ensure_eq!(g.metadata()?.len(), 23 * bs + 7, "size");
            drop_caches()?;
        }
        // What was past the end of the source does not show.
        g.set_len(24 * bs)?;
        check_zero(&g, 23 * bs + 7, bs - 7)?;
        let r = clone_range(&f, &f, 0, 2 * bs, bs);
        ensure_errno!(r, Errno::INVAL, "overlap");
        check_pattern(&f, 1, 0, 3 * bs + 7)
    })
}

/// A file of many extents: reads of it go on during the clone, writes wait, and a kill stops it.
fn many_extents(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        m.sync()?;
        let start = m.space()?.free;
        let count = 3000u64;
        let f = open(&m.path("f"))?;
        let block = |i: u64| (i + 1).to_le_bytes().repeat(bs as usize / 8);
        for i in 0..count {
            f.write_all_at(&block(i), 2 * i * bs)?;
        }
        f.sync_all()?;
        let done = AtomicBool::new(false);
        // Odd while a clone is made.
        let turn = AtomicU64::new(0);
        let reads = AtomicU64::new(0);
        let g = std::thread::scope(|s| -> Result<File> {
            let reader = s.spawn(|| -> Result {
                let f = open(&m.path("f"))?;
                let mut n = 0;
                while !done.load(Ordering::Relaxed) {
                    let i = n * 37 % count;
                    let now = turn.load(Ordering::SeqCst);
                    compare("read", &read_at(&f, 2 * i * bs, bs as usize)?, &block(i))?;
                    if now % 2 == 1 && turn.load(Ordering::SeqCst) == now {
                        reads.fetch_add(1, Ordering::SeqCst);
                    }
                    n += 1;
                }
                Ok(())
            });
            let writer = s.spawn(|| -> Result {
                let map = Map::new(&open(&m.path("f"))?, 0, bs as usize)?;
                while !done.load(Ordering::Relaxed) {
                    // The same as what is there.
                    map.write(0, &block(0)[..64]);
                    std::thread::yield_now();
                }
                Ok(())
            });
            let clone = || -> Result<File> {
                let _ = std::fs::remove_file(m.path("g"));
                let g = open(&m.path("g"))?;
                turn.fetch_add(1, Ordering::SeqCst);
                let result = clone_file(&g, &f);
                turn.fetch_add(1, Ordering::SeqCst);
                result.map(|()| g)
            };
            // With one processor the reader does not always get its turn during the first.
            let mut g = clone();
            for _ in 0..20 {
                if g.is_err() || reader.is_finished() || reads.load(Ordering::SeqCst) > 0 {
                    break;
                }
                g = clone();
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap_or(Err("the reader panicked".into()))?;
            writer.join().unwrap_or(Err("the writer panicked".into()))?;
            g
        })?;
        let reads = reads.into_inner();
        ensure!(reads > 0, "no read went on");
        write_pattern(&f, 7, 0, 10 * bs)?;
        drop_caches()?;
        for i in (0..count).step_by(7) {
            compare("clone", &read_at(&g, 2 * i * bs, bs as usize)?, &block(i))?;
        }
        // The store by map fills the holes of its folio: with blocks beside the old ones if it came before
        // the clone, with one run for all of it if it came after.
        let behind = extents(&g)?.iter().filter(|e| e.logical >= MIB).count() as u64;
        let want = count - MIB / (2 * bs);
        ensure_eq!(behind, want, "extents of the clone behind the first MiB");
        // Killed on the way: a part is there, and it is a part of the source.
        let dst = m.path("h");
        let cp = std::process::Command::new(std::env::current_exe()?)
            .arg("--clone")
            .args([m.path("g"), dst.clone()])
            .spawn();
        let mut cp = cp.ctx("spawn")?;
        while !std::fs::metadata(&dst).is_ok_and(|s| s.blocks() > 0) {
            if cp.try_wait()?.is_some() {
                break;
            }
            std::thread::yield_now();
        }
        let _ = cp.kill();
        cp.wait()?;
        let h = open(&dst)?;
        let size = h.metadata()?.len();
        for i in (0..size / (2 * bs)).step_by(11) {
            compare("part", &read_at(&h, 2 * i * bs, bs as usize)?, &block(i))?;
        }
        ktap::note(&format!(
            "{reads} reads during the clone; killed at {size} of {}",
            2 * count * bs
        ));
        drop((f, g, h));
        for name in ["f", "g", "h"] {
            std::fs::remove_file(m.path(name))?;
        }
        m.sync()?;
        ensure_eq!(m.space()?.free, start, "free blocks");
        Ok(())
    })
}

/// What an extent costs does not grow with their number. `CALF_SOAK=1` adds a million extents.
fn costs(env: &Env) -> Result {
    with_fs(env, &["-b", "1024"], "", |m| {
        let mut last = None;
        let soak = std::env::var_os("CALF_SOAK").map(|_| 1_000_000);
        for count in [2_000u64, 20_000].into_iter().chain(soak) {
            let f = open(&m.path("f"))?;
            for i in 0..count {
                f.write_all_at(&[7; 1024], 2 * i * 1024)?;
            }
            f.sync_all()?;
            let each = |t: Instant| t.elapsed().as_secs_f64() * 1e6 / count as f64;
            // The best of three, on a machine that does other things too.
            let mut clone = f64::INFINITY;
            for _ in 0..if count > 100_000 { 1 } else { 3 } {
                let _ = std::fs::remove_file(m.path("g"));
                let g = open(&m.path("g"))?;
                let t = Instant::now();
                clone_file(&g, &f)?;
                clone = clone.min(each(t));
            }
            let g = open(&m.path("g"))?;
            let t = Instant::now();
            fallocate(&g, FallocateFlags::COLLAPSE_RANGE, 0, 1024)?;
            let collapse = each(t);
            let t = Instant::now();
            fallocate(&g, FallocateFlags::INSERT_RANGE, 0, 1024)?;
            let insert = each(t);
            ensure_eq!(extents(&g)?.len() as u64, count - 1, "extents");
            drop((f, g));
            let t = Instant::now();
            std::fs::remove_file(m.path("g"))?;
            std::fs::remove_file(m.path("f"))?;
            let now = [clone, collapse, insert, each(t)];
            ktap::note(&format!(
                "{count} extents: clone, collapse, insert, unlink of both, us each: {now:.1?}"
            ));
            // Moving is so cheap that it is the journal that is measured.
            if let Some(few) = last {
                ensure!(
                    clone < few * 5.0,
                    "cloning an extent takes {clone:.1} us, was {few:.1}"
                );
            }
            last = Some(clone);
        }
        Ok(())
    })
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, what, src, dst] = args.as_slice() {
        if what == "--clone" {
            let done = open(dst.as_ref()).and_then(|d| clone_file(&d, &open(src.as_ref())?));
            return ExitCode::from(u8::from(done.is_err()));
        }
    }
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            mapped_over_shared,
            clones,
            clones_of_ranges,
            clones_of_the_end,
            copies,
            dedupe,
            preallocated_on_both_sides,
            many_owners,
            many_extents,
            costs,
            unshare_range,
        ],
        |_| {},
    )
}

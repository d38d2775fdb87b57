// SPDX-License-Identifier: GPL-2.0

//! fallocate: every mode, over dirty, written, preallocated and shared blocks.

use calf_vmlib::file::{
    check_pattern, check_zero, clone_file, compare, extent_bytes, extents, fallocate, open,
    patterned, punch, read_all, unshare, write_pattern,
};
use calf_vmlib::fs::{command, drop_caches, each_block_size as each, with_fs, Mounted};
use calf_vmlib::sys::{Map, FIEMAP_SHARED, FIEMAP_UNWRITTEN};
use calf_vmlib::{
    cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Fail, Result,
};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE;
const COLLAPSE: FallocateFlags = FallocateFlags::COLLAPSE_RANGE;
const INSERT: FallocateFlags = FallocateFlags::INSERT_RANGE;
const KEEP: FallocateFlags = FallocateFlags::KEEP_SIZE;
/// `FALLOC_FL_WRITE_ZEROES`.
const WRITE_ZEROES: FallocateFlags = FallocateFlags::from_bits_retain(0x80);

/// What a whole file should hold.
fn check(m: &Mounted, name: &str, want: &[u8]) -> Result {
    for cold in [false, true] {
        if cold {
            drop_caches()?;
        }
        compare(
            &format!("{name}, cold: {cold}"),
            &read_all(&m.path(name))?,
            want,
        )?;
    }
    Ok(())
}

fn preallocate(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        let start = m.space()?.free;
        fallocate(&f, FallocateFlags::empty(), 0, 4 * MIB)?;
        ensure_eq!(f.metadata()?.len(), 4 * MIB, "size");
        ensure!(f.metadata()?.blocks() * 512 >= 4 * MIB, "blocks");
        m.sync()?;
        ensure!(
            start - m.space()?.free >= 4 * MIB / m.space()?.bsize,
            "free blocks"
        );
        check_zero(&f, 0, 4 * MIB)?;
        let all = extents(&f)?;
        ensure_eq!(
            extent_bytes(&all, FIEMAP_UNWRITTEN),
            4 * MIB,
            "unwritten bytes"
        );
        write_pattern(&f, 5, MIB + 10, 70_000)?;
        f.sync_all()?;
        drop_caches()?;
        check_zero(&f, 0, MIB + 10)?;
        check_pattern(&f, 5, MIB + 10, 70_000)?;
        check_zero(&f, MIB + 70_010, 3 * MIB - 70_010)?;
        let written = 4 * MIB - extent_bytes(&extents(&f)?, FIEMAP_UNWRITTEN);
        ensure!(
            (70_000..70_000 + 3 * 65536).contains(&written),
            "{written} bytes are written"
        );
        // Beyond the end, without changing the size.
        fallocate(&f, FallocateFlags::KEEP_SIZE, 4 * MIB, MIB)?;
        ensure_eq!(f.metadata()?.len(), 4 * MIB, "size with KEEP_SIZE");
        ensure!(
            f.metadata()?.blocks() * 512 >= 5 * MIB,
            "blocks with KEEP_SIZE"
        );
        f.set_len(0)?;
        m.sync()?;
        ensure_eq!(f.metadata()?.blocks(), 0, "blocks after truncate");
        ensure_eq!(m.space()?.free, start, "free blocks after truncate");
        ensure_errno!(
            fallocate(&f, FallocateFlags::empty(), 0, 0),
            Errno::INVAL,
            "length 0"
        );
        Ok(())
    })
}

fn preallocate_over_dirty_data(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 3000, 300_000)?;
        fallocate(&f, FallocateFlags::empty(), 0, MIB)?;
        check_zero(&f, 0, 3000)?;
        check_pattern(&f, 1, 3000, 300_000)?;
        f.sync_all()?;
        drop_caches()?;
        check_zero(&f, 0, 3000)?;
        check_pattern(&f, 1, 3000, 300_000)?;
        check_zero(&f, 303_000, MIB - 303_000)
    })
}

fn punch_holes(env: &Env) -> Result {
    each(env, |m| {
        for sync in [false, true] {
            let f = open(&m.path("f"))?;
            write_pattern(&f, 1, 0, 2 * MIB)?;
            if sync {
                f.sync_all()?;
            }
            punch(&f, 300_001, 500_000)?;
            for _ in 0..2 {
                check_pattern(&f, 1, 0, 300_001)?;
                check_zero(&f, 300_001, 500_000)?;
                check_pattern(&f, 1, 800_001, 2 * MIB - 800_001)?;
                drop_caches()?;
            }
            let used = f.metadata()?.blocks() * 512;
            ensure!(
                used < 2 * MIB - 400_000,
                "{used} bytes are in use after the punch"
            );
            // The end of the file, and beyond.
            punch(&f, 2 * MIB - 1000, 10 * MIB)?;
            ensure_eq!(f.metadata()?.len(), 2 * MIB, "size");
            check_zero(&f, 2 * MIB - 1000, 1000)?;
            f.set_len(0)?;
        }
        Ok(())
    })
}

fn zero_ranges(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        for sync in [false, true] {
            let f = open(&m.path("f"))?;
            write_pattern(&f, 1, 0, 2 * MIB + 77)?;
            if sync {
                f.sync_all()?;
            }
            let mut want = patterned(1, 0, 2 * MIB as usize + 77);
            // Inside, within one block, over the end with and without a new size.
            for (flags, at, len) in [
                (ZERO, 300_001, 500_000),
                (ZERO, MIB + 10, 20),
                (ZERO | KEEP, 2 * MIB - 3000, 10_000),
                (ZERO, 2 * MIB - 5000, 20_001),
                (ZERO, 3 * MIB + 1, 4096),
            ] {
                fallocate(&f, flags, at, len)?;
                let end = (at + len) as usize;
                if !flags.contains(KEEP) {
                    want.resize(want.len().max(end), 0);
                }
                let end = end.min(want.len());
                want[at as usize..end].fill(0);
            }
            check(m, "f", &want)?;
            let all = extents(&f)?;
            let unwritten = extent_bytes(&all, FIEMAP_UNWRITTEN);
            ensure!(
                unwritten >= 500_000 - 2 * bs,
                "{unwritten} bytes are preallocated"
            );
            let used = f.metadata()?.blocks() * 512;
            ensure!(used >= 2 * MIB + 10_000, "{used} bytes are in use");
            // Nothing was mapped between the end and the last range.
            ensure!(used < 2 * MIB + 65536, "{used} bytes are in use");
            // What is zeroed can be written again.
            write_pattern(&f, 2, 400_000, 10_000)?;
            want[400_000..410_000].copy_from_slice(&patterned(2, 400_000, 10_000));
            check(m, "f", &want)?;
            f.set_len(0)?;
        }
        Ok(())
    })
}

/// Collapses and inserts against a copy in memory.
fn shifts(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        for sync in [false, true] {
            let f = open(&m.path("f"))?;
            let len = 3 * MIB as usize + 123;
            write_pattern(&f, 1, 0, len as u64)?;
            let mut want = patterned(1, 0, len);
            punch(&f, MIB, 65536)?;
            want[MIB as usize..MIB as usize + 65536].fill(0);
            fallocate(&f, KEEP, len as u64, MIB)?;
            if sync {
                f.sync_all()?;
            }
            let steps: [(FallocateFlags, u64, u64); 8] = [
                (COLLAPSE, 0, bs),
                (INSERT, 0, 4 * bs),
                (COLLAPSE, 200 * bs, 37 * bs),
                (INSERT, 17 * bs, 1000 * bs),
                // Takes the hole out again: the halves of an extent meet.
                (COLLAPSE, 17 * bs, 1000 * bs),
                (INSERT, 100 * bs, 3 * bs),
                (INSERT, MIB + 32 * bs, bs),
                (COLLAPSE, MIB, 20 * bs),
            ];
            for (what, at, len) in steps {
                // Some data is always dirty.
                write_pattern(&f, at, at + 100, 3 * bs)?;
                want[at as usize + 100..(at + 100 + 3 * bs) as usize].copy_from_slice(&patterned(
                    at,
                    at + 100,
                    3 * bs as usize,
                ));
                fallocate(&f, what, at, len)?;
                let (at, len) = (at as usize, len as usize);
                if what == COLLAPSE {
                    want.drain(at..at + len);
                } else {
                    want.splice(at..at, vec![0; len]);
                }
                compare(
                    &format!("{what:?} {at}+{len}"),
                    &read_all(&m.path("f"))?,
                    &want,
                )?;
            }
            // The last whole block before the end; then the file ends in the middle of one.
            let last = (want.len() as u64 - 1) / bs * bs;
            fallocate(&f, COLLAPSE, last - bs, bs)?;
            want.drain((last - bs) as usize..last as usize);
            fallocate(&f, INSERT, last - bs, bs)?;
            let at = (last - bs) as usize;
            want.splice(at..at, vec![0; bs as usize]);
            check(m, "f", &want)?;
            // Past the end everything reads as zeros after growth.
            let end = want.len();
            f.set_len(end as u64 + 100_000)?;
            want.resize(end + 100_000, 0);
            check(m, "f", &want)?;
            f.set_len(0)?;
        }
        Ok(())
    })
}

fn refusals(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 10 * bs + 5)?;
        for what in [COLLAPSE, INSERT] {
            for (at, len) in [(1, bs), (bs, 1), (bs / 2, bs), (bs, bs / 2), (11 * bs, bs)] {
                let r = fallocate(&f, what, at, len);
                ensure_errno!(r, Errno::INVAL, "{what:?} {at}+{len}");
            }
            let r = fallocate(&f, what | KEEP, 0, bs);
            ensure_errno!(r, Errno::OPNOTSUPP, "{what:?} with KEEP_SIZE");
        }
        let r = fallocate(&f, COLLAPSE, bs, 10 * bs);
        ensure_errno!(r, Errno::INVAL, "collapse up to the end");
        // The whole blocks below the largest size that C can express.
        let most = i64::MAX as u64 / bs * bs;
        let r = fallocate(&f, INSERT, bs, most - bs);
        ensure_errno!(r, Errno::FBIG, "insert past the largest size");
        let r = fallocate(&f, ZERO, most - bs, 2 * bs);
        ensure_errno!(r, Errno::FBIG, "zero past the largest size");
        // A preallocated block near the largest offset has no place to go.
        fallocate(&f, KEEP, most - 4 * bs, bs)?;
        let r = fallocate(&f, INSERT, bs, 8 * bs);
        ensure_errno!(
            r,
            Errno::INVAL,
            "insert below a block at the end of the world"
        );
        ensure_eq!(f.metadata()?.len(), 10 * bs + 5, "size after refusals");
        check_pattern(&f, 1, 0, 10 * bs + 5)?;
        let ro = File::open(m.path("f"))?;
        ensure_errno!(fallocate(&ro, ZERO, 0, bs), Errno::BADF, "read-only");
        Ok(())
    })
}

/// The source of a clone is the same after everything that is done to the clone, and the space of
/// both is free in the end.
fn on_shared_files(env: &Env) -> Result {
    for (bs, opts) in [
        ("4096", ""),
        ("1024", ""),
        ("4096", "always_cow"),
        ("1024", "always_cow"),
    ] {
        with_fs(env, &["-b", bs], opts, |m| {
            let bs = m.space()?.bsize;
            m.sync()?;
            let start = m.space()?.free;
            let len = 100 * bs as usize + 77;
            let f = open(&m.path("f"))?;
            write_pattern(&f, 1, 0, len as u64)?;
            let source = patterned(1, 0, len);
            let (at, n) = (10 * bs as usize + 5, 50 * bs as usize + 11);
            let (block, whole) = (10 * bs as usize, 50 * bs as usize);
            for what in [
                ZERO,
                ZERO | KEEP,
                COLLAPSE,
                INSERT,
                FallocateFlags::PUNCH_HOLE | KEEP,
                FallocateFlags::UNSHARE_RANGE,
                FallocateFlags::empty(),
            ] {
                let g = open(&m.path("g"))?;
                clone_file(&g, &f)?;
                let mut want = source.clone();
                // Part of the clone is staged already.
                write_pattern(&g, 2, 58 * bs + 1, 4 * bs)?;
                let dirty = 58 * bs as usize + 1;
                want[dirty..dirty + 4 * bs as usize].copy_from_slice(&patterned(
                    2,
                    dirty as u64,
                    4 * bs as usize,
                ));
                let (at, n) = match what {
                    COLLAPSE | INSERT => (block, whole),
                    _ => (at, n),
                };
                let r = fallocate(&g, what, at as u64, n as u64);
                match what {
                    COLLAPSE => drop(want.drain(at..at + n)),
                    INSERT => drop(want.splice(at..at, vec![0; n])),
                    _ if what.is_empty() || what == FallocateFlags::UNSHARE_RANGE => {}
                    _ => want[at..at + n].fill(0),
                }
                if what.is_empty() && opts == "always_cow" {
                    ensure_errno!(r, Errno::OPNOTSUPP, "preallocation");
                } else {
                    r?;
                }
                check(m, "g", &want).ctx(format!("{what:?}"))?;
                check(m, "f", &source).ctx(format!("source after {what:?}"))?;
                let shared = extent_bytes(&extents(&g)?, FIEMAP_SHARED);
                ensure!(shared > 0, "nothing is shared after {what:?}");
                drop(g);
                std::fs::remove_file(m.path("g"))?;
            }
            let g = open(&m.path("g"))?;
            clone_file(&g, &f)?;
            fallocate(&g, INSERT, 3 * bs, 5 * bs)?;
            unshare(&g, 0, 106 * bs)?;
            ensure_eq!(extent_bytes(&extents(&g)?, FIEMAP_SHARED), 0, "shared");
            drop((f, g));
            std::fs::remove_file(m.path("g"))?;
            std::fs::remove_file(m.path("f"))?;
            m.sync()?;
            ensure_eq!(m.space()?.free, start, "free blocks");
            Ok(())
        })
        .ctx(format!("block size {bs} {opts}"))?;
    }
    Ok(())
}

/// A map that was there before sees what moved.
fn under_a_map(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        let len = 64 * 4096;
        write_pattern(&f, 1, 0, len as u64)?;
        let mut want = patterned(1, 0, len);
        let map = Map::new(&f, 0, len)?;
        map.write(20 * 4096 + 7, b"written before");
        want[20 * 4096 + 7..][..14].copy_from_slice(b"written before");
        fallocate(&f, COLLAPSE, 4096, 8 * 4096)?;
        want.drain(4096..9 * 4096);
        map.write(20 * 4096 + 7, b"written after");
        want[20 * 4096 + 7..][..13].copy_from_slice(b"written after");
        fallocate(&f, INSERT, 2 * 4096, 4 * 4096)?;
        want.splice(2 * 4096..2 * 4096, vec![0; 4 * 4096]);
        map.write(3 * 4096, b"in the hole");
        want[3 * 4096..][..11].copy_from_slice(b"in the hole");
        fallocate(&f, ZERO, 30 * 4096 + 1, 3 * 4096)?;
        want[30 * 4096 + 1..33 * 4096 + 1].fill(0);
        map.write(31 * 4096, b"over zeros");
        want[31 * 4096..][..10].copy_from_slice(b"over zeros");
        compare("f", &read_all(&m.path("f"))?, &want)?;
        map.sync().ctx("msync")?;
        check(m, "f", &want)
    })
}

/// `FALLOC_FL_WRITE_ZEROES` on the usual disk, whether it can do that or not.
fn write_zeroes(env: &Env) -> Result {
    each(env, |m| zeroes_by_device(m).map(drop))
}

/// And on a disk that can: a disk of SCSI in memory.
fn write_zeroes_where_it_can(env: &Env) -> Result {
    let modprobe = |args: &[&str]| command(Command::new("modprobe").args(args));
    let settings = [
        "dev_size_mb=64",
        "lbpu=1",
        "lbpws=1",
        "lbpws10=1",
        "lbprz=1",
    ];
    let (sd, text) = modprobe(&["sd_mod"])?;
    let (debug, more) = modprobe(&[&["scsi_debug"][..], &settings].concat())?;
    if (sd, debug) != (0, 0) {
        return Err(Fail::skip(format!("no scsi_debug: {text} {more}")));
    }
    let find = || -> Option<PathBuf> {
        let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
        disks.map(|d| d.path()).find(|d| {
            std::fs::read_to_string(d.join("device/model")).is_ok_and(|m| m.trim() == "scsi_debug")
                && Path::new("/dev")
                    .join(d.file_name().unwrap_or_default())
                    .exists()
        })
    };
    let until = Instant::now() + Duration::from_secs(20);
    let disk = loop {
        match find() {
            Some(disk) => break disk,
            None => ensure!(Instant::now() < until, "no disk of scsi_debug"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let dev = Path::new("/dev").join(disk.file_name().unwrap_or_default());
    let result = each(&Env { dev, ..env.clone() }, |m| {
        ensure!(zeroes_by_device(m)?, "the disk cannot");
        Ok(())
    });
    let (status, text) = modprobe(&["-r", "scsi_debug"])?;
    result?;
    ensure_eq!(status, 0, "modprobe -r: {text}");
    Ok(())
}

/// Returns whether the disk can.
fn zeroes_by_device(m: &mut Mounted) -> Result<bool> {
    let bs = m.space()?.bsize;
    let f = open(&m.path("f"))?;
    write_pattern(&f, 1, 0, MIB + 5)?;
    let r = fallocate(&f, WRITE_ZEROES, 100_001, 2 * MIB);
    let limit = format!("/sys/block/{}/queue/write_zeroes_unmap_max_bytes", m.bdev());
    let can = std::fs::read_to_string(limit).is_ok_and(|t| t.trim() != "0");
    if !can {
        ensure_errno!(r, Errno::OPNOTSUPP, "write zeroes");
        return check_pattern(&f, 1, 0, MIB + 5).map(|()| false);
    }
    r?;
    let mut want = patterned(1, 0, MIB as usize + 5);
    want.resize(2 * MIB as usize + 100_001, 0);
    want[100_001..].fill(0);
    check(m, "f", &want)?;
    let all = extents(&f)?;
    ensure_eq!(extent_bytes(&all, FIEMAP_UNWRITTEN), 0, "unwritten bytes");
    let end = (want.len() as u64).div_ceil(bs) * bs;
    ensure_eq!(extent_bytes(&all, 0), end, "mapped bytes");
    Ok(true)
}

/// More than there is: what was found stays, and comes back.
fn too_much(env: &Env) -> Result {
    each(env, |m| {
        m.sync()?;
        let start = m.space()?;
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 65536)?;
        for (flags, at) in [(FallocateFlags::empty(), 0), (KEEP, 65536), (ZERO, 65536)] {
            let r = fallocate(&f, flags, at, 1 << 40);
            ensure_errno!(r, Errno::NOSPC, "{flags:?} of a terabyte");
            ensure_eq!(f.metadata()?.len(), 65536, "size after {flags:?}");
            let used = f.metadata()?.blocks() * 512 / start.bsize;
            ensure!(used > start.free / 2, "{used} blocks were found");
            f.set_len(65536)?;
            m.sync()?;
            let used = f.metadata()?.blocks() * 512;
            ensure_eq!(used, 65536, "bytes after truncate to the same size");
        }
        check_pattern(&f, 1, 0, 65536)?;
        // A full disk does not keep a file from being shifted.
        for i in 0..64 {
            write_pattern(&f, 1, (2 * i + 20) * start.bsize, start.bsize)?;
        }
        f.sync_all()?;
        let g = open(&m.path("g"))?;
        let r = fallocate(&g, KEEP, 0, 1 << 40);
        ensure_errno!(r, Errno::NOSPC, "the rest");
        let before = read_all(&m.path("f"))?;
        let bs = start.bsize as usize;
        fallocate(&f, INSERT, start.bsize, 7 * start.bsize)?;
        let mut want = before.clone();
        want.splice(bs..bs, vec![0; 7 * bs]);
        check(m, "f", &want)?;
        fallocate(&f, COLLAPSE, start.bsize, 7 * start.bsize)?;
        check(m, "f", &before)?;
        drop((f, g));
        std::fs::remove_file(m.path("f"))?;
        std::fs::remove_file(m.path("g"))?;
        m.sync()?;
        ensure_eq!(m.space()?.free, start.free, "free blocks");
        Ok(())
    })
}

/// A tree of several levels.
fn shifts_of_many_extents(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f = open(&m.path("f"))?;
        let count = 6000u64;
        fallocate(&f, FallocateFlags::empty(), 0, 2 * count * bs)?;
        for i in 0..count {
            // Every second block is written: unwritten and written extents take turns.
            let block = (2 * i).to_le_bytes().repeat(bs as usize / 8);
            std::os::unix::fs::FileExt::write_all_at(&f, &block, 2 * i * bs)?;
        }
        f.sync_all()?;
        let found = extents(&f)?.len() as u64;
        ensure!(found >= 2 * count - 1, "{found} extents");
        let want = read_all(&m.path("f"))?;
        let mut model = want.clone();
        for (what, at, n) in [
            (COLLAPSE, 1, 3),
            (INSERT, 2, 1000),
            (INSERT, 1501, 1),
            (COLLAPSE, 1200, 1201),
            (INSERT, 0, 1 << 20),
            (COLLAPSE, 0, 1 << 20),
        ] {
            fallocate(&f, what, at * bs, n * bs)?;
            if n == 1 << 20 {
                continue;
            }
            let (at, n) = ((at * bs) as usize, (n * bs) as usize);
            if what == COLLAPSE {
                model.drain(at..at + n);
            } else {
                model.splice(at..at, vec![0; n]);
            }
        }
        check(m, "f", &model)?;
        drop(f);
        m.cycle()?;
        check(m, "f", &model)
    })
}

/// A store by map makes a whole page dirty; what of it lies past EOF stays nothing when the file
/// grows in front of it. fsck looks at the end.
fn insert_before_a_stored_page(env: &Env) -> Result {
    with_fs(env, &["-b", "1024"], "", |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 18_807)?;
        f.sync_all()?;
        let map = Map::new(&f, 0, 20_480)?;
        map.write(17_717, b"moo!");
        drop(map);
        fallocate(&f, INSERT, 0, 20_480)?;
        f.sync_all()?;
        let end = extents(&f)?.last().map_or(0, |e| e.logical + e.length);
        ensure_eq!(end, 39 * 1024, "end of the last extent");
        let mut want = vec![0; 20_480];
        want.extend(patterned(1, 0, 18_807));
        want[20_480 + 17_717..][..4].copy_from_slice(b"moo!");
        check(m, "f", &want)
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            preallocate,
            preallocate_over_dirty_data,
            punch_holes,
            zero_ranges,
            shifts,
            refusals,
            on_shared_files,
            under_a_map,
            write_zeroes,
            write_zeroes_where_it_can,
            too_much,
            shifts_of_many_extents,
            insert_before_a_stored_page,
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Who uses which blocks: FIEMAP, SEEK, GETFSMAP, swap files.

use calf_vmlib::file::{
    clone_range, extents, fallocate, open, punch, seek_data, seek_hole, write_pattern,
};
use calf_vmlib::fs::{with_fs, Mounted};
use calf_vmlib::sys::{
    fibmap, fiemap, fiemap_count, fiemap_with, getfsmap, swapoff, swapon, FiemapExtent, Fsmap,
    FIEMAP_DELALLOC, FIEMAP_LAST, FIEMAP_SHARED, FIEMAP_UNWRITTEN, FSMAP_FREE, FSMAP_LAST,
    FSMAP_METADATA, FSMAP_SPECIAL, FSMAP_UNKNOWN,
};
use calf_vmlib::{
    cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Fail, Result,
};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// Each case runs with the smallest and the largest block size.
fn each(env: &Env, f: impl Fn(&mut Mounted) -> Result) -> Result {
    for bs in ["4096", "1024"] {
        with_fs(env, &["-b", bs], "", &f).ctx(format!("block size {bs}"))?;
    }
    Ok(())
}

/// Place and kind of extents, joined where only the place on the device parts them.
fn shape(all: &[FiemapExtent]) -> Vec<(u64, u64, u32)> {
    let mut out: Vec<(u64, u64, u32)> = Vec::new();
    let kinds = FIEMAP_DELALLOC | FIEMAP_SHARED | FIEMAP_UNWRITTEN;
    for e in all {
        let kind = e.flags & kinds;
        match out.last_mut() {
            Some(last) if last.0 + last.1 == e.logical && last.2 == kind => last.1 += e.length,
            _ => out.push((e.logical, e.length, kind)),
        }
    }
    out
}

/// Data on its way, preallocation, sharing of a part, the last one.
fn fiemap_kinds(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        ensure!(extents(&f)?.is_empty(), "extents of an empty file");
        write_pattern(&f, 1, 0, 256 * KIB)?;
        write_pattern(&f, 1, 512 * KIB, 128 * KIB)?;
        let staged = shape(&fiemap(&f, 0, u64::MAX, false).ctx("FIEMAP")?);
        let want = [
            (0, 256 * KIB, FIEMAP_DELALLOC),
            (512 * KIB, 128 * KIB, FIEMAP_DELALLOC),
        ];
        ensure_eq!(staged, want, "not written back");
        // FIEMAP_FLAG_SYNC.
        let synced = fiemap(&f, 0, u64::MAX, true).ctx("FIEMAP")?;
        let want = [(0, 256 * KIB, 0), (512 * KIB, 128 * KIB, 0)];
        ensure_eq!(shape(&synced), want, "written back");
        let (last, others) = synced.split_last().ok_or(Fail::new("no extents"))?;
        ensure!(last.flags & FIEMAP_LAST != 0, "the last one is not marked");
        ensure!(
            others.iter().all(|e| e.flags & FIEMAP_LAST == 0),
            "one in the middle is marked last"
        );
        // Preallocation, also behind the end of the file.
        fallocate(&f, FallocateFlags::KEEP_SIZE, MIB, 64 * KIB)?;
        // Dirty data over preallocation stays preallocation until it has been written.
        write_pattern(&f, 2, MIB, 8 * KIB)?;
        let want = [
            (0, 256 * KIB, 0),
            (512 * KIB, 128 * KIB, 0),
            (MIB, 64 * KIB, FIEMAP_UNWRITTEN),
        ];
        ensure_eq!(shape(&extents(&f)?), want, "preallocated");
        f.sync_all()?;
        // A part is shared.
        let g = open(&m.path("g"))?;
        clone_range(&g, &f, 64 * KIB, 32 * KIB, 0)?;
        let want = [
            (0, 64 * KIB, 0),
            (64 * KIB, 32 * KIB, FIEMAP_SHARED),
            (96 * KIB, 160 * KIB, 0),
            (512 * KIB, 128 * KIB, 0),
            (MIB, 8 * KIB, 0),
            (MIB + 8 * KIB, 56 * KIB, FIEMAP_UNWRITTEN),
        ];
        ensure_eq!(shape(&extents(&f)?), want, "a part is shared");
        // Overwriting shared data reports the old place until it has been written.
        write_pattern(&f, 3, 64 * KIB, 32 * KIB)?;
        ensure_eq!(shape(&extents(&f)?), want, "a shared part is dirty");
        f.sync_all()?;
        ensure_eq!(
            shape(&extents(&f)?)[0],
            (0, 256 * KIB, 0),
            "not shared any more"
        );
        // Only what was asked for.
        let part = shape(&fiemap(&f, 300 * KIB, 300 * KIB, false).ctx("FIEMAP")?);
        ensure_eq!(part, [(512 * KIB, 128 * KIB, 0)], "in the middle");
        ensure!(
            fiemap(&f, 2 * MIB, MIB, false).ctx("FIEMAP")?.is_empty(),
            "behind everything"
        );
        ensure_errno!(
            fiemap_with(&f, 0, u64::MAX, 0x8000_0000),
            Errno::BADR,
            "unknown flag"
        );
        Ok(())
    })
}

/// A file of many extents is reported as a whole, in pieces, and counted.
fn fiemap_many(env: &Env) -> Result {
    const N: u64 = 10_000;
    with_fs(env, &["-b", "1024"], "", |m| {
        let f = open(&m.path("f"))?;
        let block = [7u8; 1024];
        for i in 0..N {
            f.write_all_at(&block, i * 2048)?;
        }
        let many = |what: &str| -> Result {
            let all = extents(&f)?;
            ensure_eq!(all.len() as u64, N, "extents {what}");
            ensure_eq!(u64::from(fiemap_count(&f)?), N, "count {what}");
            for (i, e) in all.iter().enumerate() {
                let at = (i as u64 * 2048, 1024);
                ensure_eq!((e.logical, e.length), at, "extent {i} {what}");
            }
            Ok(())
        };
        many("before writing")?;
        f.sync_all()?;
        many("after writing")?;
        // SEEK steps through them.
        let mut at = 0;
        for i in 0..1000 {
            ensure_eq!(seek_data(&f, at)?, Some(i * 2048), "data");
            at = seek_hole(&f, i * 2048)?;
            ensure_eq!(at, i * 2048 + 1024, "hole");
        }
        Ok(())
    })
}

/// SEEK knows dirty and clean pages over preallocation and over holes.
fn seek(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        fallocate(&f, FallocateFlags::empty(), 0, MIB)?;
        ensure_eq!(seek_data(&f, 0)?, None, "preallocated only");
        ensure_eq!(seek_hole(&f, 0)?, 0, "preallocated only");
        // One dirty block in the middle.
        write_pattern(&f, 1, 256 * KIB, 4096)?;
        for written in [false, true] {
            if written {
                f.sync_all()?;
            }
            ensure_eq!(seek_data(&f, 0)?, Some(256 * KIB), "written {written}");
            ensure_eq!(seek_hole(&f, 256 * KIB)?, 260 * KIB, "written {written}");
            ensure_eq!(seek_data(&f, 260 * KIB)?, None, "written {written}");
        }
        // The same over a hole, and up to the end of the file.
        f.set_len(2 * MIB + 100)?;
        write_pattern(&f, 1, 2 * MIB, 100)?;
        for written in [false, true] {
            if written {
                f.sync_all()?;
            }
            ensure_eq!(
                seek_data(&f, MIB)?,
                Some(2 * MIB),
                "tail, written {written}"
            );
            ensure_eq!(
                seek_hole(&f, 2 * MIB)?,
                2 * MIB + 100,
                "tail, written {written}"
            );
        }
        ensure_errno!(seek_hole(&f, 2 * MIB + 100), Errno::NXIO, "at the end");
        punch(&f, 256 * KIB, 4096)?;
        ensure_eq!(seek_data(&f, 0)?, Some(2 * MIB), "punched");
        Ok(())
    })
}

/// All records, in calls of `batch`.
fn whole_map(dir: &File, batch: usize) -> Result<Vec<Fsmap>> {
    let mut all: Vec<Fsmap> = Vec::new();
    let mut low = Fsmap::default();
    loop {
        let (part, _) = getfsmap(dir, low, Fsmap::MAX, batch).ctx("GETFSMAP")?;
        let Some(last) = part.last().copied() else {
            return Err(Fail::new("the end came without a last record"));
        };
        all.extend(part);
        if last.flags & FSMAP_LAST != 0 {
            return Ok(all);
        }
        low = last;
    }
}

fn fsmap(env: &Env) -> Result {
    each(env, |m| {
        let bs = m.space()?.bsize;
        let f = open(&m.path("f"))?;
        for i in 0..40 {
            write_pattern(&f, 1, i * 64 * KIB, 20 * KIB)?;
        }
        f.sync_all()?;
        for i in (0..40).step_by(3) {
            punch(&f, i * 64 * KIB, 20 * KIB)?;
        }
        m.sync()?;
        let dir = File::open(&m.mnt)?;
        let all = whole_map(&dir, 4096)?;
        let mut at = 0;
        for r in &all {
            ensure_eq!(r.physical, at, "the records leave nothing out");
            ensure!(r.length > 0 && r.length % bs == 0, "length of {r:?}");
            ensure!(r.flags & FSMAP_SPECIAL != 0 && r.offset == 0, "{r:?}");
            let owners = [FSMAP_FREE, FSMAP_UNKNOWN, FSMAP_METADATA];
            ensure!(owners.contains(&r.owner), "owner of {r:?}");
            at += r.length;
        }
        ensure_eq!(all[0].owner, FSMAP_METADATA, "the superblock");
        let sum = |owner| -> u64 {
            let mine = all.iter().filter(|r| r.owner == owner);
            mine.map(|r| r.length).sum::<u64>() / bs
        };
        let free = observe::counters(&m.bdev()).get("free").copied();
        if let Some(free) = free {
            ensure_eq!(sum(FSMAP_FREE), free as u64, "free blocks");
        }
        // The blocks of the file are unknown.
        for e in extents(&f)? {
            let holder = all.iter().find(|r| {
                r.physical <= e.physical && e.physical + e.length <= r.physical + r.length
            });
            ensure_eq!(holder.map(|r| r.owner), Some(FSMAP_UNKNOWN), "extent {e:?}");
        }
        // In small calls it is the same; without room only their number is told.
        ensure_eq!(whole_map(&dir, 3)?, all, "three at a time");
        ensure_eq!(whole_map(&dir, 1)?, all, "one at a time");
        let (none, n) = getfsmap(&dir, Fsmap::default(), Fsmap::MAX, 0).ctx("count")?;
        ensure!(none.is_empty(), "records without room");
        ensure_eq!(n as usize, all.len(), "number of records");
        // A part.
        let middle = all[all.len() / 2];
        let low = Fsmap {
            device: middle.device,
            physical: middle.physical,
            ..Fsmap::default()
        };
        let high = Fsmap {
            device: middle.device,
            physical: middle.physical + middle.length - 1,
            ..Fsmap::MAX
        };
        let (part, _) = getfsmap(&dir, low, high, 10).ctx("part")?;
        let want = Fsmap {
            flags: middle.flags | FSMAP_LAST,
            ..middle
        };
        ensure_eq!(part, [want], "one record");
        // Nothing behind the end, nothing on another device, keys that make no sense.
        let behind = Fsmap {
            device: middle.device,
            physical: 1 << 60,
            ..Fsmap::default()
        };
        let (part, n) = getfsmap(&dir, behind, Fsmap::MAX, 10).ctx("behind")?;
        ensure!(part.is_empty() && n == 0, "records behind the end");
        let refuse = |low, high, what: &str| -> Result {
            ensure_errno!(getfsmap(&dir, low, high, 10), Errno::INVAL, "{what}");
            Ok(())
        };
        let zero = Fsmap::default();
        refuse(Fsmap::MAX, zero, "keys the wrong way round")?;
        refuse(zero, zero, "equal keys")?;
        refuse(
            Fsmap {
                reserved: [0, 1, 0],
                ..zero
            },
            Fsmap::MAX,
            "reserved",
        )?;
        refuse(
            Fsmap {
                device: 0xfff_ffff,
                ..zero
            },
            Fsmap::MAX,
            "device",
        )?;
        refuse(
            zero,
            Fsmap {
                length: 4096,
                ..Fsmap::MAX
            },
            "length of the high key",
        )?;
        let odd = Fsmap {
            flags: FSMAP_SPECIAL,
            owner: 77,
            ..zero
        };
        refuse(odd, Fsmap::MAX, "owner")
    })
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Fail::new("a NUL in a path"))
}

/// Writes what `mkswap` writes.
fn mkswap(file: &File, len: u64) -> Result {
    let mut page = vec![0u8; 4096];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&((len / 4096 - 1) as u32).to_le_bytes());
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    file.write_all_at(&page, 0).ctx("swap header")
}

fn swap(env: &Env) -> Result {
    if !Path::new("/proc/swaps").exists() {
        return Err(Fail::skip("no swap in this kernel"));
    }
    const LEN: u64 = 8 * MIB;
    each(env, |m| {
        let path = m.path("swap");
        let c = c_path(&path)?;
        let f = open(&path)?;
        // With holes it is refused.
        f.set_len(LEN)?;
        mkswap(&f, LEN)?;
        ensure_errno!(swapon(&c), Errno::INVAL, "a file with holes");
        // Preallocated is good enough.
        fallocate(&f, FallocateFlags::empty(), 0, LEN)?;
        mkswap(&f, LEN)?;
        swapon(&c).ctx("swapon, preallocated")?;
        // Nobody may change it meanwhile.
        let busy = Errno::TXTBSY;
        ensure_errno!(f.write_at(b"x", 0), busy, "write");
        ensure_errno!(f.set_len(4096), busy, "truncate");
        ensure_errno!(punch(&f, 0, 4096), busy, "punch");
        let g = open(&m.path("g"))?;
        ensure_errno!(clone_range(&g, &f, 0, LEN, 0), busy, "clone from it");
        ensure_errno!(clone_range(&f, &g, 0, 0, 0), busy, "clone to it");
        ensure_errno!(fs::remove_file(&path), Errno::PERM, "unlink");
        ensure_errno!(swapon(&c), Errno::BUSY, "swapon again");
        swapoff(&c).ctx("swapoff")?;
        // Written, too; but not shared.
        write_pattern(&f, 1, 4096, LEN - 4096)?;
        swapon(&c).ctx("swapon, written")?;
        swapoff(&c).ctx("swapoff")?;
        f.sync_all()?;
        clone_range(&g, &f, 0, LEN, 0)?;
        ensure_errno!(swapon(&c), Errno::INVAL, "a shared file");
        drop(f);
        fs::remove_file(&path)?;
        Ok(())
    })?;
    with_fs(env, &[], "always_cow", |m| {
        let f = open(&m.path("swap"))?;
        write_pattern(&f, 1, 0, LEN)?;
        mkswap(&f, LEN)?;
        let c = c_path(&m.path("swap"))?;
        ensure_errno!(swapon(&c), Errno::INVAL, "under always_cow");
        Ok(())
    })
}

/// `FIBMAP` tells what `FIEMAP` tells, of blocks that a caller may write to.
fn fibmap_kinds(env: &Env) -> Result {
    each(env, |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 64 * KIB)?;
        write_pattern(&f, 1, 128 * KIB, 64 * KIB)?;
        let bs = m.space()?.bsize;
        let at = |f: &File, byte: u64| fibmap(f, (byte / bs) as u32).ctx("FIBMAP");
        // It writes back first.
        for byte in [0, 64 * KIB - bs, 128 * KIB, 192 * KIB - bs] {
            let got = u64::from(at(&f, byte)?) * bs;
            let all = extents(&f)?;
            let e = all
                .iter()
                .find(|e| e.logical <= byte && byte < e.logical + e.length)
                .ok_or(Fail::new("no extent"))?;
            ensure_eq!(got, e.physical + byte - e.logical, "place of byte {byte}");
        }
        ensure_eq!(at(&f, 64 * KIB)?, 0, "a hole");
        ensure_eq!(at(&f, MIB)?, 0, "behind the end");
        fallocate(&f, FallocateFlags::KEEP_SIZE, MIB, bs)?;
        ensure_eq!(at(&f, MIB)?, 0, "preallocated");
        let g = open(&m.path("g"))?;
        clone_range(&g, &f, 0, 64 * KIB, 0)?;
        ensure_eq!(at(&f, 0)?, 0, "a file that shares blocks");
        ensure_eq!(at(&g, 0)?, 0, "its clone");
        Ok(())
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![fiemap_kinds, fiemap_many, fibmap_kinds, seek, fsmap, swap],
        |_| {},
    )
}

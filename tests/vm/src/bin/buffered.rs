// SPDX-License-Identifier: GPL-2.0

//! The page cache: writes that must not wait, writes that must not stay, and what lies past EOF
//! in the last page, and promises on a full disk.

use calf_vmlib::file::{
    check_pattern, check_zero, clone_file, extent_bytes, extents, fallocate, open, patterned,
    read_at, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_way};
use calf_vmlib::observe;
use calf_vmlib::sys::{
    read_flags, sync_range, write_flags, write_into_the_void, Map, FIEMAP_DELALLOC, RWF_DONTCACHE,
    RWF_NOWAIT,
};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

const MIB: u64 = 1 << 20;

/// What is in memory is written without waiting; what is not, not at all.
fn without_waiting(env: &Env) -> Result {
    each_way(env, |m, _| {
        let path = m.path("f");
        let f = open(&path)?;
        write_pattern(&f, 1, 0, 256 * 1024)?;
        // The time stamps may need no change, but the first write after a while does.
        let data = patterned(2, 0, 256 * 1024);
        ensure_eq!(
            write_flags(&f, &data, 0, RWF_NOWAIT).ctx("overwrite")?,
            data.len(),
            "cached"
        );
        let end = 256 * 1024;
        let more = patterned(2, end, 65536);
        let n = write_flags(&f, &more, end, RWF_NOWAIT).ctx("append")?;
        ensure_eq!(n, more.len(), "appended: space is made certain in memory");
        check_pattern(&f, 2, 0, end + 65536)?;
        f.sync_all()?;
        let far = write_flags(&f, &more, 4 * MIB, RWF_NOWAIT);
        ensure_errno!(far, Errno::AGAIN, "past EOF, where a gap must be zeroed");
        ensure_eq!(f.metadata()?.len(), end + 65536, "size");
        // A part of a block that would have to be read.
        drop(f);
        drop_caches()?;
        let f = open(&path)?;
        let part = write_flags(&f, &[9; 100], 5000, RWF_NOWAIT);
        ensure_errno!(
            part,
            Errno::AGAIN,
            "a part of a block that is not in memory"
        );
        check_pattern(&f, 2, 0, end + 65536)?;
        // Now it is, and so are the nodes of the mapping.
        let part = write_flags(&f, &[9; 100], 5000, RWF_NOWAIT).ctx("a part of a cached block")?;
        ensure_eq!(part, 100, "a part of a cached block");
        check_pattern(&f, 2, 0, 5000)?;
        check_pattern(&f, 2, 5100, end + 65536 - 5100)
    })
}

/// `RWF_DONTCACHE`: what was written or read is not in the page cache afterwards.
fn not_to_stay(env: &Env) -> Result {
    each_way(env, |m, _| {
        let f = open(&m.path("f"))?;
        for (off, what) in [(0, "fresh"), (0, "again"), (MIB, "appended")] {
            let data = patterned(4, off, MIB as usize);
            let n = write_flags(&f, &data, off, RWF_DONTCACHE).ctx(what)?;
            ensure_eq!(n, data.len(), "{what}: bytes");
        }
        f.sync_all()?;
        let map = Map::new(&f, 0, 2 * MIB as usize)?;
        let left = map
            .resident()
            .ctx("mincore")?
            .iter()
            .filter(|p| **p)
            .count();
        ensure_eq!(left, 0, "pages that stay after a write");
        let mut buf = vec![0; 2 * MIB as usize];
        ensure_eq!(
            read_flags(&f, &mut buf, 0, RWF_DONTCACHE)?,
            buf.len(),
            "bytes read"
        );
        ensure!(buf == patterned(4, 0, buf.len()), "other data");
        let left = map
            .resident()
            .ctx("mincore")?
            .iter()
            .filter(|p| **p)
            .count();
        ensure_eq!(left, 0, "pages that stay after a read");
        Ok(())
    })
}

/// A store past EOF in the last page is not file data, however the file grows over it.
fn stores_past_eof(env: &Env) -> Result {
    each_way(env, |m, cow| {
        for old in ["hole", "data", "preallocated", "shared"] {
            if cow && old == "preallocated" {
                continue;
            }
            for how in ["truncate", "write", "fallocate", "direct", "mapped"] {
                for synced in [false, true] {
                    let what = format!("{old}, {how}, synced {synced}");
                    let path = m.path("f");
                    let _ = std::fs::remove_file(&path);
                    let f = open(&path)?;
                    match old {
                        "hole" => f.set_len(4096)?,
                        "preallocated" => {
                            fallocate(&f, FallocateFlags::empty(), 0, 4096)?;
                        }
                        _ => write_pattern(&f, 1, 0, 4096)?,
                    }
                    if old == "shared" {
                        f.sync_all()?;
                        let g = open(&m.path("g"))?;
                        clone_file(&g, &f)?;
                    }
                    f.set_len(1500)?;
                    let map = Map::new(&f, 0, 4096)?;
                    map.write(1400, &[7; 50]);
                    map.write(1500, &[8; 2596]);
                    if synced {
                        map.sync().ctx("msync")?;
                        map.write(2000, &[8; 1000]);
                    }
                    let end = 9000;
                    match how {
                        "truncate" => f.set_len(end)?,
                        "write" => f.write_all_at(&[1], end - 1)?,
                        "fallocate" if cow => f.set_len(end)?,
                        "fallocate" => fallocate(&f, FallocateFlags::empty(), 0, end)?,
                        "direct" => {
                            let d = calf_vmlib::file::open_direct(&path)?;
                            calf_vmlib::file::write_direct(&d, 2, 8192, 4096)?;
                        }
                        _ => {
                            f.set_len(end)?;
                            map.write(4000, &[0; 1]);
                        }
                    }
                    check_zero(&f, 1500, 8192 - 1500).ctx(format!("{what}: warm"))?;
                    f.sync_all()?;
                    drop(map);
                    drop_caches()?;
                    let f = open(&path)?;
                    check_zero(&f, 1500, 8192 - 1500).ctx(format!("{what}: cold"))?;
                    ensure!(
                        read_at(&f, 1400, 50)? == [7; 50],
                        "{what}: the store is lost"
                    );
                    if old == "shared" {
                        check_pattern(&open(&m.path("g"))?, 1, 0, 4096).ctx("the source")?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// Writeback of a part of what was written in one piece chooses and pins blocks for all of it; those that it
/// does not write to are free at once when the file gives them up.
fn a_part_of_a_claim(env: &Env) -> Result {
    each_way(env, |m, _| {
        let f = open(&m.path("f"))?;
        f.sync_all()?;
        let free = || -> Result<u64> {
            rustix::fs::syncfs(&f).ctx("syncfs")?;
            Ok(rustix::fs::fstatvfs(&f).ctx("statfs")?.f_bfree)
        };
        let before = free()?;
        write_pattern(&f, 1, 0, MIB)?;
        for part in [0, 3, 1] {
            sync_range(&f, part * 65536, 4096).ctx("sync_file_range")?;
        }
        // Nothing is mapped but what was written back, so that there is no commit to wait for.
        f.set_len(2 * 65536)?;
        let now = before - free()?;
        let most = (2 * 65536 / 1024) + 8;
        ensure!(now <= most, "{now} blocks in use");
        check_pattern(&f, 1, 0, 2 * 65536)?;
        f.set_len(0)?;
        ensure_eq!(free()?, before, "free blocks");
        Ok(())
    })
}

/// A write ends early while what it has written so far goes to disk: nothing is kept for the rest of it.
fn a_write_that_ends_early(env: &Env) -> Result {
    each_way(env, |m, _| {
        let data = patterned(1, 0, 2 * MIB as usize);
        for i in 0..12 {
            let f = open(&m.path(&format!("f{i}")))?;
            let done = AtomicBool::new(false);
            std::thread::scope(|s| {
                s.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let _ = sync_range(&f, 0, 4 * MIB);
                        std::thread::yield_now();
                    }
                });
                for _ in 0..3 {
                    let _ = write_into_the_void(&f, &data, 4 * MIB as usize, 0);
                }
                done.store(true, Ordering::Relaxed);
            });
            f.sync_all()?;
            m.sync()?;
            let (size, kept) = (f.metadata()?.len(), f.metadata()?.blocks() * 512);
            ensure!(kept <= size + 65536, "{kept} bytes on disk for {size}");
            let delayed = extent_bytes(&extents(&f)?, FIEMAP_DELALLOC);
            ensure_eq!(delayed, 0, "bytes without a place after fsync");
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
            without_waiting,
            not_to_stay,
            stores_past_eof,
            a_part_of_a_claim,
            a_write_that_ends_early
        ],
        |_| {},
    )
}

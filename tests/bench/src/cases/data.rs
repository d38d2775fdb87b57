// SPDX-License-Identifier: GPL-2.0

//! Through the page cache: write, overwrite, append, read, map.

use super::{check, check_stamp, make, shuffled, stamp, Case, BLOCK};
use crate::turn::Turn;
use calf_vmlib::error::Context;
use calf_vmlib::sys::Map;
use calf_vmlib::{file, Result};
use std::os::unix::fs::FileExt;

pub(super) const CASES: &[Case] = &[
    Case::new("write-4k", "write", write),
    Case::new("write-1m", "write", write_large).also_raw(),
    Case::new("overwrite-random-4k", "write", overwrite).also_raw(),
    Case::new("append-fsync-4k", "append+fsync", append),
    Case::new("overwrite-fdatasync-4k", "write+fdatasync", overwrite_sync),
    Case::new("read-cold", "128K", read_cold).also_raw(),
    Case::new("read-warm", "128K", read_warm),
    Case::new("read-random-cold", "4K", read_random_cold).also_raw(),
    Case::new("read-random-warm", "4K", read_random_warm),
    Case::new("map-write-random", "page", map_write),
    Case::new("write-two-files", "write", parallel),
];

/// Blocks of a file of 32 MiB.
const BLOCKS: u64 = 8192;
const READ: usize = 128 << 10;

/// Sequential, a block at a time, and fsync.
fn write(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    let f = file::open(&path)?;
    let mut buf = vec![b'w'; BLOCK as usize];
    t.measure(4096, move || {
        for i in 0..4096 {
            stamp(&mut buf, i);
            f.write_all_at(&buf, i * BLOCK).ctx("write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&path, 4096, |i| i)
}

/// The same by the megabyte.
fn write_large(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    let f = file::open(&path)?;
    let mut buf = vec![b'w'; 1 << 20];
    t.measure(64, move || {
        for i in 0..64 {
            stamp(&mut buf, i);
            f.write_all_at(&buf, i << 20).ctx("write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&path, 64 * 256, |i| match i % 256 {
        0 => i / 256,
        _ => u64::from_le_bytes([b'w'; 8]),
    })
}

fn overwrite(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    make(&path, BLOCKS)?;
    t.fresh()?;
    let f = file::open(&path)?;
    let order = shuffled(2048, BLOCKS);
    let mut want: Vec<u64> = (0..BLOCKS).collect();
    order.iter().for_each(|i| want[*i as usize] = 1 << 40 | i);
    let mut buf = vec![b'o'; BLOCK as usize];
    t.measure(2048, move || {
        for i in order {
            stamp(&mut buf, 1 << 40 | i);
            f.write_all_at(&buf, i * BLOCK).ctx("write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&path, BLOCKS, |i| want[i as usize])
}

fn append(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    let f = file::open(&path)?;
    let mut buf = vec![b'a'; BLOCK as usize];
    t.measure(128, move || {
        for i in 0..128 {
            stamp(&mut buf, i);
            f.write_all_at(&buf, i * BLOCK).ctx("write")?;
            f.sync_all().ctx("fsync")?;
        }
        Ok(())
    })?;
    check(&path, 128, |i| i)
}

/// Nothing but data changes.
fn overwrite_sync(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    make(&path, 128)?;
    t.fresh()?;
    let f = file::open(&path)?;
    let mut buf = vec![b'a'; BLOCK as usize];
    t.measure(128, move || {
        for i in shuffled(128, 128) {
            stamp(&mut buf, 1 << 40 | i);
            f.write_all_at(&buf, i * BLOCK).ctx("write")?;
            f.sync_data().ctx("fdatasync")?;
        }
        Ok(())
    })?;
    check(&path, 128, |i| 1 << 40 | i)
}

fn read_cold(t: &mut Turn, _: u64) -> Result {
    read(t, false)
}

fn read_warm(t: &mut Turn, _: u64) -> Result {
    read(t, true)
}

fn read(t: &mut Turn, warm: bool) -> Result {
    let path = t.path("f");
    make(&path, BLOCKS)?;
    t.fresh()?;
    if warm {
        check(&path, BLOCKS, |i| i)?;
    }
    let f = file::open(&path)?;
    let mut buf = vec![0; READ];
    let count = BLOCKS * BLOCK / READ as u64;
    t.measure(count, move || {
        for i in 0..count {
            f.read_exact_at(&mut buf, i * READ as u64).ctx("read")?;
            check_stamp(&buf, i * READ as u64 / BLOCK)?;
        }
        Ok(())
    })
}

fn read_random_cold(t: &mut Turn, _: u64) -> Result {
    read_random(t, false)
}

fn read_random_warm(t: &mut Turn, _: u64) -> Result {
    read_random(t, true)
}

fn read_random(t: &mut Turn, warm: bool) -> Result {
    let path = t.path("f");
    make(&path, BLOCKS)?;
    t.fresh()?;
    if warm {
        check(&path, BLOCKS, |i| i)?;
    }
    let f = file::open(&path)?;
    let order = shuffled(1024, BLOCKS);
    let mut buf = vec![0; BLOCK as usize];
    t.measure(1024, move || {
        for i in order {
            f.read_exact_at(&mut buf, i * BLOCK).ctx("read")?;
            check_stamp(&buf, i)?;
        }
        Ok(())
    })
}

/// A page here and there through a map, and msync.
fn map_write(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    make(&path, BLOCKS)?;
    t.fresh()?;
    let f = file::open(&path)?;
    let map = Map::new(&f, 0, (BLOCKS * BLOCK) as usize).ctx("mmap")?;
    let order = shuffled(1024, BLOCKS);
    let mut want: Vec<u64> = (0..BLOCKS).collect();
    order.iter().for_each(|i| want[*i as usize] = 1 << 40 | i);
    t.measure(1024, move || {
        for i in order {
            map.write((i * BLOCK) as usize, &(1 << 40 | i).to_le_bytes());
        }
        map.sync().ctx("msync")?;
        drop(map);
        drop(f);
        Ok(())
    })?;
    check(&path, BLOCKS, |i| want[i as usize])
}

/// Two programs, a file each.
fn parallel(t: &mut Turn, _: u64) -> Result {
    let paths = [t.path("a"), t.path("b")];
    let files = [file::open(&paths[0])?, file::open(&paths[1])?];
    t.measure(4096, move || {
        let threads = files.map(|f| {
            std::thread::spawn(move || -> Result {
                let mut buf = vec![b'p'; BLOCK as usize];
                for i in 0..2048 {
                    stamp(&mut buf, i);
                    f.write_all_at(&buf, i * BLOCK).ctx("write")?;
                }
                f.sync_all().ctx("fsync")
            })
        });
        for thread in threads {
            thread.join().map_err(|_| "a writer panicked")??;
        }
        Ok(())
    })?;
    paths.iter().try_for_each(|p| check(p, 2048, |i| i))
}

// SPDX-License-Identifier: GPL-2.0

//! Size: a file of 1 TiB, a directory of 200,000 entries, a file of 200,000 extents. What one
//! operation costs must grow with the logarithm at most, so the first operations are compared with
//! the last.
//!
//! `CALF_LARGE` sets another number of entries and extents.

use calf_vmlib::file::{
    check_pattern, check_zero, extents, fallocate, open, punch, seek_data, write_pattern,
};
use calf_vmlib::fs::{drop_caches, with_fs};
use calf_vmlib::rng::Rng;
use calf_vmlib::{cases, ensure, ensure_eq, ktap, observe, Context, Env, Result};
use rustix::fs::FallocateFlags;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::ExitCode;
use std::time::Instant;

/// A log over a tree of four levels adds levels, not factors; the rest is noise of a busy machine.
const GROWTH: f64 = 4.0;

fn count() -> Result<u64> {
    calf_vmlib::env::number("CALF_LARGE", 200_000)
}

/// Times equal parts of a long row of operations.
struct Pace {
    what: &'static str,
    part: u64,
    done: u64,
    start: Instant,
    parts: Vec<f64>,
}

impl Pace {
    fn new(what: &'static str, total: u64) -> Self {
        Pace {
            what,
            part: (total / 20).max(1),
            done: 0,
            start: Instant::now(),
            parts: Vec::new(),
        }
    }

    fn tick(&mut self) {
        self.done += 1;
        if self.done % self.part == 0 {
            self.parts.push(self.start.elapsed().as_secs_f64());
            self.start = Instant::now();
        }
    }

    /// Prints the times and fails when the end was much slower than the beginning.
    fn judge(self) -> Result {
        let us = |s: f64| s * 1e6 / self.part as f64;
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return Ok(());
        };
        let all: f64 = self.parts.iter().sum();
        ktap::note(&format!(
            "{}: {} in {all:.1} s; first {} {:.1} us each, last {:.1} us each",
            self.what,
            self.done,
            self.part,
            us(*first),
            us(*last),
        ));
        // The very first operations run before writeback has begun: take the slower of two parts.
        let base = self.parts.iter().take(2).copied().fold(f64::MAX, f64::max);
        ensure!(
            *last < base * GROWTH,
            "{}: the last operations take {:.1} us, the first {:.1} us",
            self.what,
            us(*last),
            us(base)
        );
        Ok(())
    }
}

fn sparse_file_of_1_tib(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        const TIB: u64 = 1 << 40;
        let f = open(&m.path("f"))?;
        f.set_len(TIB)?;
        let mut rng = Rng::new(5);
        let mut places: Vec<u64> = (0..2000).map(|_| rng.below(TIB / 8192) * 8192).collect();
        places.push(TIB - 8192);
        places.sort_unstable();
        places.dedup();
        let mut pace = Pace::new("write at random places of 1 TiB", places.len() as u64);
        for &p in &places {
            write_pattern(&f, 1, p, 4096)?;
            pace.tick();
        }
        pace.judge()?;
        f.sync_all()?;
        drop_caches()?;
        for &p in &places {
            check_pattern(&f, 1, p, 4096)?;
            check_zero(&f, p + 4096, 4096)?;
        }
        let mut at = 0;
        for &p in &places {
            ensure_eq!(seek_data(&f, at)?, Some(p), "next data from {at}");
            at = p + 4096;
        }
        ensure!(
            f.metadata()?.blocks() * 512 < 64 << 20,
            "a sparse file uses blocks"
        );
        f.set_len(TIB / 2)?;
        f.set_len(0)?;
        ensure_eq!(f.metadata()?.blocks(), 0, "blocks");
        // As large as the interface goes.
        let max = 8 * TIB;
        f.write_all_at(b"end", max)?;
        f.sync_all()?;
        ensure_eq!(f.metadata()?.len(), max + 3, "size");
        Ok(())
    })
}

fn directory_of_many(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let n = count()?;
        let free = m.space()?.free;
        let dir = m.path("d");
        fs::create_dir(&dir)?;
        let mut pace = Pace::new("create", n);
        for i in 0..n {
            File::create(dir.join(format!("entry-{i}"))).ctx(i)?;
            pace.tick();
        }
        pace.judge()?;
        let t = Instant::now();
        m.sync()?;
        ktap::note(&format!("sync: {:.1} s", t.elapsed().as_secs_f64()));
        let mut rng = Rng::new(1);
        let mut pace = Pace::new("stat", n / 4);
        for _ in 0..n / 4 {
            let i = rng.below(n);
            fs::metadata(dir.join(format!("entry-{i}"))).ctx(i)?;
            pace.tick();
        }
        pace.judge()?;
        let t = Instant::now();
        let seen = fs::read_dir(&dir)?.count() as u64;
        ktap::note(&format!("readdir: {:.1} s", t.elapsed().as_secs_f64()));
        ensure_eq!(seen, n, "entries");
        m.cycle()?;
        let t = Instant::now();
        ensure_eq!(
            fs::read_dir(&dir)?.count() as u64,
            n,
            "entries after a remount"
        );
        ktap::note(&format!(
            "readdir, cold: {:.1} s",
            t.elapsed().as_secs_f64()
        ));
        let mut pace = Pace::new("unlink", n);
        for i in 0..n {
            fs::remove_file(dir.join(format!("entry-{i}"))).ctx(i)?;
            pace.tick();
        }
        pace.judge()?;
        fs::remove_dir(&dir)?;
        m.sync()?;
        m.cycle()?;
        let end = m.space()?.free;
        // The roots of the global trees stay; a tree may keep a node or two.
        ensure!(
            free.abs_diff(end) <= 8,
            "free blocks: {free} before, {end} after"
        );
        Ok(())
    })
}

fn file_of_many_extents(env: &Env) -> Result {
    // Small blocks, so that the extents fit on the disk.
    with_fs(env, &["-b", "1024"], "", |m| {
        let n = count()?;
        let bs = 1024;
        let free = m.space()?.free;
        ensure!(free > n + n / 4, "the disk has only {free} blocks");
        let f = open(&m.path("f"))?;
        let mut pace = Pace::new("preallocate one block of two", n / 2);
        for i in 0..n / 2 {
            fallocate(&f, FallocateFlags::empty(), i * 2 * bs, bs)?;
            pace.tick();
        }
        pace.judge()?;
        let mut pace = Pace::new("write one block of two", n / 2);
        let t = Instant::now();
        for i in n / 2..n {
            f.write_all_at(&i.to_le_bytes().repeat(128), i * 2 * bs)?;
            pace.tick();
        }
        pace.judge()?;
        ktap::note(&format!("written: {:.1} s", t.elapsed().as_secs_f64()));
        f.sync_all()?;
        ktap::note(&format!(
            "written and synced: {:.1} s",
            t.elapsed().as_secs_f64()
        ));
        drop(f);
        m.cycle()?;
        let f = open(&m.path("f"))?;
        let t = Instant::now();
        let all = extents(&f)?;
        ktap::note(&format!(
            "FIEMAP of all: {:.1} s",
            t.elapsed().as_secs_f64()
        ));
        ensure!(all.len() as u64 >= n, "{} extents, expected {n}", all.len());
        let mut rng = Rng::new(2);
        let mut pace = Pace::new("read at random places", 20_000);
        for _ in 0..20_000 {
            let i = rng.below(n);
            let mut buf = [0u8; 8];
            f.read_exact_at(&mut buf, i * 2 * bs)?;
            let want = if i < n / 2 { 0 } else { i };
            ensure_eq!(u64::from_le_bytes(buf), want, "content of extent {i}");
            pace.tick();
        }
        pace.judge()?;
        let mut pace = Pace::new("punch at random places", 10_000);
        for _ in 0..10_000 {
            punch(&f, rng.below(n) * 2 * bs, bs)?;
            pace.tick();
        }
        pace.judge()?;
        drop(f);
        let t = Instant::now();
        fs::remove_file(m.path("f"))?;
        ktap::note(&format!("unlink: {:.1} s", t.elapsed().as_secs_f64()));
        m.sync()?;
        m.cycle()?;
        let end = m.space()?.free;
        ensure!(
            free.abs_diff(end) <= 8,
            "free blocks: {free} before, {end} after"
        );
        Ok(())
    })
}

/// The last byte that a file can have lies in a block that ends where no offset can be.
fn last_byte(env: &Env) -> Result {
    const LAST: u64 = i64::MAX as u64 - 1;
    for bs in ["1024", "4096"] {
        with_fs(env, &["-b", bs], "", |m| {
            let f = open(&m.path("f"))?;
            f.write_all_at(b"a", LAST)?;
            f.sync_all().ctx("fsync")?;
            ensure_eq!(f.metadata()?.len(), LAST + 1, "size");
            // The second write finds the block allocated.
            f.write_all_at(b"b", LAST - 1)?;
            f.sync_all().ctx("fsync")?;
            let g = open(&m.path("g"))?;
            fallocate(&g, FallocateFlags::empty(), LAST - 9999, 10_000).ctx("fallocate")?;
            g.write_all_at(b"c", LAST)?;
            drop((f, g));
            m.cycle()?;
            let (f, g) = (open(&m.path("f"))?, open(&m.path("g"))?);
            let mut buf = [9u8; 4];
            f.read_exact_at(&mut buf, LAST - 3)?;
            ensure_eq!(&buf, b"\0\0ba", "the end of the file");
            g.read_exact_at(&mut buf, LAST - 3)?;
            ensure_eq!(&buf, b"\0\0\0c", "the end of the preallocated file");
            ensure!(
                f.write_at(b"x", LAST + 1).is_err(),
                "a byte behind the last"
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            last_byte,
            sparse_file_of_1_tib,
            directory_of_many,
            file_of_many_extents
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Discards: FITRIM, `-o discard`, mkfs.calf.
//!
//! What was discarded is seen on a loop device over a sparse file in memory: the file loses blocks.

use calf_vmlib::file::{check_pattern, extents, open, punch, write_pattern};
use calf_vmlib::fs::{self as cfs, command, drop_caches, Mounted};
use calf_vmlib::rng::Rng;
use calf_vmlib::sys::{self, fitrim, Loop};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// Bytes of the device.
const SIZE: u64 = 64 * MIB;

/// A filesystem on a loop device over a sparse file in memory.
struct Sparse {
    file: PathBuf,
    dev: Loop,
}

impl Sparse {
    /// With what `content` gives the file.
    fn with(content: impl FnOnce(&File) -> Result) -> Result<Sparse> {
        let file = std::env::temp_dir().join("sparse.img");
        let f = File::create(&file)?;
        f.set_len(SIZE)?;
        content(&f)?;
        let dev = Loop::new(&file, SIZE).ctx("loop device")?;
        Ok(Sparse { file, dev })
    }

    fn new(env: &Env, mkfs: &[&str]) -> Result<Sparse> {
        let s = Sparse::with(|_| Ok(()))?;
        cfs::mkfs(env, &s.dev.path, mkfs)?;
        Ok(s)
    }

    /// Bytes of memory that the device uses, after what is dirty in its page cache was written.
    fn used(&self) -> Result<u64> {
        File::open(&self.dev.path)?.sync_all()?;
        Ok(fs::metadata(&self.file)?.blocks() * 512)
    }

    /// Bytes of a file of the filesystem that are in memory and not a hole there.
    fn held(&self, file: &File) -> Result<u64> {
        let under = File::open(&self.file)?;
        let mut sum = 0;
        for e in extents(file)? {
            let end = e.physical + e.length;
            let mut at = e.physical;
            while at < end {
                let hole = rustix::fs::seek(&under, SeekFrom::Hole(at))
                    .ctx("SEEK_HOLE")?
                    .min(end);
                sum += hole - at;
                at = match rustix::fs::seek(&under, SeekFrom::Data(hole)) {
                    Err(Errno::NXIO) => end,
                    data => data.ctx("SEEK_DATA")?,
                };
            }
        }
        Ok(sum)
    }

    fn mount(&self, env: &Env, opts: &str) -> Result<Mounted> {
        Mounted::new(&self.dev.path, &env.mnt, opts)
    }
}

impl Drop for Sparse {
    fn drop(&mut self) {
        // A file that stays only takes memory.
        let _ = fs::remove_file(&self.file);
    }
}

fn trim(env: &Env) -> Result {
    for bs in ["4096", "1024"] {
        let s = Sparse::new(env, &["-b", bs])?;
        let mut m = s.mount(env, "")?;
        let dir = File::open(&m.mnt)?;
        fitrim(&dir, 0, u64::MAX, 0).ctx("FITRIM")?;
        m.sync()?;
        let start = s.used()?;
        let keep = open(&m.path("keep"))?;
        write_pattern(&keep, 1, 0, 4 * MIB)?;
        let gone = open(&m.path("gone"))?;
        write_pattern(&gone, 2, 0, 8 * MIB)?;
        m.sync()?;
        // Not all of it is new: mkfs had zeroed a few blocks, which the pool kept from FITRIM.
        ensure_eq!(s.held(&keep)?, 4 * MIB, "bytes of a file held");
        ensure_eq!(s.held(&gone)?, 8 * MIB, "bytes of a file held");
        drop(gone);
        fs::remove_file(m.path("gone"))?;
        m.sync()?;
        let full = s.used()?;
        // A range that has nothing free, a minimum that nothing reaches.
        ensure_eq!(fitrim(&dir, 0, SIZE, 1 << 30), Err(Errno::INVAL), "minlen");
        let len = fitrim(&dir, 0, u64::MAX, 0).ctx("FITRIM")?;
        ensure!(len > SIZE - MIB && len <= SIZE, "FITRIM covers {len} bytes");
        let after = s.used()?;
        ensure!(
            after + 7 * MIB <= full,
            "{full} bytes before, {after} after FITRIM"
        );
        ensure!(
            after >= start + 4 * MIB,
            "FITRIM took data: {after} bytes left"
        );
        drop_caches()?;
        check_pattern(&keep, 1, 0, 4 * MIB)?;
        // Dirty data and open transactions while it runs.
        write_pattern(&keep, 3, MIB, MIB)?;
        fitrim(&dir, 0, u64::MAX, 0).ctx("FITRIM")?;
        drop_caches()?;
        check_pattern(&keep, 1, 0, MIB)?;
        check_pattern(&keep, 3, MIB, MIB)?;
        check_pattern(&keep, 1, 2 * MIB, 2 * MIB)?;
        ensure_errno!(fitrim(&dir, SIZE, MIB, 0), Errno::INVAL, "behind the end");
        ensure_errno!(fitrim(&dir, 0, 100, 0), Errno::INVAL, "less than a block");
        drop((keep, dir));
        m.umount()?;
        cfs::fsck(env, &s.dev.path)?;
    }
    Ok(())
}

/// Files with patterns come and go, FITRIM in between, the rest stays what it is.
fn churn(m: &mut Mounted, seed: u64, trim: bool) -> Result {
    let mut rng = Rng::new(seed);
    let mut files: Vec<(u64, u64)> = Vec::new();
    let path = |m: &Mounted, id: u64| m.path(&format!("f{id}"));
    for id in 0..100u64 {
        let len = rng.range(1, 600 * KIB);
        write_pattern(&open(&path(m, id))?, id, 0, len)?;
        files.push((id, len));
        while files.iter().map(|f| f.1).sum::<u64>() > 20 * MIB || rng.below(3) == 0 {
            let i = rng.below(files.len() as u64) as usize;
            let Some(&(id, _)) = files.get(i) else { break };
            fs::remove_file(path(m, id))?;
            files.swap_remove(i);
        }
        match rng.below(12) {
            0 if trim => {
                let start = rng.below(SIZE - MIB);
                let dir = File::open(&m.mnt)?;
                fitrim(&dir, start, rng.range(MIB, SIZE), 0).ctx("FITRIM")?;
            }
            1 => m.sync()?,
            2 => drop_caches()?,
            _ => {}
        }
    }
    for cold in [false, true] {
        if cold {
            m.cycle()?;
        }
        for &(id, len) in &files {
            check_pattern(&File::open(path(m, id))?, id, 0, len).ctx(format!("file {id}"))?;
        }
    }
    Ok(())
}

fn trim_random(env: &Env) -> Result {
    for (seed, bs) in [(1, "4096"), (2, "1024")] {
        let s = Sparse::new(env, &["-b", bs])?;
        let mut m = s.mount(env, "")?;
        churn(&mut m, seed, true)?;
        m.umount()?;
        cfs::fsck(env, &s.dev.path)?;
    }
    Ok(())
}

fn discard(env: &Env) -> Result {
    let s = Sparse::new(env, &[])?;
    let mut m = s.mount(env, "discard")?;
    let f = open(&m.path("f"))?;
    write_pattern(&f, 1, 0, 20 * MIB)?;
    m.sync()?;
    let full = s.used()?;
    punch(&f, 0, 16 * MIB)?;
    m.sync()?;
    // The worker has come to its end when nothing is pending; freezing waits for that.
    let dir = File::open(&m.mnt)?;
    sys::freeze(&dir).ctx("freeze")?;
    let after = s.used();
    sys::thaw(&dir).ctx("thaw")?;
    let after = after?;
    ensure!(
        after + 15 * MIB <= full,
        "{full} bytes before, {after} after"
    );
    check_pattern(&f, 1, 16 * MIB, 4 * MIB)?;
    // A full filesystem waits for blocks that are being discarded (B4).
    let g = open(&m.path("g"))?;
    for round in 0..3 {
        let avail = m.space()?.avail * m.space()?.bsize;
        let len = avail / 10 * 9;
        write_pattern(&g, 2, 0, len).ctx(format!("round {round}"))?;
        g.sync_all()?;
        g.set_len(0)?;
    }
    drop((f, g, dir));
    // Umount waits for the rest.
    m.umount()?;
    cfs::fsck(env, &s.dev.path)?;
    let s = Sparse::new(env, &["-b", "1024"])?;
    let mut m = s.mount(env, "discard")?;
    churn(&mut m, 3, false)?;
    m.umount()?;
    cfs::fsck(env, &s.dev.path)
}

/// A log that is played back up to a point in the past (dm-log-writes) shows what came later unless it
/// begins with a discard of everything: journal blocks of later transactions would be recovered.
fn mkfs_discards(env: &Env) -> Result {
    let s = Sparse::with(|f| write_pattern(f, 1, 0, SIZE))?;
    ensure_eq!(s.used()?, SIZE, "bytes in use at the start");
    let mkfs = |args: &str| -> Result<bool> {
        let mut mkfs = Command::new(env.tool("mkfs.calf"));
        let (status, text) = command(mkfs.arg(&s.dev.path).args(args.split_whitespace()))?;
        ktap::note(&format!("mkfs.calf {args}: {status} {text}"));
        Ok(status == 0)
    };
    ensure!(mkfs("-f -N")?, "mkfs.calf -N");
    ensure_eq!(s.used()?, SIZE, "bytes in use after mkfs.calf -N");
    ensure!(mkfs("-f -K")?, "mkfs.calf -K");
    let used = s.used()?;
    ensure!(used > SIZE * 3 / 4, "{used} bytes in use after -K");
    cfs::fsck(env, &s.dev.path)?;
    // What is there is not overwritten unasked; of a larger device the rest is not touched.
    ensure!(!mkfs("32M")?, "mkfs.calf without -f");
    ensure_eq!(s.used()?, used, "bytes in use after mkfs.calf without -f");
    ensure!(mkfs("-f 32M")?, "mkfs.calf of a part");
    // The journal is written, as in mkfs.xfs.
    let half = s.used()? - SIZE / 2;
    ensure!(half < SIZE / 4, "{half} bytes in use of those discarded");
    // mkfs.calf -K has zeroed the end.
    check_pattern(&File::open(&s.file)?, 1, SIZE / 2, SIZE / 2 - MIB)?;
    ensure!(mkfs("-f")?, "mkfs.calf");
    let used = s.used()?;
    ensure!(used < SIZE / 4, "{used} bytes in use after mkfs.calf");
    cfs::fsck(env, &s.dev.path)
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![trim, trim_random, discard, mkfs_discards],
        |_| {},
    )
}

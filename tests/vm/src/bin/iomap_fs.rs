// SPDX-License-Identifier: GPL-2.0

//! The checker module on other filesystems: a load on each, and what the checker says of it.
//!
//! One line `CALF-IOMAP <filesystem> ...` for each rule that fired, masked or not; docs/iomap-check.md
//! has the table (`scripts/iomap-check.py` writes it). What a filesystem is known for, and is right, is masked by
//! the module; so exactly what is a bug of it in Linux 7.3 must be reported.

use calf_vmlib::check::Checker;
use calf_vmlib::error::Context;
use calf_vmlib::fs::command;
use calf_vmlib::sys::Aligned;
use calf_vmlib::{ensure, file, fs, ktap, observe, Env, Fail, Result};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Buffered, mapped, holes, copies.
const FSX: &str = "\
flen = 1048576
[opsize]
max = 131072
[weights]
close_open = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 5
fsync = 0.3
fdatasync = 0.3
";
/// For those that can.
const FSX_HOLES: &str = "posix_fallocate = 3\npunch_hole = 5\ncopy_file_range = 2\n";

/// A filesystem and how to make one.
struct Kind {
    fs: &'static str,
    mkfs: &'static [&'static str],
    holes: bool,
    /// Rules that it breaks in Linux 7.3, and is wrong.
    wrong: &'static [&'static str],
}

const XFS: Kind = Kind {
    fs: "xfs",
    mkfs: &["mkfs.xfs", "-f", "-q"],
    holes: true,
    wrong: &[],
};
const EXT4: Kind = Kind {
    fs: "ext4",
    mkfs: &["mkfs.ext4", "-F", "-q"],
    holes: true,
    wrong: &[],
};
const BTRFS: Kind = Kind {
    fs: "btrfs",
    mkfs: &["mkfs.btrfs", "-f", "-q"],
    holes: true,
    wrong: &[],
};
const EXFAT: Kind = Kind {
    fs: "exfat",
    mkfs: &["mkfs.exfat"],
    holes: false,
    wrong: &[],
};
const EXT2: Kind = Kind {
    fs: "ext2",
    mkfs: &["mkfs.ext2", "-F", "-q"],
    holes: false,
    // `ext2_iomap_begin` says DIRTY for a write past the end and then clears all flags: a synchronous direct
    // write may return before its size is on disk.
    wrong: &["G13"],
};

/// Direct I/O of all shapes: over data, into a hole, past the end, synchronous.
fn direct(path: &Path) -> Result {
    let block = Aligned::from(&[b'd'; 16384]);
    let small = Aligned::from(&[b'e'; 4096]);
    let open = |flags: OFlags| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags((OFlags::DIRECT | flags).bits() as i32)
            .open(path)
            .ctx("open")
    };
    let f = open(OFlags::empty())?;
    for at in [0, 65536, 4096, 1 << 20] {
        f.write_all_at(&block, at).ctx("direct write")?;
    }
    let s = open(OFlags::DSYNC)?;
    s.write_all_at(&small, (1 << 20) + 16384)
        .ctx("synchronous")?;
    s.write_all_at(&small, 0).ctx("synchronous overwrite")?;
    // Anywhere in two megabytes: holes, data, and across their borders.
    for i in 0..200u64 {
        f.write_all_at(&block, i * 37 % 509 * 4096)
            .ctx("direct write anywhere")?;
    }
    let mut back = Aligned::from(&[0; 16384]);
    for at in [0, 4096, 32768, 65536, 1 << 20] {
        f.read_exact_at(&mut back, at).ctx("direct read")?;
    }
    Ok(())
}

/// A synchronous direct write to a file that ends inside a block that is there.
fn past_the_end(path: &Path) -> Result {
    std::fs::write(path, [b's'; 100])?;
    let f = OpenOptions::new()
        .write(true)
        .custom_flags((OFlags::DIRECT | OFlags::DSYNC).bits() as i32)
        .open(path)
        .ctx("open")?;
    rustix::fs::fsync(&f).ctx("fsync")?;
    f.write_all_at(&Aligned::from(&[b'e'; 4096]), 0)
        .ctx("synchronous past the end")
}

/// Preallocation, truncation, seeking, extents, clones, unshare: whatever the filesystem has.
fn others(dir: &Path) -> Result {
    let a = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(dir.join("a"))
        .ctx("create")?;
    a.write_all_at(&[b'x'; 100_000], 200_001).ctx("write")?;
    for (mode, at, len) in [
        (FallocateFlags::empty(), 1_000_000, 65536),
        (FallocateFlags::ZERO_RANGE, 210_000, 5000),
        (
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            220_000,
            9000,
        ),
    ] {
        // Not every filesystem has every mode.
        let _ = rustix::fs::fallocate(&a, mode, at, len);
    }
    rustix::fs::fsync(&a).ctx("fsync")?;
    for size in [2_000_003, 150_001, 500_000] {
        a.set_len(size).ctx("truncate")?;
    }
    let (status, text) = command(
        Command::new("cp")
            .args(["--reflink=auto", "--sparse=auto"])
            .arg(dir.join("a"))
            .arg(dir.join("b")),
    )?;
    ensure!(status == 0, "cp: {text}");
    let b = OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.join("b"))
        .ctx("open b")?;
    b.write_all_at(&[b'y'; 3000], 205_000).ctx("write to b")?;
    let _ = rustix::fs::fallocate(&b, FallocateFlags::UNSHARE_RANGE, 0, 500_000);
    let _ = file::extents(&b);
    rustix::fs::fsync(&b).ctx("fsync b")
}

/// Direct I/O and buffered writes that the oracle watches, and must not find fault with.
fn watched(c: &Checker, mnt: &Path) -> Result {
    c.write("oracle", "on")?;
    let path = mnt.join("direct");
    direct(&path)?;
    past_the_end(&mnt.join("short"))?;
    let f = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .ctx("open")?;
    // Over data, and into holes; what is read back may be in the page cache, extents are not.
    for i in 0..40u64 {
        f.write_all_at(&[b'w'; 5000], i * 53 % 509 * 4096 + i)
            .ctx("buffered write")?;
        if i % 4 == 0 {
            rustix::fs::fdatasync(&f).ctx("fdatasync")?;
        }
        // Not every filesystem has it.
        let _ = file::extents(&f);
    }
    rustix::fs::fsync(&f).ctx("fsync")?;
    let _ = file::extents(&f);
    let state = c.read("oracle")?;
    ktap::note(&format!("oracle {state}"));
    ensure!(state.starts_with("on "), "the oracle is {state}");
    c.write("oracle", "off")
}

fn load(env: &Env, kind: &Kind, mnt: &Path, ops: &str) -> Result {
    others(mnt)?;
    let conf = std::env::temp_dir().join("fsx.toml");
    let holes = if kind.holes { FSX_HOLES } else { "" };
    std::fs::write(&conf, format!("{FSX}{holes}"))?;
    let (status, text) = command(
        Command::new(env.tool("fsx"))
            .args(["-N", ops, "-S", "7", "-P"])
            .arg(std::env::temp_dir())
            .arg("-f")
            .arg(&conf)
            .arg(mnt.join("fsxfile")),
    )?;
    let tail: Vec<&str> = text.lines().rev().take(20).collect();
    ensure!(status == 0, "fsx exits with {status}:\n{}", tail.join("\n"));
    Ok(())
}

/// Who else has mounted the test disk: ext4 takes what is ext2 where the kernel is built without ext2 and with
/// `CONFIG_EXT4_USE_FOR_EXT2`, and has the name in /proc/filesystems too.
fn deputy(env: &Env, kind: &Kind) -> Result<Option<&'static str>> {
    let disk = std::fs::canonicalize(&env.dev).ctx("look for the disk")?;
    let mut at = PathBuf::from("/sys/fs/ext4");
    at.extend(disk.file_name());
    Ok((at.exists() && kind.fs != EXT4.fs).then_some(EXT4.fs))
}

/// Formats and mounts the test disk, runs `f`, unmounts. Skips where kernel or image lack it.
fn mounted(env: &Env, kind: &Kind, f: impl FnOnce(&Path) -> Result) -> Result {
    // Built in, or a module, or not there.
    let _ = command(Command::new("modprobe").arg(kind.fs));
    let known = std::fs::read_to_string("/proc/filesystems").ctx("/proc/filesystems")?;
    if !known
        .lines()
        .any(|l| l.split_whitespace().last() == Some(kind.fs))
    {
        return Err(Fail::skip(format!("the kernel has no {}", kind.fs)));
    }
    let (status, text) = command(
        Command::new(kind.mkfs[0])
            .args(&kind.mkfs[1..])
            .arg(&env.dev),
    )?;
    ensure!(status == 0, "{:?} exits with {status}:\n{text}", kind.mkfs);
    let none = MountFlags::empty();
    mount(&env.dev, &env.mnt, kind.fs, none, None).ctx("mount")?;
    let outcome = deputy(env, kind).and_then(|other| match other {
        Some(other) => Err(Fail::skip(format!("{other} mounts {} here", kind.fs))),
        None => f(&env.mnt),
    });
    fs::drop_caches()?;
    unmount(&env.mnt, UnmountFlags::empty()).ctx("umount")?;
    outcome
}

fn judge(env: &Env, kind: &Kind) -> Result {
    let c = Checker::load(env)?;
    mounted(env, kind, |mnt| {
        // What mkfs did to the device is another filesystem's story.
        c.reset()?;
        watched(&c, mnt)?;
        load(env, kind, mnt, "2000")
    })?;
    let events = c.events()?;
    ensure!(events["begin"] > 0, "no mapping was seen");
    let counts: Vec<String> = events.iter().map(|(k, n)| format!("{k}={n}")).collect();
    ktap::line(&format!(
        "CALF-IOMAP {} events {}",
        kind.fs,
        counts.join(" ")
    ));
    let reports = c.read("reports")?;
    let mut fired = Vec::new();
    for r in c.rules()? {
        if r.violations + r.masked > 0 {
            ktap::line(&format!(
                "CALF-IOMAP {} {} {} reported={} masked={}",
                kind.fs,
                r.name,
                if r.error { "error" } else { "warn" },
                r.violations,
                r.masked
            ));
            let with = format!(" {} ", r.name);
            if let Some(line) = reports.lines().find(|l| l.contains(&with)) {
                ktap::note(line);
            }
        }
        if r.violations > 0 {
            fired.push(r.name);
        }
    }
    let wrong = kind.wrong;
    ensure!(fired == wrong, "rules fired: {fired:?}, wanted {wrong:?}");
    Ok(())
}

fn xfs(env: &Env) -> Result {
    judge(env, &XFS)
}

fn ext4(env: &Env) -> Result {
    judge(env, &EXT4)
}

fn btrfs(env: &Env) -> Result {
    judge(env, &BTRFS)
}

fn exfat(env: &Env) -> Result {
    judge(env, &EXFAT)
}

fn ext2(env: &Env) -> Result {
    judge(env, &EXT2)
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        calf_vmlib::cases![xfs, ext4, btrfs, exfat, ext2],
        |_| {},
    )
}

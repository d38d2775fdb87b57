// SPDX-License-Identifier: GPL-2.0

//! Shutdown and freeze, and what the next mount finds: of a journal that was written, and of one that was not.

use calf_vmlib::device::{copy, raw};
use calf_vmlib::file::{check_pattern, fallocate, open, write_pattern};
use calf_vmlib::fs::{self as cfs, with_small, Mounted, SMALL};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::sys::{self, Aligned, Loop};
use calf_vmlib::xattr;
use calf_vmlib::{
    cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Fail, Result,
};
use rustix::fs::{ioctl_getflags, ioctl_setflags, setxattr, FallocateFlags, IFlags, XattrFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Seek;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The modes of `XFS_IOC_GOINGDOWN`.
const DEFAULT: u32 = 0;
const LOGFLUSH: u32 = 1;
const NOLOGFLUSH: u32 = 2;

fn go_down(m: &Mounted, mode: u32) -> Result {
    let dir = m.dir()?;
    sys::ioctl(&dir, sys::GOINGDOWN, &mut mode.to_le_bytes()).ctx("shutdown")?;
    Ok(())
}

/// What is on the device: marked clean, and must the journal be replayed?
fn state(dev: &Path) -> Result<(bool, bool)> {
    let dev = raw(dev, false)?;
    let mut block = Aligned::new(4096);
    dev.read_exact_at(&mut block, 0)?;
    let clean = block[140] & 1 != 0;
    let number = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
    let (bs, journal) = (1u64 << block[136], number(176));
    ensure_eq!(bs, 4096, "block size");
    dev.read_exact_at(&mut block, journal * bs)?;
    Ok((clean, block[28..32] != [0; 4]))
}

fn shutdown_modes(env: &Env) -> Result {
    for mode in [DEFAULT, LOGFLUSH, NOLOGFLUSH] {
        with_small(env, &[], "", |m| {
            let kept = open(&m.path("kept"))?;
            write_pattern(&kept, 1, 0, 300_000)?;
            kept.sync_all()?;
            let late = open(&m.path("late"))?;
            write_pattern(&late, 2, 0, 300_000)?;
            go_down(m, mode).ctx(format!("mode {mode}"))?;
            let mut b = [0; 16];
            ensure_errno!(open(&m.path("new")), Errno::IO, "create");
            ensure_errno!(kept.write_all_at(&[1], 0), Errno::IO, "write");
            ensure_errno!(kept.read_at(&mut b, 0), Errno::IO, "read");
            ensure_errno!(kept.sync_all(), Errno::IO, "fsync");
            // All of it in memory: names, pages, position.
            ensure_errno!(File::open(m.path("kept")), Errno::IO, "open");
            let null = File::options().write(true).open("/dev/null")?;
            let sent = rustix::fs::sendfile(&null, &kept, Some(&mut 0), 4096);
            ensure_errno!(sent, Errno::IO, "sendfile");
            ensure_errno!((&kept).rewind(), Errno::IO, "llseek");
            ensure_errno!(
                fs::read_dir(&m.mnt).and_then(|mut d| d.next().unwrap()),
                Errno::IO,
                "ls"
            );
            ensure_errno!(rustix::fs::syncfs(&kept), Errno::IO, "syncfs");
            ensure!(m.has_option("shutdown")?, "shown: {}", m.options()?);
            // Asked for again, nothing is wrong.
            go_down(m, mode)?;
            drop((kept, late));
            ensure_errno!(
                m.remount(true).and_then(|()| m.remount(false)),
                Errno::IO,
                "remount rw"
            );
            m.umount()?;
            let (clean, replay) = state(&m.dev)?;
            let whole = mode == DEFAULT;
            ensure_eq!(
                (clean, replay),
                (whole, !whole),
                "clean and replay of mode {mode}"
            );
            m.cycle()?;
            check_pattern(&open(&m.path("kept"))?, 1, 0, 300_000)?;
            if mode == DEFAULT {
                check_pattern(&open(&m.path("late"))?, 2, 0, 300_000)?;
            }
            ensure!(
                mode == NOLOGFLUSH || m.path("late").exists(),
                "committed name is lost"
            );
            ensure!(!m.path("new").exists(), "a name made after the shutdown");
            Ok(())
        })?;
    }
    Ok(())
}

fn shutdown_is_for_admins(env: &Env) -> Result {
    with_small(env, &[], "", |m| {
        let dir = m.dir()?;
        let e = sys::ioctl(&dir, sys::GOINGDOWN, &mut 7u32.to_le_bytes());
        ensure_errno!(e, Errno::INVAL, "unknown mode");
        let e = std::thread::scope(|s| {
            let t = s.spawn(|| {
                drop_capabilities()?;
                let down = sys::ioctl(&dir, sys::GOINGDOWN, &mut NOLOGFLUSH.to_le_bytes());
                let label = sys::ioctl(&dir, sys::SETFSLABEL, &mut [0; 256]);
                Ok::<_, Fail>((down, label))
            });
            t.join().unwrap()
        })?;
        ensure_errno!(e.0, Errno::PERM, "shutdown without privilege");
        ensure_errno!(e.1, Errno::PERM, "set a label without privilege");
        let e = sys::ioctl(&dir, 0x5aff, &mut [0; 4]);
        ensure_errno!(e, Errno::NOTTY, "unknown ioctl");
        open(&m.path("f")).map(drop)
    })
}

/// Of this thread.
fn drop_capabilities() -> Result {
    use rustix::thread::{set_capabilities, CapabilitySet, CapabilitySets};
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets).ctx("capset")
}

/// Writers that must not stop, until told: (stop, files written).
fn writers<R>(m: &Mounted, f: impl FnOnce(&AtomicU64) -> Result<R>) -> Result<R> {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|s| {
        for w in 0..3u64 {
            let (stop, count, dir) = (&stop, &count, m.path(&format!("w{w}")));
            s.spawn(move || {
                let mut i = 0;
                while !stop.load(Ordering::Relaxed) {
                    i += 1;
                    // After a shutdown everything fails, which is right.
                    let _ = write_some(&dir, w, i);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let r = f(&count);
        stop.store(true, Ordering::Relaxed);
        r
    })
}

fn write_some(dir: &Path, w: u64, i: u64) -> Result {
    fs::create_dir_all(dir)?;
    let (a, b) = (dir.join(format!("{}", i % 20)), dir.join("renamed"));
    let f = open(&a)?;
    write_pattern(&f, w, 0, 4096 * (i % 30))?;
    match i % 6 {
        0 => f.sync_all()?,
        1 => fs::rename(&a, &b)?,
        2 => fs::remove_file(&a)?,
        3 => f.set_len(5000)?,
        _ => {}
    }
    Ok(())
}

/// Waits until the writers have done `n` more files.
fn progress(count: &AtomicU64, n: u64) {
    let until = count.load(Ordering::Relaxed) + n;
    while count.load(Ordering::Relaxed) < until {
        std::thread::yield_now();
    }
}

fn shutdown_under_load(env: &Env) -> Result {
    for mode in [DEFAULT, LOGFLUSH, NOLOGFLUSH] {
        with_small(env, &[], "", |m| {
            writers(m, |count| {
                progress(count, 100);
                go_down(m, mode)?;
                progress(count, 10);
                Ok(())
            })?;
            m.cycle()?;
            open(&m.path("f")).map(drop)
        })?;
    }
    Ok(())
}

fn freeze_under_load(env: &Env) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    cfs::mkfs(env, &small.path, &[])?;
    let mut m = Mounted::new(&small.path, &env.mnt, "")?;
    let dir = m.dir()?;
    // Unlinked and open: an orphan in every image.
    let orphan = open(&m.path("orphan"))?;
    write_pattern(&orphan, 9, 0, 100_000)?;
    fs::remove_file(m.path("orphan"))?;
    writers(&m, |count| {
        for round in 0..4 {
            progress(count, 60);
            sys::ioctl(&dir, sys::FIFREEZE, &mut [0; 4]).ctx("freeze")?;
            let image = copy(&small.path, &env.scratch, SMALL).and_then(|()| state(&small.path));
            let again = sys::ioctl(&dir, sys::FIFREEZE, &mut [0; 4]);
            sys::ioctl(&dir, sys::FITHAW, &mut [0; 4]).ctx("thaw")?;
            ensure_eq!(image?, (true, false), "clean and replay while frozen");
            ensure_errno!(again, Errno::BUSY, "freeze twice");
            cfs::fsck(env, &env.scratch).ctx(format!("image of round {round}"))?;
        }
        Ok(())
    })?;
    check_pattern(&orphan, 9, 0, 100_000)?;
    drop((dir, orphan));
    m.umount()?;
    cfs::fsck(env, &small.path)?;
    // The last image is a filesystem like any other.
    let mut m = Mounted::new(&env.scratch, &env.mnt, "")?;
    write_pattern(&open(&m.path("f"))?, 1, 0, 100_000)?;
    m.umount()?;
    cfs::fsck(env, &env.scratch)
}

fn hash(dev: &Path) -> Result<u64> {
    let dev = raw(dev, false)?;
    let mut buf = Aligned::new(1 << 20);
    let mut h = 0u64;
    for at in (0..SMALL).step_by(buf.len()) {
        dev.read_exact_at(&mut buf, at)?;
        for w in buf.chunks_exact(8) {
            let w = u64::from_le_bytes(w.try_into().unwrap());
            h = (h.rotate_left(5) ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    Ok(h)
}

fn norecovery(env: &Env) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    cfs::mkfs(env, &small.path, &[])?;
    let mut m = Mounted::new(&small.path, &env.mnt, "")?;
    write_pattern(&open(&m.path("old"))?, 1, 0, 100_000)?;
    setxattr(m.path("old"), "user.a", b"1", XattrFlags::empty()).ctx("setxattr")?;
    fs::copy("/bin/true", m.path("true")).ctx("copy a program")?;
    m.cycle()?;
    let f = open(&m.path("new"))?;
    write_pattern(&f, 2, 0, 100_000)?;
    f.sync_all()?;
    drop(f);
    go_down(&m, NOLOGFLUSH)?;
    m.umount()?;
    ensure_eq!(state(&small.path)?, (false, true), "clean and replay");
    let before = hash(&small.path)?;
    ensure_errno!(m.cycle_with("norecovery"), Errno::INVAL, "norecovery rw");
    m.cycle_with("ro,norecovery")?;
    ensure!(m.has_option("norecovery")?, "shown: {}", m.options()?);
    let old = File::open(m.path("old"))?;
    check_pattern(&old, 1, 0, 100_000)?;
    ensure_eq!(xattr::list(&m.path("old"))?.len(), 1, "attributes");
    xattr::check(&m.path("old"), "user.a", b"1")?;
    sys::vfs::get_fsx(&old).ctx("FS_IOC_FSGETXATTR")?;
    drop(old);
    let status = Command::new(m.path("true")).status().ctx("execute")?;
    ensure!(status.success(), "a program: {status}");
    File::open(m.path("old"))?
        .sync_all()
        .ctx("fsync of a file that cannot change")?;
    ensure!(m.remount(false).is_err(), "remounted for writing");
    go_down(&m, NOLOGFLUSH)?;
    ensure_errno!(fs::read(m.path("old")), Errno::IO, "read after a shutdown");
    m.umount()?;
    ensure_eq!(
        hash(&small.path)?,
        before,
        "the device after a mount with norecovery"
    );
    // A device that cannot be written: not without norecovery.
    let dev = File::open(&small.path)?;
    sys::ioctl(&dev, sys::BLKROSET, &mut 1u32.to_le_bytes()).ctx("BLKROSET")?;
    ensure_errno!(
        m.cycle_with("ro"),
        Errno::ROFS,
        "replay on a read-only device"
    );
    m.cycle_with("ro,norecovery")?;
    check_pattern(&File::open(m.path("old"))?, 1, 0, 100_000)?;
    m.umount()?;
    sys::ioctl(&dev, sys::BLKROSET, &mut 0u32.to_le_bytes()).ctx("BLKROSET")?;
    m.cycle_with("ro")?;
    check_pattern(&File::open(m.path("new"))?, 2, 0, 100_000)?;
    m.umount()?;
    // Nothing to replay: good enough for a read-only device.
    m.cycle_with("")?;
    m.umount()?;
    sys::ioctl(&dev, sys::BLKROSET, &mut 1u32.to_le_bytes()).ctx("BLKROSET")?;
    m.cycle_with("ro")?;
    check_pattern(&File::open(m.path("new"))?, 2, 0, 100_000)?;
    m.umount()?;
    sys::ioctl(&dev, sys::BLKROSET, &mut 0u32.to_le_bytes()).ctx("BLKROSET")?;
    cfs::fsck(env, &small.path)
}

/// What was never committed is gone from memory too, although somebody holds the device open.
fn shutdown_leaves_nothing_behind(env: &Env) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    for bs in ["1024", "4096"] {
        cfs::mkfs(env, &small.path, &["-b", bs])?;
        let mut m = Mounted::new(&small.path, &env.mnt, "")?;
        m.sync()?;
        for i in 0..100 {
            fs::create_dir(m.path(&format!("dir{i}")))?;
        }
        go_down(&m, NOLOGFLUSH)?;
        m.umount()?;
        let mut cached = Aligned::new(1 << 20);
        let mut stored = Aligned::new(1 << 20);
        let (cache, device) = (open(&small.path)?, raw(&small.path, false)?);
        for at in (0..SMALL).step_by(1 << 20) {
            cache.read_exact_at(&mut cached, at)?;
            device.read_exact_at(&mut stored, at)?;
            ensure!(
                cached[..] == stored[..],
                "blocks of {bs}: memory and device differ behind {at}"
            );
        }
        cfs::fsck(env, &small.path)?;
    }
    Ok(())
}

/// Times that a lazytime mount keeps in memory reach the disk with `syncfs`.
fn lazytime(env: &Env) -> Result {
    with_small(env, &[], "lazytime", |m| {
        let path = m.path("f");
        let f = open(&path)?;
        write_pattern(&f, 1, 0, 4096)?;
        f.sync_all()?;
        let old = f.metadata()?;
        // Only times change: the block is in place, its size stays.
        cfs::next_stamp();
        write_pattern(&f, 2, 0, 4096)?;
        f.read_at(&mut [0; 10], 0)?;
        let new = f.metadata()?;
        ensure!(
            (old.mtime(), old.mtime_nsec()) < (new.mtime(), new.mtime_nsec()),
            "mtime did not move"
        );
        m.sync()?;
        drop(f);
        go_down(m, NOLOGFLUSH)?;
        m.cycle_with("")?;
        let now = fs::metadata(&path)?;
        let times = |s: &fs::Metadata| [s.mtime(), s.mtime_nsec(), s.atime(), s.atime_nsec()];
        ensure_eq!(times(&now), times(&new), "times");
        Ok(())
    })
}

/// What a synchronous mount has done is there after a crash.
fn synchronous(env: &Env) -> Result {
    with_small(env, &[], "", |m| {
        open(&m.path("f"))?;
        m.cycle_with("sync")?;
        ensure!(m.options()?.contains("sync"), "shown: {}", m.options()?);
        fs::create_dir(m.path("d"))?;
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        ensure!(m.path("d").exists(), "mkdir");
        fs::set_permissions(m.path("f"), fs::Permissions::from_mode(0o641))?;
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        ensure_eq!(fs::metadata(m.path("f"))?.mode() & 0o7777, 0o641, "chmod");
        let f = open(&m.path("f"))?;
        f.set_modified(std::time::UNIX_EPOCH)?;
        drop(f);
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        ensure_eq!(fs::metadata(m.path("f"))?.mtime(), 0, "utimes");
        fs::rename(m.path("f"), m.path("d/f"))?;
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        ensure!(m.path("d/f").exists(), "rename");
        let f = open(&m.path("d/f"))?;
        fallocate(&f, FallocateFlags::empty(), 0, 50_000)?;
        drop(f);
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        ensure_eq!(fs::metadata(m.path("d/f"))?.len(), 50_000, "fallocate");
        setxattr(m.path("d/f"), "user.a", b"1", XattrFlags::empty()).ctx("setxattr")?;
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        ensure_eq!(xattr::names(&m.path("d/f"))?, [b"user.a"], "attributes");
        ioctl_setflags(File::open(m.path("d/f"))?, IFlags::NODUMP).ctx("FS_IOC_SETFLAGS")?;
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        let flags = ioctl_getflags(File::open(m.path("d/f"))?)?;
        ensure!(flags.contains(IFlags::NODUMP), "chattr");
        m.cycle_with("dirsync")?;
        fs::remove_file(m.path("d/f"))?;
        go_down(m, NOLOGFLUSH)?;
        m.cycle()?;
        ensure!(!m.path("d/f").exists(), "unlink under dirsync");
        Ok(())
    })
}

/// A truncation that was cut short goes on when the filesystem is mounted again. If it was too fast, the next file has more
/// pieces.
fn truncation_is_finished(env: &Env) -> Result {
    const MOST: u64 = 24_000;
    with_small(env, &["-b", "1024"], "", |m| {
        let path = m.path("f");
        let mut pieces = 6000;
        for _ in 0..20 {
            let f = open(&path)?;
            for i in 0..pieces {
                f.write_all_at(&[1; 1024], 2048 * i)?;
            }
            f.sync_all()?;
            let full = f.metadata()?.blocks();
            ensure!(full >= 2 * pieces, "{full} sectors");
            let done = AtomicBool::new(false);
            let result = std::thread::scope(|s| -> Result<std::io::Result<()>> {
                let truncate = s.spawn(|| {
                    let result = f.set_len(1024);
                    done.store(true, Ordering::SeqCst);
                    result
                });
                while f.metadata()?.blocks() == full && !done.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                go_down(m, LOGFLUSH)?;
                Ok(truncate.join().expect("truncate panicked"))
            })?;
            drop(f);
            m.cycle()?;
            let now = fs::metadata(&path)?;
            if result.is_ok() {
                pieces = MOST.min(2 * pieces);
                continue;
            }
            ensure_eq!(now.len(), 1024, "size");
            ensure_eq!(now.blocks(), 2, "sectors");
            return Ok(());
        }
        Err(Fail::new("no truncation was cut short"))
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            shutdown_modes,
            shutdown_is_for_admins,
            shutdown_under_load,
            freeze_under_load,
            norecovery,
            shutdown_leaves_nothing_behind,
            lazytime,
            synchronous,
            truncation_is_finished,
            no_kernel_warning,
        ],
        |_| {},
    )
}

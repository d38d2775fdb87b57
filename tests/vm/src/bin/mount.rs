// SPDX-License-Identifier: GPL-2.0

//! Mounting: read-only, remount, statfs, busy, a second mount; what is left after a crash: the
//! journal is replayed, unlinked open files and half-done truncates are cleaned up.
//!
//! A crash is played by copying the device, while it is mounted, to the second disk, which is then
//! mounted like a device after a power failure.

use calf_vmlib::device::{copy, raw};
use calf_vmlib::file::{check_pattern, clone_file, open, write_pattern};
use calf_vmlib::fs::{self as cfs, with_fs, Mounted};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::sys::{Aligned, Loop};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

/// Bytes of the filesystem that is copied.
const SIZE: u64 = 128 << 20;

/// Formats a part of the device, runs `work` on it, "crashes" with everything open, and runs
/// `look` on what a mount of the copy shows.
fn crash(
    env: &Env,
    work: impl FnOnce(&mut Mounted) -> Result<Vec<File>>,
    look: impl FnOnce(&mut Mounted) -> Result,
) -> Result {
    let small = Loop::new(&env.dev, SIZE).ctx("loop device")?;
    cfs::mkfs(env, &small.path, &[])?;
    let mut m = Mounted::new(&small.path, &env.mnt, "")?;
    let open_files = work(&mut m)?;
    m.sync()?;
    copy(&small.path, &env.scratch, SIZE)?;
    drop(open_files);
    m.umount()?;
    drop(m);
    cfs::fsck(env, &small.path).ctx("the original")?;
    let mut m = Mounted::new(&env.scratch, &env.mnt, "").ctx("the copy")?;
    look(&mut m)?;
    m.umount()?;
    drop(m);
    cfs::fsck(env, &env.scratch).ctx("the copy")
}

fn read_only(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        write_pattern(&open(&m.path("f"))?, 1, 0, 100_000)?;
        m.cycle_with("ro")?;
        check_pattern(&File::open(m.path("f"))?, 1, 0, 100_000)?;
        ensure_errno!(File::create(m.path("g")), Errno::ROFS, "create");
        ensure_errno!(fs::remove_file(m.path("f")), Errno::ROFS, "unlink");
        ensure_errno!(open(&m.path("f")), Errno::ROFS, "open for writing");
        Ok(())
    })
}

fn remount(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 1 << 20)?;
        ensure_errno!(
            m.remount(true),
            Errno::BUSY,
            "remount ro with a file open for writing"
        );
        drop(f);
        m.remount(true).ctx("remount ro")?;
        // What is on the disk now is a clean filesystem.
        cfs::fsck(env, &m.dev).ctx("remounted read-only")?;
        ensure_errno!(File::create(m.path("g")), Errno::ROFS, "create");
        m.remount(false).ctx("remount rw")?;
        write_pattern(&open(&m.path("g"))?, 2, 0, 1 << 20)?;
        m.cycle()?;
        check_pattern(&open(&m.path("f"))?, 1, 0, 1 << 20)?;
        check_pattern(&open(&m.path("g"))?, 2, 0, 1 << 20)
    })
}

fn statfs(env: &Env) -> Result {
    for bs in ["4096", "1024"] {
        with_fs(env, &["-b", bs], "", |m| {
            let a = m.space()?;
            ensure_eq!(a.bsize.to_string(), bs, "block size");
            ensure!(a.avail <= a.free && a.free < a.blocks, "{a:?}");
            let f = open(&m.path("f"))?;
            write_pattern(&f, 1, 0, 8 << 20)?;
            // A delayed allocation counts as used at once.
            let b = m.space()?;
            ensure!(
                a.free - b.free >= (8 << 20) / a.bsize,
                "free fell by {}",
                a.free - b.free
            );
            m.sync()?;
            let c = m.space()?;
            let used = a.free - c.free;
            let want = (8 << 20) / a.bsize;
            ensure!(
                (want..want + 20).contains(&used),
                "{used} blocks for {want}"
            );
            drop(f);
            fs::remove_file(m.path("f"))?;
            m.sync()?;
            m.sync()?;
            let d = m.space()?;
            ensure!(
                a.free.abs_diff(d.free) <= 2,
                "free: {} before, {} after",
                a.free,
                d.free
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn busy(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let f = open(&m.path("f"))?;
        let e = rustix::mount::unmount(&m.mnt, rustix::mount::UnmountFlags::empty());
        ensure_errno!(e, Errno::BUSY, "umount with an open file");
        ensure_errno!(
            fs::OpenOptions::new()
                .write(true)
                .custom_flags_excl()
                .open(&m.dev),
            Errno::BUSY,
            "exclusive open of a mounted device"
        );
        drop(f);
        Ok(())
    })
}

/// `O_EXCL` on a block device: fails when it is in use.
trait Exclusive {
    fn custom_flags_excl(&mut self) -> &mut Self;
}

impl Exclusive for fs::OpenOptions {
    fn custom_flags_excl(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.custom_flags(OFlags::EXCL.bits() as i32)
    }
}

fn garbage_is_refused(env: &Env) -> Result {
    cfs::mkfs(env, &env.dev, &[])?;
    let f = raw(&env.dev, true)?;
    let mut sector = Aligned::new(4096);
    f.read_exact_at(&mut sector, 0)?;
    let good = Aligned::from(&sector);
    for at in [0usize, 9, 20, 100, 200] {
        sector.copy_from_slice(&good);
        sector[at] ^= 0x40;
        f.write_all_at(&sector, 0)?;
        let e = Mounted::new(&env.dev, &env.mnt, "");
        ensure!(
            e.is_err(),
            "a superblock with byte {at} changed was mounted"
        );
    }
    f.write_all_at(&good, 0)?;
    Mounted::new(&env.dev, &env.mnt, "")?.umount()
}

fn journal_is_replayed(env: &Env) -> Result {
    crash(
        env,
        |m| {
            for i in 0..200 {
                fs::create_dir(m.path(&format!("d{i}")))?;
                write_pattern(&open(&m.path(&format!("d{i}/f")))?, i, 0, 20_000)?;
            }
            Ok(Vec::new())
        },
        |m| {
            for i in 0..200 {
                check_pattern(&open(&m.path(&format!("d{i}/f")))?, i, 0, 20_000)?;
            }
            Ok(())
        },
    )
}

fn unlinked_open_files(env: &Env) -> Result {
    let before = std::cell::Cell::new(0);
    crash(
        env,
        |m| {
            // The trees get the nodes they keep.
            for i in 0..50 {
                write_pattern(&open(&m.path(&format!("w{i}")))?, 1, 0, 50_000)?;
            }
            m.sync()?;
            for i in 0..50 {
                fs::remove_file(m.path(&format!("w{i}")))?;
            }
            m.sync()?;
            m.cycle()?;
            before.set(m.space()?.free);
            let mut open_files = Vec::new();
            let shared = open(&m.path("f0"))?;
            write_pattern(&shared, 1, 0, 1 << 20)?;
            for i in 1..50u64 {
                let f = open(&m.path(&format!("f{i}")))?;
                if i % 3 == 0 {
                    clone_file(&f, &shared)?;
                } else {
                    write_pattern(&f, i, 0, 50_000)?;
                }
                open_files.push(f);
            }
            open_files.push(shared);
            for i in 0..50 {
                fs::remove_file(m.path(&format!("f{i}")))?;
            }
            // Still whole while they are open.
            check_pattern(&open_files[0], 1, 0, 50_000)?;
            ensure!(
                m.space()?.free < before.get() - 256,
                "space of open files is free"
            );
            Ok(open_files)
        },
        |m| {
            ensure_eq!(fs::read_dir(&m.mnt)?.count(), 0, "entries");
            m.sync()?;
            let after = m.space()?.free;
            ensure_eq!(after, before.get(), "free blocks after the recovery");
            Ok(())
        },
    )
}

fn a_second_crash_in_recovery(env: &Env) -> Result {
    crash(
        env,
        |m| {
            let f = open(&m.path("gone"))?;
            write_pattern(&f, 1, 0, 1 << 20)?;
            write_pattern(&open(&m.path("kept"))?, 2, 0, 1 << 20)?;
            m.sync()?;
            fs::remove_file(m.path("gone"))?;
            Ok(vec![f])
        },
        |m| {
            // Mounted once already; mount again and again.
            for _ in 0..3 {
                m.cycle()?;
            }
            check_pattern(&open(&m.path("kept"))?, 2, 0, 1 << 20)?;
            ensure_errno!(File::open(m.path("gone")), Errno::NOENT, "the orphan");
            Ok(())
        },
    )
}

fn read_only_mount_of_a_crashed_device(env: &Env) -> Result {
    crash(
        env,
        |m| {
            write_pattern(&open(&m.path("f"))?, 1, 0, 1 << 20)?;
            Ok(Vec::new())
        },
        |m| {
            m.cycle_with("ro")?;
            check_pattern(&File::open(m.path("f"))?, 1, 0, 1 << 20)?;
            m.cycle_with("")
        },
    )
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            read_only,
            remount,
            statfs,
            busy,
            garbage_is_refused,
            journal_is_replayed,
            unlinked_open_files,
            a_second_crash_in_recovery,
            read_only_mount_of_a_crashed_device,
            no_kernel_warning,
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Growing a mounted filesystem.

use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::sys::{self, Loop};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::io::Errno;
use std::fs::{self, File};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

/// `EXT4_IOC_RESIZE_FS`.
const RESIZE_FS: u32 = 0x4008_6610;

fn grow(m: &Mounted, blocks: u64) -> std::result::Result<i32, Errno> {
    let dir = File::open(&m.mnt).map_err(|_| Errno::IO)?;
    sys::ioctl(&dir, RESIZE_FS, &mut blocks.to_le_bytes())
}

/// A filesystem with blocks of `bs` bytes on the first `bytes` bytes of a device of 160 MiB.
fn with_room(env: &Env, bs: u64, bytes: u64, f: impl FnOnce(&mut Mounted) -> Result) -> Result {
    let dev = Loop::new(&env.dev, 160 << 20).ctx("loop device")?;
    let (status, text) = cfs::command(
        Command::new(env.tool("mkfs.calf"))
            .args(["-f", "-b", &bs.to_string()])
            .arg(&dev.path)
            .arg(bytes.to_string()),
    )?;
    ensure!(status == 0, "mkfs.calf exits with {status}:\n{text}");
    let mut m = Mounted::new(&dev.path, &env.mnt, "")?;
    let done = ktap::guarded(|| f(&mut m));
    let umount = m.umount();
    drop(m);
    done?;
    umount?;
    cfs::fsck(env, &dev.path)
}

/// Fills the filesystem with one file, checks it, removes it; returns its size in bytes.
fn fill(m: &Mounted) -> Result<u64> {
    let f = open(&m.path("fill"))?;
    let mut done = 0;
    while write_pattern(&f, 5, done, 1 << 20).is_ok() {
        done += 1 << 20;
    }
    f.sync_all()?;
    check_pattern(&f, 5, 0, done)?;
    drop(f);
    fs::remove_file(m.path("fill"))?;
    m.sync()?;
    Ok(done)
}

/// The last group to a part, to its end, one more, several, all; after each step the new space can
/// be used.
fn by_steps(env: &Env) -> Result {
    for (bs, sizes) in [
        (1024, [21u64 << 20, 24 << 20, 30 << 20, 70 << 20, 160 << 20]),
        (4096, [49 << 20, 100 << 20, 128 << 20, 129 << 20, 160 << 20]),
    ] {
        let first = sizes[0] - (1 << 20);
        with_room(env, bs, first, |m| {
            let kept = open(&m.path("kept"))?;
            write_pattern(&kept, 1, 0, 3 << 20)?;
            let mut before = m.space()?;
            for bytes in sizes {
                let got = grow(m, bytes / bs);
                got.ctx(format!("to {bytes} bytes"))?;
                let after = m.space()?;
                ensure!(after.blocks > before.blocks, "{before:?}, then {after:?}");
                ensure!(after.free > before.free, "{before:?}, then {after:?}");
                before = after;
            }
            let most = fill(m)?;
            ensure!(most > 120 << 20, "only {most} bytes fit");
            check_pattern(&kept, 1, 0, 3 << 20)?;
            drop(kept);
            let space = m.space()?;
            m.cycle()?;
            ensure_eq!(m.space()?.blocks, space.blocks, "blocks after a mount");
            ensure_eq!(m.space()?.free, space.free, "free blocks after a mount");
            let again = fill(m)?;
            ensure!(
                again.abs_diff(most) <= 1 << 20,
                "{most} bytes, then {again}"
            );
            check_pattern(&open(&m.path("kept"))?, 1, 0, 3 << 20)
        })
        .ctx(format!("blocks of {bs} bytes"))?;
    }
    Ok(())
}

fn under_load(env: &Env) -> Result {
    with_room(env, 1024, 20 << 20, |m| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            for w in 0..3u64 {
                let (stop, dir) = (&stop, m.path(&format!("w{w}")));
                s.spawn(move || {
                    let mut i = 0;
                    while !stop.load(Ordering::Relaxed) {
                        i += 1;
                        // It may be full before it has grown.
                        let _ = fs::create_dir_all(&dir);
                        if let Ok(f) = open(&dir.join(format!("{}", i % 50))) {
                            let _ = write_pattern(&f, w, 0, 1000 * (i % 500));
                            let _ = f.set_len(1000 * (i % 30));
                        }
                    }
                });
            }
            let grown = (21..=60u64).step_by(3).try_for_each(|mib| -> Result {
                grow(m, mib << 10).ctx(format!("to {mib} MiB"))?;
                std::thread::yield_now();
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            grown
        })
    })
}

/// As if the power had failed right after the call, and at any point while it runs.
fn crashes(env: &Env) -> Result {
    const NOLOGFLUSH: u32 = 2;
    for round in 0..6u64 {
        with_room(env, 1024, 20 << 20, |m| {
            write_pattern(&open(&m.path("kept"))?, 1, 0, 1 << 20)?;
            m.sync()?;
            let dir = File::open(&m.mnt).ctx("open the mount point")?;
            let down = || sys::ioctl(&dir, sys::GOINGDOWN, &mut NOLOGFLUSH.to_le_bytes());
            let before = m.space()?.blocks;
            let grown = if round == 0 {
                let grown = grow(m, 0);
                down().ctx("shutdown")?;
                grown
            } else {
                std::thread::scope(|s| {
                    let t = s.spawn(|| grow(m, 0));
                    (0..1 << (2 * round)).for_each(|_| std::hint::spin_loop());
                    down().ctx("shutdown")?;
                    Ok::<_, calf_vmlib::Fail>(t.join().unwrap())
                })?
            };
            drop(dir);
            m.cycle()?;
            let after = m.space()?.blocks;
            // What was acknowledged is there.
            ensure!(grown.is_err() || after > before, "lost: {before}, {after}");
            check_pattern(&open(&m.path("kept"))?, 1, 0, 1 << 20)?;
            grow(m, 0).ctx("grow what is left")?;
            ensure!(m.space()?.blocks > before, "not grown");
            fill(m).map(drop)
        })
        .ctx(format!("round {round}"))?;
    }
    Ok(())
}

fn refused(env: &Env) -> Result {
    with_room(env, 4096, 48 << 20, |m| {
        let blocks = (48 << 20) / 4096;
        ensure_errno!(grow(m, blocks - 1), Errno::INVAL, "smaller");
        ensure_errno!(
            grow(m, (160 << 20) / 4096 + 1),
            Errno::INVAL,
            "beyond the device"
        );
        ensure_errno!(grow(m, u64::MAX), Errno::INVAL, "beyond everything");
        let same = m.space()?;
        grow(m, blocks).ctx("to the same size")?;
        ensure_eq!(m.space()?, same, "space");
        m.cycle_with("ro")?;
        ensure_errno!(grow(m, 0), Errno::ROFS, "read-only");
        m.cycle_with("")?;
        let tool = |arg: &[&str]| {
            cfs::command(Command::new(env.tool("calf-growfs")).arg(&m.mnt).args(arg))
        };
        let (status, text) = tool(&["1"])?;
        ensure!(
            status == 1 && text.contains("not possible"),
            "{status}: {text}"
        );
        let (status, text) = tool(&[])?;
        ensure!(status == 0, "{status}: {text}");
        ensure!(m.space()?.blocks > 3 * same.blocks, "{text}");
        Ok(())
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![by_steps, under_load, crashes, refused, no_kernel_warning],
        |_| {},
    )
}

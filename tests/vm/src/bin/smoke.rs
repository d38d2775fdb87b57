// SPDX-License-Identifier: GPL-2.0

//! Load, format, mount, write, read, unmount, check, unload; repeatedly.

use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self, with_fs, Mounted};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Env, Result};
use rustix::io::Errno;
use std::process::ExitCode;

fn load_and_unload(env: &Env) -> Result {
    if fs::registered() {
        fs::rmmod()?;
    }
    for _ in 0..5 {
        fs::insmod(env)?;
        ensure!(fs::registered(), "the type calf is not registered");
        fs::rmmod()?;
        ensure!(!fs::registered(), "the type calf is still registered");
    }
    fs::insmod(env)
}

fn mount_and_unmount(env: &Env) -> Result {
    fs::mkfs(env, &env.dev, &[])?;
    fs::fsck(env, &env.dev)?;
    for _ in 0..5 {
        Mounted::new(&env.dev, &env.mnt, "")?.umount()?;
        fs::fsck(env, &env.dev)?;
    }
    Ok(())
}

fn empty_root(env: &Env) -> Result {
    with_fs(env, &["-L", "smoke"], "", |m| {
        ensure_eq!(
            std::fs::read_dir(&m.mnt)?.count(),
            0,
            "entries in a new filesystem"
        );
        let s = m.space()?;
        ensure!(s.free > 0 && s.free < s.blocks, "statfs: {s:?}");
        Ok(())
    })
}

fn write_then_read(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let f = open(&m.path("file"))?;
        write_pattern(&f, 1, 0, 3 << 20)?;
        f.sync_all()?;
        check_pattern(&f, 1, 0, 3 << 20)?;
        drop(f);
        m.cycle()?;
        check_pattern(&open(&m.path("file"))?, 1, 0, 3 << 20)
    })
}

fn every_block_size(env: &Env) -> Result {
    for bs in ["1024", "2048", "4096"] {
        with_fs(env, &["-b", bs], "", |m| {
            ensure_eq!(m.space()?.bsize.to_string(), bs, "block size");
            let f = open(&m.path("file"))?;
            write_pattern(&f, 2, 100, 100_000)?;
            drop(f);
            m.cycle()?;
            check_pattern(&open(&m.path("file"))?, 2, 100, 100_000)
        })?;
    }
    Ok(())
}

fn unknown_options_are_refused(env: &Env) -> Result {
    fs::mkfs(env, &env.dev, &[])?;
    for o in ["nonsense", "bug=no_such_bug"] {
        ensure_errno!(
            Mounted::new(&env.dev, &env.mnt, o),
            Errno::INVAL,
            "mount -o {o}"
        );
    }
    Ok(())
}

fn unload_after_use(env: &Env) -> Result {
    for _ in 0..3 {
        with_fs(env, &[], "", |m| {
            write_pattern(&open(&m.path("file"))?, 3, 0, 1 << 20)
        })?;
        fs::rmmod()?;
        fs::insmod(env)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            load_and_unload,
            mount_and_unmount,
            empty_root,
            write_then_read,
            every_block_size,
            unknown_options_are_refused,
            unload_after_use,
            no_kernel_warning,
        ],
        |_| {},
    )
}

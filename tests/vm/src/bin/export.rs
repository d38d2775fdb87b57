// SPDX-License-Identifier: GPL-2.0

//! File handles: `name_to_handle_at` and `open_by_handle_at`, which NFS servers use in their way.

use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self as cfs, with_fs, Mounted};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::sys::{self, name_to_handle, open_by_handle, Handle};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

fn mount_of(m: &Mounted) -> Result<File> {
    File::open(&m.mnt).ctx("open the mount point")
}

fn handle(m: &Mounted, name: &str) -> Result<Handle> {
    name_to_handle(&m.path(name), false).ctx(format!("handle of {name}"))
}

fn path_of(f: &File) -> Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", f.as_raw_fd())).ctx("path of a file")
}

/// Files, directories, at any depth: with and without caches, after a mount, read-only.
fn opens(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let dirs = ["a", "a/b", "a/b/c", "a/b/c/d"];
        for d in dirs {
            fs::create_dir(m.path(d))?;
            write_pattern(
                &open(&m.path(&format!("{d}/f")))?,
                d.len() as u64,
                0,
                10_000,
            )?;
        }
        let all: Vec<(Handle, Handle)> = dirs
            .iter()
            .map(|d| Ok((handle(m, d)?, handle(m, &format!("{d}/f"))?)))
            .collect::<Result<_>>()?;
        let root = handle(m, "")?;
        let check = |m: &Mounted, when: &str| -> Result {
            let mnt = mount_of(m)?;
            for ((dir, file), name) in all.iter().zip(dirs).rev() {
                let f = open_by_handle(&mnt, file).ctx(format!("{name}/f {when}"))?;
                check_pattern(&f, name.len() as u64, 0, 10_000)?;
                let d = open_by_handle(&mnt, dir).ctx(format!("{name} {when}"))?;
                // A directory is connected up to the root, through parents not in memory.
                ensure_eq!(path_of(&d)?, m.path(name), "path {when}");
            }
            let r = open_by_handle(&mnt, &root).ctx("root")?;
            ensure_eq!(path_of(&r)?, m.mnt, "path of the root");
            Ok(())
        };
        check(m, "at once")?;
        cfs::drop_caches()?;
        check(m, "without caches")?;
        m.cycle()?;
        check(m, "after a mount")?;
        m.cycle_with("ro")?;
        check(m, "read-only")
    })
}

/// `FS_IOC_GETVERSION` is the generation, which a handle has too.
fn version(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        write_pattern(&open(&m.path("f"))?, 1, 0, 10)?;
        let mut generation = [0; 8];
        sys::ioctl(&open(&m.path("f"))?, sys::GETVERSION, &mut generation).ctx("GETVERSION")?;
        let (number, rest) = generation.split_at(4);
        ensure_eq!(rest, [0; 4], "an int is written");
        let of_handle = handle(m, "f")?;
        ensure!(
            of_handle.data.windows(4).any(|w| w == number),
            "{number:?} is not in {:?}",
            &of_handle.data[..16]
        );
        Ok(())
    })
}

fn unlinked(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let mnt = mount_of(m)?;
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 10_000)?;
        let h = handle(m, "f")?;
        fs::create_dir(m.path("d"))?;
        let dir = handle(m, "d")?;
        fs::remove_file(m.path("f"))?;
        fs::remove_dir(m.path("d"))?;
        // It is there as long as somebody has it open.
        check_pattern(
            &open_by_handle(&mnt, &h).ctx("unlinked, open")?,
            1,
            0,
            10_000,
        )?;
        drop(f);
        ensure_errno!(open_by_handle(&mnt, &h), Errno::STALE, "unlinked file");
        ensure_errno!(
            open_by_handle(&mnt, &dir),
            Errno::STALE,
            "removed directory"
        );
        drop(mnt);
        m.cycle()?;
        let mnt = mount_of(m)?;
        ensure_errno!(open_by_handle(&mnt, &h), Errno::STALE, "after a mount");
        Ok(())
    })
}

/// A number that is used again has another generation.
fn used_again(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        open(&m.path("f"))?;
        let (old, ino) = (handle(m, "f")?, fs::metadata(m.path("f"))?.ino());
        fs::remove_file(m.path("f"))?;
        m.cycle()?;
        open(&m.path("g"))?;
        ensure_eq!(
            fs::metadata(m.path("g"))?.ino(),
            ino,
            "number of the next file"
        );
        let mnt = mount_of(m)?;
        ensure_errno!(
            open_by_handle(&mnt, &old),
            Errno::STALE,
            "handle of the old file"
        );
        open_by_handle(&mnt, &handle(m, "g")?).ctx("handle of the new file")?;
        Ok(())
    })
}

fn renamed(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        fs::create_dir(m.path("a"))?;
        fs::create_dir(m.path("b"))?;
        fs::create_dir(m.path("a/d"))?;
        write_pattern(&open(&m.path("a/d/f"))?, 1, 0, 10_000)?;
        let (d, f) = (handle(m, "a/d")?, handle(m, "a/d/f")?);
        fs::rename(m.path("a/d"), m.path("b/e"))?;
        for _ in 0..2 {
            let mnt = mount_of(m)?;
            check_pattern(&open_by_handle(&mnt, &f).ctx("file")?, 1, 0, 10_000)?;
            let d = open_by_handle(&mnt, &d).ctx("directory")?;
            ensure_eq!(path_of(&d)?, m.path("b/e"), "path after the rename");
            drop((mnt, d));
            cfs::drop_caches()?;
        }
        Ok(())
    })
}

/// Handles that know the parent lead to a path.
fn connectable(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        fs::create_dir_all(m.path("a/b"))?;
        for i in 0..200 {
            open(&m.path(&format!("a/b/{i}")))?;
        }
        let h = name_to_handle(&m.path("a/b/77"), true).ctx("connectable handle")?;
        ensure_eq!(h.bytes, 24, "bytes of a connectable handle");
        let d = name_to_handle(&m.path("a/b"), true).ctx("connectable directory handle")?;
        cfs::drop_caches()?;
        let mnt = mount_of(m)?;
        let f = open_by_handle(&mnt, &h).ctx("open")?;
        ensure_eq!(path_of(&f)?, m.path("a/b/77"), "path of a file");
        ensure_eq!(
            path_of(&open_by_handle(&mnt, &d).ctx("dir")?)?,
            m.path("a/b"),
            "path"
        );
        drop(f);
        // Still below its parent, under another name.
        fs::rename(m.path("a/b/77"), m.path("a/b/x"))?;
        cfs::drop_caches()?;
        let f = open_by_handle(&mnt, &h).ctx("open after a rename")?;
        ensure_eq!(path_of(&f)?, m.path("a/b/x"), "path after a rename");
        Ok(())
    })
}

/// What somebody made up.
fn forged(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        open(&m.path("f"))?;
        let good = handle(m, "f")?;
        ensure_eq!((good.bytes, good.kind), (12, 0x81), "form of a handle");
        let mnt = mount_of(m)?;
        let mut rng = 88_172_645_463_325_252u64;
        for i in 0..2000 {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            let mut h = good;
            match i % 4 {
                0 => h.data[..8].copy_from_slice(&(rng % 40).to_le_bytes()),
                1 => h.data[..8].copy_from_slice(&rng.to_le_bytes()),
                2 => h.data[8 + (rng % 4) as usize] ^= 1 << (rng % 7),
                _ => h.kind = (rng % 0x100) as i32,
            }
            // The generation of `f` alone fits `f` alone.
            if h.data != good.data || ![0x81, 0x82].contains(&h.kind) {
                let e = open_by_handle(&mnt, &h);
                ensure!(e.is_err(), "a forged handle was opened: {h:?}");
            }
        }
        let mut short = good;
        short.bytes = 8;
        ensure!(open_by_handle(&mnt, &short).is_err(), "8 bytes were enough");
        // Asking for a number that does not exist yet does not disturb its making.
        let mut next = good;
        let ino = fs::metadata(m.path("f"))?.ino() + 1;
        next.data[..8].copy_from_slice(&ino.to_le_bytes());
        ensure_errno!(
            open_by_handle(&mnt, &next),
            Errno::STALE,
            "a number to come"
        );
        write_pattern(&open(&m.path("g"))?, 1, 0, 10_000)?;
        ensure_eq!(
            fs::metadata(m.path("g"))?.ino(),
            ino,
            "number of the next file"
        );
        Ok(())
    })
}

/// Handles against removal, creation and memory pressure.
fn races(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let mnt = mount_of(m)?;
        let stop = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let (send, receive) = std::sync::mpsc::sync_channel::<Handle>(4);
        std::thread::scope(|s| {
            let (stop, mnt) = (&stop, &mnt);
            let opener = s.spawn(move || {
                let (mut found, mut stale) = (0, 0);
                for h in receive {
                    match open_by_handle(mnt, &h) {
                        Ok(_) => found += 1,
                        Err(Errno::STALE) => stale += 1,
                        Err(e) => return Err(e),
                    }
                }
                Ok((found, stale))
            });
            s.spawn(move || {
                while !stop.load(relaxed) {
                    let _ = cfs::drop_caches();
                }
            });
            let made = (0..400).try_for_each(|i| -> Result {
                let name = format!("{}", i % 7);
                open(&m.path(&name))?;
                let _ = send.send(handle(m, &name)?);
                if i % 3 != 0 {
                    fs::remove_file(m.path(&name))?;
                }
                Ok(())
            });
            drop(send);
            stop.store(true, relaxed);
            made?;
            let (found, stale) = opener.join().unwrap().ctx("open_by_handle_at")?;
            ktap::note(&format!("{found} found, {stale} stale"));
            ensure!(found + stale == 400, "{found} found, {stale} stale");
            Ok(())
        })
    })
}

fn main() -> ExitCode {
    let mut env = Env::new();
    observe::mount_debugfs();
    // A small one is made faster.
    let small = match sys::Loop::new(&env.dev, 48 << 20) {
        Ok(small) => small,
        Err(e) => {
            println!("Bail out! loop device: {e}");
            return ExitCode::FAILURE;
        }
    };
    env.dev.clone_from(&small.path);
    ktap::run(
        &env,
        cases![
            opens,
            version,
            unlinked,
            used_again,
            renamed,
            connectable,
            forged,
            races,
            no_kernel_warning
        ],
        |_| {},
    )
}

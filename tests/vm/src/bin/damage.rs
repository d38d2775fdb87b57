// SPDX-License-Identifier: GPL-2.0

//! Damaged filesystems: after `fsck.calf -y` they mount and work; unrepaired they are refused or
//! answer with an error, and the kernel stands.

use calf_vmlib::file::{check_pattern, clone_file, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::sys::Loop;
use calf_vmlib::{cases, ensure, ktap, observe, Context, Env, Fail, Result};
use rustix::io::Errno;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Bytes of the images.
const SIZE: u64 = 16 << 20;
/// Images of each case.
const IMAGES: u64 = 8;

/// Some of everything.
fn populate(m: &Mounted) -> Result {
    for d in 0..6 {
        let dir = m.path(&format!("dir{d}"));
        fs::create_dir(&dir)?;
        for i in 0..40u64 {
            write_pattern(&open(&dir.join(format!("file{i}")))?, i, 0, i * 700)?;
        }
        std::os::unix::fs::symlink("t/".repeat(50 + 200 * d), dir.join("link"))?;
    }
    // Blocks here and there.
    let sparse = open(&m.path("sparse"))?;
    for i in 0..200 {
        write_pattern(&sparse, i, i * 4096, 1024)?;
    }
    let copy = open(&m.path("dir0/copy"))?;
    clone_file(&copy, &sparse)?;
    fs::hard_link(m.path("sparse"), m.path("dir1/another name"))?;
    Ok(())
}

/// Reads everything there is. Returns the number of files, and the errors.
fn read_all(dir: &Path, depth: u32, errors: &mut Vec<Fail>) -> u64 {
    let mut files = 0;
    let entries = match fs::read_dir(dir).ctx(format!("readdir {}", dir.display())) {
        Ok(entries) => entries,
        Err(e) => {
            errors.push(e);
            return 0;
        }
    };
    for entry in entries {
        let result = entry.ctx("readdir").and_then(|entry| {
            let path = entry.path();
            files += 1;
            let meta = fs::symlink_metadata(&path).ctx(format!("stat {}", path.display()))?;
            if meta.is_dir() && depth < 20 {
                files += read_all(&path, depth + 1, errors);
            } else if meta.is_symlink() {
                fs::read_link(&path).ctx(format!("readlink {}", path.display()))?;
            } else if meta.is_file() {
                // Not to the end of what a damaged size may say.
                let mut file = fs::File::open(&path).ctx(format!("open {}", path.display()))?;
                let mut part = file.by_ref().take(1 << 20);
                std::io::copy(&mut part, &mut std::io::sink())
                    .ctx(format!("read {}", path.display()))?;
            }
            Ok(())
        });
        errors.extend(result.err());
    }
    files
}

/// Is this an answer that damage may be given?
fn is_refusal(e: &Fail) -> bool {
    let known = [
        Errno::UCLEAN,
        Errno::IO,
        Errno::INVAL,
        Errno::ROFS,
        Errno::STALE,
        Errno::NOSPC,
        Errno::LOOP,
    ];
    e.errno
        .is_some_and(|errno| known.iter().any(|known| known.raw_os_error() == errno))
}

/// Runs `f` for every damaged image.
fn for_each(env: &Env, first: u64, f: impl Fn(&Loop, u64) -> Result) -> Result {
    let disk = Loop::new(&env.dev, SIZE).ctx("loop device")?;
    for bs in ["1024", "2048"] {
        cfs::mkfs(env, &disk.path, &["-b", bs])?;
        let mut m = Mounted::new(&disk.path, &env.mnt, "")?;
        populate(&m)?;
        m.umount()?;
        drop(m);
        let raw = || open(&disk.path);
        let mut image = vec![0; SIZE as usize];
        raw()?.read_exact_at(&mut image, 0).ctx("read the image")?;
        for seed in first..first + IMAGES / 2 {
            let file = raw()?;
            file.write_all_at(&image, 0).ctx("restore the image")?;
            file.sync_all().ctx("restore the image")?;
            drop(file);
            let mut tool = Command::new(env.tool("calf-damage"));
            tool.args(["--seed", &seed.to_string()]).arg(&disk.path);
            let (status, text) = cfs::command(&mut tool)?;
            ensure!(status == 0, "calf-damage exits with {status}:\n{text}");
            ktap::note(&format!(
                "block size {bs}, seed {seed}: {}",
                text.replace('\n', "; ")
            ));
            f(&disk, seed)?;
        }
    }
    Ok(())
}

fn repaired(env: &Env) -> Result {
    for_each(env, 100, |disk, seed| {
        let mut fsck = Command::new(env.tool("fsck.calf"));
        let (status, text) = cfs::command(fsck.arg("-y").arg(&disk.path))?;
        ensure!(
            matches!(status, 0 | 1),
            "fsck.calf -y exits with {status}:\n{text}"
        );
        let mut m = Mounted::new(&disk.path, &env.mnt, "").ctx("after the repair")?;
        let mut errors = Vec::new();
        let files = read_all(&m.mnt, 0, &mut errors);
        if let Some(e) = errors.pop() {
            return Err(Fail::new(format!("after the repair: {e}\n{text}")));
        }
        ensure!(files > 100, "only {files} files are left:\n{text}");
        let f = open(&m.path("written after the repair"))?;
        write_pattern(&f, seed, 0, 300_000)?;
        drop(f);
        fs::create_dir(m.path("made after the repair"))?;
        m.cycle()?;
        check_pattern(
            &open(&m.path("written after the repair"))?,
            seed,
            0,
            300_000,
        )?;
        m.umount()?;
        drop(m);
        cfs::fsck(env, &disk.path)
    })
}

fn unrepaired(env: &Env) -> Result {
    for_each(env, 200, |disk, seed| {
        let mut m = match Mounted::new(&disk.path, &env.mnt, "") {
            Ok(m) => m,
            Err(e) if is_refusal(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut errors = Vec::new();
        read_all(&m.mnt, 0, &mut errors);
        let f = open(&m.path("written into the damage"));
        let written = f.and_then(|f| {
            write_pattern(&f, seed, 0, 300_000)?;
            f.sync_all().ctx("fsync")
        });
        errors.extend(written.err());
        errors.extend(
            fs::remove_dir_all(m.path("dir3"))
                .ctx("remove a tree")
                .err(),
        );
        for e in &errors {
            // A name may lead to nothing, and a directory may not be one.
            let gone = [Errno::NOENT, Errno::NOTDIR, Errno::NOTEMPTY, Errno::ISDIR];
            let gone = e
                .errno
                .is_some_and(|errno| gone.iter().any(|g| g.raw_os_error() == errno));
            ensure!(gone || is_refusal(e), "seed {seed}: {e}");
        }
        m.umount()
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![repaired, unrepaired, no_kernel_warning],
        |_| {},
    )
}

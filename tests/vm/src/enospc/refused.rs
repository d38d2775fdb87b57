// SPDX-License-Identifier: GPL-2.0

//! What is refused for lack of space changes nothing, and what needs none is not refused.

use super::{all_is_back, fill, fs_of, is_enospc, small_fs, start};
use calf_vmlib::file::{
    check_pattern, clone_file, fallocate, open, open_direct, patterned, write_direct, write_pattern,
};
use calf_vmlib::fs::Mounted;
use calf_vmlib::sys::write_into_the_void;
use calf_vmlib::{ensure, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Fills the disk with data.
fn with_data(m: &Mounted) -> Result {
    for name in ["full", "full2"] {
        fill(m, name, 1)?;
        m.sync()?;
    }
    Ok(())
}

fn size(f: &File) -> Result<u64> {
    Ok(f.metadata()?.len())
}

/// A write far past the end, and one that must copy the last block, which is shared: refused, and the file is as
/// long as before, also after a crash.
pub fn a_refused_write_moves_no_end(env: &Env) -> Result {
    // The last free blocks go to the first of them.
    const COPIES: usize = 40;
    small_fs(env, "4096", |m| {
        let free = start(m)?;
        let copy = |i: usize| format!("copy{i}");
        let mut names = vec!["sparse".to_string(), "direct".into(), "shared".into()];
        for name in &names {
            write_pattern(&open(&m.path(name))?, 5, 0, 5000)?;
        }
        for i in 0..COPIES {
            clone_file(&open(&m.path(&copy(i)))?, &open(&m.path("shared"))?)?;
        }
        m.sync()?;
        with_data(m)?;

        let mut refused = 0;
        for i in 0..COPIES {
            let f = open(&m.path(&copy(i)))?;
            match f.write_at(b"hello", 5000) {
                Ok(5) => continue,
                Err(e) if is_enospc(&e) => {}
                other => return Err(format!("append to {}: {other:?}", copy(i)).into()),
            }
            ensure_eq!(
                size(&f)?,
                5000,
                "size of {} after a refused append",
                copy(i)
            );
            names.push(copy(i));
            refused += 1;
        }
        ktap::note(&format!("{refused} of {COPIES} appends were refused"));
        ensure!(refused > 2, "no append was refused");
        let sparse = open(&m.path("sparse"))?;
        let direct = open_direct(&m.path("direct"))?;
        for _ in 0..2 {
            match sparse.write_at(&patterned(6, 0, 4096), 1 << 20) {
                Err(e) if is_enospc(&e) => {}
                other => return Err(format!("sparse: {other:?}").into()),
            }
            ensure_errno!(
                write_direct(&direct, 6, 1 << 20, 4096),
                Errno::NOSPC,
                "direct"
            );
            for (f, what) in [(&sparse, "sparse"), (&direct, "direct")] {
                ensure_eq!(size(f)?, 5000, "size after a refused {what} write");
            }
            m.sync()?;
        }
        drop((sparse, direct));
        m.crash()?;
        m.cycle()?;
        for name in &names {
            let f = open(&m.path(name))?;
            ensure_eq!(size(&f)?, 5000, "size of {name} after a crash");
            check_pattern(&f, 5, 0, 5000)?;
        }
        all_is_back(m, free)
    })
}

/// A write from memory that is not there, into preallocated blocks past the end, when these must be filled with
/// zeros first.
pub fn a_write_that_faults_moves_no_end(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        let f = open(&m.path("pre"))?;
        fallocate(&f, FallocateFlags::KEEP_SIZE, 0, 32 << 20)?;
        m.sync()?;
        with_data(m)?;
        // Until the tree has got all blocks that it can.
        let mut at = 0;
        for i in (0..10u64 << 10).step_by(2) {
            at = i * 1024;
            f.write_all_at(&patterned(3, at, 1024), at)
                .ctx(format!("block {i}"))?;
        }
        let end = at + 1024;
        ensure_eq!(size(&f)?, end, "size");
        let nowhere = write_into_the_void(&f, &[], 1024, end + 4096);
        ensure_errno!(nowhere, Errno::FAULT, "write from nowhere");
        ensure_eq!(size(&f)?, end, "size after a write that failed");
        check_pattern(&f, 3, at, 1024)?;
        drop(f);
        all_is_back(m, free)
    })
}

/// Directories and names go, one beside the other, while commits keep all waiting: each holds a promise meanwhile.
pub fn many_remove_at_once(env: &Env) -> Result {
    const TASKS: usize = 24;
    const EACH: usize = 40;
    fs_of(env, 40 << 20, "4096", |m| {
        let free = start(m)?;
        let dir = |t: usize| m.path(&format!("d{t}"));
        for t in 0..TASKS {
            std::fs::create_dir(dir(t))?;
            for i in 0..EACH {
                std::fs::create_dir(dir(t).join(format!("s{i}")))?;
                write_pattern(&open(&dir(t).join(format!("f{i}")))?, 1, 0, 8192)?;
            }
        }
        m.sync()?;
        super::to_the_brim(m)?;
        let over = AtomicBool::new(false);
        let mnt: &PathBuf = &m.mnt;
        let outcome = std::thread::scope(|s| {
            let syncer = s.spawn(|| {
                let d = File::open(mnt)?;
                while !over.load(Relaxed) {
                    rustix::fs::syncfs(&d)?;
                }
                Ok::<_, std::io::Error>(())
            });
            let all: Vec<_> = (0..TASKS)
                .map(|t| {
                    let dir = dir(t);
                    s.spawn(move || -> Result {
                        for i in 0..EACH {
                            std::fs::remove_dir(dir.join(format!("s{i}"))).ctx("rmdir")?;
                            let f = dir.join(format!("f{i}"));
                            File::options()
                                .write(true)
                                .open(&f)?
                                .set_len(1)
                                .ctx("truncate")?;
                            std::fs::remove_file(&f).ctx("unlink")?;
                        }
                        std::fs::remove_dir(&dir).ctx("rmdir")
                    })
                })
                .collect();
            let mut all: Vec<Result> = all
                .into_iter()
                .map(|t| t.join().unwrap_or_else(|_| Err("a task panicked".into())))
                .collect();
            over.store(true, Relaxed);
            all.push(syncer.join().unwrap_or(Ok(())).map_err(Into::into));
            all
        });
        for r in outcome {
            r?;
        }
        all_is_back(m, free)
    })
}

/// Data that waits for writeback has promises for the worst case, which it gives back when it is written: a new
/// file or directory has it written.
pub fn a_new_name_has_data_written(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        for round in 0..3 {
            // Whoever finds no space writes the data himself, so it must not come to that.
            let f = open(&m.path(&format!("data{round}")))?;
            let mut at = 0;
            while m.space()?.avail > 12 {
                let len = if m.space()?.avail > 4000 {
                    1 << 20
                } else {
                    1024
                };
                f.write_all_at(&patterned(1, at, len), at)?;
                at += len as u64;
            }
            let before = m.space()?.avail;
            let mut made = 0;
            for i in 0..20 {
                let name = m.path(&format!("new{round}-{i}"));
                match round {
                    0 => std::fs::create_dir(&name),
                    1 => std::os::unix::fs::symlink("x".repeat(300), &name),
                    _ => File::create(&name).map(drop),
                }
                .ctx(format!(
                    "round {round}: name {i} with {before} blocks available"
                ))?;
                made += 1;
            }
            let after = m.space()?.avail;
            ktap::note(&format!(
                "round {round}: {before} blocks, {made} names later {after}"
            ));
            ensure!(
                after > before + 100,
                "nothing was given back: no worst case here"
            );
            drop(f);
            for e in std::fs::read_dir(&m.mnt)? {
                let e = e?;
                match e.file_type()?.is_dir() {
                    true => std::fs::remove_dir(e.path())?,
                    false => std::fs::remove_file(e.path())?,
                }
            }
            m.sync()?;
        }
        all_is_back(m, free)
    })
}

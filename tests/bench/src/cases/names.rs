// SPDX-License-Identifier: GPL-2.0

//! Files and folders.

use super::{check, stamp, Case, BLOCK};
use crate::turn::{sync_fs, Turn};
use calf_vmlib::error::Context;
use calf_vmlib::{ensure_eq, file, Result};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

pub(super) const CASES: &[Case] = &[
    Case::new("create", "file", create).sized(&[100, 1000, 10000], &[100_000]),
    Case::new("create-100-folders", "file", create_spread),
    Case::new("stat-cold", "file", stat_cold).sized(&[1000, 10000], &[100_000]),
    Case::new("unlink", "file", unlink).sized(&[1000, 10000], &[100_000]),
    Case::new("unlink-100-folders", "file", unlink_spread),
    Case::new("rename", "file", rename),
    Case::new("readdir-stat-cold", "file", readdir).sized(&[1000, 10000], &[100_000, 1_000_000]),
    Case::new("mail", "message", mail),
    Case::new("untar", "file", untar),
];

fn name(i: u64) -> String {
    format!("file-{i:07}")
}

fn create_all(dir: &Path, count: u64) -> Result {
    for i in 0..count {
        File::create_new(dir.join(name(i))).ctx("create")?;
    }
    Ok(())
}

fn count(dir: &Path) -> Result<u64> {
    Ok(fs::read_dir(dir).ctx("readdir")?.count() as u64)
}

fn folder(t: &Turn, name: &str) -> Result<PathBuf> {
    let dir = t.path(name);
    fs::create_dir(&dir).ctx("mkdir")?;
    Ok(dir)
}

fn create(t: &mut Turn, n: u64) -> Result {
    let dir = folder(t, "d")?;
    let root = t.root().to_path_buf();
    let work = dir.clone();
    t.measure(n, move || {
        create_all(&work, n)?;
        sync_fs(&root)
    })?;
    ensure_eq!(count(&dir)?, n, "entries");
    Ok(())
}

fn folders(t: &Turn) -> Vec<PathBuf> {
    (0..100).map(|i| t.path(&format!("d{i}"))).collect()
}

/// Twenty files in each of a hundred folders, which are created too.
fn create_spread(t: &mut Turn, _: u64) -> Result {
    let root = t.root().to_path_buf();
    let dirs = folders(t);
    let work = dirs.clone();
    t.measure(2000, move || {
        for d in &work {
            fs::create_dir(d).ctx("mkdir")?;
            create_all(d, 20)?;
        }
        sync_fs(&root)
    })?;
    for d in &dirs {
        ensure_eq!(count(d)?, 20, "entries");
    }
    Ok(())
}

fn stat_cold(t: &mut Turn, n: u64) -> Result {
    let dir = folder(t, "d")?;
    create_all(&dir, n)?;
    t.fresh()?;
    t.measure(n, move || {
        for i in 0..n {
            let m = fs::symlink_metadata(dir.join(name(i))).ctx("stat")?;
            ensure_eq!(m.nlink(), 1, "links");
        }
        Ok(())
    })
}

fn unlink(t: &mut Turn, n: u64) -> Result {
    let dir = folder(t, "d")?;
    create_all(&dir, n)?;
    t.fresh()?;
    let work = dir.clone();
    t.measure_to_umount(n, move || {
        for i in 0..n {
            fs::remove_file(work.join(name(i))).ctx("unlink")?;
        }
        Ok(())
    })?;
    ensure_eq!(count(&dir)?, 0, "entries");
    Ok(())
}

fn unlink_spread(t: &mut Turn, _: u64) -> Result {
    let dirs = folders(t);
    for d in &dirs {
        fs::create_dir(d).ctx("mkdir")?;
        create_all(d, 20)?;
    }
    t.fresh()?;
    let work = dirs.clone();
    t.measure_to_umount(2000, move || {
        for d in &work {
            for i in 0..20 {
                fs::remove_file(d.join(name(i))).ctx("unlink")?;
            }
            fs::remove_dir(d).ctx("rmdir")?;
        }
        Ok(())
    })?;
    for d in &dirs {
        ensure_eq!(d.exists(), false, "folder {}", d.display());
    }
    Ok(())
}

/// From one folder to another.
fn rename(t: &mut Turn, _: u64) -> Result {
    let (from, to) = (folder(t, "a")?, folder(t, "b")?);
    create_all(&from, 2000)?;
    t.fresh()?;
    let root = t.root().to_path_buf();
    let (a, b) = (from.clone(), to.clone());
    t.measure(2000, move || {
        for i in 0..2000 {
            fs::rename(a.join(name(i)), b.join(name(i))).ctx("rename")?;
        }
        sync_fs(&root)
    })?;
    ensure_eq!((count(&from)?, count(&to)?), (0, 2000), "entries");
    Ok(())
}

fn readdir(t: &mut Turn, n: u64) -> Result {
    let dir = folder(t, "d")?;
    create_all(&dir, n)?;
    t.fresh()?;
    t.measure(n, move || {
        let mut seen = 0;
        for e in fs::read_dir(&dir).ctx("readdir")? {
            let m = e.ctx("readdir")?.metadata().ctx("stat")?;
            ensure_eq!(m.nlink(), 1, "links");
            seen += 1;
        }
        ensure_eq!(seen, n, "entries");
        Ok(())
    })
}

/// What a mail server does: write, fsync, rename, fsync of the folder, read, delete every second one.
fn mail(t: &mut Turn, _: u64) -> Result {
    const N: u64 = 64;
    let (new, cur) = (folder(t, "new")?, folder(t, "cur")?);
    let done = cur.clone();
    t.measure(N, move || {
        let dir = File::open(&cur).ctx("open the folder")?;
        let mut text = vec![b'm'; 4 * BLOCK as usize];
        for i in 0..N {
            let (a, b) = (new.join(name(i)), cur.join(name(i)));
            let f = file::open(&a)?;
            (0..4).for_each(|k| stamp(&mut text[k * BLOCK as usize..], i));
            f.write_all_at(&text, 0).ctx("write")?;
            f.sync_all().ctx("fsync")?;
            fs::rename(&a, &b).ctx("rename")?;
            dir.sync_all().ctx("fsync of the folder")?;
            if i % 2 == 1 {
                fs::remove_file(&b).ctx("unlink")?;
            }
        }
        Ok(())
    })?;
    ensure_eq!(count(&done)?, N / 2, "messages");
    (0..N)
        .step_by(2)
        .try_for_each(|i| check(&done.join(name(i)), 4, |_| i))
}

/// A tree of small files of many sizes.
fn untar(t: &mut Turn, _: u64) -> Result {
    const N: u64 = 500;
    let root = t.root().to_path_buf();
    let place = move |i: u64| root.join(format!("t{}", i / 25)).join(name(i));
    let size = |i: u64| (i * 7919 % 65536) as usize;
    let root = t.root().to_path_buf();
    let at = place.clone();
    let data = vec![b't'; 65536];
    t.measure(N, move || {
        for i in 0..N {
            if i % 25 == 0 {
                fs::create_dir(root.join(format!("t{}", i / 25))).ctx("mkdir")?;
            }
            let f = file::open(&at(i))?;
            f.write_all_at(&data[..size(i)], 0).ctx("write")?;
        }
        sync_fs(&root)
    })?;
    for i in 0..N {
        let have = fs::read(place(i)).ctx("read")?;
        ensure_eq!(have.len(), size(i), "size of file {i}");
        ensure_eq!(have.iter().all(|b| *b == b't'), true, "data of file {i}");
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Shared extents, and files of many extents.

use super::{check, extent_count, make, make_extents, shuffled, stamp, Case, Needs, BLOCK};
use crate::turn::{sync_fs, Turn};
use calf_vmlib::error::Context;
use calf_vmlib::{ensure, ensure_eq, file, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) const CASES: &[Case] = &[
    Case::new("clone", "extent", clone)
        .sized(&[1, 10, 100, 1000, 10000], &[100_000, 1_000_000])
        .needs(Needs::Reflink),
    Case::new("clone-again", "extent", clone_again)
        .sized(&[1000, 10000], &[100_000])
        .needs(Needs::Reflink),
    Case::new("cow-random-4k", "write", cow).needs(Needs::Reflink),
    Case::new("cow-fdatasync-4k", "write+fdatasync", cow_sync).needs(Needs::Reflink),
    Case::new("unshare", "1M", unshare).needs(Needs::Unshare),
    Case::new("unshare-extents", "extent", unshare_extents)
        .sized(&[1000, 10000], &[])
        .needs(Needs::Unshare),
    Case::new("punch-every-other", "punch", punch).sized(&[1000, 4096], &[100_000]),
    Case::new("delete-extents", "extent", delete).sized(&[1000, 10000], &[100_000, 1_000_000]),
    Case::new("delete-shared", "extent", delete_shared)
        .sized(&[1000, 10000], &[100_000])
        .needs(Needs::Reflink),
];

fn all_shared(path: &Path) -> Result {
    let f = File::open(path).ctx("open")?;
    let all = file::extents(&f)?;
    ensure!(!all.is_empty(), "no extents");
    for e in all {
        ensure!(
            e.flags & calf_vmlib::sys::FIEMAP_SHARED != 0,
            "not shared: {e:?}"
        );
    }
    Ok(())
}

/// A file of `n` extents, cloned a few times.
fn clone(t: &mut Turn, n: u64) -> Result {
    let path = t.path("source");
    make_extents(&path, n)?;
    t.fresh()?;
    let times = (64 / n).max(1);
    let root = t.root().to_path_buf();
    let work = root.clone();
    t.measure(n * times, move || {
        let source = file::open(&path)?;
        for i in 0..times {
            file::clone_file(&file::open(&work.join(format!("c{i}")))?, &source)?;
        }
        sync_fs(&work)
    })?;
    for i in 0..times {
        let c = root.join(format!("c{i}"));
        all_shared(&c)?;
        ensure_eq!(extent_count(&File::open(&c).ctx("open")?)?, n, "extents");
    }
    Ok(())
}

/// The third owner: nothing is shared for the first time.
fn clone_again(t: &mut Turn, n: u64) -> Result {
    let (path, second, third) = (t.path("source"), t.path("second"), t.path("third"));
    make_extents(&path, n)?;
    file::clone_file(&file::open(&second)?, &file::open(&path)?)?;
    t.fresh()?;
    let root = t.root().to_path_buf();
    let target = third.clone();
    t.measure(n, move || {
        file::clone_file(&file::open(&target)?, &file::open(&path)?)?;
        sync_fs(&root)
    })?;
    all_shared(&third)?;
    ensure_eq!(
        extent_count(&File::open(&third).ctx("open")?)?,
        n,
        "extents"
    );
    Ok(())
}

const BLOCKS: u64 = 4096;
const NEW: u64 = 1 << 40;

/// Random writes to a clone.
fn cow(t: &mut Turn, _: u64) -> Result {
    let (a, b) = (t.path("a"), t.path("b"));
    make(&a, BLOCKS)?;
    file::clone_file(&file::open(&b)?, &file::open(&a)?)?;
    t.fresh()?;
    let f = file::open(&b)?;
    let order = shuffled(1024, BLOCKS);
    let mut want: Vec<u64> = (0..BLOCKS).collect();
    order.iter().for_each(|i| want[*i as usize] = NEW | i);
    let mut buf = vec![b'c'; BLOCK as usize];
    t.measure(1024, move || {
        for i in order {
            stamp(&mut buf, NEW | i);
            f.write_all_at(&buf, i * BLOCK).ctx("write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&a, BLOCKS, |i| i)?;
    check(&b, BLOCKS, |i| want[i as usize])
}

/// The same, each on disk before the next.
fn cow_sync(t: &mut Turn, _: u64) -> Result {
    let (a, b) = (t.path("a"), t.path("b"));
    make(&a, 128)?;
    file::clone_file(&file::open(&b)?, &file::open(&a)?)?;
    t.fresh()?;
    let f = file::open(&b)?;
    let mut buf = vec![b'c'; BLOCK as usize];
    t.measure(128, move || {
        for i in shuffled(128, 128) {
            stamp(&mut buf, NEW | i);
            f.write_all_at(&buf, i * BLOCK).ctx("write")?;
            f.sync_data().ctx("fdatasync")?;
        }
        Ok(())
    })?;
    check(&a, 128, |i| i)?;
    check(&b, 128, |i| NEW | i)
}

fn not_shared(path: &Path) -> Result {
    for e in file::extents(&File::open(path).ctx("open")?)? {
        ensure!(
            e.flags & calf_vmlib::sys::FIEMAP_SHARED == 0,
            "shared: {e:?}"
        );
    }
    Ok(())
}

fn unshare(t: &mut Turn, _: u64) -> Result {
    let (a, b) = (t.path("a"), t.path("b"));
    make(&a, BLOCKS)?;
    file::clone_file(&file::open(&b)?, &file::open(&a)?)?;
    t.fresh()?;
    let f = file::open(&b)?;
    t.measure(BLOCKS / 256, move || {
        file::unshare(&f, 0, BLOCKS * BLOCK)?;
        f.sync_all().ctx("fsync")
    })?;
    not_shared(&b)?;
    check(&b, BLOCKS, |i| i)
}

fn unshare_extents(t: &mut Turn, n: u64) -> Result {
    let (a, b) = (t.path("a"), t.path("b"));
    make_extents(&a, n)?;
    file::clone_file(&file::open(&b)?, &file::open(&a)?)?;
    t.fresh()?;
    let f = file::open(&b)?;
    t.measure(n, move || {
        file::unshare(&f, 0, (2 * n - 1) * BLOCK)?;
        f.sync_all().ctx("fsync")
    })?;
    not_shared(&b)?;
    check(&b, 2 * n - 1, |i| if i % 2 == 0 { i } else { 0 })
}

fn punch(t: &mut Turn, n: u64) -> Result {
    let path = t.path("f");
    make(&path, 2 * n)?;
    t.fresh()?;
    let f = file::open(&path)?;
    t.measure(n, move || {
        for i in 0..n {
            file::punch(&f, (2 * i + 1) * BLOCK, BLOCK)?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&path, 2 * n, |i| if i % 2 == 0 { i } else { 0 })?;
    ensure_eq!(extent_count(&file::open(&path)?)?, n, "extents");
    Ok(())
}

fn delete(t: &mut Turn, n: u64) -> Result {
    let path = t.path("f");
    make_extents(&path, n)?;
    gone(t, n)
}

fn delete_shared(t: &mut Turn, n: u64) -> Result {
    let (a, b) = (t.path("f"), t.path("b"));
    make_extents(&a, n)?;
    file::clone_file(&file::open(&b)?, &file::open(&a)?)?;
    gone(t, n)?;
    not_shared(&b)
}

/// Deletes `f`.
fn gone(t: &mut Turn, n: u64) -> Result {
    t.fresh()?;
    let path = t.path("f");
    let work = path.clone();
    t.measure_to_umount(n, move || std::fs::remove_file(work).ctx("unlink"))?;
    ensure!(!path.exists(), "it is still there");
    Ok(())
}

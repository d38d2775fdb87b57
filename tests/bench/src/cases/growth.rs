// SPDX-License-Identifier: GPL-2.0

//! The same work as what is around it grows: owners of a block, the size of the disk. (Extents, entries and files grow in
//! the cases that have sizes.)

use super::{check, make, make_extents, stamp, Case, Needs, BLOCK};
use crate::turn::{sync_fs, Turn};
use calf_vmlib::error::Context;
use calf_vmlib::{ensure, file, Result};
use std::os::unix::fs::FileExt;

pub(super) const CASES: &[Case] = &[
    Case::new("clone-owners", "extent", clone_owners)
        .sized(&[1, 10, 100], &[1000])
        .needs(Needs::Reflink),
    Case::new("cow-owners", "write", cow_owners)
        .sized(&[1, 10, 100], &[1000])
        .needs(Needs::Reflink),
    Case::new("write-disk-gib", "write", write)
        .on_own_disk()
        .sized(&[1, 10, 100], &[1000]),
    Case::new("mount-disk-gib", "mount", mount)
        .on_own_disk()
        .sized(&[1, 10, 100], &[1000]),
];

/// Extents of the file whose owners are counted.
const EXTENTS: u64 = 100;

/// `owners` files with the same blocks, the first of them `c0`.
fn owners(t: &mut Turn, owners: u64) -> Result {
    let first = t.path("c0");
    make_extents(&first, EXTENTS)?;
    let source = file::open(&first)?;
    for i in 1..owners {
        file::clone_file(&file::open(&t.path(&format!("c{i}")))?, &source)?;
    }
    drop(source);
    t.fresh()
}

/// One more owner.
fn clone_owners(t: &mut Turn, n: u64) -> Result {
    owners(t, n)?;
    let (from, to) = (t.path("c0"), t.path("one more"));
    let (root, target) = (t.root().to_path_buf(), to.clone());
    t.measure(EXTENTS, move || {
        file::clone_file(&file::open(&target)?, &file::open(&from)?)?;
        sync_fs(&root)
    })?;
    check(&to, 2 * EXTENTS - 1, |i| if i % 2 == 0 { i } else { 0 })
}

/// One of so many owners, and one more, writes to its blocks.
fn cow_owners(t: &mut Turn, n: u64) -> Result {
    const NEW: u64 = 1 << 40;
    owners(t, n + 1)?;
    let (first, path) = (t.path("c0"), t.path(&format!("c{n}")));
    let f = file::open(&path)?;
    let mut buf = vec![b'o'; BLOCK as usize];
    t.measure(EXTENTS, move || {
        for i in 0..EXTENTS {
            stamp(&mut buf, NEW | (2 * i));
            f.write_all_at(&buf, 2 * i * BLOCK).ctx("write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&first, 2 * EXTENTS - 1, |i| if i % 2 == 0 { i } else { 0 })?;
    check(
        &path,
        2 * EXTENTS - 1,
        |i| {
            if i % 2 == 0 {
                NEW | i
            } else {
                0
            }
        },
    )
}

/// Files of sixteen blocks.
fn write(t: &mut Turn, _: u64) -> Result {
    const FILES: u64 = 64;
    let root = t.root().to_path_buf();
    let place = move |i: u64| root.join(format!("f{i}"));
    let (root, at) = (t.root().to_path_buf(), place.clone());
    let mut buf = vec![b'w'; 16 * BLOCK as usize];
    t.measure(FILES, move || {
        for i in 0..FILES {
            (0..16).for_each(|b| stamp(&mut buf[b * BLOCK as usize..], i));
            file::open(&at(i))?.write_all_at(&buf, 0).ctx("write")?;
        }
        sync_fs(&root)
    })?;
    (0..FILES).try_for_each(|i| check(&place(i), 16, |_| i))
}

/// After a clean umount.
fn mount(t: &mut Turn, gib: u64) -> Result {
    make(&t.path("f"), 1)?;
    t.umount()?;
    t.measure_mount()?;
    ensure!(t.free()? > (gib << 30) / 10 * 8, "the disk is not so large");
    check(&t.path("f"), 1, |i| i)
}

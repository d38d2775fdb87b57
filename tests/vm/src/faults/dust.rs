// SPDX-License-Identifier: GPL-2.0

//! Blocks that cannot be read until they are written (`dm-dust`), as of a disk that ages.

use super::ops::always_cow;
use super::stacked::Stacked;
use super::state::{difference, tree, Tree};
use super::sweep::{complete, is_down};
use calf_vmlib::error::Fail;
use calf_vmlib::file::{check_direct, check_pattern, clone_file, extents, open, open_direct};
use calf_vmlib::file::{patterned, write_direct, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::sys::{getfsmap, Fsmap, FSMAP_FREE, FSMAP_METADATA};
use calf_vmlib::{ensure, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::{Advice, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// MiB of the disk.
const MIB: u32 = 16;

/// A device with bad blocks.
struct Dust(Stacked);

impl Dust {
    /// Makes it and formats it.
    fn new(env: &Env) -> Result<Dust> {
        let dust = Stacked::new(env, MIB, "dust", &format!("0 {BLOCK}"))?;
        dust.dm.message("quiet")?;
        dust.dm.message("enable")?;
        cfs::mkfs(&dust.env, &dust.dm.path, &[])?;
        Ok(Dust(dust))
    }

    /// A block cannot be read any more; the first `writes` attempts to write it fail too.
    fn spoil(&self, block: u64, writes: u32) -> Result {
        self.0.dm.message(&format!("addbadblock {block} {writes}"))
    }

    /// All blocks are good.
    fn heal(&self) -> Result {
        self.0.dm.message("clearbadblocks")
    }
}

/// Which blocks of a file of 16 cannot be read, directly and through the page cache; the others have the pattern `seed`,
/// or 2 where they are among `new`.
fn unreadable(m: &Mounted, seed: u64, new: &[u64]) -> Result<Vec<u64>> {
    cfs::drop_caches()?;
    let (direct, cached) = (open_direct(&m.path("f"))?, open(&m.path("f"))?);
    // No page but the one that is asked for.
    rustix::fs::fadvise(&cached, 0, None, Advice::Random).ctx("fadvise")?;
    let mut bad = Vec::new();
    for i in 0..16 {
        let seed = if new.contains(&i) { 2 } else { seed };
        let read = check_pattern(&cached, seed, i * BLOCK, BLOCK);
        let other = check_direct(&direct, seed, i * BLOCK, BLOCK as usize);
        if let Err(e) = &read {
            ensure!(e.errno == Some(Errno::IO.raw_os_error()), "block {i}: {e}");
            ensure_errno!(other, Errno::IO, "block {i}, directly");
            bad.push(i);
        } else {
            other.ctx(format!("block {i}, directly"))?;
        }
    }
    Ok(bad)
}

/// Bad blocks below a file's data: they alone cannot be read, nothing else happens, and who writes them has them back.
pub fn data(env: &Env) -> Result {
    let dust = Dust::new(env)?;
    let mut m = Mounted::new(&dust.0.dm.path, &env.mnt, "")?;
    let f = open(&m.path("f"))?;
    write_pattern(&f, 1, 0, 16 * BLOCK)?;
    f.sync_all()?;
    let all = extents(&f)?;
    let place = |i: u64| -> Result<u64> {
        let e = all
            .iter()
            .find(|e| (e.logical..e.logical + e.length).contains(&(i * BLOCK)));
        let e = e.ok_or_else(|| Fail::new(format!("block {i} is nowhere")))?;
        Ok((e.physical + i * BLOCK - e.logical) / BLOCK)
    };
    for i in [3, 5, 9] {
        // Number 5 cannot be written at once.
        dust.spoil(place(i)?, u32::from(i == 5))?;
    }
    ensure_eq!(
        unreadable(&m, 1, &[])?,
        [3, 5, 9],
        "blocks that cannot be read"
    );
    // All of it at once.
    ensure_errno!(fs::read(m.path("f")), Errno::IO, "read");
    // A part of a block needs the rest of it.
    let part = f.write_at(b"x", 3 * BLOCK + 100);
    ensure_errno!(part, Errno::IO, "a part of a bad block");
    f.sync_all().ctx("fsync after a write that was refused")?;
    ensure_eq!(unreadable(&m, 1, &[])?, [3, 5, 9], "after that");
    // The one through the page cache, the other directly.
    f.write_all_at(&patterned(2, 3 * BLOCK, BLOCK as usize), 3 * BLOCK)?;
    f.sync_all().ctx("fsync of a bad block")?;
    write_direct(&open_direct(&m.path("f"))?, 2, 9 * BLOCK, BLOCK as usize)?;
    ensure_eq!(unreadable(&m, 1, &[3, 9])?, [5], "after writing two");
    if !always_cow() {
        f.write_all_at(&patterned(2, 5 * BLOCK, BLOCK as usize), 5 * BLOCK)?;
        ensure_errno!(
            f.sync_all(),
            Errno::IO,
            "fsync of a block that cannot be written"
        );
    }
    f.write_all_at(&patterned(2, 5 * BLOCK, BLOCK as usize), 5 * BLOCK)?;
    f.sync_all().ctx("fsync of the last bad block")?;
    ensure!(
        unreadable(&m, 1, &[3, 5, 9])?.is_empty(),
        "a bad block is left"
    );
    ensure!(!is_down(&m)?, "bad blocks of a file have shut it down");
    drop(f);
    m.umount()?;
    cfs::fsck(&dust.0.env, &m.dev)?;
    m.mount()?;
    ensure!(unreadable(&m, 1, &[3, 5, 9])?.is_empty(), "after a mount");
    m.umount()?;
    drop(m);
    dust.0.end()
}

/// All places of the metadata, but few of the journal's.
fn metadata(m: &Mounted) -> Result<Vec<u64>> {
    let dir = m.dir()?;
    let (map, _) = getfsmap(&dir, Fsmap::default(), Fsmap::MAX, 4096).ctx("GETFSMAP")?;
    let mut files = BTreeSet::new();
    for name in ["many", "f", "g"] {
        let path = m.path(name);
        let all = match path.is_dir() {
            true => fs::read_dir(&path)?.map(|e| e.map(|e| e.path())).collect(),
            false => Ok(vec![path]),
        };
        for p in all.ctx("readdir")? {
            for e in extents(&File::open(p)?)? {
                files.extend(e.physical / BLOCK..(e.physical + e.length) / BLOCK);
            }
        }
    }
    let mut found = Vec::new();
    for r in map.iter().filter(|r| r.owner != FSMAP_FREE) {
        let fixed = r.owner == FSMAP_METADATA;
        let blocks = r.physical / BLOCK..(r.physical + r.length) / BLOCK;
        // The descriptors and bitmaps come first, the journal behind them.
        let chosen = blocks
            .enumerate()
            .filter(|(i, _)| !fixed || *i < 8 || i % 256 == 0);
        found.extend(chosen.map(|(_, b)| b).filter(|b| !files.contains(b)));
    }
    Ok(found)
}

/// Removes the file of [`use_it`], which may not be there.
fn without_new(m: &Mounted) -> Result {
    match fs::remove_file(m.path("new")) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.ctx("unlink"),
    }
}

/// Uses everything, with a bad block somewhere. Returns how much failed.
fn use_it(m: &mut Mounted) -> Result<u32> {
    let wanted = [Errno::IO, Errno::UCLEAN].map(|e| Some(e.raw_os_error()));
    let mut told = 0;
    let mut judge = |what: &str, r: Result| match r {
        Ok(()) => Ok(()),
        Err(e) if wanted.contains(&e.errno) => {
            told += 1;
            Ok(())
        }
        Err(e) => Err(e).ctx(what),
    };
    let mounted = m.mount();
    let up = mounted.is_ok();
    judge("mount", mounted)?;
    if up {
        judge("read", tree(&m.mnt, true).map(drop))?;
        let new = || -> Result {
            let f = open(&m.path("new"))?;
            write_pattern(&f, 5, 0, 3 * BLOCK)?;
            f.sync_all().ctx("fsync")
        };
        judge("write", new())?;
        judge("unlink", without_new(m))?;
        judge("syncfs", m.sync())?;
        m.umount()?;
    }
    Ok(told)
}

/// A bad block below each piece of metadata, one after the other: it is told, or not needed; when the disk is well again,
/// so is everything. A short run takes one in sixteen.
pub fn metadata_blocks(env: &Env) -> Result {
    let dust = Dust::new(env)?;
    let mut m = Mounted::new(&dust.0.dm.path, &env.mnt, "")?;
    super::ops::make_many(&m.mnt)?;
    let f = open(&m.path("f"))?;
    for i in 0..150 {
        write_pattern(&f, 1, i * 2 * BLOCK, 100)?;
    }
    clone_file(&open(&m.path("g"))?, &f)?;
    drop(f);
    rustix::fs::lsetxattr(m.path("g"), "user.large", &[7; 9000], XattrFlags::empty())
        .ctx("setxattr")?;
    m.sync()?;
    let want: Tree = tree(&m.mnt, true)?;
    let all = metadata(&m)?;
    m.umount()?;
    let (mut tried, mut told) = (0, 0);
    let step = if complete() { 1 } else { 16 };
    for block in all.iter().step_by(step) {
        dust.spoil(*block, 0)?;
        let outcome = use_it(&mut m);
        // Whoever writes the whole block has healed it.
        let healed = dust.heal();
        told += u32::from(outcome.ctx(format!("block {block} is bad"))? > 0);
        healed?;
        tried += 1;
        m.mount().ctx(format!("block {block} is good again"))?;
        without_new(&m)?;
        let now = tree(&m.mnt, true)?;
        ensure!(now == want, "block {block}: {}", difference(&want, &now));
        m.umount()?;
        cfs::fsck(&dust.0.env, &m.dev).ctx(format!("block {block} was bad"))?;
    }
    ktap::note(&format!(
        "{} blocks of metadata, {tried} tried, {told} told",
        all.len()
    ));
    ensure!(told > tried / 2, "too few were needed: {told} of {tried}");
    drop(m);
    dust.0.end()
}

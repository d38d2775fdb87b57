// SPDX-License-Identifier: GPL-2.0

//! Faults in mount and umount.

use super::state::{difference, tree, Tree};
use super::sweep::{complete, disk, is_bad, next};
use calf_vmlib::fault::{Faults, Kind, Who};
use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::observe::Kmsg;
use calf_vmlib::sys::vfs::{shutdown, Shutdown};
use calf_vmlib::{ensure, ensure_eq, ktap, Context, Env, Result};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::fs;
use std::path::Path;

/// Files in all states: a folder, a clone, attributes.
pub fn fill(m: &Mounted) -> Result {
    let kept = open(&m.path("kept"))?;
    write_pattern(&kept, 9, 0, 100_000)?;
    fs::create_dir(m.path("folder"))?;
    calf_vmlib::file::clone_file(&open(&m.path("folder/clone"))?, &kept)?;
    m.sync()
}

/// The wanted errors of a fault of this kind.
fn wanted(kind: Kind) -> Option<i32> {
    let e = match kind {
        Kind::Bio => Errno::IO,
        _ => Errno::NOMEM,
    };
    Some(e.raw_os_error())
}

/// The kernel warns at umount if jbd2 had no memory for its files in /proc when it was mounted; it mounts nevertheless.
const PROC: &str = "fs/proc/generic.c:742";

fn no_complaint(log: &mut Kmsg) -> Result {
    let lines = log.read();
    // Who called is in the warning's first line or in its trace, as the compiler inlined.
    let known = |i: usize, l: &str| {
        l.contains(PROC)
            && lines
                .iter()
                .skip(i)
                .take_while(|l| !l.contains("end trace"))
                .any(|l| l.contains("jbd2_journal_destroy"))
    };
    let bad: Vec<&String> = lines
        .iter()
        .enumerate()
        .filter(|(i, l)| is_bad(l) && !known(*i, l))
        .map(|(_, l)| l)
        .collect();
    ensure!(bad.is_empty(), "the kernel complains: {bad:?}");
    Ok(())
}

/// Leaves a journal to replay, an unlinked file and nothing else: like pulling the plug.
fn pull_the_plug(dev: &Path, mnt: &Path) -> Result {
    let mut m = Mounted::new(dev, mnt, "")?;
    let orphan = open(&m.path("orphan"))?;
    write_pattern(&orphan, 3, 0, 50_000)?;
    m.sync()?;
    fs::remove_file(m.path("orphan"))?;
    m.sync()?;
    shutdown(&orphan, Shutdown::NoFlush).ctx("shutdown")?;
    drop(orphan);
    m.umount()
}

/// A disk with a filesystem that holds something, mounted; what makes it fail; the kernel's log from here on.
fn filled(env: &Env) -> Result<(NullDisk, Faults, Kmsg, Mounted)> {
    let disk = disk("flt0", 64)?;
    let faults = Faults::new("flt0")?;
    let log = Kmsg::new()?;
    cfs::mkfs(env, &disk.path, &[])?;
    let m = Mounted::new(&disk.path, &env.mnt, "")?;
    fill(&m)?;
    Ok((disk, faults, log, m))
}

/// Mounts while the n-th fails, with or without a journal to replay. A short run ends before jbd2's files in
/// /proc, whose failure makes the kernel warn and taints it.
pub fn mount(env: &Env, kind: Kind, replay: bool) -> Result {
    let (disk, mut faults, mut log, mut m) = filled(env)?;
    let want: Tree = tree(&m.mnt, true)?;
    m.umount()?;
    let (mut n, mut fired, mut told) = (1, 0, 0);
    let limit = if complete() || kind != Kind::Slab {
        u32::MAX
    } else {
        20
    };
    if complete() && kind == Kind::Slab {
        ktap::line(&format!("CALF-EXPECT-WARN {PROC}"));
    }
    while n < limit {
        if replay {
            pull_the_plug(&disk.path, &env.mnt)?;
        }
        log.read();
        faults.choose(Some(kind))?;
        faults.arm(Who::Me, n)?;
        let mounted = m.mount();
        let failed = faults.disarm();
        faults.choose(None)?;
        if let Err(e) = &mounted {
            told += 1;
            ensure!(failed, "n = {n}: failed without a fault: {e}");
            ensure!(e.errno == wanted(kind), "n = {n}: the wrong error: {e}");
            m.mount().ctx(format!("n = {n}: tried again"))?;
        }
        let now = tree(&m.mnt, true)?;
        ensure!(now == want, "n = {n}: {}", difference(&want, &now));
        fs::write(m.path("new"), b"works")?;
        fs::remove_file(m.path("new"))?;
        m.umount().ctx(format!("n = {n}"))?;
        no_complaint(&mut log).map_err(|e| format!("n = {n}: {e}"))?;
        if !failed {
            break;
        }
        cfs::fsck(env, &disk.path).ctx(format!("n = {n}"))?;
        fired += 1;
        n = next(n);
    }
    ktap::note(&format!("mount, {kind:?}, replay {replay}: {fired}/{told}"));
    ensure!(fired > 0, "nothing has failed");
    cfs::fsck(env, &disk.path)
}

/// Unmounts while the n-th fails; `who` does it. Something is dirty, something is unlinked.
pub fn umount(env: &Env, kind: Kind, who: Who) -> Result {
    let (disk, mut faults, mut log, mut m) = filled(env)?;
    let (mut n, mut fired, mut told) = (1, 0, 0);
    loop {
        let dirty = open(&m.path("dirty"))?;
        write_pattern(&dirty, u64::from(n), 0, 70_000)?;
        drop(dirty);
        let want = tree(&m.mnt, false)?;
        log.read();
        faults.choose(Some(kind))?;
        faults.arm(who, n)?;
        let done = rustix::mount::unmount(&m.mnt, UnmountFlags::empty());
        let failed = faults.disarm();
        faults.choose(None)?;
        if let Err(e) = done {
            told += 1;
            ensure!(failed, "n = {n}: failed without a fault: {e}");
            ensure!(
                Some(e.raw_os_error()) == wanted(kind),
                "n = {n}: the wrong error: {e}"
            );
            ensure_eq!(tree(&m.mnt, false)?, want, "n = {n}: still mounted");
            m.umount()?;
        } else {
            m.gone();
        }
        if kind != Kind::Bio {
            cfs::fsck(env, &disk.path).ctx(format!("n = {n}"))?;
        }
        m.mount().ctx(format!("n = {n}"))?;
        check_pattern(&open(&m.path("kept"))?, 9, 0, 100_000)?;
        if kind != Kind::Bio {
            let now = tree(&m.mnt, false)?;
            ensure!(now == want, "n = {n}: {}", difference(&want, &now));
        } else {
            m.umount()?;
            cfs::fsck(env, &disk.path).ctx(format!("n = {n}"))?;
            m.mount()?;
        }
        no_complaint(&mut log).map_err(|e| format!("n = {n}: {e}"))?;
        if !failed {
            break;
        }
        fired += 1;
        n = next(n);
    }
    ktap::note(&format!("umount, {kind:?} of {who:?}: {fired}/{told}"));
    ensure!(fired > 0, "nothing has failed");
    m.umount()?;
    cfs::fsck(env, &disk.path)
}

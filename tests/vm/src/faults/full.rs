// SPDX-License-Identifier: GPL-2.0

//! Does each operation while no block is free, one, two ... until it works, and judges each time what is left. Every
//! block that an operation takes was promised to it before (B2), so this meets each place that can find none.

use super::ops::{always_cow, Op, ALL};
use super::state::{allowed, difference, tree, Promise, Tree};
use super::sweep::{complete, disk, is_down, no_complaint, promises};
use calf_vmlib::file::{check_pattern, fill, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::observe::Kmsg;
use calf_vmlib::{ensure, ensure_eq, ktap, Context, Env, Result};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// Blocks that are free when an operation is set up.
const ROOM: u64 = 200;
/// Files of no or one block each, to take blocks one by one.
const PEBBLES: u64 = 16;

/// The operations of a short run.
const SOME: &[&str] = &[
    "create_grow",
    "write",
    "mmap_hole",
    "clone",
    "unshare",
    "punch_grow",
    "rename_grow",
    "xattr_large",
];

/// Those that must find no space at first.
const TAKE: &[&str] = &[
    "create",
    "create_grow",
    "mkdir",
    "symlink",
    "tmpfile",
    "write",
    "write_shared",
    "mmap_hole",
    "direct",
    "direct_shared",
    "clone",
    "unshare",
    "preallocate",
    "xattr_large",
];

/// Those that do without a promise that was refused, if no tree must grow.
pub const SELDOM: &[&str] = &[
    "link",
    "rename",
    "rename_over",
    "exchange",
    "unlink",
    "last_close",
    "rmdir",
    "shorten",
];

/// Those that work however full it is (B2c): who makes room deletes, and moves files first.
const NEVER: &[&str] = &[
    "read",
    "clonerange",
    "punch",
    "punch_grow",
    "punch_shared",
    "shorten",
    "rename",
    "rename_grow",
    "rename_over",
    "exchange",
    "link",
    "unlink",
    "last_close",
    "rmdir",
    "xattr_remove",
    "chmod",
    "readdir",
    "statfs",
];

/// A filesystem with nothing free but what is wanted.
struct Full {
    m: Mounted,
    log: Kmsg,
    rest: BTreeMap<String, i64>,
    env: Env,
    // The last to go.
    _disk: NullDisk,
}

impl Full {
    fn new(env: &Env) -> Result<Full> {
        let disk = disk("flt0", 16)?;
        cfs::mkfs(env, &disk.path, &[])?;
        let m = Mounted::new(&disk.path, &env.mnt, "")?;
        write_pattern(&open(&m.path("kept"))?, 9, 0, 100_000)?;
        super::ops::make_many(&m.mnt)?;
        fs::create_dir(m.path("pebbles"))?;
        for i in 0..PEBBLES {
            File::create(m.path(&format!("pebbles/{i}")))?;
        }
        File::create(m.path("cushion"))?;
        m.sync()?;
        let rest = promises(&m);
        let len = fill(&m.path("ballast"), 3)?;
        m.sync()?;
        // What it took for its tree while it grew is not worth a second round.
        let f = open(&m.path("ballast"))?;
        f.set_len(len / BLOCK * BLOCK - ROOM * BLOCK)?;
        m.sync()?;
        Ok(Full {
            m,
            log: Kmsg::new()?,
            rest,
            env: env.clone(),
            _disk: disk,
        })
    }

    /// Takes blocks until `k` are free.
    fn leave(&self, k: u64) -> Result {
        // One file takes most of them, in one piece or a few.
        let more = self.m.space()?.avail.saturating_sub(k + PEBBLES / 2);
        write_pattern(&open(&self.m.path("cushion"))?, 5, 0, more * BLOCK).ctx("cushion")?;
        self.m.sync()?;
        let mut pebbles = 0..PEBBLES;
        while let Some(more) = self.m.space()?.avail.checked_sub(k).filter(|n| *n > 0) {
            for i in pebbles.by_ref().take(more as usize) {
                let pebble = open(&self.m.path(&format!("pebbles/{i}")))?;
                write_pattern(&pebble, 6, 0, BLOCK).ctx(format!("pebble {i}"))?;
                // Written one after the other: what is on its way needs more than it takes.
                pebble.sync_all().ctx(format!("pebble {i}"))?;
            }
            ensure!(!pebbles.is_empty(), "too few pebbles");
            self.m.sync()?;
        }
        ensure_eq!(self.m.space()?.avail, k, "free blocks");
        Ok(())
    }

    /// Gives them back.
    fn room(&self) -> Result {
        open(&self.m.path("cushion"))?.set_len(0)?;
        for i in 0..PEBBLES {
            open(&self.m.path(&format!("pebbles/{i}")))?.set_len(0)?;
        }
        self.m.sync()
    }

    /// Does an operation without a lack of space: what is there before and after it, and in the end with the maps.
    fn reference(&self, op: &Op) -> Result<(Tree, Tree, Tree)> {
        let dir = self.m.path("reference");
        fs::create_dir(&dir)?;
        (op.setup)(&dir).ctx("setup")?;
        self.m.sync()?;
        let mut files = (op.open)(&dir).ctx("open")?;
        let before = tree(&dir, false)?;
        (op.act)(&dir, &mut files).ctx("with enough space")?;
        drop(files);
        let after = tree(&dir, false)?;
        self.m.sync()?;
        let last = tree(&dir, true)?;
        fs::remove_dir_all(&dir).ctx("clean up")?;
        self.m.sync()?;
        Ok((before, after, last))
    }

    /// Does it with `k` free blocks. Did it find no space?
    fn one(&mut self, op: &Op, dir: &Path, k: u64, trees: &(Tree, Tree, Tree)) -> Result<bool> {
        let (before, after, last) = trees;
        fs::create_dir(dir)?;
        (op.setup)(dir).ctx("setup")?;
        self.m.sync()?;
        self.leave(k)?;
        let mut files = (op.open)(dir).ctx("open")?;
        let done = (op.act)(dir, &mut files);
        let now = tree(dir, false)?;
        ensure!(!is_down(&self.m)?, "shut down; {done:?}");
        match &done {
            Ok(()) => ensure!(now == *after, "success, but: {}", difference(after, &now)),
            Err(e) => {
                // A system call that stores in a map of a file cannot say why it cannot.
                let wanted = [Errno::NOSPC, Errno::FAULT];
                let wanted = &wanted[..if op.name.starts_with("mmap") { 2 } else { 1 }];
                let right = wanted.iter().any(|w| e.errno == Some(w.raw_os_error()));
                ensure!(right, "the wrong error: {e}");
                allowed(op.promise, before, after, &now)?;
            }
        }
        // Whatever was accepted has its blocks.
        self.m.sync().ctx("on a full disk")?;
        ensure_eq!(promises(&self.m), self.rest, "counters on a full disk");
        let kept = tree(dir, false)?;
        ensure!(kept == now, "after a sync: {}", difference(&now, &kept));
        self.room()?;
        let again = done.is_err() && (now == *before || op.promise == Promise::Blocks);
        if again {
            (op.act)(dir, &mut files).ctx("tried again with more space")?;
        }
        drop(files);
        self.m.sync()?;
        if again || done.is_ok() {
            let now = tree(dir, true)?;
            ensure!(now == *last, "in the end: {}", difference(last, &now));
        }
        ensure_eq!(promises(&self.m), self.rest, "counters in the end");
        no_complaint(&self.log.read())?;
        Ok(done.is_err())
    }

    fn operation(&mut self, op: &Op) -> Result<(u64, u64)> {
        let trees = self.reference(op)?;
        let free = self.m.space()?;
        let dir = self.m.path(op.name);
        let (mut k, mut told) = (0, 0);
        loop {
            let full = self.one(op, &dir, k, &trees);
            let full = full.map_err(|e| format!("{k} free blocks: {e}"))?;
            fs::remove_dir_all(&dir).ctx("clean up")?;
            self.m.sync()?;
            ensure_eq!(self.m.space()?, free, "space after {k} free blocks");
            if !full {
                break;
            }
            told += 1;
            k = if complete() { k + 1 } else { (2 * k).max(1) };
            ensure!(k < ROOM / 2, "no end");
        }
        ensure!(told > 0 || !TAKE.contains(&op.name), "it needs no space");
        ensure!(told == 0 || !NEVER.contains(&op.name), "it needs space");
        self.m.umount()?;
        cfs::fsck(&self.env, &self.m.dev)?;
        self.m.mount()?;
        ensure_eq!(self.m.space()?, free, "space after umount and mount");
        check_pattern(&open(&self.m.path("kept"))?, 9, 0, 100_000)?;
        Ok((told, k))
    }
}

/// All operations, or in a short run some.
pub fn sweep(env: &Env) -> Result {
    let mut full = Full::new(env)?;
    let chosen = std::env::var("CALF_FAULTS_OP").unwrap_or_default();
    let (mut lines, mut bad) = (Vec::new(), 0);
    for op in ALL {
        let some = complete() || SOME.contains(&op.name);
        let named = chosen.split(',').any(|c| c == op.name);
        if !(if chosen.is_empty() { some } else { named }) {
            continue;
        }
        // The data of these is accepted before.
        let before = ["fsync", "syncfs"].contains(&op.name);
        if before || always_cow() && op.name == "preallocate" {
            continue;
        }
        match full.operation(op) {
            Ok((told, k)) => lines.push(format!("{} {told}/{k}", op.name)),
            Err(e) => {
                ktap::note(&format!("{}: {e}", op.name));
                for line in full.log.read() {
                    ktap::note(&format!("  kernel: {line}"));
                }
                bad += 1;
                drop(full);
                full = Full::new(env)?;
            }
        }
    }
    ktap::note(&format!("no space/blocks needed: {}", lines.join(", ")));
    ensure!(bad == 0, "{bad} operations");
    full.m.umount()
}

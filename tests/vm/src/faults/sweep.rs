// SPDX-License-Identifier: GPL-2.0

//! Does each operation again and again while its first, second, third ... allocation or request fails, until
//! it ends without having met the fault, and judges each time what is left.

use super::ops::{always_cow, make_many, Op, ALL};
use super::state::{allowed, difference, tree, Promise, Tree};
use calf_vmlib::fault::{Faults, Kind, Who};
use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::observe::{self, Kmsg};
use calf_vmlib::{ensure, ensure_eq, ktap, Context, Env, Result};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What fails, whose, and with what in memory.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// What.
    pub kind: Kind,
    /// Whose.
    pub who: Who,
    /// Mount anew before each operation: nothing is in memory.
    pub cold: bool,
}

/// Every n, and not some of them?
pub fn complete() -> bool {
    std::env::var("CALF_FAULTS").is_ok_and(|v| v == "all")
}

/// The n after `n`: the first few all, of the later ones some.
pub fn next(n: u32) -> u32 {
    n + 1 + if complete() { 0 } else { n / 4 }
}

/// A disk in memory that has all its memory already: it needs none under a fault.
pub fn disk(name: &str, mib: u32) -> Result<NullDisk> {
    let disk = NullDisk::new(name, mib, &[])?;
    disk.fill()?;
    Ok(disk)
}

/// The trees of an operation: what was set up and written back, what is there when it begins, and after.
struct Trees {
    base: Tree,
    before: Tree,
    after: Tree,
    /// With the maps.
    last: Tree,
}

/// What one fault did.
struct Shot {
    fired: bool,
    told: bool,
    left: Tree,
}

/// How often a fault happened, and how often the operation failed of it.
#[derive(Default, Clone, Copy)]
struct Count {
    fired: u32,
    told: u32,
    crashed: u32,
}

/// A filesystem under test.
pub struct Sweep {
    how: How,
    m: Mounted,
    faults: Faults,
    log: Kmsg,
    rest: BTreeMap<String, i64>,
    count: Count,
    env: Env,
    // The last to go.
    _disk: NullDisk,
}

impl Sweep {
    /// Formats and mounts a disk.
    pub fn new(env: &Env, how: How) -> Result<Sweep> {
        let disk = disk("flt0", 64)?;
        let faults = Faults::new("flt0")?;
        faults.choose(None)?;
        cfs::mkfs(env, &disk.path, &[])?;
        let m = Mounted::new(&disk.path, &env.mnt, "")?;
        write_pattern(&open(&m.path("kept"))?, 9, 0, 100_000)?;
        make_many(&m.mnt)?;
        m.sync()?;
        let rest = promises(&m);
        Ok(Sweep {
            how,
            m,
            faults,
            log: Kmsg::new()?,
            rest,
            count: Count::default(),
            env: env.clone(),
            _disk: disk,
        })
    }

    /// All operations, or those whose name is in `only` (empty: all). Each failure is told, and the next
    /// operation tried.
    pub fn run(mut self, only: &[&str]) -> Result {
        let mut bad = 0;
        let mut lines = Vec::new();
        let mut sum = Count::default();
        let chosen = std::env::var("CALF_FAULTS_OP").unwrap_or_default();
        let words = chosen.split(',').filter(|c| !c.is_empty());
        for word in words {
            ensure!(
                ALL.iter().any(|o| o.name == word),
                "CALF_FAULTS_OP={chosen}: there is no operation {word}"
            );
        }
        for op in ALL
            .iter()
            .filter(|o| only.is_empty() || only.contains(&o.name))
        {
            if always_cow() && op.name == "preallocate" {
                continue;
            }
            if !chosen.is_empty() && !chosen.split(',').any(|c| c == op.name) {
                continue;
            }
            self.count = Count::default();
            if let Err(e) = self.operation(op) {
                ktap::note(&format!("{:?} {}: {e}", self.how, op.name));
                for line in self.log.read() {
                    ktap::note(&format!("  kernel: {line}"));
                }
                bad += 1;
                self = Sweep::again(self)?;
            }
            let Count {
                fired,
                told,
                crashed,
            } = self.count;
            lines.push(format!("{} {fired}/{told}/{crashed}", op.name));
            sum.fired += fired;
            sum.told += told;
            sum.crashed += crashed;
        }
        ktap::note(&format!("faults/told/shut down: {}", lines.join(", ")));
        ktap::note(&format!("sum: {}/{}/{}", sum.fired, sum.told, sum.crashed));
        ensure!(bad == 0, "{bad} operations");
        ensure!(!chosen.is_empty() || sum.fired > 0, "nothing has failed");
        self.m.umount()
    }

    /// After a failure: a fresh filesystem.
    fn again(self) -> Result<Sweep> {
        let (env, how, count) = (self.env.clone(), self.how, self.count);
        drop(self);
        let mut new = Sweep::new(&env, how)?;
        new.count = count;
        Ok(new)
    }

    fn operation(&mut self, op: &Op) -> Result {
        let trees = self.reference(op)?;
        let mut left: Vec<(PathBuf, Tree)> = Vec::new();
        let (mut n, mut quiet) = (1, 0);
        // The caller does the same each time. What another thread does may be spread otherwise (`fail-nth` counts for
        // each, and a worker that is made after all have been armed is not): one n without a fault is not the end.
        let patience = if self.how.who == Who::Me { 1 } else { 3 };
        loop {
            let dir = self.m.path(&format!("{}{n}", op.name));
            let shot = self
                .one(op, &dir, n, &trees)
                .map_err(|e| format!("n = {n}: {e}"))?;
            left.push((dir, shot.left));
            quiet = if shot.fired { 0 } else { quiet + 1 };
            if quiet == patience {
                break;
            }
            self.count.fired += u32::from(shot.fired);
            self.count.told += u32::from(shot.told);
            n = next(n);
            ensure!(n < 5000, "no end");
        }
        self.at_rest()?;
        let free = self.m.space()?;
        self.m.umount()?;
        cfs::fsck(&self.env, &self.m.dev)?;
        self.m.cycle()?;
        ensure_eq!(self.m.space()?, free, "space after umount and mount");
        check_pattern(&open(&self.m.path("kept"))?, 9, 0, 100_000)?;
        for (dir, want) in left {
            let now = tree(&dir, true)?;
            let name = dir.display();
            ensure!(
                now == want,
                "{name} after a mount: {}",
                difference(&want, &now)
            );
            fs::remove_dir_all(&dir).ctx("clean up")?;
        }
        self.m.sync()
    }

    /// Does the operation without a fault.
    fn reference(&mut self, op: &Op) -> Result<Trees> {
        let dir = self.m.path("reference");
        fs::create_dir(&dir)?;
        (op.setup)(&dir).ctx("setup")?;
        self.m.sync()?;
        let base = tree(&dir, false)?;
        let mut files = (op.open)(&dir).ctx("open")?;
        let before = tree(&dir, false)?;
        (op.act)(&dir, &mut files).ctx("without a fault")?;
        drop(files);
        let after = tree(&dir, false)?;
        self.m.sync()?;
        let last = tree(&dir, true)?;
        fs::remove_dir_all(&dir).ctx("clean up")?;
        Ok(Trees {
            base,
            before,
            after,
            last,
        })
    }

    fn one(&mut self, op: &Op, dir: &Path, n: u32, trees: &Trees) -> Result<Shot> {
        fs::create_dir(dir)?;
        (op.setup)(dir).ctx("setup")?;
        self.m.sync()?;
        if self.how.cold {
            self.m.cycle()?;
        }
        let mut files = (op.open)(dir).ctx("open")?;
        self.log.read();
        self.faults.choose(Some(self.how.kind))?;
        self.faults.arm(self.how.who, n)?;
        let mut done = (op.act)(dir, &mut files);
        if self.how.who != Who::Me {
            // Their work is seen by who waits for it.
            done = done.and_then(|()| self.m.sync());
        }
        let fired = self.faults.disarm();
        self.faults.choose(None)?;
        if let Err(e) = &done {
            ensure!(fired, "failed without a fault: {e}");
            let wanted = self.errno(op);
            ensure!(wanted.contains(&e.errno), "the wrong error: {e}");
        }
        let told = done.is_err();
        let bio = self.how.kind == Kind::Bio;
        let mut down = is_down(&self.m)?;
        if !down {
            let judged = self.running(op, dir, &mut files, told, trees);
            // A request that failed may end the journal only later, when it looks at what was written back.
            down = is_down(&self.m)?;
            if !down {
                judged?;
            }
        }
        drop(files);
        if down {
            ensure!(bio, "memory has shut the filesystem down");
            self.count.crashed += 1;
            self.crashed(op, dir, told, trees)?;
        }
        no_complaint(&self.log.read())?;
        let left = tree(dir, true)?;
        Ok(Shot { fired, told, left })
    }

    /// What the operation may fail with.
    fn errno(&self, op: &Op) -> Vec<Option<i32>> {
        let mut all = match self.how.kind {
            Kind::Slab | Kind::Page => vec![Errno::NOMEM],
            Kind::Bio => vec![Errno::IO],
            Kind::Space if super::full::SELDOM.contains(&op.name) => Vec::new(),
            Kind::Space => vec![Errno::NOSPC],
        };
        if op.name.starts_with("mmap") {
            // A system call that meets the fault in user memory.
            all.push(Errno::FAULT);
        }
        all.into_iter().map(|e| Some(e.raw_os_error())).collect()
    }

    /// Judges a filesystem that works on.
    fn running(
        &mut self,
        op: &Op,
        dir: &Path,
        files: &mut Vec<fs::File>,
        told: bool,
        trees: &Trees,
    ) -> Result {
        let now = tree(dir, false)?;
        let Trees {
            before,
            after,
            last,
            ..
        } = trees;
        if told {
            allowed(op.promise, before, after, &now)?;
        } else {
            ensure!(now == *after, "success, but: {}", difference(after, &now));
        }
        // What was dirty before and could not be written is given up once that has been told.
        let lost = told && self.how.kind == Kind::Bio && trees.base != *before;
        let again = told && !lost && (now == *before || op.promise == Promise::Blocks);
        if again {
            let mut result = (op.act)(dir, files);
            if self.how.kind == Kind::Bio && result.is_err() {
                // A file remembers a failed write until it is asked; the first to flush it hears of it, as in XFS.
                result = (op.act)(dir, files);
            }
            result.ctx("tried again")?;
        }
        files.clear();
        self.at_rest()?;
        if lost {
            // The page cache has it still, as in XFS.
            cfs::drop_caches()?;
            let now = tree(dir, false)?;
            allowed(op.promise, &trees.base, after, &now).ctx("given up")?;
        } else if again || !told {
            let now = tree(dir, true)?;
            ensure!(now == *last, "in the end: {}", difference(last, &now));
        }
        Ok(())
    }

    /// Judges a filesystem that was shut down.
    fn crashed(&mut self, op: &Op, dir: &Path, told: bool, trees: &Trees) -> Result {
        self.m.cycle().ctx("after a shutdown")?;
        self.m.umount()?;
        cfs::fsck(&self.env, &self.m.dev)?;
        self.m.cycle()?;
        let now = tree(dir, false)?;
        if op.durable && !told {
            ensure!(
                now == trees.after,
                "durable, but: {}",
                difference(&trees.after, &now)
            );
        }
        allowed(op.promise, &trees.base, &trees.after, &now).ctx("after a crash")
    }

    /// Nothing is under way or promised.
    fn at_rest(&self) -> Result {
        if self.how.kind == Kind::Bio {
            // syncfs tells of each error once, of those too that fsync has told of already.
            let _ = self.m.sync();
        }
        self.m.sync()?;
        if self.how.kind == Kind::Bio && promises(&self.m) != self.rest {
            // What could not be written stays reserved as long as the file is in memory (C6).
            cfs::drop_caches()?;
        }
        ensure_eq!(promises(&self.m), self.rest, "counters at rest");
        Ok(())
    }
}

/// What is promised and in flight.
pub fn promises(m: &Mounted) -> BTreeMap<String, i64> {
    let mut all = observe::counters(&m.bdev());
    all.retain(|k, _| ["delalloc_reserved", "meta_reserved", "claimed", "pinned"].contains(&&**k));
    all
}

/// Is the filesystem shut down?
pub fn is_down(m: &Mounted) -> Result<bool> {
    Ok(m.has_option("shutdown")? || m.has_option("emergency_ro")?)
}

/// Is this line of the kernel's log more than the news of a fault?
pub fn is_bad(line: &str) -> bool {
    let signs = [
        "WARNING: ",
        "BUG: ",
        "kernel BUG",
        "Oops",
        "INFO: task",
        "general protection",
    ];
    signs.iter().any(|s| line.contains(s)) && !line.contains("FAULT_INJECTION")
}

/// Has the kernel said no more than the news of a fault?
pub fn no_complaint(said: &[String]) -> Result {
    let bad: Vec<_> = said.iter().filter(|l| is_bad(l)).collect();
    ensure!(bad.is_empty(), "the kernel complains: {bad:?}");
    Ok(())
}

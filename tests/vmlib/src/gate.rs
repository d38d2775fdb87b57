// SPDX-License-Identifier: GPL-2.0

//! Gates of a laboratory build: hold one task at a named place in the filesystem.
//!
//! See `rust/lab/gates.rs`. Nothing here waits by the clock: [`Gate::wait`] returns when the kernel
//! says that a task is held, and fails when none came within the kernel's limit.

use crate::error::Context;
use crate::{Fail, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One gate of one mount.
#[derive(Debug, Clone)]
pub struct Gate {
    file: PathBuf,
}

impl Gate {
    /// The gate `name` of the filesystem on `dev`.
    pub fn new(dev: &Path, name: &str) -> Result<Gate> {
        let bdev = dev.file_name().unwrap_or_default().to_string_lossy();
        let file = PathBuf::from(format!("/sys/kernel/debug/calf/{bdev}/gates/{name}"));
        if !file.exists() {
            return Err(Fail::new(format!(
                "no gate {}: not a laboratory build?",
                file.display()
            )));
        }
        Ok(Gate { file })
    }

    fn tell(&self, what: &str) -> Result {
        std::fs::write(&self.file, what).ctx(format!("{}: {what}", self.file.display()))
    }

    /// The next task that passes with inode `ino`, after `skip` others, will be held.
    pub fn arm(&self, ino: u64, skip: u32) -> Result {
        self.tell(&format!("arm ino={ino} skip={skip}"))
    }

    /// The next task that passes with inode `ino`, after `skip` others, will get `EIO`.
    pub fn fail(&self, ino: u64, skip: u32) -> Result {
        self.tell(&format!("fail ino={ino} skip={skip}"))
    }

    /// Has a task got the error of [`Gate::fail`]?
    pub fn has_failed(&self) -> Result<bool> {
        let state = std::fs::read_to_string(&self.file).ctx(self.file.display())?;
        Ok(state.trim() == "Failed")
    }

    /// Returns when a task is held. A miss is an error: the window was not hit.
    pub fn wait(&self) -> Result {
        self.tell("wait")
            .map_err(|e| Fail::new(format!("window missed: {e}")))
    }

    /// Is a task held now?
    pub fn is_held(&self) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|t| t.trim() == "Held")
    }

    /// Lets the held task go. An error if none is held (any more): the window was not hit.
    pub fn release(&self) -> Result {
        self.tell("release")
            .map_err(|e| Fail::new(format!("window missed: {e}")))
    }
}

/// Asks again and again until `done` says so; fails after ten seconds. For states that the kernel
/// shows and does not announce.
pub fn until(what: &str, mut done: impl FnMut() -> bool) -> Result {
    let limit = Instant::now() + Duration::from_secs(10);
    while !done() {
        if Instant::now() > limit {
            return Err(Fail::new(format!("window missed: {what} did not happen")));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Does the thread `tid` of this process sleep uninterruptibly, for good? It must be seen asleep many
/// times without having run in between: who waits for a disk does run again.
pub fn is_blocked(tid: i32) -> bool {
    const TIMES: usize = 200;
    let look = || -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/status")).ok()?;
        let line = |key: &str| text.lines().find(|l| l.starts_with(key));
        line("State:")?.contains("D (").then_some(())?;
        line("voluntary_ctxt_switches:").map(str::to_string)
    };
    let first = look();
    first.is_some() && (0..TIMES).all(|_| look() == first)
}

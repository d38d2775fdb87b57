// SPDX-License-Identifier: GPL-2.0

//! Faults on purpose: the n-th allocation or block request of a task fails.
//!
//! The kernel counts for each task (`/proc/<task>/fail-nth`) and for all kinds of faults together; so one
//! kind at a time is switched on. Never failed are allocations with `__GFP_NOFAIL`, and what happens in
//! interrupts.

use crate::error::Context;
use crate::{ensure, Fail, Result};
use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An allocation of an object.
    Slab,
    /// An allocation of pages of any order.
    Page,
    /// A request to the device: `EIO`.
    Bio,
    /// A promise of blocks of the filesystem that is mounted (laboratory builds): `ENOSPC`. Not of a thread, of whomever.
    Space,
}

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The thread that made the [`Faults`].
    Me,
    /// The thread of the journal of the filesystem.
    Journal,
    /// Every worker of the kernel: the n-th of each of them.
    Workers,
}

fn debug(dir: &str, file: &str, value: &str) -> Result {
    fs::write(format!("/sys/kernel/debug/{dir}/{file}"), value).ctx(format!("{dir}/{file}"))
}

/// The faults of a kernel built with them. All are off when this is dropped.
pub struct Faults {
    me: File,
    disk: String,
    kind: Cell<Option<Kind>>,
    armed: Vec<File>,
}

impl Faults {
    /// For the calling thread, and requests to the block device `disk` (`nullb0`). Skips the case if the kernel
    /// has no faults.
    pub fn new(disk: &str) -> Result<Faults> {
        let rw = |p: &str| File::options().read(true).write(true).open(p);
        let Ok(me) = rw("/proc/thread-self/fail-nth") else {
            return Err(Fail::skip("a kernel without faults on purpose"));
        };
        let verbose = std::env::var("CALF_FAULTS_VERBOSE").unwrap_or("0".into());
        for dir in ["failslab", "fail_page_alloc", "fail_make_request"] {
            debug(dir, "verbose", &verbose)?;
            debug(dir, "verbose_ratelimit_burst", "1000000")?;
        }
        debug("failslab", "ignore-gfp-wait", "N")?;
        debug("fail_page_alloc", "ignore-gfp-wait", "N")?;
        debug("fail_page_alloc", "ignore-gfp-highmem", "N")?;
        Ok(Faults {
            me,
            disk: disk.into(),
            kind: Cell::new(None),
            armed: Vec::new(),
        })
    }

    /// Chooses what fails from now on.
    pub fn choose(&self, kind: Option<Kind>) -> Result {
        self.kind.set(kind);
        let on = |k| kind == Some(k);
        // No cache is marked for failslab, no allocation has so large an order.
        debug(
            "failslab",
            "cache-filter",
            if on(Kind::Slab) { "N" } else { "Y" },
        )?;
        debug(
            "fail_page_alloc",
            "min-order",
            if on(Kind::Page) { "0" } else { "99" },
        )?;
        let bio = if on(Kind::Bio) { "1" } else { "0" };
        let path = format!("/sys/class/block/{}/make-it-fail", self.disk);
        fs::write(&path, bio).ctx(path)
    }

    /// While the result lives, every request of the calling thread to the device fails with `EIO`.
    pub fn all_requests(&self) -> Result<Lasting> {
        for (file, value) in [
            ("interval", "1"),
            ("times", "-1"),
            ("space", "0"),
            ("task-filter", "Y"),
            ("probability", "100"),
        ] {
            debug("fail_make_request", file, value)?;
        }
        let lasting = Lasting;
        self.choose(Some(Kind::Bio))?;
        fs::write(MY_REQUESTS, "1").ctx(MY_REQUESTS)?;
        Ok(lasting)
    }

    /// Where the kernel counts the faults of the chosen kind, whosoever: down from [`TIMES`].
    fn times(&self) -> Option<&'static str> {
        match self.kind.get()? {
            Kind::Slab => Some("failslab"),
            Kind::Page => Some("fail_page_alloc"),
            Kind::Bio => Some("fail_make_request"),
            Kind::Space => None,
        }
    }

    /// The n-th (from 1) will fail. The next thing to do is what is tested.
    pub fn arm(&mut self, who: Who, n: u32) -> Result {
        if let Some(dir) = self.times() {
            debug(dir, "times", &TIMES.to_string())?;
        }
        if self.kind.get() == Some(Kind::Space) {
            let path = self.refuse();
            return fs::write(&path, n.to_string()).ctx(path);
        }
        self.armed = match who {
            Who::Me => vec![self.me.try_clone()?],
            Who::Journal => threads(&format!("jbd2/{}", self.disk))?,
            Who::Workers => threads("kworker/")?,
        };
        ensure!(!self.armed.is_empty(), "no such thread: {who:?}");
        let text = n.to_string();
        for f in &self.armed {
            // A worker may be gone by now.
            let r = f.write_at(text.as_bytes(), 0);
            ensure!(who == Who::Workers || r.is_ok(), "fail-nth: {r:?}");
        }
        Ok(())
    }

    /// The file that says which promise of blocks is refused.
    fn refuse(&self) -> String {
        format!("/sys/kernel/debug/calf/{}/refuse", self.disk)
    }

    /// Ends it. Has it failed?
    pub fn disarm(&mut self) -> bool {
        if self.kind.get() == Some(Kind::Space) {
            let path = self.refuse();
            let fired = fs::read_to_string(&path).is_ok_and(|t| t.trim() == "0");
            // A filesystem that is gone needs no order.
            let _ = fs::write(path, "0");
            return fired;
        }
        let mut last = false;
        for f in self.armed.drain(..) {
            let mut left = [0; 16];
            if let Ok(n) = f.read_at(&mut left, 0) {
                last |= left[..n].trim_ascii() == b"0";
            }
            // Who is gone needs no order.
            let _ = f.write_at(b"0", 0);
        }
        // A thread that has ended, as the journal's does at umount, cannot be asked.
        let counted = self.times().is_some_and(|dir| {
            let left = fs::read_to_string(format!("/sys/kernel/debug/{dir}/times"));
            left.is_ok_and(|t| t.trim() != TIMES.to_string())
        });
        last || counted
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.disarm();
        // The disk may be gone already.
        let _ = self.choose(None);
    }
}

/// More faults than will happen while something is armed.
const TIMES: u32 = 1_000_000;

/// Says whether chance decides over the requests of a thread too.
const MY_REQUESTS: &str = "/proc/thread-self/make-it-fail";

/// No request of a thread succeeds; they do again when this is dropped, by the same thread.
pub struct Lasting;

impl Drop for Lasting {
    fn drop(&mut self) {
        // A failure shows in what is done next.
        let _ = fs::write(MY_REQUESTS, "0");
        let _ = debug("fail_make_request", "probability", "0");
        let _ = debug("fail_make_request", "task-filter", "N");
    }
}

/// The switches of all processes whose name begins like this (which has at most 15 bytes).
fn threads(name: &str) -> Result<Vec<File>> {
    let name = &name[..name.len().min(15)];
    let mut found = Vec::new();
    for e in fs::read_dir("/proc")? {
        let dir = e?.path();
        if fs::read_to_string(dir.join("comm")).is_ok_and(|c| c.starts_with(name)) {
            found.extend(
                File::options()
                    .read(true)
                    .write(true)
                    .open(dir.join("fail-nth")),
            );
        }
    }
    Ok(found)
}

// SPDX-License-Identifier: GPL-2.0

//! What a test can see of the kernel: messages, tracepoints, calf's own counters.

use crate::error::Context;
use crate::{ensure, Env, Result};
use rustix::fs::{Mode, OFlags, SeekFrom};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Mounts debugfs and tracefs at their usual places when nobody has.
pub fn mount_debugfs() {
    use rustix::mount::{mount, MountFlags};
    let none = MountFlags::empty();
    if !Path::new("/sys/kernel/debug/clear_warn_once").exists() {
        // Errors show when the files are missed.
        let _ = mount("debugfs", "/sys/kernel/debug", c"debugfs", none, None);
    }
    if !Path::new("/sys/kernel/tracing/trace").exists() {
        let _ = mount("tracefs", "/sys/kernel/tracing", c"tracefs", none, None);
    }
}

/// Makes every `WARN_ON_ONCE` of the kernel speak again.
pub fn clear_warn_once() -> Result {
    std::fs::write("/sys/kernel/debug/clear_warn_once", "1").ctx("clear_warn_once")
}

/// The kernel log from some moment on.
pub struct Kmsg(File);

impl Kmsg {
    /// Starts to listen now.
    pub fn new() -> Result<Kmsg> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ctx("open /dev/kmsg")?;
        rustix::fs::seek(&fd, SeekFrom::End(0)).ctx("/dev/kmsg")?;
        Ok(Kmsg(fd.into()))
    }

    /// All messages since the last call, without their prefixes.
    pub fn read(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buf = [0u8; 8192];
        loop {
            match self.0.read(&mut buf) {
                Ok(n) if n > 0 => {
                    let text = String::from_utf8_lossy(&buf[..n]).into_owned();
                    let first = text.lines().next().unwrap_or("");
                    lines.push(first.split_once(';').map_or(first, |(_, m)| m).to_string());
                }
                // Messages were overwritten before we came: go on with what is there.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => continue,
                _ => return lines,
            }
        }
    }
}

/// The places (`file:line`) of the warnings among kernel messages.
pub fn warnings(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter_map(|l| l.split_once("WARNING: "))
        .map(|(_, rest)| rest.split_whitespace().next().unwrap_or("?").to_string())
        .collect()
}

/// Recording of tracepoints of one group: `iomap` or `block`.
pub struct Trace {
    dir: PathBuf,
    group: &'static str,
}

impl Trace {
    /// Clears the buffer and switches the given events of the group `iomap` on.
    pub fn start(events: &[&str]) -> Result<Trace> {
        Self::start_in("iomap", events)
    }

    /// The same for another group.
    pub fn start_in(group: &'static str, events: &[&str]) -> Result<Trace> {
        let t = Trace {
            dir: "/sys/kernel/tracing".into(),
            group,
        };
        t.set("tracing_on", "0")?;
        t.set("buffer_size_kb", "4096")?;
        // The order over all processors.
        t.set("trace_clock", "counter")?;
        t.set("trace", "")?;
        for e in events {
            t.set(&format!("events/{group}/{e}/enable"), "1")?;
        }
        t.set("tracing_on", "1")?;
        Ok(t)
    }

    fn set(&self, file: &str, value: &str) -> Result {
        std::fs::write(self.dir.join(file), value).ctx(format!("tracefs {file}"))
    }

    /// Stops and returns the lines in order: only the event's name and text, no task, no time.
    pub fn stop(self) -> Result<Vec<String>> {
        self.set("tracing_on", "0")?;
        self.set(&format!("events/{}/enable", self.group), "0")?;
        let text = std::fs::read_to_string(self.dir.join("trace")).ctx("read the trace")?;
        self.set("trace", "")?;
        let name = format!(": {}_", self.group);
        Ok(text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| l.find(&name).map(|at| l[at + 2..].to_string()))
            .collect())
    }
}

/// Value after `key ` in a tracepoint line, as a number (hexadecimal with `0x`).
pub fn field(line: &str, key: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    while let Some(w) = words.next() {
        if w == key {
            let v = words.next()?;
            return match v.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => v.parse().ok(),
            };
        }
    }
    None
}

/// calf's counters of one mount (debugfs), empty when the module offers none.
pub fn counters(bdev: &str) -> BTreeMap<String, i64> {
    let path = format!("/sys/kernel/debug/calf/{bdev}/counters");
    let Ok(text) = std::fs::read_to_string(path) else {
        return BTreeMap::new();
    };
    text.lines()
        .filter_map(|l| {
            let mut w = l.split_whitespace();
            Some((
                w.next()?.trim_end_matches(':').to_string(),
                w.next()?.parse().ok()?,
            ))
        })
        .collect()
}

/// The file of the module with the contracts it checks, in laboratory builds.
const CHECKS: &str = "/sys/kernel/debug/calf/checks";

/// Contracts that the loaded module has seen broken since it was loaded or [`forget_violations`] was
/// called, on any mount, and how often. Empty when it does not check.
pub fn violations() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(CHECKS).unwrap_or_default();
    text.lines()
        .filter_map(|l| {
            let mut w = l.split_whitespace();
            Some((w.next()?.to_string(), w.next()?.parse().ok()?))
        })
        .filter(|(_, n)| *n > 0)
        .collect()
}

/// What the contract `id` says, if the loaded module checks it.
pub fn statement(id: &str) -> Option<String> {
    let text = std::fs::read_to_string(CHECKS).ok()?;
    let line = text
        .lines()
        .find(|l| l.split_whitespace().next() == Some(id))?;
    let mut words = line.splitn(3, ' ').skip(2);
    words.next().map(str::to_string)
}

/// Starts to count anew.
pub fn forget_violations() -> Result {
    if Path::new(CHECKS).exists() {
        std::fs::write(CHECKS, "0").ctx(CHECKS)?;
    }
    Ok(())
}

/// Says whether the loaded module is a laboratory build (it checks contracts).
pub fn is_lab() -> bool {
    Path::new(CHECKS).exists()
}

/// Says whether the kernel watches its locks, and still does: lockdep turns itself off when it has found something.
pub fn lockdep_is_on() -> bool {
    std::fs::read_to_string("/proc/lockdep_stats").is_ok_and(|text| {
        let mut lines = text.lines().map(|l| l.split_whitespace());
        lines.any(|l| l.eq(["debug_locks:", "1"]))
    })
}

/// Taint bits of the kernel.
pub fn taint() -> u64 {
    std::fs::read_to_string("/proc/sys/kernel/tainted")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(0)
}

/// Taint bit of a kernel warning.
pub const TAINT_WARN: u64 = 1 << 9;
/// Taint bit of an oops.
pub const TAINT_DIE: u64 = 1 << 7;

/// A test case: the kernel has neither warned nor died since it was booted.
pub fn no_kernel_warning(_: &Env) -> Result {
    let bad = taint() & (TAINT_WARN | TAINT_DIE);
    ensure!(bad == 0, "the kernel is tainted: {bad:#x}");
    Ok(())
}

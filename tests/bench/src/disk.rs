// SPDX-License-Identifier: GPL-2.0

//! What a block device has done, and the kernel's small objects.

use calf_vmlib::error::Context;
use calf_vmlib::{ensure, Result};
use std::ops::Sub;
use std::path::PathBuf;

/// Counters of `/sys/block/<device>/stat`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Io {
    /// Requests that read.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Requests that wrote.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flushes of the device's cache.
    pub flushes: u64,
}

impl Sub for Io {
    type Output = Io;
    fn sub(self, o: Io) -> Io {
        Io {
            reads: self.reads - o.reads,
            read_bytes: self.read_bytes - o.read_bytes,
            writes: self.writes - o.writes,
            written_bytes: self.written_bytes - o.written_bytes,
            flushes: self.flushes - o.flushes,
        }
    }
}

/// A device whose counters can be read.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// The device of that name (`ubdc`).
    pub fn new(name: &str) -> Disk {
        Disk(PathBuf::from(format!("/sys/block/{name}/stat")))
    }

    /// The counters now.
    pub fn io(&self) -> Result<Io> {
        let text = std::fs::read_to_string(&self.0).ctx(self.0.display())?;
        let n: Vec<u64> = text
            .split_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect();
        ensure!(n.len() >= 17, "{}: {text}", self.0.display());
        Ok(Io {
            reads: n[0],
            read_bytes: n[2] * 512,
            writes: n[4],
            written_bytes: n[6] * 512,
            flushes: n[15],
        })
    }
}

/// Bytes of all objects that the kernel's slab caches hold.
pub fn slab_bytes() -> Result<i64> {
    let text = std::fs::read_to_string("/proc/slabinfo").ctx("/proc/slabinfo")?;
    let mut sum = 0;
    for line in text.lines().skip(2) {
        // Name, objects in use, objects, bytes of an object.
        let word: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| word.get(i).and_then(|w| w.parse::<i64>().ok());
        let (Some(used), Some(size)) = (number(1), number(3)) else {
            continue;
        };
        sum += used * size;
    }
    ensure!(sum > 0, "no slab statistics");
    Ok(sum)
}

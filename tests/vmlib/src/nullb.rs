// SPDX-License-Identifier: GPL-2.0

//! A disk in memory (`null_blk`) that is slow, fails, or has a volatile cache, as a test wants it.

use crate::error::Context;
use crate::file::open_direct;
use crate::fs::command;
use crate::sys::Aligned;
use crate::{Env, Fail, Result};
use rustix::mount::MountFlags;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

/// A disk; it goes when this is dropped.
pub struct NullDisk {
    config: PathBuf,
    /// Its path.
    pub path: PathBuf,
}

impl NullDisk {
    /// Makes the disk `name` of `mib` MiB; `settings` are files of `null_blk` in configfs and what to
    /// write there.
    pub fn new(name: &str, mib: u32, settings: &[(&str, &str)]) -> Result<NullDisk> {
        let root = PathBuf::from("/sys/kernel/config/nullb");
        if !root.exists() {
            let (status, text) =
                command(Command::new("modprobe").args(["null_blk", "nr_devices=0"]))?;
            if status != 0 {
                return Err(Fail::skip(format!("no null_blk: {text}")));
            }
        }
        if !root.exists() {
            let none = MountFlags::empty();
            rustix::mount::mount("none", "/sys/kernel/config", c"configfs", none, None)
                .ctx("mount configfs")?;
        }
        let disk = NullDisk {
            config: root.join(name),
            path: PathBuf::from("/dev").join(name),
        };
        std::fs::create_dir(&disk.config).ctx("make a null_blk")?;
        disk.set("size", &mib.to_string())?;
        disk.set("memory_backed", "1")?;
        for (key, value) in settings {
            disk.set(key, value)?;
        }
        disk.set("power", "1")?;
        Ok(disk)
    }

    /// Writes zeros to all of it: it takes each page from the kernel at the first write there, which is not
    /// the business of whatever is measured, or fails, later.
    pub fn fill(&self) -> Result {
        let disk = open_direct(&self.path)?;
        let end = (&disk).seek(SeekFrom::End(0))?;
        let zeros = Aligned::new(1 << 20);
        for at in (0..end).step_by(zeros.len()) {
            disk.write_all_at(&zeros, at).ctx("fill the disk")?;
        }
        Ok(())
    }

    /// Pulls it out, with whatever is mounted on it, or puts it back in with the contents that it had.
    pub fn power(&self, on: bool) -> Result {
        self.set("power", if on { "1" } else { "0" })
    }

    /// Writes a setting.
    pub fn set(&self, key: &str, value: &str) -> Result {
        std::fs::write(self.config.join(key), value).ctx(format!("null_blk {key}={value}"))
    }

    /// While the result lives, I/O to bytes `[start, end)` fails. 128 MiB at most.
    pub fn break_range(&self, start: u64, end: u64) -> Result<Broken<'_>> {
        let range = format!("{}-{}", start / 512, end / 512 - 1);
        self.set("badblocks", &format!("+{range}"))?;
        Ok(Broken { disk: self, range })
    }

    /// `env` with this disk as the device under test.
    pub fn env(&self, env: &Env) -> Env {
        Env {
            dev: self.path.clone(),
            ..env.clone()
        }
    }
}

impl Drop for NullDisk {
    fn drop(&mut self) {
        // Whoever still has it open makes this fail; the next test needs the name.
        let _ = self.set("power", "0");
        let _ = std::fs::remove_dir(&self.config);
    }
}

/// A part of a disk that does not work; it does again when this is dropped.
pub struct Broken<'a> {
    disk: &'a NullDisk,
    range: String,
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        let _ = self.disk.set("badblocks", &format!("-{}", self.range));
    }
}

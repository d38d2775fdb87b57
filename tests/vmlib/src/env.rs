// SPDX-License-Identifier: GPL-2.0

//! Where things are: devices, mount point, module, tools. Every place can be set by an
//! environment variable, which is how the programs are tried on a host.

use crate::{Fail, Result};
use std::path::PathBuf;

/// The places a test program works with.
#[derive(Debug, Clone)]
pub struct Env {
    /// Block device (or image file) that is formatted again and again (`CALF_DEV`).
    pub dev: PathBuf,
    /// A second one (`CALF_SCRATCH`).
    pub scratch: PathBuf,
    /// Mount point, created when missing (`CALF_MNT`).
    pub mnt: PathBuf,
    /// The module file (`CALF_MODULE`).
    pub module: PathBuf,
    /// Folder with `mkfs.calf` and `fsck.calf` (`CALF_BIN`); empty: search the `PATH`.
    pub bin: PathBuf,
}

fn place(var: &str, candidates: &[&str]) -> PathBuf {
    if let Some(v) = std::env::var_os(var) {
        return v.into();
    }
    let found = candidates.iter().map(PathBuf::from).find(|p| p.exists());
    found.unwrap_or_else(|| PathBuf::from(candidates[0]))
}

/// A number that the environment gives (in the VM: the kernel's command line), `default` if it is not there. What is
/// no number is an error: a run with another number would not be the one that was asked for.
pub fn number(var: &str, default: u64) -> Result<u64> {
    match std::env::var(var) {
        Ok(v) => v
            .parse()
            .map_err(|_| Fail::new(format!("{var}={v} is no number"))),
        Err(_) => Ok(default),
    }
}

impl Env {
    /// Reads the environment variables, with the places of the test VM as defaults.
    pub fn new() -> Self {
        Env {
            dev: place("CALF_DEV", &["/dev/disk/calf/test"]),
            scratch: place("CALF_SCRATCH", &["/dev/disk/calf/scratch"]),
            mnt: place("CALF_MNT", &["/mnt/test", "/mnt"]),
            module: place("CALF_MODULE", &["/payload/calf.ko", "/calf.ko"]),
            bin: place("CALF_BIN", &["/payload/bin", "/bin"]),
        }
    }

    /// Path of a tool: in [`Env::bin`] when it is there, else left to the `PATH`.
    pub fn tool(&self, name: &str) -> PathBuf {
        let p = self.bin.join(name);
        if p.exists() {
            p
        } else {
            name.into()
        }
    }
}

impl Default for Env {
    fn default() -> Self {
        Self::new()
    }
}

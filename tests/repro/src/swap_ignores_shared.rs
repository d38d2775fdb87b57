// SPDX-License-Identifier: GPL-2.0

//! The mappings that swapon asks for do not tell that blocks are shared: the kernel accepts a clone as swap
//! space and would write it in place, past all copy-on-write. Nothing is swapped here; that swapon
//! says yes is bad enough.

use crate::case::{fill, Case, Outcome, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::sys::{swapoff, swapon};
use calf_vmlib::{Fail, Result};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "swap_ignores_shared",
    contract: "C-SWAP",
    summary: "swapon accepts a file with shared blocks",
    options: "",
    run,
};

const LEN: u64 = 1 << 20;

fn run(stage: &mut Stage) -> Result<Outcome> {
    if !std::path::Path::new("/proc/swaps").exists() {
        return Err(Fail::skip("no swap in this kernel"));
    }
    let f = stage.file("swap")?;
    fill(&f, b's', 0, LEN)?;
    // What mkswap writes: version, last page, signature.
    let mut page = vec![0u8; PAGE as usize];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&((LEN / PAGE - 1) as u32).to_le_bytes());
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    f.write_all_at(&page, 0).ctx("swap header")?;
    f.sync_all().ctx("fsync")?;
    let path = stage.path("swap");
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Fail::new("a NUL"))?;
    let try_it = || -> Result<std::result::Result<(), Errno>> {
        let on = swapon(&path);
        if on.is_ok() {
            swapoff(&path).ctx("swapoff")?;
        }
        Ok(on)
    };
    let own = try_it()?;
    stage.cloned("clone", &f)?;
    let shared = try_it()?;
    let word = |r: &std::result::Result<(), Errno>| match r {
        Ok(()) => "yes".to_string(),
        Err(Errno::INVAL) => "EINVAL".to_string(),
        Err(e) => e.to_string(),
    };
    Ok(Outcome {
        correct: own.is_ok() && shared == Err(Errno::INVAL),
        bug: own.is_ok() && shared.is_ok(),
        observed: format!("swapon of a file with shared blocks: {}", word(&shared)),
        facts: format!("alone={} shared={}", word(&own), word(&shared)),
    })
}

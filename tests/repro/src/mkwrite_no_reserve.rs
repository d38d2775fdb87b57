// SPDX-License-Identifier: GPL-2.0

//! A write fault that reserves nothing, on a full filesystem: the store succeeds, and there is no
//! block for it when it is written back. Correct is to refuse the store (SIGBUS; here the kernel
//! does the store for us and says EFAULT).

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::frame::Stage;
use crate::full_disk::fill_up;
use calf_vmlib::error::Context;
use calf_vmlib::sys::Map;
use calf_vmlib::Result;
use rustix::io::Errno;

/// The reproducer.
pub const CASE: Case = Case {
    name: "mkwrite_no_reserve",
    contract: "C-MKWRITE-RESV",
    summary: "a store on a full disk succeeds, fsync says ENOSPC",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', 64 << 10)?;
    let b = stage.cloned("b", &a)?;
    let byte = stage.filled("byte", b'M', 1)?;
    let map = Map::new(&b, 0, PAGE as usize).ctx("mmap")?;
    fill_up(stage)?;
    let stored = map.read_from(0, 1, &byte, 0);
    let synced = b.sync_all().err().and_then(|e| e.raw_os_error());
    drop(map);
    let (own, source) = (cold_byte(&b, 0)?, cold_byte(&a, 0)?);
    Ok(Outcome {
        correct: stored == Err(Errno::FAULT) && synced.is_none() && own == b'o' && source == b'o',
        bug: stored == Ok(1)
            && synced == Some(Errno::NOSPC.raw_os_error())
            && own == b'o'
            && source == b'o',
        observed: format!("the store succeeds, fsync fails, it reads {}", show(own)),
        facts: format!("store={stored:?} fsync={synced:?} own={own:#x} source={source:#x}"),
    })
}

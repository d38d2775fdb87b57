// SPDX-License-Identifier: GPL-2.0

//! A write fault that reserves nothing, on a full filesystem: the store succeeds, and there is no
//! block for it when it is written back. Correct is to refuse the store (SIGBUS; here the kernel
//! does the store for us and says EFAULT).

use crate::case::{cold_byte, fill, show, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::sys::Map;
use calf_vmlib::Result;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// The reproducer.
pub const CASE: Case = Case {
    name: "mkwrite_no_reserve",
    contract: "C-MKWRITE-RESV",
    summary: "a store on a full disk succeeds, fsync says ENOSPC",
    options: "",
    run,
};

/// Takes all space there is: at the end not even one block can be written.
fn fill_up(stage: &Stage) -> Result {
    let f = stage.file("ballast")?;
    let (mut at, mut step) = (0u64, 1u64 << 30);
    while step >= PAGE {
        match rustix::fs::fallocate(&f, FallocateFlags::empty(), at, step) {
            Ok(()) => at += step,
            Err(Errno::NOSPC) => step /= 2,
            Err(e) => return Err(e).ctx("fallocate"),
        }
    }
    let g = stage.file("crumbs")?;
    for n in 0..10_000 {
        let wrote = fill(&g, b'c', n * PAGE, PAGE).and_then(|()| g.sync_all().ctx("fsync"));
        match wrote {
            Ok(()) => {}
            Err(e) if e.errno == Some(Errno::NOSPC.raw_os_error()) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Err(window_missed("the filesystem does not fill up"))
}

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

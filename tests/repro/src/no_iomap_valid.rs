// SPDX-License-Identifier: GPL-2.0

//! Seed 002, the bug itself: a long write holds the mapping "unwritten" while a page further on gets
//! data, is written back and reclaimed. When the write gets there, the mapping says that the page must
//! be zeroed around the copy, and that data is gone. Only `iomap_valid` prevents it.
//!
//! In XFS the page may be dirty before the write begins; calf's begin ends its mapping at a page that
//! is dirty over a preallocated block, so here the data is stored while the write is held.

use crate::case::{cold_byte, fill, ino, show, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use crate::short_write::cache_first_page;
use calf_vmlib::error::Context;
use calf_vmlib::gate::until;
use calf_vmlib::sys::{self, Map};
use calf_vmlib::{file, Result};
use rustix::fs::{Advice, FallocateFlags};

/// The reproducer.
pub const CASE: Case = Case {
    name: "no_iomap_valid",
    contract: "C-VALID",
    summary: "a byte that reached the disk before the write got there is zero",
    options: "",
    run,
};

/// The other byte is the last one of page 9; the write ends with the first one.
const OLD: u64 = 10 * PAGE - 1;
const LEN: u64 = 9 * PAGE + 1;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    file::fallocate(&f, FallocateFlags::empty(), 0, 10 * PAGE)?;
    f.sync_all().ctx("fsync")?;
    calf_vmlib::fs::drop_caches()?;
    cache_first_page(&f)?;
    let stale = stage.counter("stale_hits")?;
    let gate = stage.gate("iomap_valid")?;
    gate.arm(ino(&f)?, 0)?;
    std::thread::scope(|s| -> Result {
        let writer = s.spawn(|| fill(&f, b'W', 0, LEN));
        gate.wait()?;
        {
            let map = Map::new(&f, 9 * PAGE, PAGE as usize).ctx("mmap")?;
            map.write(PAGE as usize - 1, b"X");
        }
        sys::sync_range(&f, 9 * PAGE, PAGE).ctx("sync_file_range")?;
        until("reclaim of the page", || {
            let one = std::num::NonZeroU64::new(PAGE);
            let _ = rustix::fs::fadvise(&f, 9 * PAGE, one, Advice::DontNeed);
            let map = Map::new(&f, 9 * PAGE, PAGE as usize);
            map.and_then(|m| m.resident())
                .is_ok_and(|pages| pages == [false])
        })?;
        gate.release()?;
        writer
            .join()
            .map_err(|_| window_missed("the writer died"))?
    })?;
    f.sync_all().ctx("fsync")?;
    let old = cold_byte(&f, OLD)?;
    let new = cold_byte(&f, LEN - 1)?;
    let rounds = stage.counter("stale_hits")? - stale;
    Ok(Outcome {
        correct: old == b'X' && new == b'W' && rounds > 0,
        bug: old == 0 && new == b'W' && rounds == 0,
        observed: format!("the stored byte is {}", show(old)),
        facts: format!("old={old:#x} new={new:#x} stale_rounds={rounds}"),
    })
}

// SPDX-License-Identifier: GPL-2.0

//! The mapping of writeback lives on between two ranges. A staged block, then a preallocated one; the flags of
//! the first stay in the mapping of the second. Its completion looks for staged blocks, finds
//! none, and the preallocated block is never marked written: the data is on disk and reads as zeros.

use crate::case::{cold_byte, fill, show, Case, Outcome, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::{file, fs, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// The reproducer.
pub const CASE: Case = Case {
    name: "wb_stale_flags",
    contract: "C-WB-FRESH",
    summary: "fsync fails with EIO, the data of an innocent block is lost",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', PAGE)?;
    let b = stage.cloned("b", &a)?;
    file::fallocate(&b, FallocateFlags::empty(), PAGE, PAGE)?;
    b.sync_all().ctx("fsync")?;
    fs::drop_caches()?;
    fill(&b, b'1', PAGE, PAGE)?;
    fill(&b, b'0', 0, PAGE)?;
    let synced = b.sync_all().err().and_then(|e| e.raw_os_error());
    let (first, second) = (cold_byte(&b, 0)?, cold_byte(&b, PAGE)?);
    let source = cold_byte(&a, 0)?;
    let fine = first == b'0' && source == b'o';
    Ok(Outcome {
        correct: synced.is_none() && fine && second == b'1',
        bug: synced == Some(Errno::IO.raw_os_error()) && fine && second == 0,
        observed: format!("fsync: EIO, the second block reads {}", show(second)),
        facts: format!("fsync={synced:?} first={first:#x} second={second:#x} source={source:#x}"),
    })
}

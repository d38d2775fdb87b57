// SPDX-License-Identifier: GPL-2.0

//! The I/O of a copy-on-write fails. Nothing is mapped, but the blocks that were chosen for it stay claimed by
//! an I/O that is over.

use crate::case::{cold_byte, fill, ino, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::Result;
use rustix::io::Errno;

/// The reproducer.
pub const CASE: Case = Case {
    name: "cow_error_leaves_delalloc",
    contract: "C-IOEND-ERROR",
    summary: "blocks stay claimed after a write that failed",
    options: "",
    run,
};

const BLOCKS: i64 = 16;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let len = BLOCKS as u64 * PAGE;
    let a = stage.filled("a", b'o', len)?;
    let b = stage.cloned("b", &a)?;
    let gate = stage.gate("wb_end_io")?;
    fill(&b, b'N', 0, len)?;
    gate.fail(ino(&b)?, 0)?;
    let error = b.sync_all().err().and_then(|e| e.raw_os_error());
    if !gate.has_failed()? {
        return Err(window_missed("no error was injected"));
    }
    let claimed = stage.counter("claimed")?;
    let reserved = stage.counter("delalloc_reserved")?;
    let failed = cold_byte(&b, 0)?;
    // When the device is well again both write the same blocks once more.
    fill(&b, b'N', 0, len)?;
    b.sync_all().ctx("fsync")?;
    let (again, source) = (cold_byte(&b, 0)?, cold_byte(&a, 0)?);
    let rest = stage.counter("claimed")? + stage.counter("delalloc_reserved")?;
    let fine = error == Some(Errno::IO.raw_os_error())
        && failed == b'o'
        && again == b'N'
        && source == b'o'
        && rest == 0;
    Ok(Outcome {
        correct: fine && claimed == 0 && reserved == BLOCKS,
        bug: fine && claimed == BLOCKS && reserved == 0,
        observed: format!("{claimed} blocks stay claimed, by no I/O"),
        facts: format!(
            "fsync={error:?} claimed={claimed} reserved={reserved} failed={failed:#x} \
             again={again:#x} source={source:#x} rest={rest}"
        ),
    })
}

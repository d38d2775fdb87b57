// SPDX-License-Identifier: GPL-2.0

//! Writeback goes on with the mapping of the previous folio although the next block has become shared
//! and staged meanwhile: it is written in place, into a block that another file owns too.

use crate::case::{cold_byte, fill, ino, show, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::{file, Result};

/// The reproducer.
pub const CASE: Case = Case {
    name: "wb_no_revalidate",
    contract: "C-WB-REVALIDATE",
    summary: "a write to one file changes its clone",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let b = stage.filled("b", b'o', 2 * PAGE)?;
    calf_vmlib::fs::drop_caches()?;
    let c = stage.file("c")?;
    // One folio a block.
    fill(&b, b'1', PAGE, PAGE)?;
    fill(&b, b'0', 0, PAGE)?;
    let gate = stage.gate("wb_between")?;
    gate.arm(ino(&b)?, 0)?;
    std::thread::scope(|s| -> Result {
        let sync = s.spawn(|| b.sync_all());
        gate.wait()?;
        // Flushes block 1 only, then shares it; the next write to it is staged.
        file::clone_range(&c, &b, PAGE, PAGE, 0)?;
        fill(&b, b'N', PAGE, PAGE)?;
        gate.release()?;
        let synced = sync.join().map_err(|_| window_missed("fsync died"))?;
        synced.ctx("fsync")
    })?;
    b.sync_all().ctx("fsync")?;
    let (clone, own) = (cold_byte(&c, 0)?, cold_byte(&b, PAGE)?);
    Ok(Outcome {
        correct: clone == b'1' && own == b'N',
        bug: clone == b'N',
        observed: format!("the clone reads {}", show(clone)),
        facts: format!("clone={clone:#x} own={own:#x}"),
    })
}

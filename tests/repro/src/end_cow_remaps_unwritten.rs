// SPDX-License-Identifier: GPL-2.0

//! Two dirty blocks are reserved together and claimed together; only the first is written. Its completion
//! maps the second one too, whose block nobody has written yet: after a crash the file shows
//! what the disk held there before.

use crate::case::{fill, Case, Outcome, Special, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::{file, sys, Result};

/// The reproducer.
pub const CASE: Special = Special {
    case: Case {
        name: "end_cow_remaps_unwritten",
        contract: "C-IOEND-COW",
        summary: "after a crash a file shows old data of the disk",
        options: "",
        run,
    },
    junk: true,
    warn: None,
    lockdep: None,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(2 * PAGE).ctx("truncate")?;
    f.sync_all().ctx("fsync")?;
    // One folio a block.
    fill(&f, b'1', PAGE, PAGE)?;
    fill(&f, b'0', 0, PAGE)?;
    sys::sync_range(&f, 0, PAGE).ctx("sync_file_range")?;
    stage.commit()?;
    stage.crash(f)?;
    let f = stage.file("f")?;
    let first = file::read_at(&f, 0, PAGE as usize)? == vec![b'0'; PAGE as usize];
    let second = file::read_at(&f, PAGE, PAGE as usize)?;
    let zero = second.iter().all(|b| *b == 0);
    let mapped = file::extent_bytes(&file::extents(&f)?, 0) / PAGE;
    Ok(Outcome {
        correct: first && zero && mapped == 1,
        bug: first && !zero && second != vec![b'1'; PAGE as usize] && mapped == 2,
        observed: format!(
            "{mapped} blocks mapped, the second reads {:#x} ...",
            second[0]
        ),
        facts: format!(
            "mapped={mapped} first_same={first} second_zero={zero} second={:#x}",
            second[0]
        ),
    })
}

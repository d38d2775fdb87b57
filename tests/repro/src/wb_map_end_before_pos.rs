// SPDX-License-Identifier: GPL-2.0

//! Writeback takes a mapping that ends before the folio. The core does not check it and goes on to
//! the block of the device that would be next, which belongs to another file. No kernel warning tells.
//!
//! There must be a gap between the end of the mapping and the folio: where the folio begins exactly
//! at the end, the core of 7.3.4 computes a length of zero and tries to add nothing to one new ioend
//! after another, for ever, with the folio locked.

use crate::case::{cold_byte, fill, show, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::{file, Result};

/// The reproducer.
pub const CASE: Case = Case {
    name: "wb_map_end_before_pos",
    contract: "C-WB-COVER",
    summary: "a write to one file lands in another",
    options: "",
    run,
};

const FAR: u64 = 2 * PAGE;

fn run(stage: &mut Stage) -> Result<Outcome> {
    // The blocks of f follow each other on disk; g takes over the third, f gets another one for it.
    let f = stage.filled("f", b'o', 3 * PAGE)?;
    let first = file::extents(&f)?;
    let g = stage.file("g")?;
    file::clone_range(&g, &f, FAR, PAGE, 0)?;
    file::punch(&f, PAGE, 2 * PAGE)?;
    fill(&f, b'p', FAR, PAGE)?;
    f.sync_all().ctx("fsync")?;
    let (fe, ge) = (file::extents(&f)?, file::extents(&g)?);
    let next = first.first().map(|e| e.physical + FAR);
    if first.len() != 1 || fe.len() != 2 || ge.first().map(|e| e.physical) != next {
        return Err(window_missed("the blocks do not lie as they should"));
    }
    calf_vmlib::fs::drop_caches()?;
    fill(&f, b'1', FAR, PAGE)?;
    fill(&f, b'0', 0, PAGE)?;
    let synced = f.sync_all();
    let (other, own) = (cold_byte(&g, 0)?, cold_byte(&f, FAR)?);
    let zero = cold_byte(&f, 0)?;
    Ok(Outcome {
        correct: synced.is_ok() && other == b'o' && own == b'1' && zero == b'0',
        bug: other == b'1' && own == b'p' && zero == b'0',
        observed: format!("the other file reads {}", show(other)),
        facts: format!("fsync={synced:?} other={other:#x} own={own:#x} first={zero:#x}"),
    })
}

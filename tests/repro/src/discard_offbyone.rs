// SPDX-License-Identifier: GPL-2.0

//! Writeback of a folio fails. Its reservation is dropped, and with it, by an end that was computed wrong,
//! those of the folios after it: they are dirty without a reservation, writeback finds a hole and drops
//! their data. One fsync says EIO, for the first folio; the next one says 0.
//!
//! A third block, away from the others, is the last of the pass: the core ends the last ioend with the error
//! in any case (C-WB-ERROR-BLAST), and that must not be the folio that is looked at.

use crate::case::{cold_byte, fill, ino, show, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::Result;
use rustix::io::Errno;

/// The reproducer.
pub const CASE: Case = Case {
    name: "discard_offbyone",
    contract: "C-WB-ERROR-DISCARD",
    summary: "an error in one folio loses the next one, silently",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(4 * PAGE).ctx("truncate")?;
    f.sync_all().ctx("fsync")?;
    // One folio a block; the first two are reserved in one piece.
    fill(&f, b'3', 3 * PAGE, PAGE)?;
    fill(&f, b'1', PAGE, PAGE)?;
    fill(&f, b'0', 0, PAGE)?;
    let gate = stage.gate("wb_map")?;
    gate.fail(ino(&f)?, 0)?;
    let first = f.sync_all().err().and_then(|e| e.raw_os_error());
    if !gate.has_failed()? {
        return Err(window_missed("no error was injected"));
    }
    let again = f.sync_all();
    let (own, next) = (cold_byte(&f, 0)?, cold_byte(&f, PAGE)?);
    let told = first == Some(Errno::IO.raw_os_error()) && again.is_ok() && own == 0;
    Ok(Outcome {
        correct: told && next == b'1',
        bug: told && next == 0,
        observed: format!("fsync: EIO, then 0; the next folio reads {}", show(next)),
        facts: format!("fsync={first:?} again={again:?} own={own:#x} next={next:#x}"),
    })
}

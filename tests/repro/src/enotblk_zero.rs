// SPDX-License-Identifier: GPL-2.0

//! Begin gives up with `ENOTBLK`; the core turns that into "0 bytes, and all of the data left". Who
//! takes only the errno for a sign to go through the page cache tells the program that nothing was
//! written, and no error.

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::open_direct;
use calf_vmlib::sys::Aligned;
use calf_vmlib::Result;
use std::os::unix::fs::FileExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "enotblk_zero",
    contract: "C-DIO-ENOTBLK",
    summary: "a direct write returns 0",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(PAGE).ctx("truncate")?;
    f.sync_all().ctx("fsync")?;
    let direct = open_direct(&stage.path("f"))?;
    let data = Aligned::from(&vec![b'N'; PAGE as usize]);
    let n = direct.write_at(&data, 0).ctx("write")?;
    let byte = cold_byte(&f, 0)?;
    Ok(Outcome {
        correct: n == PAGE as usize && byte == b'N',
        bug: n == 0 && byte == 0,
        observed: format!("write returns {n}, block 0 is {}", show(byte)),
        facts: format!("n={n} byte={byte:#x}"),
    })
}

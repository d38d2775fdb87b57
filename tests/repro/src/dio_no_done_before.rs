// SPDX-License-Identifier: GPL-2.0

//! A direct write that is resumed returns only what its last part has done. The data is there; who
//! wrote it writes the rest once more, and if the file is a log the log has it twice.

use crate::case::{cold_byte, Case, Outcome, PAGE};
use crate::direct::{half_present, write_in_two};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::open_direct;
use calf_vmlib::sys::O_DIRECT;
use calf_vmlib::Result;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "dio_no_done_before",
    contract: "C-DIO-DONE-BEFORE",
    summary: "a direct write in two parts returns the length of the second",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(2 * PAGE)?;
    let map = half_present(stage)?;
    let n = write_in_two(&map, &open_direct(&stage.path("f"))?, 0)?;
    let whole = cold_byte(&f, 0)? == b'P' && cold_byte(&f, PAGE)? == b'Q';

    // What every careful writer does: it goes on where the kernel says it is.
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(O_DIRECT)
        .open(stage.path("log"))
        .ctx("open the log")?;
    map.zap(PAGE as usize, PAGE as usize).ctx("madvise")?;
    let mut done = 0;
    while done < 2 * PAGE as usize {
        done += map
            .write_to(done, 2 * PAGE as usize - done, &log, 0, 0)
            .ctx("append")?;
    }
    let size = log.metadata().ctx("stat")?.len();
    Ok(Outcome {
        correct: whole && n == Ok(2 * PAGE as usize) && size == 2 * PAGE,
        bug: whole && n == Ok(PAGE as usize) && size == 3 * PAGE,
        observed: format!("returns {}, a log of 8192 bytes has {size}", n.unwrap_or(0)),
        facts: format!("n={n:?} whole={whole} log={size}"),
    })
}

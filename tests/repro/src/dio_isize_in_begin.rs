// SPDX-License-Identifier: GPL-2.0

//! The size moves when a direct write asks for blocks, before anything is written, and nobody takes it
//! back. If the write comes back short the file is too long; and an append that is resumed finds its
//! position by the size, so there is a hole in the middle.

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::direct::{half_present, write_in_two};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::open_direct;
use calf_vmlib::sys::{write_into_the_void, O_DIRECT};
use calf_vmlib::Result;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "dio_isize_in_begin",
    contract: "C-DIO-ISIZE-BEGIN",
    summary: "a short direct write leaves the file too long, an append in parts has a hole",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let short = open_direct(&stage.path("short"))?;
    let n = write_into_the_void(&short, &[b'P'; PAGE as usize], 2 * PAGE as usize, 0);
    let n = n.ctx("a short write")?;
    let size = short.metadata().ctx("stat")?.len();

    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(O_DIRECT)
        .open(stage.path("log"))
        .ctx("open the log")?;
    let map = half_present(stage)?;
    let appended = write_in_two(&map, &log, 0)?;
    let grown = log.metadata().ctx("stat")?.len();
    let second = cold_byte(&stage.file("log")?, PAGE)?;
    let same = n == PAGE as usize && appended == Ok(2 * PAGE as usize);
    Ok(Outcome {
        correct: same && size == PAGE && grown == 2 * PAGE && second == b'Q',
        bug: same && size == 2 * PAGE && grown == 3 * PAGE && second == 0,
        observed: format!(
            "4096 written, size {size}; 8192 appended, size {grown}, block 1 is {}",
            show(second)
        ),
        facts: format!("n={n} size={size} appended={appended:?} grown={grown} second={second:#x}"),
    })
}

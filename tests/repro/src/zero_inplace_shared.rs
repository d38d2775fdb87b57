// SPDX-License-Identifier: GPL-2.0

//! Zeroing comes without the write flag, and who takes it for a read of the mapping zeroes a shared
//! block in place: the clone loses its bytes too.

use crate::case::{cold_byte, show, Case, Outcome};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::{file, Result};

/// The reproducer.
pub const CASE: Case = Case {
    name: "zero_inplace_shared",
    contract: "C-ZERO-FLAGS",
    summary: "a punch in one file zeroes its clone",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', 64 << 10)?;
    let b = stage.cloned("b", &a)?;
    file::punch(&b, 5000, 100)?;
    b.sync_all().ctx("fsync")?;
    let (source, own, beside) = (
        cold_byte(&a, 5050)?,
        cold_byte(&b, 5050)?,
        cold_byte(&b, 5100)?,
    );
    Ok(Outcome {
        correct: source == b'o' && own == 0 && beside == b'o',
        bug: source == 0 && own == 0 && beside == b'o',
        observed: format!("the clone reads {}", show(source)),
        facts: format!("source={source:#x} own={own:#x} beside={beside:#x}"),
    })
}

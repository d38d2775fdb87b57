// SPDX-License-Identifier: GPL-2.0

//! A partial write of a shared block, and begin does not say where the rest of the block comes from:
//! the core fills it with zeros. A warm cache hides it.

use crate::case::{cold_byte, show, Case, Outcome};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::{fs, Result};
use std::os::unix::fs::FileExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "no_srcmap",
    contract: "C-SRC-RMW",
    summary: "the rest of a partly written shared block becomes zeros",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', 64 << 10)?;
    let b = stage.cloned("b", &a)?;
    fs::drop_caches()?;
    b.write_all_at(b"X", 100).ctx("write")?;
    b.sync_all().ctx("fsync")?;
    let (before, at, after) = (cold_byte(&b, 99)?, cold_byte(&b, 100)?, cold_byte(&b, 101)?);
    let source = cold_byte(&a, 100)?;
    let fine = at == b'X' && source == b'o';
    Ok(Outcome {
        correct: fine && before == b'o' && after == b'o',
        bug: fine && before == 0 && after == 0,
        observed: format!("around the written byte: {}", show(before)),
        facts: format!("before={before:#x} at={at:#x} after={after:#x} source={source:#x}"),
    })
}

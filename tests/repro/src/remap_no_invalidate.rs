// SPDX-License-Identifier: GPL-2.0

//! A clone leaves the old pages of its destination in the page cache: reads show what was there before,
//! until the cache is dropped.

use crate::case::{cold_byte, show, Case, Outcome};
use crate::frame::Stage;
use calf_vmlib::{file, Result};

/// The reproducer.
pub const CASE: Case = Case {
    name: "remap_no_invalidate",
    contract: "C-REMAP",
    summary: "the destination of a clone reads its old data from the page cache",
    options: "",
    run,
};

const LEN: u64 = 64 << 10;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'n', LEN)?;
    let b = stage.filled("b", b'o', LEN)?;
    file::clone_file(&b, &a)?;
    let warm = file::read_at(&b, 100, 1)?[0];
    let cold = cold_byte(&b, 100)?;
    Ok(Outcome {
        correct: warm == b'n' && cold == b'n',
        bug: warm == b'o' && cold == b'n',
        observed: format!("reads {}, with a cold cache {}", show(warm), show(cold)),
        facts: format!("warm={warm:#x} cold={cold:#x}"),
    })
}

// SPDX-License-Identifier: GPL-2.0

//! A short write over shared blocks: the reservation is in the staging map, end looks for it in the
//! data map, and it stays.

use crate::case::{Case, Outcome};
use crate::frame::Stage;
use crate::short_write::{left_over, write, ASKED, REST};
use calf_vmlib::{file, Result};

/// The reproducer.
pub const CASE: Case = Case {
    name: "punch_wrong_fork",
    contract: "C-PUNCH-FORK",
    summary: "blocks stay reserved after a short write over shared blocks",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', ASKED as u64)?;
    let b = stage.cloned("b", &a)?;
    write(&b)?;
    let left = left_over(stage, &b)?;
    let same = file::read_at(&a, 0, ASKED)? == vec![b'o'; ASKED];
    Ok(Outcome {
        correct: left == 0 && same,
        bug: left == REST && same,
        observed: format!("{left} blocks stay reserved"),
        facts: format!("reserved={left} source_same={same}"),
    })
}

// SPDX-License-Identifier: GPL-2.0

//! Zeroing asks for the mapping of a block that is staged over a hole, dirty in the page cache, and
//! is told "hole": what lies past the old end of the file in that page shows up when the file grows.

use crate::case::{Case, Outcome};
use crate::frame::Stage;
use crate::past_eof;
use calf_vmlib::Result;

/// The reproducer.
pub const CASE: Case = Case {
    name: "zero_hole_ignores_cow",
    contract: "C-ZERO-HOLE-DIRTY",
    summary: "bytes stored past the end of the file show up when it grows",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    past_eof::grow(&f)
}

// SPDX-License-Identifier: GPL-2.0

//! Zeroing takes preallocated blocks for zeros although the page cache over them is dirty: what lies past the
//! old end of the file in that page shows up when the file grows.

use crate::case::{Case, Outcome, PAGE};
use crate::frame::Stage;
use crate::past_eof;
use calf_vmlib::{file, Result};
use rustix::fs::FallocateFlags;

/// The reproducer.
pub const CASE: Case = Case {
    name: "zero_unwritten_trusts_map",
    contract: "C-ZERO-UNWRITTEN",
    summary: "bytes stored past the end of a preallocated file show up when it grows",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    file::fallocate(&f, FallocateFlags::KEEP_SIZE, 0, 2 * PAGE)?;
    past_eof::grow(&f)
}

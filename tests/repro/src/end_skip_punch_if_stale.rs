// SPDX-License-Identifier: GPL-2.0

//! Seed 002, the remedy that was proposed first: end leaves the reservation of a stale mapping alone,
//! as the next begin will find it. It does find it, but as somebody else's: when the write then ends
//! short, nobody takes the rest back.

use crate::case::{Case, Outcome, PAGE};
use crate::frame::Stage;
use crate::short_write::{left_over, write_held, ASKED, REST};
use calf_vmlib::error::Context;
use calf_vmlib::{file, sys, Result};
use rustix::fs::FallocateFlags;

/// The reproducer.
pub const CASE: Case = Case {
    name: "end_skip_punch_if_stale",
    contract: "C-STALE-END",
    summary: "blocks stay reserved after a short write over a stale mapping",
    options: "",
    run,
};

/// An independent block whose conversion makes the mapping stale.
const OTHER: u64 = 2 << 20;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(4 << 20).ctx("truncate")?;
    file::fallocate(&f, FallocateFlags::empty(), OTHER, PAGE)?;
    f.sync_all().ctx("fsync")?;
    crate::case::fill(&f, b'O', OTHER, PAGE)?;
    let stale = stage.counter("stale_hits")?;
    let gate = stage.gate("iomap_valid")?;
    write_held(&f, &gate, || {
        sys::sync_range(&f, OTHER, PAGE).ctx("sync_file_range")?;
        gate.release()
    })?;
    let rounds = stage.counter("stale_hits")? - stale;
    let left = left_over(stage, &f)?;
    let zeros = file::check_zero(&f, 128 << 10, ASKED as u64 - (128 << 10)).is_ok();
    Ok(Outcome {
        correct: rounds > 0 && left == 0 && zeros,
        bug: rounds > 0 && left == REST && zeros,
        observed: format!("{left} blocks stay reserved"),
        facts: format!("stale_rounds={rounds} reserved={left} zeros={zeros}"),
    })
}

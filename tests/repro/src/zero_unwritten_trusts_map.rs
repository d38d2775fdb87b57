// SPDX-License-Identifier: GPL-2.0

//! Zeroing takes preallocated blocks for zeros although the page cache over them is dirty: what lies past the
//! old end of the file in that page shows up when the file grows.

use crate::case::{cold_byte, fill, show, Case, Outcome, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::sys::Map;
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

const PAST: u64 = 2000;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    file::fallocate(&f, FallocateFlags::KEEP_SIZE, 0, 2 * PAGE)?;
    fill(&f, b'Z', 0, 100)?;
    let map = Map::new(&f, 0, PAGE as usize).ctx("mmap")?;
    map.write(PAST as usize, b"G");
    f.set_len(2 * PAGE).ctx("truncate")?;
    let warm = file::read_at(&f, PAST, 1)?[0];
    f.sync_all().ctx("fsync")?;
    let cold = cold_byte(&f, PAST)?;
    let data = cold_byte(&f, 99)?;
    Ok(Outcome {
        correct: warm == 0 && cold == 0 && data == b'Z',
        bug: warm == b'G' && cold == b'G' && data == b'Z',
        observed: format!("past the old end: {}", show(cold)),
        facts: format!("warm={warm:#x} cold={cold:#x} data={data:#x}"),
    })
}

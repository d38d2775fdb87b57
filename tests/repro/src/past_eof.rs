// SPDX-License-Identifier: GPL-2.0

//! What was stored by map past the end of a file, in its last page, and then the file grows over it.

use crate::case::{cold_byte, fill, show, Outcome, PAGE};
use calf_vmlib::error::Context;
use calf_vmlib::sys::Map;
use calf_vmlib::{file, Result};
use std::fs::File;

const PAST: u64 = 2000;

/// Writes the first 100 bytes of the empty file `f`, stores a byte behind them and lets the file grow.
/// It is the bug if that byte shows up, in the page cache and on disk.
pub fn grow(f: &File) -> Result<Outcome> {
    fill(f, b'Z', 0, 100)?;
    let map = Map::new(f, 0, PAGE as usize).ctx("mmap")?;
    map.write(PAST as usize, b"G");
    f.set_len(2 * PAGE).ctx("truncate")?;
    let warm = file::read_at(f, PAST, 1)?[0];
    f.sync_all().ctx("fsync")?;
    let cold = cold_byte(f, PAST)?;
    let data = cold_byte(f, 99)?;
    Ok(Outcome {
        correct: warm == 0 && cold == 0 && data == b'Z',
        bug: warm == b'G' && cold == b'G' && data == b'Z',
        observed: format!("past the old end: {}", show(cold)),
        facts: format!("warm={warm:#x} cold={cold:#x} data={data:#x}"),
    })
}

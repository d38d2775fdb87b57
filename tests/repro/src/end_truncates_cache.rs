// SPDX-License-Identifier: GPL-2.0

//! Seed 002, the behaviour before 2022: after a short write end drops the page cache of the rest.
//! That end made the reservation does not mean that nobody else wrote there meanwhile.

use crate::case::{cold_byte, show, Case, Outcome};
use crate::frame::Stage;
use crate::short_write::{cache_first_page, left_over, write_held, ASKED};
use calf_vmlib::error::Context;
use calf_vmlib::sys::Map;
use calf_vmlib::Result;

/// The reproducer.
pub const CASE: Case = Case {
    name: "end_truncates_cache",
    contract: "C-NEW-OWNER",
    summary: "a store through mmap beside a short write is lost at once",
    options: "",
    run,
};

const STORE: usize = 512 << 10;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(ASKED as u64).ctx("truncate")?;
    cache_first_page(&f)?;
    let map = Map::new(&f, 0, ASKED).ctx("mmap")?;
    let gate = stage.gate("iomap_valid")?;
    write_held(&f, &gate, || {
        map.write(STORE, b"M");
        gate.release()
    })?;
    let mut now = [0u8];
    map.read(STORE, &mut now);
    let left = left_over(stage, &f)?;
    let cold = cold_byte(&f, STORE as u64)?;
    Ok(Outcome {
        correct: now == *b"M" && cold == b'M' && left == 0,
        bug: now == [0] && cold == 0 && left == 0,
        observed: format!("the store reads {}", show(now[0])),
        facts: format!("now={:#x} cold={cold:#x} reserved={left}", now[0]),
    })
}

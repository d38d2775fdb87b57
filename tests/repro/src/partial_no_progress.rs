// SPDX-License-Identifier: GPL-2.0

//! A file is written directly onto itself from its own map. Each try throws the page out of the cache
//! that the next one would take the data from; who does not see that nothing advances tries for ever.
//! (The switch gives up after a thousand rounds.)

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::direct::calls;
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::open_direct;
use calf_vmlib::observe::Trace;
use calf_vmlib::sys::Map;
use calf_vmlib::Result;

/// The reproducer.
pub const CASE: Case = Case {
    name: "partial_no_progress",
    contract: "C-DIO-DONE-BEFORE",
    summary: "a direct write of a file onto itself does not end",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.filled("f", b'o', PAGE)?;
    let direct = open_direct(&stage.path("f"))?;
    let map = Map::new(&f, 0, PAGE as usize).ctx("mmap")?;
    map.zap(0, PAGE as usize).ctx("madvise")?;
    let trace = Trace::start(&["iomap_dio_rw_begin"])?;
    let n = map.write_to(0, PAGE as usize, &direct, 0, 0);
    let (rounds, _) = calls(&trace.stop()?);
    drop(map);
    let byte = cold_byte(&f, 0)?;
    let written = n == Ok(PAGE as usize) && byte == b'o';
    Ok(Outcome {
        correct: written && (1..10).contains(&rounds),
        bug: written && rounds >= 1000,
        observed: format!("{rounds} rounds for one page"),
        facts: format!("n={n:?} rounds={rounds} byte={}", show(byte)),
    })
}

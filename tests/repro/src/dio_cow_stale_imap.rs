// SPDX-License-Identifier: GPL-2.0

//! A direct write looks up where the file's block is and finds it shared; then it lets the lock go, to
//! reserve. Meanwhile another direct write replaces the block in this file, and the old one has one
//! owner left: the other file. The bug asks again whether the *old* block is shared, hears no, and
//! writes to it.

use crate::case::{cold_byte, ino, show, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::file::open_direct;
use calf_vmlib::sys::Aligned;
use calf_vmlib::Result;
use std::os::unix::fs::FileExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "dio_cow_stale_imap",
    contract: "C-DIO-COW-RELOOKUP",
    summary: "a direct write to one file changes the file that it shared blocks with",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', PAGE)?;
    let b = stage.cloned("b", &a)?;
    let direct = open_direct(&stage.path("b"))?;
    let gate = stage.gate("dio_relock")?;
    let block = |byte| Aligned::from(&vec![byte; PAGE as usize]);
    gate.arm(ino(&b)?, 0)?;
    std::thread::scope(|s| -> Result {
        let first = s.spawn(|| direct.write_all_at(&block(b'1'), 0));
        gate.wait()?;
        // The gate holds one task; the second passes.
        direct
            .write_all_at(&block(b'2'), 0)
            .ctx("the second write")?;
        gate.release()?;
        let first = first.join().map_err(|_| window_missed("the writer died"))?;
        first.ctx("the first write")
    })?;
    let (a, b) = (cold_byte(&a, 0)?, cold_byte(&b, 0)?);
    Ok(Outcome {
        correct: a == b'o' && b == b'1',
        bug: a == b'1' && b == b'2',
        observed: format!("the other file is {}, this one {}", show(a), show(b)),
        facts: format!("a={a:#x} b={b:#x}"),
    })
}

// SPDX-License-Identifier: GPL-2.0

//! A file grows while the I/O of its first part is under way. Completion writes the size of that moment to
//! disk, although the second part is not there yet: after a crash the file has the large size and
//! zeros inside.

use crate::case::{fill, ino, Case, Outcome};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::{file, sys, Result};
use std::os::unix::fs::MetadataExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "append_isize_from_inode",
    contract: "C-IOEND-APPEND",
    summary: "after a crash a file has its new size and not its data",
    options: "",
    run,
};

const FIRST: u64 = 100;
const SECOND: u64 = 5000;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.sync_all().ctx("fsync")?;
    let gate = stage.gate("wb_end_io")?;
    fill(&f, b'1', 0, FIRST)?;
    gate.arm(ino(&f)?, 0)?;
    std::thread::scope(|s| -> Result {
        let sync = s.spawn(|| sys::sync_range(&f, 0, FIRST));
        gate.wait()?;
        fill(&f, b'2', FIRST, SECOND)?;
        gate.release()?;
        let synced = sync.join().map_err(|_| window_missed("the writer died"))?;
        synced.ctx("sync_file_range")
    })?;
    stage.commit()?;
    stage.crash(f)?;
    let f = stage.file("f")?;
    let size = f.metadata().ctx("stat")?.size();
    let first =
        size >= FIRST && file::read_at(&f, 0, FIRST as usize)? == vec![b'1'; FIRST as usize];
    let zeros = size == FIRST + SECOND && file::check_zero(&f, FIRST, SECOND).is_ok();
    Ok(Outcome {
        correct: size == FIRST && first,
        bug: zeros && first,
        observed: format!("after a crash: {size} bytes, zeros from {FIRST} on"),
        facts: format!("size={size} first_same={first} zeros_behind={zeros}"),
    })
}

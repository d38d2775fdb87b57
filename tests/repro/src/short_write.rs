// SPDX-License-Identifier: GPL-2.0

//! What several reproducers share: a buffered write of 1 MiB that reserves all of it and then ends
//! after 64 KiB, because there is no more memory to copy from.

use crate::case::{ino, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::gate::Gate;
use calf_vmlib::{ensure, sys, Result};
use std::fs::File;

/// Bytes asked for.
pub const ASKED: usize = 1 << 20;
/// Bytes that there are.
pub const GIVEN: usize = 64 << 10;
/// Blocks that remain reserved if nobody takes the rest back.
pub const REST: i64 = ((ASKED - GIVEN) / PAGE as usize) as i64;

/// The write.
pub fn write(f: &File) -> Result {
    let n = sys::write_into_the_void(f, &vec![b'W'; GIVEN], ASKED, 0).ctx("short write")?;
    ensure!(n == GIVEN, "the write was not cut at {GIVEN}: {n}");
    Ok(())
}

/// The write, held at `gate` while `meanwhile` runs; that one releases the gate.
pub fn write_held(f: &File, gate: &Gate, meanwhile: impl FnOnce() -> Result) -> Result {
    gate.arm(ino(f)?, 0)?;
    std::thread::scope(|s| {
        let writer = s.spawn(|| write(f));
        let held = gate.wait().and_then(|()| meanwhile());
        let wrote = writer
            .join()
            .map_err(|_| window_missed("the writer died"))?;
        held?;
        wrote
    })
}

/// Blocks that are still reserved or claimed once everything dirty is on disk.
pub fn left_over(stage: &Stage, f: &File) -> Result<i64> {
    f.sync_all().ctx("fsync")?;
    Ok(stage.counter("delalloc_reserved")? + stage.counter("claimed")?)
}

/// Reads page 0, and only that: the first folio of the write will be this one, of one page, and what
/// lies behind it is not locked while the write is held there.
pub fn cache_first_page(f: &File) -> Result {
    cache_page(f, 0)
}

/// Reads the page at `off`, and only that.
pub fn cache_page(f: &File, off: u64) -> Result {
    let all = None::<std::num::NonZeroU64>;
    rustix::fs::fadvise(f, 0, all, rustix::fs::Advice::Random).ctx("fadvise")?;
    calf_vmlib::file::read_at(f, off, 1)?;
    Ok(())
}

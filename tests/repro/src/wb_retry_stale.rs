// SPDX-License-Identifier: GPL-2.0

//! Seed 001: writeback looks a claim up, lets the lock go, and a direct write moves the claim into
//! the file meanwhile. The second lookup finds an empty staging map, which does not overwrite what
//! the first had found; so it fails again, writeback gives up with EAGAIN, and the buffered data
//! is thrown away, with that of an innocent neighbour in the same run.
//!
//! A staged block further on, as a larger preallocation leaves them, hides the bug: that is the third
//! part of the run, and must end well in either position of the switch.

use crate::case::{cold_byte, fill, ino, show, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::gate::until;
use calf_vmlib::sys::{Aligned, Map};
use calf_vmlib::{file, fs, Result};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The reproducer.
pub const CASE: Case = Case {
    name: "wb_retry_stale",
    contract: "C-WB-RELOOKUP",
    summary: "fsync fails with EAGAIN and a buffered write is lost",
    options: "",
    run,
};

const LEN: u64 = 64 << 10;
const NEIGHBOUR: u64 = 5 * PAGE;

/// The race on block 0 of `b`; returns the error of fsync. The direct write may end in the task that
/// submits it, with `i_rwsem` held, so the buffered data comes through a map.
fn race(stage: &Stage, b: &File, direct: &File) -> Result<Option<i32>> {
    let ended = stage.gate("dio_end_io")?;
    let lookup = stage.gate("wb_lookup")?;
    let map = Map::new(b, 0, PAGE as usize).ctx("mmap")?;
    ended.arm(ino(b)?, 0)?;
    std::thread::scope(|s| -> Result<Option<i32>> {
        let writer = s.spawn(|| {
            let data = Aligned::from(&vec![b'D'; PAGE as usize]);
            direct.write_all_at(&data, 0)
        });
        ended.wait()?;
        // The data of D is on disk, its block is claimed. The store finds the claim.
        map.write(0, &vec![b'B'; PAGE as usize]);
        lookup.arm(ino(b)?, 0)?;
        let sync = s.spawn(|| b.sync_all());
        lookup.wait()?;
        ended.release()?;
        // D's completion maps its block, and then waits for the folio that writeback holds.
        until("the remap", || {
            stage.counter("pinned").is_ok_and(|n| n == 0)
        })?;
        lookup.release()?;
        let synced = sync.join().map_err(|_| window_missed("fsync died"))?;
        let wrote = writer
            .join()
            .map_err(|_| window_missed("the writer died"))?;
        wrote.ctx("direct write")?;
        Ok(synced.err().and_then(|e| e.raw_os_error()))
    })
}

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', LEN)?;
    let b = stage.cloned("b", &a)?;
    let direct = file::open_direct(&stage.path("b"))?;
    // The neighbour: its block is its own, so it is overwritten in place and nothing is staged for it.
    fill(&b, b'n', NEIGHBOUR, PAGE)?;
    b.sync_all().ctx("fsync")?;
    fs::drop_caches()?;
    fill(&b, b'N', NEIGHBOUR, PAGE)?;
    let error = race(stage, &b, &direct)?;
    let byte = cold_byte(&b, 0)?;
    let neighbour = cold_byte(&b, NEIGHBOUR)?;

    let c = stage.cloned("c", &a)?;
    let direct = file::open_direct(&stage.path("c"))?;
    fs::drop_caches()?;
    fill(&c, b'P', NEIGHBOUR, PAGE)?;
    let hidden = race(stage, &c, &direct)?;
    let hides = hidden.is_none() && cold_byte(&c, 0)? == b'B';
    let again = error == Some(Errno::AGAIN.raw_os_error());
    let errno = match error {
        None => "0".to_string(),
        Some(_) if again => "EAGAIN".to_string(),
        Some(e) => Errno::from_raw_os_error(e).to_string(),
    };
    Ok(Outcome {
        correct: error.is_none() && byte == b'B' && neighbour == b'N' && hides,
        bug: again && byte == b'D' && neighbour == b'n' && hides,
        observed: format!(
            "fsync: {errno}, block 0 is {}, a neighbour {}",
            show(byte),
            show(neighbour)
        ),
        facts: format!(
            "fsync={errno} block0={byte:#x} neighbour={neighbour:#x} later_claim_hides={hides}"
        ),
    })
}

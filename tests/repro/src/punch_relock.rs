// SPDX-License-Identifier: GPL-2.0

//! Seed 003, the opposite mistake: end takes `invalidate_lock` also when the operation, here unshare,
//! holds it already. The task would wait for itself for ever; the switch gives up after some
//! seconds and says so, so that the machine survives.

use crate::case::{fill, ino, Case, Outcome, PAGE};
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::observe::Kmsg;
use calf_vmlib::{file, fs, sys, Result};
use rustix::fs::FallocateFlags;

/// The reproducer.
pub const CASE: Case = Case {
    name: "punch_relock",
    contract: "C-PUNCH-LOCK",
    summary: "unshare waits for a lock that it holds",
    options: "",
    run,
};

const OTHER: u64 = 2 << 20;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', 1 << 20)?;
    let b = stage.cloned("b", &a)?;
    b.set_len(4 << 20).ctx("truncate")?;
    file::fallocate(&b, FallocateFlags::empty(), OTHER, PAGE)?;
    b.sync_all().ctx("fsync")?;
    fs::drop_caches()?;
    // Its conversion makes unshare's mapping stale while most of the reservation is unused.
    fill(&b, b'O', OTHER, PAGE)?;
    let gate = stage.gate("iomap_valid")?;
    let mut log = Kmsg::new()?;
    let stale = stage.counter("stale_hits")?;
    gate.arm(ino(&b)?, 0)?;
    std::thread::scope(|s| -> Result {
        let unshare = s.spawn(|| file::unshare(&b, 0, 1 << 20));
        gate.wait()?;
        sys::sync_range(&b, OTHER, PAGE).ctx("sync_file_range")?;
        gate.release()?;
        unshare.join().map_err(|_| window_missed("unshare died"))?
    })?;
    let rounds = stage.counter("stale_hits")? - stale;
    let waited = log.read().iter().any(|l| l.contains("punch_relock:"));
    b.sync_all().ctx("fsync")?;
    let same = file::read_at(&b, 0, 1 << 20)? == vec![b'o'; 1 << 20];
    Ok(Outcome {
        correct: rounds > 0 && !waited && same,
        bug: rounds > 0 && waited && same,
        observed: "unshare waits for its own lock".into(),
        facts: format!("stale_rounds={rounds} waited_for_itself={waited} data_same={same}"),
    })
}

// SPDX-License-Identifier: GPL-2.0

//! Variant 5 of seed 000: unshare without its locks. A truncate sets the size to 0 while unshare has a folio
//! locked and a mapping whose source is sound; the source is past EOF now, so the block "needs zeroing",
//! which unshare must never do: the warning and the EIO of the report, by another way.

use crate::case::{ino, Case, Outcome, Special, PAGE};
use crate::frame::{window_missed, Stage};
use crate::punch_nolock::WARN_PUNCH_UNLOCKED;
use crate::unshare::WARN_UNSHARE_ZEROING;
use calf_vmlib::error::Context;
use calf_vmlib::gate::{is_blocked, until};
use calf_vmlib::{file, fs, Result};
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicI32, Ordering};

/// The reproducer.
pub const CASE: Special = Special {
    case: Case {
        name: "unshare_nolock",
        contract: "C-SHARED-SRC",
        summary: "a truncate beside unshare makes it fail with EIO and a warning",
        options: "",
        run,
    },
    junk: false,
    warn: Some(WARN_UNSHARE_ZEROING),
    lockdep: Some(WARN_PUNCH_UNLOCKED),
};

const LEN: u64 = 8 * PAGE;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', LEN)?;
    let b = stage.cloned("b", &a)?;
    fs::drop_caches()?;
    let gate = stage.gate("iomap_valid")?;
    gate.arm(ino(&b)?, 0)?;
    let tid = AtomicI32::new(0);
    let mut size = 0;
    let error = std::thread::scope(|s| -> Result<Option<i32>> {
        let tid = &tid;
        let unshare = s.spawn(|| file::unshare(&b, 0, LEN));
        gate.wait()?;
        let truncate = s.spawn(|| {
            let me = rustix::thread::gettid().as_raw_nonzero().get();
            tid.store(me, Ordering::SeqCst);
            b.set_len(0)
        });
        // It waits for i_rwsem, or has set the size and waits for the folio.
        until("the truncate", || {
            let t = tid.load(Ordering::SeqCst);
            t != 0 && is_blocked(t)
        })?;
        size = b.metadata().ctx("stat")?.size();
        gate.release()?;
        let unshared = unshare.join().map_err(|_| window_missed("unshare died"))?;
        let cut = truncate
            .join()
            .map_err(|_| window_missed("truncate died"))?;
        cut.ctx("truncate")?;
        Ok(unshared.err().and_then(|e| e.errno))
    })?;
    let end = b.metadata().ctx("stat")?.size();
    let same = file::read_at(&a, 0, LEN as usize)? == vec![b'o'; LEN as usize];
    let left = crate::short_write::left_over(stage, &b).unwrap_or(-1);
    Ok(Outcome {
        correct: error.is_none() && size == LEN && end == 0 && same && left == 0,
        bug: error == Some(Errno::IO.raw_os_error()) && size == 0 && end == 0 && same,
        observed: "EIO".into(),
        facts: format!("errno={error:?} size_then={size} end={end} source_same={same} left={left}"),
    })
}

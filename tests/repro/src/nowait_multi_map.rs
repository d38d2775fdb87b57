// SPDX-License-Identifier: GPL-2.0

//! A request that must not wait goes over data and a hole. The data is in place and could be written at
//! once, the hole cannot: with the bug the first is overwritten before the call says `EAGAIN`.

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::open_direct;
use calf_vmlib::sys::{write_flags, Aligned, RWF_NOWAIT};
use calf_vmlib::{ensure_eq, fs, Result};
use rustix::io::Errno;

/// The reproducer.
pub const CASE: Case = Case {
    name: "nowait_multi_map",
    contract: "C-DIO-NOWAIT",
    summary: "a request fails with EAGAIN and has overwritten a part",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.filled("f", b'o', PAGE)?;
    f.set_len(2 * PAGE).ctx("truncate")?;
    f.sync_all().ctx("fsync")?;
    let direct = open_direct(&stage.path("f"))?;
    // A page in the cache is a reason to wait; there must be none but the hole.
    fs::drop_caches()?;
    let one = Aligned::from(&vec![b'1'; PAGE as usize]);
    let n = write_flags(&direct, &one, 0, RWF_NOWAIT).ctx("the first block alone")?;
    ensure_eq!(n, PAGE as usize, "window missed: the first block alone");
    let data = Aligned::from(&vec![b'N'; 2 * PAGE as usize]);
    let n = write_flags(&direct, &data, 0, RWF_NOWAIT);
    let (first, second) = (cold_byte(&f, 0)?, cold_byte(&f, PAGE)?);
    let again = n == Err(Errno::AGAIN);
    Ok(Outcome {
        correct: again && first == b'1' && second == 0,
        bug: again && first == b'N' && second == 0,
        observed: format!("EAGAIN, block 0 is {}", show(first)),
        facts: format!("n={n:?} first={first:#x} second={second:#x}"),
    })
}

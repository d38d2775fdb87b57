// SPDX-License-Identifier: GPL-2.0

//! Two direct writes of 512 bytes to one preallocated block, at the same time. The core fills the rest
//! of the block with zeros for each of them, so the second takes the bytes of the first away.

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::direct::Slow;
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::{fallocate, open_direct};
use calf_vmlib::sys::{Aio, Aligned, Dir, Queue};
use calf_vmlib::{ensure_eq, Result};
use rustix::fs::FallocateFlags;
use std::os::fd::AsFd;

/// The reproducer.
pub const CASE: Slow = Slow(Case {
    name: "dio_unaligned_shared",
    contract: "C-DIO-UNALIGNED",
    summary: "two direct writes to parts of one block: one of them is gone",
    options: "",
    run,
});

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    fallocate(&f, FallocateFlags::empty(), 0, 4 * PAGE)?;
    f.sync_all().ctx("fsync")?;
    let direct = open_direct(&stage.path("f"))?;
    let mut aio = Aio::new(2).ctx("io_setup")?;
    for (off, byte) in [(0, b'a'), (512, b'b')] {
        let data = Aligned::from(&[byte; 512]);
        aio.submit(direct.as_fd(), Dir::Write, off, data)
            .ctx("submit")?;
    }
    while aio.pending() > 0 {
        let (_, res, _) = aio.wait().ctx("wait")?;
        ensure_eq!(res.ctx("direct write")?, 512, "bytes");
    }
    let (a, b, rest) = (cold_byte(&f, 0)?, cold_byte(&f, 512)?, cold_byte(&f, 1024)?);
    Ok(Outcome {
        correct: (a, b, rest) == (b'a', b'b', 0),
        bug: (a, b, rest) == (0, b'b', 0),
        observed: format!("the first 512 bytes are {}, the next {}", show(a), show(b)),
        facts: format!("a={a:#x} b={b:#x} rest={rest:#x}"),
    })
}

// SPDX-License-Identifier: GPL-2.0

//! The size moves before the blocks below it are converted: who reads in between finds zeros that
//! nobody has written.

use crate::case::{ino, show, Case, Outcome, PAGE};
use crate::direct::Slow;
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::{fallocate, open_direct};
use calf_vmlib::sys::{Aio, Aligned, Dir, Queue};
use calf_vmlib::{ensure_eq, Result};
use rustix::fs::FallocateFlags;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// The reproducer.
pub const CASE: Slow = Slow(Case {
    name: "dio_endio_isize_first",
    contract: "C-DIO-ENDIO-ORDER",
    summary: "a read below EOF finds zeros that nobody has written",
    options: "",
    run,
});

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.filled("f", b'o', PAGE)?;
    fallocate(&f, FallocateFlags::KEEP_SIZE, 0, 4 * PAGE)?;
    f.sync_all().ctx("fsync")?;
    let direct = open_direct(&stage.path("f"))?;
    let gate = stage.gate("dio_end_io")?;
    gate.arm(ino(&f)?, 0)?;
    let mut aio = Aio::new(1).ctx("io_setup")?;
    let data = Aligned::from(&vec![b'N'; PAGE as usize]);
    aio.submit(direct.as_fd(), Dir::Write, PAGE, data)
        .ctx("submit")?;
    gate.wait()?;
    let mut buf = [b'?'; 8];
    let n = f.read_at(&mut buf, PAGE).ctx("read")?;
    let size = f.metadata().ctx("stat")?.len();
    gate.release()?;
    let (_, res, _) = aio.wait().ctx("wait")?;
    ensure_eq!(res.ctx("direct write")?, PAGE as usize, "bytes");
    let mut after = [0; 1];
    f.read_at(&mut after, PAGE).ctx("read")?;
    let end = f.metadata().ctx("stat")?.len();
    Ok(Outcome {
        correct: n == 0 && size == PAGE && end == 2 * PAGE && after == *b"N",
        bug: n == 8 && buf == [0; 8] && size == 2 * PAGE && end == 2 * PAGE,
        observed: format!("{n} bytes read, the first is {}", show(buf[0])),
        facts: format!(
            "read={n} first={:#x} size={size} end={end} after={after:?}",
            buf[0]
        ),
    })
}

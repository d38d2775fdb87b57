// SPDX-License-Identifier: GPL-2.0

//! fallocate makes an empty file one block long while an asynchronous direct write to the second block
//! is in flight. It decided on the size before that write ended, so it cuts it off.

use crate::case::{cold_byte, ino, show, Case, Outcome, PAGE};
use crate::direct::Slow;
use crate::frame::{window_missed, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::file::{fallocate, open_direct};
use calf_vmlib::gate::{is_blocked, until};
use calf_vmlib::sys::{Aio, Aligned, Dir, Queue};
use calf_vmlib::{ensure_eq, Result};
use rustix::fs::FallocateFlags;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// The reproducer.
pub const CASE: Slow = Slow(Case {
    name: "fallocate_no_diowait",
    contract: "C-FALLOC-DIOWAIT",
    summary: "fallocate cuts off what a direct write has appended",
    options: "",
    run,
});

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.sync_all().ctx("fsync")?;
    let direct = open_direct(&stage.path("f"))?;
    let (ended, decided) = (stage.gate("dio_end_io")?, stage.gate("fallocate")?);
    ended.arm(ino(&f)?, 0)?;
    decided.arm(ino(&f)?, 0)?;
    let mut aio = Aio::new(1).ctx("io_setup")?;
    let data = Aligned::from(&vec![b'N'; PAGE as usize]);
    aio.submit(direct.as_fd(), Dir::Write, PAGE, data)
        .ctx("submit")?;
    ended.wait()?;
    let tid = AtomicI32::new(0);
    std::thread::scope(|s| -> Result {
        let other = s.spawn(|| {
            let me = rustix::thread::gettid().as_raw_nonzero().get();
            tid.store(me, Ordering::SeqCst);
            fallocate(&f, FallocateFlags::empty(), 0, PAGE)
        });
        // Either it has decided, or it waits for the write.
        until("fallocate", || {
            decided.is_held() || is_blocked(tid.load(Ordering::SeqCst))
        })?;
        ended.release()?;
        let (_, res, _) = aio.wait().ctx("wait")?;
        ensure_eq!(res.ctx("direct write")?, PAGE as usize, "bytes");
        decided.wait()?;
        decided.release()?;
        other.join().map_err(|_| window_missed("fallocate died"))?
    })?;
    let size = f.metadata().ctx("stat")?.len();
    let byte = if size > PAGE { cold_byte(&f, PAGE)? } else { 0 };
    Ok(Outcome {
        correct: size == 2 * PAGE && byte == b'N',
        bug: size == PAGE,
        observed: format!("size {size}, block 1 is {}", show(byte)),
        facts: format!("size={size} byte={byte:#x}"),
    })
}

// SPDX-License-Identifier: GPL-2.0

//! Seed 004, the first attempt to mend it: the ticket of a request that came back short is kept for the
//! next part. If that part fails, nobody completes the ticket: what was written and told is lost, and
//! fsync waits for it for ever. Once the memory never comes, once the device fails. (The switch drops
//! such tickets after some seconds, with a message, so that the machine lives on.)

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::direct::{half_present, write_in_two};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::file::open_direct;
use calf_vmlib::observe::Kmsg;
use calf_vmlib::sys::write_into_the_void;
use calf_vmlib::{ensure, Fail, Result};
use std::path::PathBuf;

/// The reproducer.
pub const CASE: Case = Case {
    name: "dio_ticket_cached",
    contract: "C-DIO-PARTIAL",
    summary: "fsync waits for ever for a direct write that has failed half way",
    options: "",
    run,
};

const HANG: &str = "dio_ticket_cached: fsync waits for a ticket that nobody will complete";

/// Lets the next request to the disk pass and the one after it fail, by the kernel's fault injection.
struct FailSecond(PathBuf);

impl FailSecond {
    fn arm(stage: &Stage) -> Result<FailSecond> {
        let dir = PathBuf::from("/sys/kernel/debug/fail_make_request");
        let name = stage.fs.bdev();
        let switch = PathBuf::from(format!("/sys/block/{name}/make-it-fail"));
        if !dir.exists() || !switch.exists() {
            return Err(Fail::skip("a kernel without FAIL_MAKE_REQUEST"));
        }
        let armed = FailSecond(switch);
        // The budget is more than the first request takes, and less than both.
        let space = (PAGE + 1).to_string();
        for (key, value) in [
            ("verbose", "0"),
            ("interval", "1"),
            ("times", "1"),
            ("space", &space),
            ("probability", "100"),
        ] {
            std::fs::write(dir.join(key), value).ctx(format!("fail_make_request/{key}"))?;
        }
        std::fs::write(&armed.0, "1").ctx("make-it-fail")?;
        Ok(armed)
    }
}

impl Drop for FailSecond {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.0, "0");
        let _ = std::fs::write("/sys/kernel/debug/fail_make_request/probability", "0");
    }
}

fn run(stage: &mut Stage) -> Result<Outcome> {
    let mut log = Kmsg::new()?;
    let mut seen = Vec::new();
    for how in ["no memory", "no disk"] {
        let f = stage.file(how)?;
        f.set_len(2 * PAGE)?;
        f.sync_all().ctx("fsync")?;
        let direct = open_direct(&stage.path(how))?;
        let n = if how == "no memory" {
            write_into_the_void(&direct, &[b'P'; PAGE as usize], 2 * PAGE as usize, 0)
                .map_err(|e| e.raw_os_error())
        } else {
            let map = half_present(stage)?;
            stage.fs.sync()?;
            let _armed = FailSecond::arm(stage)?;
            write_in_two(&map, &direct, 0)?
        };
        let pinned = stage.counter("pinned")?;
        log.read();
        f.sync_all().ctx("fsync")?;
        let hung = log.read().iter().any(|l| l.contains(HANG));
        ensure!(stage.counter("pinned")? == 0, "pinned after fsync");
        seen.push((n, pinned, hung, cold_byte(&f, 0)?, cold_byte(&f, PAGE)?));
    }
    let one = Ok(PAGE as usize);
    Ok(Outcome {
        correct: seen.iter().all(|s| *s == (one, 0, false, b'P', 0)),
        bug: seen.iter().all(|s| *s == (one, 2, true, 0, 0)),
        observed: format!(
            "fsync waits for nobody, block 0 is {}",
            show(seen.last().map_or(0, |s| s.3))
        ),
        facts: format!("memory={:?} disk={:?}", seen[0], seen[1]),
    })
}

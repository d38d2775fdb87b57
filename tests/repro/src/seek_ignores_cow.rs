// SPDX-License-Identifier: GPL-2.0

//! `SEEK_DATA` over a hole of the data map with staged, dirty data over it says that there is nothing. Who
//! copies a file by its data, as `cp` does, leaves it out.

use crate::case::{fill, Case, Outcome, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::{file, Result};

/// The reproducer.
pub const CASE: Case = Case {
    name: "seek_ignores_cow",
    contract: "C-SEEK-UNWRITTEN",
    summary: "SEEK_DATA does not find data that is not written back yet",
    options: "",
    run,
};

const AT: u64 = 4 * PAGE;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(16 * PAGE).ctx("truncate")?;
    f.sync_all().ctx("fsync")?;
    fill(&f, b'D', AT, PAGE)?;
    let dirty = file::seek_data(&f, 0)?;
    f.sync_all().ctx("fsync")?;
    let synced = file::seek_data(&f, 0)?;
    let fine = synced == Some(AT);
    let show = |at: Option<u64>| at.map_or("ENXIO".into(), |at| at.to_string());
    Ok(Outcome {
        correct: dirty == Some(AT) && fine,
        bug: dirty.is_none() && fine,
        observed: format!("SEEK_DATA: {}, after fsync {}", show(dirty), show(synced)),
        facts: format!("dirty={} synced={}", show(dirty), show(synced)),
    })
}

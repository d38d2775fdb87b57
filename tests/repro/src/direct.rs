// SPDX-License-Identifier: GPL-2.0

//! What the reproducers of direct I/O share: memory that is partly missing, a disk that takes its time.

use crate::case::{fill, Case, Outcome, PAGE};
use crate::frame::{Judgement, Needs, Reproducer, Stage};
use calf_vmlib::error::Context;
use calf_vmlib::observe::{self, Trace};
use calf_vmlib::sys::Map;
use calf_vmlib::{ensure, Result};
use std::fs::File;

/// A reproducer whose requests are in flight for certain: on a disk that takes 50 ms for each.
pub struct Slow(pub Case);

impl Reproducer for Slow {
    type Scene = ();
    type Seen = Outcome;

    fn name(&self) -> &'static str {
        Reproducer::name(&self.0)
    }
    fn contract(&self) -> &'static str {
        Reproducer::contract(&self.0)
    }
    fn summary(&self) -> &'static str {
        Reproducer::summary(&self.0)
    }
    fn needs(&self) -> Needs {
        Needs {
            slow: true,
            ..Reproducer::needs(&self.0)
        }
    }
    fn setup(&self, stage: &mut Stage) -> Result<()> {
        self.0.setup(stage)
    }
    fn act(&self, stage: &mut Stage, scene: &mut ()) -> Result<Outcome> {
        self.0.act(stage, scene)
    }
    fn judge(&self, stage: &mut Stage, scene: (), seen: Outcome) -> Result<Judgement> {
        self.0.judge(stage, scene, seen)
    }
}

/// A map of another file, a page 'P' and a page 'Q', of which only the first is present.
pub fn half_present(stage: &Stage) -> Result<Map> {
    let src = stage.filled("src", b'P', PAGE)?;
    fill(&src, b'Q', PAGE, PAGE)?;
    src.sync_all().ctx("fsync")?;
    let map = Map::private(&src, 0, 2 * PAGE as usize).ctx("mmap")?;
    for at in [0, PAGE as usize] {
        map.read(at, &mut [0]);
    }
    map.zap(PAGE as usize, PAGE as usize).ctx("madvise")?;
    Ok(map)
}

/// Writes both pages of the map at `off`; fails if the kernel did not come back for the second.
pub fn write_in_two(map: &Map, to: &File, off: u64) -> Result<std::result::Result<usize, i32>> {
    let trace = Trace::start(&["iomap_dio_rw_begin"])?;
    let n = map.write_to(0, 2 * PAGE as usize, to, off, 0);
    let lines = trace.stop()?;
    ensure!(
        lines.len() >= 2,
        "window missed: the request was not done in parts: {lines:?}"
    );
    Ok(n.map_err(|e| e.raw_os_error()))
}

/// The calls for direct I/O that the core has seen, and the largest `done_before` among them.
pub fn calls(lines: &[String]) -> (usize, u64) {
    let done = lines
        .iter()
        .filter_map(|l| observe::field(l, "done_before"));
    (lines.len(), done.max().unwrap_or(0))
}

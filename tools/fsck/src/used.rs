// SPDX-License-Identifier: GPL-2.0

//! Which blocks are in use, and how often.

use calf_core::format::geometry::Geometry;

use crate::bits::Bits;

/// Tree nodes, a bit each, and runs of data.
pub struct Used {
    nodes: Bits,
    runs: Vec<(u64, u64)>,
}

/// Blocks that are all referenced equally often: start, end, count.
pub type Run = (u64, u64, u32);

impl Used {
    /// Nothing is in use.
    pub fn new(geo: &Geometry) -> Self {
        Self {
            nodes: Bits::new(geo.blocks()),
            runs: Vec::new(),
        }
    }

    /// Marks a block as a tree node; false if it is one already, or beyond the end.
    pub fn take(&mut self, block: u64) -> bool {
        self.nodes.take(block)
    }

    /// Tree nodes.
    pub fn nodes(&self) -> &Bits {
        &self.nodes
    }

    /// Adds a reference to `len` blocks.
    pub fn add(&mut self, start: u64, len: u64) {
        self.runs.push((start, start.saturating_add(len)));
    }

    /// All referenced blocks in order; neighbours with the same count are one run.
    pub fn counts(&self) -> Vec<Run> {
        let mut events: Vec<(u64, bool)> = Vec::with_capacity(self.runs.len().saturating_mul(2));
        for &(start, end) in &self.runs {
            events.push((start, true));
            events.push((end, false));
        }
        events.sort_unstable();
        let mut runs = Vec::new();
        let (mut at, mut count) = (0, 0u32);
        for (place, begins) in events {
            if place > at && count > 0 {
                push(&mut runs, (at, place, count));
            }
            at = place;
            count = match begins {
                true => count.saturating_add(1),
                false => count.saturating_sub(1),
            };
        }
        runs
    }
}

/// Appends a run, joined with the one before if possible.
pub fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.1 == run.0 && last.2 == run.2 => last.1 = run.1,
        _ => runs.push(run),
    }
}

/// Where two lists of runs differ: start, end, count in `a`, count in `b`; 0 for neither.
pub fn differ(a: &[Run], b: &[Run]) -> Vec<(u64, u64, u32, u32)> {
    let mut out = Vec::new();
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    let mut at = 0;
    loop {
        while a.peek().is_some_and(|r| r.1 <= at) {
            a.next();
        }
        while b.peek().is_some_and(|r| r.1 <= at) {
            b.next();
        }
        let (x, y) = (a.peek().copied(), b.peek().copied());
        let count = |r: Option<Run>| r.filter(|r| r.0 <= at).map_or(0, |r| r.2);
        let edge = |r: Option<Run>| r.map_or(u64::MAX, |r| if r.0 > at { r.0 } else { r.1 });
        let next = edge(x).min(edge(y));
        if next == u64::MAX {
            return out;
        }
        let (p, q) = (count(x), count(y));
        if p != q {
            out.push((at, next, p, q));
        }
        at = next;
    }
}

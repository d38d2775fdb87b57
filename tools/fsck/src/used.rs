// SPDX-License-Identifier: GPL-2.0

//! Which blocks are in use, and how often.

use calf_core::format::geometry::Geometry;

/// Tree nodes, a bit each, and runs of data.
pub struct Used {
    nodes: Vec<u64>,
    runs: Vec<(u64, u64)>,
}

/// Blocks that are all referenced equally often: start, end, count.
pub type Run = (u64, u64, u32);

impl Used {
    /// Nothing is in use.
    pub fn new(geo: &Geometry) -> Self {
        // CAST: a bit for each block has to fit into memory.
        let words = geo.blocks().div_ceil(64) as usize;
        Self {
            nodes: vec![0; words],
            runs: Vec::new(),
        }
    }

    /// Marks a block as a tree node; false if it is one already, or beyond the end.
    pub fn take(&mut self, block: u64) -> bool {
        let bit = 1u64 << (block % 64);
        match usize::try_from(block / 64)
            .ok()
            .and_then(|i| self.nodes.get_mut(i))
        {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Is the block a tree node?
    pub fn is_node(&self, block: u64) -> bool {
        let word = usize::try_from(block / 64)
            .ok()
            .and_then(|i| self.nodes.get(i));
        word.is_some_and(|word| word & 1 << (block % 64) != 0)
    }

    /// The bits of the blocks from `start` on, which divides by 64, as bytes.
    pub fn bytes(&self, start: u64) -> impl Iterator<Item = u8> + '_ {
        let words = usize::try_from(start / 64)
            .ok()
            .and_then(|i| self.nodes.get(i..));
        words
            .unwrap_or_default()
            .iter()
            .flat_map(|w| w.to_le_bytes())
    }

    /// Number of tree nodes.
    pub fn nodes(&self) -> u64 {
        self.nodes.iter().map(|w| u64::from(w.count_ones())).sum()
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

// SPDX-License-Identifier: GPL-2.0

//! Data: no block belongs to a file and to the metadata, and none to two files that do not know
//! about it; sizes fit the extents.

use std::collections::BTreeSet;

use calf_core::format::geometry::Geometry;
use calf_core::format::inode::{FLAG_MAY_SHARE, MAX_SIZE};

use super::model::{Extent, Model};
use crate::bits::Bits;
use crate::report::Report;

/// A use of blocks: start, end, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    start: u64,
    end: u64,
    ino: u64,
    fblk: u64,
    unwritten: bool,
}

/// Takes blocks from files that are tree nodes, too.
pub fn nodes(model: &mut Model, nodes: &Bits, report: &mut Report) {
    for (&ino, node) in &mut model.inodes {
        let hit = |e: &Extent| nodes.runs(e.phys, e.phys.saturating_add(e.len));
        let runs: Vec<(u64, u64)> = node.extents().iter().flat_map(hit).collect();
        for (start, len) in runs {
            report.lost(format_args!(
                "inode {ino}: blocks {start} + {len} are tree nodes, too; taken from the file"
            ));
            model.hurt.insert(ino);
            if let Some(extents) = node.extents_mut() {
                punch_device(extents, start, len);
            }
        }
    }
}

/// Lets files that use the same blocks without knowing it share them, so that both keep their
/// content. Blocks that one of them has not written yet are simply taken from that one.
pub fn cross_links(model: &mut Model, geo: &Geometry, report: &mut Report) {
    let mut any = false;
    let shared: Vec<(u64, u64)> = model
        .data(geo)
        .counts()
        .into_iter()
        .filter(|run| run.2 > 1)
        .map(|run| (run.0, run.1))
        .collect();
    let mut claims: Vec<Claim> = Vec::new();
    for (&ino, node) in &model.inodes {
        for e in node.extents() {
            let end = e.phys.saturating_add(e.len);
            let first = shared.partition_point(|run| run.1 <= e.phys);
            for run in shared.iter().skip(first).take_while(|run| run.0 < end) {
                let start = run.0.max(e.phys);
                any |= node.rec.flags.get() & FLAG_MAY_SHARE == 0;
                claims.push(Claim {
                    start,
                    end: run.1.min(end),
                    ino,
                    fblk: e.fblk.saturating_add(start.saturating_sub(e.phys)),
                    unwritten: e.unwritten,
                });
            }
        }
    }
    if !any {
        return;
    }
    claims.sort_unstable();
    let mut edges: Vec<u64> = claims.iter().flat_map(|c| [c.start, c.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut next = claims.iter().peekable();
    let mut here: Vec<Claim> = Vec::new();
    for pair in edges.windows(2) {
        let &[start, end] = pair else { continue };
        here.retain(|c| c.end > start);
        while let Some(claim) = next.next_if(|c| c.start <= start) {
            here.push(*claim);
        }
        if here.len() > 1 {
            resolve(model, &here, start, end, report);
        }
    }
}

/// Decides about blocks that several claim.
fn resolve(model: &mut Model, here: &[Claim], start: u64, end: u64, report: &mut Report) {
    let may_share = |model: &Model, ino| {
        let node = model.inodes.get(&ino);
        node.is_some_and(|node| node.rec.flags.get() & FLAG_MAY_SHARE != 0)
    };
    if here.iter().all(|c| may_share(model, c.ino)) {
        return;
    }
    let len = end.saturating_sub(start);
    let written = here.iter().any(|c| !c.unwritten);
    let mut keeper = None;
    let mut owners = BTreeSet::new();
    let mut kept = 0;
    for c in here {
        // Nobody has written what all but one, or all, call unwritten.
        if c.unwritten && (written || keeper.is_some()) {
            report.done(format_args!(
                "inode {}: unwritten blocks {start} + {len} belong to another file; taken from this one",
                c.ino
            ));
            let at = c.fblk.saturating_add(start.saturating_sub(c.start));
            let node = model.inodes.get_mut(&c.ino);
            if let Some(extents) = node.and_then(|node| node.extents_mut()) {
                punch_file(extents, at, len);
            }
        } else {
            keeper = Some(c.ino);
            kept += 1;
            owners.insert(c.ino);
        }
    }
    if kept < 2 {
        return;
    }
    let list: Vec<String> = owners.iter().map(u64::to_string).collect();
    report.lost(format_args!(
        "blocks {start} + {len} belong to inodes {}; they share them now, one of them has the other's content",
        list.join(", ")
    ));
    for ino in owners {
        model.hurt.insert(ino);
        if let Some(node) = model.inodes.get_mut(&ino) {
            let flags = node.rec.flags.get() | FLAG_MAY_SHARE;
            node.changed |= node.rec.flags.get() != flags;
            node.rec.flags = flags.into();
        }
    }
}

/// Sets sizes that do not cover what was written.
pub fn sizes(model: &mut Model, geo: &Geometry, report: &mut Report) {
    let size = geo.block_size();
    for (&ino, node) in &mut model.inodes {
        let written = node.extents().iter().filter(|e| !e.unwritten);
        let end = written.map(Extent::end).max().unwrap_or(0);
        let have = node.rec.size.get();
        if node.is_reg() && end > have.div_ceil(size) {
            let right = end.saturating_mul(size).min(MAX_SIZE);
            report.done(format_args!(
                "inode {ino}: written blocks lie past the size {have}; set to {right}"
            ));
            node.rec.size = right.into();
            node.changed = true;
        }
    }
}

impl Model {
    /// Takes all blocks beyond the size from a file.
    pub fn cut(&mut self, ino: u64) {
        let size = self.block_size;
        if let Some(node) = self.inodes.get_mut(&ino) {
            let end = node.rec.size.get().div_ceil(size.max(1));
            if node.extents().iter().any(|e| e.end() > end) {
                if let Some(extents) = node.extents_mut() {
                    punch_file(extents, end, u64::MAX);
                }
            }
        }
    }
}

/// Takes the blocks `[start, start + len)` of the device from a file.
fn punch_device(extents: &mut Vec<Extent>, start: u64, len: u64) {
    let end = start.saturating_add(len);
    let places: Vec<(u64, u64)> = extents
        .iter()
        .filter(|e| e.phys < end && start < e.phys.saturating_add(e.len))
        .map(|e| {
            let from = start.max(e.phys);
            let to = end.min(e.phys.saturating_add(e.len));
            let at = e.fblk.saturating_add(from.saturating_sub(e.phys));
            (at, to.saturating_sub(from))
        })
        .collect();
    for (at, len) in places {
        punch_file(extents, at, len);
    }
}

/// Takes the file blocks `[at, at + len)` from a file.
fn punch_file(extents: &mut Vec<Extent>, at: u64, len: u64) {
    let end = at.saturating_add(len);
    let mut out = Vec::with_capacity(extents.len().saturating_add(1));
    for e in extents.iter() {
        if e.fblk < at {
            let len = e.len.min(at.saturating_sub(e.fblk));
            out.push(Extent { len, ..*e });
        }
        if e.end() > end {
            let by = end.max(e.fblk).saturating_sub(e.fblk);
            out.push(Extent {
                fblk: e.fblk.saturating_add(by),
                phys: e.phys.saturating_add(by),
                len: e.len.saturating_sub(by),
                unwritten: e.unwritten,
            });
        }
    }
    *extents = out;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punches() {
        let e = |fblk, phys, len| Extent {
            fblk,
            phys,
            len,
            unwritten: false,
        };
        let mut list = vec![e(0, 100, 10), e(20, 50, 5)];
        punch_file(&mut list, 4, 2);
        assert_eq!(list, [e(0, 100, 4), e(6, 106, 4), e(20, 50, 5)]);
        punch_device(&mut list, 52, 50);
        assert_eq!(list, [e(2, 102, 2), e(6, 106, 4), e(20, 50, 2)]);
        punch_file(&mut list, 7, u64::MAX);
        assert_eq!(list, [e(2, 102, 2), e(6, 106, 1)]);
    }
}

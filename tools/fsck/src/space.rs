// SPDX-License-Identifier: GPL-2.0

//! Blocks: reference counts, bitmaps and group descriptors against what is in use.

use calf_core::algo::bitmap;
use calf_core::format::geometry::Geometry;
use calf_core::format::group::{self, bitmap_checksum};
use calf_core::format::BlockNr;

use crate::bits::Bits;
use crate::image::Image;
use crate::inodes::Found;
use crate::report::Report;
use crate::used::{differ, Run, Used};

/// Checks data against tree nodes and against the reference counts.
pub fn references(runs: &[Run], used: &Used, found: &mut Found, report: &mut Report) {
    for &(start, end, _) in runs {
        for (block, len) in used.nodes().runs(start, end) {
            report.error(format_args!(
                "blocks {block} + {len}: belong to a file and are tree nodes, too"
            ));
        }
    }
    if !found.whole {
        report.note(format_args!(
            "reference counts and links were not compared: not all trees can be read"
        ));
        return;
    }
    let shared: Vec<Run> = runs.iter().copied().filter(|run| run.2 > 1).collect();
    for (start, end, have, say) in differ(&shared, &found.refcounts) {
        let len = end.saturating_sub(start);
        let one = |n: u32, none: &str| match n {
            0 => none.to_owned(),
            n => n.to_string(),
        };
        let (have, say) = (one(have, "at most 1"), one(say, "no record"));
        report.error(format_args!(
            "blocks {start} + {len}: {have} references, the count says {say}"
        ));
    }
    found.exclusive.sort_unstable();
    let mut list = shared.iter().peekable();
    for &(start, end, ino) in &found.exclusive {
        while list.peek().is_some_and(|run| run.1 <= start) {
            list.next();
        }
        if let Some(run) = list.peek().filter(|run| run.0 < end) {
            let at = run.0.max(start);
            report.error(format_args!(
                "inode {ino}: block {at} is shared, but the inode says it shares none"
            ));
        }
    }
}

/// The bitmap of group `g` as it should be. `runs` are all runs of data.
pub fn expected(geo: &Geometry, g: u64, nodes: &Bits, runs: &[Run]) -> Vec<u8> {
    let (start, len) = geo.group_range(g);
    let (start, end) = (start.get(), start.get().saturating_add(len));
    let mut bits = nodes.bytes(start, start.saturating_add(geo.group_blocks()));
    bits.resize(geo.block_size() as usize, 0);
    // CAST: places in a group fit its bitmap.
    let mut set = |from: u64, to: u64| {
        let (from, to) = (from.max(start), to.min(start + geo.group_blocks()));
        if from < to {
            bitmap::set_bytes(&mut bits, (from - start) as usize, (to - from) as usize);
        }
    };
    set(start, start.saturating_add(geo.head(g)));
    set(end, u64::MAX);
    let journal = geo.journal_start().get();
    set(journal, journal.saturating_add(geo.journal_blocks()));
    let first = runs.partition_point(|run| run.1 <= start);
    for run in runs.iter().skip(first).take_while(|run| run.0 < end) {
        set(run.0, run.1);
    }
    bits
}

/// Calls `f` with every run of bits that are set in `a` and clear in `b`.
fn only_in(a: &[u8], b: &[u8], mut f: impl FnMut(u64, u64)) {
    let mut run: Option<(u64, u64)> = None;
    for (at, (&a, &b)) in (0u64..).zip(a.iter().zip(b)) {
        let only = a & !b;
        if only == 0 {
            continue;
        }
        for bit in (0..8u64).filter(|bit| only & 1 << bit != 0) {
            let bit = at.saturating_mul(8).saturating_add(bit);
            match &mut run {
                Some((_, end)) if *end == bit => *end = bit.saturating_add(1),
                _ => {
                    if let Some((start, end)) = run.replace((bit, bit.saturating_add(1))) {
                        f(start, end.saturating_sub(start));
                    }
                }
            }
        }
    }
    if let Some((start, end)) = run {
        f(start, end.saturating_sub(start));
    }
}

/// Checks bitmaps and group descriptors. `whole`: all trees could be read, so that a block nobody
/// uses is really free. Returns the blocks in use.
pub fn groups(
    image: &Image<'_>,
    geo: &Geometry,
    used: &Used,
    runs: &[Run],
    whole: bool,
    report: &mut Report,
) -> std::io::Result<u64> {
    let mut in_use = 0u64;
    for g in 0..geo.ngroups() {
        let (start, _) = geo.group_range(g);
        let start = start.get();
        let (desc_block, off) = geo.desc_location(g);
        let want = expected(geo, g, used.nodes(), runs);
        let free: u32 = want.iter().map(|b| b.count_zeros()).sum();
        in_use = in_use.saturating_add(geo.group_range(g).1.saturating_sub(u64::from(free)));
        let mut bad = |what: &str| {
            report.error(format_args!(
                "group {g} (descriptor in block {desc_block}): {what}"
            ));
        };
        let descs = match image.read(desc_block.get()) {
            Ok(descs) => descs,
            Err(e) => {
                bad(&format!("cannot be read: {e}"));
                continue;
            }
        };
        let desc = group::read_desc(&descs, off, geo, g);
        let have = match desc {
            Ok(desc) if desc.is_uninit() => Ok(initial(geo, g)),
            _ => image.read(geo.bitmap_block(g).get()),
        };
        let have = match have {
            Ok(bitmap) => bitmap,
            Err(e) => {
                bad(&format!("bitmap cannot be read: {e}"));
                continue;
            }
        };
        let clear: u32 = have.iter().map(|b| b.count_zeros()).sum();
        match desc {
            Err(what) => bad(what),
            Ok(desc) => {
                if !desc.is_uninit() && desc.bitmap_crc.get() != bitmap_checksum(&have, geo) {
                    bad("bitmap: wrong checksum");
                }
                if desc.free.get() != clear {
                    let said = desc.free.get();
                    bad(&format!(
                        "says {said} blocks are free, the bitmap says {clear}"
                    ));
                }
            }
        }
        only_in(&want, &have, |bit, len| {
            let block = start.saturating_add(bit);
            report.error(format_args!(
                "blocks {block} + {len}: in use, but marked free"
            ));
        });
        if whole {
            only_in(&have, &want, |bit, len| {
                let block = start.saturating_add(bit);
                report.error(format_args!(
                    "blocks {block} + {len}: marked in use, but nobody uses them"
                ));
            });
        }
    }
    descriptor_padding(image, geo, report);
    Ok(in_use)
}

/// The bitmap of group `g` before anything is in use.
pub fn initial(geo: &Geometry, g: u64) -> Vec<u8> {
    // CAST: at most 4096.
    let mut bitmap = vec![0; geo.block_size() as usize];
    group::init_bitmap(&mut bitmap, geo, g);
    bitmap
}

/// What follows the last descriptor is zero.
fn descriptor_padding(image: &Image<'_>, geo: &Geometry, report: &mut Report) {
    let (mut block, mut off) = geo.desc_location(geo.ngroups());
    let end = geo.desc_start().get().saturating_add(geo.desc_blocks());
    while block.get() < end {
        let bytes = image.read(block.get()).unwrap_or_default();
        if bytes
            .get(off..)
            .is_none_or(|rest| rest.iter().any(|&b| b != 0))
        {
            report.error(format_args!(
                "block {block}: not zero behind the last group descriptor"
            ));
        }
        block = BlockNr::new(block.get().saturating_add(1));
        off = 0;
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Blocks: reference counts, bitmaps and group descriptors against what is in use.

use calf_core::algo::bitmap;
use calf_core::format::geometry::Geometry;
use calf_core::format::group::{bitmap_checksum, GroupDesc};
use zerocopy::{FromBytes, IntoBytes};

use crate::image::Image;
use crate::inodes::Found;
use crate::report::{Repair, Report};
use crate::used::{differ, Run, Used};

/// Checks data against tree nodes and against the reference counts.
pub fn references(runs: &[Run], used: &Used, found: &mut Found, report: &mut Report) {
    for &(start, end, _) in runs {
        for block in (start..end).filter(|&block| used.is_node(block)) {
            report.error(
                Repair::None,
                format_args!("block {block}: belongs to a file and is a tree node, too"),
            );
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
        report.error(
            Repair::None,
            format_args!("blocks {start} + {len}: {have} references, the count says {say}"),
        );
    }
    found.exclusive.sort_unstable();
    let mut list = shared.iter().peekable();
    for &(start, end, ino) in &found.exclusive {
        while list.peek().is_some_and(|run| run.1 <= start) {
            list.next();
        }
        if let Some(run) = list.peek().filter(|run| run.0 < end) {
            let at = run.0.max(start);
            report.error(
                Repair::None,
                format_args!(
                    "inode {ino}: block {at} is shared, but the inode says it shares none"
                ),
            );
        }
    }
}

/// The bitmap of group `g` as it should be. `runs` are all runs of data.
fn expected(geo: &Geometry, g: u64, used: &Used, runs: &[Run]) -> Vec<u8> {
    let (start, len) = geo.group_range(g);
    let (start, end) = (start.get(), start.get().saturating_add(len));
    let mut bits: Vec<u8> = used.bytes(start).take(geo.block_size() as usize).collect();
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

/// Checks the groups. With `repair`, sets right in memory what is wrong. Returns the number of
/// blocks in use.
pub fn groups(
    image: &mut Image<'_>,
    geo: &Geometry,
    used: &Used,
    runs: &[Run],
    whole: bool,
    repair: bool,
    report: &mut Report,
) -> std::io::Result<u64> {
    let fix = if whole {
        Repair::Possible
    } else {
        Repair::None
    };
    let mut in_use = 0u64;
    for g in 0..geo.ngroups() {
        let (start, _) = geo.group_range(g);
        let start = start.get();
        let (desc_block, off) = geo.desc_location(g);
        let at = geo.bitmap_block(g).get();
        let want = expected(geo, g, used, runs);
        let free: u32 = want.iter().map(|b| b.count_zeros()).sum();
        in_use = in_use.saturating_add(geo.group_range(g).1.saturating_sub(u64::from(free)));
        let have = image.read(at)?;
        let mut descs = image.read(desc_block.get())?;
        let errors = report.errors();
        let mut bad = |what: &str| {
            report.error(
                fix,
                format_args!("group {g} (descriptor in block {desc_block}): {what}"),
            );
        };
        let desc = descs
            .get(off..)
            .and_then(|d| GroupDesc::read_from_prefix(d).ok());
        let Some((desc, _)) = desc else { continue };
        let verdict = desc.verify(geo, g);
        let trusted = verdict.is_ok();
        if let Err(what) = verdict {
            bad(what);
        }
        if trusted && desc.bitmap_crc.get() != bitmap_checksum(&have, geo) {
            bad("bitmap: wrong checksum");
        }
        let clear: u32 = have.iter().map(|b| b.count_zeros()).sum();
        if trusted && desc.free.get() != clear {
            let said = desc.free.get();
            bad(&format!(
                "says {said} blocks are free, the bitmap says {clear}"
            ));
        }
        only_in(&want, &have, |bit, len| {
            let block = start.saturating_add(bit);
            report.error(
                fix,
                format_args!("blocks {block} + {len}: in use, but marked free"),
            );
        });
        if whole {
            only_in(&have, &want, |bit, len| {
                let block = start.saturating_add(bit);
                report.error(
                    fix,
                    format_args!("blocks {block} + {len}: marked in use, but nobody uses them"),
                );
            });
        }
        if repair && report.errors() > errors {
            let desc = GroupDesc::new(geo, g, free, bitmap_checksum(&want, geo));
            if let Some(to) = descs
                .get_mut(off..)
                .and_then(|d| d.get_mut(..desc.as_bytes().len()))
            {
                to.copy_from_slice(desc.as_bytes());
            }
            image.put(at, want);
            image.put(desc_block.get(), descs);
        }
    }
    Ok(in_use)
}

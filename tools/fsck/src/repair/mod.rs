// SPDX-License-Identifier: GPL-2.0

//! The repair: reads what can be read, makes one consistent filesystem of it in memory, and writes
//! what differs.
//!
//! New tree nodes go into blocks that nothing uses. When all of them are durable, the roots of the
//! global trees are replaced, that of the inodes first, and after that comes only what follows
//! from them: bitmaps, descriptors, the superblock. A repair that is interrupted before the roots
//! has changed nothing; one that is interrupted later leaves what the next one computes again.

mod attrs;
mod build;
mod data;
mod gather;
mod mend;
mod model;
mod names;
mod salvage;
mod types;

use std::cell::RefCell;
use std::rc::Rc;

use calf_core::format::geometry::Geometry;
use calf_core::format::group::{self, bitmap_checksum, GroupDesc};
use calf_core::format::super_block::{RawSuperBlock, SuperBlock, STATE_ERROR};
use calf_io::editor::Error as Edit;
use zerocopy::IntoBytes;

use crate::bits::Bits;
use crate::check::{examine, Error, Mode, Outcome};
use crate::image::Image;
use crate::replay::{self, Blocks, Replay};
use crate::report::Report;
use crate::space;
use crate::superblock;
use crate::used::Run;
use build::{Fresh, Space};
use gather::Gather;
use model::Model;
use salvage::Salvage;

/// Inodes of a kind, not whole any more or with uncertain contents, that are named with a path.
const PATHS: usize = 200;

/// Everything that is to be written, in the order in which it has to become durable.
struct Plan {
    fresh: Blocks,
    roots: Blocks,
    derived: Blocks,
    last: Blocks,
}

/// Repairs. `image` lies under what the journal brings. Returns whether anything was written; if
/// not, the report says why.
pub fn repair(
    image: &mut Image<'_>,
    geo: &Geometry,
    replay: &Replay,
    mode: Mode,
    out: &mut Outcome,
    report: &mut Report,
) -> Result<bool, Error> {
    let Ok(sb) = SuperBlock::parse(&image.read(0)?, image.device_bytes()) else {
        return Ok(false);
    };
    let plan = match plan(image, geo, &sb, report) {
        Ok(plan) => plan,
        Err(Edit::NoSpace) => {
            report.note(format_args!(
                "no free block is left for the repaired trees; nothing was changed (enlarge the device, or copy the files out)"
            ));
            out.left = out.left.max(1);
            return Ok(false);
        }
        Err(Edit::Io(e)) => return Err(e.into()),
        Err(e) => {
            report.note(format_args!(
                "the repair cannot be made: {e}; nothing was changed"
            ));
            out.left = out.left.max(1);
            return Ok(false);
        }
    };
    out.losses = report.losses();
    if mode == Mode::Preen && !report.is_safe() {
        report.note(format_args!(
            "this repair may lose something, or is a guess; nothing was changed: run fsck.calf -y by hand"
        ));
        out.left = out.left.max(1);
        return Ok(false);
    }
    if !holds(image, geo, &plan, report)? {
        out.left = out.left.max(1);
        return Ok(false);
    }
    out.changed = true;
    write(image, geo, replay, sb.error, plan)?;
    Ok(true)
}

/// Whether the filesystem is sound after the plan; looked at in memory, before anything is written.
fn holds(
    image: &mut Image<'_>,
    geo: &Geometry,
    plan: &Plan,
    report: &mut Report,
) -> Result<bool, Error> {
    let mut after = image.clone();
    for blocks in [&plan.fresh, &plan.roots, &plan.derived, &plan.last] {
        after.put_all(blocks);
    }
    let lines = Rc::new(RefCell::new(Vec::new()));
    let to = lines.clone();
    let mut check = Report::new(move |line| to.borrow_mut().push(line.to_owned()));
    check.without_hint();
    examine(&after, geo, &mut check)?;
    let left = check.errors();
    if left > 0 {
        report.note(format_args!(
            "{left} errors would be left after the repair, a bug of fsck.calf; nothing was changed"
        ));
        for line in lines.borrow().iter().take(20) {
            report.note(format_args!("left: {line}"));
        }
    }
    Ok(left == 0)
}

/// Works out what has to be written.
fn plan(
    image: &Image<'_>,
    geo: &Geometry,
    sb: &SuperBlock,
    report: &mut Report,
) -> Result<Plan, Edit> {
    let mut salvage = Salvage::new(image, geo);
    let mut model = Gather {
        salvage: &mut salvage,
        hash_seed: sb.hash_seed,
        report,
    }
    .run();
    model.block_size = geo.block_size();
    types::settle(&mut model, report);
    names::settle(&mut model, report);
    data::nodes(&mut model, &salvage.nodes, report);
    data::cross_links(&mut model, geo, report);
    data::sizes(&mut model, geo, report);
    let mut fresh = Fresh::new(geo, free_space(&salvage, &model, geo));
    build::trees(&mut model, &mut fresh, &sb.hash_seed, report)?;
    let runs = model.data(geo).counts();
    build::refcounts(&mut model, &mut fresh, &runs, report)?;
    let mut nodes = model.kept_nodes(geo);
    for block in fresh.places() {
        nodes.add(block, 1);
    }
    let derived = groups(image, geo, &nodes, &runs, report);
    let (fresh, roots) = fresh.finish();
    // Each path is looked for in all names; the lines above have every number.
    let hurt = model
        .hurt
        .iter()
        .filter(|ino| model.inodes.contains_key(ino));
    for ino in hurt.take(PATHS) {
        report.note(format_args!("not whole any more: {}", model.path(*ino)));
    }
    let alive = |ino: &&u64| model.inodes.contains_key(ino) && !model.hurt.contains(ino);
    for ino in model.uncertain.iter().filter(alive).take(PATHS) {
        report.note(format_args!("contents uncertain: {}", model.path(*ino)));
    }
    let last = superblocks(image, geo, model.inodes.len() as u64);
    Ok(Plan {
        fresh,
        roots,
        derived,
        last,
    })
}

/// What may be used for new nodes: nothing that was in use, by whatever account.
fn free_space<'g>(salvage: &Salvage<'_, '_>, model: &Model, geo: &'g Geometry) -> Space<'g> {
    let mut busy = salvage.nodes.clone();
    for e in model.inodes.values().flat_map(model::Node::extents) {
        busy.add(e.phys, e.len);
    }
    for root in [geo.inode_root(), geo.refcount_root(), geo.orphan_root()] {
        busy.add(root.get(), 1);
    }
    let mut marked = Bits::new(geo.blocks());
    for g in 0..geo.ngroups() {
        let (start, len) = geo.group_range(g);
        if let Some(bitmap) = salvage.bitmap(g) {
            build::mark(&mut marked, start.get(), len, &bitmap);
        }
    }
    Space::new(geo, busy, marked)
}

/// Bitmaps and descriptors that differ from what they should be.
fn groups(
    image: &Image<'_>,
    geo: &Geometry,
    nodes: &Bits,
    runs: &[Run],
    report: &mut Report,
) -> Blocks {
    let mut blocks = Blocks::new();
    let size = geo.block_size();
    // CAST: at most 4096.
    let per_block = size / 32;
    let mut wrong = 0u64;
    for i in 0..geo.desc_blocks() {
        let mut descs = vec![0; size as usize];
        for (g, to) in (i.saturating_mul(per_block)..geo.ngroups()).zip(descs.chunks_exact_mut(32))
        {
            let bitmap = space::expected(geo, g, nodes, runs);
            // A bitmap that was never written need not be while it is as it was.
            let old = image.read(geo.desc_start().get().saturating_add(i));
            let (_, off) = geo.desc_location(g);
            let uninit = old.is_ok_and(|old| {
                group::read_desc(&old, off, geo, g).is_ok_and(|desc| desc.is_uninit())
            });
            let uninit = GroupDesc::new_uninit(geo, g)
                .filter(|_| uninit && bitmap == space::initial(geo, g));
            let free = bitmap.iter().map(|b| b.count_zeros()).sum();
            let desc = uninit
                .unwrap_or_else(|| GroupDesc::new(geo, g, free, bitmap_checksum(&bitmap, geo)));
            to.copy_from_slice(desc.as_bytes());
            let at = geo.bitmap_block(g).get();
            if uninit.is_none() && image.read(at).map_or(true, |old| old != bitmap) {
                wrong = wrong.saturating_add(1);
                blocks.push((at, bitmap));
            }
        }
        let at = geo.desc_start().get().saturating_add(i);
        if image.read(at).map_or(true, |old| old != descs) {
            wrong = wrong.saturating_add(1);
            blocks.push((at, descs));
        }
    }
    if wrong > 0 {
        report.done(format_args!(
            "{wrong} blocks of bitmaps and group descriptors written anew"
        ));
    }
    blocks
}

/// The superblock and its copy, as they will be.
fn superblocks(image: &Image<'_>, geo: &Geometry, inodes: u64) -> Blocks {
    let mut blocks = Blocks::new();
    let first = image.read(0).unwrap_or_default();
    let Some(raw) = RawSuperBlock::of(&first) else {
        return blocks;
    };
    let mut raw = *raw;
    raw.state = 0.into();
    raw.error_code = 0.into();
    raw.error_block = 0.into();
    raw.error_time = 0.into();
    raw.set_clean(inodes);
    if let Some(block) = geo.backup_block() {
        let copy = image.read(block.get()).unwrap_or_default();
        let good = SuperBlock::parse(&copy, image.device_bytes()).is_ok()
            && superblock::padding_holds(&copy)
            && RawSuperBlock::of(&copy).is_some_and(|copy| raw.same_filesystem(copy));
        if !good {
            blocks.push((block.get(), superblock::block(&raw, geo)));
        }
    }
    blocks.push((0, superblock::block(&raw, geo)));
    blocks
}

/// Writes the plan. `error`: the superblock says that something is wrong; an earlier repair may have
/// been interrupted.
fn write(
    image: &mut Image<'_>,
    geo: &Geometry,
    replay: &Replay,
    error: bool,
    plan: Plan,
) -> Result<(), Error> {
    // What the journal brings comes home before the journal is marked empty.
    let journal = geo.journal_start().get();
    let empty = image.read(journal)?;
    image.forget(journal);
    let mut first = image.read(0)?;
    if let Some(raw) = RawSuperBlock::of_mut(&mut first) {
        // Until the end, whoever looks at the superblock is told that something is wrong.
        raw.state = STATE_ERROR.into();
        raw.seal();
    }
    image.put(
        0,
        superblock::block(RawSuperBlock::of(&first).ok_or(eof())?, geo),
    );
    image.flush()?;
    let wipe = error || replay.damaged.is_some();
    if replay.dirty || replay.errno != 0 || wipe {
        image.put(journal, empty);
        if let Ok(mut sb) = replay::superblock(image, geo) {
            sb.errno = 0.into();
            replay::put_superblock(image, geo, sb);
        }
        image.flush()?;
    }
    // Only now: half a log would be replayed again, up to where it has been wiped. Who comes after
    // an interruption finds the log empty, but the error in the superblock, and wipes the rest.
    if wipe {
        replay::wipe(image, geo);
        image.flush()?;
    }
    for blocks in [plan.fresh, plan.roots, plan.derived, plan.last] {
        image.put_all(&blocks);
        image.flush()?;
    }
    Ok(())
}

fn eof() -> Error {
    Error::Io(std::io::ErrorKind::UnexpectedEof.into())
}

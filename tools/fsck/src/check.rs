// SPDX-License-Identifier: GPL-2.0

//! The whole check, from the superblock on.

use std::fmt;
use std::io;

use calf_core::format::geometry::Geometry;
use calf_core::format::super_block::{RawSuperBlock, SbError, SuperBlock};
use calf_io::device::Storage;

use crate::image::Image;
use crate::inodes;
use crate::links;
use crate::repair;
use crate::replay::{self, Replay};
use crate::report::Report;
use crate::space;
use crate::superblock;
use crate::trees::Context;
use crate::used::Used;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Look only; the journal is replayed in memory.
    Check,
    /// Repair what can be repaired without losing anything.
    Preen,
    /// Repair.
    Repair,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Findings.
    pub errors: u64,
    /// Findings left on the device.
    pub left: u64,
    /// Was anything written?
    pub changed: bool,
    /// Repairs at a price: files, names or data that could not be kept.
    pub losses: u64,
    /// Inodes.
    pub inodes: u64,
    /// Blocks in use.
    pub used: u64,
    /// Blocks.
    pub blocks: u64,
    /// What the journal held.
    pub replay: Replay,
}

/// What keeps the check from being made.
#[derive(Debug)]
pub enum Error {
    /// The device failed.
    Io(io::Error),
    /// No calf filesystem, or one of a newer version.
    Super(SbError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::Super(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Is there a superblock that says "unmounted properly", without errors, and an empty journal?
pub fn looks_clean(storage: &dyn Storage) -> bool {
    let Ok(Some(sb)) = superblock::clean(storage) else {
        return false;
    };
    let image = Image::new(storage, sb.geo.block_size());
    let journal = replay::superblock(&image, &sb.geo);
    journal.is_ok_and(|j| j.start.get() == 0 && j.errno.get() == 0)
}

/// What a look at everything brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    /// Inodes.
    pub inodes: u64,
    /// Blocks in use.
    pub used: u64,
    /// Inodes with work left to do.
    pub orphans: u64,
    /// Does the superblock say "unmounted properly", without errors?
    pub clean: bool,
}

/// Checks the filesystem on `storage`.
pub fn check(storage: &dyn Storage, mode: Mode, report: &mut Report) -> Result<Outcome, Error> {
    if mode != Mode::Check {
        report.without_hint();
    }
    let start = superblock::find(storage, report)?;
    let geo = start.sb.geo;
    let mut image = Image::new(storage, geo.block_size());
    if !start.primary {
        image.put(0, superblock::block(&start.raw, &geo));
    }
    let replay = replay::replay(&mut image, &geo)?;
    if let Some((block, what)) = replay.damaged {
        match replay.left_out {
            0 => report.error(format_args!("block {block}: {what}")),
            _ => report.error(format_args!("block {block}: {what}; {}", left_out(&replay))),
        }
    }
    if replay.dirty {
        let Replay {
            transactions,
            blocks,
            revoked,
            ..
        } = replay;
        report.note(format_args!(
            "journal: {transactions} transactions with {blocks} blocks replayed{}, {revoked} revoked",
            if mode == Mode::Check { " in memory" } else { "" },
        ));
    }
    // The journal may bring the superblock, of a filesystem that has just been enlarged for one. Nothing else of the
    // layout changes, and the kernel does not mount it otherwise.
    let geo = match SuperBlock::parse(&image.read(0)?, storage.size()) {
        Ok(after) if geo.grown(after.geo.blocks()) == Ok(after.geo) => after.geo,
        Err(why @ SbError::Device { .. }) => return Err(superblock::cut(why, report)),
        result => {
            let what = result.map_or_else(|e| e.to_string(), |_| "another layout".to_owned());
            report.error(format_args!("superblock after the replay: {what}"));
            image.put(0, superblock::block(&start.raw, &geo));
            geo
        }
    };
    let verdict = examine(&image, &geo, report)?;
    let mut out = Outcome {
        errors: report.errors(),
        left: report.errors(),
        inodes: verdict.inodes,
        used: verdict.used,
        blocks: geo.blocks(),
        replay,
        ..Outcome::default()
    };
    note_state(&verdict, &replay, mode, report);
    let idle = !replay.dirty && replay.errno == 0 && verdict.clean && verdict.orphans == 0;
    if mode == Mode::Check || (out.errors == 0 && idle) {
        return Ok(out);
    }
    report.start_repairs();
    if replay.left_out > 0 {
        report.lost(format_args!("journal: {}", left_out(&replay)));
    } else if replay.damaged.is_some() && (replay.used || !(start.primary && start.sb.clean)) {
        // A superblock that says clean is no proof that the log was empty: the mark "in use" is in the log, with the
        // first change, until both are written home.
        report.guessed(format_args!(
            "journal: made anew; what was committed in it, if anything, is left out"
        ));
    }
    if !repair::repair(&mut image, &geo, &replay, mode, &mut out, report)? {
        return Ok(out);
    }
    // The proof: what is on the device now.
    let image = Image::new(storage, geo.block_size());
    let mut after = Report::silent();
    let verdict = examine(&image, &geo, &mut after)?;
    out.left = after.errors();
    (out.inodes, out.used) = (verdict.inodes, verdict.used);
    Ok(out)
}

/// Says what a damaged log keeps to itself.
fn left_out(replay: &Replay) -> String {
    match replay.left_out {
        1 => "1 committed transaction is left out".to_owned(),
        n => format!("{n} committed transactions are left out"),
    }
}

/// Looks at everything but the journal. Findings go to `report`.
pub fn examine(image: &Image<'_>, geo: &Geometry, report: &mut Report) -> io::Result<Verdict> {
    let first = image.read(0)?;
    let Ok(sb) = SuperBlock::parse(&first, image.device_bytes()) else {
        report.error(format_args!("superblock (byte 0): damaged"));
        return Ok(Verdict::default());
    };
    if !superblock::padding_holds(&first) {
        report.error(format_args!("block 0: not zero behind the superblock"));
    }
    backup(image, geo, report);
    let mut used = Used::new(geo);
    let mut found = inodes::read(
        &mut Context {
            image,
            geo,
            used: &mut used,
            report,
        },
        &sb.hash_seed,
    );
    links::check(&mut found, report);
    let runs = used.counts();
    space::references(&runs, &used, &mut found, report);
    let in_use = space::groups(image, geo, &used, &runs, found.whole, report)?;
    let inodes = found.inodes.len() as u64;
    if sb.clean && sb.inode_count != inodes && found.whole {
        let said = sb.inode_count;
        report.error(format_args!(
            "superblock (byte 0): says there are {said} inodes, there are {inodes}"
        ));
    }
    Ok(Verdict {
        inodes,
        used: in_use,
        orphans: found.orphans.len() as u64,
        clean: sb.clean && !sb.error,
    })
}

fn backup(image: &Image<'_>, geo: &Geometry, report: &mut Report) {
    let Some(block) = geo.backup_block() else {
        return;
    };
    let first = image.read(0).unwrap_or_default();
    let copy = image.read(block.get()).unwrap_or_default();
    let (Some(first), Some(raw)) = (RawSuperBlock::of(&first), RawSuperBlock::of(&copy)) else {
        report.error(format_args!(
            "block {block}, copy of the superblock: cannot be read"
        ));
        return;
    };
    if let Err(e) = SuperBlock::parse(&copy, image.device_bytes()) {
        report.error(format_args!("block {block}, copy of the superblock: {e}"));
    } else if !first.same_filesystem(raw) {
        report.error(format_args!(
            "block {block}: the copy of the superblock differs from it"
        ));
    } else if !superblock::padding_holds(&copy) {
        report.error(format_args!(
            "block {block}: not zero behind the copy of the superblock"
        ));
    }
}

/// Says what superblock and journal tell of the last mount.
fn note_state(verdict: &Verdict, replay: &Replay, mode: Mode, report: &mut Report) {
    if !verdict.clean {
        report.note(format_args!(
            "it was not unmounted properly, or ended with an error"
        ));
    }
    if replay.errno != 0 {
        let errno = replay.errno;
        report.note(format_args!(
            "an earlier mount aborted the journal with errno {errno}; -y forgets it if all is well"
        ));
    }
    if verdict.orphans != 0 {
        let n = verdict.orphans;
        let when = match mode {
            Mode::Check => "the next mount works them off",
            Mode::Preen | Mode::Repair => "they are worked off",
        };
        report.note(format_args!("{n} orphans; {when}"));
    }
}

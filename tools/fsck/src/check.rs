// SPDX-License-Identifier: GPL-2.0

//! The whole check, from the superblock on.

use std::fmt;
use std::io;

use calf_core::format::geometry::Geometry;
use calf_core::format::super_block::{self, RawSuperBlock, SbError, SuperBlock};
use calf_io::device::Storage;

use crate::image::Image;
use crate::inodes::{self, Found};
use crate::links;
use crate::replay::{self, Replay};
use crate::report::{Repair, Report};
use crate::space;
use crate::trees::Context;
use crate::used::Used;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Look only; the journal is replayed in memory.
    Check,
    /// Repair what can be repaired.
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

fn head(storage: &dyn Storage, at: u64) -> io::Result<Vec<u8>> {
    let size = super_block::SIZE as u64;
    if at.saturating_add(size) > storage.size() {
        return Ok(Vec::new());
    }
    storage.read(at, super_block::SIZE)
}

/// The superblock, or its copy if it is damaged; in that case the first is false.
fn find_super(storage: &dyn Storage, report: &mut Report) -> Result<(bool, SuperBlock), Error> {
    let first = match SuperBlock::parse(&head(storage, 0)?, storage.size()) {
        Ok(sb) => return Ok((true, sb)),
        Err(e) => e,
    };
    for log in 10..=12u32 {
        // Group 1 starts after as many blocks as one block has bits.
        let copy = head(storage, 8u64 << (2 * log))?;
        match SuperBlock::parse(&copy, storage.size()) {
            Ok(sb) if sb.geo.block_shift() == log => {
                report.error(
                    Repair::None,
                    format_args!("{first}; going on with the copy in group 1"),
                );
                return Ok((false, sb));
            }
            _ => {}
        }
    }
    Err(Error::Super(first))
}

/// Is there a superblock that says "unmounted properly", without errors, and an empty journal?
pub fn looks_clean(storage: &dyn Storage) -> bool {
    let parsed = head(storage, 0).map(|bytes| SuperBlock::parse(&bytes, storage.size()));
    let Ok(Ok(sb)) = parsed else { return false };
    let image = Image::new(storage, sb.geo.block_size(), sb.geo.blocks());
    let journal = replay::superblock(&image, &sb.geo);
    sb.clean && !sb.error && journal.is_ok_and(|j| j.start.get() == 0 && j.errno.get() == 0)
}

/// Checks the filesystem on `storage`.
pub fn check(storage: &dyn Storage, mode: Mode, report: &mut Report) -> Result<Outcome, Error> {
    let (primary, sb) = find_super(storage, report)?;
    let geo = sb.geo;
    let mut image = Image::new(storage, geo.block_size(), geo.blocks());
    let mut out = Outcome {
        blocks: geo.blocks(),
        ..Outcome::default()
    };
    match replay::replay(&mut image, &geo) {
        Ok(replay) => out.replay = replay,
        Err(replay::Error::Io(e)) => return Err(e.into()),
        Err(replay::Error::Damaged { block, what }) => {
            report.error(Repair::None, format_args!("block {block}: {what}"));
        }
    }
    if out.replay.dirty {
        let Replay {
            transactions,
            blocks,
            revoked,
            ..
        } = out.replay;
        report.note(format_args!(
            "journal: {transactions} transactions with {blocks} blocks replayed{}, {revoked} revoked",
            if mode == Mode::Check { " in memory" } else { "" },
        ));
        if mode == Mode::Repair && primary {
            // All but the mark "empty" must be durable before it.
            out.changed = true;
            let journal = geo.journal_start().get();
            let empty = image.read(journal)?;
            image.forget(journal);
            image.flush()?;
            image.put(journal, empty);
            image.flush()?;
        }
    }
    let sb = match SuperBlock::parse(&image.read(0)?, storage.size()) {
        Ok(after) if after.geo == geo => after,
        Ok(_) => {
            report.error(
                Repair::None,
                format_args!("superblock: another layout after the replay"),
            );
            sb
        }
        Err(e) if primary => {
            report.error(Repair::None, format_args!("after the replay: {e}"));
            sb
        }
        Err(_) => sb,
    };
    backup(&image, &geo, report)?;
    let mut used = Used::new(&geo);
    let mut found = inodes::read(
        &mut Context {
            image: &image,
            geo: &geo,
            used: &mut used,
            report,
        },
        &sb.hash_seed,
    );
    links::check(&mut found, report);
    let runs = used.counts();
    space::references(&runs, &used, &mut found, report);
    let repair = mode == Mode::Repair && primary && found.whole && report.lasting() == 0;
    out.used = space::groups(&mut image, &geo, &used, &runs, found.whole, repair, report)?;
    out.inodes = found.inodes.len() as u64;
    state(&mut image, &sb, &found, repair, &out.replay, report)?;
    out.errors = report.errors();
    out.left = out.errors;
    if repair && report.lasting() == 0 {
        out.changed |= image.is_changed();
        image.flush()?;
        out.left = 0;
    }
    Ok(out)
}

fn backup(image: &Image<'_>, geo: &Geometry, report: &mut Report) -> io::Result<()> {
    let Some(block) = geo.backup_block() else {
        return Ok(());
    };
    let (first, copy) = (image.read(0)?, image.read(block.get())?);
    let (Some(first), Some(raw)) = (RawSuperBlock::of(&first), RawSuperBlock::of(&copy)) else {
        return Ok(());
    };
    if let Err(e) = SuperBlock::parse(&copy, image.device_bytes()) {
        report.error(
            Repair::None,
            format_args!("block {block}, copy of the superblock: {e}"),
        );
    } else if !first.same_filesystem(raw) {
        report.error(
            Repair::None,
            format_args!("block {block}: the copy of the superblock differs from it"),
        );
    }
    Ok(())
}

/// Checks what the superblock and the journal say of the last mount.
fn state(
    image: &mut Image<'_>,
    sb: &SuperBlock,
    found: &Found,
    repair: bool,
    replay: &Replay,
    report: &mut Report,
) -> io::Result<()> {
    let inodes = found.inodes.len() as u64;
    let mut change = false;
    if !sb.clean {
        report.note(format_args!("it was not unmounted properly"));
        change = true;
    } else if sb.inode_count != inodes && found.whole {
        let said = sb.inode_count;
        report.error(
            Repair::Possible,
            format_args!("superblock (byte 0): says there are {said} inodes, there are {inodes}"),
        );
        change = true;
    }
    if !found.orphans.is_empty() {
        let n = found.orphans.len();
        report.note(format_args!("{n} orphans; the next mount works them off"));
    }
    if sb.error || replay.errno != 0 {
        let errno = replay.errno;
        report.note(format_args!(
            "an earlier mount ended with an error (journal: {errno}); -y forgets it if all is well"
        ));
        change = true;
    }
    if !repair || !change {
        return Ok(());
    }
    let mut bytes = image.read(0)?;
    if let Some(raw) = RawSuperBlock::of_mut(&mut bytes) {
        raw.state = 0.into();
        raw.error_code = 0.into();
        raw.error_block = 0.into();
        raw.error_time = 0.into();
        raw.set_clean(inodes);
    }
    image.put(0, bytes);
    if replay.errno != 0 {
        if let Ok(mut journal) = replay::superblock(image, &sb.geo) {
            journal.errno = 0.into();
            // Damage of the journal would have been found before.
            let _ = replay::put_superblock(image, &sb.geo, journal);
        }
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Finding the superblock: in its place, as its copy in group 1, or made again from what else says
//! where things are. One that is sound is not replaced because the device is too short for it, but by its copy.

use std::io::{self, Read};

use calf_core::format::geometry::{Geometry, Layout};
use calf_core::format::journal::JournalSuperBlock;
use calf_core::format::node;
use calf_core::format::super_block::{
    self, RawSuperBlock, SbError, SuperBlock, MAGIC, ROOT_INO, STATE_CLEAN, STATE_ERROR, VERSION,
};
use calf_core::format::{BlockNr, Ino};
use calf_io::device::Storage;
use zerocopy::IntoBytes;

use crate::check::Error;
use crate::report::Report;

/// A superblock to go on with.
pub struct Start {
    /// Its bytes.
    pub raw: RawSuperBlock,
    /// What it says.
    pub sb: SuperBlock,
    /// Is it the one in its place?
    pub primary: bool,
}

/// The first 1024 bytes at byte `at`; fewer if the device ends or does not read.
fn head(storage: &dyn Storage, at: u64) -> Vec<u8> {
    let size = super_block::SIZE as u64;
    if at.saturating_add(size) > storage.size() {
        return Vec::new();
    }
    storage.read(at, super_block::SIZE).unwrap_or_default()
}

fn parse(raw: RawSuperBlock, bytes: u64) -> Option<(RawSuperBlock, SuperBlock)> {
    let sb = SuperBlock::parse(raw.as_bytes(), bytes).ok()?;
    Some((raw, sb))
}

/// Finds a superblock to go on with. Errors: there is none, or it is one of a newer format.
pub fn find(storage: &dyn Storage, report: &mut Report) -> Result<Start, Error> {
    let size = storage.size();
    if size < super_block::SIZE as u64 {
        return Err(Error::Super(SbError::Short));
    }
    let first = head(storage, 0);
    let why = match (SuperBlock::parse(&first, size), RawSuperBlock::of(&first)) {
        (Ok(sb), Some(_)) if sb.unknown_ro_compat != 0 => {
            return Err(Error::Super(SbError::RoCompat(sb.unknown_ro_compat)))
        }
        (Ok(sb), Some(raw)) => {
            return Ok(Start {
                raw: *raw,
                sb,
                primary: true,
            })
        }
        (Err(why @ (SbError::Version(_) | SbError::Incompat(_))), _) => {
            return Err(Error::Super(why))
        }
        (Err(why), _) => why,
        (Ok(_), None) => SbError::Short,
    };
    // Group 1 starts after as many blocks as one block has bits.
    let copy_at = |log: u32| head(storage, 8u64 << (2 * log));
    // Nothing is wrong with this one; the device is another, or was cut. Unless its copy, which says the same since
    // the filesystem was made or has grown, says that it fits.
    let sound = SuperBlock::parse(&first, u64::MAX).ok();
    let sound = sound.filter(|_| matches!(why, SbError::Device { .. }));
    let mut use_other = |(raw, sb), how: &str| {
        report.error(format_args!("{why}; going on with {how}"));
        Ok(Start {
            raw,
            sb,
            primary: false,
        })
    };
    for log in 10..=12u32 {
        let copy = copy_at(log);
        let copy = RawSuperBlock::of(&copy).and_then(|raw| parse(*raw, size));
        let mut copy = copy.filter(|(_, sb)| sb.geo.block_shift() == log);
        if let Some(sound) = &sound {
            let id = |geo: &Geometry| (geo.block_shift(), *geo.uuid());
            copy = copy.filter(|(_, sb)| id(&sb.geo) == id(&sound.geo));
        }
        if let Some(found) = copy {
            // What we do not know we must not write, as with the superblock in its place.
            if found.1.unknown_ro_compat != 0 {
                return Err(Error::Super(SbError::RoCompat(found.1.unknown_ro_compat)));
            }
            if sound.is_none() {
                return use_other(found, "the copy in group 1");
            }
            let start = use_other(found, "the copy in group 1, which fits");
            // Who knows how the other one came about.
            report.uncertain();
            return start;
        }
    }
    if sound.is_some() {
        return Err(cut(why, report));
    }
    if let Some(found) = RawSuperBlock::of(&first).and_then(|raw| mended(storage, raw)) {
        let start = use_other(found, "what can be read of it");
        // Its checksum is wrong, so that the rest of it may be, too.
        report.uncertain();
        return start;
    }
    // A filesystem that its copy knows to be larger is not planned anew as a smaller one.
    if let Some(why) = (10..=12).find_map(|log| too_large(storage, log, &copy_at(log))) {
        return Err(cut(why, report));
    }
    if let Some(found) = (10..=12).find_map(|log| planned(storage, log)) {
        let start = use_other(
            found,
            "the layout that mkfs.calf gives a device of this size",
        );
        // The label is lost, and the secret of the directory hash.
        report.uncertain();
        return start;
    }
    Err(Error::Super(why))
}

/// The error of a filesystem that goes on behind the end of the device. Whatever was made of the
/// part that is there would be wrong as soon as the rest is back, so nothing is.
pub fn cut(why: SbError, report: &mut Report) -> Error {
    if let SbError::Device { need, .. } = why {
        report.note(format_args!(
            "make the device {need} bytes long again, with what was there; nothing was changed"
        ));
    }
    Error::Super(why)
}

/// What is wrong, if this copy of a superblock is sound and describes a filesystem of this device,
/// but a larger one.
fn too_large(storage: &dyn Storage, log: u32, copy: &[u8]) -> Option<SbError> {
    let why = SuperBlock::parse(copy, storage.size()).err();
    let why = why.filter(|why| matches!(why, SbError::Device { .. }))?;
    let sb = SuperBlock::parse(copy, u64::MAX).ok()?;
    let here = sb.geo.block_shift() == log && uuid_of(storage, &sb.geo) == Some(*sb.geo.uuid());
    here.then_some(why)
}

/// The superblock at the start of the device with its constant fields set right, if roots or the
/// journal are where it says.
fn mended(storage: &dyn Storage, raw: &RawSuperBlock) -> Option<(RawSuperBlock, SuperBlock)> {
    let mut raw = *raw;
    raw.magic = MAGIC;
    raw.version = VERSION.into();
    raw.feature_compat = 0.into();
    raw.feature_ro_compat = 0.into();
    raw.feature_incompat = 0.into();
    raw.state = (raw.state.get() & (STATE_CLEAN | STATE_ERROR)).into();
    raw.root_ino = ROOT_INO.get().into();
    raw.reserved = 0.into();
    raw.rest = [0; 744];
    raw.seal();
    let (_, sb) = parse(raw, storage.size())?;
    if let Some(uuid) = uuid_of(storage, &sb.geo) {
        raw.uuid = uuid;
        raw.seal();
        return parse(raw, storage.size());
    }
    None
}

/// The superblock as mkfs makes it for this device, if there is a filesystem of this layout. The
/// secret of the directory hash is lost; the names are sorted in anew under another one.
fn planned(storage: &dyn Storage, log: u32) -> Option<(RawSuperBlock, SuperBlock)> {
    let blocks = storage.size() >> log;
    let layout = Layout::plan(log, blocks, [0; 16]).ok()?;
    let geo = Geometry::check(&layout).ok()?;
    let uuid = uuid_of(storage, &geo)?;
    let layout = Layout { uuid, ..layout };
    let mut seed = [0; 16];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut seed));
    if random.is_err() {
        return None;
    }
    parse(RawSuperBlock::new(&layout, seed, 0), storage.size())
}

/// The uuid that the journal or at least two roots of this layout carry.
fn uuid_of(storage: &dyn Storage, geo: &Geometry) -> Option<[u8; 16]> {
    let at = |block: BlockNr| block.get().saturating_mul(geo.block_size());
    let journal = head(storage, at(geo.journal_start()));
    if let Some(sb) = JournalSuperBlock::of(&journal) {
        if sb.verify(geo.block_size(), geo.journal_blocks()).is_ok() {
            return Some(sb.uuid);
        }
    }
    let roots = [geo.inode_root(), geo.refcount_root(), geo.orphan_root()];
    let found: Vec<[u8; 16]> = roots
        .into_iter()
        .filter_map(|root| {
            let bytes = head(storage, at(root));
            let header = node::header(&bytes)?;
            let here = header.magic.get() == node::MAGIC
                && header.block.get() == root.get()
                && header.owner.get() == Ino::GLOBAL.get();
            here.then_some(header.uuid)
        })
        .collect();
    match found[..] {
        [a, b, ..] if a == b => Some(a),
        [a, _, c] if a == c => Some(a),
        [_, b, c] if b == c => Some(b),
        _ => None,
    }
}

/// The superblock as the first block of the filesystem.
pub fn block(raw: &RawSuperBlock, geo: &Geometry) -> Vec<u8> {
    let mut bytes = raw.as_bytes().to_vec();
    // CAST: at most 4096.
    bytes.resize(geo.block_size() as usize, 0);
    bytes
}

/// Is the rest of the first block, behind the superblock, zero?
pub fn padding_holds(bytes: &[u8]) -> bool {
    let rest = bytes.get(super_block::SIZE..);
    rest.is_some_and(|rest| rest.iter().all(|&b| b == 0))
}

/// Is there a superblock that says "unmounted properly", without errors?
pub fn clean(storage: &dyn Storage) -> io::Result<Option<SuperBlock>> {
    let parsed = SuperBlock::parse(&head(storage, 0), storage.size());
    Ok(parsed.ok().filter(|sb| sb.clean && !sb.error))
}

// SPDX-License-Identifier: GPL-2.0

//! Finding the superblock: in its place, as its copy in group 1, or made again from what else says
//! where things are. One that is sound is not replaced because the device is too short for it, but by its copy.

use std::cmp::Reverse;
use std::io::{self, Read};

use calf_core::format::geometry::{Geometry, Layout};
use calf_core::format::group;
use calf_core::format::journal::JournalSuperBlock;
use calf_core::format::node;
use calf_core::format::super_block::{
    self, RawSuperBlock, SbError, SuperBlock, MAGIC, ROOT_INO, STATE_CLEAN, STATE_ERROR, VERSION,
};
use calf_core::format::{BlockNr, Ino};
use calf_io::device::Storage;
use calf_io::probe;
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

/// The byte where a block begins.
fn place(geo: &Geometry, block: BlockNr) -> u64 {
    block.get().saturating_mul(geo.block_size())
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
    // Nothing is wrong with this one; the device is another, or was cut. Unless its copy, which says the same since
    // the filesystem was made or has grown, says that it fits.
    let sound = SuperBlock::parse(&first, u64::MAX).ok();
    let sound = sound.filter(|_| matches!(why, SbError::Device { .. }));
    let mut choices = copies(storage);
    if let Some(sound) = &sound {
        let id = |geo: &Geometry| (geo.block_shift(), *geo.uuid());
        choices.retain(|choice| id(&choice.sb.geo) == id(&sound.geo));
    } else {
        let raw = RawSuperBlock::of(&first);
        choices.extend(raw.and_then(|raw| mended(storage, raw)));
        choices.extend((10..=12).filter_map(|log| planned(storage, log)));
    }
    // The order stays where the evidence is the same: copies, later ones first, then what is made of other things.
    choices.sort_by_key(|choice| Reverse(choice.evidence));
    let firm = |c: &Choice| c.evidence >= JOURNAL && !matches!(c.from, Origin::Plan);
    if sound.is_none() && !choices.first().is_some_and(firm) {
        // A filesystem that its copy knows to be larger is not planned anew as a smaller one.
        if let Some(why) = (10..=12).find_map(|log| too_large(storage, log)) {
            return Err(cut(why, report));
        }
    }
    let Some(best) = choices.first() else {
        return Err(match sound {
            Some(_) => cut(why, report),
            None => Error::Super(why),
        });
    };
    // What we do not know we must not write, as with the superblock in its place.
    if best.sb.unknown_ro_compat != 0 {
        return Err(Error::Super(SbError::RoCompat(best.sb.unknown_ro_compat)));
    }
    let how = match best.from {
        Origin::Copy if sound.is_some() => "the copy in group 1, which fits",
        Origin::Copy => "the copy in group 1",
        Origin::Pieces => "what can be read of it",
        Origin::Plan => "the layout that mkfs.calf gives a device of this size",
    };
    report.error(format_args!("{why}; going on with {how}"));
    let rival = |c: &Choice| c.evidence >= JOURNAL && c.sb.geo.uuid() != best.sb.geo.uuid();
    let proved =
        best.evidence >= DESCRIPTOR || best.evidence >= JOURNAL && !choices.iter().any(rival);
    if !proved {
        report.note(format_args!(
            "nothing else on the device proves that this superblock is the right one: see what -n finds before -y"
        ));
    }
    // Of two superblocks who knows how the first one came about; where its checksum is wrong, the rest of it may
    // be, too; with the plan the label is lost, and the secret of the directory hash.
    if !proved || sound.is_some() || !matches!(best.from, Origin::Copy) {
        report.uncertain();
    }
    Ok(Start {
        raw: best.raw,
        sb: best.sb,
        primary: false,
    })
}

/// Where a superblock comes from that is not the one in its place.
#[derive(Clone, Copy)]
enum Origin {
    /// The copy in group 1.
    Copy,
    /// The one in its place, set right.
    Pieces,
    /// What mkfs makes for this device.
    Plan,
}

/// A superblock that could be the right one.
struct Choice {
    raw: RawSuperBlock,
    sb: SuperBlock,
    from: Origin,
    /// What agrees with it: [`DESCRIPTOR`], [`JOURNAL`], [`ROOTS`]. More weighs more.
    evidence: u8,
}

/// The descriptor of group 0. mkfs wipes the start of the device, so it is never that of an older filesystem.
const DESCRIPTOR: u8 = 4;
/// The superblock of the journal.
const JOURNAL: u8 = 2;
/// Two of the roots. With another block size, those of an older filesystem are often still there.
const ROOTS: u8 = 1;

impl Choice {
    fn new(storage: &dyn Storage, raw: RawSuperBlock, from: Origin) -> Option<Self> {
        let sb = SuperBlock::parse(raw.as_bytes(), storage.size()).ok()?;
        let evidence = evidence(storage, &sb.geo);
        Some(Self {
            raw,
            sb,
            from,
            evidence,
        })
    }
}

/// What else on the device belongs to this filesystem.
fn evidence(storage: &dyn Storage, geo: &Geometry) -> u8 {
    let (block, off) = geo.desc_location(0);
    let descs = head(storage, place(geo, block));
    let mut found = 0;
    if group::read_desc(&descs, off, geo, 0).is_ok() {
        found |= DESCRIPTOR;
    }
    let (journal, uuid) = (journal_uuid(storage, geo), *geo.uuid());
    if journal == Some(uuid) {
        found |= JOURNAL;
    }
    // Beside the journal of another filesystem roots are leftovers.
    if journal.is_none_or(|journal| journal == uuid) && roots_uuid(storage, geo) == Some(uuid) {
        found |= ROOTS;
    }
    found
}

/// Where the copy is with blocks of `1 << log` bytes: group 1 starts after as many blocks as one block has bits.
fn copy_at(storage: &dyn Storage, log: u32) -> Vec<u8> {
    head(storage, probe::copy_place(log))
}

/// The sound copies, the one that was made last first. A mkfs with another block size may have left one.
fn copies(storage: &dyn Storage) -> Vec<Choice> {
    let found = (10..=12).filter_map(|log| {
        let raw = *RawSuperBlock::of(&copy_at(storage, log))?;
        let choice = Choice::new(storage, raw, Origin::Copy)?;
        (choice.sb.geo.block_shift() == log).then_some(choice)
    });
    let mut found: Vec<Choice> = found.collect();
    found.sort_by_key(|choice| Reverse(choice.raw.mkfs_time.get()));
    found
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

/// What is wrong, if the copy with blocks of `1 << log` bytes is sound and describes a filesystem of this device,
/// but a larger one.
fn too_large(storage: &dyn Storage, log: u32) -> Option<SbError> {
    let copy = copy_at(storage, log);
    let why = SuperBlock::parse(&copy, storage.size()).err();
    let why = why.filter(|why| matches!(why, SbError::Device { .. }))?;
    let sb = SuperBlock::parse(&copy, u64::MAX).ok()?;
    let here = sb.geo.block_shift() == log && uuid_of(storage, &sb.geo) == Some(*sb.geo.uuid());
    here.then_some(why)
}

/// The superblock at the start of the device with its constant fields set right, if roots or the
/// journal are where it says.
fn mended(storage: &dyn Storage, raw: &RawSuperBlock) -> Option<Choice> {
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
    let sb = SuperBlock::parse(raw.as_bytes(), storage.size()).ok()?;
    raw.uuid = uuid_of(storage, &sb.geo)?;
    raw.seal();
    Choice::new(storage, raw, Origin::Pieces)
}

/// The superblock as mkfs makes it for this device, if there is a filesystem of this layout. The
/// secret of the directory hash is lost; the names are sorted in anew under another one.
fn planned(storage: &dyn Storage, log: u32) -> Option<Choice> {
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
    Choice::new(storage, RawSuperBlock::new(&layout, seed, 0), Origin::Plan)
}

/// The uuid that the journal or at least two roots of this layout carry.
fn uuid_of(storage: &dyn Storage, geo: &Geometry) -> Option<[u8; 16]> {
    journal_uuid(storage, geo).or_else(|| roots_uuid(storage, geo))
}

/// The uuid that the journal of this layout carries.
fn journal_uuid(storage: &dyn Storage, geo: &Geometry) -> Option<[u8; 16]> {
    let journal = head(storage, place(geo, geo.journal_start()));
    let sb = JournalSuperBlock::of(&journal)?;
    let good = sb.verify(geo.block_size(), geo.journal_blocks()).is_ok();
    good.then_some(sb.uuid)
}

/// The uuid that at least two roots of this layout carry.
fn roots_uuid(storage: &dyn Storage, geo: &Geometry) -> Option<[u8; 16]> {
    let roots = [geo.inode_root(), geo.refcount_root(), geo.orphan_root()];
    let found: Vec<[u8; 16]> = roots
        .into_iter()
        .filter_map(|root| {
            let bytes = head(storage, place(geo, root));
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

// SPDX-License-Identifier: GPL-2.0

//! Every field of every structure, damaged in eight ways with the checksum put right: the checker says so,
//! and the repair ends in a clean image.

mod common;
#[path = "fields/rules.rs"]
mod rules;

use calf_core::format::geometry::Geometry;
use calf_core::format::super_block::SbError;
use calf_core::random::Random;
use calf_fsck::check::{Error, Mode};
use calf_io::device::{Memory, Storage};
use calf_io::fields::{fields, Field};
use calf_io::log_fields::Sample;
use calf_io::mutate::Mutation;
use common::shadow::Shadow;
use common::structures::image;
use common::*;
use rules::Change;

/// Is it a newer format?
fn is_newer(e: &SbError) -> bool {
    matches!(
        e,
        SbError::Version(_) | SbError::Incompat(_) | SbError::RoCompat(_)
    )
}

/// The first eight bytes of a field.
fn number(storage: &dyn Storage, field: &Field) -> u64 {
    let mut bytes = storage.read(field.at, field.len.min(8)).unwrap();
    if field.big_endian {
        bytes.reverse();
    }
    bytes.resize(8, 0);
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// One image with one damaged field. Says what is wrong about how it was met.
fn one(base: &Shadow, geo: &Geometry, field: &Field, mutation: Mutation) -> Result<(), String> {
    let image = base.clone();
    let mut random = Random::new(field.at);
    if !mutation.apply(&image, geo, field, &mut random).unwrap() {
        return Ok(());
    }
    let change = Change {
        old: number(base, field),
        new: number(&image, field),
        block: geo.block_size(),
    };
    match run(&image, Mode::Check) {
        (Err(Error::Super(e)), _) if is_newer(&e) => {
            // A newer format is not touched.
            let before = image.clone();
            if run(&image, Mode::Repair).0.is_ok() || !image.same(&before) {
                return Err("a newer format was touched".into());
            }
            return Ok(());
        }
        // As if the device had been cut: there is no copy of the superblock that says otherwise.
        (Err(Error::Super(SbError::Device { .. })), _)
            if field.name == "super.blocks" && geo.backup_block().is_none() =>
        {
            let before = image.clone();
            if run(&image, Mode::Repair).0.is_ok() || !image.same(&before) {
                return Err("the rest of a longer filesystem was touched".into());
            }
            return Ok(());
        }
        (Err(e), _) => return Err(e.to_string()),
        (Ok(out), _) if out.errors == 0 && rules::any_value(field, &change) => return Ok(()),
        (Ok(out), _) if out.errors == 0 => {
            let Change { old, new, .. } = change;
            return Err(format!("{old:#x} became {new:#x}, nothing found"));
        }
        (Ok(_), _) => {}
    }
    match run(&image, Mode::Repair) {
        (Ok(out), _) if out.left == 0 => {}
        (out, lines) => return Err(format!("repair: {out:?} {lines:#?}")),
    }
    match run(&image, Mode::Check) {
        (Ok(out), _) if out.errors == 0 => Ok(()),
        (out, lines) => Err(format!("after the repair: {out:?} {lines:#?}")),
    }
}

/// All mutations of these fields.
fn each(memory: Memory, geo: &Geometry, found: &[Field]) {
    let base = Shadow::new(memory.0.into_inner().leak());
    let mut wrong = Vec::new();
    for field in found {
        for mutation in Mutation::ALL {
            if let Err(what) = one(&base, geo, field, mutation) {
                wrong.push(format!("{} {mutation}: {what}", field.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All mutations of all fields of an image.
fn all(log: u32, blocks: u64) {
    let (memory, geo) = image(log, blocks);
    let found = fields(&memory, &geo).unwrap();
    assert!(found.len() > 700, "only {} fields", found.len());
    each(memory, &geo, &found);
}

#[test]
fn every_field_of_1k_blocks() {
    // Three groups, of which one has never been written.
    all(10, 17_000);
}

#[test]
fn every_field_of_4k_blocks() {
    // Two groups, and so a copy of the superblock.
    all(12, 33_000);
}

/// All mutations of all fields of a log.
fn log_of(log: u32, blocks: u64) {
    let (memory, geo) = image(log, blocks);
    let log = Sample::plan(&memory, &geo).unwrap();
    log.write(&memory).unwrap();
    let replay = assert_clean(&memory).replay;
    assert_eq!(
        (replay.transactions, replay.blocks, replay.revoked),
        (3, 6, 1)
    );
    assert!(
        log.fields.len() > 60,
        "only {} of the log",
        log.fields.len()
    );
    each(memory, &geo, &log.fields);
}

#[test]
fn every_field_of_the_log() {
    log_of(10, 9000);
    log_of(12, 4096);
}

/// A mutation that changes nothing, or what it must not, proves nothing.
#[test]
fn mutations_change_their_field_and_its_seal() {
    let (memory, geo) = image(10, 20000);
    let found = fields(&memory, &geo).unwrap();
    let of = |name: &str| found.iter().find(|f| f.name == name).unwrap();
    for (name, sealed) in [
        ("super.blocks", 4),
        ("leaf(Extents).first.phys", 4),
        ("journal.maxlen", 4),
    ] {
        let hit = memory.clone();
        assert!(Mutation::Set
            .apply(&hit, &geo, of(name), &mut Random::new(1))
            .unwrap());
        let (old, new) = (memory.0.borrow(), hit.0.borrow());
        let differs = old.iter().zip(new.iter()).filter(|(a, b)| a != b).count();
        assert!(differs <= of(name).len + sealed, "{name}: {differs} bytes");
        assert!(differs > 1, "{name}: {differs} bytes");
    }
}

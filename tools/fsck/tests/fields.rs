// SPDX-License-Identifier: GPL-2.0

//! Every field of every structure, damaged in eight ways with the checksum put right: the checker says so,
//! and the repair ends in a clean image.

mod common;

use calf_core::algo::xattr::Name;
use calf_core::format::geometry::Geometry;
use calf_core::format::super_block::SbError;
use calf_core::format::xattr::{SECURITY, USER};
use calf_core::random::Random;
use calf_fsck::check::{Error, Mode};
use calf_io::device::Memory;
use calf_io::fields::{fields, Field};
use calf_io::log_fields::Sample;
use calf_io::mutate::Mutation;
use common::*;

/// Fields of which each value (or each that a mutation makes) is a good one, so that nobody can know that it is not the
/// right one.
fn any_value(field: &Field) -> bool {
    // A field between two of the same name has its place behind it.
    let name = field.name.split('@').next().unwrap_or_default();
    let name_of_third = field.name.ends_with(".of_block@60");
    let (structure, field) = name.rsplit_once('.').unwrap();
    match structure {
        "super" => matches!(
            field,
            "feature_compat"
                | "label"
                | "last_mount"
                | "mkfs_time"
                | "error_code"
                | "error_block"
                | "error_time"
                | "state"
        ),
        // It tells where things are, and is no record of what has happened since.
        "backup" => matches!(
            field,
            "label"
                | "last_mount"
                | "error_code"
                | "error_block"
                | "error_time"
                | "state"
                | "inode_count"
        ),
        // A log ends where a block is not what was expected: a crash leaves that, too. The number of a block may be
        // that of one which is free.
        "log(descriptor)" | "log(descriptor of one)" => {
            matches!(field, "magic" | "blocktype" | "sequence")
        }
        "log(descriptor).tag" | "log(descriptor of one).tag" => {
            // Nobody reads the third one, which is revoked.
            matches!(field, "blocknr" | "flags" | "uuid") || name_of_third
        }
        "log(revoke)" => field != "checksum",
        "log(commit)" | "log(last commit)" => field != "checksum",
        // What jbd2 does not read, and where to begin in a log that holds nothing, or could end at once.
        "log(super)" if field == "uuid" => false,
        "journal" | "log(super)" => matches!(
            field,
            "first_sequence"
                | "start"
                | "sequence"
                | "errno"
                | "uuid"
                | "nr_users"
                | "dynsuper"
                | "max_transaction"
                | "max_trans_data"
                | "unnamed"
                | "num_fc_blks"
                | "head"
                | "padding"
                | "users"
        ),
        // Where it belongs within a collision of hashes, and the lower bound of what is below.
        s if s.contains("(Dir)")
            || s.starts_with("node(Xattr)")
            || s.starts_with("inode(directory") && s.contains(".root.") =>
        {
            field == "key"
        }
        // A block further on is as good a place, and what was not written could have been.
        s if s.contains("(Extents)") || s.starts_with("inode(file") && s.contains(".root.") => {
            matches!(field, "key" | "flags")
        }
        "leaf(Orphans).first" => field == "size",
        s if s.contains("(Xattr)")
            || s.contains("(Symlink)")
            || s.contains("(symlink") && s.contains(".root.") =>
        {
            field == "bytes"
        }
        s if s.starts_with("inode(") => matches!(
            field,
            "size"
                | "atime"
                | "mtime"
                | "ctime"
                | "btime"
                | "iversion"
                | "gen"
                | "flags"
                | "uid"
                | "gid"
                | "projid"
                | "rdev"
                | "mode"
                | "root"
                | "attr_index"
                | "attr_name_len"
                | "attr_value_len"
        ),
        _ => false,
    }
}

/// All structures there are.
fn image(log: u32, blocks: u64) -> (Memory, Geometry) {
    let (memory, geo, _) = rich(log, blocks);
    let mut b = Builder::again(&memory, geo);
    let many = b.file(ROOT, "many attributes", 1);
    for i in 0..60u8 {
        let name = format!("n{i}");
        let name = Name {
            index: USER,
            name: name.as_bytes(),
        };
        b.set_attr(many, name, &vec![i; usize::from(i) * 30]);
    }
    let few = b.file(ROOT, "few attributes", 1);
    let name = Name {
        index: SECURITY,
        name: b"small",
    };
    b.set_attr(few, name, b"value");
    b.finish(&memory);
    assert_clean(&memory);
    (memory, geo)
}

/// Is it a newer format?
fn is_newer(e: &SbError) -> bool {
    matches!(
        e,
        SbError::Version(_) | SbError::Incompat(_) | SbError::RoCompat(_)
    )
}

/// One image with one damaged field. Says what is wrong about how it was met.
fn one(base: &Memory, geo: &Geometry, field: &Field, mutation: Mutation) -> Result<(), String> {
    let memory = base.clone();
    let mut random = Random::new(field.at);
    if !mutation.apply(&memory, geo, field, &mut random).unwrap() {
        return Ok(());
    }
    match run(&memory, Mode::Check) {
        (Err(Error::Super(e)), _) if is_newer(&e) => {
            // A newer format is not touched.
            let before = memory.0.borrow().clone();
            if run(&memory, Mode::Repair).0.is_ok() || *memory.0.borrow() != before {
                return Err("a newer format was touched".into());
            }
            return Ok(());
        }
        // As if the device had been cut: there is no copy of the superblock that says otherwise.
        (Err(Error::Super(SbError::Device { .. })), _)
            if field.name == "super.blocks" && geo.backup_block().is_none() =>
        {
            let before = memory.0.borrow().clone();
            if run(&memory, Mode::Repair).0.is_ok() || *memory.0.borrow() != before {
                return Err("the rest of a longer filesystem was touched".into());
            }
            return Ok(());
        }
        (Err(e), _) => return Err(e.to_string()),
        (Ok(out), _) if out.errors == 0 && any_value(field) => return Ok(()),
        (Ok(out), _) if out.errors == 0 => return Err("nothing found".into()),
        (Ok(_), _) => {}
    }
    match run(&memory, Mode::Repair) {
        (Ok(out), _) if out.left == 0 => {}
        (out, lines) => return Err(format!("repair: {out:?} {lines:#?}")),
    }
    match run(&memory, Mode::Check) {
        (Ok(out), _) if out.errors == 0 => Ok(()),
        (out, lines) => Err(format!("after the repair: {out:?} {lines:#?}")),
    }
}

/// All mutations of these fields.
fn each(memory: &Memory, geo: &Geometry, found: &[Field]) {
    let mut wrong = Vec::new();
    for field in found {
        for mutation in Mutation::ALL {
            if let Err(what) = one(memory, geo, field, mutation) {
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
    assert!(found.len() > 500, "only {} fields", found.len());
    each(&memory, &geo, &found);
}

#[test]
fn every_field_of_1k_blocks() {
    all(10, 9000);
}

#[test]
fn every_field_of_4k_blocks() {
    all(12, 4096);
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
    each(&memory, &geo, &log.fields);
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

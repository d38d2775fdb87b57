// SPDX-License-Identifier: GPL-2.0

//! Devices that are too short for the filesystem on them: nothing is changed.

mod common;

use calf_core::format::geometry::Layout;
use calf_core::format::super_block::{RawSuperBlock, SbError, SuperBlock};
use calf_fsck::check::{Error, Mode};
use calf_io::device::{Memory, Storage};
use calf_io::log::Log;
use common::*;
use zerocopy::IntoBytes;

/// Every mode refuses, says how long the device has to be, and writes nothing.
fn refused(memory: &Memory, bytes: u64) {
    let before = memory.clone();
    for mode in [Mode::Check, Mode::Preen, Mode::Repair] {
        let (out, lines) = run(memory, mode);
        let named =
            matches!(&out, Err(Error::Super(SbError::Device { need, .. })) if *need == bytes);
        assert!(named, "{mode:?}: {out:?} {lines:#?}");
        let text = format!("make the device {bytes} bytes long again");
        assert!(lines.iter().any(|l| l.contains(&text)), "{lines:#?}");
        assert!(*before.0.borrow() == *memory.0.borrow());
    }
}

/// The image without its last `by` bytes.
fn cut(memory: &Memory, by: u64) -> Memory {
    let bytes = memory.read(0, (memory.size() - by) as usize).unwrap();
    let cut = Memory::new(bytes.len());
    cut.write_at(&bytes, 0).unwrap();
    cut
}

#[test]
fn a_filesystem_is_not_made_smaller() {
    for by in [1, 1024, 1 << 20] {
        let (memory, _, _) = full(10, 20000);
        refused(&cut(&memory, by), 20000 << 10);
    }
}

/// The superblock is lost, and its copy says that the filesystem is larger.
#[test]
fn nor_with_the_copy_of_its_superblock() {
    let (memory, _, _) = full(10, 20000);
    let memory = cut(&memory, 1);
    memory.write_at(&[0xaa; 1024], 0).unwrap();
    refused(&memory, 20000 << 10);
}

/// A superblock in a place where a copy could be does not speak for this filesystem.
#[test]
fn another_filesystem_within_does_not_matter() {
    let (memory, _, _) = full(12, 8192);
    let layout = Layout::plan(10, 1 << 30, [3; 16]).unwrap();
    let other = RawSuperBlock::new(&layout, [1; 16], 0);
    memory.write_at(other.as_bytes(), 8 << 20).unwrap();
    memory.write_at(&[0xaa; 1024], 0).unwrap();
    let (out, lines) = run(&memory, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{lines:#?}");
    assert_clean(&memory);
}

/// It had been enlarged, which only the journal knows yet.
#[test]
fn nor_when_the_journal_says_so() {
    let (memory, geo) = empty(10, 20000);
    let size = geo.block_size() as usize;
    let mut first = memory.read(0, size).unwrap();
    let raw = RawSuperBlock::of_mut(&mut first).unwrap();
    raw.blocks = 20100.into();
    raw.seal();
    SuperBlock::parse(&first, 20100 << 10).unwrap();
    let mut log = Log::new(&memory, &geo, 1, 1).unwrap();
    log.blocks(&[(0, first)]).unwrap();
    log.commit().unwrap();
    refused(&memory, 20100 << 10);
}

/// The device is as long as it was: the copy of the superblock knows.
#[test]
fn unless_the_copy_says_that_it_fits() {
    let (memory, _, _) = full(10, 20000);
    let mut first = memory.read(0, 1024).unwrap();
    let raw = RawSuperBlock::of_mut(&mut first).unwrap();
    raw.blocks = 20001.into();
    raw.seal();
    memory.write_at(&first, 0).unwrap();
    let before = memory.clone();
    let left = run(&memory, Mode::Preen).0.unwrap().left;
    assert!(left > 0, "it is for a person to decide");
    assert!(*before.0.borrow() == *memory.0.borrow());
    let (out, lines) = run(&memory, Mode::Repair);
    assert_eq!(out.unwrap().left, 0, "{lines:#?}");
    assert_clean(&memory);
    let sb = SuperBlock::parse(&memory.read(0, 1024).unwrap(), 20000 << 10).unwrap();
    assert_eq!(sb.geo.blocks(), 20000);
}

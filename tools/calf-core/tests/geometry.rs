// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Layouts of many sizes, superblocks and group descriptors with every byte damaged in turn.

use calf_core::format::geometry::{Geometry, Layout, JOURNAL_MIN};
use calf_core::format::group::{self, GroupDesc};
use calf_core::format::super_block::{RawSuperBlock, SbError, SuperBlock, STATE_CLEAN};
use calf_core::format::{verify_value, BlockNr, Kind};
use calf_core::random::Random;
use zerocopy::IntoBytes;

const UUID: [u8; 16] = [3; 16];

fn plan(log: u32, blocks: u64) -> Option<(Layout, Geometry)> {
    let layout = Layout::plan(log, blocks, UUID).ok()?;
    let geo = Geometry::check(&layout).expect("a planned layout holds");
    Some((layout, geo))
}

/// Sizes around everything that might be a border.
fn sizes(log: u32) -> impl Iterator<Item = u64> {
    let group = 8u64 << log;
    (0..=40)
        .map(|shift| 1u64 << shift)
        .chain((1..5).map(move |n| n * group))
        .chain([3000, 4096 + 64, 100_000, 1 << 30])
        .flat_map(|n| [n.saturating_sub(1), n, n + 1, n + 2, n + 63, n + 64])
}

#[test]
fn every_size_gives_a_sound_layout_or_none() {
    for log in 10..=12 {
        for blocks in sizes(log) {
            let Some((layout, geo)) = plan(log, blocks) else {
                assert!(
                    blocks < 8192 || blocks >> 30 > 0,
                    "{blocks} blocks of 2^{log}"
                );
                continue;
            };
            assert!(layout.blocks <= blocks && layout.blocks + 64 > blocks);
            assert!(layout.journal_blocks >= JOURNAL_MIN);
            for g in [0, 1, 2, geo.ngroups() / 2, geo.ngroups() - 1] {
                if g >= geo.ngroups() {
                    continue;
                }
                let (start, len) = geo.group_range(g);
                assert!(len > geo.head(g));
                assert_eq!(geo.group_of(start), g);
                assert!(geo.is_fixed(start) && geo.is_fixed(geo.bitmap_block(g)));
                let (desc, off) = geo.desc_location(g);
                assert!(geo.is_fixed(desc) && off as u64 + 32 <= geo.block_size());
                let first = geo.desc_start().get();
                assert!((first..first + geo.desc_blocks()).contains(&desc.get()));
            }
            for root in [geo.inode_root(), geo.refcount_root(), geo.orphan_root()] {
                assert_eq!(geo.check_block(root), Ok(()));
            }
            let end = BlockNr::new(geo.blocks());
            assert!(geo.check_block(end).is_err());
            assert!(geo.check_block(BlockNr::new(u64::MAX)).is_err());
            assert!(geo.check_range(BlockNr::new(u64::MAX), u64::MAX).is_err());
        }
    }
}

#[test]
fn fixed_areas_agree_with_a_count_and_ranges_with_their_blocks() {
    let mut random = Random::new(5);
    for (log, blocks) in [
        (10, 8192),
        (10, 30_000),
        (11, 40_000),
        (12, 32_900),
        (10, 70_000),
    ] {
        let (_, geo) = plan(log, blocks).unwrap();
        let fixed: Vec<bool> = (0..geo.blocks())
            .map(|b| geo.is_fixed(BlockNr::new(b)))
            .collect();
        let count = fixed.iter().filter(|&&fixed| fixed).count();
        assert_eq!(count as u64, geo.fixed_blocks());
        for _ in 0..20_000 {
            let start = random.below(blocks + 10);
            let most = if random.below(2) == 0 { 20 } else { 10_000 };
            let len = random.below(most);
            let span = fixed.get(start as usize..(start + len) as usize);
            let good = len > 0 && span.is_some_and(|span| span.iter().all(|&fixed| !fixed));
            let found = geo.check_range(BlockNr::new(start), len);
            assert_eq!(found.is_ok(), good, "{start} +{len}: {found:?}");
        }
    }
}

#[test]
fn no_layout_with_a_wrong_number_holds_silently() {
    let (layout, _) = plan(12, 100_000).unwrap();
    for bit in 0..63 {
        for wrong in [
            Layout {
                blocks: layout.blocks ^ 1 << bit,
                ..layout
            },
            Layout {
                desc_start: layout.desc_start ^ 1 << bit,
                ..layout
            },
            Layout {
                desc_blocks: layout.desc_blocks ^ 1 << bit,
                ..layout
            },
            Layout {
                ngroups: layout.ngroups ^ 1 << bit,
                ..layout
            },
            Layout {
                journal_start: layout.journal_start ^ 1 << bit,
                ..layout
            },
            Layout {
                journal_blocks: layout.journal_blocks ^ 1 << bit,
                ..layout
            },
            Layout {
                inode_root: layout.inode_root ^ 1 << bit,
                ..layout
            },
            Layout {
                backup_block: layout.backup_block ^ 1 << bit,
                ..layout
            },
        ] {
            // Whatever is let through must still be a layout without overlaps.
            if let Ok(geo) = Geometry::check(&wrong) {
                assert!(geo.check_block(geo.inode_root()).is_ok());
                let (start, len) = (geo.journal_start(), geo.journal_blocks());
                assert!(start.get() + len <= geo.blocks());
                assert!(!geo.in_journal(geo.bitmap_block(geo.group_of(start))));
            }
        }
    }
}

#[test]
fn a_superblock_survives_and_no_damage_does() {
    let (layout, geo) = plan(12, 100_000).unwrap();
    let mut raw = RawSuperBlock::new(&layout, [8; 16], 77);
    let bytes = raw.as_bytes().to_vec();
    let device = geo.blocks() << 12;
    let sb = SuperBlock::parse(&bytes, device).unwrap();
    assert_eq!(sb.geo, geo);
    assert!(sb.clean && !sb.error && sb.inode_count == 1 && sb.label().is_empty());
    assert!(matches!(
        SuperBlock::parse(&bytes, device - 1),
        Err(SbError::Device { .. })
    ));
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(SuperBlock::parse(&bytes, device).is_err(), "byte {at}");
        // Sealed again it is damage on purpose: refused or accepted, but never a panic.
        RawSuperBlock::of_mut(&mut bytes).unwrap().seal();
        let _ = SuperBlock::parse(&bytes, device);
    }
    assert!(matches!(
        SuperBlock::parse(&bytes[..1000], device),
        Err(SbError::Short)
    ));
    raw.set_mounted(5);
    assert!(!SuperBlock::parse(raw.as_bytes(), device).unwrap().clean);
    assert_eq!(raw.state.get() & STATE_CLEAN, 0);
    raw.set_error(117, 9, 6);
    raw.set_clean(3);
    let sb = SuperBlock::parse(raw.as_bytes(), device).unwrap();
    assert!(sb.clean && sb.error && sb.inode_count == 3);
}

#[test]
fn group_descriptors() {
    let (_, geo) = plan(10, 20_000).unwrap();
    let mut bitmap = vec![0; 1024];
    bitmap[0] = 3;
    let crc = group::bitmap_checksum(&bitmap, &geo);
    let desc = GroupDesc::new(&geo, 1, 8190, crc);
    let mut block = vec![0; 1024];
    let (_, off) = geo.desc_location(1);
    block[off..off + 32].copy_from_slice(desc.as_bytes());
    assert_eq!(group::verify_bitmap(&block, off, &bitmap, &geo, 1), Ok(()));
    for at in off..off + 32 {
        let mut block = block.clone();
        block[at] ^= 0x10;
        assert!(group::verify_bitmap(&block, off, &bitmap, &geo, 1).is_err());
    }
    // The head of a group is never free, whatever the checksum says.
    bitmap[0] = 5;
    let crc = group::bitmap_checksum(&bitmap, &geo);
    assert!(group::update_desc(&mut block, off, &geo, 1, 0, true, crc));
    assert!(group::verify_bitmap(&block, off, &bitmap, &geo, 1).is_err());
    // A count that leaves its range changes nothing.
    let before = block.clone();
    assert!(!group::update_desc(
        &mut block, off, &geo, 1, 8191, true, crc
    ));
    assert_eq!(block, before);
    assert!(!group::update_desc(&mut block, 1000, &geo, 1, 1, true, crc));
}

#[test]
fn no_value_makes_the_verifier_panic() {
    let mut random = Random::new(11);
    for _ in 0..200_000 {
        let len = random.below(280) as usize;
        let value: Vec<u8> = (0..len)
            .map(|_| match random.below(4) {
                0 => 0xff,
                1 => random.below(256) as u8,
                _ => 0,
            })
            .collect();
        let key = random.any() >> random.below(64);
        for kind in (1..=7).filter_map(Kind::from_u8) {
            let _ = verify_value(kind, key, &value);
        }
    }
}

#[test]
fn growing_keeps_the_layout() {
    for (log, blocks) in [(10, 5000), (10, 20_000), (12, 12_288), (12, 100_000)] {
        let (layout, geo) = plan(log, blocks).unwrap();
        assert!(geo.desc_blocks() * (1 << log) / 32 > 10 * geo.ngroups());
        assert_eq!(geo.grown(geo.blocks()), Ok(geo));
        assert!(geo.grown(geo.blocks() - 1).is_err());
        let group = geo.group_blocks();
        for more in [
            1,
            63,
            64,
            1000,
            group - 1,
            group,
            group + 63,
            7 * group + 65,
        ] {
            let new = geo.grown(geo.blocks() + more).unwrap();
            assert!(new.blocks() <= geo.blocks() + more);
            assert!(new.blocks() + 64 > geo.blocks() + more);
            assert_eq!(new.journal_start(), geo.journal_start());
            assert_eq!(new.backup_block().is_some(), new.ngroups() > 1);
            for g in 0..geo.ngroups() {
                assert_eq!(new.bitmap_block(g), geo.bitmap_block(g));
                assert_eq!(new.desc_location(g), geo.desc_location(g));
            }
            // A new group is what mkfs would make of it.
            let last = new.ngroups() - 1;
            let mut raw = RawSuperBlock::new(&layout, [8; 16], 77);
            raw.set_grown(&new);
            let sb = SuperBlock::parse(raw.as_bytes(), new.blocks() << log).unwrap();
            assert_eq!(sb.geo, new);
            if last >= geo.ngroups() {
                let (mut bitmap, mut descs) = (vec![7; 1 << log], vec![7; 1 << log]);
                let (_, off) = new.desc_location(last);
                let free = group::init_group(&mut bitmap, &mut descs, off, &new, last).unwrap();
                assert_eq!(
                    u64::from(free),
                    new.group_range(last).1 - new.head(last),
                    "free blocks of group {last}"
                );
                assert_eq!(
                    group::verify_bitmap(&descs, off, &bitmap, &new, last),
                    Ok(())
                );
            }
        }
        // Not beyond the room for descriptors.
        let most = geo.desc_blocks() * (1 << log) / 32 * group;
        assert!(geo.grown(most).is_ok());
        assert!(geo.grown(most + 64).is_err());
    }
}

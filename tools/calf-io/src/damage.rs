// SPDX-License-Identifier: GPL-2.0

//! Damage for tests: what random accidents do to the metadata of a filesystem.

use std::io;

use calf_core::format::geometry::Geometry;
use calf_core::format::group;
use calf_core::format::node;
use calf_core::random::Random;

use crate::device::Storage;

/// Every block that matters: fixed areas but the log, and tree nodes.
pub fn metadata(storage: &dyn Storage, geo: &Geometry) -> io::Result<Vec<u64>> {
    let size = geo.block_size();
    let mut places = Vec::new();
    for block in 0..geo.blocks() {
        if storage.read(block * size, 4)? == b"CALN" {
            places.push(block);
        }
    }
    for g in 0..geo.ngroups() {
        let (block, off) = geo.desc_location(g);
        let descs = storage.read(block.get() * size, size as usize)?;
        if !group::is_uninit(&descs, off) {
            places.push(geo.bitmap_block(g).get());
        }
    }
    places.extend((0..geo.desc_blocks()).map(|i| geo.desc_start().get() + i));
    places.extend([0, geo.journal_start().get()]);
    places.extend(geo.backup_block().map(|block| block.get()));
    Ok(places)
}

/// Damages one of `places`. `old` is an earlier state of the device, for blocks whose last write
/// was lost. Returns the blocks that changed and the kind of damage.
pub fn damage(
    storage: &dyn Storage,
    old: Option<&dyn Storage>,
    geo: &Geometry,
    places: &[u64],
    random: &mut Random,
) -> io::Result<(Vec<u64>, &'static str)> {
    let size = geo.block_size();
    let mut any = || {
        let i = random.below(places.len() as u64) as usize;
        places.get(i).copied().unwrap_or(0)
    };
    let (block, other) = (any(), any());
    let mut bytes = storage.read(block * size, size as usize)?;
    let flip = |bytes: &mut [u8], at: u64, random: &mut Random| {
        if let Some(byte) = bytes.get_mut(at as usize) {
            *byte ^= 1 << random.below(8);
        }
    };
    let (mut hit, mut kind) = (vec![block], "random bytes");
    match (random.below(7), old) {
        (0, _) => bytes.iter_mut().for_each(|b| *b = random.any() as u8),
        (1, _) => {
            kind = "zeros";
            bytes.fill(0);
        }
        (2 | 3, _) => {
            kind = "bits";
            for _ in 0..=random.below(4) {
                let at = random.below(size);
                flip(&mut bytes, at, random);
            }
        }
        (4, _) => {
            kind = "bits, with a right checksum";
            for _ in 0..=random.below(4) {
                // Mostly where the structure is.
                let at = match random.below(3) {
                    0 => random.below(size),
                    1 => random.below(64),
                    _ => 64 + random.below(200),
                };
                flip(&mut bytes, at, random);
            }
            if bytes.starts_with(b"CALN") {
                node::seal(&mut bytes, geo.uuid());
            }
        }
        (5, Some(old)) => {
            kind = "old content";
            bytes = old.read(block * size, size as usize)?;
        }
        _ => {
            kind = "swapped";
            let theirs = storage.read(other * size, size as usize)?;
            storage.write_at(&bytes, other * size)?;
            bytes = theirs;
            hit.push(other);
        }
    }
    storage.write_at(&bytes, block * size)?;
    Ok((hit, kind))
}

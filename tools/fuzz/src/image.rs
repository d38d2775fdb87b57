// SPDX-License-Identifier: GPL-2.0

//! Target `image`: a damaged filesystem, with its checksums put right. The checker says what it finds and
//! changes nothing; the repair ends in a filesystem that is sound, or leaves it alone.

use std::sync::OnceLock;

use calf_core::format::node;
use calf_core::format::super_block::SbError;
use calf_core::random::Random;
use calf_fsck::check::{Error, Mode};
use calf_io::damage::metadata;
use calf_io::device::Storage;
use calf_io::fields::{fields, Field};
use calf_io::mutate::Mutation;
use calf_io::seal::Seal;

use crate::images::{self, fsck, Base};
use crate::input::Input;
use crate::shadow::Shadow;
use crate::Target;

pub const TARGET: Target = Target {
    name: "image",
    run,
    seeds,
    max_len: 160,
};

/// An image with all places worth damaging.
struct Places {
    base: &'static Base,
    fields: Vec<Field>,
    /// Blocks, and the checksums over them.
    blocks: Vec<(u64, Seal)>,
}

fn places(large: bool) -> &'static Places {
    static PLACES: [OnceLock<Places>; 2] = [OnceLock::new(), OnceLock::new()];
    PLACES[usize::from(large)].get_or_init(|| {
        let base = images::base(large);
        let (geo, storage) = (&base.geo, Shadow::new(&base.bytes));
        let size = geo.block_size();
        let seal = |block: u64| {
            let bitmap = (0..geo.ngroups()).find(|&g| geo.bitmap_block(g).get() == block);
            let backup = geo.backup_block().map(|b| b.get());
            match block {
                0 => Seal::Super(0),
                _ if Some(block) == backup => Seal::Super(block * size),
                _ if block == geo.journal_start().get() => Seal::Journal(block * size),
                _ if block == geo.desc_start().get() => Seal::Desc(0),
                _ if bitmap.is_some() => Seal::Bitmap(bitmap.unwrap_or(0)),
                _ => Seal::Node(block),
            }
        };
        let blocks = metadata(&storage, geo).expect("a sound image");
        // Descriptors of groups that do not exist are as good as one.
        let most = geo.desc_start().get() + geo.desc_blocks();
        let first = geo.desc_start().get() + 1;
        let blocks = blocks.into_iter().filter(|b| !(first..most).contains(b));
        Places {
            base,
            fields: fields(&storage, geo).expect("a sound image"),
            blocks: blocks.map(|block| (block, seal(block))).collect(),
        }
    })
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let head = input.u8();
    let places = places(head & 3 == 1);
    let storage = Shadow::new(&places.base.bytes);
    let mut edits = 0;
    while !input.is_empty() && edits < 12 {
        edit(&storage, places, &mut input).expect("memory does not fail");
        edits += 1;
    }
    judge(&storage, head & 4 != 0);
}

/// Damages one thing.
fn edit(storage: &Shadow, places: &Places, input: &mut Input<'_>) -> std::io::Result<()> {
    let geo = &places.base.geo;
    let size = geo.block_size();
    let what = input.u8();
    // One in eight has a wrong checksum in the end.
    let sealed = what & 0xe0 != 0xe0;
    let any = |input: &mut Input<'_>| places.blocks[input.below(places.blocks.len())];
    match what % 8 {
        0..=2 => {
            let field = &places.fields[input.below(places.fields.len())];
            let mutation = Mutation::ALL[usize::from(input.u8()) % 8];
            let mut random = Random::new(u64::from(what));
            mutation.apply(storage, geo, field, &mut random)?;
        }
        3 => {
            let field = &places.fields[input.below(places.fields.len())];
            let mut value = input.any().to_le_bytes();
            let len = field.len.min(8);
            if field.big_endian {
                value[..len].reverse();
            }
            storage.write_at(&value[..len], field.at)?;
            if sealed {
                field.seal.apply(storage, geo)?;
            }
        }
        4 | 5 => {
            let (block, seal) = any(input);
            let at = match what >> 3 & 3 {
                0 => input.below(size as usize) as u64,
                1 => u64::from(input.u8() % 64),
                2 => 64 + u64::from(input.u8()),
                _ => size - 1 - u64::from(input.u8()),
            };
            let n = (1 + usize::from(what & 3)).min((size - at) as usize);
            storage.write_at(input.bytes(n), block * size + at)?;
            if sealed {
                seal.apply(storage, geo)?;
            }
        }
        6 => {
            let ((from, _), (to, seal)) = (any(input), any(input));
            let mut bytes = storage.read(from * size, size as usize)?;
            // Perhaps as what belongs there.
            if what & 8 != 0 && matches!(seal, Seal::Node(_)) {
                let old = storage.read(to * size, size as usize)?;
                if let (Some(new), Some(old)) = (node::header_mut(&mut bytes), node::header(&old)) {
                    (new.block, new.owner) = (old.block, old.owner);
                }
            }
            storage.write_at(&bytes, to * size)?;
            if sealed {
                seal.apply(storage, geo)?;
            }
        }
        _ => {
            let (block, _) = any(input);
            storage.write_at(&vec![input.u8(); size as usize], block * size)?;
        }
    }
    Ok(())
}

/// What must hold for any image in memory; with `preen`, also of a careful repair.
pub fn judge(storage: &Shadow, preen: bool) {
    let before = storage.clone();
    let (found, lines) = fsck(storage, Mode::Check);
    assert!(storage.same(&before), "-n writes");
    let found = match found {
        Ok(found) => found,
        Err(Error::Io(e)) => panic!("memory does not fail: {e}"),
        Err(Error::Super(why)) => {
            let newer = matches!(
                why,
                SbError::Version(_) | SbError::Incompat(_) | SbError::RoCompat(_)
            );
            assert!(newer || why.to_string() != "", "no reason");
            assert!(fsck(storage, Mode::Repair).0.is_err());
            assert!(storage.same(&before), "what cannot be checked is changed");
            return;
        }
    };
    assert_eq!(found.errors == 0, found.left == 0);
    if preen {
        let safe = before.clone();
        let (out, preened) = fsck(&safe, Mode::Preen);
        let out = out.expect("it could be checked");
        if out.left > 0 {
            assert!(!out.changed && safe.same(&before), "-p gives up half-way");
        } else {
            assert_eq!(out.losses, 0, "{preened:#?}");
            sound(&safe, &lines, &preened);
        }
    }
    let (out, repaired) = fsck(storage, Mode::Repair);
    let out = out.expect("it could be checked");
    assert_eq!(out.left, 0, "{lines:#?} {repaired:#?}");
    if found.errors == 0 {
        assert_eq!(out.losses, 0, "a sound filesystem loses {repaired:#?}");
    }
    sound(storage, &lines, &repaired);
}

/// Sound, with an empty journal, and nothing left to repair.
fn sound(storage: &Shadow, lines: &[String], repaired: &[String]) {
    let (out, left) = fsck(storage, Mode::Check);
    let out = out.expect("a superblock");
    assert_eq!(out.errors, 0, "{lines:#?} {repaired:#?} {left:#?}");
    assert!(!out.replay.dirty && out.replay.errno == 0);
    let before = storage.clone();
    let (out, again) = fsck(storage, Mode::Repair);
    let out = out.expect("a superblock");
    assert!(!out.changed && storage.same(&before), "{again:#?}");
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for large in [0, 1] {
        let places = places(large != 0);
        // Every field and every block once; fewer of the image that takes longer.
        let step = if large == 0 { 1 } else { 5 };
        for i in (0..places.fields.len() as u16).step_by(step) {
            let [a, b] = i.to_le_bytes();
            all.push(vec![large + 4, 0, a, b, (i % 8) as u8]);
        }
        for i in (0..places.blocks.len() as u16).step_by(step) {
            let i = i.to_le_bytes();
            let index = &i[..if places.blocks.len() > 256 { 2 } else { 1 }];
            all.push([&[large, 4 + 8][..], index, &[40, 1]].concat());
            all.push([&[large + 4, 7][..], index, &[0]].concat());
            all.push([&[large, 6 + 8][..], index, index].concat());
        }
    }
    all
}

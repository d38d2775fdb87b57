// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Trees with damaged nodes: every call gives a result or an error, and ends.
//!
//! Twice: with the verifier in front, as in the kernel, and without it, so that the trees
//! themselves meet the damage.

use calf_core::algo::btree::{Root, Tree};
use calf_core::algo::extent::{self, Extent};
use calf_core::algo::refcount;
use calf_core::format::node::{self, InlineRoot};
use calf_core::format::types::{BlockNr, Ino, Kind};
use calf_core::mem::{MemError, MemStore};
use calf_core::random::Random;
use std::ops::ControlFlow;

const ROOT: BlockNr = BlockNr::new(3);
/// Far more calls than any of these trees has nodes.
const MANY: u64 = 20_000;

fn build(kind: Kind, block_size: usize, random: &mut Random) -> (MemStore, Tree) {
    let mut store = MemStore::new(block_size);
    store.check_values = false;
    let mut tree = match kind {
        Kind::Refcount | Kind::Inodes => {
            store.make_root(kind, ROOT);
            Tree::global(kind, ROOT)
        }
        _ => Tree::inode(kind, Ino::new(5), InlineRoot::empty(kind)),
    };
    for i in 0..400u64 {
        let (key, len) = (i * 16, 1 + random.below(8) as u32);
        let value = match kind {
            Kind::Extents => [
                &(1000 + i * 20).to_le_bytes()[..],
                &len.to_le_bytes(),
                &[0; 4],
            ],
            Kind::Refcount => [&len.to_le_bytes()[..], &2u32.to_le_bytes(), &[]],
            _ => [&[0; 250][..random.below(250) as usize], &[], &[]],
        };
        tree.insert(&mut store, key, &value.concat()).unwrap();
    }
    store.publish().unwrap();
    (store, tree)
}

fn damage(store: &mut MemStore, tree: &mut Tree, random: &mut Random) {
    let blocks: Vec<u64> = store.blocks.keys().copied().collect();
    for _ in 0..=random.below(4) {
        let from = blocks[random.below(blocks.len() as u64) as usize];
        if random.below(8) == 0 {
            // A node, or all but its header, in the place of another.
            let to = blocks[random.below(blocks.len() as u64) as usize];
            let (source, header) = (store.blocks[&from].clone(), random.below(2) as usize * 64);
            let bytes = store.blocks.get_mut(&to).unwrap();
            bytes[header..].copy_from_slice(&source[header..]);
            continue;
        }
        let inline = match &mut tree.root {
            Root::Inline(root) if random.below(6) == 0 => Some(&mut root.0),
            _ => None,
        };
        let bytes = match inline {
            Some(root) => &mut root[..],
            None => store.blocks.get_mut(&from).unwrap(),
        };
        for _ in 0..=random.below(6) {
            // Mostly where it hurts: the core, the slots, child pointers.
            let limit = [
                48.min(bytes.len()),
                200.min(bytes.len()),
                bytes.len(),
                bytes.len(),
            ];
            let at = match random.below(4) {
                3 => bytes.len() - 1 - random.below(80) as usize,
                i => random.below(limit[i as usize] as u64) as usize,
            };
            bytes[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ (1 << random.below(8)),
                _ => random.any() as u8,
            };
        }
        if random.below(2) == 0 {
            let uuid = *b"calf-memory-uuid";
            if let Some(bytes) = store.blocks.get_mut(&from) {
                node::seal(bytes, &uuid);
            }
        }
    }
}

fn ended<R>(store: &mut MemStore, result: Result<R, MemError>) {
    assert!(
        !matches!(result, Err(MemError::Injected)),
        "a call does not end"
    );
    store.abandon();
    store.fail_after(Some(MANY));
}

fn use_it(store: &mut MemStore, tree: Tree, random: &mut Random) {
    store.fail_after(Some(MANY));
    for _ in 0..12 {
        let key = random.below(450) * 16 + random.below(2);
        let key = if random.below(9) == 0 {
            random.any()
        } else {
            key
        };
        let mut t = tree;
        let result = tree.get(store, key).map(drop);
        ended(store, result);
        let result = tree.floor(store, key).map(drop);
        ended(store, result);
        let result = tree.ceil(store, key).map(drop);
        ended(store, result);
        let result = tree.locate(store, key).map(drop);
        ended(store, result);
        let result = t.insert(store, key, &[7; 40]);
        ended(store, result);
        let mut t = tree;
        let result = t.replace(store, key, &[7; 200]);
        ended(store, result);
        let mut t = tree;
        let result = t.remove(store, key);
        ended(store, result);
        let mut t = tree;
        let result = t.rekey(store, key, key ^ 3, &[1; 16]);
        ended(store, result);
        // Several edits that build on each other, until one fails.
        let mut t = tree;
        let result = (0..40).try_for_each(|_| match random.below(2) {
            0 => t.insert(store, random.below(7000), &[7; 100]),
            _ => t.remove(store, random.below(450) * 16),
        });
        ended(store, result);
        let mut t = tree;
        let result = match tree.kind {
            Kind::Extents => {
                let result = extent::lookup(&tree, store, key).map(drop);
                ended(store, result);
                let result = extent::next_extent(&tree, store, key).map(drop);
                ended(store, result);
                let result = extent::set_written(&mut t, store, key, 2);
                ended(store, result);
                let mut t = tree;
                let e = Extent {
                    fblk: key,
                    phys: BlockNr::new(9),
                    len: 3,
                    unwritten: true,
                };
                let result = extent::insert(&mut t, store, e);
                ended(store, result);
                let mut t = tree;
                extent::remove_step(&mut t, store, key, key.saturating_add(9)).map(drop)
            }
            Kind::Refcount => {
                let phys = BlockNr::new(key);
                let result = refcount::lookup(&tree, store, phys, 9).map(drop);
                ended(store, result);
                let result = refcount::increase_step(&mut t, store, phys, 9).map(drop);
                ended(store, result);
                let mut t = tree;
                refcount::decrease_step(&mut t, store, phys, 9).map(drop)
            }
            _ => Ok(()),
        };
        ended(store, result);
    }
    let result = tree.last(store).map(drop);
    ended(store, result);
    let result = tree.walk(store, |_, _| ()).map(drop);
    ended(store, result);
    let result = tree.scan(store, 0, |_, _| ControlFlow::Continue(()));
    ended(store, result);
}

fn fuzz(rounds: u64, check: bool) {
    for block_size in [1024, 4096] {
        for kind in [Kind::Extents, Kind::Refcount, Kind::Inodes, Kind::Xattr] {
            let mut random = Random::new(block_size as u64 + kind.as_u8() as u64);
            let (good, tree) = build(kind, block_size, &mut random);
            for _ in 0..rounds {
                let (mut store, mut tree) = (good.clone(), tree);
                store.check = check;
                damage(&mut store, &mut tree, &mut random);
                use_it(&mut store, tree, &mut random);
            }
        }
    }
}

#[test]
fn damage_behind_the_verifier() {
    fuzz(150, true);
}

#[test]
fn damage_without_a_verifier() {
    fuzz(1000, false);
}

#[test]
fn a_root_below_itself_ends() {
    let (store, mut tree) = build(Kind::Extents, 1024, &mut Random::new(1));
    let Root::Inline(root) = &mut tree.root else {
        panic!("an inline root")
    };
    // Block 0 stands for the inline root: as a child it would lead around in a circle.
    root.0[112 - 8..].fill(0);
    store.fail_after(Some(MANY));
    let result = tree.get(&store, 0).map(drop);
    assert!(matches!(result, Err(MemError::Damaged(_))), "{result:?}");
    // A global root as its own child is of a wrong level.
    let (mut store, tree) = build(Kind::Refcount, 1024, &mut Random::new(1));
    store.check = false;
    let bytes = store.blocks.get_mut(&ROOT.get()).unwrap();
    bytes[1024 - 8..].copy_from_slice(&ROOT.get().to_le_bytes());
    store.fail_after(Some(MANY));
    let result = tree.get(&store, 0).map(drop);
    assert!(matches!(result, Err(MemError::Damaged(_))), "{result:?}");
}

#[test]
fn the_verifier_takes_any_bytes() {
    let mut random = Random::new(77);
    let uuid = *b"calf-memory-uuid";
    for block_size in [0usize, 1, 40, 64, 1024, 4096] {
        for _ in 0..3000 {
            let mut bytes: Vec<u8> = (0..block_size).map(|_| random.any() as u8).collect();
            let kind = Kind::from_u8(1 + random.below(7) as u8).unwrap();
            let id = node::NodeId {
                block: BlockNr::new(9),
                owner: Ino::new(5),
                kind,
                level: random.below(2) as u8,
            };
            if random.below(4) > 0 {
                let rest = bytes.split_off(block_size.min(64));
                node::init(&mut bytes, &id, &uuid);
                bytes.extend(rest);
                if let Some(header) = node::header_mut(&mut bytes) {
                    header.core.nr.set(random.below(9) as u16);
                    header
                        .core
                        .heap
                        .set(random.below(block_size as u64 + 1) as u16);
                }
            }
            node::seal(&mut bytes, &uuid);
            let _ = node::verify(&bytes, &id, &uuid);
            let mut root = InlineRoot::empty(kind);
            root.0[1 + random.below(111) as usize] = random.any() as u8;
            let _ = node::verify_inline(&root, kind);
        }
    }
}

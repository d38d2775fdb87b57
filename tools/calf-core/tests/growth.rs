// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The bounds that reservations are computed from, against trees made to come close to them (B2).

use calf_core::algo::btree::{growth_nodes, worst_nodes, Tree};
use calf_core::format::node::InlineRoot;
use calf_core::format::types::{Ino, Kind};
use calf_core::mem::MemStore;
use calf_core::random::Random;

const SIZE: usize = 16;

fn tree(block_size: usize) -> (MemStore, Tree) {
    let mut store = MemStore::new(block_size);
    store.check_values = false;
    (
        store,
        Tree::inode(Kind::Xattr, Ino::new(1), InlineRoot::empty(Kind::Xattr)),
    )
}

fn insert(store: &mut MemStore, tree: &mut Tree, key: u64) {
    tree.insert(store, key, &[0; SIZE]).unwrap();
}

/// Orders in which a run of `n` keys is inserted.
fn orders(n: u64, random: &mut Random) -> [Vec<u64>; 3] {
    let mut mixed: Vec<u64> = (0..n).collect();
    for i in (1..mixed.len()).rev() {
        mixed.swap(i, random.below(i as u64 + 1) as usize);
    }
    [(0..n).collect(), (0..n).rev().collect(), mixed]
}

#[test]
fn growth_stays_below_its_bound() {
    let mut random = Random::new(11);
    for block_size in [1024, 2048, 4096] {
        for (records, runs, per_run) in [
            (0, 1, 1),
            (0, 1, 2000),
            (40, 1, 300),
            (3000, 1, 1000),
            (3000, 60, 1),
            (3000, 40, 30),
        ] {
            let (mut store, mut base) = tree(block_size);
            // Ascending, so that every leaf is full.
            (0..records).for_each(|i| insert(&mut store, &mut base, i << 20));
            store.publish().unwrap();
            let height = base.height(&store).unwrap();
            let most = growth_nodes(runs * per_run, runs, height, block_size, SIZE);
            for order in orders(per_run, &mut random) {
                let (mut store, mut tree) = (store.clone(), base);
                for run in 0..runs {
                    // Spread over the leaves; the last one behind all.
                    let at = (run + 1) * records / runs;
                    for i in &order {
                        insert(&mut store, &mut tree, (at << 20).wrapping_sub(1 << 19) + i);
                    }
                }
                let grown = (tree.delta() - base.delta()) as u64;
                assert!(
                    grown <= most,
                    "{block_size} {records} {runs} {per_run}: {grown} nodes more, not {most}"
                );
            }
        }
    }
}

#[test]
fn a_tree_thinned_out_stays_below_its_bound() {
    for block_size in [1024, 2048, 4096] {
        for step in [2, 3, 5, 7] {
            let (mut store, mut tree) = tree(block_size);
            (0..9000).for_each(|i| insert(&mut store, &mut tree, i));
            store.publish().unwrap();
            // Leave each leaf as thin as it can get.
            let mut records = 9000;
            for key in (0..9000).filter(|key| key % step != 0) {
                tree.remove(&mut store, key).unwrap();
                store.publish().unwrap();
                records -= 1;
                let most = worst_nodes(records, block_size, SIZE);
                assert!(tree.delta() as u64 <= most, "{block_size} {step} {records}");
            }
        }
    }
}

#[test]
fn few_records_need_few_nodes() {
    for block_size in [1024, 2048, 4096] {
        assert_eq!(worst_nodes(0, block_size, SIZE), 1);
        assert_eq!(worst_nodes(1, block_size, SIZE), 1);
        assert_eq!(growth_nodes(0, 0, 1, block_size, SIZE), 0);
    }
    // A third of 960 bytes, with 28 bytes a record.
    assert_eq!(worst_nodes(12, 1024, SIZE), 3);
    assert!(worst_nodes(u64::MAX, 1024, 272) > 0);
    assert!(growth_nodes(u64::MAX, u64::MAX, 12, 1024, 272) > 0);
}

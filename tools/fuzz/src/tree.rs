// SPDX-License-Identifier: GPL-2.0

//! Target `tree`: the B+tree against a `BTreeMap`. In the smallest nodes, so that a short input makes it high.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use calf_core::algo::btree::{edit_nodes, Tree};
use calf_core::algo::store::TreeError;
use calf_core::format::node::InlineRoot;
use calf_core::format::{BlockNr, Ino, Kind};
use calf_core::mem::{MemError, MemStore};

use crate::input::Input;
use crate::Target;

pub const TARGET: Target = Target {
    name: "tree",
    run,
    seeds,
    max_len: 1500,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let head = input.u8();
    let mut store = MemStore::new([256, 512, 1024, 4096][usize::from(head >> 1 & 3)]);
    store.check_values = false;
    let kind = Kind::Xattr;
    let mut tree = if head & 1 != 0 {
        store.make_root(kind, BlockNr::new(7));
        Tree::global(kind, BlockNr::new(7))
    } else {
        Tree::inode(kind, Ino::new(42), InlineRoot::empty(kind))
    };
    let longest = [8usize, 40, 90, 272][usize::from(head >> 3 & 3)].min(match head >> 1 & 3 {
        0 => 40,
        1 => 90,
        _ => 272,
    });
    let mut map = BTreeMap::new();
    while !input.is_empty() {
        step(&mut store, &mut tree, &mut map, longest, &mut input);
    }
    whole(&store, &tree, &map);
}

fn step(
    store: &mut MemStore,
    tree: &mut Tree,
    map: &mut BTreeMap<u64, Vec<u8>>,
    longest: usize,
    input: &mut Input<'_>,
) {
    let (what, at) = (input.u8(), u64::from(input.u8()));
    let key = match what >> 3 & 3 {
        0 => at,
        1 => at << 8 | u64::from(input.u8()),
        2 => u64::MAX - at,
        _ => 1 << (at % 64),
    };
    let value = vec![at as u8; usize::from(input.u8()) % (longest + 1)];
    // Several in a row: short inputs shall make full nodes.
    let times = if what & 0x20 != 0 { 1 + at % 32 } else { 1 };
    let fails = (what & 0xc0 == 0xc0).then(|| u64::from(input.u8() % 32));
    for i in 0..times {
        let key = key.wrapping_add(i * 3);
        let there = map.contains_key(&key);
        if what & 7 == 7 && (key == u64::MAX || map.contains_key(&(key + 1))) {
            // A new key must lie between the neighbours of the old one.
            continue;
        }
        let height = tree.height(store).unwrap();
        let mut copy = *tree;
        store.fail_after(fails);
        let result = match what & 7 {
            0..=3 => copy.insert(store, key, &value),
            4 | 5 => copy.remove(store, key),
            6 => copy.replace(store, key, &value),
            _ => copy.rekey(store, key, key + 1, &value),
        };
        store.fail_after(None);
        if result == Err(MemError::Injected) {
            store.abandon();
            continue;
        }
        let expect = match what & 7 {
            0..=3 if there => Err(TreeError::Exists),
            4..=7 if !there => Err(TreeError::NotFound),
            _ => Ok(()),
        };
        assert_eq!(result, expect.map_err(MemError::Tree));
        if result.is_err() {
            store.abandon();
            continue;
        }
        assert!(store.touched() <= edit_nodes(height) as usize);
        store.publish().unwrap();
        *tree = copy;
        match what & 7 {
            4 | 5 => drop(map.remove(&key)),
            7 => {
                map.remove(&key);
                map.insert(key + 1, value.clone());
            }
            _ => drop(map.insert(key, value.clone())),
        }
        look(store, tree, map, key);
    }
}

fn look(store: &MemStore, tree: &Tree, map: &BTreeMap<u64, Vec<u8>>, key: u64) {
    let found = tree.get(store, key).unwrap();
    assert_eq!(found.as_deref(), map.get(&key).map(|v| &v[..]));
    let key_of = |found: Option<(u64, calf_core::algo::btree::Value)>| found.map(|(key, _)| key);
    let floor = map.range(..=key).next_back().map(|(key, _)| *key);
    assert_eq!(key_of(tree.floor(store, key).unwrap()), floor);
    let ceil = map.range(key..).next().map(|(key, _)| *key);
    assert_eq!(key_of(tree.ceil(store, key).unwrap()), ceil);
}

fn whole(store: &MemStore, tree: &Tree, map: &BTreeMap<u64, Vec<u8>>) {
    let stats = tree.walk(store, |_, _| ()).unwrap();
    assert_eq!((stats.records, stats.thin), (map.len() as u64, 0));
    assert_eq!(stats.nodes, store.blocks.len() as u64, "a node is lost");
    let mut all = map.iter();
    tree.scan(store, 0, |key, value| {
        assert_eq!(all.next(), Some((&key, &value.to_vec())));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(all.next(), None);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for head in 0..32 {
        let mut bytes = vec![head];
        for i in 0..60u8 {
            bytes.extend([0x20 | (i % 8), i.wrapping_mul(67), i.wrapping_mul(29)]);
        }
        all.push(bytes);
    }
    all
}

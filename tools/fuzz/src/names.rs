// SPDX-License-Identifier: GPL-2.0

//! Target `names`: directories and extended attributes against maps.

use std::collections::{BTreeMap, HashMap};

use calf_core::algo::btree::Tree;
use calf_core::algo::dir;
use calf_core::algo::xattr::{Attrs, Name};
use calf_core::format::node::InlineRoot;
use calf_core::format::{Ino, Kind};
use calf_core::mem::MemStore;

use crate::input::Input;
use crate::Target;

pub const TARGET: Target = Target {
    name: "names",
    run,
    seeds,
    max_len: 1500,
};

const SEED: [u8; 16] = [7; 16];
const OWNER: Ino = Ino::new(5);

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let head = input.u8();
    let store = MemStore::new([1024, 2048, 4096, 1024][usize::from(head >> 1 & 3)]);
    match head & 1 {
        0 => directory(store, &mut input),
        _ => attributes(store, &mut input),
    }
}

/// A name of any length that a number stands for.
fn name(input: &mut Input<'_>) -> Vec<u8> {
    let (n, len) = (input.u8(), usize::from(input.u8()));
    let mut name = format!("{n}.").into_bytes();
    name.resize(name.len().max(len), b'x');
    name
}

fn directory(mut store: MemStore, input: &mut Input<'_>) {
    let s = &mut store;
    let mut tree = Tree::inode(Kind::Dir, OWNER, InlineRoot::empty(Kind::Dir));
    dir::init(&mut tree, s, OWNER).unwrap();
    s.publish().unwrap();
    let mut map: HashMap<Vec<u8>, (u64, u8, u64)> = HashMap::new();
    let mut next = 10;
    while !input.is_empty() {
        let (what, name) = (input.u8(), name(input));
        let found = dir::lookup(&tree, s, &SEED, &name).unwrap();
        let known = map.get(&name).copied();
        assert_eq!(found.map(|f| f.key), known.map(|(_, _, key)| key));
        assert_eq!(
            found.map(|f| (f.ino.get(), f.ftype)),
            known.map(|(ino, ftype, _)| (ino, ftype))
        );
        match (what % 4, known) {
            (0 | 1, None) => {
                next += 1;
                let ftype = [1, 2, 4, 6, 8, 10, 12][usize::from(what >> 2) % 7];
                dir::insert(&mut tree, s, &SEED, &name, Ino::new(next), ftype).unwrap();
                let key = dir::lookup(&tree, s, &SEED, &name).unwrap().unwrap().key;
                map.insert(name, (next, ftype, key));
            }
            (_, Some((_, _, key))) if what % 4 < 3 => {
                dir::remove(&mut tree, s, key).unwrap();
                map.remove(&name);
            }
            (_, Some((_, _, key))) => {
                next += 1;
                dir::replace(&mut tree, s, key, &name, Ino::new(next), 8).unwrap();
                map.insert(name, (next, 8, key));
            }
            _ => {
                dir::set_parent(&mut tree, s, Ino::new(next)).unwrap();
                assert_eq!(dir::parent(&tree, s).unwrap(), Ino::new(next));
            }
        }
        s.publish().unwrap();
    }
    assert_eq!(dir::is_empty(&tree, s).unwrap(), map.is_empty());
    let mut batch = dir::Batch::with_capacity(2000).unwrap();
    let (mut from, mut listed) = (1, 0);
    loop {
        batch.fill(&tree, s, from).unwrap();
        for (key, record) in batch.iter() {
            let known = map.get(record.name).copied();
            assert_eq!(known, Some((record.ino.get(), record.ftype, key)));
            assert!(key >= from);
            (from, listed) = (key + 1, listed + 1);
        }
        if batch.is_empty() {
            break;
        }
    }
    assert_eq!(listed, map.len());
    let stats = tree.walk(s, |_, _| ()).unwrap();
    assert_eq!(
        (stats.records, stats.nodes),
        (map.len() as u64 + 1, s.blocks.len() as u64)
    );
}

fn attributes(mut store: MemStore, input: &mut Input<'_>) {
    let s = &mut store;
    let mut attrs = Attrs::new(OWNER, [0; 48]);
    let mut map: BTreeMap<(u8, Vec<u8>), Vec<u8>> = BTreeMap::new();
    let mut out = vec![0; 65536];
    while !input.is_empty() {
        let (what, bytes) = (input.u8(), name(input));
        let (index, bytes) = match what >> 2 & 7 {
            index @ 1..=3 => (index, bytes),
            4 => (4, Vec::new()),
            5 => (5, Vec::new()),
            _ => (1, bytes[..bytes.len().min(4)].to_vec()),
        };
        let len = match what >> 5 {
            0..=3 => usize::from(input.u8() % 40),
            4..=6 => usize::from(input.u16() % 2000),
            _ => 65536 - usize::from(input.u8()),
        };
        let name = Name {
            index,
            name: &bytes,
        };
        if what & 3 == 3 {
            attrs.set(s, &SEED, name, None).unwrap();
            map.remove(&(index, bytes.clone()));
        } else {
            let value = vec![what; len];
            attrs.set(s, &SEED, name, Some(&value)).unwrap();
            map.insert((index, bytes.clone()), value);
        }
        s.publish().unwrap();
        let got = attrs.get(s, &SEED, name, &mut out).unwrap();
        let known = map.get(&(index, bytes.clone()));
        assert_eq!(got, known.map(Vec::len));
        assert!(known.is_none_or(|value| out[..value.len()] == value[..]));
        assert_eq!(attrs.delta(), s.blocks.len() as i64);
    }
    let mut listed = BTreeMap::new();
    attrs
        .for_each(s, |name, len| {
            let old = listed.insert((name.index, name.name.to_vec()), len);
            assert_eq!(old, None, "listed twice");
        })
        .unwrap();
    assert!(listed
        .into_iter()
        .eq(map.into_iter().map(|(name, value)| (name, value.len()))));
    while attrs.remove_any(s).unwrap() {
        s.publish().unwrap();
    }
    assert!(s.blocks.is_empty() && attrs.delta() == 0 || attrs.area()[0] == 1);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for head in 0..8 {
        for step in [1u8, 5, 32, 67] {
            let mut bytes = vec![head];
            for i in 0..40u8 {
                let what = i.wrapping_mul(step);
                bytes.extend([what, i % 24, i.wrapping_mul(37), what, 3]);
            }
            all.push(bytes);
        }
    }
    all
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Directories and symbolic links, held against std collections.

use std::collections::{BTreeMap, HashMap};

use calf_core::algo::btree::Tree;
use calf_core::algo::dir::{self, Batch};
use calf_core::algo::store::{NodeId, NodeRead, NodeStore, TreeError};
use calf_core::algo::symlink;
use calf_core::format::node::{self, InlineRoot};
use calf_core::format::{BlockNr, Ino, Kind};
use calf_core::mem::MemError;

const UUID: [u8; 16] = [7; 16];
const SEED: [u8; 16] = [9; 16];
const OWNER: Ino = Ino::new(2);

/// Nodes in memory. Every node that is read is verified, as a kernel store would.
struct Store {
    size: usize,
    nodes: HashMap<u64, Vec<u8>>,
    next: u64,
}

impl Store {
    fn new(size: usize) -> Self {
        Self {
            size,
            nodes: HashMap::new(),
            next: 100,
        }
    }
}

impl NodeRead for Store {
    type Error = MemError;

    fn block_size(&self) -> usize {
        self.size
    }

    fn uuid(&self) -> &[u8; 16] {
        &UUID
    }

    fn with_node<R>(&self, id: NodeId, f: impl FnOnce(&[u8]) -> R) -> Result<R, MemError> {
        let mut node = self.nodes[&id.block.get()].clone();
        node::seal(&mut node, &UUID);
        node::verify(&node, &id, &UUID).expect("node verifies");
        Ok(f(&node))
    }

    fn damaged(&self, _id: NodeId, what: &'static str) -> MemError {
        MemError::Damaged(what)
    }
}

impl NodeStore for Store {
    fn node_mut(&mut self, id: NodeId) -> Result<&mut [u8], MemError> {
        Ok(self.nodes.get_mut(&id.block.get()).expect("node exists"))
    }

    fn alloc_node(
        &mut self,
        owner: Ino,
        kind: Kind,
        level: u8,
        _near: BlockNr,
    ) -> Result<BlockNr, MemError> {
        let block = BlockNr::new(self.next);
        self.next += 1;
        let mut node = vec![0; self.size];
        let id = NodeId {
            block,
            owner,
            kind,
            level,
        };
        node::init(&mut node, &id, &UUID);
        self.nodes.insert(block.get(), node);
        Ok(block)
    }

    fn free_node(&mut self, id: NodeId) -> Result<(), MemError> {
        self.nodes.remove(&id.block.get()).expect("node exists");
        Ok(())
    }
}

fn new_dir(s: &mut Store) -> Tree {
    let mut t = Tree::inode(Kind::Dir, OWNER, InlineRoot::empty(Kind::Dir));
    dir::init(&mut t, s, Ino::new(1)).unwrap();
    t
}

fn list(t: &Tree, s: &Store) -> Vec<(u64, Vec<u8>, u64)> {
    let mut batch = Batch::with_capacity(1000).unwrap();
    let (mut all, mut pos) = (vec![], 0);
    loop {
        batch.fill(t, s, pos).unwrap();
        if batch.is_empty() {
            return all;
        }
        for (key, r) in batch.iter() {
            assert!(key >= pos);
            pos = key + 1;
            all.push((key, r.name.to_vec(), r.ino.get()));
        }
    }
}

/// A small generator, so that every run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}

#[test]
fn names_match_a_map() {
    for size in [1024, 4096] {
        let mut s = Store::new(size);
        let mut t = new_dir(&mut s);
        let mut model: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut random = Random(size as u64);
        for round in 0..20_000u64 {
            let n = random.next(2000);
            let name = [format!("{n}-").into_bytes(), vec![b'x'; (n % 250) as usize]].concat();
            let found = dir::lookup(&t, &s, &SEED, &name).unwrap();
            assert_eq!(found.map(|f| f.ino.get()), model.get(&name).copied());
            match (found, random.next(3)) {
                (None, _) => {
                    dir::insert(&mut t, &mut s, &SEED, &name, Ino::new(round + 10), 8).unwrap();
                    model.insert(name, round + 10);
                }
                (Some(f), 0) => {
                    dir::replace(&mut t, &mut s, f.key, &name, Ino::new(round + 10), 4).unwrap();
                    model.insert(name, round + 10);
                }
                (Some(_), 1) => {
                    let again = dir::insert(&mut t, &mut s, &SEED, &name, Ino::new(3), 8);
                    assert_eq!(again, Err(MemError::Tree(TreeError::Exists)));
                }
                (Some(f), _) => {
                    dir::remove(&mut t, &mut s, f.key).unwrap();
                    model.remove(&name);
                }
            }
            assert_eq!(dir::is_empty(&t, &s).unwrap(), model.is_empty());
        }
        let listed: BTreeMap<_, _> = list(&t, &s).into_iter().map(|(_, n, i)| (n, i)).collect();
        assert_eq!(listed, model);
        assert_eq!(dir::parent(&t, &s), Ok(Ino::new(1)));
        for (key, _, _) in list(&t, &s) {
            dir::remove(&mut t, &mut s, key).unwrap();
        }
        assert!(dir::is_empty(&t, &s).unwrap());
        assert_eq!(t.delta(), 0);
        assert!(s.nodes.is_empty(), "an empty directory lies in its inode");
    }
}

#[test]
fn names_of_one_hash_live_together() {
    let mut s = Store::new(1024);
    let mut t = new_dir(&mut s);
    // Put foreign names where `name` wants to be: the first keys of its run.
    let base = dir::base_key(&SEED, b"name");
    let value = |ino: u64, name: &[u8]| [&ino.to_le_bytes()[..], &[8], name].concat();
    t.insert(&mut s, base, &value(5, b"a")).unwrap();
    t.insert(&mut s, base + 1, &value(6, b"b")).unwrap();
    t.insert(&mut s, base + 3, &value(7, b"d")).unwrap();
    assert_eq!(dir::lookup(&t, &s, &SEED, b"name"), Ok(None));
    assert_eq!(
        dir::insert(&mut t, &mut s, &SEED, b"name", Ino::new(8), 8),
        Ok(base + 2)
    );
    let found = dir::lookup(&t, &s, &SEED, b"name").unwrap().unwrap();
    assert_eq!(
        (found.key, found.ino, found.ftype),
        (base + 2, Ino::new(8), 8)
    );
    // A gap does not hide what comes after it.
    dir::remove(&mut t, &mut s, base).unwrap();
    assert!(dir::lookup(&t, &s, &SEED, b"name").unwrap().is_some());
}

#[test]
fn positions_stay_valid() {
    let mut s = Store::new(1024);
    let mut t = new_dir(&mut s);
    let name = |n: u32| format!("file{n}").into_bytes();
    for n in 0..1000 {
        dir::insert(&mut t, &mut s, &SEED, &name(n), Ino::new(10), 8).unwrap();
    }
    // Remove every name while reading, as `rm -r` does: every name is seen once.
    let mut batch = Batch::with_capacity(500).unwrap();
    let (mut pos, mut seen) = (0, 0);
    loop {
        batch.fill(&t, &s, pos).unwrap();
        if batch.is_empty() {
            break;
        }
        for (key, _) in batch.iter() {
            dir::remove(&mut t, &mut s, key).unwrap();
            (pos, seen) = (key + 1, seen + 1);
        }
    }
    assert_eq!(seen, 1000);
    assert!(dir::is_empty(&t, &s).unwrap());
}

#[test]
fn damaged_records_are_reported() {
    for value in [
        &b""[..],
        b"12345678",
        &[0; 20],
        b"\x01\0\0\0\0\0\0\0\x08a/b",
    ] {
        let mut s = Store::new(1024);
        let mut t = new_dir(&mut s);
        let base = dir::base_key(&SEED, b"n");
        if t.insert(&mut s, base, value).is_err() {
            continue;
        }
        let r = dir::lookup(&t, &s, &SEED, b"n");
        assert!(matches!(r, Err(MemError::Damaged(_))), "{value:?}");
        let mut batch = Batch::with_capacity(100).unwrap();
        assert!(batch.fill(&t, &s, 0).is_err());
    }
}

#[test]
fn symbolic_links_of_all_lengths() {
    for size in [1024, 2048, 4096] {
        for len in (1..=symlink::TARGET_MAX)
            .step_by(7)
            .chain([255, 256, 257, 4095])
        {
            let mut s = Store::new(size);
            let mut t = Tree::inode(Kind::Symlink, OWNER, InlineRoot::empty(Kind::Symlink));
            let target: Vec<u8> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
            symlink::write(&mut t, &mut s, &target).unwrap();
            assert!(
                s.next - 100 <= symlink::MAX_NODES,
                "{len}: {}",
                s.next - 100
            );
            assert_eq!(&symlink::read(&t, &s, len as u64).unwrap()[..], &target[..]);
            assert!(symlink::read(&t, &s, len as u64 + 1).is_err());
            assert!(symlink::read(&t, &s, len as u64 - 1).is_err());
        }
    }
}

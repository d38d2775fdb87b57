// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The B+tree against `BTreeMap`: random edits, checked as a whole again and again, with failures
//! of the store in between.

use calf_core::algo::btree::{edit_nodes, worst_nodes, Tree};
use calf_core::algo::store::TreeError;
use calf_core::format::node::InlineRoot;
use calf_core::format::types::{BlockNr, Ino, Kind};
use calf_core::mem::{MemError, MemStore};
use calf_core::random::Random;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

const ROOT: BlockNr = BlockNr::new(7);

#[derive(Clone, Copy, Debug)]
enum Keys {
    Dense,
    Sparse,
    Ascending,
    Descending,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    block_size: usize,
    global: bool,
    keys: Keys,
    /// Shortest and longest value.
    len: (u64, u64),
}

struct Model {
    setup: Setup,
    random: Random,
    store: MemStore,
    tree: Tree,
    map: BTreeMap<u64, Vec<u8>>,
    ascending: u64,
    descending: u64,
}

impl Model {
    fn new(setup: Setup, seed: u64) -> Self {
        let mut store = MemStore::new(setup.block_size);
        store.check_values = false;
        let tree = if setup.global {
            store.make_root(Kind::Xattr, ROOT);
            Tree::global(Kind::Xattr, ROOT)
        } else {
            Tree::inode(Kind::Xattr, Ino::new(42), InlineRoot::empty(Kind::Xattr))
        };
        Self {
            setup,
            random: Random::new(seed),
            store,
            tree,
            map: BTreeMap::new(),
            ascending: 1 << 40,
            descending: 1 << 40,
        }
    }

    fn new_key(&mut self) -> u64 {
        match self.setup.keys {
            Keys::Dense => self.random.below(3000),
            Keys::Sparse => self.random.any(),
            Keys::Ascending => {
                self.ascending += 1 + self.random.below(3);
                self.ascending
            }
            Keys::Descending => {
                self.descending -= 1 + self.random.below(3);
                self.descending
            }
        }
    }

    fn old_key(&mut self) -> u64 {
        let key = self.new_key();
        let from = match self.setup.keys {
            Keys::Ascending | Keys::Descending => self.random.any() >> 23,
            _ => key,
        };
        let next = self.map.range(from..).next().or(self.map.iter().next());
        next.map_or(key, |(key, _)| *key)
    }

    fn value(&mut self) -> Vec<u8> {
        let (min, max) = self.setup.len;
        // Many small ones and some large ones are harder than an even mix.
        let span = if self.random.below(3) == 0 {
            max - min + 1
        } else {
            (max - min) / 8 + 1
        };
        let len = min + self.random.below(span);
        (0..len).map(|_| self.random.any() as u8).collect()
    }

    /// One edit of the tree by `f` on a copy, published or dropped, and measured.
    fn edit(
        &mut self,
        f: impl Fn(&mut Tree, &mut MemStore) -> Result<(), MemError>,
    ) -> Result<(), MemError> {
        let height = self.tree.height(&self.store).unwrap();
        if self.random.below(10) == 0 {
            self.inject(&f);
        }
        let mut tree = self.tree;
        let result = f(&mut tree, &mut self.store);
        if result.is_err() {
            self.store.abandon();
            return result;
        }
        assert!(self.store.touched() <= edit_nodes(height) as usize);
        assert!(self.store.allocated() <= u64::from(height) + 1);
        self.store.publish().unwrap();
        self.tree = tree;
        Ok(())
    }

    /// Lets the edit fail at every call of the store in turn; the published nodes stay as they are.
    fn inject(&mut self, f: impl Fn(&mut Tree, &mut MemStore) -> Result<(), MemError>) {
        let before = self.store.blocks.clone();
        for calls in 0.. {
            let mut tree = self.tree;
            self.store.fail_after(Some(calls));
            let result = f(&mut tree, &mut self.store);
            self.store.fail_after(None);
            self.store.abandon();
            assert!(self.store.blocks == before);
            if result != Err(MemError::Injected) {
                break;
            }
        }
    }

    fn step(&mut self, grow: bool) {
        let remove = self.random.below(100) < if grow { 25 } else { 70 };
        if remove {
            let key = self.old_key();
            let result = self.edit(|tree, store| tree.remove(store, key));
            match self.map.remove(&key) {
                Some(_) => assert_eq!(result, Ok(())),
                None => assert_eq!(result, Err(MemError::Tree(TreeError::NotFound))),
            }
            return;
        }
        let value = self.value();
        if self.random.below(4) == 0 {
            let key = self.old_key();
            let result = self.edit(|tree, store| tree.replace(store, key, &value));
            match self.map.get_mut(&key) {
                Some(old) => {
                    assert_eq!(result, Ok(()));
                    *old = value;
                }
                None => assert_eq!(result, Err(MemError::Tree(TreeError::NotFound))),
            }
            return;
        }
        let key = self.new_key();
        let result = self.edit(|tree, store| tree.insert(store, key, &value));
        let taken = self.map.contains_key(&key);
        if taken {
            assert_eq!(result, Err(MemError::Tree(TreeError::Exists)));
        } else {
            assert_eq!(result, Ok(()));
            self.map.insert(key, value);
        }
    }

    fn check_one(&mut self) {
        let key = if self.random.below(2) == 0 {
            self.new_key()
        } else {
            self.old_key()
        };
        let (tree, store, map) = (&self.tree, &self.store, &self.map);
        let pair = |found: Option<(u64, calf_core::algo::btree::Value)>| {
            found.map(|(key, value)| (key, value.to_vec()))
        };
        let own = |found: Option<(&u64, &Vec<u8>)>| found.map(|(key, value)| (*key, value.clone()));
        assert_eq!(
            tree.get(store, key).unwrap().as_deref(),
            map.get(&key).map(|v| &v[..])
        );
        assert_eq!(
            pair(tree.floor(store, key).unwrap()),
            own(map.range(..=key).next_back())
        );
        assert_eq!(
            pair(tree.ceil(store, key).unwrap()),
            own(map.range(key..).next())
        );
        assert_eq!(pair(tree.last(store).unwrap()), own(map.iter().next_back()));
        let place = tree.locate(store, key).unwrap();
        assert_eq!(place.is_some(), map.contains_key(&key));
        if let Some((block, off, len)) = place {
            let bytes = match tree.inline_root() {
                Some(root) if block == BlockNr::ZERO => &root.0[..],
                _ => &store.blocks[&block.get()],
            };
            assert_eq!(&bytes[off..off + len], &map[&key]);
        }
        let mut found = Vec::new();
        tree.scan(store, key, |key, value| {
            found.push((key, value.to_vec()));
            if found.len() < 20 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .unwrap();
        assert!(found
            .into_iter()
            .eq(map.range(key..).take(20).map(|(k, v)| (*k, v.clone()))));
    }

    fn check_all(&self) {
        let mut blocks = Vec::new();
        let stats = self
            .tree
            .walk(&self.store, |id, bytes| {
                assert_eq!(bytes, &self.store.blocks[&id.block.get()]);
                blocks.push(id.block);
            })
            .unwrap();
        let nodes = blocks.len() as u64;
        for skip in (0..=blocks.len()).step_by(blocks.len() / 7 + 1) {
            let mut rest = blocks[skip..].iter().take(5);
            self.tree
                .nodes(&self.store, skip as u64, |block| match rest.next() {
                    Some(want) => {
                        assert_eq!(block, *want, "node behind {skip}");
                        ControlFlow::Continue(())
                    }
                    None => ControlFlow::Break(()),
                })
                .unwrap();
            assert_eq!(rest.next(), None, "no node behind {skip}");
        }
        assert_eq!((stats.records, stats.thin), (self.map.len() as u64, 0));
        assert_eq!(stats.nodes, nodes);
        assert_eq!(nodes, self.store.blocks.len() as u64, "a node is lost");
        if self.setup.global {
            assert_eq!(self.tree.blocks(&self.store), Ok(nodes));
            assert_eq!(self.tree.delta(), nodes as i64 - 1);
        } else {
            assert_eq!(self.tree.delta(), nodes as i64);
        }
        let (_, max) = self.setup.len;
        let most = worst_nodes(stats.records, self.setup.block_size, max as usize);
        assert!(
            nodes <= most,
            "{nodes} nodes for {} records, not {most}",
            stats.records
        );
        let mut all = Vec::new();
        self.tree
            .scan(&self.store, 0, |key, value| {
                all.push((key, value.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(all
            .into_iter()
            .eq(self.map.iter().map(|(k, v)| (*k, v.clone()))));
    }

    fn run(&mut self, steps: u32) {
        for i in 0..steps {
            // Grow, shrink to almost nothing, grow again.
            self.step(i % (steps / 2) < steps / 4);
            if i % 7 == 0 {
                self.check_one();
            }
            if i % 101 == 0 {
                self.check_all();
            }
        }
        while !self.map.is_empty() {
            let key = self.old_key();
            self.edit(|tree, store| tree.remove(store, key)).unwrap();
            self.map.remove(&key);
        }
        self.check_all();
        assert_eq!(self.tree.delta(), 0, "an empty tree is a root alone");
    }
}

fn all(global: bool, len: (u64, u64), steps: u32) {
    for block_size in [256, 1024, 2048, 4096] {
        // Small blocks make tall trees; three of the largest records must fit.
        if (block_size - 64) / 3 < len.1 + 12 {
            continue;
        }
        for keys in [Keys::Dense, Keys::Sparse, Keys::Ascending, Keys::Descending] {
            let setup = Setup {
                block_size: block_size as usize,
                global,
                keys,
                len,
            };
            println!("{setup:?}");
            Model::new(setup, block_size + steps as u64).run(steps);
        }
    }
}

#[test]
fn extents_in_an_inode() {
    all(false, (16, 16), 6000);
}

#[test]
fn counts_in_a_global_tree() {
    all(true, (8, 8), 6000);
}

#[test]
fn records_of_inodes() {
    all(true, (256, 256), 4000);
}

#[test]
fn names_in_an_inode() {
    all(false, (9, 264), 4000);
}

#[test]
fn any_length_in_an_inode() {
    all(false, (0, 272), 4000);
}

#[test]
fn any_length_in_a_global_tree() {
    all(true, (0, 272), 4000);
}

#[test]
fn long_values_are_refused() {
    let setup = Setup {
        block_size: 1024,
        global: false,
        keys: Keys::Dense,
        len: (1, 1),
    };
    let mut model = Model::new(setup, 1);
    let too_big = Err(MemError::Tree(TreeError::TooBig));
    assert_eq!(
        model.edit(|tree, store| tree.insert(store, 1, &[0; 273])),
        too_big
    );
    model
        .edit(|tree, store| tree.insert(store, 1, &[1; 272]))
        .unwrap();
    assert_eq!(
        model.edit(|tree, store| tree.replace(store, 1, &[0; 273])),
        too_big
    );
    assert_eq!(
        &*model.tree.get(&model.store, 1).unwrap().unwrap(),
        &[1; 272]
    );
}

#[test]
fn rekey_moves_records() {
    for block_size in [1024, 4096] {
        let setup = Setup {
            block_size,
            global: false,
            keys: Keys::Ascending,
            len: (16, 16),
        };
        let mut model = Model::new(setup, 5);
        for i in 1..=2000u64 {
            model
                .edit(|tree, store| tree.insert(store, i * 100, &[1; 16]))
                .unwrap();
            model.map.insert(i * 100, vec![1; 16]);
        }
        for _ in 0..4000 {
            let old = model.old_key();
            let below = model
                .map
                .range(..old)
                .next_back()
                .map_or(0, |(key, _)| key + 1);
            let above = model
                .map
                .range(old + 1..)
                .next()
                .map_or(1 << 40, |(key, _)| *key);
            let new = below + model.random.below(above - below);
            let value = vec![new as u8; 16];
            model
                .edit(|tree, store| tree.rekey(store, old, new, &value))
                .unwrap();
            model.map.remove(&old);
            model.map.insert(new, value);
        }
        model.check_all();
    }
}

#[test]
fn appends_leave_full_leaves() {
    for block_size in [1024, 2048, 4096] {
        let setup = Setup {
            block_size,
            global: true,
            keys: Keys::Ascending,
            len: (16, 16),
        };
        let mut model = Model::new(setup, 3);
        for key in 0..20_000 {
            model.tree.insert(&mut model.store, key, &[0; 16]).unwrap();
        }
        model.store.publish().unwrap();
        let stats = model.tree.walk(&model.store, |_, _| ()).unwrap();
        let per_leaf = ((block_size - 64) / 28) as u64;
        let leaves = 20_000u64.div_ceil(per_leaf);
        assert!(stats.nodes <= leaves + leaves / 20 + 2, "{stats:?}");
        assert_eq!(stats.thin, 0);
    }
}

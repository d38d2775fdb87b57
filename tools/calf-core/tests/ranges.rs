// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Extents and reference counts against plain arrays.

use calf_core::algo::btree::{edit_nodes, Tree};
use calf_core::algo::extent::{self, Extent, Mapping};
use calf_core::algo::refcount;
use calf_core::format::node::InlineRoot;
use calf_core::format::refcount::RawRefcount;
use calf_core::format::types::{BlockNr, Ino, Kind};
use calf_core::mem::{MemError, MemStore};
use calf_core::random::Random;
use zerocopy::little_endian::U32;
use zerocopy::IntoBytes;

const BLOCKS: u64 = 1500;

/// An edit, published; with the failure of every call of the store tried before, now and then.
fn edit<R>(
    store: &mut MemStore,
    tree: &mut Tree,
    random: &mut Random,
    edits: u32,
    f: impl Fn(&mut Tree, &mut MemStore) -> Result<R, MemError>,
) -> Result<R, MemError> {
    let height = tree.height(store).unwrap();
    if random.below(20) == 0 {
        let before = store.blocks.clone();
        for calls in 0.. {
            let mut copy = *tree;
            store.fail_after(Some(calls));
            let result = f(&mut copy, store);
            store.fail_after(None);
            store.abandon();
            assert!(store.blocks == before);
            if !matches!(result, Err(MemError::Injected)) {
                break;
            }
        }
    }
    let mut copy = *tree;
    let result = f(&mut copy, store);
    match &result {
        Ok(_) => {
            assert!(store.touched() <= (edits * edit_nodes(height)) as usize);
            store.publish().unwrap();
            *tree = copy;
        }
        Err(_) => store.abandon(),
    }
    result
}

fn extents(block_size: usize, seed: u64, spread: u64) {
    let mut random = Random::new(seed);
    let mut store = MemStore::new(block_size);
    let mut tree = Tree::inode(Kind::Extents, Ino::new(9), InlineRoot::empty(Kind::Extents));
    let mut model: Vec<Option<(u64, bool)>> = vec![None; BLOCKS as usize];
    for round in 0..6000 {
        let start = random.below(BLOCKS);
        let len = (1 + random.below(12)).min(BLOCKS - start);
        let cells = start as usize..(start + len) as usize;
        match random.below(if round % 3000 < 1500 { 4 } else { 6 }) {
            0 | 1 => {
                let phys = 10_000 + start + random.below(spread) * BLOCKS;
                let unwritten = random.below(3) == 0;
                let e = Extent {
                    fblk: start,
                    phys: BlockNr::new(phys),
                    len,
                    unwritten,
                };
                let result = edit(&mut store, &mut tree, &mut random, extent::EDITS, |t, s| {
                    extent::insert(t, s, e)
                });
                if model[cells.clone()].iter().all(Option::is_none) {
                    result.unwrap();
                    for (i, cell) in model[cells].iter_mut().enumerate() {
                        *cell = Some((phys + i as u64, unwritten));
                    }
                } else {
                    assert!(matches!(result, Err(MemError::Damaged(_))));
                }
            }
            2 => {
                let whole = match extent::lookup(&tree, &store, start).unwrap() {
                    Mapping::Mapped(e) => start + len <= e.end(),
                    Mapping::Hole { .. } => false,
                };
                let result = edit(&mut store, &mut tree, &mut random, extent::EDITS, |t, s| {
                    extent::set_written(t, s, start, len)
                });
                assert_eq!(result.is_ok(), whole);
                if whole {
                    model[cells]
                        .iter_mut()
                        .flatten()
                        .for_each(|cell| cell.1 = false);
                }
            }
            _ => {
                let end = start + len;
                while let Some(gone) =
                    edit(&mut store, &mut tree, &mut random, extent::EDITS, |t, s| {
                        extent::remove_step(t, s, start, end)
                    })
                    .unwrap()
                {
                    assert!(gone.fblk >= start && gone.end() <= end && gone.len > 0);
                    for i in 0..gone.len {
                        let cell = &mut model[(gone.fblk + i) as usize];
                        assert_eq!(*cell, Some((gone.phys.get() + i, gone.unwritten)));
                        *cell = None;
                    }
                }
                assert!(model[cells].iter().all(Option::is_none));
            }
        }
        let at = random.below(BLOCKS);
        match extent::lookup(&tree, &store, at).unwrap() {
            Mapping::Mapped(e) => {
                assert!(e.fblk <= at && at < e.end());
                assert_eq!(extent::next_extent(&tree, &store, at).unwrap(), Some(e));
            }
            Mapping::Hole { len } => {
                let end = at.saturating_add(len).min(BLOCKS);
                assert!(len > 0 && model[at as usize..end as usize].iter().all(Option::is_none));
                let next = extent::next_extent(&tree, &store, at).unwrap();
                assert_eq!(next.map(|e| e.fblk), (end < BLOCKS).then_some(end));
            }
        }
        if round % 50 == 0 {
            let mut at = 0;
            let mut last: Option<Extent> = None;
            while let Some(e) = extent::next_extent(&tree, &store, at).unwrap() {
                assert!(model[at as usize..e.fblk as usize]
                    .iter()
                    .all(Option::is_none));
                for i in 0..e.len {
                    let cell = Some((e.phys.get() + i, e.unwritten));
                    assert_eq!(model[(e.fblk + i) as usize], cell);
                }
                let joined = last.is_some_and(|last| {
                    last.end() == e.fblk
                        && last.phys.checked_add(last.len) == Some(e.phys)
                        && last.unwritten == e.unwritten
                });
                assert!(!joined, "{last:?} {e:?} could be one");
                (at, last) = (e.end(), Some(e));
            }
            assert!(model[at as usize..].iter().all(Option::is_none));
            assert_eq!(tree.walk(&store, |_, _| ()).unwrap().thin, 0);
        }
    }
}

#[test]
fn extents_agree_with_an_array() {
    for block_size in [256, 1024, 2048, 4096] {
        extents(block_size, 1, 1);
        extents(block_size, 2, 50);
    }
}

/// What collapse and insert do to a file, against an array of its blocks.
fn moves(block_size: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut store = MemStore::new(block_size);
    let mut tree = Tree::inode(Kind::Extents, Ino::new(9), InlineRoot::empty(Kind::Extents));
    let mut model: Vec<Option<u64>> = vec![None; BLOCKS as usize];
    let mut fblk = 0;
    while fblk + 4 < BLOCKS / 2 {
        let len = 1 + random.below(4);
        // Now and then the next extent continues this one on the device when a hole goes.
        let phys = 10_000 + fblk + random.below(2) * BLOCKS;
        let e = Extent {
            fblk,
            phys: BlockNr::new(phys),
            len,
            unwritten: false,
        };
        extent::insert(&mut tree, &mut store, e).unwrap();
        store.publish().unwrap();
        (0..len).for_each(|i| model[(fblk + i) as usize] = Some(phys + i));
        fblk += len + random.below(3);
    }
    for round in 0..60 {
        let at = random.below(BLOCKS / 2);
        let by = 1 + random.below(40);
        let allocated = store.blocks.len();
        if round % 2 == 0 {
            // Up: a hole of `by` blocks at `at`.
            let mut end = BLOCKS;
            while let Some(next) = edit(&mut store, &mut tree, &mut random, 2, |t, s| {
                extent::move_up_step(t, s, at, end, by)
            })
            .unwrap()
            {
                assert!((at..end).contains(&next));
                end = next;
            }
            model.splice(at as usize..at as usize, vec![None; by as usize]);
            assert!(model.split_off(BLOCKS as usize).iter().all(Option::is_none));
            // Only the extent that was cut may have taken a node.
            assert!(store.blocks.len() <= allocated + 4);
        } else {
            while edit(&mut store, &mut tree, &mut random, 2, |t, s| {
                extent::remove_step(t, s, at, at + by)
            })
            .unwrap()
            .is_some()
            {}
            let mut from = at + by;
            while let Some(end) = edit(&mut store, &mut tree, &mut random, 2, |t, s| {
                extent::move_down_step(t, s, from, by)
            })
            .unwrap()
            {
                assert!(end > from);
                from = end;
            }
            model.drain(at as usize..(at + by) as usize);
            model.resize(BLOCKS as usize, None);
        }
        for (i, cell) in model.iter().enumerate() {
            let got = match extent::lookup(&tree, &store, i as u64).unwrap() {
                Mapping::Mapped(e) => Some(e.phys.get() + (i as u64 - e.fblk)),
                Mapping::Hole { .. } => None,
            };
            assert_eq!(got, *cell, "round {round} block {i}");
        }
        assert_eq!(tree.walk(&store, |_, _| ()).unwrap().thin, 0);
    }
}

#[test]
fn moved_extents_agree_with_an_array() {
    for block_size in [256, 1024, 4096] {
        for seed in 1..4 {
            moves(block_size, seed);
        }
    }
}

#[test]
fn extents_do_not_move_onto_others() {
    let mut store = MemStore::new(1024);
    let mut tree = Tree::inode(Kind::Extents, Ino::new(9), InlineRoot::empty(Kind::Extents));
    for fblk in [10, 20, 30] {
        let e = Extent {
            fblk,
            phys: BlockNr::new(100 * fblk),
            len: 5,
            unwritten: false,
        };
        extent::insert(&mut tree, &mut store, e).unwrap();
    }
    let taken = |r: Result<Option<u64>, MemError>| {
        assert!(matches!(r, Err(MemError::Damaged(_))));
    };
    taken(extent::move_down_step(&mut tree.clone(), &mut store, 20, 6));
    taken(extent::move_down_step(
        &mut tree.clone(),
        &mut store,
        10,
        11,
    ));
    taken(extent::move_up_step(
        &mut tree.clone(),
        &mut store,
        0,
        20,
        6,
    ));
    taken(extent::move_up_step(
        &mut tree.clone(),
        &mut store,
        0,
        40,
        u64::MAX,
    ));
    taken(extent::move_up_step(
        &mut tree.clone(),
        &mut store,
        0,
        40,
        1 << 53,
    ));
    assert_eq!(
        extent::move_down_step(&mut tree, &mut store, 35, 1),
        Ok(None)
    );
    assert_eq!(
        extent::move_up_step(&mut tree, &mut store, 0, 10, 1),
        Ok(None)
    );
    assert_eq!(
        extent::move_down_step(&mut tree, &mut store, 22, 7),
        Ok(Some(25))
    );
    assert_eq!(
        extent::next_extent(&tree, &store, 15)
            .unwrap()
            .map(|e| e.len),
        Some(3)
    );
}

/// A block has at most 2^32 - 1 owners; the next one is refused, and nothing has changed.
#[test]
fn counts_end_where_numbers_end() {
    let mut store = MemStore::new(1024);
    store.make_root(Kind::Refcount, BlockNr::new(3));
    let mut tree = Tree::global(Kind::Refcount, BlockNr::new(3));
    let raw = RawRefcount {
        len: U32::new(3),
        count: U32::new(u32::MAX - 1),
    };
    tree.insert(&mut store, 100, raw.as_bytes()).unwrap();
    store.publish().unwrap();
    let block = BlockNr::new(101);
    assert_eq!(
        refcount::increase_step(&mut tree, &mut store, block, 1),
        Ok(Some(1))
    );
    store.publish().unwrap();
    assert_eq!(refcount::lookup(&tree, &store, block, 9), Ok((u32::MAX, 1)));
    assert_eq!(
        refcount::increase_step(&mut tree, &mut store, block, 1),
        Ok(None)
    );
    store.abandon();
    assert_eq!(refcount::lookup(&tree, &store, block, 9), Ok((u32::MAX, 1)));
    // The neighbour has room for one more, and then it is alike.
    assert_eq!(
        refcount::increase_step(&mut tree, &mut store, BlockNr::new(100), 1),
        Ok(Some(1))
    );
    assert_eq!(
        refcount::lookup(&tree, &store, BlockNr::new(100), 9),
        Ok((u32::MAX, 2))
    );
    assert_eq!(
        refcount::decrease_step(&mut tree, &mut store, block, 2),
        Ok((1, u32::MAX - 1))
    );
    assert_eq!(
        refcount::lookup(&tree, &store, block, 9),
        Ok((u32::MAX - 1, 2))
    );
}

#[test]
fn extents_end_where_numbers_end() {
    let mut store = MemStore::new(1024);
    let mut tree = Tree::inode(Kind::Extents, Ino::new(9), InlineRoot::empty(Kind::Extents));
    let mut insert = |fblk, phys, len| {
        let e = Extent {
            fblk,
            phys: BlockNr::new(phys),
            len,
            unwritten: false,
        };
        extent::insert(&mut tree, &mut store, e)
    };
    assert!(insert(0, 100, 0).is_err());
    assert!(insert(u64::MAX, 100, 1).is_err());
    assert!(insert(0, u64::MAX, 1).is_err());
    assert!(insert(0, 100, extent::MAX_LEN + 1).is_err());
    insert(0, 100, extent::MAX_LEN).unwrap();
    // Longer than one extent may be: stays two.
    insert(extent::MAX_LEN, 100 + extent::MAX_LEN, 5).unwrap();
    let Mapping::Mapped(e) = extent::lookup(&tree, &store, extent::MAX_LEN).unwrap() else {
        panic!("mapped");
    };
    assert_eq!(e.len, 5);
}

#[test]
fn counts_agree_with_an_array() {
    for block_size in [256, 1024, 2048, 4096] {
        let mut random = Random::new(block_size as u64);
        let mut store = MemStore::new(block_size);
        store.make_root(Kind::Refcount, BlockNr::new(3));
        let mut tree = Tree::global(Kind::Refcount, BlockNr::new(3));
        let mut model = vec![1u32; BLOCKS as usize];
        for round in 0..5000 {
            let start = random.below(BLOCKS);
            let end = (start + 1 + random.below(20)).min(BLOCKS);
            let up = random.below(100) < if round % 2500 < 1250 { 60 } else { 30 };
            let mut at = start;
            while at < end {
                let old = model[at as usize];
                let (phys, len) = (BlockNr::new(at), end - at);
                let (count, run) = refcount::lookup(&tree, &store, phys, len).unwrap();
                assert_eq!(count, old);
                let (n, left) = edit(
                    &mut store,
                    &mut tree,
                    &mut random,
                    refcount::EDITS,
                    |t, s| match up {
                        true => Ok((refcount::increase_step(t, s, phys, len)?.unwrap(), old + 1)),
                        false => refcount::decrease_step(t, s, phys, len),
                    },
                )
                .unwrap();
                assert!(n > 0 && n == run);
                assert_eq!(left, if up { old + 1 } else { old - 1 });
                for cell in &mut model[at as usize..(at + n) as usize] {
                    assert_eq!(*cell, old);
                    // The model's blocks are never gone for good.
                    *cell = if up { old + 1 } else { (old - 1).max(1) };
                }
                at += n;
            }
            if round % 50 == 0 {
                let mut at = 0;
                let mut last = 0;
                while at < BLOCKS {
                    let phys = BlockNr::new(at);
                    let (count, n) = refcount::lookup(&tree, &store, phys, BLOCKS - at).unwrap();
                    let cells = &model[at as usize..(at + n) as usize];
                    assert!(n > 0 && count != last && cells.iter().all(|c| *c == count));
                    (at, last) = (at + n, count);
                }
                assert_eq!(tree.walk(&store, |_, _| ()).unwrap().thin, 0);
            }
        }
    }
}

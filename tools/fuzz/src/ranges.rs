// SPDX-License-Identifier: GPL-2.0

//! Target `ranges`: extents of a file and counts of references against arrays.

use calf_core::algo::btree::Tree;
use calf_core::algo::extent::{self, Extent, Mapping};
use calf_core::algo::refcount;
use calf_core::format::node::InlineRoot;
use calf_core::format::{BlockNr, Ino, Kind};
use calf_core::mem::MemStore;

use crate::input::Input;
use crate::Target;

pub const TARGET: Target = Target {
    name: "ranges",
    run,
    seeds,
    max_len: 1500,
};

const BLOCKS: usize = 400;

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let head = input.u8();
    let store = MemStore::new([256, 512, 1024, 4096][usize::from(head >> 1 & 3)]);
    match head & 1 {
        0 => extents(store, &mut input),
        _ => counts(store, &mut input),
    }
}

fn extents(mut store: MemStore, input: &mut Input<'_>) {
    let s = &mut store;
    let mut tree = Tree::inode(Kind::Extents, Ino::new(9), InlineRoot::empty(Kind::Extents));
    let mut model: Vec<Option<(u64, bool)>> = vec![None; BLOCKS];
    while !input.is_empty() {
        let (what, start, n) = (input.u8(), input.below(BLOCKS), input.u8());
        let len = (1 + usize::from(n % 24)).min(BLOCKS - start);
        let (first, last) = (start as u64, (start + len) as u64);
        let cells = start..start + len;
        let mut t = tree;
        match what & 7 {
            0..=2 => {
                // Often it continues its neighbours on the device.
                let phys = 10_000 + first + u64::from(what >> 4) * 3;
                let unwritten = what & 8 != 0;
                let e = Extent {
                    fblk: first,
                    phys: BlockNr::new(phys),
                    len: len as u64,
                    unwritten,
                };
                let free = model[cells.clone()].iter().all(Option::is_none);
                assert_eq!(extent::insert(&mut t, s, e).is_ok(), free);
                if !free {
                    s.abandon();
                    continue;
                }
                for (i, cell) in model[cells].iter_mut().enumerate() {
                    *cell = Some((phys + i as u64, unwritten));
                }
            }
            3 => {
                let mapping = extent::lookup(&tree, s, first).unwrap();
                let whole = matches!(mapping, Mapping::Mapped(e) if last <= e.end());
                let done = extent::set_written(&mut t, s, first, len as u64);
                assert_eq!(done.is_ok(), whole);
                if !whole {
                    s.abandon();
                    continue;
                }
                let cells = model[cells].iter_mut().flatten();
                cells.for_each(|cell| cell.1 = false);
            }
            4 | 5 => {
                while let Some(gone) = extent::remove_step(&mut t, s, first, last).unwrap() {
                    for i in 0..gone.len {
                        let cell = model[(gone.fblk + i) as usize].take();
                        assert_eq!(cell, Some((gone.phys.get() + i, gone.unwritten)));
                    }
                }
                assert!(model[cells].iter().all(Option::is_none));
            }
            6 => {
                // Insert: everything from `start` on moves up, as far as there is room behind it.
                let by = len.min(model.iter().rev().take_while(|c| c.is_none()).count());
                if by == 0 || start + by > BLOCKS {
                    continue;
                }
                let mut end = BLOCKS as u64;
                while let Some(from) =
                    extent::move_up_step(&mut t, s, first, end, by as u64).unwrap()
                {
                    end = from;
                }
                model[start..].rotate_right(by);
            }
            _ => {
                // Collapse: a hole goes.
                let by = model[cells].iter().take_while(|c| c.is_none()).count();
                if by == 0 {
                    continue;
                }
                let mut from = (start + by) as u64;
                while let Some(end) = extent::move_down_step(&mut t, s, from, by as u64).unwrap() {
                    from = end;
                }
                model[start..].rotate_left(by);
            }
        }
        s.publish().unwrap();
        tree = t;
    }
    let mut at = 0;
    let mut before: Option<Extent> = None;
    while let Some(e) = extent::next_extent(&tree, s, at).unwrap() {
        assert!(model[at as usize..e.fblk as usize]
            .iter()
            .all(Option::is_none));
        for i in 0..e.len {
            let cell = Some((e.phys.get() + i, e.unwritten));
            assert_eq!(model[(e.fblk + i) as usize], cell);
        }
        let joined = before.is_some_and(|b| {
            b.end() == e.fblk
                && b.phys.checked_add(b.len) == Some(e.phys)
                && b.unwritten == e.unwritten
        });
        assert!(!joined, "{before:?} {e:?} could be one");
        (at, before) = (e.end(), Some(e));
    }
    assert!(model[at as usize..].iter().all(Option::is_none));
    assert_eq!(extent::last(&tree, s).unwrap(), before);
    assert_eq!(tree.walk(s, |_, _| ()).unwrap().thin, 0);
}

fn counts(mut store: MemStore, input: &mut Input<'_>) {
    let s = &mut store;
    s.make_root(Kind::Refcount, BlockNr::new(3));
    let mut tree = Tree::global(Kind::Refcount, BlockNr::new(3));
    let mut model = vec![1u32; BLOCKS];
    while !input.is_empty() {
        let (what, start, n) = (input.u8(), input.below(BLOCKS), input.u8());
        let end = (start + 1 + usize::from(n % 24)).min(BLOCKS);
        let up = what & 1 != 0;
        let mut at = start;
        while at < end {
            let old = model[at];
            let (phys, len) = (BlockNr::new(at as u64), (end - at) as u64);
            let (count, run) = refcount::lookup(&tree, s, phys, len).unwrap();
            assert_eq!(count, old);
            let mut t = tree;
            let n = if up {
                refcount::increase_step(&mut t, s, phys, len)
                    .unwrap()
                    .unwrap()
            } else {
                let (n, left) = refcount::decrease_step(&mut t, s, phys, len).unwrap();
                assert_eq!(left, old - 1);
                n
            };
            assert!(n > 0 && n == run);
            s.publish().unwrap();
            tree = t;
            for cell in &mut model[at..at + n as usize] {
                assert_eq!(*cell, old);
                *cell = if up { old + 1 } else { (old - 1).max(1) };
            }
            at += n as usize;
        }
    }
    let (mut at, mut last) = (0, 0);
    while at < BLOCKS {
        let left = (BLOCKS - at) as u64;
        let (count, n) = refcount::lookup(&tree, s, BlockNr::new(at as u64), left).unwrap();
        let cells = &model[at..at + n as usize];
        assert!(n > 0 && count != last && cells.iter().all(|c| *c == count));
        (at, last) = (at + n as usize, count);
    }
    assert_eq!(tree.walk(s, |_, _| ()).unwrap().thin, 0);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for head in 0..8 {
        for step in [1u8, 7, 24, 51] {
            let mut bytes = vec![head];
            for i in 0..80u8 {
                bytes.extend([i.wrapping_mul(step), i.wrapping_mul(29), i & 1, i / 5]);
            }
            all.push(bytes);
        }
    }
    all
}

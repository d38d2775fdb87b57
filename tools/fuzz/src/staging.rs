// SPDX-License-Identifier: GPL-2.0

//! Target `staging`: ranges in memory against arrays: the staging map of an inode, counted ranges, bit runs.

use calf_core::algo::bitmap;
use calf_core::algo::counted::Counted;
use calf_core::algo::rangemap::RangeMap;
use calf_core::algo::staging::{Staging, State, TreeShape};
use calf_core::format::BlockNr;

use crate::input::Input;
use crate::Target;

pub const TARGET: Target = Target {
    name: "staging",
    run,
    seeds,
    max_len: 1500,
};

const BLOCKS: usize = 300;

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => staging(&mut input),
        1 => map(&mut input),
        2 => counted(&mut input),
        _ => bits(&mut input),
    }
}

/// What to do, and the range to do it with.
fn range(input: &mut Input<'_>) -> (u8, usize, usize) {
    let (what, start, n) = (input.u8(), input.below(BLOCKS), input.u8());
    (what, start, (start + usize::from(n % 40)).min(BLOCKS))
}

fn staging(input: &mut Input<'_>) {
    let mut map = Staging::new();
    // The state of each block; a claimed one with its place.
    let mut model: Vec<Option<State>> = vec![None; BLOCKS];
    while !input.is_empty() {
        let (what, start, end) = range(input);
        let (first, last) = (start as u64, end as u64);
        let free = model[start..end].iter().all(Option::is_none);
        let reserved = model[start..end]
            .iter()
            .all(|c| *c == Some(State::Reserved));
        map.make_room(1).unwrap();
        match what & 7 {
            0 | 1 if free => {
                map.reserve(first, last);
                model[start..end].fill(Some(State::Reserved));
            }
            2 if free => {
                map.convert(first, last);
                model[start..end].fill(Some(State::Convert));
            }
            3 | 4 if reserved => {
                let phys = 1000 + first + u64::from(what >> 3);
                map.claim(first, last - first, BlockNr::new(phys));
                for (i, cell) in (0u64..).zip(&mut model[start..end]) {
                    *cell = Some(State::Claimed(BlockNr::new(phys + i)));
                }
            }
            5 => {
                map.make_room(end - start + 1).unwrap();
                map.revert(first, last);
                for cell in &mut model[start..end] {
                    if matches!(cell, Some(State::Claimed(_))) {
                        *cell = Some(State::Reserved);
                    }
                }
            }
            6 | 7 => {
                map.remove(first, last);
                model[start..end].fill(None);
            }
            _ => continue,
        }
        let shape = TreeShape {
            root_level: what >> 5,
            root_records: 1 + u64::from(what & 3),
            leaf_records: 34,
            node_records: 48,
            inline_leaf: 3,
            inline_node: 5,
        };
        let need = map.need(&shape, 0);
        assert!(need == 0 || !map.is_empty());
        assert!(need <= map.need(&shape, 64));
    }
    let state_at = |at: usize| {
        let e = map.find(at as u64)?;
        assert!(e.start <= at as u64 && (at as u64) < e.end && !e.is_empty());
        Some(e.phys_at(at as u64).map_or(e.state, State::Claimed))
    };
    for (at, cell) in model.iter().enumerate() {
        assert_eq!(state_at(at), *cell, "block {at}");
        let next = model[at..].iter().position(Option::is_some);
        let start = map.next(at as u64).map(|e| e.start.max(at as u64));
        assert_eq!(start, next.map(|n| (at + n) as u64));
    }
    let count = |f: fn(&State) -> bool| model.iter().flatten().filter(|s| f(s)).count() as u64;
    assert_eq!(map.reserved_blocks(), count(|s| *s == State::Reserved));
    let claimed = count(|s| matches!(s, State::Claimed(_)));
    assert_eq!(map.claimed_blocks(), claimed);
    // Neighbours that continue each other are one.
    let mut at = 0;
    while let Some(e) = map.next(at) {
        if let Some(next) = map.find(e.end) {
            let (a, b) = (e.phys_at(e.end - 1), next.phys_at(e.end));
            let follows = match (a, b) {
                (Some(a), Some(b)) => a.checked_add(1) == Some(b),
                (None, None) => e.state == next.state,
                _ => false,
            };
            assert!(!follows, "{e:?} {next:?} could be one");
        }
        at = e.end;
    }
}

fn map(input: &mut Input<'_>) {
    let mut map = RangeMap::new();
    let mut model: Vec<Option<u8>> = vec![None; BLOCKS];
    while !input.is_empty() {
        let (what, start, end) = range(input);
        let (first, last, value) = (start as u64, end as u64, what >> 4);
        let free = model[start..end].iter().all(Option::is_none);
        match what & 3 {
            0 => {
                let done = map.insert(first, last, value);
                assert_eq!(done, free && start < end);
                if done {
                    model[start..end].fill(Some(value));
                }
            }
            1 => {
                assert!(map.remove(first, last));
                model[start..end].fill(None);
            }
            2 => {
                if map.set(first, last, value) {
                    model[start..end].fill(Some(value));
                } else {
                    assert!(start == end);
                }
            }
            _ => map.join_at(first),
        }
    }
    let mut at = 0;
    for (start, end, value) in map.iter_from(0) {
        assert!(start >= at && start < end);
        let gap = &model[at as usize..start as usize];
        assert!(gap.iter().all(Option::is_none));
        let cells = &model[start as usize..end as usize];
        assert!(cells.iter().all(|c| *c == Some(value)));
        at = end;
    }
    assert!(model[at as usize..].iter().all(Option::is_none));
    for (at, cell) in model.iter().enumerate() {
        assert_eq!(map.get(at as u64).map(|(_, _, v)| v), *cell);
        let ceil = map.ceil(at as u64).map(|(start, _, _)| start);
        assert!(ceil.is_none_or(|start| start >= at as u64 && model[start as usize].is_some()));
    }
}

fn counted(input: &mut Input<'_>) {
    let mut set = Counted::new();
    let mut model = vec![0u32; BLOCKS];
    while !input.is_empty() {
        let (what, start, end) = range(input);
        let (first, len) = (start as u64, (end - start) as u64);
        if what & 1 == 0 {
            set.pin(first, len).unwrap();
            model[start..end].iter_mut().for_each(|c| *c += 1);
        } else if model[start..end].iter().all(|c| *c > 0) {
            set.reserve_unpin().unwrap();
            let mut gone = vec![false; BLOCKS];
            set.unpin(first, len, |at, len| {
                gone[at as usize..(at + len) as usize].fill(true);
            });
            for (i, cell) in model[start..end].iter_mut().enumerate() {
                *cell -= 1;
                assert_eq!(gone[start + i], *cell == 0);
            }
        }
        let pinned = model[start..end].iter().any(|c| *c > 0);
        assert_eq!(set.is_pinned(first, len), pinned);
    }
    for (at, count) in model.iter().enumerate() {
        assert_eq!(set.is_pinned(at as u64, 1), *count > 0);
    }
    assert_eq!(set.is_empty(), model.iter().all(|c| *c == 0));
}

fn bits(input: &mut Input<'_>) {
    let mut bytes = vec![0u8; BLOCKS / 8 + 1];
    let mut plane = vec![0u64; BLOCKS / 64 + 1];
    let mut model = vec![false; BLOCKS];
    while !input.is_empty() {
        let (what, start, end) = range(input);
        let len = end - start;
        let set = what & 1 != 0;
        if set {
            bitmap::set_bytes(&mut bytes, start, len);
            bitmap::set_range(&mut plane, start, len);
        } else {
            bitmap::clear_bytes(&mut bytes, start, len);
            bitmap::clear_range(&mut plane, start, len);
        }
        model[start..end].fill(set);
        let at = usize::from(what) % BLOCKS;
        let next = |value| (at..BLOCKS).find(|&i| model[i] == value);
        assert_eq!(bitmap::first_set(&plane, at), next(true));
        let zero = bitmap::first_zero(&plane, at).filter(|&i| i < BLOCKS);
        assert_eq!(zero, next(false));
        let count = model[at..].iter().filter(|b| **b).count();
        assert_eq!(bitmap::count_range(&plane, at, BLOCKS - at), count);
        assert_eq!(bitmap::count_bytes(&bytes, at, BLOCKS - at), count);
    }
    let mut loaded = vec![0u64; plane.len()];
    bytes.resize(loaded.len() * 8, 0);
    bitmap::load_plane(&bytes, &mut loaded);
    assert_eq!(loaded, plane);
    for (at, &is) in model.iter().enumerate() {
        assert!(bitmap::test(&plane, at) == is && bitmap::test_byte(&bytes, at) == is);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for head in 0..4 {
        for step in [1u8, 7, 24, 51] {
            let mut bytes = vec![head];
            for i in 0..80u8 {
                bytes.extend([i.wrapping_mul(step), i.wrapping_mul(29), i & 1, i / 3]);
            }
            all.push(bytes);
        }
    }
    all
}

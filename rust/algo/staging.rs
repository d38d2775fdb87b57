// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The staging map of an inode: file data that has, or will have, a place which no tree names yet.
//!
//! ```text
//!   (nothing) --reserve--> Reserved --claim--> Claimed --completion--> (mapped by the extent tree)
//!                             ^                   |
//!                             +------ revert -----+      after an I/O error (C6)
//! ```
//!
//! *Reserved*: space is set aside, no blocks are chosen. *Claimed*: blocks are chosen in memory,
//! and nothing on disk says so; I/O to them may be in flight (the allocator counts that, C2).
//! *Convert*: the file range is preallocated on disk and becomes written at completion; the entry
//! needs no block, it only stands for the metadata that the conversion may need (B2b).
//!
//! All changes are infallible once [`Staging::make_room`] has succeeded: *reserve outside, insert
//! inside*.

use crate::algo::rangemap::RangeMap;
use crate::format::types::BlockNr;
use crate::seam::NoMem;

/// State of a staged range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Space set aside, no blocks chosen.
    Reserved,
    /// Blocks chosen; the first block of the range is this one, the others follow.
    Claimed(BlockNr),
    /// Preallocated on disk, to be converted in place.
    Convert,
}

/// How a range is kept. A claim stores physical minus file block, so that cutting a range does
/// not change its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Reserved,
    Claimed { delta: u64 },
    Convert,
}

/// A staged range of file blocks, `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First file block.
    pub start: u64,
    /// One past the last file block.
    pub end: u64,
    /// What it is.
    pub state: State,
}

impl Entry {
    fn new(start: u64, end: u64, slot: Slot) -> Self {
        let state = match slot {
            Slot::Reserved => State::Reserved,
            Slot::Claimed { delta } => State::Claimed(BlockNr::new(start.wrapping_add(delta))),
            Slot::Convert => State::Convert,
        };
        Self { start, end, state }
    }

    /// Blocks in the range.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Never: an entry has at least one block.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is it data on its way (reserved or claimed)?
    pub fn is_data(&self) -> bool {
        self.state != State::Convert
    }

    /// The claimed block of file block `fblk`.
    pub fn phys_at(&self, fblk: u64) -> Option<BlockNr> {
        match self.state {
            State::Claimed(first) if (self.start..self.end).contains(&fblk) => Some(BlockNr::new(
                first.get().wrapping_add(fblk.wrapping_sub(self.start)),
            )),
            _ => None,
        }
    }

    /// The part inside `[start, end)`, if there is one.
    pub fn clip(&self, start: u64, end: u64) -> Option<Self> {
        let (s, e) = (self.start.max(start), self.end.min(end));
        if s >= e {
            return None;
        }
        let state = match self.state {
            State::Claimed(_) => State::Claimed(self.phys_at(s)?),
            other => other,
        };
        Some(Self {
            start: s,
            end: e,
            state,
        })
    }
}

/// What [`Staging::need`] must know of the extent tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeShape {
    /// Level of the root in the inode record; 0 when the extents are all there.
    pub root_level: u8,
    /// Records in the root.
    pub root_records: u64,
    /// Records of a full leaf block.
    pub leaf_records: u64,
    /// Records of a full internal block.
    pub node_records: u64,
    /// Extent records that fit in the inode record.
    pub inline_leaf: u64,
    /// Child records that fit in the inode record.
    pub inline_node: u64,
}

/// The staging map. Guarded by the inode's extent lock.
pub struct Staging {
    map: RangeMap<Slot>,
    reserved: u64,
    claimed: u64,
}

impl Default for Staging {
    fn default() -> Self {
        Self::new()
    }
}

impl Staging {
    /// An empty map.
    pub fn new() -> Self {
        Self {
            map: RangeMap::new(),
            reserved: 0,
            claimed: 0,
        }
    }

    /// Nothing staged?
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Ranges.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Reserved blocks.
    pub fn reserved_blocks(&self) -> u64 {
        self.reserved
    }

    /// Claimed blocks.
    pub fn claimed_blocks(&self) -> u64 {
        self.claimed
    }

    /// The range that covers `fblk`.
    pub fn find(&self, fblk: u64) -> Option<Entry> {
        let (s, e, slot) = self.map.get(fblk)?;
        Some(Entry::new(s, e, slot))
    }

    /// The range that covers `fblk`, or else the first one after it.
    pub fn next(&self, fblk: u64) -> Option<Entry> {
        if let Some(e) = self.find(fblk) {
            return Some(e);
        }
        let (s, e, slot) = self.map.ceil(fblk)?;
        Some(Entry::new(s, e, slot))
    }

    /// The range that covers `fblk`, or else the first one after it, data on its way only.
    pub fn next_data(&self, fblk: u64) -> Option<Entry> {
        let mut at = fblk;
        loop {
            let e = self.next(at)?;
            if e.is_data() {
                return Some(e);
            }
            at = e.end;
        }
    }

    /// The range that covers `fblk`, and the first block of the next range that begins after `fblk`, or
    /// `u64::MAX`.
    pub fn around(&self, fblk: u64) -> (Option<Entry>, u64) {
        let (at, next) = self.map.around(fblk);
        let at = at.map(|(s, e, slot)| Entry::new(s, e, slot));
        (at, next.unwrap_or(u64::MAX))
    }

    /// First block of the next range that begins after `fblk`; `u64::MAX` if none.
    pub fn next_start(&self, fblk: u64) -> u64 {
        self.around(fblk).1
    }

    /// Makes `n` of the changes below infallible.
    pub fn make_room(&mut self, n: usize) -> Result<(), NoMem> {
        // Each change cuts one range in up to three.
        self.map.reserve(n.saturating_mul(2))
    }

    /// Reserves the vacant range `[start, end)`.
    pub fn reserve(&mut self, start: u64, end: u64) {
        self.put(start, end, Slot::Reserved)
    }

    /// Stages the vacant range `[start, end)` for conversion in place.
    pub fn convert(&mut self, start: u64, end: u64) {
        self.put(start, end, Slot::Convert)
    }

    /// Turns the reserved range of `len` blocks at `start` into a claim of the blocks at `phys`.
    pub fn claim(&mut self, start: u64, len: u64, phys: BlockNr) {
        let end = start.saturating_add(len);
        let delta = phys.get().wrapping_sub(start);
        self.cut(start, end);
        self.put(start, end, Slot::Claimed { delta })
    }

    /// Turns the claims in `[start, end)` back into reservations (C6).
    pub fn revert(&mut self, start: u64, end: u64) {
        let mut at = start;
        while let Some(e) = self.next(at).and_then(|e| e.clip(at, end)) {
            if matches!(e.state, State::Claimed(_)) {
                self.cut(e.start, e.end);
                self.put(e.start, e.end, Slot::Reserved);
            }
            at = e.end;
        }
    }

    /// Removes whatever is staged in `[start, end)`.
    pub fn remove(&mut self, start: u64, end: u64) {
        self.cut(start, end)
    }

    fn count(&mut self, slot: Slot, len: u64, add: bool) {
        let n = match slot {
            Slot::Reserved => &mut self.reserved,
            Slot::Claimed { .. } => &mut self.claimed,
            Slot::Convert => return,
        };
        *n = if add {
            n.saturating_add(len)
        } else {
            n.saturating_sub(len)
        };
    }

    /// Inserts into a vacant range and joins with equal neighbours.
    fn put(&mut self, start: u64, end: u64, slot: Slot) {
        if self.map.add(start, end, slot) {
            self.count(slot, end - start, true);
        }
    }

    /// Empties `[start, end)`.
    fn cut(&mut self, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let found = self.map.get(at).or_else(|| self.map.ceil(at));
            let Some((s, e, slot)) = found else { break };
            let (s, e) = (s.max(at), e.min(end));
            if s >= e {
                break;
            }
            self.map.remove(s, e);
            self.count(slot, e - s, false);
            at = e;
        }
    }

    /// Tree blocks that completing everything staged may add to the extent tree, at worst (B2b).
    ///
    /// At worst every reserved block becomes an extent of its own, and every range cuts an old
    /// extent in two. On a level, the first insertion into a node that was full may split it (no
    /// more often than there are nodes or ranges), after that half a node of insertions is needed
    /// for each split.
    ///
    /// Counts `more` blocks as reserved that are not yet. Does not get smaller with more ranges or blocks.
    pub fn need(&self, shape: &TreeShape, more: u64) -> u64 {
        let ranges = u64::try_from(self.len()).unwrap_or(u64::MAX);
        if ranges == 0 {
            return 0;
        }
        let reserved = self.reserved.saturating_add(more);
        let level0 = reserved.saturating_add(ranges.saturating_mul(2));
        let mut adds = level0;
        let mut need = 0u64;
        // Enough levels for any tree; each turn leaves the loop when the root can hold the rest.
        for level in 0..=shape.root_level.saturating_add(8) {
            let (full, inline) = if level == 0 {
                (shape.leaf_records, shape.inline_leaf)
            } else {
                (shape.node_records, shape.inline_node)
            };
            let below = level < shape.root_level;
            let nodes = if below {
                self.nodes_on(shape, level)
            } else {
                if level == shape.root_level {
                    // Unless they fit, the root's records move down into a block of their own.
                    adds = adds.saturating_add(shape.root_records);
                }
                if adds <= inline {
                    break;
                }
                0
            };
            let half = (full / 2).max(1);
            let splits = nodes.min(ranges).saturating_add(adds.div_ceil(half));
            need = need.saturating_add(splits);
            adds = splits;
        }
        need.saturating_add(u64::from(shape.root_level))
    }

    /// Most nodes that level `level`, below the root's, can have.
    fn nodes_on(&self, shape: &TreeShape, level: u8) -> u64 {
        let mut n = shape.root_records;
        for _ in level..shape.root_level.saturating_sub(1) {
            n = n.saturating_mul(shape.node_records);
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(level: u8, records: u64) -> TreeShape {
        TreeShape {
            root_level: level,
            root_records: records,
            leaf_records: 144,
            node_records: 201,
            inline_leaf: 3,
            inline_node: 5,
        }
    }

    fn entries(s: &Staging) -> Vec<(u64, u64, State)> {
        let mut v = Vec::new();
        let mut at = 0;
        while let Some(e) = s.next(at) {
            v.push((e.start, e.end, e.state));
            at = e.end;
        }
        v
    }

    #[test]
    fn reservations_join_and_claims_split() {
        let mut s = Staging::new();
        s.make_room(8).unwrap();
        s.reserve(0, 10);
        s.reserve(20, 30);
        s.reserve(10, 20);
        assert_eq!(entries(&s), [(0, 30, State::Reserved)]);
        assert_eq!(s.reserved_blocks(), 30);
        s.claim(5, 10, BlockNr::new(1000));
        assert_eq!(
            entries(&s),
            [
                (0, 5, State::Reserved),
                (5, 15, State::Claimed(BlockNr::new(1000))),
                (15, 30, State::Reserved),
            ]
        );
        assert_eq!((s.reserved_blocks(), s.claimed_blocks()), (20, 10));
        assert_eq!(s.find(7).unwrap().phys_at(7), Some(BlockNr::new(1002)));
        s.remove(7, 8);
        assert_eq!(s.find(7), None);
        assert_eq!(s.find(8).unwrap().state, State::Claimed(BlockNr::new(1003)));
        assert_eq!(s.next_start(7), 8);
        assert_eq!(s.next_start(6), 8);
        s.revert(0, 100);
        assert_eq!(
            entries(&s),
            [(0, 7, State::Reserved), (8, 30, State::Reserved)]
        );
        s.remove(0, u64::MAX);
        assert!(s.is_empty());
        assert_eq!((s.reserved_blocks(), s.claimed_blocks()), (0, 0));
    }

    #[test]
    fn claims_join_only_when_both_sides_follow() {
        let mut s = Staging::new();
        s.make_room(8).unwrap();
        s.reserve(0, 12);
        s.claim(0, 4, BlockNr::new(100));
        s.claim(4, 4, BlockNr::new(104));
        s.claim(8, 4, BlockNr::new(300));
        assert_eq!(
            entries(&s),
            [
                (0, 8, State::Claimed(BlockNr::new(100))),
                (8, 12, State::Claimed(BlockNr::new(300))),
            ]
        );
    }

    #[test]
    fn converts_are_not_data() {
        let mut s = Staging::new();
        s.make_room(4).unwrap();
        s.convert(3, 9);
        s.reserve(12, 13);
        assert_eq!(s.next_data(0).unwrap().start, 12);
        assert_eq!(s.reserved_blocks(), 1);
        assert_eq!(s.next_start(3), 12);
    }

    #[test]
    fn a_few_extents_need_no_tree_blocks() {
        let mut s = Staging::new();
        assert_eq!(s.need(&shape(0, 3), 0), 0);
        s.make_room(1).unwrap();
        s.convert(0, 1);
        assert_eq!(s.need(&shape(0, 1), 0), 0);
        assert_eq!(s.need(&shape(0, 2), 0), 1);
    }

    #[test]
    fn need_grows_with_what_is_staged_and_with_the_tree() {
        let mut s = Staging::new();
        s.make_room(2000).unwrap();
        let mut last = 0;
        for i in 0..1000 {
            s.reserve(i * 2, i * 2 + 1);
            let n = s.need(&shape(2, 5), 0);
            assert!(n >= last && n <= s.need(&shape(2, 5), 64));
            last = n;
        }
        // Every one may hit another full leaf.
        assert!(last >= 1000, "{last}");
        let mut t = Staging::new();
        t.make_room(2).unwrap();
        t.reserve(0, 7200);
        let n = t.need(&shape(0, 0), 0);
        assert!((100..130).contains(&n), "{n}");
        let ahead = t.need(&shape(0, 0), 100);
        t.reserve(7200, 7300);
        assert_eq!(t.need(&shape(0, 0), 0), ahead);
    }

    #[test]
    fn model() {
        // A small generator is enough: no dependency, the same run every time.
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        let mut rnd = move |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        let mut model: Vec<Option<State>> = vec![None; 200];
        let mut s = Staging::new();
        for round in 0..20_000u64 {
            s.make_room(200).unwrap();
            let a = rnd(200);
            let b = (a + 1 + rnd(20)).min(200);
            match rnd(5) {
                op @ (0 | 1) => {
                    if (a..b).all(|i| model[i as usize].is_none()) {
                        let st = if op == 0 {
                            s.reserve(a, b);
                            State::Reserved
                        } else {
                            s.convert(a, b);
                            State::Convert
                        };
                        (a..b).for_each(|i| model[i as usize] = Some(st));
                    }
                }
                2 => {
                    if (a..b).all(|i| model[i as usize] == Some(State::Reserved)) {
                        let p = 1000 + rnd(4) * 500 + a;
                        s.claim(a, b - a, BlockNr::new(p));
                        for i in a..b {
                            model[i as usize] = Some(State::Claimed(BlockNr::new(p + i - a)));
                        }
                    }
                }
                3 => {
                    s.revert(a, b);
                    for m in &mut model[a as usize..b as usize] {
                        if matches!(m, Some(State::Claimed(_))) {
                            *m = Some(State::Reserved);
                        }
                    }
                }
                _ => {
                    s.remove(a, b);
                    model[a as usize..b as usize].fill(None);
                }
            }
            let mut reserved = 0;
            for (i, m) in model.iter().enumerate() {
                let got = s
                    .find(i as u64)
                    .and_then(|e| e.clip(i as u64, i as u64 + 1));
                assert_eq!(got.map(|e| e.state), *m, "round {round} block {i}");
                reserved += u64::from(*m == Some(State::Reserved));
            }
            assert_eq!(s.reserved_blocks(), reserved);
        }
    }
}

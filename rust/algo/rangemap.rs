// SPDX-License-Identifier: GPL-2.0 OR MIT

//! An ordered map of disjoint ranges `[start, end)` of `u64` to small values.
//!
//! A treap in one vector: nodes refer to each other by index, priorities come from a counter and
//! are the same in every run. Nothing recurses, nothing is moved on insert.
//!
//! *Reserve outside, insert inside*: an `insert` or an `add` takes one node at most, a `remove` one, a `set`
//! two; while [`RangeMap::spare`] covers them they neither allocate nor fail. Beyond that they try
//! to allocate and return `false`, with the map as it was, when that fails too.
//!
//! Ranges of equal value that touch stay two ranges, but for those that [`RangeMap::add`] and
//! [`RangeMap::join_at`] join. A cut copies the value to both sides: a value
//! that counts along with the range is best kept as a difference to the key.

use crate::seam::{FVec, NoMem};

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node<V> {
    start: u64,
    end: u64,
    left: u32,
    right: u32,
    pri: u32,
    value: V,
}

/// A place that refers to a node.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Left(u32),
    Right(u32),
}

/// The map; see the [module](self).
pub struct RangeMap<V> {
    nodes: FVec<Node<V>>,
    root: u32,
    /// Unused nodes, linked through `left`.
    free: u32,
    nfree: usize,
    len: usize,
    counter: u32,
}

impl<V: Copy + Eq> Default for RangeMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Copy + Eq> RangeMap<V> {
    /// An empty map without memory.
    pub const fn new() -> Self {
        Self {
            nodes: FVec::new(),
            root: NIL,
            free: NIL,
            nfree: 0,
            len: 0,
            counter: 0,
        }
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nodes that can still be taken without memory.
    pub fn spare(&self) -> usize {
        self.nfree
            .saturating_add(self.nodes.capacity().saturating_sub(self.nodes.len()))
    }

    /// Makes `spare` at least `extra`.
    pub fn reserve(&mut self, extra: usize) -> Result<(), NoMem> {
        match extra.checked_sub(self.nfree) {
            Some(more) if more > 0 => self.nodes.reserve(more),
            _ => Ok(()),
        }
    }

    /// The last range that starts at or before `key`.
    pub fn floor(&self, key: u64) -> Option<(u64, u64, V)> {
        let (mut at, mut best) = (self.root, None);
        while let Some(node) = self.node(at) {
            if node.start <= key {
                best = Some((node.start, node.end, node.value));
                at = node.right;
            } else {
                at = node.left;
            }
        }
        best
    }

    /// The first range that starts at or after `key`.
    pub fn ceil(&self, key: u64) -> Option<(u64, u64, V)> {
        let (mut at, mut best) = (self.root, None);
        while let Some(node) = self.node(at) {
            if node.start >= key {
                best = Some((node.start, node.end, node.value));
                at = node.left;
            } else {
                at = node.right;
            }
        }
        best
    }

    /// The range that contains `key`.
    pub fn get(&self, key: u64) -> Option<(u64, u64, V)> {
        self.floor(key).filter(|(_, end, _)| key < *end)
    }

    /// The range that contains `key`, and where the first range that starts after it does.
    pub fn around(&self, key: u64) -> (Option<(u64, u64, V)>, Option<u64>) {
        let (before, after) = self.neighbours(key);
        let at = self.node(before).filter(|node| key < node.end);
        let next = self.node(after).map(|node| node.start);
        (at.map(|node| (node.start, node.end, node.value)), next)
    }

    /// The ranges that end after `key`, ascending.
    pub fn iter_from(&self, key: u64) -> Iter<'_, V> {
        Iter {
            map: self,
            next: Some(key),
        }
    }

    /// Adds a range. `false`, and nothing done, if it is empty or not vacant, or if there is neither
    /// a spare node nor memory.
    pub fn insert(&mut self, start: u64, end: u64, value: V) -> bool {
        let vacant = start < end
            && self.get(start).is_none()
            && self.ceil(start).is_none_or(|(next, _, _)| next >= end);
        if !vacant {
            return false;
        }
        let pri = self.priority();
        let Some(new) = self.take(Node {
            start,
            end,
            left: NIL,
            right: NIL,
            pri,
            value,
        }) else {
            return false;
        };
        let (mut link, mut at) = (Link::Root, self.root);
        while let Some(node) = self.node(at).copied().filter(|node| node.pri >= pri) {
            (link, at) = match node.start < start {
                true => (Link::Right(at), node.right),
                false => (Link::Left(at), node.left),
            };
        }
        self.link(link, new);
        // What was here goes below the new node, divided at its key.
        let (mut left, mut right) = (Link::Left(new), Link::Right(new));
        while let Some(node) = self.node(at).copied() {
            if node.start < start {
                self.link(left, at);
                (left, at) = (Link::Right(at), node.right);
            } else {
                self.link(right, at);
                (right, at) = (Link::Left(at), node.left);
            }
        }
        self.link(left, NIL);
        self.link(right, NIL);
        self.len = self.len.saturating_add(1);
        true
    }

    /// Makes `[start, end)` vacant, cutting ranges that reach over its edges. `false`, and nothing
    /// done, if a range must become two and there is neither a spare node nor memory.
    pub fn remove(&mut self, start: u64, end: u64) -> bool {
        let mut at = start;
        while at < end {
            let Some((first, last, value)) = self.get(at).or_else(|| self.ceil(at)) else {
                break;
            };
            if first >= end {
                break;
            }
            match (first < start, last > end) {
                (false, false) => self.unlink(first),
                (true, false) => self.edit(first, |node| node.end = start),
                (false, true) => self.edit(first, |node| node.start = end),
                (true, true) => {
                    if self.reserve(1).is_err() {
                        return false;
                    }
                    self.edit(first, |node| node.end = start);
                    self.insert(end, last, value);
                }
            }
            at = last;
        }
        true
    }

    /// Gives `[start, end)` one value, whatever was there. Results as of [`RangeMap::remove`].
    pub fn set(&mut self, start: u64, end: u64, value: V) -> bool {
        start < end
            && self.reserve(2).is_ok()
            && self.remove(start, end)
            && self.insert(start, end, value)
    }

    /// [`RangeMap::insert`], and what it touches that has the same value becomes one range with it.
    pub fn add(&mut self, start: u64, end: u64, value: V) -> bool {
        let (before, after) = self.neighbours(start);
        let (left, right) = (self.node(before).copied(), self.node(after).copied());
        let vacant = start < end
            && left.is_none_or(|node| node.end <= start)
            && right.is_none_or(|node| end <= node.start);
        if !vacant {
            return false;
        }
        let right = right.filter(|node| node.start == end && node.value == value);
        let to = right.map_or(end, |node| node.end);
        if right.is_some() {
            self.unlink(end);
        }
        if left.is_some_and(|node| node.end == start && node.value == value) {
            if let Some(node) = self.node_mut(before) {
                node.end = to;
            }
            return true;
        }
        // If there is no memory, nothing was taken out: that would have left a spare node.
        self.insert(start, to, value)
    }

    /// Makes two ranges of equal value that touch at `key` one.
    pub fn join_at(&mut self, key: u64) {
        let Some((_, end, value)) = self.get(key).filter(|(start, _, _)| *start == key) else {
            return;
        };
        let before = key.checked_sub(1).and_then(|key| self.get(key));
        let Some((start, _, _)) = before.filter(|(_, _, other)| *other == value) else {
            return;
        };
        self.unlink(key);
        self.edit(start, |node| node.end = end);
    }

    /// Removes everything and keeps the memory.
    pub fn clear(&mut self) {
        self.nodes.clear();
        (self.root, self.free, self.nfree, self.len) = (NIL, NIL, 0, 0);
    }

    fn node(&self, at: u32) -> Option<&Node<V>> {
        self.nodes.get(usize::try_from(at).ok()?)
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node<V>> {
        self.nodes.get_mut(usize::try_from(at).ok()?)
    }

    fn link(&mut self, link: Link, to: u32) {
        let place = match link {
            Link::Root => Some(&mut self.root),
            Link::Left(at) => self.node_mut(at).map(|node| &mut node.left),
            Link::Right(at) => self.node_mut(at).map(|node| &mut node.right),
        };
        if let Some(place) = place {
            *place = to;
        }
    }

    /// Well mixed and the same in every run.
    fn priority(&mut self) -> u32 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9);
        let x = self.counter;
        let x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        let x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        x ^ (x >> 16)
    }

    /// Stores a node in an unused place.
    fn take(&mut self, new: Node<V>) -> Option<u32> {
        let at = self.free;
        if let Some(node) = self.node_mut(at) {
            let next = node.left;
            *node = new;
            self.free = next;
            self.nfree = self.nfree.saturating_sub(1);
            return Some(at);
        }
        let at = u32::try_from(self.nodes.len())
            .ok()
            .filter(|at| *at < NIL)?;
        self.nodes.push(new).ok()?;
        Some(at)
    }

    /// Changes the range that starts at `start`, in ways that keep the order.
    fn edit(&mut self, start: u64, f: impl FnOnce(&mut Node<V>)) {
        let (_, at) = self.find(start);
        if let Some(node) = self.node_mut(at) {
            f(node);
        }
    }

    /// The last node that starts at or before `key`, and the first that starts after it.
    fn neighbours(&self, key: u64) -> (u32, u32) {
        let (mut at, mut before, mut after) = (self.root, NIL, NIL);
        while let Some(node) = self.node(at) {
            if node.start <= key {
                (before, at) = (at, node.right);
            } else {
                (after, at) = (at, node.left);
            }
        }
        (before, after)
    }

    /// The node that starts at `start` and what refers to it.
    fn find(&self, start: u64) -> (Link, u32) {
        let (mut link, mut at) = (Link::Root, self.root);
        while let Some(node) = self.node(at).filter(|node| node.start != start) {
            (link, at) = match node.start < start {
                true => (Link::Right(at), node.right),
                false => (Link::Left(at), node.left),
            };
        }
        (link, at)
    }

    /// Takes out the range that starts at `start`.
    fn unlink(&mut self, start: u64) {
        let (mut link, gone) = self.find(start);
        let Some(node) = self.node(gone).copied() else {
            return;
        };
        let (mut left, mut right) = (node.left, node.right);
        // Its subtrees become one, the higher priority on top.
        loop {
            let (Some(l), Some(r)) = (self.node(left).copied(), self.node(right).copied()) else {
                self.link(link, if left == NIL { right } else { left });
                break;
            };
            if l.pri >= r.pri {
                self.link(link, left);
                (link, left) = (Link::Right(left), l.right);
            } else {
                self.link(link, right);
                (link, right) = (Link::Left(right), r.left);
            }
        }
        let free = self.free;
        if let Some(node) = self.node_mut(gone) {
            node.left = free;
            self.free = gone;
            self.nfree = self.nfree.saturating_add(1);
            self.len = self.len.saturating_sub(1);
        }
    }
}

/// Ascending ranges of a map.
pub struct Iter<'a, V> {
    map: &'a RangeMap<V>,
    next: Option<u64>,
}

impl<V: Copy + Eq> Iterator for Iter<'_, V> {
    type Item = (u64, u64, V);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.next?;
        let range = self.map.get(key).or_else(|| self.map.ceil(key));
        self.next = range.map(|(_, end, _)| end);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn depth(map: &RangeMap<u8>, at: u32) -> usize {
        map.node(at)
            .map_or(0, |n| 1 + depth(map, n.left).max(depth(map, n.right)))
    }

    #[test]
    fn stays_shallow() {
        let mut map = RangeMap::new();
        for i in 0..100_000u64 {
            assert!(map.insert(i * 2, i * 2 + 1, 0));
        }
        assert!(depth(&map, map.root) < 60);
        for i in 0..99_990u64 {
            assert!(map.remove(i * 2, i * 2 + 1));
        }
        assert_eq!(map.len(), 10);
        assert!(depth(&map, map.root) <= 10);
    }

    #[test]
    fn agrees_with_an_array_and_never_allocates_after_reserve() {
        let mut numbers = Random::new(1);
        let mut random = |n| numbers.below(n);
        let mut model = [None; 300];
        let mut map = RangeMap::new();
        for round in 0..60_000 {
            map.reserve(2).unwrap();
            let (capacity, spare) = (map.nodes.capacity(), map.spare());
            assert!(spare >= 2);
            let start = random(300);
            let end = (start + random(20)).min(300);
            let value = random(3) as u8;
            let slots = &mut model[start as usize..end as usize];
            match random(5) {
                0 => {
                    let vacant = start < end && slots.iter().all(Option::is_none);
                    assert_eq!(map.insert(start, end, value), vacant);
                    if vacant {
                        slots.fill(Some(value));
                    }
                }
                1 => {
                    assert!(map.remove(start, end));
                    slots.fill(None);
                }
                2 => {
                    assert_eq!(map.set(start, end, value), start < end);
                    slots.fill(Some(value));
                }
                3 => {
                    let vacant = start < end && slots.iter().all(Option::is_none);
                    let touch = |at: Option<u64>| {
                        let found = map.get(at?)?;
                        (found.2 == value).then_some((found.0, found.1))
                    };
                    let left = touch(start.checked_sub(1)).map_or(start, |r| r.0);
                    let right = touch(Some(end)).map_or(end, |r| r.1);
                    assert_eq!(map.add(start, end, value), vacant);
                    if vacant {
                        slots.fill(Some(value));
                        assert_eq!(map.get(start), Some((left, right, value)));
                    }
                }
                _ => map.join_at(start),
            }
            assert_eq!(map.nodes.capacity(), capacity);
            if round % 97 != 0 {
                continue;
            }
            let mut at = 0;
            let mut ranges = 0;
            for (start, end, value) in map.iter_from(0) {
                assert!(start >= at && start < end);
                assert!(model[at as usize..start as usize]
                    .iter()
                    .all(Option::is_none));
                assert!(model[start as usize..end as usize]
                    .iter()
                    .all(|v| *v == Some(value)));
                (at, ranges) = (end, ranges + 1);
            }
            assert!(model[at as usize..].iter().all(Option::is_none));
            assert_eq!((map.len(), map.is_empty()), (ranges, ranges == 0));
            for (i, value) in model.iter().enumerate() {
                let found = map.get(i as u64);
                assert_eq!(found.map(|r| r.2), *value);
                let next = map.ceil(i as u64 + 1).map(|r| r.0);
                assert_eq!(map.around(i as u64), (found, next));
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A set of ranges with a count on each: how many I/Os are under way on a block (C2).

use super::rangemap::RangeMap;
use crate::seam::NoMem;

/// The set. Counts saturate at `u32::MAX` and then stay.
pub struct Counted {
    map: RangeMap<u32>,
}

impl Default for Counted {
    fn default() -> Self {
        Self::new()
    }
}

impl Counted {
    /// An empty set without memory.
    pub const fn new() -> Self {
        Self {
            map: RangeMap::new(),
        }
    }

    /// Whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Makes `n` calls of [`Counted::pin`] infallible, if each range is vacant or pinned as a whole.
    pub fn reserve(&mut self, n: usize) -> Result<(), NoMem> {
        self.map.reserve(n.saturating_mul(2))
    }

    /// Makes one call of [`Counted::unpin`] infallible.
    pub fn reserve_unpin(&mut self) -> Result<(), NoMem> {
        self.map.reserve(2)
    }

    /// Counts one more on `[start, start + len)`. On an error nothing has changed.
    pub fn pin(&mut self, start: u64, len: u64) -> Result<(), NoMem> {
        let end = start.saturating_add(len);
        // Two for the cuts at the edges, one for each gap.
        let mut need: usize = 2;
        let mut at = start;
        while let Some((_, next, taken)) = self.piece(at, end) {
            need = need.saturating_add(usize::from(taken.is_none()));
            at = next;
        }
        self.map.reserve(need)?;
        self.change(
            start,
            end,
            |count| Some(count.unwrap_or(0).saturating_add(1)),
            |_, _| (),
        );
        Ok(())
    }

    /// Counts one less on `[start, start + len)` and calls `f(start, len)` for every piece that
    /// nobody pins any more. After [`Counted::reserve_unpin`] it needs no memory.
    pub fn unpin(&mut self, start: u64, len: u64, f: impl FnMut(u64, u64)) {
        let less = |count: Option<u32>| match count? {
            u32::MAX => Some(u32::MAX),
            count => Some(count.saturating_sub(1)).filter(|count| *count > 0),
        };
        self.change(start, start.saturating_add(len), less, f)
    }

    /// Whether any block of `[start, start + len)` is pinned.
    pub fn is_pinned(&self, start: u64, len: u64) -> bool {
        self.next_pinned(start)
            .is_some_and(|(next, _)| next.max(start) < start.saturating_add(len))
    }

    /// The first pinned range (of one count) that ends after `from`: start and end.
    pub fn next_pinned(&self, from: u64) -> Option<(u64, u64)> {
        self.map
            .iter_from(from)
            .next()
            .map(|(start, end, _)| (start, end))
    }

    /// The first piece of `[at, end)` that has one count: start, end, count.
    fn piece(&self, at: u64, end: u64) -> Option<(u64, u64, Option<u32>)> {
        if at >= end {
            return None;
        }
        Some(match self.map.get(at) {
            Some((_, last, count)) => (at, last.min(end), Some(count)),
            None => (
                at,
                self.map.ceil(at).map_or(end, |(next, _, _)| next.min(end)),
                None,
            ),
        })
    }

    fn change(
        &mut self,
        start: u64,
        end: u64,
        count: impl Fn(Option<u32>) -> Option<u32>,
        mut gone: impl FnMut(u64, u64),
    ) {
        let mut at = start;
        while let Some((from, to, old)) = self.piece(at, end) {
            match count(old) {
                Some(new) => {
                    // Spare nodes were reserved by the caller.
                    self.map.remove(from, to);
                    self.map.insert(from, to, new);
                    self.map.join_at(from);
                }
                None if old.is_some() => {
                    self.map.remove(from, to);
                    gone(from, to.saturating_sub(from));
                }
                None => (),
            }
            at = to;
        }
        self.map.join_at(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn agrees_with_an_array_of_counts() {
        let mut numbers = Random::new(1);
        let mut random = |n| numbers.below(n);
        let mut model = [0u32; 200];
        let mut set = Counted::new();
        let mut pins = Vec::new();
        for _ in 0..50_000 {
            if pins.is_empty() || (pins.len() < 30 && random(2) == 0) {
                let start = random(190);
                let len = 1 + random(10);
                set.pin(start, len).unwrap();
                pins.push((start, len));
                model[start as usize..][..len as usize]
                    .iter_mut()
                    .for_each(|n| *n += 1);
            } else {
                let i = random(pins.len() as u64) as usize;
                let (start, len) = pins[i];
                // Sometimes only the first part.
                let part = 1 + random(len);
                pins.swap_remove(i);
                if part < len {
                    pins.push((start + part, len - part));
                }
                set.reserve_unpin().unwrap();
                let (spare, mut freed) = (set.map.spare(), Vec::new());
                assert!(spare >= 2);
                set.unpin(start, part, |start, len| freed.extend(start..start + len));
                for (i, n) in model
                    .iter_mut()
                    .enumerate()
                    .skip(start as usize)
                    .take(part as usize)
                {
                    *n -= 1;
                    assert_eq!(*n == 0, freed.contains(&(i as u64)));
                }
            }
            let mut counts = [0; 200];
            let mut last = (0, 0);
            for (start, end, n) in set.map.iter_from(0) {
                assert!((start, n) != last && n > 0, "ranges that touch are joined");
                last = (end, n);
                counts[start as usize..end as usize].fill(n);
            }
            assert_eq!(counts, model);
            let start = random(200);
            let pinned = model[start as usize..].iter().take(5).any(|n| *n > 0);
            assert_eq!(set.is_pinned(start, 5), pinned);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Which sequence has which number: pairs of operations, what makes each durable, and the configuration.
//!
//! The pairs come in an order that the seed chooses. A round goes once through all of them; from round to round, each pair has
//! the next placement of syncs. All `complete()` sequences therefore are each pair with each
//! placement, in one configuration; four times as many are each of these in each configuration. The first few are a
//! mixture already: any 36 in a row of a round have each placement, the first 144 each of these in each configuration.

use crate::bench::Sync;
use crate::disks::{Config, CONFIGS};
use crate::ops::OPS;
use calf_vmlib::rng::Rng;

const SYNCS: usize = Sync::ALL.len();
const PLACEMENTS: usize = SYNCS * SYNCS;
const PAIRS: usize = OPS.len() * OPS.len();

/// So many sequences are each pair with each placement.
pub fn complete() -> u64 {
    (PAIRS * PLACEMENTS) as u64
}

/// What follows the first operation, and the second. The first six have everything at both places.
fn placement(n: usize) -> [Sync; 2] {
    let (first, turn) = (n % SYNCS, n / SYNCS % SYNCS);
    [Sync::ALL[first], Sync::ALL[(first + turn + 2) % SYNCS]]
}

/// Two operations, and what follows each.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    number: u64,
    /// Number of the configuration.
    pub config: usize,
    /// Numbers of the operations, and what follows.
    pub steps: [(usize, Sync); 2],
}

impl Sequence {
    /// Number `n` of a seed.
    pub fn new(seed: u64, n: u64) -> Sequence {
        let mut order: Vec<usize> = (0..PAIRS).collect();
        let mut rng = Rng::new(seed);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
        let (round, i) = (n as usize / PAIRS, n as usize % PAIRS);
        let pair = order[i];
        let [first, last] = placement(i + round);
        // Moves on with each placement, and by one more when these begin again.
        let config = (i + i / PLACEMENTS + round + round / PLACEMENTS) % CONFIGS.len();
        Sequence {
            number: n,
            config,
            steps: [(pair / OPS.len(), first), (pair % OPS.len(), last)],
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &'static Config {
        &CONFIGS[self.config]
    }
}

impl std::fmt::Display for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sequence {} (", self.number)?;
        for (op, sync) in self.steps {
            write!(f, "{} {sync:?}, ", OPS[op].0)?;
        }
        write!(f, "{})", self.config())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    type Seen = BTreeSet<(usize, String, usize)>;

    /// What is different in these numbers: the pair, the placement, the configuration.
    fn seen(numbers: impl Iterator<Item = u64>, pair: bool, config: bool) -> Seen {
        let one = |n| {
            let s = Sequence::new(7, n);
            let [(a, first), (b, last)] = s.steps;
            let p = if pair { a * OPS.len() + b } else { 0 };
            let c = if config { s.config } else { 0 };
            (p, format!("{first:?} {last:?}"), c)
        };
        numbers.map(one).collect()
    }

    #[test]
    fn each_pair_comes_once_a_round() {
        let pairs = PAIRS as u64;
        let pair = |n| Sequence::new(7, n).steps.map(|(op, _)| op);
        let all: BTreeSet<[usize; 2]> = (0..pairs).map(pair).collect();
        assert_eq!(all.len(), PAIRS);
        assert_eq!(pair(3), pair(pairs + 3));
    }

    #[test]
    fn a_pair_meets_every_placement_in_every_configuration() {
        // Some of the pairs; all of them behave alike.
        for i in [0, 1, 35, 36, 777, PAIRS as u64 - 1] {
            let rounds = |n: usize| (0..n as u64).map(move |r| r * PAIRS as u64 + i);
            let once = seen(rounds(PLACEMENTS), true, false);
            assert_eq!(once.len(), PLACEMENTS);
            let all = seen(rounds(PLACEMENTS * CONFIGS.len()), true, true);
            assert_eq!(all.len(), PLACEMENTS * CONFIGS.len());
        }
        assert_eq!(complete(), (PAIRS * PLACEMENTS) as u64);
    }

    #[test]
    fn the_first_ones_are_a_mixture() {
        for start in [0, 17, 5000] {
            let some = seen(start..start + PLACEMENTS as u64, false, false);
            assert_eq!(some.len(), PLACEMENTS);
        }
        let all = PLACEMENTS * CONFIGS.len();
        assert_eq!(seen(0..all as u64, false, true).len(), all);
    }
}

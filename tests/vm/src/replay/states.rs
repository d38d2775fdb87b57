// SPDX-License-Identifier: GPL-2.0

//! Which contents of the device a crash may have left, by a log of writes.
//!
//! Between two flushes, the device has what stood before the first, each FUA write from the moment that
//! it was done, and any of the plain writes, block by block. A plain write stands in the log before the
//! flush that follows, not where it was done, so it may be *later* than all FUA writes between the two.
//! States with some of the plain writes therefore have all of these FUA writes: such a state is possible for certain (just
//! before the second flush), and one without may not be.

use crate::log::Entry;
use calf_vmlib::rng::{mix, Rng};
use std::collections::HashSet;

/// Contents of a device, with a sum that changes when they do.
#[derive(Clone)]
pub struct Image {
    /// The bytes.
    pub bytes: Vec<u8>,
    sum: u64,
}

const SECTOR: usize = 512;

fn sum(at: usize, sector: &[u8]) -> u64 {
    let words = sector.chunks_exact(8);
    let word = |w: &[u8]| u64::from_le_bytes(w.try_into().unwrap_or_default());
    words.fold(mix(at as u64), |s, w| mix(s ^ word(w)))
}

impl Image {
    /// Contents that the log begins with.
    pub fn new(bytes: Vec<u8>) -> Image {
        Image { bytes, sum: 0 }
    }

    /// Writes whole sectors and returns what was there.
    fn write(&mut self, at: usize, data: &[u8]) -> Vec<u8> {
        let place = &mut self.bytes[at..at + data.len()];
        let old = place.to_vec();
        for (i, (new, old)) in data.chunks(SECTOR).zip(old.chunks(SECTOR)).enumerate() {
            let at = at + i * SECTOR;
            // XOR: what is written back takes its old sum out again.
            self.sum ^= sum(at, new) ^ sum(at, old);
        }
        place.copy_from_slice(data);
        old
    }
}

/// A possible state.
pub struct State<'a> {
    /// Which one of the sequence, from 0.
    pub number: usize,
    /// Contents of the device.
    pub image: &'a Image,
    /// Marks that were made before the crash: so many.
    pub marks: usize,
    /// How it came to be, for people.
    pub what: String,
}

/// How to walk through a log.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Size of what a crash leaves whole.
    pub block: usize,
    /// Most sets of plain writes that are tried between two flushes.
    pub torn: usize,
    /// For the choice of these.
    pub seed: u64,
    /// This flush (from 0) has no effect, to see whether anybody notices.
    pub lost_flush: Option<usize>,
}

/// Kinds of sets of writes.
const KINDS: usize = 4;

/// Which of `n` writes are done: all but one, one alone, the first few, any.
fn choose(kind: usize, n: usize, rng: &mut Rng) -> Vec<bool> {
    let odd = rng.below(n as u64) as usize;
    let one = |w| match kind % KINDS {
        0 => w != odd,
        1 => w == odd,
        2 => w < odd,
        _ => rng.below(2) == 1,
    };
    (0..n).map(one).collect()
}

struct Walk<'a, F> {
    plan: Plan,
    image: Image,
    marks: usize,
    seen: HashSet<(u64, usize)>,
    number: usize,
    /// The next kind of set: all are tried in turn, however few an interval is given.
    kind: usize,
    judge: &'a mut F,
}

impl<F: FnMut(State) -> bool> Walk<'_, F> {
    /// Returns false if the judge has had enough.
    fn emit(&mut self, what: impl Fn() -> String) -> bool {
        if !self.seen.insert((self.image.sum, self.marks)) {
            return true;
        }
        let state = State {
            number: self.number,
            image: &self.image,
            marks: self.marks,
            what: what(),
        };
        self.number += 1;
        (self.judge)(state)
    }

    /// States that have some of these writes.
    fn torn(&mut self, segment: usize, writes: &[(usize, &[u8])]) -> bool {
        let n = writes.len();
        let mut rng = Rng::new(self.plan.seed ^ mix(segment as u64));
        let every = n < 20 && 1usize << n <= self.plan.torn;
        let count = if every { 1usize << n } else { self.plan.torn };
        for i in 0..count {
            let chosen: Vec<bool> = if every {
                (0..n).map(|w| i >> w & 1 == 1).collect()
            } else {
                self.kind += 1;
                choose(self.kind, n, &mut rng)
            };
            let mut undo = Vec::new();
            for ((at, data), _) in writes.iter().zip(&chosen).filter(|(_, c)| **c) {
                undo.push((*at, self.image.write(*at, data)));
            }
            let go_on = self.emit(|| {
                let set: String = chosen.iter().map(|c| if *c { '1' } else { '0' }).collect();
                format!("before flush {segment}, with writes {set}")
            });
            for (at, old) in undo.into_iter().rev() {
                self.image.write(at, &old);
            }
            if !go_on {
                return false;
            }
        }
        true
    }
}

/// Calls `judge` with every state of `log` from `start` on that is not the same as one before; it returns
/// false to end the walk. Returns the number of states.
pub fn walk(
    start: &Image,
    log: &[Entry],
    plan: Plan,
    judge: &mut impl FnMut(State) -> bool,
) -> usize {
    let mut w = Walk {
        plan,
        image: start.clone(),
        marks: 0,
        seen: HashSet::new(),
        number: 0,
        kind: plan.seed as usize % KINDS,
        judge,
    };
    let mut plain: Vec<(usize, &[u8])> = Vec::new();
    let mut flushes = 0;
    // The end of the log is like a flush, for the device is idle.
    for (i, e) in log.iter().chain([&Entry::Flush]).enumerate() {
        let go_on = match e {
            Entry::Write { at, data } => {
                let at = *at as usize;
                let blocks = data.chunks(plan.block).enumerate();
                plain.extend(blocks.map(|(n, b)| (at + n * plan.block, b)));
                true
            }
            Entry::Durable { at, data } => {
                let go_on = w.emit(|| format!("before entry {i}"));
                w.image.write(*at as usize, data);
                go_on
            }
            // Judged with the largest number of marks, when the contents change.
            Entry::Mark(_) => {
                w.marks += 1;
                true
            }
            Entry::Flush if plan.lost_flush == Some(flushes) => {
                flushes += 1;
                true
            }
            Entry::Flush => {
                let mut go_on = w.emit(|| format!("before flush {flushes}, with no write"));
                go_on = go_on && w.torn(flushes, &plain);
                for (at, data) in plain.drain(..) {
                    w.image.write(at, data);
                }
                flushes += 1;
                go_on
            }
        };
        if !go_on {
            return w.number;
        }
    }
    w.emit(|| "at the end".into());
    w.number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(at: u64, byte: u8, blocks: usize) -> Entry {
        Entry::Write {
            at,
            data: vec![byte; 512 * blocks],
        }
    }

    /// First bytes of the sectors, and the marks, of all states.
    fn states(log: &[Entry], lost_flush: Option<usize>) -> Vec<(Vec<u8>, usize)> {
        let plan = Plan {
            block: 512,
            torn: 16,
            seed: 1,
            lost_flush,
        };
        let mut all = Vec::new();
        let start = Image::new(vec![0; 512 * 4]);
        let n = walk(&start, log, plan, &mut |s| {
            let heads = s.image.bytes.chunks(512).map(|c| c[0]).collect();
            all.push((heads, s.marks));
            true
        });
        assert_eq!(n, all.len());
        all
    }

    #[test]
    fn flushes_and_marks_are_in_order() {
        let durable = Entry::Durable {
            at: 1024,
            data: vec![3; 512],
        };
        let log = [
            plain(0, 1, 2),
            Entry::Flush,
            durable,
            Entry::Mark("ack".into()),
            plain(1536, 4, 1),
        ];
        let all = states(&log, None);
        let want = |bytes: [u8; 4], marks| all.contains(&(bytes.to_vec(), marks));
        // Nothing, either, both; then the FUA write; then the mark, with the last write or without.
        for bytes in [[0; 4], [1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]] {
            assert!(want(bytes, 0), "{bytes:?}");
        }
        assert!(want([1, 1, 3, 0], 1) && want([1, 1, 3, 4], 1));
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn every_kind_of_set_is_tried() {
        // Eight writes in each interval, and too few sets for all kinds.
        let one = |i: u8| {
            let mut w: Vec<Entry> = (0..8).map(|at| plain(at * 512, i, 1)).collect();
            w.push(Entry::Flush);
            w
        };
        let log: Vec<Entry> = (1..=8).flat_map(one).collect();
        for torn in [1, 2, 3] {
            let plan = Plan {
                block: 512,
                torn,
                seed: 5,
                lost_flush: None,
            };
            let (mut some, mut found) = (Vec::new(), [0; KINDS]);
            walk(&Image::new(vec![0; 512 * 8]), &log, plan, &mut |s| {
                let heads = s.image.bytes.chunks(512).map(|c| c[0]);
                some.push(heads.collect::<Vec<u8>>());
                true
            });
            for heads in some {
                let new = heads.iter().max().copied().unwrap_or(0);
                let is: Vec<bool> = heads.iter().map(|b| *b == new).collect();
                let count = is.iter().filter(|b| **b).count();
                let first = is.iter().take_while(|b| **b).count();
                match count {
                    8 => {}
                    7 => found[0] += 1,
                    1 => found[1] += 1,
                    n if n == first => found[2] += 1,
                    _ => found[3] += 1,
                }
            }
            assert!(!found.contains(&0), "{torn} sets: {found:?}");
        }
    }

    #[test]
    fn a_lost_flush_loses_writes() {
        let durable = Entry::Durable {
            at: 1024,
            data: vec![3; 512],
        };
        let log = [plain(0, 1, 1), Entry::Flush, durable];
        let bad = (vec![0, 0, 3, 0], 0);
        assert!(!states(&log, None).contains(&bad));
        assert!(states(&log, Some(0)).contains(&bad));
    }
}

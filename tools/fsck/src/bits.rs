// SPDX-License-Identifier: GPL-2.0

//! A set of blocks. Regions without any take no memory, so that a large empty device costs little.

use calf_core::algo::bitmap;

/// Bits of a chunk.
const CHUNK: u64 = 1 << 15;
const WORDS: usize = (CHUNK / 64) as usize;

/// A set of block numbers below a limit.
#[derive(Clone, Default)]
pub struct Bits {
    chunks: Vec<Option<Box<[u64]>>>,
    limit: u64,
}

impl Bits {
    /// The empty set of numbers below `limit`.
    pub fn new(limit: u64) -> Self {
        // CAST: one pointer for each 32768 blocks has to fit into memory.
        let chunks = limit.div_ceil(CHUNK) as usize;
        Self {
            chunks: vec![None; chunks],
            limit,
        }
    }

    fn chunk(&self, block: u64) -> Option<&[u64]> {
        let at = usize::try_from(block / CHUNK).ok()?;
        self.chunks.get(at)?.as_deref()
    }

    fn chunk_mut(&mut self, block: u64) -> Option<&mut [u64]> {
        let at = usize::try_from(block / CHUNK).ok()?;
        let chunk = self.chunks.get_mut(at)?;
        Some(chunk.get_or_insert_with(|| vec![0; WORDS].into()))
    }

    /// Is the block in the set?
    pub fn has(&self, block: u64) -> bool {
        // CAST: less than a chunk.
        self.chunk(block)
            .is_some_and(|words| bitmap::test(words, (block % CHUNK) as usize))
    }

    /// Adds `len` blocks from `start` on; what lies beyond the limit is left out.
    pub fn add(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len).min(self.limit);
        let mut at = start;
        while at < end {
            let to = (at / CHUNK)
                .saturating_add(1)
                .saturating_mul(CHUNK)
                .min(end);
            if let Some(words) = self.chunk_mut(at) {
                // CAST: less than a chunk.
                bitmap::set_range(words, (at % CHUNK) as usize, (to - at) as usize);
            }
            at = to;
        }
    }

    /// Adds one block; false if it is in the set already, or beyond the limit.
    pub fn take(&mut self, block: u64) -> bool {
        if block >= self.limit || self.has(block) {
            return false;
        }
        self.add(block, 1);
        true
    }

    /// Takes a block out.
    pub fn remove(&mut self, block: u64) {
        if self.has(block) {
            if let Some(words) = self.chunk_mut(block) {
                // CAST: less than a chunk.
                bitmap::clear_range(words, (block % CHUNK) as usize, 1);
            }
        }
    }

    /// How many blocks are in the set.
    pub fn count(&self) -> u64 {
        let chunks = self.chunks.iter().flatten();
        chunks.map(|words| bitmap::count(words) as u64).sum()
    }

    /// The bits from `start`, which divides by 64, up to `end` as bytes.
    pub fn bytes(&self, start: u64, end: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = start;
        while at < end {
            let word = self
                .chunk(at)
                .and_then(|words| words.get((at % CHUNK / 64) as usize));
            out.extend_from_slice(&word.copied().unwrap_or(0).to_le_bytes());
            at = at.saturating_add(64);
        }
        out
    }

    /// The blocks of the set in `[start, end)` as runs: start and length.
    pub fn runs(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut at = start;
        while at < end {
            let next = (at / CHUNK)
                .saturating_add(1)
                .saturating_mul(CHUNK)
                .min(end);
            if let Some(words) = self.chunk(at) {
                for block in at..next {
                    if !bitmap::test(words, (block % CHUNK) as usize) {
                        continue;
                    }
                    match runs.last_mut() {
                        Some(run) if run.0.saturating_add(run.1) == block => {
                            run.1 = run.1.saturating_add(1);
                        }
                        _ => runs.push((block, 1)),
                    }
                }
            }
            at = next;
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let mut bits = Bits::new(100_000);
        assert!(bits.take(99_999) && !bits.take(99_999) && !bits.take(100_000));
        bits.add(32_760, 20);
        bits.add(99_990, 1000);
        assert_eq!(bits.count(), 30);
        assert_eq!(bits.runs(32_765, 100_000), [(32_765, 15), (99_990, 10)]);
        bits.remove(32_765);
        bits.remove(5);
        assert!(!bits.has(32_765) && bits.has(32_766) && !bits.has(1 << 60));
        let bytes = bits.bytes(32_768, 32_768 + 128);
        assert_eq!(
            (bytes.len(), bytes[0], bytes[1], bytes[2]),
            (16, 0xff, 0x0f, 0)
        );
    }
}

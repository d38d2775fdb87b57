// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Bitmaps: as bytes on disk (bit `i` is bit `i % 8` of byte `i / 8`) and as planes of `u64` in
//! memory (bit `i` is bit `i % 64` of word `i / 64`).
//!
//! Ranges beyond the end of a map are cut off there.

/// The parts of a range of bits that lie in one word of `W` bits each.
struct Parts<const W: usize> {
    bit: usize,
    end: usize,
}

impl<const W: usize> Parts<W> {
    fn new(bit: usize, len: usize) -> Self {
        Self {
            bit,
            end: bit.saturating_add(len),
        }
    }
}

impl<const W: usize> Iterator for Parts<W> {
    /// Index of the word and mask in it.
    type Item = (usize, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.end.checked_sub(self.bit).filter(|left| *left > 0)?;
        let (index, low) = (self.bit / W, self.bit % W);
        let n = left.min(W - low);
        self.bit = self.bit.saturating_add(n);
        let ones = if n >= 64 { u64::MAX } else { (1 << n) - 1 };
        Some((index, ones << low))
    }
}

/// Reads a bitmap block into a plane; what the block does not cover is left alone.
pub fn load_plane(bytes: &[u8], plane: &mut [u64]) {
    for (word, bytes) in plane.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
    }
}

/// Sets `len` bits from `bit` on.
pub fn set_range(plane: &mut [u64], bit: usize, len: usize) {
    for (index, mask) in Parts::<64>::new(bit, len) {
        let Some(word) = plane.get_mut(index) else {
            return;
        };
        *word |= mask;
    }
}

/// Clears `len` bits from `bit` on.
pub fn clear_range(plane: &mut [u64], bit: usize, len: usize) {
    for (index, mask) in Parts::<64>::new(bit, len) {
        let Some(word) = plane.get_mut(index) else {
            return;
        };
        *word &= !mask;
    }
}

/// Whether a bit is set; beyond the end none is.
pub fn test(plane: &[u64], bit: usize) -> bool {
    plane
        .get(bit / 64)
        .is_some_and(|word| word >> (bit % 64) & 1 != 0)
}

/// Number of set bits.
pub fn count(plane: &[u64]) -> usize {
    plane.iter().fold(0, |sum: usize, word| {
        sum.saturating_add(word.count_ones() as usize)
    })
}

/// Number of set bits among the `len` from `bit` on.
pub fn count_range(plane: &[u64], bit: usize, len: usize) -> usize {
    let words = Parts::<64>::new(bit, len).map_while(|(i, mask)| Some(*plane.get(i)? & mask));
    words.fold(0, |sum: usize, word| {
        sum.saturating_add(word.count_ones() as usize)
    })
}

/// Clears the `len` bits of `busy` from `bit` on, except those in `pinned`: they are set in `held`.
/// Returns how many were not pinned. The planes are of one length.
pub fn release(
    busy: &mut [u64],
    held: &mut [u64],
    pinned: &[u64],
    bit: usize,
    len: usize,
) -> usize {
    let mut released: usize = 0;
    for (index, mask) in Parts::<64>::new(bit, len) {
        let words = (busy.get_mut(index), held.get_mut(index), pinned.get(index));
        let (Some(busy), Some(held), Some(pinned)) = words else {
            break;
        };
        let go = mask & !pinned;
        *held |= mask & pinned;
        *busy &= !go;
        released = released.saturating_add(go.count_ones() as usize);
    }
    released
}

/// Clears those of the `len` bits from `bit` on that are set in `held`, there and in `busy`. Returns
/// how many these are. The planes are of one length.
pub fn release_held(busy: &mut [u64], held: &mut [u64], bit: usize, len: usize) -> usize {
    let mut released: usize = 0;
    for (index, mask) in Parts::<64>::new(bit, len) {
        let (Some(busy), Some(held)) = (busy.get_mut(index), held.get_mut(index)) else {
            break;
        };
        let go = *held & mask;
        *held &= !go;
        *busy &= !go;
        released = released.saturating_add(go.count_ones() as usize);
    }
    released
}

/// The first bit from `from` on that is set in `word(index)`.
fn first(words: usize, from: usize, word: impl Fn(usize) -> Option<u64>) -> Option<usize> {
    let mut mask = u64::MAX << (from % 64);
    for index in from / 64..words {
        let found = word(index)? & mask;
        if found != 0 {
            return index
                .checked_mul(64)?
                .checked_add(found.trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}

/// The first set bit from `from` on.
pub fn first_set(plane: &[u64], from: usize) -> Option<usize> {
    first(plane.len(), from, |i| plane.get(i).copied())
}

/// The first clear bit from `from` on.
pub fn first_zero(plane: &[u64], from: usize) -> Option<usize> {
    first(plane.len(), from, |i| plane.get(i).map(|word| !word))
}

/// The first run of at least `enough` clear bits from `from` on; its start and its length, which
/// is at most `want`.
pub fn find_zero_run(
    plane: &[u64],
    from: usize,
    want: usize,
    enough: usize,
) -> Option<(usize, usize)> {
    let (want, enough) = (want.max(1), enough.clamp(1, want.max(1)));
    let mut at = from;
    loop {
        let start = first_zero(plane, at)?;
        // A free disk is long: no further than wanted.
        let most = start.saturating_add(want);
        let words = plane.get(..most.div_ceil(64)).unwrap_or(plane);
        let end = first_set(words, start).unwrap_or(words.len().saturating_mul(64));
        let len = end.saturating_sub(start).min(want);
        if len >= enough {
            return Some((start, len));
        }
        at = end;
    }
}

/// Sets `len` bits of a bitmap block from `bit` on.
pub fn set_bytes(bytes: &mut [u8], bit: usize, len: usize) {
    for (index, mask) in Parts::<8>::new(bit, len) {
        let Some(byte) = bytes.get_mut(index) else {
            return;
        };
        *byte |= mask as u8;
    }
}

/// Clears `len` bits of a bitmap block from `bit` on.
pub fn clear_bytes(bytes: &mut [u8], bit: usize, len: usize) {
    for (index, mask) in Parts::<8>::new(bit, len) {
        let Some(byte) = bytes.get_mut(index) else {
            return;
        };
        *byte &= !(mask as u8);
    }
}

/// Number of set bits of a bitmap block among the `len` from `bit` on.
pub fn count_bytes(bytes: &[u8], bit: usize, len: usize) -> usize {
    let parts = Parts::<8>::new(bit, len).map_while(|(i, mask)| Some(*bytes.get(i)? & mask as u8));
    parts.fold(0, |sum: usize, byte| {
        sum.saturating_add(byte.count_ones() as usize)
    })
}

/// Whether a bit of a bitmap block is set; beyond the end none is.
pub fn test_byte(bytes: &[u8], bit: usize) -> bool {
    bytes
        .get(bit / 8)
        .is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_agree_with_single_bits() {
        for (bit, len) in [
            (0, 0),
            (0, 1),
            (5, 3),
            (7, 9),
            (60, 8),
            (63, 66),
            (0, 256),
            (200, 99),
        ] {
            let (mut plane, mut bytes) = ([0u64; 4], [0u8; 32]);
            set_range(&mut plane, bit, len);
            set_bytes(&mut bytes, bit, len);
            for i in 0..256 {
                let inside = (bit..bit + len).contains(&i);
                assert_eq!(test(&plane, i), inside, "{bit} {len} {i}");
                assert_eq!(test_byte(&bytes, i), inside, "{bit} {len} {i}");
            }
            let mut loaded = [0; 4];
            load_plane(&bytes, &mut loaded);
            assert_eq!(loaded, plane);
            assert_eq!(count(&plane), len.min(256 - bit));
            assert_eq!(count_range(&plane, bit, len), count(&plane));
            assert_eq!(count_bytes(&bytes, 0, 999), count(&plane));
            clear_range(&mut plane, bit, len);
            clear_bytes(&mut bytes, bit, len);
            assert_eq!((plane, bytes), ([0; 4], [0; 32]));
        }
        assert!(!test(&[1], 64) && !test_byte(&[1], 8));
    }

    #[test]
    fn what_is_pinned_is_held_until_its_last_pin_is_gone() {
        for (bit, len) in [(0, 0), (5, 1), (60, 8), (0, 192), (63, 66), (190, 99)] {
            let pins = |i: usize| i % 3 == 0 || (64..128).contains(&i);
            let mut pinned = [0; 3];
            (0..192)
                .filter(|i| pins(*i))
                .for_each(|i| set_range(&mut pinned, i, 1));
            let (mut busy, mut held) = ([u64::MAX; 3], [0; 3]);
            let inside = |i: usize| (bit..bit + len).contains(&i);
            let want = (0..192).filter(|i| inside(*i) && !pins(*i)).count();
            assert_eq!(release(&mut busy, &mut held, &pinned, bit, len), want);
            for i in 0..192 {
                assert_eq!(test(&held, i), inside(i) && pins(i), "{bit} {len} {i}");
                assert_eq!(test(&busy, i), !inside(i) || pins(i), "{bit} {len} {i}");
            }
            let all = count(&held);
            // The pins of the first word go, then the others.
            let first = count_range(&held, 0, 64);
            assert_eq!(release_held(&mut busy, &mut held, 0, 64), first);
            assert_eq!(count_range(&held, 0, 64), 0);
            assert_eq!(release_held(&mut busy, &mut held, 0, 999), all - first);
            for i in 0..192 {
                assert_eq!(test(&busy, i), !inside(i), "{bit} {len} {i}");
            }
        }
    }

    #[test]
    fn runs() {
        let mut plane = [u64::MAX; 4];
        assert_eq!(find_zero_run(&plane, 0, 10, 1), None);
        clear_range(&mut plane, 10, 3);
        clear_range(&mut plane, 60, 70);
        clear_range(&mut plane, 250, 6);
        assert_eq!(find_zero_run(&plane, 0, 10, 1), Some((10, 3)));
        assert_eq!(find_zero_run(&plane, 0, 10, 4), Some((60, 10)));
        assert_eq!(find_zero_run(&plane, 0, 100, 70), Some((60, 70)));
        assert_eq!(find_zero_run(&plane, 0, 100, 71), None);
        assert_eq!(find_zero_run(&plane, 11, 10, 1), Some((11, 2)));
        assert_eq!(find_zero_run(&plane, 131, 10, 1), Some((250, 6)));
        assert_eq!(find_zero_run(&plane, 300, 10, 1), None);
        assert_eq!(first_set(&plane, 60), Some(130));
        assert_eq!(first_set(&[0, 0], 0), None);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Files are made of units of 1 KiB (the smallest block) that say themselves what they are.

use calf_vmlib::rng::mix;

/// Bytes of a unit.
pub const UNIT: usize = 1024;

const MAGIC: u64 = 0x0f1e_2d3c_4b5a_6978;
const WORDS: usize = UNIT / 8;

/// What a unit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Only zeros: a hole, or never written.
    Zero,
    /// Written by the operation of this number, as this unit of a file.
    Gen(u64),
    /// Neither: torn, or of another place.
    Bad,
}

fn word(gen: u64, index: u64, i: usize) -> u64 {
    match i {
        0 => MAGIC,
        1 => gen,
        2 => index,
        _ => mix(gen ^ mix(index) ^ (i as u64) << 48),
    }
}

/// Writes the units from `index` on into `buf` (whole units).
pub fn fill(buf: &mut [u8], gen: u64, index: u64) {
    for (n, unit) in buf.chunks_exact_mut(UNIT).enumerate() {
        for (i, w) in unit.chunks_exact_mut(8).enumerate() {
            w.copy_from_slice(&word(gen, index + n as u64, i).to_le_bytes());
        }
    }
}

/// Looks at one unit that was found as number `index` of a file.
pub fn inspect(unit: &[u8], index: u64) -> Value {
    if unit.iter().all(|b| *b == 0) {
        return Value::Zero;
    }
    let at = |i: usize| {
        let mut w = [0; 8];
        w.copy_from_slice(&unit[i * 8..i * 8 + 8]);
        u64::from_le_bytes(w)
    };
    if unit.len() != UNIT {
        return Value::Bad;
    }
    let gen = at(1);
    if (0..WORDS).all(|i| at(i) == word(gen, index, i)) {
        Value::Gen(gen)
    } else {
        Value::Bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_knows_itself() {
        let mut buf = vec![0; 3 * UNIT];
        assert_eq!(inspect(&buf[..UNIT], 5), Value::Zero);
        fill(&mut buf, 77, 10);
        assert_eq!(inspect(&buf[UNIT..2 * UNIT], 11), Value::Gen(77));
        assert_eq!(inspect(&buf[UNIT..2 * UNIT], 12), Value::Bad);
        buf[UNIT + 700] ^= 1;
        assert_eq!(inspect(&buf[UNIT..2 * UNIT], 11), Value::Bad);
    }
}

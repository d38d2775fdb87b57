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

/// Is every byte of this unit, number `index` of a file, what one of these values has there?
///
/// Such is a block that was written again while the device took it: calf has no stable pages, as XFS and ext4 have none, unless
/// the device asks for them. Bytes, not words, because no processor promises more of a copy.
pub fn is_mixture(unit: &[u8], index: u64, of: &[Value]) -> bool {
    let has = |v: &Value, i: usize, byte: u8| match v {
        Value::Zero => byte == 0,
        Value::Gen(g) => byte == word(*g, index, i / 8).to_le_bytes()[i % 8],
        Value::Bad => false,
    };
    let mut bytes = unit.iter().enumerate();
    unit.len() == UNIT && bytes.all(|(i, b)| of.iter().any(|v| has(v, i, *b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: [Value; 3] = [Value::Gen(7), Value::Gen(8), Value::Gen(9)];

    /// Unit 5 with what each generation has from a byte on.
    fn mixed(parts: &[(usize, u64)]) -> Vec<u8> {
        let (mut all, mut one) = (vec![0; UNIT], vec![0; UNIT]);
        for (from, gen) in parts {
            fill(&mut one, *gen, 5);
            all[*from..].copy_from_slice(&one[*from..]);
        }
        all
    }

    #[test]
    fn allowed_generations_may_be_mixed() {
        for parts in [&[(0, 7), (512, 9)][..], &[(0, 9), (8, 7), (1016, 8)]] {
            let unit = mixed(parts);
            assert_eq!(inspect(&unit, 5), Value::Bad);
            assert!(is_mixture(&unit, 5, &ALLOWED));
            // Not as another unit, and not all of it is the last one.
            assert!(!is_mixture(&unit, 6, &ALLOWED));
            assert!(!is_mixture(&unit, 5, &ALLOWED[..1]));
        }
        let mut unit = mixed(&[(0, 7)]);
        unit[800..].fill(0);
        assert!(is_mixture(&unit, 5, &[Value::Gen(7), Value::Zero]));
        assert!(!is_mixture(&unit, 5, &ALLOWED));
    }

    #[test]
    fn what_is_not_allowed_may_not_be_mixed_in() {
        // One word of an older generation, at any place.
        for at in (8..UNIT - 8).step_by(8).filter(|at| *at != 16) {
            assert!(
                !is_mixture(&mixed(&[(0, 7), (at, 3), (at + 8, 8)]), 5, &ALLOWED),
                "{at}"
            );
        }
        // The same generation of another unit, whole or the second sector of it.
        let mut foreign = vec![0; UNIT];
        fill(&mut foreign, 8, 6);
        assert!(!is_mixture(&foreign, 5, &ALLOWED));
        foreign[..512].copy_from_slice(&mixed(&[(0, 8)])[..512]);
        assert!(!is_mixture(&foreign, 5, &ALLOWED));
        let mut garbage = mixed(&[(0, 8), (512, 9)]);
        garbage[700] ^= 0x10;
        assert!(!is_mixture(&garbage, 5, &ALLOWED));
        assert!(!is_mixture(&[0xaa; UNIT], 5, &ALLOWED));
        // A part of a unit is none.
        assert!(!is_mixture(&mixed(&[(0, 8)])[..512], 5, &ALLOWED));
    }

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

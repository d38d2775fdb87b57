// SPDX-License-Identifier: GPL-2.0

//! The eight things that can be done to a field, with its checksum put right.

use std::fmt;
use std::io;

use calf_core::format::geometry::Geometry;
use calf_core::random::Random;

use crate::device::Storage;
use crate::fields::Field;

/// What is done to a field, a number of up to eight bytes; of a longer one, to its first eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// All bits 0, of all bytes.
    Clear,
    /// All bits 1, of all bytes.
    Set,
    /// The highest bit turned over.
    HighBit,
    /// A bit in the middle turned over.
    MiddleBit,
    /// The lowest bit turned over.
    LowBit,
    /// One hundred more.
    Add,
    /// One hundred less.
    Subtract,
    /// Any other value, of all bytes.
    Random,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Clear,
        Self::Set,
        Self::HighBit,
        Self::MiddleBit,
        Self::LowBit,
        Self::Add,
        Self::Subtract,
        Self::Random,
    ];

    /// Does it to a field. Returns whether anything is different now.
    pub fn apply(
        self,
        storage: &dyn Storage,
        geo: &Geometry,
        field: &Field,
        random: &mut Random,
    ) -> io::Result<bool> {
        let old = storage.read(field.at, field.len)?;
        let mut new = old.clone();
        self.change(&mut new, field.big_endian, random);
        if new == old {
            return Ok(false);
        }
        storage.write_at(&new, field.at)?;
        field.seal.apply(storage, geo)?;
        Ok(true)
    }

    fn change(self, bytes: &mut [u8], big_endian: bool, random: &mut Random) {
        match self {
            Self::Clear => return bytes.fill(0),
            Self::Set => return bytes.fill(0xff),
            Self::Random => return bytes.iter_mut().for_each(|b| *b = random.any() as u8),
            _ => {}
        }
        let len = bytes.len().min(8);
        let mut number = [0; 8];
        for (i, byte) in bytes.iter().take(len).enumerate() {
            let place = if big_endian { len - 1 - i } else { i };
            if let Some(to) = number.get_mut(place) {
                *to = *byte;
            }
        }
        let old = u64::from_le_bytes(number);
        let bits = 8 * len as u32;
        let bit = |n: u32| 1u64.checked_shl(n).unwrap_or(0);
        let new = match self {
            Self::HighBit => old ^ bit(bits.saturating_sub(1)),
            Self::MiddleBit => old ^ bit(bits / 2),
            Self::LowBit => old ^ 1,
            Self::Add => old.wrapping_add(100),
            _ => old.wrapping_sub(100),
        };
        let number = new.to_le_bytes();
        for (i, byte) in bytes.iter_mut().take(len).enumerate() {
            let place = if big_endian { len - 1 - i } else { i };
            *byte = number.get(place).copied().unwrap_or(0);
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Set => "set",
            Self::HighBit => "high-bit",
            Self::MiddleBit => "middle-bit",
            Self::LowBit => "low-bit",
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Random => "random",
        })
    }
}

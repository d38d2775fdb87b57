// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Symbolic links: the value of kind 7, a piece of the target, keyed by its number.

/// Bytes of a piece; only the last one is shorter.
pub const CHUNK: usize = 256;
/// Longest target, bytes.
pub const TARGET_MAX: usize = 4095;

/// Checks the value under `key`.
pub fn verify(key: u64, value: &[u8]) -> Result<(), &'static str> {
    // 16 pieces of 256 bytes.
    if key >= 16 {
        return Err("symbolic link: target too long");
    }
    if value.is_empty() || value.len() > CHUNK {
        return Err("symbolic link: piece of a wrong length");
    }
    if value.contains(&0) {
        return Err("symbolic link: target with a zero byte");
    }
    Ok(())
}

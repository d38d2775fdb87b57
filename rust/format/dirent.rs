// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Directory entries: the value of kind 3, keyed by `hash << 22 | seq`.
//!
//! Value: inode number (8 bytes), type (1 byte, `DT_*`), name (1 to 255 bytes). Key 0 holds the
//! parent directory: the same without a name.

/// Bytes before the name.
pub const HEADER: usize = 9;
/// Longest name, bytes.
pub const NAME_MAX: usize = 255;
/// Key of the record that names the parent.
pub const PARENT_KEY: u64 = 0;
/// Bits of the key below the hash.
pub const SEQ_BITS: u32 = 22;
/// Lowest key of an entry with a name.
pub const FIRST_KEY: u64 = 1 << SEQ_BITS;
/// Keys lie below this.
pub const END_KEY: u64 = 1 << 62;
/// `DT_DIR`.
pub const DT_DIR: u8 = 4;

/// Checks the value under `key`.
pub fn verify(key: u64, value: &[u8]) -> Result<(), &'static str> {
    let (ino, rest) = value
        .split_first_chunk::<8>()
        .ok_or("directory entry: too short")?;
    let (&ftype, name) = rest.split_first().ok_or("directory entry: too short")?;
    if u64::from_le_bytes(*ino) == 0 {
        return Err("directory entry: inode number 0");
    }
    if !matches!(ftype, 1 | 2 | 4 | 6 | 8 | 10 | 12) {
        return Err("directory entry: unknown type");
    }
    if key == PARENT_KEY {
        if ftype != DT_DIR || !name.is_empty() {
            return Err("directory entry: parent's record is malformed");
        }
        return Ok(());
    }
    if !(FIRST_KEY..END_KEY).contains(&key) {
        return Err("directory entry: key out of range");
    }
    if name.is_empty() || name.len() > NAME_MAX {
        return Err("directory entry: name of a wrong length");
    }
    if name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err("directory entry: name is not allowed");
    }
    Ok(())
}

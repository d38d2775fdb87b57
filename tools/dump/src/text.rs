// SPDX-License-Identifier: GPL-2.0

//! Records and times as text.

use std::fmt::Write;

use calf_core::format::dirent::{HEADER, PARENT_KEY, SEQ_BITS};
use calf_core::format::extent::RawExtent;
use calf_core::format::inode::InodeRecord;
use calf_core::format::orphan::{RawOrphan, KIND_UNLINKED};
use calf_core::format::refcount::RawRefcount;
use calf_core::format::xattr::{
    piece_of, First, Name, ACL_ACCESS, ACL_DEFAULT, PIECE_BITS, SECURITY, TRUSTED, USER,
};
use calf_core::format::Kind;
use zerocopy::FromBytes;

/// A time, ns since 1970, as UTC.
pub fn time(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, rest) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // Howard Hinnant's civil_from_days: days since 0000-03-01, in eras of 400 years.
    let z = days + 719_468;
    let (era, day) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let ns = ns.rem_euclid(1_000_000_000);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}.{ns:09}")
}

/// The flags of an inode, as a number and by their names.
pub fn inode_flags(flags: u32) -> String {
    const NAMES: [&str; 8] = [
        "may-share",
        "immutable",
        "append",
        "nodump",
        "noatime",
        "sync",
        "dirsync",
        "projinherit",
    ];
    let mut text = format!("{flags:#x}");
    for (bit, name) in NAMES.iter().enumerate() {
        if flags & (1 << bit) != 0 {
            text.push(' ');
            text.push_str(name);
        }
    }
    text
}

/// Bytes that need not be UTF-8, in quotes.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().escape_debug());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

/// A label as udev stores it: with `_` for what might confuse a shell, and with `\xNN` for it.
pub fn udev(label: &[u8]) -> (String, String) {
    let (mut safe, mut encoded) = (String::new(), String::new());
    for chunk in label.utf8_chunks() {
        for c in chunk.valid().chars() {
            let plain = c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii();
            safe.push(if plain { c } else { '_' });
            match plain {
                true => encoded.push(c),
                false => encoded += &format!("\\x{:02x}", c as u32),
            }
        }
        for byte in chunk.invalid() {
            safe.push('_');
            encoded += &format!("\\x{byte:02x}");
        }
    }
    (safe, encoded)
}

/// The letter of `ls -l` for a `DT_*` number.
fn letter(ftype: u8) -> char {
    match ftype {
        1 => 'p',
        2 => 'c',
        4 => 'd',
        6 => 'b',
        8 => '-',
        10 => 'l',
        12 => 's',
        _ => '?',
    }
}

/// Type and permissions as `ls -l` shows them.
pub fn mode(mode: u16) -> String {
    format!("{}{:04o}", letter(InodeRecord::ftype(mode)), mode & 0o7777)
}

/// One record on one line.
pub fn record(kind: Kind, key: u64, value: &[u8]) -> String {
    let text = match kind {
        Kind::Inodes => InodeRecord::ref_from_bytes(value).ok().map(|rec| {
            format!(
                "inode {key}: {} nlink {} uid {} gid {} size {} blocks {}",
                mode(rec.mode.get()),
                rec.nlink,
                rec.uid,
                rec.gid,
                rec.size,
                rec.nblocks
            )
        }),
        Kind::Extents => RawExtent::parse(key, value).ok().map(|e| {
            format!(
                "file block {key} +{} at {}{}",
                e.len,
                e.phys,
                if e.is_unwritten() { " unwritten" } else { "" }
            )
        }),
        Kind::Dir => dirent(key, value),
        Kind::Refcount => RawRefcount::parse(key, value)
            .ok()
            .map(|r| format!("blocks {key} +{}: {} references", r.len, r.count)),
        Kind::Orphans => RawOrphan::parse(key, value).ok().map(|o| {
            if o.kind.get() == KIND_UNLINKED {
                format!("inode {key}: unlinked")
            } else {
                format!("inode {key}: truncate to {} bytes", o.size)
            }
        }),
        Kind::Symlink => Some(format!("piece {key}: {}", quoted(value))),
        Kind::Xattr => xattr(key, value),
    };
    text.unwrap_or_else(|| format!("key {key}: {} bytes that make no sense", value.len()))
}

/// An attribute: its namespace, its name, the length of its value, the beginning of that.
pub fn attribute(name: Name<'_>, len: usize, value: &[u8]) -> String {
    let space = match name.index {
        USER => "user.",
        TRUSTED => "trusted.",
        SECURITY => "security.",
        ACL_ACCESS => "access ACL",
        ACL_DEFAULT => "default ACL",
        _ => "?",
    };
    let shown = value.get(..32).unwrap_or(value);
    let more = if shown.len() < len { "..." } else { "" };
    format!(
        "{space}{} {len} bytes {}{more}",
        quoted(name.name),
        quoted(shown)
    )
}

fn xattr(key: u64, value: &[u8]) -> Option<String> {
    let piece = piece_of(key);
    if piece > 0 {
        return Some(format!("piece {piece}: {} bytes", value.len()));
    }
    let first = First::parse(value).ok()?;
    let at = format!("{:010x}.{}", key >> SEQ_BITS, (key >> PIECE_BITS) & 0x3fff);
    let what = attribute(first.name, first.value_len, first.value);
    Some(format!("{at} {what}"))
}

fn dirent(key: u64, value: &[u8]) -> Option<String> {
    let (head, name) = value.split_at_checked(HEADER)?;
    let (ino, ftype) = head.split_first_chunk::<8>()?;
    let ino = u64::from_le_bytes(*ino);
    if key == PARENT_KEY {
        return Some(format!("parent: inode {ino}"));
    }
    let (hash, seq) = (key >> SEQ_BITS, key & ((1 << SEQ_BITS) - 1));
    let letter = letter(*ftype.first()?);
    Some(format!(
        "{hash:010x}.{seq} {letter} inode {ino} {}",
        quoted(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01 00:00:00.000000000");
        assert_eq!(time(-1), "1969-12-31 23:59:59.999999999");
        assert_eq!(
            time(951_827_696_000_000_007),
            "2000-02-29 12:34:56.000000007"
        );
        assert_eq!(time(i64::MAX), "2262-04-11 23:47:16.854775807");
    }

    #[test]
    fn names_of_any_bytes() {
        assert_eq!(quoted(b"a\"b\n\xff\xc3\xa4"), "\"a\\\"b\\n\\xff\u{e4}\"");
    }

    #[test]
    fn labels_for_udev() {
        let (safe, encoded) = udev(b"my disk/\xff\xc3\xa4$");
        assert_eq!(safe, "my_disk__\u{e4}_");
        assert_eq!(encoded, "my\\x20disk\\x2f\\xff\u{e4}\\x24");
    }

    #[test]
    fn nonsense_has_a_text() {
        for kind in (1..=7).filter_map(Kind::from_u8) {
            for len in 0..300 {
                assert!(!record(kind, 1 << 30, &vec![0xff; len]).is_empty());
            }
        }
    }
}

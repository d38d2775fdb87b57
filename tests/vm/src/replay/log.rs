// SPDX-License-Identifier: GPL-2.0

//! Reads what dm-log-writes has recorded (`drivers/md/dm-log-writes.c`).
//!
//! A super block in the first sector, then for each entry a sector with its head and the data. All
//! numbers are little endian. Plain writes stand before the flush that made them durable, in the order in
//! which they were done; a FUA write and a mark stand where they were done.

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One thing that happened to the device, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A write that a crash may lose until the next flush. A discard counts as a write of zeros, as
    /// the device would read.
    Write {
        /// First byte.
        at: u64,
        /// What was written.
        data: Vec<u8>,
    },
    /// A write that was durable when it was done.
    Durable {
        /// First byte.
        at: u64,
        /// What was written.
        data: Vec<u8>,
    },
    /// All plain writes before it are durable.
    Flush,
    /// Somebody told the log that this happened.
    Mark(String),
}

fn word(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

/// Takes the log apart. `read` returns bytes of the log device from an offset on. Errors: what is wrong
/// with the log.
pub fn parse<E: std::fmt::Display>(
    mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<Vec<Entry>, String> {
    let mut get = |at, len| read(at, len).map_err(|e| format!("log: {e}"));
    let head = get(0, 512)?;
    let super_word = |at| word(&head, at).ok_or("log: short");
    if super_word(0)? != MAGIC || super_word(8)? != 1 {
        return Err("log: no log of dm-log-writes".into());
    }
    let count = super_word(16)?;
    let sector = super_word(24)? & 0xffff_ffff;
    let mut at = sector;
    let mut all = Vec::new();
    for _ in 0..count {
        let head = get(at, sector as usize)?;
        let field = |n: usize| word(&head, n * 8).ok_or("log: short");
        let (place, sectors, flags, len) = (field(0)?, field(1)?, field(2)?, field(3)?);
        at += sector;
        let bytes = (sectors * sector) as usize;
        if flags & MARK != 0 {
            let text = head.get(32..32 + len as usize).ok_or("log: a long mark")?;
            all.push(Entry::Mark(String::from_utf8_lossy(text).into_owned()));
            continue;
        }
        if flags & FLUSH != 0 {
            all.push(Entry::Flush);
        }
        if bytes == 0 {
            continue;
        }
        let data = if flags & DISCARD != 0 {
            vec![0; bytes]
        } else {
            let data = get(at, bytes)?;
            at += bytes as u64;
            data
        };
        let place = place * sector;
        all.push(if flags & FUA != 0 {
            Entry::Durable { at: place, data }
        } else {
            Entry::Write { at: place, data }
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(place: u64, sectors: u64, flags: u64, mark: &str, data: &[u8]) -> Vec<u8> {
        let mut e = Vec::new();
        for w in [place, sectors, flags, mark.len() as u64] {
            e.extend(w.to_le_bytes());
        }
        e.extend(mark.as_bytes());
        e.resize(512, 0);
        e.extend(data);
        e
    }

    #[test]
    fn entries_come_back() {
        let mut log = Vec::new();
        for w in [MAGIC, 1, 5, 512] {
            log.extend(w.to_le_bytes());
        }
        log.resize(512, 0);
        log.extend(entry(2, 1, 0, "", &[7; 512]));
        log.extend(entry(0, 0, FLUSH, "", &[]));
        log.extend(entry(4, 2, FUA, "", &[8; 1024]));
        log.extend(entry(0, 0, MARK, "ack-3", &[]));
        log.extend(entry(6, 1, DISCARD, "", &[]));
        let read = |at: u64, len: usize| -> Result<Vec<u8>, String> {
            Ok(log[at as usize..at as usize + len].to_vec())
        };
        let plain = |at, byte, len| Entry::Write {
            at,
            data: vec![byte; len],
        };
        assert_eq!(
            parse(read).unwrap(),
            [
                plain(1024, 7, 512),
                Entry::Flush,
                Entry::Durable {
                    at: 2048,
                    data: vec![8; 1024]
                },
                Entry::Mark("ack-3".into()),
                plain(3072, 0, 512),
            ]
        );
        assert!(parse(|_, len| Ok::<_, String>(vec![0; len])).is_err());
    }
}

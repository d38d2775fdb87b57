// SPDX-License-Identifier: GPL-2.0 OR MIT

//! One line of a log: what `trace` in tracefs holds, or `trace-cmd report` prints.

use crate::judge::view::NULL_ADDR;
use crate::judge::Map;

/// An event of iomap, or of the checker module.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Command and process, `fsx-123`.
    pub task: String,
    /// Seconds, as the log has them.
    pub time: f64,
    /// Name of the event.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Event {
    /// Reads one line; `None` where there is no event of iomap in it.
    pub fn parse(line: &str) -> Option<Self> {
        // `task-pid [cpu] flags time: name: text`, where a trace without flags has none and
        // trace-cmd puts more blanks.
        let at = line.find(": iomap_")?;
        let (head, rest) = (line.get(..at)?, line.get(at + 2..)?);
        let (name, text) = rest.split_once(':')?;
        let (before_cpu, after_cpu) = head.split_once('[')?;
        let time = after_cpu.split_whitespace().last()?.parse().ok()?;
        // A thread group in parentheses may stand between the task and the processor.
        let task = before_cpu.split(" (").next()?.trim();
        task.rsplit_once('-')?.1.parse::<u32>().ok()?;
        Some(Self {
            task: task.into(),
            time,
            name: name.into(),
            text: text.trim().into(),
        })
    }

    /// The text after `key`, up to the next blank.
    pub fn word(&self, key: &str) -> Option<&str> {
        let mut rest = self.text.as_str();
        loop {
            let at = rest.find(key)?;
            let free = rest[..at].is_empty() || rest[..at].ends_with(' ');
            rest = &rest[at + key.len()..];
            if free && rest.starts_with(' ') {
                return rest.split_whitespace().next();
            }
        }
    }

    /// The number after `key`.
    pub fn number(&self, key: &str) -> Option<u64> {
        let word = self.word(key)?.trim_end_matches(':');
        match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => word.parse::<i64>().ok().map(|n| n as u64),
        }
    }

    /// The number in parentheses after the names that follow `key`: `flags WRITE|DIRECT (0x11)`.
    pub fn code(&self, key: &str) -> Option<u64> {
        let at = self.text.find(&format!("{key} "))?;
        let (_, rest) = self.text[at..].split_once("(0x")?;
        u64::from_str_radix(rest.split(')').next()?, 16).ok()
    }

    /// Device and inode number: which file.
    pub fn file(&self) -> Option<FileId> {
        let dev = self.word("dev")?;
        let ino = self.number("ino")?;
        Some(FileId {
            dev: dev.into(),
            ino,
        })
    }

    /// The mapping in the text.
    pub fn map(&self) -> Option<Map> {
        let addr = self.number("addr")?;
        let bdev = self.word("bdev")?;
        let (major, minor) = bdev.split_once(':')?;
        let dev = major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?;
        Some(Map {
            addr: if addr == u64::MAX { NULL_ADDR } else { addr },
            offset: self.number("offset")? as i64,
            length: self.number("length")?,
            ty: u16::try_from(self.code("type")?).ok()?,
            // `type X (0x2) flags Y (0x4)`: the last number.
            flags: u16::try_from(self.last_code()?).ok()?,
            dev,
            // A log does not say how large the device is, nor of what sectors.
            dev_bytes: u64::MAX,
            sector: 512,
            dax: false,
        })
    }

    fn last_code(&self) -> Option<u64> {
        let (_, rest) = self.text.rsplit_once("(0x")?;
        u64::from_str_radix(rest.split(')').next()?, 16).ok()
    }
}

/// A file, as events name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// `MAJOR:MINOR` of the filesystem.
    pub dev: String,
    /// Inode number.
    pub ino: u64,
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ino {:#x}", self.dev, self.ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::view::{map_flag, ty};

    const FTRACE: &str = "             fsx-119     [001] ...1.     9.187542: iomap_iter_dstmap: dev 98:32 ino 0x2 \
        bdev 98:32 addr 0xffffffffffffffff offset 0x1000 length 0x2000 type DELALLOC (0x1) flags NEW|SHARED (0x5)";

    #[test]
    fn a_mapping() {
        let e = Event::parse(FTRACE).unwrap();
        assert_eq!((e.task.as_str(), e.time), ("fsx-119", 9.187542));
        assert_eq!(e.name, "iomap_iter_dstmap");
        let map = e.map().unwrap();
        assert_eq!(
            (map.addr, map.offset, map.length),
            (NULL_ADDR, 0x1000, 0x2000)
        );
        assert_eq!(map.ty, ty::DELALLOC);
        assert_eq!(map.flags, map_flag::NEW | map_flag::SHARED);
        assert_eq!(e.file().unwrap().to_string(), "98:32 ino 0x2");
    }

    #[test]
    fn the_other_forms_of_a_line() {
        let report = "     kworker/u4:1-12  [000]     9.187542: iomap_iter:           dev 98:32 ino 0x2 pos 0x1000 \
            length 0x0 status -11 flags READ (0x0) ops 0x1 caller iomap_readahead+0x1/0x2";
        let e = Event::parse(report).unwrap();
        assert_eq!(e.task, "kworker/u4:1-12");
        assert_eq!(e.number("status").unwrap() as i64, -11);
        assert_eq!(e.code("flags"), Some(0));
        assert_eq!(e.word("caller"), Some("iomap_readahead+0x1/0x2"));
        let tgid = "  <...>-12   (    11) [000] .....  9.187542: iomap_iter: dev 98:32 ino 0x2";
        assert_eq!(Event::parse(tgid).unwrap().task, "<...>-12");
        for none in [
            "",
            "# tracer: nop",
            "a-1 [000] 1.0: sched_switch: x",
            "no cpu: iomap_iter: x",
        ] {
            assert_eq!(Event::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_key_is_a_word() {
        let e = Event::parse("a-1 [000] 1.0: iomap_x: bdev 1:2 dev 3:4 ino 0x5").unwrap();
        assert_eq!(e.word("dev"), Some("3:4"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The lines that the VM prints, as values. Offsets and lengths are in units.

use crate::unit::Value;
use std::fmt;

/// What an operation does; files are named by numbers that are never used again in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields: numbers of files, offsets, lengths, sizes, paths
pub enum Op {
    /// A new, empty file.
    Create { id: u64, path: String },
    /// Units get the number of this operation.
    Write { id: u64, off: u64, len: u64 },
    /// Units become zero.
    Punch { id: u64, off: u64, len: u64 },
    /// Zeros where nothing is; the file grows to the end of the range.
    Allocate { id: u64, off: u64, len: u64 },
    /// A new size.
    Truncate { id: u64, size: u64 },
    /// Units of another file, at the same place.
    Clone {
        id: u64,
        from: u64,
        off: u64,
        len: u64,
    },
    /// A new name; a file that has it already is gone.
    Rename { id: u64, path: String, victim: u64 },
    /// The name is gone.
    Unlink { id: u64 },
    /// The attribute of the file gets a new value, which one byte stands for.
    Mark { id: u64, byte: u8 },
}

impl Op {
    /// The file that it is done to.
    pub fn id(&self) -> u64 {
        match self {
            Op::Create { id, .. }
            | Op::Write { id, .. }
            | Op::Punch { id, .. }
            | Op::Allocate { id, .. }
            | Op::Truncate { id, .. }
            | Op::Clone { id, .. }
            | Op::Rename { id, .. }
            | Op::Unlink { id }
            | Op::Mark { id, .. } => *id,
        }
    }
}

/// Times of a file, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Birth.
    pub born: i64,
    /// Change of the contents.
    pub data: i64,
    /// Change of anything.
    pub change: i64,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.born, self.data, self.change)
    }
}

impl Times {
    fn parse(text: &str) -> Option<Times> {
        let mut all = text.split(',').map(|t| t.parse().ok());
        let mut next = || all.next().flatten();
        Some(Times {
            born: next()?,
            data: next()?,
            change: next()?,
        })
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are named in the text of the variants
pub enum Line {
    /// Announces operation number `seq`.
    Op { seq: u64, op: Op },
    /// All operations on file `id` up to `seq` are durable; without `times` (by fdatasync) its name and attributes
    /// need not be.
    Ack {
        id: u64,
        seq: u64,
        times: Option<Times>,
    },
    /// This thread of the load goes on: one that writes had something acknowledged since it said so last.
    Alive { thread: u64 },
    /// An operation failed that must not.
    Fail(String),
    /// Bytes of a unit that is nothing that anybody wrote.
    Torn { id: u64, unit: u64, bytes: Vec<u8> },
    /// A file that was found.
    Found(Found),
    /// All files have been described.
    FoundAll,
}

/// A file as it is after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Number of the file (its uid), 0 when it did not get one before the crash.
    pub id: u64,
    /// Path in the folder of the run.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// The attribute, if it has one.
    pub mark: Option<u8>,
    /// Its times.
    pub times: Times,
    /// (first unit, units, value), ascending, all of the file.
    pub runs: Vec<(u64, u64, Value)>,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Create { id, path } => write!(f, "new {id} {path}"),
            Op::Write { id, off, len } => write!(f, "w {id} {off} {len}"),
            Op::Punch { id, off, len } => write!(f, "p {id} {off} {len}"),
            Op::Allocate { id, off, len } => write!(f, "a {id} {off} {len}"),
            Op::Truncate { id, size } => write!(f, "t {id} {size}"),
            Op::Clone { id, from, off, len } => write!(f, "c {id} {from} {off} {len}"),
            Op::Rename { id, path, victim } => write!(f, "mv {id} {path} {victim}"),
            Op::Unlink { id } => write!(f, "rm {id}"),
            Op::Mark { id, byte } => write!(f, "x {id} {byte}"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Op { seq, op } => write!(f, "CRASH op {seq} {op}"),
            // The last word tells that the line is whole.
            Line::Ack { id, seq, times } => match times {
                None => write!(f, "CRASH ack {id} {seq} data"),
                Some(t) => write!(f, "CRASH ack {id} {seq} {t} all"),
            },
            Line::Alive { thread } => write!(f, "CRASH alive {thread}"),
            Line::Fail(what) => write!(f, "CRASH fail {what}"),
            Line::Torn { id, unit, bytes } => {
                write!(f, "CRASH torn {id} {unit} ")?;
                bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
            Line::Found(x) => {
                let mark = x.mark.map_or("-".into(), |m| m.to_string());
                write!(
                    f,
                    "CRASH found {} {} {} {mark} {}",
                    x.id, x.path, x.size, x.times
                )?;
                for (first, len, value) in &x.runs {
                    match value {
                        Value::Zero => write!(f, " {first}+{len}:z")?,
                        Value::Gen(g) => write!(f, " {first}+{len}:{g}")?,
                        Value::Bad => write!(f, " {first}+{len}:bad")?,
                    }
                }
                Ok(())
            }
            Line::FoundAll => write!(f, "CRASH found-all"),
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
    pairs.map(byte).collect()
}

fn run(text: &str) -> Option<(u64, u64, Value)> {
    let (range, value) = text.split_once(':')?;
    let (first, len) = range.split_once('+')?;
    let value = match value {
        "z" => Value::Zero,
        "bad" => Value::Bad,
        g => Value::Gen(g.parse().ok()?),
    };
    Some((first.parse().ok()?, len.parse().ok()?, value))
}

impl Line {
    /// Reads a line; `None` when it is none of ours or was cut off by the kill.
    pub fn parse(text: &str) -> Option<Line> {
        let mut w = text.strip_prefix("CRASH ")?.split(' ');
        let kind = w.next()?;
        if kind == "fail" {
            return Some(Line::Fail(w.collect::<Vec<_>>().join(" ")));
        }
        let mut word = || w.next().map(str::to_string);
        let num = |s: Option<String>| s?.parse::<u64>().ok();
        let line = match kind {
            "op" => {
                let seq = num(word())?;
                let verb = word()?;
                let id = num(word())?;
                let op = match verb.as_str() {
                    "new" => Op::Create { id, path: word()? },
                    "w" => Op::Write {
                        id,
                        off: num(word())?,
                        len: num(word())?,
                    },
                    "p" => Op::Punch {
                        id,
                        off: num(word())?,
                        len: num(word())?,
                    },
                    "a" => Op::Allocate {
                        id,
                        off: num(word())?,
                        len: num(word())?,
                    },
                    "t" => Op::Truncate {
                        id,
                        size: num(word())?,
                    },
                    "c" => {
                        let from = num(word())?;
                        Op::Clone {
                            id,
                            from,
                            off: num(word())?,
                            len: num(word())?,
                        }
                    }
                    "mv" => Op::Rename {
                        id,
                        path: word()?,
                        victim: num(word())?,
                    },
                    "rm" => Op::Unlink { id },
                    "x" => Op::Mark {
                        id,
                        byte: word()?.parse().ok()?,
                    },
                    _ => return None,
                };
                Line::Op { seq, op }
            }
            "ack" => {
                let (id, seq) = (num(word())?, num(word())?);
                let times = match word()?.as_str() {
                    "data" => None,
                    t => Some(Times::parse(t).filter(|_| word().as_deref() == Some("all"))?),
                };
                Line::Ack { id, seq, times }
            }
            "alive" => Line::Alive {
                thread: num(word())?,
            },
            "torn" => Line::Torn {
                id: num(word())?,
                unit: num(word())?,
                bytes: hex(&word()?)?,
            },
            "found" => {
                let (id, path, size) = (num(word())?, word()?, num(word())?);
                let mark = match word()?.as_str() {
                    "-" => None,
                    m => Some(m.parse().ok()?),
                };
                let times = Times::parse(&word()?)?;
                let mut runs = Vec::new();
                while let Some(r) = word() {
                    runs.push(run(&r)?);
                }
                Line::Found(Found {
                    id,
                    path,
                    size,
                    mark,
                    times,
                    runs,
                })
            }
            "found-all" => Line::FoundAll,
            _ => return None,
        };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let ops = [
            Op::Create {
                id: 1,
                path: "t0/a".into(),
            },
            Op::Write {
                id: 1,
                off: 2,
                len: 3,
            },
            Op::Punch {
                id: 1,
                off: 2,
                len: 3,
            },
            Op::Allocate {
                id: 1,
                off: 2,
                len: 3,
            },
            Op::Truncate { id: 1, size: 9 },
            Op::Clone {
                id: 2,
                from: 1,
                off: 0,
                len: 4,
            },
            Op::Rename {
                id: 2,
                path: "t0/b".into(),
                victim: 0,
            },
            Op::Unlink { id: 2 },
            Op::Mark { id: 2, byte: 200 },
        ];
        let times = Times {
            born: -5,
            data: 17,
            change: 18,
        };
        let mut lines: Vec<Line> = ops
            .into_iter()
            .enumerate()
            .map(|(i, op)| Line::Op { seq: i as u64, op })
            .collect();
        for times in [None, Some(times)] {
            let (id, seq) = (1, 5);
            lines.push(Line::Ack { id, seq, times });
        }
        lines.push(Line::Alive { thread: 2 });
        lines.push(Line::Torn {
            id: 1,
            unit: 30,
            bytes: vec![0, 255, 16],
        });
        lines.push(Line::Fail("write: no space".into()));
        lines.push(Line::FoundAll);
        lines.push(Line::Found(Found {
            id: 1,
            path: "t0/a".into(),
            size: 3072,
            mark: Some(9),
            times,
            runs: vec![
                (0, 1, Value::Zero),
                (1, 1, Value::Gen(7)),
                (2, 1, Value::Bad),
            ],
        }));
        for l in lines {
            assert_eq!(Line::parse(&l.to_string()), Some(l));
        }
        assert_eq!(Line::parse("CRASH op 5 w 1 2"), None);
        assert_eq!(Line::parse("CRASH ack 5 1 1,2,3"), None);
        assert_eq!(Line::parse("something else"), None);
    }
}

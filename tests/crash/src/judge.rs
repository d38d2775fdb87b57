// SPDX-License-Identifier: GPL-2.0

//! Judges what was found after a crash by what was announced and acknowledged before it.
//!
//! The promise that is checked (docs/crash-promise.md): after fsync returned, the file is there
//! under the name it had, with the contents it had. Operations that came later may have happened or
//! not, for each block on its own; a size may be anything between the sizes that were possible. A block that was
//! written again on its way to the disk may be a mixture, but only of contents that it may have.
//! The attribute is that of the last fsync or a later one; times are not before those that fsync left, and the same if
//! nothing was to change them.

use crate::log::{Found, Line, Op, Times};
use crate::unit::{is_mixture, Value, UNIT};
use std::collections::{BTreeMap, BTreeSet};

/// All that was ever announced for one file, each change with its number.
#[derive(Debug, Default)]
struct History {
    paths: Vec<(u64, Option<String>)>,
    sizes: Vec<(u64, u64)>,
    units: BTreeMap<u64, Vec<(u64, Value)>>,
    marks: Vec<(u64, Option<u8>)>,
    durable: u64,
    /// The same for name, attribute and times: fdatasync need not keep them.
    named: u64,
    /// Times as of `named`.
    times: Option<Times>,
    /// The last operation that changes the time of the contents.
    written: u64,
    /// The last operation of all.
    changed: u64,
}

impl History {
    fn size(&self) -> u64 {
        self.sizes.last().map_or(0, |(_, s)| *s)
    }

    fn value(&self, unit: u64) -> Value {
        self.units
            .get(&unit)
            .and_then(|v| v.last())
            .map_or(Value::Zero, |(_, v)| *v)
    }

    fn set(&mut self, seq: u64, unit: u64, value: Value) {
        self.units.entry(unit).or_default().push((seq, value));
    }

    /// What is wrong with the times that were found.
    fn wrong_times(&self, found: Times) -> Option<String> {
        let acked = self.times?;
        let is_wrong = |found: i64, acked: i64, last: u64| {
            if last > self.named {
                found < acked
            } else {
                found != acked
            }
        };
        let wrong = found.born != acked.born
            || is_wrong(found.data, acked.data, self.written)
            || is_wrong(found.change, acked.change, self.changed);
        wrong.then(|| {
            format!(
                "its times are {found}, fsync {} left {acked}; operation {} wrote last, {} was the last of all",
                self.named, self.written, self.changed
            )
        })
    }

    fn grow(&mut self, seq: u64, size: u64) {
        if size > self.size() {
            self.sizes.push((seq, size));
        }
    }
}

/// What is possible after the crash: the state at `durable`, and all later ones.
fn possible<T: Clone>(changes: &[(u64, T)], durable: u64, initial: T) -> Vec<T> {
    let base = changes
        .iter()
        .rev()
        .find(|(s, _)| *s <= durable)
        .map_or(initial, |(_, v)| v.clone());
    let later = changes
        .iter()
        .filter(|(s, _)| *s > durable)
        .map(|(_, v)| v.clone());
    std::iter::once(base).chain(later).collect()
}

/// Counts for the report.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Operations announced.
    pub ops: usize,
    /// fsyncs acknowledged.
    pub acks: usize,
    /// Files found.
    pub files: usize,
    /// Units compared.
    pub units: u64,
    /// Units of these that were torn, and may be.
    pub torn: u64,
    /// Units of these whose contents were durable (only one value allowed).
    pub durable: u64,
    /// Files whose times were durable and could not change any more.
    pub times: u64,
}

/// Everything the load said in one boot.
#[derive(Debug, Default)]
pub struct Judge {
    files: BTreeMap<u64, History>,
    /// Contents of units that are nothing that anybody wrote, by file and number.
    torn: BTreeMap<(u64, u64), Vec<u8>>,
    problems: Vec<String>,
    counts: Counts,
}

impl Judge {
    /// Reads the lines of the boot that was killed.
    pub fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Judge {
        let mut ops = BTreeMap::new();
        let mut j = Judge::default();
        let mut acks = Vec::new();
        for l in lines.filter_map(Line::parse) {
            match l {
                Line::Op { seq, op } => {
                    ops.insert(seq, op);
                }
                Line::Ack { id, seq, times } => acks.push((id, seq, times)),
                Line::Fail(what) => j.problems.push(format!("the load failed: {what}")),
                _ => {}
            }
        }
        j.counts.ops = ops.len();
        j.counts.acks = acks.len();
        // The operations of one thread are in order, and threads share no files.
        for (seq, op) in ops {
            j.apply(seq, op);
        }
        for (id, seq, times) in acks {
            let h = j.files.entry(id).or_default();
            h.durable = h.durable.max(seq);
            if times.is_some() && seq >= h.named {
                (h.named, h.times) = (seq, times);
            }
        }
        j
    }

    fn apply(&mut self, seq: u64, op: Op) {
        let h = self.files.entry(op.id()).or_default();
        h.changed = seq;
        if !matches!(op, Op::Rename { .. } | Op::Unlink { .. } | Op::Mark { .. }) {
            h.written = seq;
        }
        match op {
            Op::Create { id, path } => {
                self.files
                    .entry(id)
                    .or_default()
                    .paths
                    .push((seq, Some(path)));
            }
            Op::Write { id, off, len } => {
                let h = self.files.entry(id).or_default();
                (off..off + len).for_each(|u| h.set(seq, u, Value::Gen(seq)));
                h.grow(seq, off + len);
            }
            Op::Punch { id, off, len } => {
                let h = self.files.entry(id).or_default();
                (off..off + len).for_each(|u| h.set(seq, u, Value::Zero));
            }
            Op::Allocate { id, off, len } => {
                self.files.entry(id).or_default().grow(seq, off + len);
            }
            Op::Truncate { id, size } => {
                let h = self.files.entry(id).or_default();
                let beyond: Vec<u64> = h.units.range(size..).map(|(u, _)| *u).collect();
                beyond.into_iter().for_each(|u| h.set(seq, u, Value::Zero));
                h.sizes.push((seq, size));
            }
            Op::Clone { id, from, off, len } => {
                let src = self.files.entry(from).or_default();
                let values: Vec<Value> = (off..off + len).map(|u| src.value(u)).collect();
                let h = self.files.entry(id).or_default();
                for (u, v) in (off..).zip(values) {
                    h.set(seq, u, v);
                }
                h.grow(seq, off + len);
            }
            Op::Rename { id, path, victim } => {
                if victim != 0 {
                    let h = self.files.entry(victim).or_default();
                    h.paths.push((seq, None));
                    h.changed = seq;
                }
                self.files
                    .entry(id)
                    .or_default()
                    .paths
                    .push((seq, Some(path)));
            }
            Op::Unlink { id } => {
                self.files.entry(id).or_default().paths.push((seq, None));
            }
            Op::Mark { id, byte } => {
                let h = self.files.entry(id).or_default();
                h.marks.push((seq, Some(byte)));
            }
        }
    }

    /// Compares with what was found; returns what is wrong.
    pub fn judge<'a>(mut self, found: impl Iterator<Item = &'a str>) -> (Counts, Vec<String>) {
        let mut seen = BTreeSet::new();
        let mut complete = false;
        for l in found.filter_map(Line::parse) {
            match l {
                Line::Found(f) => {
                    self.counts.files += 1;
                    self.file(&f, &mut seen);
                }
                Line::Torn { id, unit, bytes } => {
                    self.torn.insert((id, unit), bytes);
                }
                Line::FoundAll => complete = true,
                _ => {}
            }
        }
        if !complete {
            self.problems.push("not all files were described".into());
        }
        for (id, h) in &self.files {
            let paths = possible(&h.paths, h.named, None);
            if !seen.contains(id) && paths.iter().all(Option::is_some) {
                let text = format!(
                    "file {id} is missing, durable up to {}: {paths:?}",
                    h.durable
                );
                self.problems.push(text);
            }
        }
        (self.counts, self.problems)
    }

    fn file(&mut self, f: &Found, seen: &mut BTreeSet<u64>) {
        if f.id == 0 {
            // Created, but the crash came before it got its number: empty, and never synced.
            let announced = self.files.values().any(|h| {
                possible(&h.paths, h.named, None).contains(&Some(f.path.clone())) && h.durable == 0
            });
            if !announced || f.size != 0 {
                self.problems.push(format!(
                    "{}: a file without number, size {}",
                    f.path, f.size
                ));
            }
            return;
        }
        if !seen.insert(f.id) {
            self.problems
                .push(format!("file {} has two names, one is {}", f.id, f.path));
        }
        let Some(h) = self.files.get(&f.id) else {
            self.problems
                .push(format!("{}: nobody made file {}", f.path, f.id));
            return;
        };
        let mut wrong = |text: String| {
            self.problems.push(format!(
                "file {} ({}), durable up to {}: {text}",
                f.id, f.path, h.durable
            ));
        };
        let paths = possible(&h.paths, h.named, None);
        if !paths.contains(&Some(f.path.clone())) {
            wrong(format!("its name can only be one of {paths:?}"));
        }
        let marks = possible(&h.marks, h.named, None);
        if !marks.contains(&f.mark) {
            wrong(format!("its mark is {:?}, possible are {marks:?}", f.mark));
        }
        h.wrong_times(f.times).into_iter().for_each(&mut wrong);
        if h.times.is_some() && h.changed <= h.named {
            self.counts.times += 1;
        }
        let sizes = possible(&h.sizes, h.durable, 0);
        let (low, high) = (sizes.iter().min().copied(), sizes.iter().max().copied());
        let unit = UNIT as u64;
        if f.size < low.unwrap_or(0) * unit || f.size > high.unwrap_or(0) * unit {
            wrong(format!(
                "its size is {}, possible are {sizes:?} units",
                f.size
            ));
        }
        let mut next = 0;
        for &(first, len, value) in &f.runs {
            if first != next {
                wrong(format!("described from {first}, expected {next}"));
            }
            next = first + len;
            for u in first..next {
                let none = Vec::new();
                let allowed = possible(h.units.get(&u).unwrap_or(&none), h.durable, Value::Zero);
                self.counts.units += 1;
                if allowed.len() == 1 {
                    self.counts.durable += 1;
                }
                // A block that was rewritten while it was on its way to the disk may be torn.
                let torn = self.torn.get(&(f.id, u)).filter(|_| value == Value::Bad);
                if torn.is_some_and(|bytes| is_mixture(bytes, u, &allowed)) {
                    self.counts.torn += 1;
                } else if !allowed.contains(&value) {
                    wrong(format!("unit {u} is {value:?}, possible are {allowed:?}"));
                    break;
                }
            }
        }
        if next != f.size.div_ceil(unit) {
            wrong(format!("{next} units described, size {}", f.size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(log: &[&str], found: &[&str]) -> Vec<String> {
        Judge::new(log.iter().copied())
            .judge(found.iter().copied())
            .1
    }

    const LOG: &[&str] = &[
        "CRASH op 1 new 1 t0/a",
        "CRASH op 2 w 1 0 4",
        "CRASH ack 1 2 5,10,11 all",
        "CRASH op 3 w 1 2 4",
        "CRASH op 4 p 1 0 1",
    ];

    #[test]
    fn acknowledged_or_newer_is_fine() {
        for runs in [
            "0+4:2",
            "0+1:z 1+1:2 2+4:3",
            "0+2:2 2+1:3 3+1:2",
            "0+4:2 4+1:z 5+1:3",
        ] {
            let units = runs
                .split(' ')
                .map(|r| r[2..].split(':').next().unwrap())
                .map(|n| n.parse::<u64>().unwrap());
            let size = units.sum::<u64>() * 1024;
            let line = format!("CRASH found 1 t0/a {size} - 5,10,11 {runs}");
            assert_eq!(
                verdict(LOG, &[&line, "CRASH found-all"]),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn loss_is_seen() {
        let lost = [
            "1 t0/a 4096 - 5,10,11 0+1:2 1+1:z 2+2:2",
            "1 t0/a 3072 - 5,10,11 0+3:2",
            "1 t0/b 4096 - 5,10,11 0+4:2",
            "1 t0/a 4096 - 5,10,11 0+3:2 3+1:bad",
            "1 t0/a 7168 - 5,10,11 0+4:2 4+3:z",
            "2 t0/a 4096 - 5,10,11 0+4:2",
        ];
        for l in lost {
            let l = &format!("CRASH found {l}");
            assert!(!verdict(LOG, &[l, "CRASH found-all"]).is_empty(), "{l}");
        }
        assert!(
            !verdict(LOG, &["CRASH found-all"]).is_empty(),
            "missing file"
        );
        assert!(
            !verdict(LOG, &["CRASH found 1 t0/a 4096 - 5,10,11 0+4:2"]).is_empty(),
            "cut off"
        );
    }

    #[test]
    fn names_change_as_a_whole() {
        let log = [
            "CRASH op 1 new 1 a",
            "CRASH op 2 new 2 b",
            "CRASH ack 1 1 1,1,1 all",
            "CRASH ack 2 2 2,2,2 all",
            "CRASH op 3 mv 1 b 2",
        ];
        let (a, b) = ("CRASH found 1 a 0 - 1,1,1", "CRASH found 2 b 0 - 2,2,2");
        let (moved, end) = ("CRASH found 1 b 0 - 1,1,3", "CRASH found-all");
        assert!(verdict(&log, &[a, b, end]).is_empty());
        assert!(verdict(&log, &[moved, end]).is_empty());
        assert!(!verdict(&log, &[b, end]).is_empty());
    }

    #[test]
    fn a_torn_unit_is_made_of_what_it_may_hold() {
        let log = ["CRASH op 3 w 1 2 4", "CRASH op 4 w 1 2 1"];
        let log: Vec<&str> = LOG[..3].iter().chain(&log).copied().collect();
        let found = "CRASH found 1 t0/a 4096 - 5,10,11 0+2:2 2+1:bad 3+1:2";
        let part = |gen: u64, index: u64| {
            let mut unit = vec![0; UNIT];
            crate::unit::fill(&mut unit, gen, index);
            unit
        };
        let judge = |bytes: Option<Vec<u8>>| {
            let (id, unit) = (1, 2);
            let torn = bytes.map(|bytes| Line::Torn { id, unit, bytes }.to_string());
            let torn = torn.as_deref().unwrap_or("");
            verdict(&log, &[torn, found, "CRASH found-all"])
        };
        let half = |a: Vec<u8>, b: Vec<u8>| Some([&a[..600], &b[600..]].concat());
        for (a, b) in [(2, 3), (3, 4), (4, 2)] {
            assert_eq!(judge(half(part(a, 2), part(b, 2))), Vec::<String>::new());
        }
        // Another place, another file's operation, zeros, garbage, nothing said.
        let wrong = [
            half(part(3, 2), part(4, 3)),
            Some(part(4, 3)),
            half(part(3, 2), part(1, 2)),
            half(part(3, 2), part(5, 2)),
            half(part(3, 2), vec![0; UNIT]),
            Some(vec![0xff; UNIT]),
            None,
        ];
        for bytes in wrong {
            assert!(!judge(bytes).is_empty());
        }
    }

    #[test]
    fn the_mark_is_that_of_the_last_fsync_or_newer() {
        let log = [
            "CRASH op 1 new 1 a",
            "CRASH op 2 x 1 7",
            "CRASH op 3 x 1 8",
            "CRASH ack 1 3 1,1,3 all",
            "CRASH op 4 x 1 9",
            "CRASH ack 1 4 data",
        ];
        let is = |log: &[&str], mark: &str| {
            let found = format!("CRASH found 1 a 0 {mark} 1,1,3");
            verdict(log, &[&found, "CRASH found-all"]).is_empty()
        };
        assert!(is(&log, "8") && is(&log, "9"));
        assert!(!is(&log, "7") && !is(&log, "-") && !is(&log, "10"));
        assert!(is(&log[..2], "-") && is(&log[..2], "7") && !is(&log[..2], "8"));
    }

    #[test]
    fn times_are_those_of_the_last_fsync_or_newer() {
        let log = [
            "CRASH op 1 new 1 a",
            "CRASH ack 1 1 5,10,11 all",
            "CRASH op 2 mv 1 b 0",
            "CRASH op 3 w 1 0 1",
        ];
        let is = |n: usize, path: &str, times: &str| {
            let found = format!("CRASH found 1 {path} 0 - {times}");
            verdict(&log[..n], &[&found, "CRASH found-all"]).is_empty()
        };
        assert!(is(2, "a", "5,10,11") && is(1, "a", "0,0,0"));
        for times in ["4,10,11", "5,9,11", "5,11,11", "5,10,10", "5,10,12"] {
            assert!(!is(2, "a", times), "{times}");
        }
        // A new name changes no time of the contents.
        assert!(is(3, "b", "5,10,20") && !is(3, "b", "5,12,20") && !is(3, "b", "5,10,10"));
        assert!(is(4, "b", "5,12,20") && !is(4, "b", "6,12,20") && !is(4, "b", "5,9,20"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Measures calf beside XFS, ext4 and btrfs: the same cases, in turn, on the same device, some also on the device
//! without a filesystem (`raw`). `make bench` runs it, and
//! `scripts/bench.py` makes tables of what it prints: a line `CALF-BENCH` for each case, filesystem and round.
//!
//! Environment: `CALF_BENCH_CASES`, `CALF_BENCH_FS` (comma separated; a case is chosen by a part of its name, or by name and size),
//! `CALF_BENCH_ROUNDS`, `CALF_BENCH_SIZE` (`full`: the large ones too, `large`: only those), `CALF_BENCH_DEVICE` (`null`: a disk in memory
//! without a queue, else the test disk).

mod cases;
mod disk;
mod turn;

use calf_vmlib::error::Context;
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::{ensure, ensure_eq, ktap, Env, Result};
use cases::Case;
use rustix::process::setpriority_process;
use std::collections::BTreeSet;
use std::process::ExitCode;
use turn::{Kind, Sample, Turn, KINDS};

fn word(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Says whether `name` contains one of the comma separated words, or is one that has a size, or there are none.
fn chosen(words: &str, name: &str) -> bool {
    let one = |w: &str| name == w || !w.contains('@') && name.contains(w);
    words.is_empty() || words.split(',').any(one)
}

/// Fails if one of the comma separated words of a variable chooses none of the names.
fn all_choose(variable: &str, words: &str, names: &BTreeSet<String>) -> Result {
    for w in words.split(',').filter(|_| !words.is_empty()) {
        ensure!(
            names.iter().any(|name| !w.is_empty() && chosen(w, name)),
            "{variable}={words}: nothing is called '{w}'; there are {}",
            names
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    Ok(())
}

/// The cases of these sizes, with the size and the name of each.
fn sized(size: &str) -> Vec<(&'static Case, u64, String)> {
    let (small, large) = (size != "large", matches!(size, "full" | "large"));
    let mut all = Vec::new();
    for case in cases::all() {
        let sizes = case.sizes.iter().filter(|_| small);
        for &arg in sizes.chain(case.full.iter().filter(|_| large)) {
            let name = match case.sizes.len() + case.full.len() {
                1 => case.name.to_string(),
                _ => format!("{}@{arg}", case.name),
            };
            all.push((case, arg, name));
        }
    }
    all
}

/// What completes at once leaves no idle time.
const AT_ONCE: &[(&str, &str)] = &[("irqmode", "0")];

/// One case on a fresh filesystem.
fn one(env: &Env, kind: &'static Kind, case: &Case, arg: u64) -> Result<Sample> {
    let mib = u32::try_from(arg << 10).unwrap_or(u32::MAX);
    let own = case.own_disk.then(|| NullDisk::new("own", mib, AT_ONCE));
    let own = own.transpose()?;
    let env = &own.as_ref().map_or_else(|| env.clone(), |n| n.env(env));
    kind.mkfs(env)?;
    let mut turn = Turn::new(env, kind)?;
    (case.run)(&mut turn, arg)?;
    turn.finish()
}

fn tell(name: &str, case: &Case, kind: &Kind, round: u64, s: &Sample) {
    let (io, later) = (s.io, s.later);
    let memory = s.memory.map_or(String::new(), |m| format!(" memory={m}"));
    ktap::line(&format!(
        "CALF-BENCH case={name} unit={} fs={} round={round} ops={} ns={} reads={} read_bytes={} writes={} \
         written_bytes={} flushes={} later_writes={} later_bytes={} later_flushes={}{memory}",
        case.unit,
        kind.fs,
        s.ops,
        s.ns,
        io.reads,
        io.read_bytes,
        io.writes,
        io.written_bytes,
        io.flushes,
        later.writes,
        later.written_bytes,
        later.flushes
    ));
}

fn all(env: &Env) -> Result {
    // A worker of the kernel that gets its turn at a tick meets us in a lock, and one of the two spins until the next tick.
    setpriority_process(None, -20).ctx("setpriority")?;
    let size = word("CALF_BENCH_SIZE");
    let rounds = calf_vmlib::env::number("CALF_BENCH_ROUNDS", 1)?;
    let cases = sized(&size);
    let (cases_of, fs_of) = (word("CALF_BENCH_CASES"), word("CALF_BENCH_FS"));
    let names = cases.iter().map(|c| c.2.clone()).collect();
    all_choose("CALF_BENCH_CASES", &cases_of, &names)?;
    let names = KINDS.iter().map(|k| k.fs.into()).collect();
    all_choose("CALF_BENCH_FS", &fs_of, &names)?;
    let null = match word("CALF_BENCH_DEVICE").as_str() {
        "null" => {
            // The largest file takes 4 GiB.
            let mib = if size == "small" { 1024 } else { 6144 };
            let disk = NullDisk::new("bench", mib, AT_ONCE)?;
            disk.fill()?;
            Some(disk)
        }
        _ => None,
    };
    let env = null.as_ref().map_or_else(|| env.clone(), |n| n.env(env));
    // Nobody else writes back behind our back; whoever measures also syncs.
    std::fs::write("/proc/sys/vm/dirty_writeback_centisecs", "0")?;
    let mut bad = BTreeSet::new();
    let (mut count, mut failed) = (0, 0);
    for round in 0..rounds {
        for &(case, arg, ref name) in &cases {
            if !chosen(&cases_of, name) {
                continue;
            }
            for kind in KINDS.iter().filter(|k| case.works_on(k)) {
                let id = format!("{name} on {}", kind.fs);
                if !chosen(&fs_of, kind.fs) || bad.contains(&id) {
                    continue;
                }
                match one(&env, kind, case, arg) {
                    Ok(sample) => {
                        tell(name, case, kind, round, &sample);
                        count += 1;
                    }
                    Err(e) => {
                        ktap::note(&format!("{id}: {e}"));
                        failed += u32::from(!e.skip);
                        bad.insert(id);
                    }
                }
            }
        }
    }
    ensure_eq!(failed, 0, "cases that failed");
    ensure!(count > 0, "no case was chosen");
    Ok(())
}

fn main() -> ExitCode {
    ktap::run(&Env::new(), calf_vmlib::cases![all], |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_chooses_nothing_is_an_error() {
        let names = ["clone@1".to_string(), "cow".to_string()].into();
        for good in ["", "clone", "cow,clone@1"] {
            assert!(all_choose("CASES", good, &names).is_ok(), "{good}");
        }
        for bad in ["typo", "cow,typo", "cow,", "clone@2"] {
            assert!(all_choose("CASES", bad, &names).is_err(), "{bad}");
        }
    }
}

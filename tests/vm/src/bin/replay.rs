// SPDX-License-Identifier: GPL-2.0

//! Crashes at every moment of short sequences, by replaying what the device was told.
//!
//! A sequence is two operations, each with or without something that makes it durable (`order.rs`). While it runs, dm-log-writes records
//! every write, flush and FUA, and when something was acknowledged. For each state of the device that a
//! crash may have left (`states.rs`) the test mounts it, compares the tree with what the promise allows (`oracle.rs`), unmounts
//! and runs `fsck.calf -n`.
//!
//! In the environment (`make replay` sets them): `CALF_REPLAY_SEQUENCES` how many (0: each pair with each placement of
//! syncs), from number `_FIRST` on; `_SEED` in which order;
//! `_TORN` sets of writes between two flushes; `_STATE` only this state of each.

#[path = "../replay/bench.rs"]
mod bench;
#[path = "../replay/disks.rs"]
mod disks;
#[path = "../replay/log.rs"]
mod log;
#[path = "../replay/ops.rs"]
mod ops;
#[path = "../replay/oracle.rs"]
mod oracle;
#[path = "../replay/order.rs"]
mod order;
#[path = "../replay/states.rs"]
mod states;
#[path = "../replay/tree.rs"]
mod tree;
#[path = "../replay/world.rs"]
mod world;

use bench::Sync;
use calf_vmlib::rng::mix;
use calf_vmlib::{cases, ensure, fs as cfs, ktap, observe, Env, Result};
use disks::{Lab, Recording, CONFIGS};
use ops::OPS;
use order::Sequence;
use states::{Plan, State};
use std::process::ExitCode;
use std::time::Instant;

/// A number that the kernel's command line has put into the environment.
fn number(name: &str, default: u64) -> Result<u64> {
    calf_vmlib::env::number(&format!("CALF_REPLAY_{name}"), default)
}

/// One state in so many is recovered under the log, to crash once more on the way.
const AGAIN: usize = 16;

/// Judges what a crash leaves while `image` is recovered. Returns how many states there were.
fn judge_again(
    lab: &Lab,
    rec: &Recording,
    plan: Plan,
    first: &State,
    bad: &mut Vec<String>,
) -> Result<usize> {
    let log = lab.recover(rec, first.image)?;
    let mut one = |s: State| {
        let what = format!("state {}, recovered, {}", first.number, s.what);
        // Nobody was told anything more.
        let marks = first.marks;
        if let Err(e) = lab.judge(rec, &State { marks, ..s }) {
            bad.push(format!("{what}: {e}"));
        }
        true
    };
    Ok(states::walk(first.image, &log, plan, &mut one))
}

/// Judges every state of a recording, or number `only`, and some that follow from them. Returns how many there
/// were and what was wrong with which.
fn judge_all(lab: &Lab, rec: &Recording, plan: Plan, only: Option<usize>) -> (usize, Vec<String>) {
    let (mut bad, mut count) = (Vec::new(), 0);
    let mut one = |s: State| {
        let again = match only {
            None => s.number % AGAIN == plan.seed as usize % AGAIN,
            Some(n) if n == s.number => true,
            Some(_) => return true,
        };
        count += 1;
        if let Err(e) = lab.judge(rec, &s) {
            bad.push(format!("state {} ({}): {e}", s.number, s.what));
        } else if again {
            match judge_again(lab, rec, plan, &s, &mut bad) {
                Ok(n) => count += n,
                Err(e) => bad.push(format!("state {}, recovered: {e}", s.number)),
            }
        }
        true
    };
    states::walk(&rec.start, &rec.log, plan, &mut one);
    (count, bad)
}

fn every_state_is_allowed(env: &Env) -> Result {
    let (seed, torn) = (number("SEED", 1)?, number("TORN", 2)? as usize);
    let (first, count) = (number("FIRST", 0)?, number("SEQUENCES", 5)?);
    let complete = order::complete();
    let count = if count == 0 { complete } else { count };
    let only = number("STATE", u64::MAX)?;
    let only = (only != u64::MAX).then_some(only as usize);
    let lab = Lab::new(env)?;
    let (mut states, mut bad) = (0, 0);
    let mut told = Instant::now();
    for n in first..first + count {
        let s = Sequence::new(seed, n);
        let outcome = lab.record(s.config, &s.steps).map(|rec| {
            let plan = Plan {
                block: s.config().block,
                torn,
                seed: seed ^ mix(n),
                lost_flush: None,
            };
            judge_all(&lab, &rec, plan, only)
        });
        let wrong = match outcome {
            Ok((n, wrong)) => {
                states += n;
                wrong
            }
            Err(e) => vec![e.text],
        };
        bad += wrong.len();
        if !wrong.is_empty() {
            ktap::note(&format!("{s}, seed {seed}:"));
            wrong.iter().take(3).for_each(|w| ktap::note(w));
        }
        if told.elapsed().as_secs() >= 60 {
            told = Instant::now();
            let done = n + 1 - first;
            ktap::note(&format!("{done} of {count} sequences, {states} states"));
        }
    }
    ktap::note(&format!(
        "{count} of {complete} sequences, {states} states, {bad} bad"
    ));
    ensure!(states > 0, "no states");
    ensure!(bad == 0, "{bad} states are not allowed");
    Ok(())
}

/// Whoever judges everything to be right would not notice that.
fn a_lost_flush_is_noticed(env: &Env) -> Result {
    let lab = Lab::new(env)?;
    let create = OPS.iter().position(|(n, _)| *n == "create").unwrap_or(0);
    // Small, so quick.
    let config = 1;
    let rec = lab.record(config, &[(create, Sync::Fsync)])?;
    let flushes = rec.log.iter().filter(|e| **e == log::Entry::Flush).count();
    let run = |lost_flush| {
        let plan = Plan {
            block: CONFIGS[config].block,
            torn: 4,
            seed: 1,
            lost_flush,
        };
        // The first that is wrong is enough.
        let mut bad = None;
        states::walk(&rec.start, &rec.log, plan, &mut |s| {
            bad = lab.judge(&rec, &s).err().map(|e| (s.number, s.what, e));
            bad.is_none()
        });
        bad.map(|(n, what, e)| format!("state {n} ({what}): {e}"))
    };
    if let Some(what) = run(None) {
        return Err(format!("with all flushes: {what}").into());
    }
    for f in 0..flushes {
        if let Some(what) = run(Some(f)) {
            ktap::note(&format!("without flush {f} of {flushes}: {what}"));
            return Ok(());
        }
    }
    Err("no flush is missed".into())
}

/// The same with data that are not what was written.
fn a_wrong_block_is_noticed(env: &Env) -> Result {
    let lab = Lab::new(env)?;
    for (config, c) in CONFIGS.iter().enumerate().take(2) {
        let bs = c.block;
        let rec = lab.record(config, &[])?;
        let node = rec.history.start.names["d/f"];
        let data = rec.history.start.nodes[node].data[..bs].to_vec();
        let at = rec.start.bytes.chunks(bs).position(|b| b == data);
        let at = at.ok_or("the block of d/f is nowhere")?;
        let mut image = rec.start.clone();
        let judge = |image: &states::Image| {
            let state = State {
                number: 0,
                image,
                marks: 0,
                what: String::new(),
            };
            lab.judge(&rec, &state)
        };
        judge(&image)?;
        image.bytes[at * bs + 17] ^= 0x40;
        let Err(e) = judge(&image) else {
            return Err("a wrong block is not noticed".into());
        };
        ensure!(e.text.contains("d/f: block 0"), "not the block: {e}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    let up = ktap::guarded(|| {
        observe::mount_debugfs();
        cfs::insmod(&env)
    });
    if let Err(e) = up {
        ktap::head(1);
        ktap::result(1, "module", 0.0, &Err(e));
        return ExitCode::from(1);
    }
    let cases = cases![
        every_state_is_allowed,
        a_lost_flush_is_noticed,
        a_wrong_block_is_noticed
    ];
    ktap::run(&env, cases, |_| ())
}

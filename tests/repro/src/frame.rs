// SPDX-License-Identifier: GPL-2.0

//! The common frame of all reproducers.
//!
//! A reproducer has four parts: what it *needs*, a *setup* that prepares files on a freshly
//! formatted calf, an *act* that walks into the situation, and a *judgement* of what it saw. The
//! frame does the rest: it formats (once a series), mounts with the bug switch or without, re-arms the kernel's
//! one-shot warnings, announces the warnings that are expected, unmounts, checks the image and
//! counts.
//!
//! A reproducer that cannot prove that it reached its situation must fail with
//! [`window_missed`]: silence with the switch off means something only if the window was hit.

use crate::checks::{seen_by, Seen};
use calf_vmlib::error::Context;
use calf_vmlib::fs::{self, Mounted};
use calf_vmlib::ktap;
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::observe::{self, Kmsg};
use calf_vmlib::{Env, Fail, Result};
use std::collections::BTreeSet;

/// What a reproducer asks of the place where it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// Free space must hold old, non-zero data, so that reading a block that nobody wrote is seen.
    pub junk: bool,
    /// More mount options, besides the switch.
    pub options: &'static str,
    /// A disk that takes 50 ms for each request.
    pub slow: bool,
}

/// What one run showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as the contract demands.
    Correct,
    /// Exactly the bug that the switch brings back.
    Bug,
    /// Something else: neither expected with the switch on nor with it off.
    Other,
}

/// A verdict and the facts it rests on, one line.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The symptom in a few words, for the table.
    pub observed: String,
    /// The facts.
    pub facts: String,
}

/// The stage that the frame sets for each run.
pub struct Stage {
    /// The mounted filesystem; a reproducer may cycle it.
    pub fs: Mounted,
    /// Bytes of the files used.
    pub size: u64,
    /// Places of kernel warnings seen in the act (filled in before the judgement).
    pub warnings: Vec<String>,
    /// Trace lines worth showing (filled in by the act).
    pub trace: Vec<String>,
}

/// One reproducer.
pub trait Reproducer: Sync {
    /// What setup hands to act.
    type Scene;
    /// What act hands to judge.
    type Seen;

    /// Name; also the name of the switch.
    fn name(&self) -> &'static str;
    /// Contract ids, as in the catalogue.
    fn contract(&self) -> &'static str;
    /// What happens with the switch on, one line.
    fn summary(&self) -> &'static str;
    /// Demands.
    fn needs(&self) -> Needs;
    /// The kernel warning (`file:line`) that comes with the switch on.
    fn expect_warn(&self) -> Option<&'static str> {
        None
    }
    /// The same, of a kernel whose lockdep is on: the switch leaves out a lock that the kernel asserts.
    fn expect_lockdep(&self) -> Option<&'static str> {
        None
    }
    /// Lines of the historical report that [`Stage::trace`] is shown beside.
    fn history(&self) -> &'static [&'static str] {
        &[]
    }
    /// Prepares the files.
    fn setup(&self, stage: &mut Stage) -> Result<Self::Scene>;
    /// Walks into the situation.
    fn act(&self, stage: &mut Stage, scene: &mut Self::Scene) -> Result<Self::Seen>;
    /// Judges.
    fn judge(&self, stage: &mut Stage, scene: Self::Scene, seen: Self::Seen) -> Result<Judgement>;
}

/// A [`Reproducer`] without its types, for lists.
pub trait AnyReproducer: Sync {
    /// See [`Reproducer::name`].
    fn name(&self) -> &'static str;
    /// See [`Reproducer::contract`].
    fn contract(&self) -> &'static str;
    /// See [`Reproducer::summary`].
    fn summary(&self) -> &'static str;
    /// See [`Reproducer::needs`].
    fn needs(&self) -> Needs;
    /// See [`Reproducer::history`].
    fn history(&self) -> &'static [&'static str];
    /// Setup, act and judgement on a stage.
    fn play(&self, stage: &mut Stage, on: bool) -> Result<Judgement>;
}

impl<R: Reproducer> AnyReproducer for R {
    fn name(&self) -> &'static str {
        Reproducer::name(self)
    }
    fn contract(&self) -> &'static str {
        Reproducer::contract(self)
    }
    fn summary(&self) -> &'static str {
        Reproducer::summary(self)
    }
    fn needs(&self) -> Needs {
        Reproducer::needs(self)
    }
    fn history(&self) -> &'static [&'static str] {
        Reproducer::history(self)
    }

    fn play(&self, stage: &mut Stage, on: bool) -> Result<Judgement> {
        let mut scene = self.setup(stage).ctx("setup")?;
        observe::clear_warn_once()?;
        let mut expected = Vec::new();
        if on {
            expected.extend(Reproducer::expect_warn(self));
            expected.extend(Reproducer::expect_lockdep(self).filter(|_| observe::lockdep_is_on()));
        }
        for place in &expected {
            ktap::line(&format!("CALF-EXPECT-WARN {place}"));
        }
        let mut log = Kmsg::new()?;
        let seen = self.act(stage, &mut scene).ctx("act")?;
        stage.warnings = observe::warnings(&log.read());
        let mut judged = self.judge(stage, scene, seen).ctx("judge")?;
        // Warnings that came later, from writeback or unmounting, count too.
        stage.warnings.extend(observe::warnings(&log.read()));
        // None but these, and with the bug each of them.
        let seen: BTreeSet<&str> = stage.warnings.iter().map(String::as_str).collect();
        let expected = BTreeSet::from_iter(expected);
        if !seen.is_subset(&expected) || (judged.verdict == Verdict::Bug && seen != expected) {
            judged.verdict = Verdict::Other;
        }
        let seen = if stage.warnings.is_empty() {
            "none".into()
        } else {
            stage.warnings.join("+")
        };
        judged.facts = format!("{} warn={seen}", judged.facts);
        if !stage.warnings.is_empty() {
            judged.observed = format!("{}, WARN {seen}", judged.observed);
        }
        Ok(judged)
    }
}

/// The error of a run that did not reach its situation.
pub fn window_missed(why: impl std::fmt::Display) -> Fail {
    Fail::new(format!("window missed: {why}"))
}

/// How a series of runs is done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Runs in each position of the switch.
    pub times: u32,
    /// Bytes of the test files.
    pub size: u64,
    /// Arguments for mkfs.calf.
    pub mkfs: Vec<String>,
    /// Show the trace of the first run.
    pub show_trace: bool,
}

/// The count of a series with the switch in one position.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Runs done.
    pub runs: u32,
    /// Runs that were judged correct.
    pub correct: u32,
    /// Runs that showed the bug.
    pub bug: u32,
    /// Runs that were judged otherwise or failed.
    pub other: u32,
    /// Symptom of the first run, in a few words.
    pub observed: String,
    /// Facts of the first run, and of the first unexpected one.
    pub facts: String,
    /// Contracts that the module saw broken, over all runs.
    pub broken: BTreeSet<String>,
    /// Why the series could not be run.
    pub skipped: Option<String>,
}

impl Tally {
    /// Whether all runs were as they must be in this position.
    pub fn as_expected(&self, on: bool) -> bool {
        self.skipped.is_none()
            && self.runs > 0
            && self.runs == if on { self.bug } else { self.correct }
    }

    /// For the table: `100 of 100`.
    pub fn count(&self) -> String {
        match &self.skipped {
            Some(_) => "skipped".into(),
            None => format!("{} of {}", self.bug, self.runs),
        }
    }
}

/// Plays the reproducer `plan.times` times with the switch in one position.
pub fn series(r: &dyn AnyReproducer, env: &Env, plan: &Plan, on: bool) -> Tally {
    let mut tally = Tally::default();
    let disk;
    let mut env = env.clone();
    if r.needs().slow {
        let settings = [("irqmode", "2"), ("completion_nsec", "50000000")];
        match NullDisk::new("slow0", 128, &settings) {
            Ok(d) => disk = d,
            Err(e) => {
                tally.skipped = Some(e.text);
                return tally;
            }
        }
        env = disk.env(&env);
    }
    let env = &env;
    let mut unexpected = false;
    // What happened before is not ours. A module that does not count is none of a laboratory.
    if let Err(e) = observe::forget_violations() {
        tally.skipped = Some(e.text);
        return tally;
    }
    for i in 0..plan.times {
        let mut trace = Vec::new();
        let last = i + 1 == plan.times;
        let outcome = once(r, env, plan, on, (i == 0, last), &mut trace);
        if i == 0 && plan.show_trace && !trace.is_empty() {
            show_beside(r, on, &trace);
        }
        tally.runs += 1;
        let broken: BTreeSet<String> = observe::violations().into_keys().collect();
        let outcome = observe::forget_violations().and(outcome);
        tally.broken.extend(broken.iter().cloned());
        let outcome = outcome.map(|j| contracts(r, on, &broken, j));
        let (expected, observed, facts) = match outcome {
            Ok(j) => {
                match j.verdict {
                    Verdict::Correct => tally.correct += 1,
                    Verdict::Bug => tally.bug += 1,
                    Verdict::Other => tally.other += 1,
                }
                let wanted = if on { Verdict::Bug } else { Verdict::Correct };
                (j.verdict == wanted, j.observed, j.facts)
            }
            Err(e) if e.skip => {
                tally.skipped = Some(e.text);
                return tally;
            }
            Err(e) => {
                tally.other += 1;
                (false, "failed".to_string(), e.text)
            }
        };
        if i == 0 {
            tally.observed = observed;
            tally.facts = facts.clone();
        }
        if !expected {
            ktap::note(&format!("{} {} run {}: {facts}", r.name(), word(on), i + 1));
            if !unexpected && i > 0 {
                tally.facts = format!("{} | run {}: {facts}", tally.facts, i + 1);
            }
            unexpected = true;
        }
    }
    tally
}

/// What the checks of the module say counts as well: nothing is broken with the switch off, and with it
/// on the check that belongs to it has fired.
fn contracts(
    r: &dyn AnyReproducer,
    on: bool,
    broken: &BTreeSet<String>,
    mut j: Judgement,
) -> Judgement {
    let list = broken.iter().map(String::as_str).collect::<Vec<_>>();
    let fine = match (on, seen_by(r.name(), r.contract())) {
        (false, _) => broken.is_empty(),
        (true, Seen::By(check)) => broken.contains(check),
        (true, Seen::Never(_)) => true,
    };
    if !fine {
        j.verdict = Verdict::Other;
    }
    j.facts = format!("{} broken={}", j.facts, list.join("+"));
    j
}

/// `on` or `off`.
pub fn word(on: bool) -> &'static str {
    if on {
        "on"
    } else {
        "off"
    }
}

fn once(
    r: &dyn AnyReproducer,
    env: &Env,
    plan: &Plan,
    on: bool,
    (format, check): (bool, bool),
    trace: &mut Vec<String>,
) -> Result<Judgement> {
    let args: Vec<&str> = plan.mkfs.iter().map(String::as_str).collect();
    // A series shares one filesystem: to make one takes longer than the rest of a short run.
    if format {
        fs::mkfs(env, &env.dev, &args)?;
    }
    let mut options = r.needs().options.to_string();
    if on {
        options = format!("{options},bug={}", r.name());
    }
    let mounted = match Mounted::new(&env.dev, &env.mnt, options.trim_matches(',')) {
        Err(e) if on && e.errno == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            return Err(Fail::skip("the module does not offer this switch"));
        }
        other => other?,
    };
    let mut stage = Stage {
        fs: mounted,
        size: plan.size,
        warnings: Vec::new(),
        trace: Vec::new(),
    };
    let outcome = ktap_guarded(|| r.play(&mut stage, on));
    *trace = std::mem::take(&mut stage.trace);
    let umount = stage.fs.umount();
    drop(stage);
    let judged = outcome?;
    umount?;
    if check {
        fs::fsck(env, &env.dev)?;
    }
    Ok(judged)
}

fn ktap_guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut value = None;
    ktap::guarded(|| {
        value = Some(f()?);
        Ok(())
    })?;
    value.ok_or_else(|| Fail::new("no value"))
}

/// Prints the trace of a run beside the lines of the historical report.
fn show_beside(r: &dyn AnyReproducer, on: bool, trace: &[String]) {
    const WIDTH: usize = 62;
    let title = format!("this run, bug={} {}", r.name(), word(on));
    ktap::line(&format!(
        "# {:<WIDTH$} | {title}",
        "the report of 2021 (5.14, XFS)"
    ));
    let history = r.history();
    for i in 0..history.len().max(trace.len()) {
        let left = history.get(i).copied().unwrap_or("");
        let right = trace.get(i).map_or("", String::as_str);
        ktap::line(&format!("# {left:<WIDTH$} | {right}"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Random operations on calf and on a model in memory, compared all the time.
//!
//!     model [--seeds N] [--steps M] [--first SEED] [--bs SIZE] [--opts OPTIONS] [--shrink]
//!     model --dir FOLDER ...       on a filesystem that is mounted already
//!
//! Without arguments a short run on four filesystems; `CALF_MODEL_SEEDS`, `_STEPS`, `_FIRST`, `_BS`, `_OPTS`, `_SHRINK=1` in the
//! environment do what the arguments do. What a step does follows from the seed, the number
//! of the step, and what is there; `--shrink` leaves out steps after a failure as long as
//! it stays one.

#[path = "../model/data.rs"]
mod data;
#[path = "../model/ops.rs"]
mod ops;
#[path = "../model/tree.rs"]
mod tree;
#[path = "../model/world.rs"]
mod world;

use calf_vmlib::env::number;
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::rng::{mix, Rng};
use calf_vmlib::{ensure, ensure_eq, ktap, observe, Context, Env, Fail, Result};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use world::World;

/// Steps between comparisons of everything.
const WHOLE: u64 = 250;
/// Steps between remounts.
const REMOUNT: u64 = 1000;
/// Files that stay open.
const OPEN: usize = 4;

#[derive(Clone)]
struct Options {
    seeds: u64,
    first: u64,
    steps: u64,
    bs: Option<String>,
    opts: Option<String>,
    dir: Option<PathBuf>,
    shrink: bool,
}

fn options() -> Result<Options> {
    let mut o = Options {
        seeds: number("CALF_MODEL_SEEDS", 1)?,
        first: number("CALF_MODEL_FIRST", 1)?,
        steps: number("CALF_MODEL_STEPS", 600)?,
        bs: std::env::var("CALF_MODEL_BS").ok(),
        opts: std::env::var("CALF_MODEL_OPTS").ok(),
        dir: None,
        shrink: number("CALF_MODEL_SHRINK", 0)? > 0,
    };
    let mut args = std::env::args().skip(1);
    while let Some(a) = args.next() {
        let mut value = || args.next().ok_or(Fail::new(format!("{a} needs a value")));
        let number = |v: String| {
            v.parse()
                .map_err(|_| Fail::new(format!("{v} is no number")))
        };
        match a.as_str() {
            "--seeds" => o.seeds = number(value()?)?,
            "--steps" => o.steps = number(value()?)?,
            "--first" => o.first = number(value()?)?,
            "--bs" => o.bs = Some(value()?),
            "--opts" => o.opts = Some(value()?),
            "--dir" => o.dir = Some(value()?.into()),
            "--shrink" => o.shrink = true,
            _ => return Err(Fail::new(format!("unknown argument {a}"))),
        }
    }
    Ok(o)
}

/// Where a run takes place: a filesystem of its own, or a folder.
enum Place<'a> {
    Fresh(&'a Env, &'a mut Mounted),
    Folder(PathBuf),
}

impl Place<'_> {
    fn root(&self) -> &Path {
        match self {
            Place::Fresh(_, m) => &m.mnt,
            Place::Folder(p) => p,
        }
    }

    /// Makes everything durable.
    fn sync(&self) -> Result {
        let top = std::fs::File::open(self.root())?;
        rustix::fs::syncfs(&top).ctx("syncfs")
    }

    fn remount(&mut self, check: bool) -> Result {
        let Place::Fresh(env, m) = self else {
            return Ok(());
        };
        m.umount()?;
        if check {
            cfs::fsck(env, &env.dev)?;
        }
        m.cycle()
    }
}

/// The last operations, for whoever reads of a failure.
#[derive(Default)]
struct Log(VecDeque<String>);

impl Log {
    fn add(&mut self, line: String) {
        // Long names are long because of one letter.
        let mut short = String::new();
        for c in line.chars() {
            if !short.ends_with(&c.to_string().repeat(4)) {
                short.push(c);
            }
        }
        self.0.push_back(short.escape_debug().to_string());
        if self.0.len() > 20 {
            self.0.pop_front();
        }
    }
}

/// One run. On a failure, also the step at which it came.
fn play(
    place: &mut Place,
    seed: u64,
    steps: u64,
    skip: &BTreeSet<u64>,
) -> std::result::Result<(), (u64, Fail)> {
    let mut log = Log::default();
    let mut at = 0;
    let outcome = ktap::guarded(|| steps_of(place, seed, steps, skip, &mut log, &mut at));
    outcome.map_err(|mut e| {
        let lines: Vec<String> = log.0.into_iter().collect();
        e.text = format!("seed {seed}, step {at}: {}\n{}", e.text, lines.join("\n"));
        (at, e)
    })
}

fn steps_of(
    place: &mut Place,
    seed: u64,
    steps: u64,
    skip: &BTreeSet<u64>,
    log: &mut Log,
    at: &mut u64,
) -> Result {
    let offers = world::probe(place.root(), matches!(place, Place::Fresh(..))).ctx("probing")?;
    for what in &offers.missing {
        ktap::note(&format!("not available: {what}"));
    }
    // Blocks that the probes have freed are pending until they are durable.
    place.sync()?;
    let start = cfs::space(place.root())?;
    let mut w = World::new(place.root(), offers, start.bsize)?;
    for n in 0..steps {
        *at = n;
        if skip.contains(&n) {
            continue;
        }
        let mut r = Rng::new(mix(seed) ^ n);
        let touched = ops::step(&mut w, &mut r);
        log.add(format!("  {n}: {}", w.text));
        w.check(&mut r, &touched?)?;
        w.close(OPEN);
        if n % WHOLE == WHOLE - 1 {
            w.check_all().ctx("comparison of everything")?;
        }
        if n % REMOUNT == REMOUNT - 1 {
            log.add(format!("  {n}: remount"));
            w.close(0);
            place.remount(n % (4 * REMOUNT) == 4 * REMOUNT - 1)?;
            w.check_all().ctx("comparison after a remount")?;
        }
    }
    w.check_all().ctx("comparison at the end")?;
    w.close(0);
    place.remount(true)?;
    w.check_all().ctx("comparison after the last remount")?;
    w.remove_all()?;
    place.sync()?;
    place.remount(true)?;
    if let Place::Fresh(..) = place {
        let end = cfs::space(place.root())?;
        ensure_eq!(
            (end.free, end.avail),
            (start.free, start.avail),
            "free blocks after rm -rf"
        );
        ensure_eq!(
            end.files - end.ffree,
            start.files - start.ffree,
            "inodes after rm -rf"
        );
    }
    Ok(())
}

/// A run on a fresh filesystem.
fn fresh(
    env: &Env,
    bs: &str,
    opts: &str,
    seed: u64,
    steps: u64,
    skip: &BTreeSet<u64>,
) -> std::result::Result<(), (u64, Fail)> {
    let mut at = 0;
    let outcome = cfs::with_fs(env, &["-b", bs], opts, |m| {
        play(&mut Place::Fresh(env, m), seed, steps, skip).map_err(|(step, e)| {
            at = step;
            e
        })
    });
    outcome.map_err(|e| (at, e))
}

/// Leaves out steps as long as the run fails without them.
fn shrink(
    mut fails: impl FnMut(u64, &BTreeSet<u64>) -> Option<u64>,
    step: u64,
) -> (u64, BTreeSet<u64>) {
    let mut skip = BTreeSet::new();
    let mut last = step;
    let mut size = (last / 2).max(1);
    loop {
        let mut from = 0;
        while from < last {
            let mut more = skip.clone();
            more.extend(from..(from + size).min(last));
            if more.len() > skip.len() {
                if let Some(at) = fails(last + 1, &more) {
                    (skip, last) = (more, at);
                }
            }
            from += size;
        }
        if size == 1 {
            return (last, skip);
        }
        size = size.div_ceil(4);
    }
}

fn run(env: &Env, o: &Options, bs: &str, opts: &str, seed: u64) -> Result {
    let none = BTreeSet::new();
    let once = |steps: u64, skip: &BTreeSet<u64>| match &o.dir {
        None => fresh(env, bs, opts, seed, steps, skip),
        Some(dir) => {
            // What a failed run has left.
            let dir = dir.join("model");
            let _ = std::fs::remove_dir_all(&dir);
            let made = std::fs::create_dir(&dir).ctx("mkdir");
            made.map_err(|e| (0, e))?;
            play(&mut Place::Folder(dir), seed, steps, skip)
        }
    };
    let Err((step, e)) = once(o.steps, &none) else {
        return Ok(());
    };
    if !o.shrink {
        return Err(e);
    }
    ktap::note(&e.text);
    ktap::note("shrinking");
    let (last, skip) = shrink(|steps, skip| once(steps, skip).err().map(|e| e.0), step);
    let Err((_, e)) = once(last + 1, &skip) else {
        return Err(Fail::new("the failure does not come every time"));
    };
    let kept = last + 1 - skip.len() as u64;
    ktap::note(&format!("{kept} steps are left"));
    Err(e)
}

fn all(env: &Env, o: &Options) -> Result {
    ensure!(o.steps > 0 && o.seeds > 0, "nothing to do");
    let sizes =
        o.bs.clone()
            .map_or(vec!["4096".into(), "1024".into()], |b| vec![b]);
    let opts = o
        .opts
        .clone()
        .map_or(vec!["".into(), "always_cow".into()], |o| vec![o]);
    let mut runs = Vec::new();
    for seed in o.first..o.first + o.seeds {
        for bs in &sizes {
            for opts in &opts {
                runs.push((seed, bs.clone(), opts.clone()));
            }
        }
    }
    if o.dir.is_some() {
        runs.dedup_by_key(|r| r.0);
    }
    ktap::head(runs.len());
    let mut bad = 0;
    for (i, (seed, bs, opts)) in runs.iter().enumerate() {
        let start = Instant::now();
        let outcome = ktap::guarded(|| run(env, o, bs, opts, *seed));
        let name = format!(
            "seed_{seed}_bs_{bs}_{}",
            if opts.is_empty() { "plain" } else { opts }
        );
        if !ktap::result(i + 1, &name, start.elapsed().as_secs_f64(), &outcome) {
            bad += 1;
        }
    }
    ensure!(bad == 0, "{bad} runs failed");
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    rustix::process::umask(rustix::fs::Mode::empty());
    match options().and_then(|o| all(&env, &o)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            ktap::note(&e.text);
            ExitCode::from(1)
        }
    }
}

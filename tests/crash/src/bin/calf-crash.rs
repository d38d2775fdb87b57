// SPDX-License-Identifier: GPL-2.0

//! The part of the crash test that runs on the host: boots the VM under load, kills it at a random
//! moment, boots it again, judges what is left; as often as asked.
//!
//! One boot a kill: a boot first describes what the kill before it left, then loads the disk again.

use calf_crash::judge::Judge;
use calf_crash::progress::Progress;
use calf_vmlib::error::Context;
use calf_vmlib::rng::{mix, Rng};
use calf_vmlib::{ensure, Fail, Result};
use clap::{Args, Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(version, about = "Kills the VM under load and checks what is left")]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Boots and kills
    Run(Run),
    /// Only judges: the guest's output before a crash, and that of the boot after it
    Judge {
        /// Output with the operations
        before: PathBuf,
        /// Output with the description of the files
        after: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// How often to kill
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// Seed of the loads and of the moments (default: the time)
    #[arg(long)]
    seed: Option<u64>,
    /// Shortest load, in seconds; it goes on until every thread has got on after it
    #[arg(long, default_value_t = 2.0)]
    min: f64,
    /// Longest load
    #[arg(long, default_value_t = 5.0)]
    max: f64,
    /// Longest time, in seconds, from then to the kill
    #[arg(long, default_value_t = 1.0)]
    after: f64,
    /// Seconds in which every thread of the load must get on (times CALF_TIME_SCALE)
    #[arg(long, default_value_t = 120.0)]
    stall_limit: f64,
    /// The disk: a raw image; made when missing
    #[arg(long)]
    disk: PathBuf,
    /// Size of a disk that is made, in MiB
    #[arg(long, default_value_t = 512)]
    disk_size: u64,
    /// Folder for the logs
    #[arg(long)]
    log: PathBuf,
    /// fsck.calf of the host, for the image at the end
    #[arg(long)]
    fsck: Option<PathBuf>,
    /// release or lab
    #[arg(long, default_value = "release")]
    module: String,
    /// Seconds until a boot must have come to its load
    #[arg(long, default_value_t = 180.0)]
    boot_limit: f64,
    /// qemu/run with --kernel, --root and --payload; disk, log and task are added
    #[arg(last = true, required = true)]
    runner: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        What::Run(o) => run(&o),
        What::Judge { before, after } => compare(&before, &after).map(|text| {
            println!("{text}");
            true
        }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("calf-crash: {e}");
            ExitCode::from(2)
        }
    }
}

/// Judges one crash; the text is for people.
fn compare(before: &Path, after: &Path) -> Result<String> {
    let read = |p: &Path| -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(p).ctx(p.display())?).replace('\r', ""))
    };
    let (said, found) = (read(before)?, read(after)?);
    let (c, problems) = Judge::new(said.lines()).judge(found.lines());
    let text =
        format!(
        "{} operations, {} syncs acknowledged, {} files, {} with durable times, {} blocks compared, {} of them durable{}",
        c.ops,
        c.acks,
        c.files,
        c.times,
        c.units,
        c.durable,
        if c.torn > 0 { format!(", {} torn while rewritten", c.torn) } else { String::new() },
    );
    ensure!(c.acks > 0, "{text}: nothing that could have been lost");
    if problems.is_empty() {
        return Ok(text);
    }
    let mut all = format!("{text}; {} problems:", problems.len());
    for p in problems.iter().take(20) {
        all.push_str(&format!("\n    {p}"));
    }
    Err(Fail::new(all))
}

struct Vm {
    child: Child,
    log: PathBuf,
}

impl Vm {
    fn boot(o: &Run, n: u64, order: &str) -> Result<Vm> {
        let log = o.log.join(format!("boot-{n:03}"));
        let _ = fs::remove_dir_all(&log);
        fs::create_dir_all(&log).ctx(log.display())?;
        let (program, rest) = o.runner.split_first().ok_or("no runner")?;
        let child = Command::new(program)
            .args(rest)
            .arg("--quiet")
            .arg("--log")
            .arg(&log)
            .arg("--disk")
            .arg(format!("calftest={}", o.disk.display()))
            .arg("--results")
            .arg(log.join("results.json"))
            .arg("--append")
            .arg(format!("calf.crash={order}"))
            .arg(format!("crash:600:{}", o.module))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(log.join("runner.log"))?)
            .spawn()
            .ctx(program)?;
        Ok(Vm { child, log })
    }

    fn guest(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log.join("guest.log")).unwrap_or_default()).into()
    }

    /// Waits until the guest loads the disk; false when it ended before.
    fn wait_for_load(&mut self, limit: f64) -> Result<bool> {
        let until = Instant::now() + Duration::from_secs_f64(limit);
        loop {
            if self
                .guest()
                .lines()
                .any(|l| l.trim_end() == "CALF-CRASH-LOAD")
            {
                return Ok(true);
            }
            if self.child.try_wait().ctx("runner")?.is_some() {
                return Ok(false);
            }
            if Instant::now() > until {
                self.kill()?;
                return Err(Fail::new(format!("no load after {limit} s")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every thread of the load has got on from now. One that stands still, because the filesystem does, is
    /// given `limit` seconds.
    fn wait_for_progress(&mut self, limit: f64) -> Result {
        let (before, begin) = (Progress::of(&self.guest()), Instant::now());
        loop {
            let now = Progress::of(&self.guest());
            let stuck = now.stuck_since(&before);
            // What failed is in the log for the judge.
            if now.failed || stuck.is_empty() {
                return Ok(());
            }
            if self.child.try_wait().ctx("runner")?.is_some() {
                return Err(Fail::new("the VM ended under load"));
            }
            if begin.elapsed().as_secs_f64() > limit {
                self.kill()?;
                return Err(Fail::new(format!(
                    "no progress: nothing of threads {stuck:?} in {limit} s"
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGKILL to QEMU, then waits for the runner.
    fn kill(&mut self) -> Result {
        let text = fs::read_to_string(self.log.join("pid")).ctx("pid of QEMU")?;
        let pid = text
            .trim()
            .parse::<i32>()
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or("no pid of QEMU")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ctx("kill")?;
        self.child.wait().ctx("runner")?;
        Ok(())
    }

    /// Complaints of the kernel, as the runner saw them.
    fn kernel_trouble(&self) -> Option<String> {
        let json = fs::read_to_string(self.log.join("results.json")).unwrap_or_default();
        let crashed = json.contains("\"verdict\": \"crash\"");
        crashed.then(|| fs::read_to_string(self.log.join("runner.log")).unwrap_or_default())
    }
}

fn run(o: &Run) -> Result<bool> {
    let seed = o.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |d| d.as_secs())
    });
    if !o.disk.exists() {
        let f = fs::File::create(&o.disk).ctx(o.disk.display())?;
        f.set_len(o.disk_size << 20)?;
    }
    fs::create_dir_all(&o.log).ctx(o.log.display())?;
    println!("TAP version 13\n1..{}", o.kills);
    println!(
        "# seed {seed}: {} kills after {} to {} s of load",
        o.kills,
        o.min,
        o.max + o.after
    );
    let scale = std::env::var("CALF_TIME_SCALE").unwrap_or_default();
    let scale: f64 = scale.parse().unwrap_or(1.0);
    let begin = Instant::now();
    let mut failed = 0;
    let mut before: Option<(PathBuf, String)> = None;
    // Boot n makes the load of kill n and looks at what kill n - 1 left.
    for n in 1..=o.kills + 1 {
        let mut rng = Rng::new(mix(seed) ^ n);
        let load_seed = rng.draw() >> 16;
        let steps = match (n == 1, n > o.kills) {
            (true, _) => "ml",
            (_, false) => "vl",
            (_, true) => "v",
        };
        let block = if seed % 2 == 0 { 4096 } else { 1024 };
        let mut vm = Vm::boot(o, n, &format!("{n},{load_seed},{steps},{block}"))?;
        let outcome = (|| -> Result<String> {
            let loaded = vm.wait_for_load(o.boot_limit)?;
            let mut text = String::new();
            if n <= o.kills {
                ensure!(
                    loaded,
                    "the VM ended before the load, see {}",
                    vm.log.display()
                );
                let mut any = || rng.below(1000) as f64 / 1000.0;
                let (wait, after) = (o.min + (o.max - o.min) * any(), o.after * any());
                let begin = Instant::now();
                std::thread::sleep(Duration::from_secs_f64(wait));
                vm.wait_for_progress(o.stall_limit * scale)?;
                // Not always when something has just been acknowledged.
                std::thread::sleep(Duration::from_secs_f64(after));
                vm.kill()?;
                text = format!("after {:.2} s of load", begin.elapsed().as_secs_f64());
            } else {
                vm.child.wait().ctx("runner")?;
            }
            if let Some(trouble) = vm.kernel_trouble() {
                return Err(Fail::new(format!("the kernel complained:\n{trouble}")));
            }
            Ok(text)
        })();
        // First the kill before this boot: what did the mount find?
        if let Some((log, when)) = before.take() {
            let judged = compare(&log.join("guest.log"), &vm.log.join("guest.log"));
            let number = n - 1;
            match (&judged, &outcome) {
                (Ok(text), _) => println!("ok {number} - kill {when}: {text}"),
                (Err(e), _) => {
                    failed += 1;
                    println!("not ok {number} - kill {when}");
                    for l in e.text.lines() {
                        println!("# {l}");
                    }
                    println!("# logs: {} and {}", log.display(), vm.log.display());
                    keep(&o.disk, &vm.log);
                }
            }
        }
        let when = outcome.map_err(|e| Fail::new(format!("boot {n}: {e}")));
        match when {
            Ok(when) => before = Some((vm.log.clone(), when)),
            Err(e) => {
                println!("Bail out! {e}");
                if let Ok(text) = fs::read_to_string(vm.log.join("guest.log")) {
                    let bad = text.lines().filter(|l| !l.starts_with("CRASH found "));
                    let tail: Vec<&str> = bad.collect();
                    for l in tail.iter().rev().take(10).rev() {
                        println!("# {l}");
                    }
                }
                keep(&o.disk, &vm.log);
                return Ok(false);
            }
        }
    }
    if let Some(fsck) = &o.fsck {
        let out = Command::new(fsck)
            .arg("-n")
            .arg(&o.disk)
            .output()
            .ctx(fsck.display())?;
        println!("# fsck.calf -n of the image on the host: {}", out.status);
        if !out.status.success() {
            failed += 1;
            print!("{}", String::from_utf8_lossy(&out.stdout));
        }
    }
    println!(
        "# {} kills, {failed} failed, seed {seed}, {:.0} s",
        o.kills,
        begin.elapsed().as_secs_f64()
    );
    Ok(failed == 0)
}

/// Keeps a copy of the image for the one who looks into it.
fn keep(disk: &Path, log: &Path) {
    let to = log.join("disk.img");
    let copied = Command::new("cp")
        .arg("--sparse=always")
        .arg(disk)
        .arg(&to)
        .status();
    if copied.is_ok_and(|s| s.success()) {
        println!("# image: {}", to.display());
    }
}

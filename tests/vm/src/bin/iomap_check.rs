// SPDX-License-Identifier: GPL-2.0

//! The checker module on calf: silent where calf is right, and where a bug is switched on the rule fires
//! that belongs to it.

use calf_vmlib::check::{Checker, Rule};
use calf_vmlib::error::Context;
use calf_vmlib::fs::{command, with_fs};
use calf_vmlib::{ensure, ensure_eq, ktap, observe, Env, Fail, Result};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Switches, and the rule that must see each. The other switches break what does not pass between iomap
/// and filesystem, or only two files or a later read would show it; see docs/iomap-check.md.
const SEEN_BY: &[(&str, &str)] = &[
    ("unshare_srcmap_alias_new", "G8"),
    ("unshare_srcmap_nulladdr", "G3"),
    ("unshare_hole_reserve", "G7"),
    ("wb_retry_stale", "G28"),
    ("wb_map_end_before_pos", "G14"),
    ("discard_offbyone", "G15"),
    ("zero_posteof_delalloc", "G11"),
    ("unshare_nolock", "G17b"),
    ("punch_nolock_enospc", "G17"),
    ("punch_nolock", "G15"),
    ("punch_nolock", "G17"),
    ("punch_nolock_legacy", "G15"),
    ("end_skip_punch_if_stale", "G16"),
    ("end_truncates_cache", "G16"),
];

/// Runs reproducers in one position of the switches; they must find what they expect.
fn reproduce(args: &[&str]) -> Result {
    let (status, text) = command(
        Command::new("calf-lab")
            .args(["run", "--no-trace", "--size", "262144"])
            .args(args),
    )?;
    for line in text.lines().filter(|l| l.starts_with("CALF-EXPECT-WARN")) {
        ktap::line(line);
    }
    ensure!(
        status == 0,
        "calf-lab {args:?} exits with {status}:\n{text}"
    );
    Ok(())
}

fn fired(rules: &[Rule]) -> Vec<&str> {
    rules
        .iter()
        .filter(|r| r.violations > 0)
        .map(|r| r.name.as_str())
        .collect()
}

/// Nothing was reported, and the checker was awake.
fn ensure_silent(c: &Checker) -> Result {
    let rules = c.rules()?;
    let fired = fired(&rules);
    ensure!(fired.is_empty(), "{fired:?}:\n{}", c.read("reports")?);
    let events = c.events()?;
    for kind in ["iter", "begin", "writeback"] {
        ensure!(events[kind] > 0, "no event {kind} was seen");
    }
    Ok(())
}

/// fsx on calf, with block sizes and options that take different ways.
fn silent_on_calf(env: &Env) -> Result {
    let c = Checker::load(env)?;
    for (seed, bs, opts) in [("1", "4096", ""), ("2", "1024", "always_cow")] {
        with_fs(env, &["-b", bs], opts, |m| {
            let (status, text) = command(
                Command::new(env.tool("fsx"))
                    .args(["-N", "800", "-S", seed])
                    .arg(m.path("fsxfile")),
            )?;
            ensure!(status == 0, "fsx exits with {status}:\n{text}");
            Ok(())
        })?;
    }
    let events = c.events()?;
    let counts: Vec<String> = events.iter().map(|(k, n)| format!("{k}={n}")).collect();
    ktap::line(&format!("CALF-IOMAP calf events {}", counts.join(" ")));
    ensure_silent(&c)
}

/// Switches whose rules this kernel can judge by.
fn seen_here(c: &Checker) -> Result<Vec<(&'static str, &'static str)>> {
    let rules = c.rules()?;
    let on = |name: &str| rules.iter().any(|r| r.name == name && r.on);
    for (switch, rule) in SEEN_BY {
        ensure!(rules.iter().any(|r| r.name == *rule), "no rule {rule}");
        if !on(rule) {
            ktap::note(&format!(
                "rule {rule} is off here: {switch} not judged by it"
            ));
        }
    }
    Ok(SEEN_BY.iter().copied().filter(|s| on(s.1)).collect())
}

/// The reproducers of those switches, with the switch off.
fn silent_with_switches_off(env: &Env) -> Result {
    let c = Checker::load(env)?;
    let mut args = vec!["--off"];
    args.extend(seen_here(&c)?.iter().map(|s| s.0));
    args.dedup();
    reproduce(&args)?;
    ensure_silent(&c)
}

/// With a switch on, its rule fires.
fn each_switch_is_seen(env: &Env) -> Result {
    let c = Checker::load(env)?;
    let seen = seen_here(&c)?;
    let mut names: Vec<&str> = seen.iter().map(|s| s.0).collect();
    names.dedup();
    for name in names {
        c.reset()?;
        reproduce(&["--on", name])?;
        let rules = c.rules()?;
        let fired = fired(&rules);
        ktap::note(&format!("CALF-CHECK {name} {}", fired.join(" ")));
        for (_, rule) in seen.iter().filter(|s| s.0 == name) {
            ensure!(
                fired.contains(rule),
                "{name}: {rule} does not fire, but {fired:?}"
            );
        }
        let reports = c.read("reports")?;
        let first = reports.lines().next().unwrap_or("");
        ensure!(first.contains(" fs calf "), "{name}: the report is {first}");
        ensure!(
            !name.starts_with("unshare_srcmap") || first.contains(" caller iomap_file_unshare "),
            "{name}: called from elsewhere: {first}"
        );
        ktap::note(first);
    }
    Ok(())
}

/// Probes are breakpoints until the kernel has made jumps of them. What their handlers do must be allowed
/// there too, which lockdep looks at.
fn probes_as_breakpoints(env: &Env) -> Result {
    const JUMPS: &str = "/proc/sys/debug/kprobes-optimization";
    if !Path::new(JUMPS).exists() {
        return Err(Fail::skip(
            "probes are always breakpoints here, or there are none",
        ));
    }
    std::fs::write(JUMPS, "0").ctx(JUMPS)?;
    let c = Checker::load(env)?;
    let done = reproduce(&["--on", "unshare_nolock"]);
    let rules = c.rules()?;
    std::fs::write(JUMPS, "1").ctx(JUMPS)?;
    done?;
    let fired = fired(&rules);
    ensure!(fired.contains(&"G17b"), "G17b does not fire, but {fired:?}");
    Ok(())
}

/// One report, all its parts, and the same as an event in the trace.
fn a_report_says_all(env: &Env) -> Result {
    // Of its own, because the reproducer empties the common one.
    const TRACE: &str = "/sys/kernel/tracing/instances/check";
    let c = Checker::load(env)?;
    std::fs::create_dir(TRACE).ctx(TRACE)?;
    let enable = format!("{TRACE}/events/iomap_check/iomap_check_report/enable");
    std::fs::write(&enable, "1").ctx(&enable)?;
    reproduce(&["--on", "wb_map_end_before_pos"])?;
    let reports = c.read("reports")?;
    let line = reports.lines().find(|l| l.contains(" G14 ")).unwrap_or("");
    for part in [
        "error",
        "fs calf",
        "ino 0x",
        "[calf]",
        "range 0x2000+0x",
        "map MAPPED 0x0+0x1000",
    ] {
        ensure!(line.contains(part), "{part} is missing in: {line}");
    }
    let trace = std::fs::read_to_string(format!("{TRACE}/trace")).ctx("trace")?;
    std::fs::write(&enable, "0").ctx(&enable)?;
    std::fs::remove_dir(TRACE).ctx(TRACE)?;
    let event = trace.lines().find(|l| l.contains("iomap_check_report:"));
    let event = event.unwrap_or("");
    for part in [
        "fs calf",
        "rule G14",
        "pos 0x2000",
        "writeback past its mapping",
    ] {
        ensure!(
            event.contains(part),
            "{part} is missing in the event: {event}"
        );
    }
    c.reset()?;
    ensure!(c.read("reports")?.is_empty(), "reset keeps reports");
    ensure!(fired(&c.rules()?).is_empty(), "reset keeps counters");
    Ok(())
}

/// Reports of other devices are left out.
fn filter_by_device(env: &Env) -> Result {
    let c = Checker::load(env)?;
    c.write("device", "7:0")?;
    ensure_eq!(c.read("device")?, "7:0\n", "device");
    reproduce(&["--on", "unshare_srcmap_alias_new"])?;
    ensure!(fired(&c.rules()?).is_empty(), "another device is reported");
    for wrong in ["7", "a:b", "4096:0"] {
        ensure!(c.write("device", wrong).is_err(), "device {wrong} is taken");
    }
    c.write("device", "all")?;
    ensure_eq!(c.read("device")?, "all\n", "device");
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        calf_vmlib::cases![
            silent_on_calf,
            silent_with_switches_off,
            each_switch_is_seen,
            probes_as_breakpoints,
            a_report_says_all,
            filter_by_device,
        ],
        |_| {},
    )
}

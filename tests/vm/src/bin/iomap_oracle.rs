// SPDX-License-Identifier: GPL-2.0

//! The oracle of the checker module: small scripts on calf that know what they do. Each is silent where calf
//! is right, and fires its rule with a switch that breaks calf.

use calf_vmlib::check::Checker;
use calf_vmlib::error::Context;
use calf_vmlib::fs::{with_fs, Mounted};
use calf_vmlib::sys::Map;
use calf_vmlib::{ensure, ensure_eq, file, ktap, observe, sys, Env, Result};
use std::process::ExitCode;

const PAGE: u64 = 4096;

/// A switch, the rule that must see it, and the script that shows it.
type Script = (&'static str, &'static str, fn(&Mounted) -> Result);

const SCRIPTS: &[Script] = &[
    ("dio_ticket_err_whole", "G20", in_two_parts),
    ("end_cow_remaps_unwritten", "G21", half_of_what_is_staged),
    ("zero_inplace_shared", "G22", zeroing_in_a_clone),
    ("dio_no_done_before", "G23", in_two_parts),
];

/// A direct write from memory of which the second half has to be faulted in first.
fn in_two_parts(m: &Mounted) -> Result {
    let src = file::open(&m.path("src"))?;
    file::write_pattern(&src, 1, 0, 2 * PAGE)?;
    src.sync_all().ctx("fsync")?;
    let map = Map::private(&src, 0, 2 * PAGE as usize).ctx("mmap")?;
    for at in [0, PAGE as usize] {
        map.read(at, &mut [0]);
    }
    map.zap(PAGE as usize, PAGE as usize).ctx("madvise")?;
    let f = file::open(&m.path("f"))?;
    f.set_len(2 * PAGE).ctx("truncate")?;
    let to = file::open_direct(&m.path("f"))?;
    let trace = observe::Trace::start(&["iomap_dio_rw_begin"])?;
    let _ = map.write_to(0, 2 * PAGE as usize, &to, 0, 0);
    let calls = trace.stop()?;
    ensure!(calls.len() >= 2, "the write was not done in parts");
    file::extents(&f)?;
    Ok(())
}

/// Two blocks of a hole are dirty and staged together, of which one is written back.
fn half_of_what_is_staged(m: &Mounted) -> Result {
    let f = file::open(&m.path("f"))?;
    f.set_len(2 * PAGE).ctx("truncate")?;
    f.sync_all().ctx("fsync")?;
    ensure!(file::extents(&f)?.is_empty(), "no hole to begin with");
    // One folio a block.
    file::write_pattern(&f, 1, PAGE, PAGE)?;
    file::write_pattern(&f, 1, 0, PAGE)?;
    sys::sync_range(&f, 0, PAGE).ctx("sync_file_range")?;
    file::extents(&f)?;
    Ok(())
}

/// A hole of a few bytes in a clone.
fn zeroing_in_a_clone(m: &Mounted) -> Result {
    let a = file::open(&m.path("a"))?;
    file::write_pattern(&a, 1, 0, 16 * PAGE)?;
    a.sync_all().ctx("fsync")?;
    let b = file::open(&m.path("b"))?;
    file::clone_file(&b, &a)?;
    for f in [&a, &b] {
        ensure!(!file::extents(f)?.is_empty(), "no extents");
    }
    file::punch(&b, PAGE + 1000, 100)?;
    b.sync_all().ctx("fsync")
}

fn fired(c: &Checker) -> Result<Vec<String>> {
    let rules = c.rules()?.into_iter().filter(|r| r.violations > 0);
    Ok(rules.map(|r| r.name).collect())
}

/// Each script with its switch off and on.
fn scripts(env: &Env) -> Result {
    let c = Checker::load(env)?;
    for (switch, rule, script) in SCRIPTS {
        for on in [false, true] {
            let opts = if on {
                format!("bug={switch}")
            } else {
                String::new()
            };
            with_fs(env, &[], &opts, |m| {
                c.reset()?;
                c.write("oracle", "on")?;
                script(m)?;
                c.write("oracle", "off")
            })
            .ctx(format!("{switch} {on}"))?;
            let (fired, reports) = (fired(&c)?, c.read("reports")?);
            if on {
                ktap::note(&format!("CALF-ORACLE {switch} {}", fired.join(" ")));
                ensure!(
                    fired.iter().any(|f| f == rule),
                    "{switch}: {rule} does not fire, but {fired:?}"
                );
                ktap::note(reports.lines().next().unwrap_or(""));
                // calf's own checks have seen it as well.
                observe::forget_violations()?;
            } else {
                ensure!(fired.is_empty(), "{switch} is off, and still: {reports}");
            }
        }
    }
    Ok(())
}

/// A longer script without punches, clones and truncation: nothing fires, and something is known.
fn silent_on_calf(env: &Env) -> Result {
    let c = Checker::load(env)?;
    for (bs, opts) in [("4096", ""), ("1024", ""), ("4096", "always_cow")] {
        with_fs(env, &["-b", bs], opts, |m| {
            let a = file::open(&m.path("a"))?;
            file::write_pattern(&a, 1, 0, 64 * PAGE)?;
            a.sync_all().ctx("fsync")?;
            let b = file::open(&m.path("b"))?;
            file::clone_file(&b, &a)?;
            b.set_len(128 * PAGE).ctx("truncate")?;
            c.write("oracle", "on")?;
            let direct = file::open_direct(&m.path("b"))?;
            for seed in 0..200u64 {
                let at = seed * 37 % 125 * PAGE;
                match seed % 5 {
                    0 => file::write_direct(&direct, seed, at, 2 * PAGE as usize)?,
                    1 => file::write_pattern(&b, seed, at + 100, 5000)?,
                    2 => b.sync_data().ctx("fdatasync")?,
                    3 => drop(file::extents(&b)?),
                    _ => drop(file::read_at(&b, at, 9000)?),
                }
                file::extents(&a)?;
            }
            let state = c.read("oracle")?;
            ensure!(state.len() > 5, "the oracle is {state}");
            c.write("oracle", "off")
        })?;
    }
    let fired = fired(&c)?;
    ensure!(fired.is_empty(), "{fired:?}:\n{}", c.read("reports")?);
    Ok(())
}

/// On, off and forgetting; anything else is refused.
fn commands(env: &Env) -> Result {
    let c = Checker::load(env)?;
    let state = |rule: &str| -> Result<Vec<bool>> {
        let rules = c.rules()?.into_iter().filter(|r| r.name == rule);
        Ok(rules.map(|r| r.on).collect())
    };
    ensure_eq!(c.read("oracle")?, "off\n", "at first");
    ensure_eq!(state("G20")?, [false], "G20 while the oracle is off");
    c.write("oracle", "on")?;
    ensure_eq!(c.read("oracle")?, "on 0\n", "when on");
    ensure_eq!(state("G20")?, [true], "G20 while the oracle is on");
    with_fs(env, &[], "", |m| {
        let f = file::open(&m.path("f"))?;
        file::write_pattern(&f, 1, 0, PAGE)?;
        f.sync_all().ctx("fsync")?;
        file::extents(&f)?;
        ensure!(c.read("oracle")? != "on 0\n", "the oracle sleeps");
        c.write("oracle", "forget")?;
        ensure_eq!(c.read("oracle")?, "on 0\n", "after forget");
        Ok(())
    })?;
    for wrong in ["yes", "on on", "1"] {
        ensure!(c.write("oracle", wrong).is_err(), "{wrong:?} is taken");
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        calf_vmlib::cases![scripts, silent_on_calf, commands],
        |_| {},
    )
}

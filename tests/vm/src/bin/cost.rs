// SPDX-License-Identifier: GPL-2.0

//! What looking costs: the same loops on calf as it is released, with the checker module beside it, and as a
//! laboratory build. Nothing is judged by time, since the machine decides; docs/iomap-check.md has the table
//! (`scripts/iomap-check.py` writes it).

use calf_vmlib::check::Checker;
use calf_vmlib::error::Context;
use calf_vmlib::fs::{self, Mounted};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::sys::Aligned;
use calf_vmlib::{ensure, ensure_eq, file, ktap, observe, Env, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// How often each setting has its turn: a machine that becomes slower does so for all.
const ROUNDS: usize = 3;
/// How often each loop runs in a turn.
const TIMES: usize = 5;
/// Operations in a loop: few, so that some loops are done before anybody else wants the processor.
const OPS: u64 = 128;
/// Blocks of the file.
const BLOCKS: u64 = 256;

/// What is loaded.
#[derive(Clone, Copy, PartialEq)]
enum Setting {
    Release,
    Checker,
    Oracle,
    Lab,
}

const SETTINGS: [(Setting, &str); 4] = [
    (Setting::Release, "release"),
    (Setting::Checker, "iomap_check"),
    (Setting::Oracle, "oracle"),
    (Setting::Lab, "lab"),
];

type Loop = fn(&Mounted) -> Result;

const LOOPS: [(&str, Loop); 3] = [
    ("direct", direct),
    ("buffered", buffered),
    ("clone", in_a_clone),
];

/// Direct overwrites: one mapping each, little else.
fn direct(m: &Mounted) -> Result {
    let f = file::open_direct(&m.path("f"))?;
    let block = Aligned::from(&[2u8; 4096]);
    for i in 0..OPS {
        f.write_all_at(&block, i * 7 % BLOCKS * 4096)
            .ctx("direct write")?;
    }
    Ok(())
}

/// Buffered overwrites, written back now and then.
fn buffered(m: &Mounted) -> Result {
    let f = file::open(&m.path("f"))?;
    for i in 0..OPS {
        f.write_all_at(&[3u8; 4096], i * 7 % BLOCKS * 4096)
            .ctx("buffered write")?;
        if i % 64 == 63 {
            f.sync_data().ctx("fdatasync")?;
        }
    }
    Ok(())
}

/// Buffered writes to every second block of a clone: staging, writeback, remapping.
fn in_a_clone(m: &Mounted) -> Result {
    let path = m.path("clone");
    let f = file::open(&path)?;
    let rounds = OPS / (BLOCKS / 2) + 1;
    for _ in 0..rounds {
        file::clone_file(&f, &file::open(&m.path("f"))?)?;
        for i in 0..(OPS / rounds) {
            f.write_all_at(&[4u8; 4096], i * 2 * 4096)
                .ctx("write to the clone")?;
        }
        f.sync_data().ctx("fdatasync")?;
    }
    Ok(())
}

/// Microseconds for an operation, of each loop.
type Seen = [Vec<f64>; LOOPS.len()];

/// Loads what the setting says, mounts, runs all loops.
fn round(env: &Env, disk: &NullDisk, setting: Setting, seen: &mut Seen) -> Result {
    let mut env = env.clone();
    if setting != Setting::Lab {
        // Beside the folder of the laboratory module lies the other.
        let above = env.module.ancestors().nth(2);
        env.module = above.unwrap_or(Path::new("/")).join("calf.ko");
    }
    fs::insmod(&env)?;
    ensure_eq!(observe::is_lab(), setting == Setting::Lab, "laboratory");
    let checker = match setting {
        Setting::Checker | Setting::Oracle => Some(Checker::load(&env)?),
        _ => None,
    };
    if let (Some(c), Setting::Oracle) = (&checker, setting) {
        c.write("oracle", "on")?;
    }
    // What earlier turns left behind would cost the later ones more.
    fs::mkfs(&env, &disk.path, &[])?;
    let mut m = Mounted::new(&disk.path, &env.mnt, "")?;
    let f = file::open(&m.path("f"))?;
    file::write_pattern(&f, 1, 0, BLOCKS * 4096)?;
    f.sync_all().ctx("fsync")?;
    drop(f);
    for (seen, (_, run)) in seen.iter_mut().zip(LOOPS) {
        for _ in 0..TIMES {
            let start = Instant::now();
            run(&m)?;
            seen.push(start.elapsed().as_secs_f64() / OPS as f64 * 1e6);
        }
    }
    m.umount()?;
    drop(m);
    if let Some(c) = &checker {
        ensure!(
            c.events()?["begin"] >= 2 * OPS * TIMES as u64,
            "the checker slept"
        );
    }
    drop(checker);
    fs::rmmod()
}

fn cost(env: &Env) -> Result {
    let disk = NullDisk::new("cost", 64, &[])?;
    fs::rmmod()?;
    let mut all: [Seen; SETTINGS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for ((setting, _), seen) in SETTINGS.iter().zip(&mut all) {
            round(env, &disk, *setting, seen)?;
        }
    }
    for ((_, setting), seen) in SETTINGS.iter().zip(&mut all) {
        for ((name, _), seen) in LOOPS.iter().zip(seen) {
            seen.sort_by(f64::total_cmp);
            ktap::line(&format!(
                "CALF-COST {name} {setting} median={:.1} best={:.1}",
                seen[seen.len() / 2],
                seen[0]
            ));
        }
    }
    fs::insmod(env)
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(&env, calf_vmlib::cases![cost], |_| {})
}

// SPDX-License-Identifier: GPL-2.0

//! Damaged filesystems: after `fsck.calf -y` they mount and work; unrepaired they are refused or
//! answer with an error, and the kernel stands.
//!
//! `CALF_DAMAGE_IMAGES` in the environment damages so many at random, from `CALF_DAMAGE_SEED` on.

#[path = "../damage/exercise.rs"]
mod exercise;
#[path = "../damage/image.rs"]
mod image;

use calf_vmlib::env::number;
use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::sys::Loop;
use calf_vmlib::{cases, ensure, ktap, observe, Context, Env, Fail, Result};
use exercise::{exercise, read_all, Answers};
use image::Sound;
use std::cell::RefCell;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Images of each case.
const IMAGES: u64 = 8;

/// Runs `f` for every image damaged at random.
fn for_each(env: &Env, first: u64, f: impl Fn(&Loop, u64) -> Result) -> Result {
    let images = number("CALF_DAMAGE_IMAGES", IMAGES)?;
    ensure!(images > 0, "CALF_DAMAGE_IMAGES=0: no image");
    let first = number("CALF_DAMAGE_SEED", first)?;
    ktap::note(&format!("{images} images from seed {first} on"));
    let half = images.div_ceil(2);
    for (bs, seeds) in [
        ("1024", first..first + half),
        ("2048", first + half..first + images),
    ] {
        let sound = Sound::new(env, bs)?;
        for seed in seeds {
            let text = sound.damage(env, &["--seed", &seed.to_string()])?;
            ktap::note(&format!(
                "block size {bs}, seed {seed}: {}",
                text.replace('\n', "; ")
            ));
            f(&sound.disk, seed)?;
        }
    }
    Ok(())
}

fn repaired(env: &Env) -> Result {
    for_each(env, 100, |disk, seed| {
        let mut fsck = Command::new(env.tool("fsck.calf"));
        let (status, text) = cfs::command(fsck.arg("-y").arg(&disk.path))?;
        ensure!(
            matches!(status, 0 | 1),
            "fsck.calf -y exits with {status}:\n{text}"
        );
        let mut m = Mounted::new(&disk.path, &env.mnt, "").ctx("after the repair")?;
        let mut errors = Vec::new();
        let files = read_all(&m.mnt, 0, &mut errors);
        if let Some(e) = errors.pop() {
            return Err(Fail::new(format!("after the repair: {e}\n{text}")));
        }
        ensure!(files > 100, "only {files} files are left:\n{text}");
        let f = open(&m.path("written after the repair"))?;
        write_pattern(&f, seed, 0, 300_000)?;
        drop(f);
        fs::create_dir(m.path("made after the repair"))?;
        m.cycle()?;
        check_pattern(
            &open(&m.path("written after the repair"))?,
            seed,
            0,
            300_000,
        )?;
        m.umount()?;
        drop(m);
        cfs::fsck(env, &disk.path)
    })
}

fn unrepaired(env: &Env) -> Result {
    let answers = RefCell::new(Answers::default());
    let outcome = for_each(env, 200, |disk, seed| {
        let done = format!("seed {seed}");
        exercise(env, &disk.path, seed, &done, &mut answers.borrow_mut())
    });
    tell(&answers.borrow());
    outcome
}

/// What the filesystem answered, how often.
fn tell(answers: &Answers) {
    for line in answers.lines() {
        ktap::note(&line);
    }
}

/// Single fields, with checksums put right: a few of them, or all with `CALF_SOAK`. `CALF_DAMAGE=1024:log(,4096:` has
/// these block sizes only, and fields whose names begin so.
fn fields(env: &Env) -> Result {
    let step = if std::env::var_os("CALF_SOAK").is_some() {
        1
    } else {
        211
    };
    let mut wrong = 0;
    let mut answers = Answers::default();
    let which = std::env::var("CALF_DAMAGE").unwrap_or("1024:,4096:".into());
    for word in which.split(',') {
        let (bs, prefix) = word.split_once(':').ok_or(format!(
            "CALF_DAMAGE={which}: {word} is not BLOCK-SIZE:FIELD, as 4096:super"
        ))?;
        let sound = Sound::new(env, bs)?;
        let list = sound.tool(env, &["--list"])?;
        let list: Vec<&str> = list.lines().collect();
        ensure!(list.len() > 3000, "only {} kinds of damage", list.len());
        let (mut done, start) = (0, Instant::now());
        let list: Vec<_> = list.iter().filter(|l| l.starts_with(prefix)).collect();
        for (n, line) in list.iter().enumerate().step_by(step) {
            if sound
                .damage(env, &["--field", line])?
                .contains("changes nothing")
            {
                continue;
            }
            done += 1;
            if let Err(e) = exercise(env, &sound.disk.path, n as u64, line, &mut answers) {
                ktap::note(&format!("block size {bs}, {line}: {e}"));
                wrong += 1;
                // Enough to look at.
                ensure!(wrong < 50, "{wrong} kinds of damage, the last one: {e}");
            }
            if done % 500 == 0 {
                ktap::note(&format!("{done} done in {} s", start.elapsed().as_secs()));
            }
        }
        ktap::note(&format!(
            "block size {bs}: {done} of {} kinds of damage",
            list.len()
        ));
        ensure!(
            done > 0,
            "CALF_DAMAGE={which}: {word} damages nothing; calf-damage --list names the fields"
        );
    }
    tell(&answers);
    ensure!(wrong == 0, "{wrong} kinds of damage");
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![repaired, unrepaired, fields, no_kernel_warning],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! fsx 0.3.2 on calf: 5 seeds, 20,000 operations each, with mmap, hole punching, preallocation and
//! copies inside the file (which become clones when they are aligned). After each seed the file is
//! unmounted and the device checked.
//!
//! `CALF_FSX_OPS` sets another number of operations; `CALF_FSX_SEEDS` runs so many seeds, from `CALF_FSX_FIRST` on
//! (1), block sizes 1 and 4 KiB, with and without always_cow; odd seeds at any alignment, even ones in blocks.
//! `CALF_FSX_PART` gives each process so many operations and a seed of its own (`seed * 1000 + part`), on the same
//! filesystem: fsx 0.3.2 never unmaps what it maps for reading, and with 20,000 maps of one file each writeback and
//! each truncate looks through all of them, which takes most of the time.

use calf_vmlib::env::number;
use calf_vmlib::fs::{command, with_fs};
use calf_vmlib::{ensure, ktap, observe, Env, Result};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Buffered, any alignment. At least one byte: fsx 0.3.2 may ask posix_fallocate for none, which is refused with
/// `EINVAL`, as it must be.
const BYTES: &str = "\
flen = 262144
[opsize]
min = 1
max = 65536
[weights]
close_open = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 5
fsync = 0.3
fdatasync = 0.3
posix_fallocate = 3
punch_hole = 5
sendfile = 1
posix_fadvise = 1
copy_file_range = 2
";

/// Aligned to blocks, so that copies share blocks; larger file, so that folios get large. Without
/// posix_fallocate: fsx 0.3.2 does not align that and then asks for 0 bytes.
const BLOCKS: &str = "\
flen = 2097152
[opsize]
max = 262144
align = 4096
[weights]
close_open = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 3
fsync = 0.3
fdatasync = 0.3
punch_hole = 8
sendfile = 1
posix_fadvise = 1
copy_file_range = 10
";

fn play(env: &Env, seed: u64, mkfs: &[&str], config: &str) -> Result {
    play_with(env, seed, mkfs, "", config)
}

fn play_with(env: &Env, seed: u64, mkfs: &[&str], opts: &str, config: &str) -> Result {
    let ops = number("CALF_FSX_OPS", 20_000)?;
    let part = number("CALF_FSX_PART", ops)?;
    ensure!(ops > 0 && part > 0, "no operation was asked for");
    let conf = std::env::temp_dir().join("fsx.toml");
    std::fs::write(&conf, config)?;
    with_fs(env, mkfs, opts, |m| {
        for (n, begin) in (0..ops).step_by(part as usize).enumerate() {
            let seed = if part < ops {
                seed * 1000 + n as u64
            } else {
                seed
            };
            let (status, text) = command(
                Command::new(env.tool("fsx"))
                    .args(["-N", &part.min(ops - begin).to_string()])
                    .args(["-S", &seed.to_string(), "-P"])
                    .arg(std::env::temp_dir())
                    .arg("-f")
                    .arg(&conf)
                    .arg(m.path("fsxfile")),
            )?;
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            ensure!(
                status == 0,
                "fsx -S {seed} exits with {status}:\n{}",
                tail.join("\n")
            );
        }
        Ok(())
    })
}

fn seed_1(env: &Env) -> Result {
    play(env, 1, &[], BYTES)
}

fn seed_2(env: &Env) -> Result {
    play(env, 2, &[], BYTES)
}

fn seed_3_1k_blocks(env: &Env) -> Result {
    play(env, 3, &["-b", "1024"], BYTES)
}

fn seed_4_aligned(env: &Env) -> Result {
    play(env, 4, &[], BLOCKS)
}

fn seed_5_aligned_1k_blocks(env: &Env) -> Result {
    play(env, 5, &["-b", "1024"], BLOCKS)
}

/// The first seed, and how many there are: as `CALF_FSX_SEEDS` asks for, if it does.
fn many_seeds() -> Result<Option<(u64, u64)>> {
    if std::env::var_os("CALF_FSX_SEEDS").is_none() {
        return Ok(None);
    }
    let (first, seeds) = (number("CALF_FSX_FIRST", 1)?, number("CALF_FSX_SEEDS", 1)?);
    ensure!(seeds > 0, "CALF_FSX_SEEDS=0: no seed");
    Ok(Some((first, seeds)))
}

fn soak(env: &Env, first: u64, seeds: u64) -> ExitCode {
    let mut runs = Vec::new();
    for seed in first..first.saturating_add(seeds) {
        for bs in ["1024", "4096"] {
            for opts in ["", "always_cow"] {
                runs.push((seed, bs, opts));
            }
        }
    }
    ktap::head(runs.len());
    let mut good = true;
    for (i, (seed, bs, opts)) in runs.into_iter().enumerate() {
        let start = Instant::now();
        let config = if seed % 2 == 0 { BLOCKS } else { BYTES };
        let outcome = ktap::guarded(|| play_with(env, seed, &["-b", bs], opts, config));
        let name = format!("seed_{seed}_bs_{bs}_{opts}");
        good &= ktap::result(i + 1, &name, start.elapsed().as_secs_f64(), &outcome);
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    match many_seeds() {
        Ok(Some((first, seeds))) => return soak(&env, first, seeds),
        Ok(None) => {}
        Err(e) => {
            ktap::head(1);
            ktap::result(1, "seeds", 0.0, &Err(e));
            return ExitCode::from(1);
        }
    }
    ktap::run(
        &env,
        calf_vmlib::cases![
            seed_1,
            seed_2,
            seed_3_1k_blocks,
            seed_4_aligned,
            seed_5_aligned_1k_blocks,
        ],
        |_| {},
    )
}

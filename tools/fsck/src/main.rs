// SPDX-License-Identifier: GPL-2.0

//! fsck.calf: checks a calf filesystem, and repairs what is simple.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use calf_fsck::check::{check, looks_clean, Error, Mode, Outcome};
use calf_fsck::report::Report;
use calf_io::device::Device;
use clap::Parser;

/// Nothing was wrong.
const CLEAN: u8 = 0;
/// What was wrong is right now.
const CORRECTED: u8 = 1;
/// Something is wrong.
const LEFT: u8 = 4;
/// The check could not be made.
const OPERATIONAL: u8 = 8;
/// The command line is not understood.
const USAGE: u8 = 16;

/// Check a calf filesystem. Without an option it only looks, like -n.
#[derive(Parser)]
#[command(
    name = "fsck.calf",
    bin_name = "fsck.calf",
    version,
    disable_version_flag = true
)]
struct Args {
    /// Change nothing; the journal is replayed in memory
    #[arg(short = 'n', conflicts_with_all = ["yes", "auto", "preen"])]
    no: bool,
    /// Replay the journal and repair what can be repaired
    #[arg(short = 'y')]
    yes: bool,
    /// Check even if it looks clean
    #[arg(short = 'f')]
    force: bool,
    /// Like -y, but do nothing if it looks clean
    #[arg(short = 'a')]
    auto: bool,
    /// Like -a
    #[arg(short = 'p')]
    preen: bool,
    /// Print the version and exit
    #[arg(short = 'V', action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Block device or image file
    device: PathBuf,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            let code = if e.use_stderr() { USAGE } else { CLEAN };
            // Nothing can be done if the terminal is gone.
            let _ = e.print();
            return code.into();
        }
    };
    match run(&args) {
        Ok(code) => code.into(),
        Err(message) => {
            eprintln!("fsck.calf: {message}");
            OPERATIONAL.into()
        }
    }
}

fn run(args: &Args) -> Result<u8, String> {
    let name = args.device.display();
    let write = args.yes || args.auto || args.preen;
    let device = Device::open(&args.device, write).map_err(|e| match e.kind() {
        std::io::ErrorKind::ResourceBusy => {
            format!("{name} is mounted or in use; unmount it first, or use -n")
        }
        _ => format!("cannot open {name}: {e}"),
    })?;
    if (args.auto || args.preen) && !args.force && looks_clean(&device) {
        println!("calf: clean, not checked (use -f)");
        return Ok(CLEAN);
    }
    let mode = if write { Mode::Repair } else { Mode::Check };
    let mut report = Report::new(|line| println!("{line}"));
    let out = check(&device, mode, &mut report).map_err(|e| match e {
        Error::Io(e) => format!("{name}: {e}"),
        Error::Super(e) => format!("{name}: {e}"),
    })?;
    println!("{}", summary(&out));
    Ok(match (out.left, out.changed) {
        (0, false) => CLEAN,
        (0, true) => CORRECTED,
        _ => LEFT,
    })
}

fn summary(out: &Outcome) -> String {
    let Outcome {
        errors,
        left,
        inodes,
        used,
        blocks,
        ..
    } = out;
    let content = format!("{inodes} files, {used}/{blocks} blocks");
    match (errors, left) {
        (0, _) => format!("calf: clean, {content}"),
        (_, 0) => format!("calf: {errors} errors repaired, {content}"),
        (_, _) => format!("calf: {errors} errors found, {content}"),
    }
}

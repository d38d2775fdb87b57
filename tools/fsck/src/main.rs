// SPDX-License-Identifier: GPL-2.0

//! fsck.calf: checks a calf filesystem, and repairs it.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use calf_fsck::check::{check, looks_clean, Error, Mode, Outcome};
use calf_fsck::report::Report;
use calf_io::device::Device;
use calf_io::say;
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

/// Check a calf filesystem. Without -n, -y, -a or -p it looks, and asks on a terminal whether to
/// repair what it found.
#[derive(Parser)]
#[command(
    name = "fsck.calf",
    bin_name = "fsck.calf",
    version,
    disable_version_flag = true,
    after_help = "Exit status: 0 clean, 1 repaired, 4 errors left, 8 could not check, 16 usage.\n\
        Nothing is written unless the result is sound; an interrupted repair is simply run again.\n\
        What is mounted, attached to a loop device or claimed by another of these tools can be looked at with -n."
)]
struct Args {
    /// Change nothing; the journal is replayed in memory
    #[arg(short = 'n', conflicts_with_all = ["yes", "auto", "preen"])]
    no: bool,
    /// Replay the journal and repair what is wrong; what cannot be kept is named
    #[arg(short = 'y', conflicts_with_all = ["auto", "preen"])]
    yes: bool,
    /// Check even if it looks clean
    #[arg(short = 'f')]
    force: bool,
    /// Do nothing if it looks clean; repair unless something would be lost or guessed
    #[arg(short = 'a')]
    auto: bool,
    /// Like -a
    #[arg(short = 'p')]
    preen: bool,
    /// For fsck(8), which may ask for a progress bar; there is none
    #[arg(short = 'C')]
    progress: bool,
    /// For fsck(8), which passes it on; there is no more to say
    #[arg(short = 'v')]
    verbose: bool,
    /// For fsck(8): ask before a repair, as without any option
    #[arg(short = 'r')]
    ask: bool,
    /// Print the version and exit
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Block device or image file
    device: PathBuf,
}

fn main() -> ExitCode {
    // fsck(8) appends the number of a file descriptor to -C.
    let is_progress = |arg: &str| {
        arg.strip_prefix("-C")
            .is_some_and(|fd| !fd.is_empty() && fd.bytes().all(|b| b.is_ascii_digit()))
    };
    let given = std::env::args_os().filter(|arg| !arg.to_str().is_some_and(is_progress));
    let args = match Args::try_parse_from(given) {
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
            say::error("fsck.calf", message);
            OPERATIONAL.into()
        }
    }
}

fn run(args: &Args) -> Result<u8, String> {
    let name = args.device.display();
    let mode = match () {
        () if args.yes => Mode::Repair,
        () if args.auto || args.preen => Mode::Preen,
        () => Mode::Check,
    };
    let device = open(args, mode != Mode::Check)?;
    if mode == Mode::Preen && !args.force && looks_clean(&device) {
        say::line("calf: clean, not checked (use -f)");
        return Ok(CLEAN);
    }
    let once = |device: &Device, mode| {
        let mut report = Report::new(|line| say::line(line));
        let out = check(device, mode, &mut report).map_err(|e| match e {
            Error::Io(e) => format!("{name}: {e}"),
            Error::Super(e) => format!("{name}: {e}"),
        })?;
        say::line(summary(&out));
        Ok::<Outcome, String>(out)
    };
    let mut out = once(&device, mode)?;
    if mode == Mode::Check && !args.no && out.left > 0 && confirmed() {
        drop(device);
        out = once(&open(args, true)?, Mode::Repair)?;
    }
    Ok(match (out.left, out.changed) {
        (0, false) => CLEAN,
        (0, true) => CORRECTED,
        _ => LEFT,
    })
}

fn open(args: &Args, write: bool) -> Result<Device, String> {
    let name = args.device.display();
    let opened = match write {
        true => Device::claim(&args.device),
        false => Device::open(&args.device, false),
    };
    opened.map_err(|e| match e.kind() {
        io::ErrorKind::ResourceBusy => format!("{name} is {e}, or use -n"),
        _ => format!("cannot open {name}: {e}"),
    })
}

/// Asks whether to repair, if there is somebody to ask.
fn confirmed() -> bool {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return false;
    }
    let mut out = io::stdout();
    let asked = out.write_all(b"Repair (y/n)? ").and_then(|()| out.flush());
    let mut answer = String::new();
    asked.is_ok()
        && io::stdin().lock().read_line(&mut answer).is_ok()
        && answer.trim_start().starts_with(['y', 'Y'])
}

fn summary(out: &Outcome) -> String {
    let Outcome {
        errors,
        left,
        losses,
        inodes,
        used,
        blocks,
        ..
    } = out;
    let content = format!("{inodes} files, {used}/{blocks} blocks");
    match (errors, left) {
        (0, 0) => format!("calf: clean, {content}"),
        (_, 0) if *losses == 0 => format!("calf: {errors} errors repaired, {content}"),
        (_, 0) => format!("calf: {errors} errors repaired with {losses} losses, {content}"),
        (_, _) => format!("calf: {errors} errors found, {content}"),
    }
}

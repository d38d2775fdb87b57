// SPDX-License-Identifier: GPL-2.0

//! mkfs.calf: makes a calf filesystem on a block device or in a file.

#![deny(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[allow(unsafe_code)]
mod discard;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use calf_core::format::geometry::{Geometry, Layout, DESC_SIZE};
use calf_io::device::{Device, Storage};
use calf_io::make::{make, Options};
use calf_io::probe::probe;
use calf_io::say;
use clap::Parser;
use uuid::Uuid;

/// Make a calf filesystem.
#[derive(Parser)]
#[command(
    name = "mkfs.calf",
    bin_name = "mkfs.calf",
    version,
    disable_version_flag = true
)]
struct Args {
    /// Block size: 1024, 2048 or 4096 bytes, also as size=BYTES; 4096 if not given, less on a
    /// device that is too small for that
    #[arg(short = 'b', value_name = "BYTES", value_parser = parse_block_size)]
    block_size: Option<u64>,
    /// Label, at most 64 bytes
    #[arg(
        short = 'L',
        value_name = "LABEL",
        default_value = "",
        allow_hyphen_values = true
    )]
    label: String,
    /// UUID; random if not given
    #[arg(short = 'U', value_name = "UUID")]
    uuid: Option<Uuid>,
    /// Overwrite whatever is there
    #[arg(short = 'f')]
    force: bool,
    /// Only say what would be done
    #[arg(short = 'N', short_alias = 'n')]
    dry_run: bool,
    /// Do not discard the blocks of a block device first
    #[arg(short = 'K')]
    keep: bool,
    /// Say nothing unless something goes wrong
    #[arg(short = 'q')]
    quiet: bool,
    /// Print the version and exit
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Block device or image file
    device: PathBuf,
    /// Use only this many bytes (suffixes K, M, G, T); an image file that is shorter is made as long
    /// as this
    #[arg(value_parser = parse_size)]
    size: Option<u64>,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.to_ascii_lowercase().strip_suffix(['k', 'm', 'g', 't']) {
        Some(digits) => {
            let shift = match text.as_bytes().last().map(u8::to_ascii_lowercase) {
                Some(b'k') => 10,
                Some(b'm') => 20,
                Some(b'g') => 30,
                _ => 40,
            };
            (digits.to_owned(), shift)
        }
        None => (text.to_owned(), 0),
    };
    let number: u64 = digits.parse().map_err(|_| "not a size".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "size is too large".to_owned())
}

/// A size as it is, or as `size=SIZE`, as mkfs.xfs takes it.
fn parse_block_size(text: &str) -> Result<u64, String> {
    parse_size(text.strip_prefix("size=").unwrap_or(text))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say::error("mkfs.calf", message);
            ExitCode::FAILURE
        }
    }
}

/// Where the filesystem goes.
struct Target {
    /// What is there now; [`None`]: an image file that is to be made.
    device: Option<Device>,
    /// Bytes that the filesystem may use; an image file that is shorter is to be made as long.
    bytes: u64,
    /// The smallest unit of transfer, bytes.
    sector: u64,
}

/// Looks for the place. Nothing is changed: until all is known to be possible, what is there stays as it is.
fn look(args: &Args) -> Result<Target, String> {
    let name = args.device.display();
    let opened = match args.dry_run {
        true => Device::open(&args.device, false),
        false => Device::claim(&args.device),
    };
    let device = match (opened, args.size) {
        (Ok(device), _) => device,
        (Err(e), Some(bytes)) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(Target {
                device: None,
                bytes,
                sector: 512,
            });
        }
        (Err(e), _) if e.kind() == io::ErrorKind::ResourceBusy => {
            return Err(format!("{name} is {e}"));
        }
        (Err(e), _) => return Err(format!("cannot open {name}: {e}")),
    };
    let (has, sector) = (device.size(), u64::from(device.sector_size()));
    let bytes = args.size.unwrap_or(has);
    if bytes > has && device.is_block_device() {
        return Err(format!(
            "{name} has only {has} bytes, {bytes} were asked for"
        ));
    }
    Ok(Target {
        device: Some(device),
        bytes,
        sector,
    })
}

/// The place as it was planned: an image file is made, or made longer.
fn prepare(args: &Args, target: Target) -> Result<Device, String> {
    let name = args.device.display();
    let bytes = target.bytes;
    let long = |e| format!("cannot make {name} {bytes} bytes long: {e}");
    let mut device = match target.device {
        Some(device) => device,
        None => Device::create(&args.device, bytes).map_err(long)?,
    };
    if device.size() < bytes {
        device.lengthen(bytes).map_err(long)?;
    }
    device.shorten(bytes);
    Ok(device)
}

fn run(args: &Args) -> Result<(), String> {
    let mut label = [0; 64];
    label
        .get_mut(..args.label.len())
        .ok_or("the label is longer than 64 bytes")?
        .copy_from_slice(args.label.as_bytes());
    let name = args.device.display();
    let target = look(args)?;
    if let Some(device) = &target.device {
        let there = probe(device).map_err(|e| format!("cannot read {name}: {e}"))?;
        if let Some(what) = there.filter(|_| !args.force && !args.dry_run) {
            return Err(format!("{name} contains {what}; use -f to overwrite it"));
        }
    }
    let uuid = *args.uuid.unwrap_or_else(Uuid::new_v4).as_bytes();
    let layout = plan(args, &target, uuid)?;
    let geo = Geometry::check(&layout).map_err(|what| format!("{name}: {what}"))?;
    if args.dry_run {
        let shown = io::stdout().write_all(summary(args, &geo).as_bytes());
        return shown.map_err(|e| format!("cannot say what would be done: {e}"));
    }
    if !args.quiet {
        say::line(summary(args, &geo).trim_end());
    }
    let mut random = [0; 20];
    getrandom::fill(&mut random).map_err(|e| format!("no random numbers: {e}"))?;
    let (seed, gen) = random.split_at(16);
    let mut options = Options {
        layout,
        label,
        hash_seed: [0; 16],
        gen: gen.iter().fold(0, |gen, &b| gen << 8 | u32::from(b)),
        time: now(),
    };
    options.hash_seed.copy_from_slice(seed);
    let device = prepare(args, target)?;
    if !args.keep {
        discard::discard(&device);
    }
    make(&device, &options).map_err(|e| format!("cannot write {name}: {e}"))
}

/// The layout for the device. Without -b, the largest blocks that do.
fn plan(args: &Args, target: &Target, uuid: [u8; 16]) -> Result<Layout, String> {
    let name = args.device.display();
    let (bytes, sector) = (target.bytes, target.sector);
    let sizes = match args.block_size {
        Some(size) if !matches!(size, 1024 | 2048 | 4096) => {
            return Err(format!("block size {size} is not one of 1024, 2048, 4096"));
        }
        Some(size) => vec![size],
        None => vec![4096, 2048, 1024],
    };
    if args.block_size.is_some_and(|size| size < sector) || sector > 4096 {
        return Err(format!(
            "{name} has sectors of {sector} bytes; choose a block size of at least that (-b)"
        ));
    }
    let mut failure = String::new();
    for size in sizes.into_iter().filter(|&size| size >= sector) {
        match Layout::plan(size.trailing_zeros(), bytes / size, uuid) {
            Ok(layout) => return Ok(layout),
            Err(what) => {
                failure = format!("{name} ({bytes} bytes), blocks of {size} bytes: {what}");
            }
        }
        let most = largest(size);
        if bytes > most {
            failure += &format!(
                "; with these blocks a filesystem has at most {} TiB",
                most >> 40
            );
            if size < 4096 {
                failure += ", choose larger ones (-b)";
            }
            // Smaller blocks would do even less.
            break;
        }
    }
    Err(failure)
}

/// The most bytes of a filesystem with blocks of `size` bytes: its descriptors fill half a group.
fn largest(size: u64) -> u64 {
    let group = 8 * size;
    group / 2 * (size / DESC_SIZE) * group * size
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

fn summary(args: &Args, geo: &Geometry) -> String {
    let mut text = String::new();
    let used = geo.fixed_blocks() + 3;
    let kept = geo.refcount_reserve() + geo.pool_blocks();
    let mut line = |what: &str, rest: String| {
        let _ = writeln!(text, "{what:<9}={rest}");
    };
    let name = args.device.display().to_string();
    line(
        "meta-data",
        format!(
            "{name:<22} bsize={:<6} groups={}, {} blocks each",
            geo.block_size(),
            geo.ngroups(),
            geo.group_blocks()
        ),
    );
    let uuid = Uuid::from_bytes(*geo.uuid());
    line("", format!("{:<22} uuid={uuid} label={:?}", "", args.label));
    line(
        "data",
        format!(
            "{:<22} blocks={}, free={}, kept for reference counts={}, pool={}",
            "",
            geo.blocks(),
            geo.blocks() - used - kept,
            geo.refcount_reserve(),
            geo.pool_blocks()
        ),
    );
    line(
        "log",
        format!(
            "{:<22} start={}, blocks={}",
            "internal (jbd2)",
            geo.journal_start(),
            geo.journal_blocks()
        ),
    );
    text
}

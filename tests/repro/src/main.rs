// SPDX-License-Identifier: GPL-2.0

//! calf-lab: shows each historical bug with its switch on, and its absence with the switch off.
//!
//! Output of a run is KTAP, one result for each reproducer and position of the switch, then a table for
//! people and one `CALF-REPRO` line for each reproducer for programs.

mod append_isize_from_inode;
mod case;
mod checks;
mod cow_error_leaves_delalloc;
mod dio_cow_stale_imap;
mod dio_endio_isize_first;
mod dio_isize_in_begin;
mod dio_no_done_before;
mod dio_ticket_cached;
mod dio_ticket_err_whole;
mod dio_unaligned_shared;
mod direct;
mod discard_offbyone;
mod end_cow_remaps_unwritten;
mod end_skip_punch_if_stale;
mod end_truncates_cache;
mod enotblk_zero;
mod fallocate_no_diowait;
mod frame;
mod full_disk;
mod mkwrite_no_reserve;
mod no_iomap_valid;
mod no_srcmap;
mod nowait_multi_map;
mod partial_no_progress;
mod past_eof;
mod punch_nolock;
mod punch_relock;
mod punch_wrong_fork;
mod remap_no_invalidate;
mod seek_ignores_cow;
mod short_write;
mod swap_ignores_shared;
mod unshare;
mod unshare_hole_reserve;
mod unshare_nolock;
mod unshare_srcmap_alias;
mod unshare_srcmap_alias_new;
mod unshare_srcmap_nulladdr;
mod wb_map_end_before_pos;
mod wb_no_revalidate;
mod wb_retry_stale;
mod wb_stale_flags;
mod zero_hole_ignores_cow;
mod zero_inplace_shared;
mod zero_posteof_delalloc;
mod zero_unwritten_trusts_map;

use calf_vmlib::error::Context;
use calf_vmlib::{fs, ktap, observe, Env, Fail, Result};
use checks::{seen_by, Seen};
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use frame::{AnyReproducer, Plan, Tally};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// All reproducers, in the order of the table.
const ALL: &[&dyn AnyReproducer] = &[
    &unshare_srcmap_alias_new::UnshareSrcmapAliasNew,
    &unshare_srcmap_alias::UnshareSrcmapAlias,
    &unshare_srcmap_nulladdr::UnshareSrcmapNulladdr,
    &unshare_hole_reserve::UnshareHoleReserve,
    &wb_retry_stale::CASE,
    &no_iomap_valid::CASE,
    &end_skip_punch_if_stale::CASE,
    &end_truncates_cache::CASE,
    &punch_nolock::CASE,
    &punch_nolock::LEGACY,
    &punch_relock::CASE,
    &no_srcmap::CASE,
    &mkwrite_no_reserve::CASE,
    &wb_no_revalidate::CASE,
    &wb_map_end_before_pos::CASE,
    &zero_hole_ignores_cow::CASE,
    &zero_inplace_shared::CASE,
    &punch_wrong_fork::CASE,
    &unshare_nolock::CASE,
    &punch_nolock::ENOSPC,
    &cow_error_leaves_delalloc::CASE,
    &end_cow_remaps_unwritten::CASE,
    &wb_stale_flags::CASE,
    &swap_ignores_shared::CASE,
    &remap_no_invalidate::CASE,
    &seek_ignores_cow::CASE,
    &discard_offbyone::CASE,
    &zero_unwritten_trusts_map::CASE,
    &zero_posteof_delalloc::CASE,
    &append_isize_from_inode::CASE,
    &dio_ticket_err_whole::CASE,
    &dio_ticket_cached::CASE,
    &dio_no_done_before::CASE,
    &dio_isize_in_begin::CASE,
    &dio_endio_isize_first::CASE,
    &dio_cow_stale_imap::CASE,
    &dio_unaligned_shared::CASE,
    &nowait_multi_map::CASE,
    &enotblk_zero::CASE,
    &partial_no_progress::CASE,
    &fallocate_no_diowait::CASE,
];

#[derive(Parser)]
#[command(
    name = "calf-lab",
    version,
    about = "Reproduces historical iomap bugs on calf"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the reproducers
    List,
    /// Tells the story of one
    Show {
        /// Its name
        #[arg(value_parser = names(), hide_possible_values = true)]
        name: String,
    },
    /// Runs reproducers, all or those named
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// Names of reproducers (default: all)
    #[arg(value_parser = names(), hide_possible_values = true)]
    names: Vec<String>,
    /// Only with the switch on
    #[arg(long, conflicts_with_all = ["off", "both"])]
    on: bool,
    /// Only with the switch off
    #[arg(long, conflicts_with = "both")]
    off: bool,
    /// With the switch on and with it off (the default)
    #[arg(long)]
    both: bool,
    /// Runs in each position of the switch
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Bytes of the test files
    #[arg(long, default_value_t = 10 << 20)]
    size: u64,
    /// Block size for mkfs.calf
    #[arg(long)]
    block_size: Option<u32>,
    /// Block device; it is formatted
    #[arg(long)]
    dev: Option<PathBuf>,
    /// Mount point
    #[arg(long)]
    mnt: Option<PathBuf>,
    /// Module to load when calf is not there
    #[arg(long)]
    module: Option<PathBuf>,
    /// Do not show the tracepoints of the first run
    #[arg(long)]
    no_trace: bool,
}

/// The names that there are. clap says which is nearest to one that there is not.
fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|r| r.name()))
}

/// Prints all that is known of a reproducer: what it breaks, what sees it, and its page.
fn show(r: &dyn AnyReproducer) {
    println!("{}: {}", r.name(), r.summary());
    let says = |id: &str| match observe::statement(id) {
        Some(text) => format!("{id}: {text}"),
        None => id.to_string(),
    };
    println!("  breaks   {}", says(r.contract()));
    match seen_by(r.name(), r.contract()) {
        Seen::By(check) => println!("  seen by  {}", says(check)),
        Seen::Never(why) => println!("  seen by  no check: {why}"),
    }
    println!("  by hand  mount -t calf -o bug={} ...", r.name());
    let exe = std::env::current_exe().unwrap_or_default();
    let page = ["../tests/doc", "doc"].iter().find_map(|dir| {
        let file = exe.parent()?.join(dir).join(format!("{}.md", r.name()));
        std::fs::read_to_string(file).ok()
    });
    if let Some(page) = page {
        println!("\n{page}");
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::List => {
            for r in ALL {
                println!("{:<28} {:<24} {}", r.name(), r.contract(), r.summary());
            }
            ExitCode::SUCCESS
        }
        Command::Show { name } => {
            for r in ALL.iter().filter(|r| r.name() == name) {
                show(*r);
            }
            ExitCode::SUCCESS
        }
        Command::Run(args) => match run(&args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(e) => {
                ktap::line(&format!("Bail out! {e}"));
                ExitCode::from(2)
            }
        },
    }
}

struct Row {
    r: &'static dyn AnyReproducer,
    off: Option<Tally>,
    on: Option<Tally>,
}

impl Row {
    fn as_expected(&self) -> bool {
        self.off.as_ref().is_none_or(|t| t.as_expected(false))
            && self.on.as_ref().is_none_or(|t| t.as_expected(true))
    }
}

fn run(args: &Run) -> Result<bool> {
    let mut env = Env::new();
    for (place, given) in [
        (&mut env.dev, &args.dev),
        (&mut env.mnt, &args.mnt),
        (&mut env.module, &args.module),
    ] {
        if let Some(given) = given {
            *place = given.clone();
        }
    }
    let mut chosen: Vec<&'static dyn AnyReproducer> = ALL.to_vec();
    if !args.names.is_empty() {
        chosen.retain(|r| args.names.iter().any(|n| n == r.name()));
    }
    observe::mount_debugfs();
    fs::insmod(&env)?;
    if chosen.iter().any(|r| r.needs().junk) {
        junk(&env.dev).ctx("fill the device with old data")?;
    }
    let mut mkfs = Vec::new();
    if let Some(b) = args.block_size {
        mkfs.extend(["-b".to_string(), b.to_string()]);
    }
    let plan = Plan {
        times: args.times,
        size: args.size,
        mkfs,
        show_trace: !args.no_trace,
    };
    let positions: &[bool] = match (args.on, args.off) {
        (true, _) => &[true],
        (_, true) => &[false],
        _ => &[false, true],
    };
    ktap::head(chosen.len() * positions.len());
    let mut rows = Vec::new();
    let mut nr = 0;
    for r in chosen {
        let mut row = Row {
            r,
            off: None,
            on: None,
        };
        for &on in positions {
            nr += 1;
            let start = Instant::now();
            let tally = frame::series(r, &env, &plan, on);
            let outcome = match (&tally.skipped, tally.as_expected(on)) {
                (Some(why), _) => Err(Fail::skip(why.clone())),
                (None, true) => Ok(()),
                (None, false) => Err(Fail::new(tally.facts.clone())),
            };
            let name = format!(
                "{} {}: bug in {} runs",
                r.name(),
                frame::word(on),
                tally.count()
            );
            ktap::result(nr, &name, start.elapsed().as_secs_f64(), &outcome);
            *(if on { &mut row.on } else { &mut row.off }) = Some(tally);
        }
        rows.push(row);
    }
    table(&rows);
    Ok(rows.iter().all(Row::as_expected))
}

fn table(rows: &[Row]) {
    ktap::line("");
    let print = |c: [&str; 6]| {
        let text = format!(
            "{:<26} {:<22} {:<11} {:<11} {:<52} {}",
            c[0], c[1], c[2], c[3], c[4], c[5]
        );
        ktap::line(text.trim_end());
    };
    print([
        "reproducer",
        "contract",
        "switch off",
        "switch on",
        "observed when on",
        "verdict",
    ]);
    let verdict = |row: &Row| {
        if row.as_expected() {
            "as-expected"
        } else {
            "NOT"
        }
    };
    let count = |t: &Option<Tally>| t.as_ref().map_or("-".to_string(), Tally::count);
    for row in rows {
        let observed = row.on.as_ref().map_or("", |t| t.observed.as_str());
        print([
            row.r.name(),
            row.r.contract(),
            &count(&row.off),
            &count(&row.on),
            observed,
            verdict(row),
        ]);
    }
    ktap::line("");
    for row in rows {
        let facts = |t: &Option<Tally>| match t {
            None => "not run".to_string(),
            Some(Tally {
                skipped: Some(why), ..
            }) => format!("skipped: {why}"),
            Some(t) => format!(
                "{}: {}",
                t.count(),
                t.facts.replace('"', "'").replace('\n', " ")
            ),
        };
        let broken = row.on.iter().flat_map(|t| &t.broken);
        let broken = broken.map(String::as_str).collect::<Vec<_>>();
        ktap::line(&format!(
            "CALF-REPRO name={} contract={} switch={} checks={} off=\"{}\" on=\"{}\" verdict={}",
            row.r.name(),
            row.r.contract(),
            row.r.name(),
            broken.join("+"),
            facts(&row.off),
            facts(&row.on),
            verdict(row)
        ));
    }
}

/// Writes old, non-zero data over the first part of the device, where the files will be.
fn junk(dev: &Path) -> Result {
    const LEN: u64 = 128 << 20;
    let f = std::fs::OpenOptions::new()
        .write(true)
        .open(dev)
        .ctx(dev.display())?;
    let size = rustix::fs::seek(&f, rustix::fs::SeekFrom::End(0)).ctx("size")?;
    let chunk = vec![0xa5u8; 1 << 20];
    let mut at = 0;
    while at + chunk.len() as u64 <= size.min(LEN) {
        f.write_all_at(&chunk, at).ctx("write")?;
        at += chunk.len() as u64;
    }
    f.sync_all().ctx("fsync")
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! iomap-trace: tells what a recorded log of the kernel's iomap events says.

use clap::{Parser, Subcommand};
use iomap_trace::draw;
use iomap_trace::event::FileId;
use iomap_trace::story::{Operation, Teller};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about = "Tells the story of recorded iomap events")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Block size of the filesystem
    #[arg(long, global = true, default_value_t = 4096)]
    block_size: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Prints each operation as a table, broken contracts marked with !!
    Tell {
        /// The file `trace` of tracefs, or what `trace-cmd report` prints; - is the standard input
        log: PathBuf,
        /// Only this inode
        #[arg(long, value_parser = number)]
        ino: Option<u64>,
        /// Only tasks whose name (`fsx-123`) contains this
        #[arg(long)]
        task: Option<String>,
        /// Only operations that break a contract
        #[arg(long)]
        broken: bool,
    },
    /// Draws the ranges of one file over time, as SVG
    Draw {
        /// The log
        log: PathBuf,
        /// The inode
        #[arg(long, value_parser = number)]
        ino: u64,
        /// Where to (default: the standard output)
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
}

/// A number, hexadecimal with `0x`.
fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
}

fn read(log: &PathBuf) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if log.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(log)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn run(cli: &Cli) -> Result<bool, String> {
    let log = match &cli.command {
        Command::Tell { log, .. } | Command::Draw { log, .. } => log,
    };
    if !cli.block_size.is_power_of_two() {
        return Err("the block size is no power of two".into());
    }
    let text = read(log).map_err(|e| format!("{}: {e}", log.display()))?;
    let operations = Teller::tell(cli.block_size, &text);
    if operations.is_empty() {
        return Err(format!("{}: no events of iomap", log.display()));
    }
    let mut out = std::io::stdout().lock();
    match &cli.command {
        Command::Tell {
            ino, task, broken, ..
        } => {
            let wanted = |op: &&Operation| {
                ino.is_none_or(|i| op.file.ino == i)
                    && task.as_ref().is_none_or(|t| op.task.contains(t.as_str()))
                    && (!broken || op.is_broken())
            };
            let mut all_well = true;
            for op in operations.iter().filter(wanted) {
                all_well &= !op.is_broken();
                // Whoever reads may have had enough.
                if writeln!(out, "{op}").is_err() {
                    break;
                }
            }
            Ok(all_well)
        }
        Command::Draw { ino, output, .. } => {
            let files: Vec<&FileId> = operations.iter().map(|op| &op.file).collect();
            let file = files.into_iter().find(|f| f.ino == *ino);
            let file = file.ok_or(format!("no event is about inode {ino:#x}"))?;
            let picture = draw::draw(&operations, file).ok_or("no mapping of that file")?;
            match output {
                Some(path) => {
                    std::fs::write(path, picture).map_err(|e| format!("{}: {e}", path.display()))?
                }
                None => out
                    .write_all(picture.as_bytes())
                    .map_err(|e| e.to_string())?,
            }
            Ok(true)
        }
    }
}

/// Status 0: nothing broken, 1: something, 2: no log.
fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "iomap-trace: {e}");
            ExitCode::from(2)
        }
    }
}

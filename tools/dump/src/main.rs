// SPDX-License-Identifier: GPL-2.0

//! calf-dump: shows what is in a calf filesystem, as text or as JSON.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod json;
mod show;
mod text;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use calf_core::format::super_block::{self, RawSuperBlock, SuperBlock};
use calf_core::format::Kind;
use calf_fsck::image::Image;
use calf_fsck::replay;
use calf_io::device::{Device, Storage};
use calf_io::editor::Editor;
use calf_io::say;
use clap::{Parser, Subcommand, ValueEnum};

/// Show what is in a calf filesystem; nothing is changed.
#[derive(Parser)]
#[command(
    name = "calf-dump",
    version,
    disable_version_flag = true,
    after_help = "With --json, the output is one JSON document. Its keys are those of docs/format.md where there is\n\
        one; times are nanoseconds since 1970; in names, targets and labels a backslash is \\\\ and a byte\n\
        that is not UTF-8 is \\xNN. --probe prints what `blkid -o udev` prints for filesystems it knows,\n\
        and exits with 2 if there is no calf filesystem."
)]
struct Args {
    /// Show it as it is on the device, without what waits in the journal
    #[arg(short = 'r')]
    raw: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print uuid and label as udev wants them: ID_FS_TYPE=, ID_FS_UUID=, ID_FS_LABEL=
    #[arg(long, conflicts_with_all = ["json", "raw"])]
    probe: bool,
    /// Print the version and exit
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Block device or image file
    device: PathBuf,
    /// What to show; the superblock if nothing is said
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// The superblock
    Super,
    /// The group descriptors
    Groups,
    /// The records of a tree of the whole filesystem
    Tree {
        /// Which one
        which: Which,
    },
    /// One inode: its record and its extents, names or target
    Inode {
        /// Its number
        number: u64,
    },
    /// The journal: its superblock, and what a replay would bring
    Journal,
    /// One block, if it is a tree node
    Node {
        /// Its number
        block: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// Inodes
    Inodes,
    /// Reference counts of two and more
    Refcount,
    /// Inodes with work left to do
    Orphans,
}

/// What is shown: the device, under the blocks that the journal brings.
struct View<'a>(Image<'a>);

impl Storage for View<'_> {
    fn size(&self) -> u64 {
        self.0.device_bytes()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        // All that reads through this reads whole blocks.
        let block = self.0.read(at / self.0.block_size())?;
        let skip = (at % self.0.block_size()) as usize;
        let from = block.get(skip..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// There is no calf filesystem on the device.
const NOTHING: u8 = 2;

/// Prints what udev wants to know of a filesystem, in its encoding.
fn probe(args: &Args) -> Result<bool, Box<dyn std::error::Error>> {
    let name = args.device.display();
    let device = Device::open(&args.device, false).map_err(|e| format!("{name}: {e}"))?;
    let size = device.size();
    let head = device.read(0, super_block::SIZE.min(size as usize))?;
    let Ok(sb) = SuperBlock::parse(&head, size) else {
        return Ok(false);
    };
    let uuid = uuid::Uuid::from_bytes(*sb.geo.uuid());
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(
        out,
        "ID_FS_TYPE=calf\nID_FS_USAGE=filesystem\nID_FS_VERSION=1"
    )?;
    writeln!(out, "ID_FS_UUID={uuid}\nID_FS_UUID_ENC={uuid}")?;
    if !sb.label().is_empty() {
        let (safe, encoded) = text::udev(sb.label());
        writeln!(out, "ID_FS_LABEL={safe}\nID_FS_LABEL_ENC={encoded}")?;
    }
    out.flush()?;
    Ok(true)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.probe {
        true => probe(&args),
        false => run(&args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => NOTHING.into(),
        // Whoever reads has had enough.
        Err(e)
            if e.downcast_ref::<io::Error>().map(io::Error::kind)
                == Some(io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            say::error("calf-dump", e);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let name = args.device.display();
    let device = Device::open(&args.device, false).map_err(|e| format!("{name}: {e}"))?;
    let size = device.size();
    let head = |storage: &dyn Storage| storage.read(0, super_block::SIZE.min(size as usize));
    let parse = |bytes: &[u8]| SuperBlock::parse(bytes, size).map_err(|e| format!("{name}: {e}"));
    let sb = parse(&head(&device)?)?;
    let mut image = Image::new(&device, sb.geo.block_size());
    let mut out = io::BufWriter::new(io::stdout().lock());
    if matches!(args.what, Some(What::Journal)) {
        if args.json {
            writeln!(out, "{:#}", json::journal(&mut image, &sb.geo)?)?;
        } else {
            show::journal(&mut out, &mut image, &sb.geo)?;
        }
        return Ok(out.flush()?);
    }
    if !args.raw {
        let done = replay::replay(&mut image, &sb.geo)?;
        if let Some((block, what)) = done.damaged {
            say::error(
                "calf-dump",
                format_args!("{name}: block {block}: {what}; what comes after is left out"),
            );
        }
        if done.dirty {
            say::error(
                "calf-dump",
                format_args!(
                    "shown with {} blocks of {} transactions from the journal (see -r)",
                    done.blocks, done.transactions
                ),
            );
        }
    }
    let view = View(image);
    let bytes = head(&view)?;
    let sb = parse(&bytes)?;
    let fs = Editor::new(&view, sb.geo);
    let global = |which: Which| match which {
        Which::Inodes => fs.inodes(),
        Which::Refcount => fs.refcounts(),
        Which::Orphans => fs.orphans(),
    };
    if args.json {
        let value = match &args.what {
            None | Some(What::Super | What::Journal) => {
                let raw = RawSuperBlock::of(&bytes).ok_or("superblock: too short")?;
                json::superblock(raw, &sb)
            }
            Some(What::Groups) => json::groups(&view, &sb.geo)?,
            Some(What::Tree { which }) => json::tree(&fs, &global(*which))?,
            Some(What::Inode { number }) => json::inode(&fs, *number)?,
            Some(What::Node { block }) => json::node(&view, &sb.geo, *block)?,
        };
        writeln!(out, "{value:#}")?;
        return Ok(out.flush()?);
    }
    let result = match &args.what {
        None | Some(What::Super | What::Journal) => {
            let raw = RawSuperBlock::of(&bytes).ok_or("superblock: too short")?;
            show::superblock(&mut out, raw, &sb)
        }
        Some(What::Groups) => show::groups(&mut out, &view, &sb.geo),
        Some(What::Tree { which }) => show::tree(&mut out, &fs, &global(*which)),
        Some(What::Inode { number }) => show::inode(&mut out, &fs, *number),
        Some(What::Node { block }) => show::node(&mut out, &view, &sb.geo, *block),
    };
    // What could be read comes before the error.
    out.flush()?;
    result
}

/// The name of a kind of tree.
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Inodes => "inodes",
        Kind::Extents => "extents",
        Kind::Dir => "directory",
        Kind::Xattr => "xattr",
        Kind::Refcount => "refcount",
        Kind::Orphans => "orphans",
        Kind::Symlink => "symlink",
    }
}

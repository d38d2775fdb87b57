// SPDX-License-Identifier: GPL-2.0

//! calf-dump: shows what is in a calf filesystem, as text.

#![forbid(unsafe_code)]

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
use clap::{Parser, Subcommand, ValueEnum};

/// Show what is in a calf filesystem; nothing is changed.
#[derive(Parser)]
#[command(name = "calf-dump", version, disable_version_flag = true)]
struct Args {
    /// Show it as it is on the device, without what waits in the journal
    #[arg(short = 'r')]
    raw: bool,
    /// Print the version and exit
    #[arg(short = 'V', action = clap::ArgAction::Version)]
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

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e)
            if e.downcast_ref::<io::Error>().map(io::Error::kind)
                == Some(io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("calf-dump: {e}");
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
        show::journal(&mut out, &mut image, &sb.geo)?;
        return Ok(out.flush()?);
    }
    if !args.raw {
        let done = replay::replay(&mut image, &sb.geo)?;
        if let Some((block, what)) = done.damaged {
            eprintln!("calf-dump: {name}: block {block}: {what}; what comes after is left out");
        }
        if done.dirty {
            eprintln!(
                "calf-dump: shown with {} blocks of {} transactions from the journal (see -r)",
                done.blocks, done.transactions
            );
        }
    }
    let view = View(image);
    let bytes = head(&view)?;
    let sb = parse(&bytes)?;
    let fs = Editor::new(&view, sb.geo);
    let result = match &args.what {
        None | Some(What::Super | What::Journal) => {
            let raw = RawSuperBlock::of(&bytes).ok_or("superblock: too short")?;
            show::superblock(&mut out, raw, &sb)
        }
        Some(What::Groups) => show::groups(&mut out, &view, &sb.geo),
        Some(What::Tree { which }) => {
            let tree = match which {
                Which::Inodes => fs.inodes(),
                Which::Refcount => fs.refcounts(),
                Which::Orphans => fs.orphans(),
            };
            show::tree(&mut out, &fs, &tree)
        }
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

// SPDX-License-Identifier: GPL-2.0

//! calf-damage: damages a calf filesystem, at random or field by field, for tests. It is not installed.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use calf_core::format::geometry::Geometry;
use calf_core::format::orphan::RawOrphan;
use calf_core::format::super_block::{self, SuperBlock};
use calf_core::format::Ino;
use calf_core::random::Random;
use calf_io::damage::{damage, metadata};
use calf_io::device::{Device, Storage};
use calf_io::editor::Editor;
use calf_io::fields::fields;
use calf_io::log_fields::Sample;
use calf_io::mutate::Mutation;
use calf_io::say;
use clap::Parser;
use zerocopy::IntoBytes;

/// Damage the metadata of a calf filesystem.
#[derive(Parser)]
#[command(name = "calf-damage")]
struct Args {
    /// List the damage that can be done to single fields, one a line, and do none
    #[arg(long, conflicts_with_all = ["count", "field"])]
    list: bool,
    /// Do this damage, a line of the list, and put the checksum right
    #[arg(long, value_name = "LINE", conflicts_with = "count")]
    field: Option<String>,
    /// Leave the truncation of this inode to 100 bytes undone, as a crash does; no damage
    #[arg(long, value_name = "INODE", conflicts_with_all = ["list", "count", "field"])]
    truncation: Option<u64>,
    /// The same seed does the same to the same image
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Places to damage; one to five if not given
    #[arg(long)]
    count: Option<u64>,
    /// Block device or image file
    device: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let device = Device::open(&args.device, !args.list)?;
    let head = device.read(0, super_block::SIZE)?;
    let sb = SuperBlock::parse(&head, device.size()).map_err(|e| e.to_string())?;
    if let Some(ino) = args.truncation {
        truncation(&device, &sb.geo, Ino::new(ino))?;
        return Ok(device.sync()?);
    }
    let mut random = Random::new(args.seed);
    if args.list || args.field.is_some() {
        return single(&args, &device, &sb.geo, &mut random);
    }
    let places = metadata(&device, &sb.geo)?;
    for _ in 0..args.count.unwrap_or(1 + random.below(5)) {
        let (blocks, kind) = damage(&device, None, &sb.geo, &places, &mut random)?;
        say::line(format_args!("{kind} in blocks {blocks:?}"));
    }
    Ok(device.sync()?)
}

/// Cuts a file, and leaves what lies beyond to an orphan record.
fn truncation(device: &Device, geo: &Geometry, ino: Ino) -> Result<(), Box<dyn std::error::Error>> {
    const SIZE: u64 = 100;
    let mut editor = Editor::new(device, *geo);
    let mut rec = editor.inode(ino)?.ok_or("there is no such inode")?;
    rec.size = SIZE.into();
    editor.put_inode(&rec)?;
    let record = RawOrphan::truncate(SIZE);
    editor
        .orphans()
        .insert(&mut editor, ino.get(), record.as_bytes())?;
    Ok(editor.flush()?)
}

/// Lists what can be done to single fields, or does it to one.
fn single(
    args: &Args,
    device: &Device,
    geo: &Geometry,
    random: &mut Random,
) -> Result<(), Box<dyn std::error::Error>> {
    let log = Sample::plan(device, geo)?;
    // A field of the log needs a log.
    let with_log = args.field.as_ref().is_some_and(|f| f.starts_with("log("));
    if with_log {
        log.write(device)?;
    }
    for field in fields(device, geo)?.into_iter().chain(log.fields) {
        for mutation in Mutation::ALL {
            let line = format!("{} {mutation}", field.name);
            if args.list {
                say::line(line);
            } else if args.field.as_ref() == Some(&line) {
                let changed = mutation.apply(device, geo, &field, random)?;
                let what = if changed { "done" } else { "changes nothing" };
                say::line(format_args!("{line}: {what}"));
                return Ok(device.sync()?);
            }
        }
    }
    match &args.field {
        Some(line) => {
            Err(format!("no {line:?} on {}; --list shows all", args.device.display()).into())
        }
        None => Ok(()),
    }
}

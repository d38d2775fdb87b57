// SPDX-License-Identifier: GPL-2.0

//! calf-damage: damages a calf filesystem at random, for tests. It is not installed.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use calf_core::format::super_block::{self, SuperBlock};
use calf_core::random::Random;
use calf_io::damage::{damage, metadata};
use calf_io::device::{Device, Storage};
use clap::Parser;

/// Damage the metadata of a calf filesystem.
#[derive(Parser)]
#[command(name = "calf-damage")]
struct Args {
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
    let device = Device::open(&args.device, true)?;
    let head = device.read(0, super_block::SIZE)?;
    let sb = SuperBlock::parse(&head, device.size()).map_err(|e| e.to_string())?;
    let places = metadata(&device, &sb.geo)?;
    let mut random = Random::new(args.seed);
    for _ in 0..args.count.unwrap_or(1 + random.below(5)) {
        let (blocks, kind) = damage(&device, None, &sb.geo, &places, &mut random)?;
        println!("{kind} in blocks {blocks:?}");
    }
    Ok(device.sync()?)
}

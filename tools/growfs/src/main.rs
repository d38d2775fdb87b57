// SPDX-License-Identifier: GPL-2.0

//! calf-growfs: grows a mounted calf filesystem to the size of its device, or less.
//!
//! The kernel does the work; this only asks for it. `unsafe` is for the one ioctl.

use clap::Parser;
use rustix::io::Errno;
use rustix::ioctl::{opcode, Setter};
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

/// Grow a mounted calf filesystem.
#[derive(Parser)]
#[command(name = "calf-growfs", version)]
struct Args {
    /// Where the filesystem is mounted
    mountpoint: PathBuf,
    /// Its new size in blocks; as many as the device has if not given
    blocks: Option<u64>,
}

/// `EXT4_IOC_RESIZE_FS`, which calf understands too.
const RESIZE_FS: rustix::ioctl::Opcode = opcode::write::<u64>(b'f', 16);

fn run(args: &Args) -> Result<(), String> {
    let name = args.mountpoint.display();
    let fail = |e: &dyn std::fmt::Display| format!("{name}: {e}");
    let dir = File::open(&args.mountpoint).map_err(|e| fail(&e))?;
    let blocks = || rustix::fs::fstatfs(&dir).map(|s| s.f_blocks);
    let before = blocks().map_err(|e| fail(&e))?;
    // SAFETY: the opcode takes a pointer to a number of 64 bits, which it only reads.
    let request = unsafe { Setter::<RESIZE_FS, u64>::new(args.blocks.unwrap_or(0)) };
    // SAFETY: as above.
    unsafe { rustix::ioctl::ioctl(&dir, request) }.map_err(|e| match e {
        Errno::NOTTY => fail(&"not a calf filesystem"),
        Errno::INVAL => fail(
            &"this size is not possible: smaller than it is, larger than the device or than its group \
              descriptors have room for; the kernel log says which",
        ),
        e => fail(&e),
    })?;
    let after = blocks().map_err(|e| fail(&e))?;
    println!("{name}: {before} blocks for data before, {after} now");
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("calf-growfs: {message}");
            ExitCode::FAILURE
        }
    }
}

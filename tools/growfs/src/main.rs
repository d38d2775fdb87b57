// SPDX-License-Identifier: GPL-2.0

//! calf-growfs: grows a mounted calf filesystem to the size of its device, or less.
//!
//! The kernel does the work; this only asks for it. `unsafe` is for the one ioctl.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use rustix::io::Errno;
use rustix::ioctl::{opcode, Setter};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
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

/// `f_type` of calf.
const MAGIC: rustix::fs::FsWord = 0x464c_4143;

/// `EXT4_IOC_RESIZE_FS`, which calf understands too.
const RESIZE_FS: rustix::ioctl::Opcode = opcode::write::<u64>(b'f', 16);

fn run(args: &Args) -> Result<(), String> {
    let name = args.mountpoint.display();
    let fail = |e: &dyn std::fmt::Display| format!("{name}: {e}");
    let mut options = File::options();
    // Nobody is waited for at the other end of a pipe. CAST: the flag is one low bit.
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let dir = options.read(true).open(&args.mountpoint);
    let dir = dir.map_err(|e| fail(&e))?;
    let stat = || rustix::fs::fstatfs(&dir).map_err(|e| fail(&e));
    let before = stat()?;
    // ext4 would obey.
    if before.f_type != MAGIC {
        return Err(fail(&"not a calf filesystem"));
    }
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
    let (before, after) = (before.f_blocks, stat()?.f_blocks);
    // It has grown, whether anybody hears of it or not.
    let _ = writeln!(
        io::stdout(),
        "{name}: {before} blocks for data before, {after} now"
    );
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "calf-growfs: {message}");
            ExitCode::FAILURE
        }
    }
}

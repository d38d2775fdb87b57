// SPDX-License-Identifier: GPL-2.0

//! What the test programs of calf share.
//!
//! * [`ktap`]: a list of cases in, KTAP and an exit status out;
//! * [`check`]: the checker module, its counters and reports;
//! * [`device`]: a device past the page cache;
//! * [`dm`]: a device-mapper device;
//! * [`env`]: where the disks, the mount point, the module and the tools are;
//! * [`fs`]: format, mount, unmount, check;
//! * [`fault`]: makes the n-th allocation or block request fail;
//! * [`file`]: patterns, holes, extents, clones of one file;
//! * [`gate`]: holds a task at a place in the filesystem (laboratory builds);
//! * [`nullb`]: a disk in memory that is slow, fails, or has a cache, as a test wants it;
//! * [`observe`]: kernel messages, tracepoints, calf's counters;
//! * [`stopped`]: a disk that can be stopped, and threads that stand still because of it;
//! * [`user`]: being somebody else than root;
//! * [`xattr`]: extended attributes of a file;
//! * [`sys`]: the few system calls that have no safe wrapper, and the only place with `unsafe`.

pub mod check;
pub mod device;
pub mod dm;
pub mod env;
pub mod error;
pub mod fault;
pub mod file;
pub mod fs;
pub mod gate;
pub mod ktap;
pub mod nullb;
pub mod observe;
pub mod rng;
pub mod stopped;
pub mod sys;
pub mod user;
pub mod xattr;

pub use env::Env;
pub use error::{Context, Fail, Result};

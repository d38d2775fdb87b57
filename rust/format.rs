// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The on-disk format: structures, their verifiers, and nothing else.
//!
//! Shared with the user space tools: `core`, `zerocopy` and `crate::seam` only. No function here
//! panics on any input; a structure that does not hold gets a reason as `&'static str`.

pub mod dirent;
pub mod extent;
pub mod geometry;
pub mod group;
pub mod inode;
pub mod journal;
pub mod node;
pub mod orphan;
pub mod refcount;
pub mod siphash;
pub mod super_block;
pub mod symlink;
pub mod types;
pub mod value;
pub mod xattr;

pub use types::{BlockNr, Ino, Kind};
pub use value::verify_value;

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Algorithms on the format: trees, extents, reference counts, ranges, bitmaps.
//!
//! Shared with the user space tools: `core`, `zerocopy`, `crate::seam` and `crate::format` only.
//! Pure code without locks or I/O; nothing here panics or loops on damaged input.

pub mod bitmap;
pub mod btree;
pub mod change;
pub mod counted;
pub mod dir;
pub mod extent;
mod node;
pub mod rangemap;
pub mod refcount;
mod runs;
pub mod staging;
pub mod store;
pub mod symlink;
pub mod xattr;

// SPDX-License-Identifier: GPL-2.0

//! The checker behind fsck.calf.
//!
//! It trusts nothing it reads: it never panics, whatever lies on the device, and takes no number
//! from disk without a check.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod check;
pub mod image;
pub mod inodes;
pub mod links;
pub mod replay;
pub mod report;
pub mod space;
pub mod trees;
pub mod used;

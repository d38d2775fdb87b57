// SPDX-License-Identifier: GPL-2.0

//! The checker behind fsck.calf, and the repair.
//!
//! It trusts nothing it reads: it never panics, whatever lies on the device, and takes no number
//! from disk without a check. Check and repair read the trees in two ways of their own, so that
//! each is a test of the other: the check says what is wrong, the repair takes what is right, and
//! what it makes of that is checked again, in memory before it is written and on the device after.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod acl;
pub mod attrs;
pub mod bits;
pub mod check;
pub mod image;
pub mod inodes;
pub mod links;
pub mod repair;
pub mod replay;
pub mod report;
pub mod space;
pub mod superblock;
pub mod trees;
pub mod used;

// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of the kernel interfaces that the kernel crate does not offer yet.
//!
//! One C concept a file. Nothing here knows calf: each file can go when upstream grows its like.

// SPDX-License-Identifier: GPL-2.0

//! The crash test: what the load in the VM and the judge on the host agree on.
//!
//! The load announces every operation on the serial console *before* it does it, and every fsync
//! *after* it returned. After the kill and a new boot the VM describes all files that it finds.
//! From the log the judge knows, for every block of every file, which contents are allowed: that of
//! the last acknowledged fsync, or that of any operation that was announced later. The same goes for
//! names, attributes and times.

pub mod judge;
pub mod log;
pub mod progress;
pub mod unit;

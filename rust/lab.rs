// SPDX-License-Identifier: GPL-2.0

//! The laboratory: switches that bring back one historical bug each.
//!
//! Only in builds with `CALF_LAB=1`. A switch is a mount option, `-o bug=NAME`; the code that it
//! changes asks `bug!(sb, Name)`, which is `false` in other builds, or stands at a place marked
//! `cfg(calf_lab)`; what it does instead stands in this folder. `gate!(inode, Name)` is a place where
//! a test can hold a task; a promise of blocks can be refused.

pub(crate) mod checks;
pub(crate) mod dio;
pub(crate) mod gates;
pub(crate) mod refuse;
pub(crate) mod release;
pub(crate) mod stray;
pub(crate) mod switches;
pub(crate) mod unshare;
pub(crate) mod writeback;
pub(crate) mod zero;

pub(crate) use gates::Gate;
pub(crate) use switches::{BugSet, Switch};

// SPDX-License-Identifier: GPL-2.0

//! The laboratory: switches that bring back one historical bug each.
//!
//! Only in builds with `CALF_LAB=1`. A switch is a mount option, `-o bug=NAME`; the code that it
//! changes asks [`BugSet::has`] at a place marked `cfg(calf_lab)`, and what it does instead stands
//! in this folder.

pub(crate) mod switches;
pub(crate) mod unshare;

pub(crate) use switches::BugSet;

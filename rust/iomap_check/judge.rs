// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The rules, as pure code: what they are, where they apply, and who is known to deviate.
//!
//! No kernel in it: the trace decoder judges recorded events with the same code, and every rule is
//! tested on the host.

pub mod begin;
pub mod known;
pub mod oracle;
pub mod ranges;
pub mod rules;
pub mod sequence;
pub mod view;
pub mod writeback;

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;

pub use view::{File, Map, Request};

// SPDX-License-Identifier: GPL-2.0

//! What the fuzzer calls. A target takes any bytes and panics where something is wrong; `make fuzz` looks
//! for such bytes, guided by coverage (`engine/`), and `cargo test` repeats those that were found
//! (`regressions/`). What each target is for is in `tests/README.md`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod image;
mod images;
mod input;
mod journal;
mod names;
mod nodes;
mod ranges;
mod records;
pub use images::shadow;
mod staging;
mod tree;

/// Something that takes any bytes.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// One input. Panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input that is of use, bytes.
    pub max_len: usize,
}

/// All targets, those that find most in a given time first.
pub const ALL: &[Target] = &[
    image::TARGET,
    journal::TARGET,
    nodes::TARGET,
    records::TARGET,
    tree::TARGET,
    names::TARGET,
    ranges::TARGET,
    staging::TARGET,
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

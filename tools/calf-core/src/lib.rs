// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The kernel module's shared code, compiled for user space.
//!
//! `format` and `algo` are the module's own files; `seam` gives them the platform they ask for.
//! `mem` and `random` serve the tests.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

// A module with a body, because the files below `rust/` find their own submodules only so.
#[path = "../../../rust"]
mod shared {
    pub mod algo;
    pub mod format;
}

pub mod mem;
pub mod random;
pub mod seam;
pub use shared::{algo, format};

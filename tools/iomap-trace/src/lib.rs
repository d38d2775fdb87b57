// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The rules of the checker module `iomap_check`, compiled for user space.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

// A module with a body, because the files below it find their own submodules only so.
#[path = "../../../rust/iomap_check"]
mod shared {
    pub mod judge;
}

pub use shared::judge;

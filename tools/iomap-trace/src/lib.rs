// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a log of the kernel's iomap tracepoints tells: operations, their mappings, broken contracts.
//!
//! [`judge`] is the code of the checker module `iomap_check`, compiled for user space; [`event`] reads lines,
//! [`story`] makes operations of them, [`table`] and [`draw`] show these.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

// A module with a body, because the files below it find their own submodules only so.
#[path = "../../../rust/iomap_check"]
mod shared {
    pub mod judge;
}

pub mod draw;
pub mod event;
pub mod story;
pub mod table;
pub use shared::judge;

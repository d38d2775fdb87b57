// SPDX-License-Identifier: GPL-2.0

//! calf, the smallest cow: a copy-on-write filesystem for the study of the iomap contract.
//!
//! Layers, each using only those before it: `bindings` (raw C), `kapi` (safe wrappers of what the
//! kernel crate lacks), `format` and `algo` (pure code, shared with the tools), `fs` (the
//! filesystem), `lab` (bugs on demand, laboratory builds only), `ops` (the VFS tables), and this root.

#![crate_name = "calf"]

use crate::fs::Calf;
use crate::kapi::debugfs::DebugRoot;
use crate::kapi::registration::Registration;
use kernel::prelude::*;

/// Is a bug switched on for this mount? Never in builds without the laboratory.
#[cfg(calf_lab)]
macro_rules! bug {
    ($sb:expr, $switch:ident) => {
        $sb.opts().bugs.has(crate::lab::Switch::$switch)
    };
}
#[cfg(not(calf_lab))]
macro_rules! bug {
    ($sb:expr, $switch:ident) => {
        false
    };
}

/// A place where a test can hold the task, in builds with the laboratory.
macro_rules! gate {
    ($inode:expr, $gate:ident) => {
        #[cfg(calf_lab)]
        let _ = crate::lab::gates::pass($inode, crate::lab::Gate::$gate);
    };
}

/// A gate that may also end in an error: `Ok(())` in builds without the laboratory.
#[cfg(calf_lab)]
macro_rules! fault {
    ($inode:expr, $gate:ident) => {
        crate::lab::gates::pass($inode, crate::lab::Gate::$gate)
    };
}
#[cfg(not(calf_lab))]
macro_rules! fault {
    ($inode:expr, $gate:ident) => {
        Ok::<(), kernel::error::Error>(())
    };
}

/// A place where a contract is checked, in builds with the laboratory: calls the function of this name
/// in `lab::checks`.
macro_rules! check {
    ($check:ident($($arg:expr),* $(,)?)) => {
        #[cfg(calf_lab)]
        crate::lab::checks::$check($($arg),*);
    };
}

// The tools use what the module does not.
#[allow(dead_code, unused_imports)]
#[deny(unsafe_code)]
mod algo;
mod bindings;
// The tools use what the module does not.
#[allow(dead_code, unused_imports)]
#[deny(unsafe_code)]
mod format;
#[deny(unsafe_code)]
mod fs;
mod kapi;
#[cfg(calf_lab)]
#[deny(unsafe_code)]
mod lab;
#[deny(unsafe_code)]
mod ops;
mod seam;

module! {
    type: CalfModule,
    name: "calf",
    authors: ["The calf developers"],
    description: "calf: a small reflink filesystem for the study of iomap",
    license: "GPL",
}

/// The loaded module: drops in order, so the type goes before what its mounts used.
#[pin_data]
struct CalfModule {
    #[pin]
    _fs: Registration<Calf>,
    #[cfg(calf_lab)]
    _checks: lab::checks::TotalFile,
    #[cfg(calf_lab)]
    _stray: lab::stray::StrayFile,
    _debugfs: DebugRoot,
}

impl kernel::InPlaceModule for CalfModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        #[cfg(calf_lab)]
        {
            lab::switches::announce();
            kapi::taint::taint_test();
        }
        try_pin_init!(Self {
            _debugfs: DebugRoot::new(c"calf")?,
            #[cfg(calf_lab)]
            _checks: lab::checks::TotalFile::new(),
            #[cfg(calf_lab)]
            _stray: lab::stray::StrayFile::new(),
            _fs <- Registration::new(module, c"calf_inode"),
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! iomap_check: judges how filesystems keep the iomap contract, while they run.
//!
//! Works on any filesystem that uses iomap, and on any kernel that has its tracepoints; some rules
//! need kprobes as well. Layers: `judge` (the rules, pure code shared with the trace decoder), `kapi`
//! (views of C structures, attaching), then state, reports and files. See docs/iomap-check.md.

#![crate_name = "iomap_check"]

use checker::Checker;
use kapi::hooks::Attached;
use kapi::probe::Probes;
use kernel::debugfs::Scope;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;

mod bindings;
#[deny(unsafe_code)]
mod checker;
#[deny(unsafe_code)]
mod files;
#[allow(dead_code)]
#[deny(unsafe_code)]
mod judge;
mod kapi;
#[deny(unsafe_code)]
mod oracle;
#[deny(unsafe_code)]
mod report;
#[deny(unsafe_code)]
mod table;

module! {
    type: CheckModule,
    name: "iomap_check",
    authors: ["The calf developers"],
    description: "Judges how filesystems keep the iomap contract",
    license: "GPL",
}

/// The loaded module: drops in order, so nothing fires any more when the state goes.
struct CheckModule {
    _attached: Attached<Checker>,
    _probes: Option<Probes<Checker>>,
    _files: Pin<KBox<Scope<Arc<Checker>>>>,
}

impl kernel::Module for CheckModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let state = Arc::pin_init(Checker::new(), GFP_KERNEL)?;
        let files = KBox::pin_init(files::make(state.clone()), GFP_KERNEL)?;
        let probes = match Probes::new(state.clone()) {
            Ok(probes) => {
                state.probed.store(true, Relaxed);
                Some(probes)
            }
            Err(e) => {
                pr_info!("no kprobes ({:?}): their rules are off\n", e);
                None
            }
        };
        Ok(Self {
            _attached: Attached::new(state)?,
            _probes: probes,
            _files: files,
        })
    }
}

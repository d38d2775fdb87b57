// SPDX-License-Identifier: GPL-2.0

//! The view from outside: `/sys/kernel/debug/calf/<device>/`.
//!
//! Nothing here is needed for the filesystem to work; without debugfs it is simply not there.

use super::alloc::Allocator;
use super::counters::Counters;
use crate::kapi::debugfs::subdir;
use core::fmt;
use kernel::debugfs::{Dir, File};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What the file `counters` shows: the event counters and the sets of the allocator.
struct Report {
    alloc: Arc<Allocator>,
    counters: Arc<Counters>,
}

// A debugfs file of the kernel crate prints the `Debug` form of what it holds.
impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (claimed, pinned, pending) = self.alloc.set_sizes();
        let a = self.alloc.space.account();
        writeln!(f, "{:?}", self.counters)?;
        writeln!(f, "free {}", a.free)?;
        writeln!(f, "reserved {}", a.reserved)?;
        // What is promised and not for data is for tree nodes.
        let data = u64::try_from(self.counters.delalloc_reserved.get()).unwrap_or(0);
        writeln!(f, "meta_reserved {}", a.reserved.saturating_sub(data))?;
        writeln!(f, "set_aside {}", a.set_aside)?;
        writeln!(f, "pool {}", a.pool)?;
        writeln!(f, "claimed {claimed}")?;
        writeln!(f, "pinned {pinned}")?;
        write!(f, "freed_pending {pending}")
    }
}

/// The directory of one mount.
pub(crate) struct DebugDir {
    #[cfg(calf_lab)]
    gates: crate::lab::gates::GateDir,
    #[cfg(calf_lab)]
    checks: crate::lab::checks::Checks,
    #[cfg(calf_lab)]
    _refuse: crate::lab::refuse::RefuseFile,
    _counters: Option<Pin<KBox<File<Report>>>>,
    // Removed from debugfs when dropped, after the file in it.
    _dir: Option<Dir>,
}

impl DebugDir {
    /// Makes the directory of device `id`.
    pub(crate) fn new(id: &CStr, alloc: &Arc<Allocator>, counters: &Arc<Counters>) -> Result<Self> {
        let dir = subdir(id);
        let report = Report {
            alloc: alloc.clone(),
            counters: counters.clone(),
        };
        let file = dir
            .as_ref()
            .and_then(|d| KBox::pin_init(d.read_only_file(c"counters", report), GFP_KERNEL).ok());
        Ok(Self {
            #[cfg(calf_lab)]
            gates: crate::lab::gates::GateDir::new(dir.as_ref())?,
            #[cfg(calf_lab)]
            checks: crate::lab::checks::Checks::new(dir.as_ref())?,
            #[cfg(calf_lab)]
            _refuse: crate::lab::refuse::RefuseFile::new(dir.as_ref(), alloc)?,
            _counters: file,
            _dir: dir,
        })
    }

    /// The gates of the mount.
    #[cfg(calf_lab)]
    pub(crate) fn gates(&self) -> &crate::lab::gates::Gates {
        self.gates.gates()
    }

    /// The checks of the mount.
    #[cfg(calf_lab)]
    pub(crate) fn checks(&self) -> &crate::lab::checks::Checks {
        &self.checks
    }
}

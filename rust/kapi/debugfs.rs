// SPDX-License-Identifier: GPL-2.0

//! The module's directory in debugfs, for those who do not hold the module's state.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)

use kernel::debugfs::Dir;
use kernel::error::{code::EBUSY, Result};
use kernel::str::CStr;
use kernel::sync::atomic::{Atomic, Full, Relaxed};

/// 0: `ROOT` not initialised; 1: initialised.
static READY: Atomic<u32> = Atomic::new(0);

mod root {
    //! The lock, apart for the lint settings its macro needs.
    use kernel::debugfs::Dir;
    use kernel::prelude::*;

    kernel::sync::global_lock! {
        // SAFETY: `DebugRoot::new` initialises it; `READY` tells.
        pub(super) unsafe(uninit) static ROOT: Mutex<Option<Dir>> = None;
    }
}
use root::ROOT;

/// Owns the directory; made by module initialisation.
pub struct DebugRoot(());

impl DebugRoot {
    /// Makes the directory. Errors: `EBUSY` the second time.
    pub fn new(name: &CStr) -> Result<Self> {
        if READY.xchg(1, Full) != 0 {
            return Err(EBUSY);
        }
        // SAFETY: Only the first caller comes here.
        unsafe { ROOT.init() };
        *ROOT.lock() = Some(Dir::new(name));
        Ok(Self(()))
    }
}

impl Drop for DebugRoot {
    fn drop(&mut self) {
        *ROOT.lock() = None;
    }
}

/// A new directory in that of the module; `None` if there is none.
pub fn subdir(name: &CStr) -> Option<Dir> {
    if READY.load(Relaxed) == 0 {
        return None;
    }
    ROOT.lock().as_ref().map(|root| root.subdir(name))
}

/// The module's directory; `None` if there is none.
#[cfg(calf_lab)]
pub fn root() -> Option<Dir> {
    if READY.load(Relaxed) == 0 {
        return None;
    }
    ROOT.lock().clone()
}

// SPDX-License-Identifier: GPL-2.0

//! The uuids of the filesystems that are mounted, so that a copy of one is not mounted beside it.
//!
//! No C header: every filesystem of the kernel that cares has a table of its own.

use kernel::error::code::EINVAL;
use kernel::prelude::*;

kernel::sync::global_lock! {
    // SAFETY: `init` is called when the filesystem is registered, before any mount.
    unsafe(uninit) static MOUNTED: Mutex<KVec<[u8; 16]>> = KVec::new();
}

/// Prepares the table. Once, before the first [`Claim`].
///
/// # Safety
///
/// Not called before.
pub(super) unsafe fn init() {
    // SAFETY: The first call, by the safety requirements.
    unsafe { MOUNTED.init() }
}

/// The right to be the only mounted filesystem with a uuid, given back on drop.
pub struct Claim([u8; 16]);

impl Claim {
    /// Errors: `EINVAL` if the uuid is taken, `ENOMEM`.
    pub fn new(uuid: [u8; 16]) -> Result<Self> {
        let mut all = MOUNTED.lock();
        if all.contains(&uuid) {
            return Err(EINVAL);
        }
        all.push(uuid, GFP_KERNEL)?;
        Ok(Self(uuid))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = MOUNTED.lock();
        all.retain(|uuid| *uuid != self.0);
        // Statics of a module are never dropped.
        if all.is_empty() {
            *all = KVec::new();
        }
    }
}

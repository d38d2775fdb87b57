// SPDX-License-Identifier: GPL-2.0

//! Where a symbolic link leads.

use kernel::alloc::{flags::GFP_KERNEL, KVec};
use kernel::error::{code::EUCLEAN, Result};

/// The target of a symbolic link, on its way to path resolution.
///
/// # Invariants
///
/// The bytes end in a NUL and have no other.
pub struct LinkTarget(pub(super) KVec<u8>);

impl LinkTarget {
    /// Copies a target. One that contains a NUL is refused.
    pub fn new(target: &[u8]) -> Result<Self> {
        if target.contains(&0) {
            return Err(EUCLEAN);
        }
        let mut bytes = KVec::with_capacity(target.len() + 1, GFP_KERNEL)?;
        bytes.extend_from_slice(target, GFP_KERNEL)?;
        bytes.push(0, GFP_KERNEL)?;
        // INVARIANT: Checked and appended above.
        Ok(Self(bytes))
    }
}

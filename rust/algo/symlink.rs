// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Symbolic links: the target in chunks in the inode's own tree.
//!
//! Short targets lie in the inode record itself, as every tree starts in its inline root.

use core::ops::ControlFlow;

use crate::algo::btree::Tree;
use crate::algo::store::{NodeRead, NodeStore, TreeError};
pub use crate::format::symlink::{CHUNK, TARGET_MAX};
use crate::seam::FVec;

/// The most nodes that a target fills: a leaf of the smallest size takes three chunks, and the
/// inline root five children.
pub const MAX_NODES: u64 = 8;

/// Stores `target` in the empty tree `t`.
pub fn write<S: NodeStore>(t: &mut Tree, s: &mut S, target: &[u8]) -> Result<(), S::Error> {
    if target.is_empty() || target.len() > TARGET_MAX {
        return Err(TreeError::TooBig.into());
    }
    for (key, chunk) in (0..).zip(target.chunks(CHUNK)) {
        t.insert(s, key, chunk)?;
    }
    Ok(())
}

/// Reads the target of `len` bytes. The tree must hold exactly these bytes, without a NUL.
pub fn read<S: NodeRead>(t: &Tree, s: &S, len: u64) -> Result<FVec<u8>, S::Error> {
    let damaged = || t.damaged(s, "symbolic link");
    let len = usize::try_from(len).map_err(|_| damaged())?;
    if len == 0 || len > TARGET_MAX {
        return Err(damaged());
    }
    // One byte more, for callers that append a NUL.
    let mut target = FVec::with_capacity(len + 1).map_err(|_| TreeError::NoMem)?;
    let (mut next, mut whole) = (0, true);
    t.scan(s, 0, |key, chunk| {
        let left = len - target.len();
        whole = key == next && chunk.len() == left.min(CHUNK) && left > 0 && !chunk.contains(&0);
        if !whole {
            return ControlFlow::Break(());
        }
        next += 1;
        for &b in chunk {
            // NO-FAIL: `chunk` is not longer than what is left of the capacity.
            let _ = target.push_within_capacity(b);
        }
        ControlFlow::Continue(())
    })?;
    if !whole || target.len() != len {
        return Err(damaged());
    }
    Ok(target)
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How many nodes a tree can have and an edit can touch: what reservations are computed from.

use crate::algo::node::weight_of;
use crate::format::node::{CHILD_SIZE, HEADER_SIZE};

/// Nodes that one insert, replace or remove changes, allocates and frees at most, in a tree that
/// has `height` levels (root included) before it.
///
/// Insert: the path, a new right half beside each level but the root, and two nodes for a root that
/// is pushed down. Remove: the path and one neighbour a level. A replace that outgrows its leaf is
/// an insert.
pub const fn edit_nodes(height: u8) -> u32 {
    (height as u32).saturating_mul(2).saturating_add(3)
}

/// The bytes for records in a block node.
const fn capacity(block_size: usize) -> usize {
    block_size.saturating_sub(HEADER_SIZE)
}

/// Records a node that is a third full has at least, when none is longer than `record_size`.
fn min_fanout(block_size: usize, record_size: usize) -> u64 {
    let third = capacity(block_size).div_ceil(3);
    (third.div_ceil(weight_of(record_size)) as u64).max(1)
}

/// Block nodes that a tree of `records` has at most, when no value is longer than `record_size`
/// (B2). A global tree's root counts, an inline root does not.
///
/// The sum over the levels of n / (least fanout) + 1, the + 1 for the last node of the level,
/// which an append may have left thin. At least 1.
pub fn worst_nodes(records: u64, block_size: usize, record_size: usize) -> u64 {
    let mut level = records / min_fanout(block_size, record_size) + 1;
    let fanout = min_fanout(block_size, CHILD_SIZE).max(2);
    let mut sum = level;
    while level > 1 {
        level = level / fanout + 1;
        sum = sum.saturating_add(level);
    }
    sum
}

/// Nodes that `inserts` new records add at most to a tree of `height` levels, when they lie in
/// `runs` places: within one, no older record stands between two new ones (B2).
///
/// A run splits the node it meets on each level, and again only when the halves are full.
pub fn growth_nodes(
    inserts: u64,
    runs: u64,
    height: u8,
    block_size: usize,
    record_size: usize,
) -> u64 {
    let runs = runs.min(inserts);
    let room = |size: usize| {
        let entry = weight_of(size);
        ((capacity(block_size) / 2).saturating_sub(entry) / entry).max(1) as u64
    };
    let mut level = inserts / room(record_size);
    let fanout = room(CHILD_SIZE).max(2);
    let mut sum = level;
    while level > 0 {
        level /= fanout;
        sum = sum.saturating_add(level);
    }
    // No more than one split a level and insert, plus one for a new root.
    let most = inserts
        .saturating_mul(u64::from(height))
        .saturating_add(inserts);
    sum.saturating_add(runs.saturating_mul(u64::from(height).saturating_add(2)))
        .min(most)
}

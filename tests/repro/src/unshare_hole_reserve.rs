// SPDX-License-Identifier: GPL-2.0

//! Variant 4 of seed 000: the mapping of 2021 to the letter. For a hole under WRITE|UNSHARE the
//! filesystem makes a reservation and returns DELALLOC|SHARED|NEW with a hole as source.
//!
//! The core of 7.3 skips the range, so that nothing ever uses or returns the reservation:
//! fallocate reports success, and as many free blocks as there are holes are gone until the inode
//! is evicted (and what calf sets aside for the mapping tree with each of them).

use crate::unshare::variant;

variant!(
    UnshareHoleReserve,
    "unshare_hole_reserve",
    "C-UNSHARE-HOLE-NORESV",
    "success, but a block leaks for each hole",
    None,
    |f| f.errno.is_none()
        && !f.warned
        && f.data_same()
        && f.holes_lost == 0
        && f.shared_left == 0
        && f.leak == f.half as i64
        && f.leak_later == 0
        && f.reserved.is_none_or(|r| r >= f.half as i64)
);

// SPDX-License-Identifier: GPL-2.0

//! Raw values for [`LabSide`](super::LabSide), which only the laboratory may use.

use crate::bindings;

/// `IOMAP_DELALLOC`.
pub const DELALLOC: u16 = bindings::IOMAP_DELALLOC as u16;
/// `IOMAP_MAPPED`.
pub const MAPPED: u16 = bindings::IOMAP_MAPPED as u16;
/// `IOMAP_F_NEW`.
pub const NEW: u16 = bindings::IOMAP_F_NEW as u16;
/// `IOMAP_F_SHARED`.
pub const SHARED: u16 = bindings::IOMAP_F_SHARED as u16;
/// `IOMAP_NULL_ADDR`, whose C value `-1ULL` bindgen takes for an `i32`.
pub const NULL_ADDR: u64 = u64::MAX;

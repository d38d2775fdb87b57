// SPDX-License-Identifier: GPL-2.0

//! Raw values for [`LabSide`](super::LabSide), which only the laboratory may use.

use crate::bindings;

/// `IOMAP_HOLE`.
pub const HOLE: u16 = bindings::IOMAP_HOLE as u16;
/// `IOMAP_UNWRITTEN`.
pub const UNWRITTEN: u16 = bindings::IOMAP_UNWRITTEN as u16;
/// `IOMAP_F_DIRTY`.
pub const DIRTY: u16 = bindings::IOMAP_F_DIRTY as u16;
/// `IOMAP_F_FOLIO_BATCH`.
pub const FOLIO_BATCH: u16 = bindings::IOMAP_F_FOLIO_BATCH as u16;
/// What only the core sets: `IOMAP_F_STALE`, `IOMAP_F_SIZE_CHANGED`.
pub const OF_THE_CORE: u16 = (bindings::IOMAP_F_STALE | bindings::IOMAP_F_SIZE_CHANGED) as u16;
/// The flags that calf uses.
pub const KNOWN: u16 = NEW | DIRTY | SHARED | FOLIO_BATCH | bindings::IOMAP_F_XATTR as u16;
/// `IOMAP_WRITE`.
pub const WRITE: u32 = bindings::IOMAP_WRITE;
/// `IOMAP_REPORT`.
pub const REPORT: u32 = bindings::IOMAP_REPORT;
/// `IOMAP_DIRECT`.
pub const DIRECT: u32 = bindings::IOMAP_DIRECT;
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

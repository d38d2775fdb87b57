// SPDX-License-Identifier: GPL-2.0

//! Modes of fallocate.
//!
//! C header: [`include/uapi/linux/falloc.h`](srctree/include/uapi/linux/falloc.h)

use crate::bindings;

/// `FALLOC_FL_KEEP_SIZE`: the size stays.
pub const KEEP_SIZE: u32 = bindings::CALF_CONST_FALLOC_FL_KEEP_SIZE;
/// `FALLOC_FL_PUNCH_HOLE`: free the range.
pub const PUNCH_HOLE: u32 = bindings::CALF_CONST_FALLOC_FL_PUNCH_HOLE;
/// `FALLOC_FL_COLLAPSE_RANGE`: take the range out of the file.
pub const COLLAPSE_RANGE: u32 = bindings::CALF_CONST_FALLOC_FL_COLLAPSE_RANGE;
/// `FALLOC_FL_INSERT_RANGE`: put a hole between two halves of the file.
pub const INSERT_RANGE: u32 = bindings::CALF_CONST_FALLOC_FL_INSERT_RANGE;
/// `FALLOC_FL_ZERO_RANGE`: preallocate the range and let it read as zeros.
pub const ZERO_RANGE: u32 = bindings::CALF_CONST_FALLOC_FL_ZERO_RANGE;
/// `FALLOC_FL_WRITE_ZEROES`: fill the range with written zeros, cheaply.
pub const WRITE_ZEROES: u32 = bindings::CALF_CONST_FALLOC_FL_WRITE_ZEROES;
/// `FALLOC_FL_UNSHARE_RANGE`: give the range blocks of its own.
pub const UNSHARE_RANGE: u32 = bindings::CALF_CONST_FALLOC_FL_UNSHARE_RANGE;

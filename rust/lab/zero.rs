// SPDX-License-Identifier: GPL-2.0

//! What zeroing is told about the blocks past EOF.
//!
//! XFS preallocates past EOF what a growing file will probably need, as reservations without blocks.
//! Until 2022 zeroing was told of them as they were, and zeroed page cache that writeback never looks
//! at. calf has nothing there, so the switch reserves as XFS did.

use super::switches::Switch;
use crate::fs::inode::{Inode, InodeExt};
use crate::fs::{map, reserve, Sb};
use crate::kapi::iomap::lab::{DELALLOC, NULL_ADDR, SHARED};
use crate::kapi::iomap::{LabMap, LabSide};
use kernel::prelude::*;

/// The wrong answer for blocks `[at, end)` past EOF, of which no data map knows, if the switch asks
/// for one. The extent lock is held exclusively.
pub(crate) fn past_eof(
    sb: &Sb,
    inode: &Inode,
    ext: &mut InodeExt,
    at: u64,
    end: u64,
) -> Result<Option<LabMap>> {
    if !sb.opts().bugs.has(Switch::ZeroPosteofDelalloc) || at >= end {
        return Ok(None);
    }
    if ext.staging.find(at).is_none() {
        reserve::reserve_range(sb, inode, ext, at, end)?;
    }
    let span = map::span(sb, at, end)?;
    let dst = LabSide {
        ty: DELALLOC,
        flags: SHARED,
        addr: NULL_ADDR,
        offset: span.start(),
        length: span.len(),
    };
    Ok(Some(LabMap { dst, src: None }))
}

// SPDX-License-Identifier: GPL-2.0

//! Address space operations of regular files.

use crate::fs::begin_read::{READ, REPORT};
use crate::fs::writeback::Writeback;
use crate::fs::{Calf, Inode};
use crate::kapi::address_space::{table, AddressSpaceOps, AopsRef};
use crate::kapi::folio::{FolioToRead, Readahead};
use crate::kapi::iomap::{self, OpsRef};
use kernel::prelude::*;

struct Aspace;

/// The operations that tell where a file's blocks are, for somebody who will write them himself. Under always_cow a
/// file promises that no block is written in place.
fn map_in_place(inode: &Inode) -> Result<OpsRef<Calf>> {
    inode.sb().data().check_shutdown()?;
    if inode.sb().data().opts().always_cow {
        return Err(EINVAL);
    }
    // A write under way may yet move its blocks.
    inode.dio_wait();
    Ok(REPORT)
}

/// The table.
pub(super) const FILE_AOPS: AopsRef<Calf> = table::<Aspace>();

impl AddressSpaceOps for Aspace {
    type Fs = Calf;
    type Writeback = Writeback;

    fn read_folio(folio: FolioToRead<'_, Calf>) {
        iomap::read_folio(folio, READ)
    }

    fn readahead(mut rac: Readahead<'_, Calf>) {
        iomap::readahead(&mut rac, READ)
    }

    /// Holes and shared blocks are refused by iomap.
    fn swap_map(inode: &Inode) -> Result<OpsRef<Calf>> {
        let ops = map_in_place(inode)?;
        // Nobody asks any more when a page is swapped out, so a block that would be shared again after a crash
        // must not be left to this file alone before that is on disk.
        inode.sb().data().settle_left()?;
        Ok(ops)
    }

    /// Not where blocks may be shared or no block is written in place: as in XFS.
    fn block_map(inode: &Inode) -> Option<OpsRef<Calf>> {
        let ops = map_in_place(inode).ok()?;
        (!inode.data().ext.read().may_share()).then_some(ops)
    }
}

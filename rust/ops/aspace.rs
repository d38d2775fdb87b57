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

    /// Holes and shared blocks are refused by iomap. Under always_cow a file promises that no block
    /// is written in place.
    fn swap_map(inode: &Inode) -> Result<OpsRef<Calf>> {
        inode.sb().data().check_shutdown()?;
        if inode.sb().data().opts().always_cow {
            return Err(EINVAL);
        }
        // A write under way may yet move its blocks.
        inode.dio_wait();
        Ok(REPORT)
    }

    /// Not where blocks may be shared or no block is written in place: as in XFS.
    fn block_map(inode: &Inode) -> Option<OpsRef<Calf>> {
        Self::swap_map(inode).ok()?;
        (!inode.data().ext.read().may_share()).then_some(REPORT)
    }
}

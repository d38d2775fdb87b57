// SPDX-License-Identifier: GPL-2.0

//! Address space operations of regular files.

use crate::fs::begin_read::READ;
use crate::fs::writeback::Writeback;
use crate::fs::Calf;
use crate::kapi::address_space::{table, AddressSpaceOps, AopsRef};
use crate::kapi::folio::{Folio, Readahead};
use crate::kapi::iomap;

struct Aspace;

/// The table.
pub(super) const FILE_AOPS: AopsRef<Calf> = table::<Aspace>();

impl AddressSpaceOps for Aspace {
    type Fs = Calf;
    type Writeback = Writeback;

    fn read_folio(folio: &Folio<Calf>) {
        iomap::read_folio(folio, READ)
    }

    fn readahead(mut rac: Readahead<'_, Calf>) {
        iomap::readahead(&mut rac, READ)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The filesystem itself.
//!
//! `sb`, `space`, `alloc`, `txn` and `inode` are the core that everything else stands on.

pub(crate) mod acl;
pub(crate) mod alloc;
pub(crate) mod begin_direct;
pub(crate) mod begin_read;
pub(crate) mod begin_unshare;
pub(crate) mod begin_write;
pub(crate) mod begin_zero;
pub(crate) mod completion;
pub(crate) mod counters;
pub(crate) mod credits;
pub(crate) mod debug;
pub(crate) mod dio;
pub(crate) mod dir;
pub(crate) mod discard;
pub(crate) mod evict;
pub(crate) mod export;
pub(crate) mod ext_set;
pub(crate) mod extents;
pub(crate) mod fallocate;
pub(crate) mod fileattr;
pub(crate) mod fsmap;
pub(crate) mod fsync;
pub(crate) mod grow;
pub(crate) mod inode;
pub(crate) mod itable;
pub(crate) mod label;
pub(crate) mod last;
pub(crate) mod map;
pub(crate) mod mount;
pub(crate) mod opts;
pub(crate) mod orphan;
pub(crate) mod reader;
pub(crate) mod reflink;
pub(crate) mod reserve;
pub(crate) mod sb;
pub(crate) mod shift;
pub(crate) mod shutdown;
pub(crate) mod space;
pub(crate) mod truncate;
pub(crate) mod txn;
pub(crate) mod writeback;
pub(crate) mod xattr;
pub(crate) mod zeroout;

pub(crate) use inode::{CalfInode, Inode, SuperBlock};
pub(crate) use sb::Sb;

use crate::kapi::FileSystem;
use kernel::prelude::*;

/// The filesystem type.
pub(crate) struct Calf;

impl FileSystem for Calf {
    type SbData = Sb;
    type InodeData = CalfInode;
    #[cfg(calf_lab)]
    type Watch = crate::lab::checks::Checker;
    const NAME: &'static CStr = c"calf";

    fn init_inode_data() -> impl PinInit<CalfInode, Error> {
        CalfInode::init()
    }
}

// SPDX-License-Identifier: GPL-2.0

//! System calls without a safe wrapper elsewhere.
//!
//! All `unsafe` of the test programs is in the files below this one.
#![allow(unsafe_code)]

mod aligned;
mod fanotify;
mod fiemap;
mod fsmap;
mod handle;
mod inflight;
mod loop_device;
mod map;
mod rw;
mod share;
mod swap;
mod time;
pub mod vfs;
mod volume;

pub use aligned::{Aligned, HUGE};
pub use fanotify::FsErrors;
pub use fiemap::{
    fibmap, fiemap, fiemap_count, fiemap_with, FiemapExtent, FIEMAP_DELALLOC, FIEMAP_FLAG_XATTR,
    FIEMAP_LAST, FIEMAP_SHARED, FIEMAP_UNWRITTEN,
};
pub use fsmap::{
    getfsmap, Fsmap, FSMAP_FREE, FSMAP_LAST, FSMAP_METADATA, FSMAP_SPECIAL, FSMAP_UNKNOWN,
};
pub use handle::{name_to_handle, open_by_handle, Handle};
pub use inflight::{Aio, Dir, Queue, Ring};
pub use loop_device::Loop;
pub use map::Map;
pub use rw::{
    atomic_limits, read_flags, sync_range, write_flags, write_into_the_void,
    write_into_the_void_flags, RWF_ATOMIC, RWF_DONTCACHE, RWF_NOWAIT,
};
pub use share::{clone_range, dedupe};
pub use swap::{swapoff, swapon};
pub use time::coarse_time;
pub use volume::{
    fitrim, freeze, ioctl, thaw, BLKROSET, FIFREEZE, FITHAW, GETFSLABEL, GETFSSYSFSPATH, GETFSUUID,
    GETVERSION, GOINGDOWN, SETFSLABEL,
};

// rustix takes `DSYNC` for `SYNC`.
pub use libc::{O_APPEND, O_DIRECT, O_DSYNC, O_SYNC};

use rustix::io::Errno;

type Result<T> = std::result::Result<T, Errno>;

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

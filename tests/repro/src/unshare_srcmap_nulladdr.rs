// SPDX-License-Identifier: GPL-2.0

//! Variant 3 of seed 000: for a hole under WRITE|UNSHARE the source is MAPPED without address.
//!
//! The core reads at an address past the end of the device: EIO, no warning.

use crate::unshare::{variant, CONTRACT};
use rustix::io::Errno;

variant!(
    UnshareSrcmapNulladdr,
    "unshare_srcmap_nulladdr",
    CONTRACT,
    "fallocate fails with EIO, no warning",
    None,
    |f| f.errno == Some(Errno::IO) && !f.warned && f.data_same()
);

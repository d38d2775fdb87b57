// SPDX-License-Identifier: GPL-2.0

//! Variant 1 of seed 000: for a hole under WRITE|UNSHARE the filesystem returns its staging
//! mapping as source too, with F_NEW.
//!
//! The core of 5.14 took the destination as source by itself when there was none; that of 7.3 does
//! not, so here the filesystem does. The symptom is that of the report: the core has to zero under
//! unshare, warns, and fallocate fails with EIO.

use crate::unshare::{variant, CONTRACT, WARN_UNSHARE_ZEROING};
use rustix::io::Errno;

variant!(
    UnshareSrcmapAliasNew,
    "unshare_srcmap_alias_new",
    CONTRACT,
    "fallocate fails with EIO, WARN in fs/iomap/buffered-io.c",
    Some(WARN_UNSHARE_ZEROING),
    |f| f.errno == Some(Errno::IO) && f.warned && f.data_same()
);

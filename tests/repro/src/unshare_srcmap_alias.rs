// SPDX-License-Identifier: GPL-2.0

//! Variant 2 of seed 000: as variant 1, but without F_NEW.
//!
//! No warning: the core believes that there is something to read, reads blocks that nobody ever
//! wrote, and the hole gains whatever the device held there. fallocate reports success.

use crate::unshare::{variant, CONTRACT};

variant!(
    UnshareSrcmapAlias,
    "unshare_srcmap_alias",
    CONTRACT,
    "success, but holes gain old contents of the disk",
    None,
    |f| f.errno.is_none()
        && !f.warned
        && f.source_changed.is_none()
        && f.holes_lost == f.half
        && (f.changed_now.is_some() || f.changed_later.is_some())
);

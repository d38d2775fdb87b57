// SPDX-License-Identifier: GPL-2.0

//! What a report of extents asks for.
//!
//! C header: [`include/linux/fiemap.h`](srctree/include/linux/fiemap.h)

use kernel::types::Opaque;

use crate::bindings;

/// Which extents `FS_IOC_FIEMAP` asks for, and where they go (`struct fiemap_extent_info`).
#[repr(transparent)]
pub struct FiemapInfo(Opaque<bindings::fiemap_extent_info>);

impl FiemapInfo {
    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::fiemap_extent_info {
        self.0.get()
    }

    /// `FIEMAP_FLAG_XATTR`: are those of the extended attributes meant? Takes the flag away, so that what
    /// remains are the flags that iomap knows.
    pub fn take_xattr(&self) -> bool {
        // SAFETY: The object is valid; only the task that asks has it.
        let flags = unsafe { &mut (*self.as_ptr()).fi_flags };
        let asked = *flags & bindings::FIEMAP_FLAG_XATTR != 0;
        *flags &= !bindings::FIEMAP_FLAG_XATTR;
        asked
    }
}

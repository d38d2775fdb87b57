// SPDX-License-Identifier: GPL-2.0

//! Mistakes with memory: `/sys/kernel/debug/calf/stray` takes `freed` or `too_long`, and safe code reads the last
//! byte of a slice that is so. A kernel with KASAN tells, if it instruments this module's Rust; others say nothing.

use core::hint::black_box;
use kernel::debugfs::File;
use kernel::prelude::*;
use kernel::uaccess::UserSliceReader;

fn command(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; 16];
    let len = reader.len();
    let text = buf.get_mut(..len).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    match text.trim_ascii() {
        b"freed" => crate::kapi::stray::freed(read_last),
        b"too_long" => crate::kapi::stray::too_long(read_last),
        _ => Err(EINVAL),
    }
}

#[inline(never)]
fn read_last(bytes: &[u8]) {
    black_box(bytes.last().copied());
}

/// The module's file `stray`.
pub(crate) struct StrayFile(#[expect(dead_code)] Option<Pin<KBox<File<()>>>>);

impl StrayFile {
    /// Makes it in the module's folder, which must be there.
    pub(crate) fn new() -> Self {
        Self(crate::kapi::debugfs::root().and_then(|dir| {
            let file = dir.write_callback_file(c"stray", (), &command);
            KBox::pin_init(file, GFP_KERNEL).ok()
        }))
    }
}

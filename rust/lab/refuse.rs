// SPDX-License-Identifier: GPL-2.0

//! A promise of blocks that is refused, though there are some: as if others had taken them just before.
//!
//! A number n written to `/sys/kernel/debug/calf/<device>/refuse` makes the n-th promise from then on, of whomever, end
//! with `ENOSPC` (0: none). Read, it says how many are left until then: 0 when it has happened. Every block that is
//! allocated was promised before (B2), so there is no other place that can find no space.

use crate::fs::alloc::Allocator;
use core::fmt;
use kernel::debugfs::{Dir, File};
use kernel::error::code::{EINVAL, ENOMEM, ENOSPC};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::uaccess::UserSliceReader;

/// Longest number.
const NUMBER: usize = 16;

/// Counts a promise. Errors: `ENOSPC` if it is the one to refuse.
pub(crate) fn pass(left: &mut u32) -> Result {
    match *left {
        0 => Ok(()),
        n => {
            *left = n - 1;
            if n == 1 {
                return Err(ENOSPC);
            }
            Ok(())
        }
    }
}

/// What the file holds.
struct Promises(Arc<Allocator>);

// A debugfs file of the kernel crate prints what it holds only by a function.
fn show(file: &Promises, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{}", file.0.space.account().refuse)
}

fn set(file: &Promises, reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; NUMBER];
    let len = reader.len();
    let text = buf.get_mut(..len).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?.trim();
    file.0.space.refuse(text.parse().map_err(|_| EINVAL)?);
    Ok(())
}

/// The file, gone when this is dropped.
pub(crate) struct RefuseFile {
    _file: Option<Pin<KBox<File<Promises>>>>,
}

impl RefuseFile {
    /// Makes it below `parent`, the folder of the mount.
    pub(crate) fn new(parent: Option<&Dir>, alloc: &Arc<Allocator>) -> Result<Self> {
        let Some(dir) = parent else {
            return Ok(Self { _file: None });
        };
        let file = dir.read_write_callback_file(c"refuse", Promises(alloc.clone()), &show, &set);
        let file = KBox::pin_init(file, GFP_KERNEL).map_err(|_| ENOMEM)?;
        Ok(Self { _file: Some(file) })
    }
}

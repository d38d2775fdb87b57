// SPDX-License-Identifier: GPL-2.0

//! The name that the user gives to the filesystem.

use super::inode::SuperBlock;
use super::mount::update_super;
use crate::format::super_block::{RawSuperBlock, LABEL_MAX};
use crate::format::types::BlockNr;
use kernel::error::code::{EINVAL, EIO};
use kernel::prelude::*;

/// The label, filled up with zeros. Errors: `EIO`.
pub(crate) fn get(sb: &SuperBlock) -> Result<[u8; LABEL_MAX]> {
    let d = sb.data();
    let _lock = d.super_lock().lock();
    let bh = d.dev().read(BlockNr::ZERO)?;
    Ok(RawSuperBlock::of(bh.data()).ok_or(EIO)?.label)
}

/// Sets the label; on return it is durable. The caller has write access to the mount.
/// Errors: `EINVAL` if it is too long.
pub(crate) fn set(sb: &SuperBlock, label: &[u8]) -> Result {
    let mut padded = [0; LABEL_MAX];
    padded
        .get_mut(..label.len())
        .ok_or(EINVAL)?
        .copy_from_slice(label);
    let d = sb.data();
    d.check_shutdown()?;
    update_super(d, |raw| raw.set_label(padded))?;
    d.journal().force_commit()
}

// SPDX-License-Identifier: GPL-2.0

//! Going down on demand: what is lost is what a power failure at that moment would lose.

use super::inode::SuperBlock;
use kernel::error::code::{EINVAL, ESHUTDOWN};
use kernel::prelude::*;

/// Writes everything first.
const DEFAULT: u32 = 0;
/// Commits the journal first, but writes no data.
const LOGFLUSH: u32 = 1;
/// Drops everything that is only in memory.
const NOLOGFLUSH: u32 = 2;

/// `XFS_IOC_GOINGDOWN`, with the three modes of XFS: from now on everything returns `EIO` until
/// umount. Errors: `EINVAL` for another mode, what freezing returns. With no lock held.
pub(crate) fn go_down(sb: &SuperBlock, mode: u32) -> Result {
    let d = sb.data();
    if mode > NOLOGFLUSH {
        return Err(EINVAL);
    }
    if d.is_down() {
        return Ok(());
    }
    let die = || d.force_shutdown("asked for by ioctl", ESHUTDOWN);
    match mode {
        // Read-only after damage or without a replay, or the journal is dead: nothing can be written before.
        _ if d.is_shutdown() => die(),
        DEFAULT => sb.while_frozen(die)?,
        LOGFLUSH => {
            // As in XFS: a journal that cannot be written goes down all the same.
            let _ = d.journal().force_commit();
            die()
        }
        _ => die(),
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! From file handles to inodes (B7). A handle is not to be trusted: what it names may be gone, used
//! again, or never have been.

use super::inode::{Inode, SuperBlock};
use super::itable;
use crate::algo::dir::parent;
use crate::format::types::Ino;
use kernel::error::code::ESTALE;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

/// The inode with this number and generation; an unlinked one as long as somebody has it open.
/// Errors: `ESTALE` if there is none, `EIO`. Not under a handle (D2).
pub(crate) fn find(sb: &SuperBlock, ino: u64, generation: u32) -> Result<ARef<Inode>> {
    sb.data().check_readable()?;
    let inode = itable::iget_orphan(sb, Ino::new(ino))?;
    if inode.generation() != generation {
        return Err(ESTALE);
    }
    Ok(inode)
}

/// The parent of directory `dir`. Errors: `ESTALE` if it is just being removed.
pub(crate) fn parent_of(dir: &Inode) -> Result<ARef<Inode>> {
    let sb = dir.sb();
    sb.data().check_readable()?;
    let ino = {
        let ext = dir.data().ext.read();
        parent(&ext.tree(dir), &sb.data().reader())?
    };
    itable::iget_orphan(sb, ino)
}

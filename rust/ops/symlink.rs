// SPDX-License-Identifier: GPL-2.0

//! Inode operations of symbolic links.

use kernel::error::Result;
use kernel::prelude::vtable;

use super::inode::{getattr, setattr};
use crate::fs::{self, fileattr, Calf, Inode};
use crate::kapi::attr::{Attr, Stat};
use crate::kapi::dentry::Positive;
use crate::kapi::fileattr::FileAttr;
use crate::kapi::inode_ops::{InodeOperations, InodeOps, LinkTarget};
use crate::kapi::Idmap;

/// Inode operations of symbolic links.
pub(super) const SYMLINK_IOPS: InodeOps<Calf> = InodeOps::new::<SymlinkInode>();

struct SymlinkInode;

#[vtable]
impl InodeOperations for SymlinkInode {
    type FileSystem = Calf;
    const HAS_ACL: bool = false;

    fn get_link(inode: &Inode) -> Result<LinkTarget> {
        LinkTarget::new(&fs::dir::read_link(inode)?)
    }

    fn setattr(idmap: Idmap<'_>, dentry: Positive<'_, Calf>, attr: Attr<'_>) -> Result {
        setattr(idmap, dentry, attr)
    }

    fn getattr(idmap: Idmap<'_>, inode: &Inode, stat: Stat<'_>, mask: u32) -> Result {
        getattr(idmap, inode, stat, mask)
    }

    fn fileattr_get(inode: &Inode, attr: FileAttr<'_>) -> Result {
        fileattr::get(inode, attr)
    }

    fn fileattr_set(idmap: Idmap<'_>, inode: &Inode, attr: FileAttr<'_>) -> Result {
        fileattr::set(idmap, inode, &attr)
    }
}

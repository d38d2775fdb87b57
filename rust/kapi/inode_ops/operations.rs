// SPDX-License-Identifier: GPL-2.0

//! What a filesystem implements for each kind of inode.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use kernel::error::{Result, VTABLE_DEFAULT_ERROR};
use kernel::prelude::{build_error, vtable};
use kernel::str::CStr;
use kernel::sync::aref::ARef;

use super::fiemap::FiemapInfo;
use super::link_target::LinkTarget;
use crate::bindings;
use crate::kapi::attr::{Attr, Stat};
use crate::kapi::dentry::{Dentry, FullTmpfile, Named, Negative, Positive, Tmpfile, Unhashed};
use crate::kapi::fileattr::FileAttr;
use crate::kapi::idmap::Idmap;
use crate::kapi::inode::Inode;
use crate::kapi::xattr::XattrOperations;

/// `renameat2`: the target must not exist.
pub const RENAME_NOREPLACE: u32 = bindings::RENAME_NOREPLACE;
/// `renameat2`: both names exist and change places.
pub const RENAME_EXCHANGE: u32 = bindings::RENAME_EXCHANGE;
/// `renameat2`: the old name leads to a whiteout afterwards.
pub const RENAME_WHITEOUT: u32 = bindings::RENAME_WHITEOUT;

/// The operations of one kind of inode.
#[vtable]
pub trait InodeOperations: Sized {
    /// The filesystem whose inodes these are.
    type FileSystem: XattrOperations;
    /// May these inodes have ACLs?
    const HAS_ACL: bool = true;

    /// Resolves a name. `i_rwsem` of `dir` is held shared.
    fn lookup(
        _dir: &Inode<Self::FileSystem>,
        _dentry: Unhashed<'_, Self::FileSystem>,
        _flags: u32,
    ) -> Result<Option<ARef<Dentry<Self::FileSystem>>>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reads a symbolic link. No lock is held; it may sleep.
    fn get_link(_inode: &Inode<Self::FileSystem>) -> Result<LinkTarget> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a regular file. `i_rwsem` of `dir` is held exclusively, here and in all that follow.
    fn create(
        _idmap: Idmap<'_>,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'_, Self::FileSystem>,
        _mode: u16,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes another name for the inode of `old`, whose `i_rwsem` is held as well.
    fn link(
        _old: Positive<'_, Self::FileSystem>,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'_, Self::FileSystem>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a name of something that is not a directory, and whose `i_rwsem` is held as well.
    fn unlink(_dir: &Inode<Self::FileSystem>, _dentry: Named<'_, Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a symbolic link.
    fn symlink(
        _idmap: Idmap<'_>,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'_, Self::FileSystem>,
        _target: &CStr,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a directory.
    fn mkdir(
        _idmap: Idmap<'_>,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'_, Self::FileSystem>,
        _mode: u16,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a directory, whose `i_rwsem` is held as well.
    fn rmdir(_dir: &Inode<Self::FileSystem>, _dentry: Named<'_, Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a device node, a socket or a fifo. `rdev` is the kernel's `dev_t`.
    fn mknod(
        _idmap: Idmap<'_>,
        _dir: &Inode<Self::FileSystem>,
        _dentry: Negative<'_, Self::FileSystem>,
        _mode: u16,
        _rdev: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Renames. Both directories are locked; so are the two inodes, except a directory that stays
    /// in its directory.
    fn rename(
        _idmap: Idmap<'_>,
        _old_dir: &Inode<Self::FileSystem>,
        _old: Named<'_, Self::FileSystem>,
        _new_dir: &Inode<Self::FileSystem>,
        _new: Named<'_, Self::FileSystem>,
        _flags: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes a regular file without a name for an `O_TMPFILE` open. No lock is held.
    fn tmpfile<'a>(
        _idmap: Idmap<'_>,
        _dir: &Inode<Self::FileSystem>,
        _file: Tmpfile<'a, Self::FileSystem>,
        _mode: u16,
    ) -> Result<FullTmpfile<'a>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reports file attributes. `i_rwsem` may or may not be held.
    fn fileattr_get(_inode: &Inode<Self::FileSystem>, _attr: FileAttr<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes file attributes. `i_rwsem` is held exclusively, permissions have been checked.
    fn fileattr_set(
        _idmap: Idmap<'_>,
        _inode: &Inode<Self::FileSystem>,
        _attr: FileAttr<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes attributes. `i_rwsem` of the inode is held exclusively.
    fn setattr(
        _idmap: Idmap<'_>,
        _dentry: Positive<'_, Self::FileSystem>,
        _attr: Attr<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reports attributes; `mask` is what was asked for. No lock is held.
    fn getattr(
        _idmap: Idmap<'_>,
        _inode: &Inode<Self::FileSystem>,
        _stat: Stat<'_>,
        _mask: u32,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reports extents. No lock is held.
    fn fiemap(
        _inode: &Inode<Self::FileSystem>,
        _info: &FiemapInfo,
        _start: u64,
        _len: u64,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! File attributes: immutable, append-only and their kin, and the project.
//!
//! They live in the flags of the record. The VFS enforces those that it has an `S_*` flag for; what
//! is left to do here is to store them, to hand them down, and to keep projects apart.

use kernel::error::code::{EOPNOTSUPP, EXDEV};
use kernel::error::Result;

use super::ext_set::ExtSet;
use super::inode::{Inode, InodeExt, MAY_SHARE};
use super::itable;
use crate::format::inode::{
    FLAGS_DIR, FLAG_APPEND, FLAG_DIRSYNC, FLAG_IMMUTABLE, FLAG_NOATIME, FLAG_NODUMP,
    FLAG_PROJINHERIT, FLAG_SYNC,
};
use crate::kapi::fileattr::{self as vfs, FileAttr};
use crate::kapi::Idmap;

/// Flags of the record, and what user space and the VFS call them.
const TABLE: [(u32, (u32, u32)); 7] = [
    (FLAG_IMMUTABLE, vfs::IMMUTABLE),
    (FLAG_APPEND, vfs::APPEND),
    (FLAG_NODUMP, vfs::NODUMP),
    (FLAG_NOATIME, vfs::NOATIME),
    (FLAG_SYNC, vfs::SYNC),
    (FLAG_DIRSYNC, vfs::DIRSYNC),
    (FLAG_PROJINHERIT, vfs::PROJINHERIT),
];

/// The flags that whatever is made in a directory has too, as in XFS.
const INHERITED: u32 = FLAG_NODUMP | FLAG_NOATIME | FLAG_SYNC;

/// What user space calls the record flags `flags`: `FS_*_FL`.
pub(crate) fn fs_flags(flags: u32) -> u32 {
    let on = TABLE.iter().filter(|(f, _)| flags & f != 0);
    on.fold(0, |all, (_, (fs, _))| all | fs)
}

/// Tells the VFS about the record flags `flags`, so that it enforces them.
pub(crate) fn publish(inode: &Inode, flags: u32) {
    let (mut on, mut mask) = (0, 0);
    for (f, (_, s)) in TABLE {
        mask |= s;
        if flags & f != 0 {
            on |= s;
        }
    }
    inode.set_flags(on, mask);
}

/// Reports the attributes of `inode`.
pub(crate) fn get(inode: &Inode, mut attr: FileAttr<'_>) -> Result {
    inode.sb().data().check_readable()?;
    let ext = inode.data().ext.read();
    attr.fill(fs_flags(ext.flags), ext.projid);
    Ok(())
}

/// Changes the attributes of `inode`. The VFS has checked permissions and holds `i_rwsem`.
///
/// Errors: `EOPNOTSUPP` for what calf does not have, `EIO`.
pub(crate) fn set(idmap: Idmap<'_>, inode: &Inode, attr: &FileAttr<'_>) -> Result {
    let (mut flags, mut rest) = (0, attr.flags());
    for (f, (fs, _)) in TABLE {
        if rest & fs != 0 {
            flags |= f;
            rest &= !fs;
        }
    }
    if rest != 0 || attr.has_more() {
        return Err(EOPNOTSUPP);
    }
    if !inode.is_dir() {
        // Not an error, so that they can be asked for a whole tree.
        flags &= !FLAGS_DIR;
    }
    let project = attr.projid();
    let drop_setid = project.is_some() && inode.must_drop_setid(idmap);
    itable::change_record(inode, |ext| {
        ext.flags = ext.flags & MAY_SHARE | flags;
        ext.projid = project.unwrap_or(ext.projid);
        publish(inode, flags);
        if drop_setid {
            inode.drop_setid();
        }
        inode.touch(false);
    })?;
    match inode.is_sync() {
        true => inode.sb().data().commit_and_wait(inode.data().tid(false)),
        false => Ok(()),
    }
}

/// Gives a new inode what it inherits from directory `dir`, whose `i_rwsem` the caller holds or
/// whose attributes may as well be those of before.
pub(crate) fn inherit(dir: &Inode, inode: &Inode, ext: &mut InodeExt) {
    let parent = dir.data().ext.read();
    if parent.flags & FLAG_PROJINHERIT != 0 {
        ext.projid = parent.projid;
    }
    ext.flags = if inode.is_dir() {
        parent.flags & (INHERITED | FLAGS_DIR)
    } else if inode.is_reg() {
        parent.flags & INHERITED
    } else {
        0
    };
    publish(inode, ext.flags);
}

/// Whether `inode` may get a name in `dir`: not if that is a project's and the inode is not.
/// Special files that belong to no project may, as in XFS. Errors: `EXDEV`.
pub(crate) fn check_project(exts: &mut ExtSet<'_>, dir: &Inode, inode: &Inode) -> Result {
    let parent = exts.of(dir);
    let (flags, project) = (parent.flags, parent.projid);
    let own = exts.of(inode).projid;
    let special = !(inode.is_reg() || inode.is_dir() || inode.is_lnk());
    if flags & FLAG_PROJINHERIT != 0 && own != project && !(special && own == 0) {
        return Err(EXDEV);
    }
    Ok(())
}

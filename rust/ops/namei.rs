// SPDX-License-Identifier: GPL-2.0

//! Inode operations of directories: the VFS side of [`crate::fs::dir`].
//!
//! Inodes are got and dropped here, outside every handle (D2).

use kernel::error::code::{EINVAL, ENAMETOOLONG, ENOENT};
use kernel::error::Result;
use kernel::prelude::vtable;
use kernel::str::CStr;
use kernel::sync::aref::ARef;

use super::inode::{getattr, setattr};
use crate::algo::symlink::TARGET_MAX;
use crate::fs::dir::{self, Content, Rename};
use crate::fs::itable::{iget, new_child, new_inode};
use crate::fs::{fileattr, Calf, Inode};
use crate::kapi::attr::{Attr, Stat};
use crate::kapi::dentry::{Dentry, FullTmpfile, Named, Negative, Positive, Tmpfile, Unhashed};
use crate::kapi::fileattr::FileAttr;
use crate::kapi::inode_ops::{
    InodeOperations, InodeOps, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT,
};
use crate::kapi::jbd2::Tid;
use crate::kapi::Idmap;

/// Inode operations of directories.
pub(super) const DIR_IOPS: InodeOps<Calf> = InodeOps::new::<DirInode>();

const S_IFREG: u16 = 0o100000;
const S_IFDIR: u16 = 0o040000;
/// A whiteout is a character device with number 0 and no permissions.
const S_IFCHR: u16 = 0o020000;
const S_IFLNK: u16 = 0o120000;

struct DirInode;

/// Waits for the transaction if the directory or the mount is synchronous.
fn sync(dir: &Inode, tid: Tid) -> Result {
    if dir.is_dirsync() {
        dir.sb().data().commit_and_wait(tid)?;
    }
    Ok(())
}

/// Makes an inode and its first name.
fn make(
    idmap: Idmap<'_>,
    dir: &Inode,
    dentry: Negative<'_, Calf>,
    mode: u16,
    rdev: u32,
    content: Content<'_>,
) -> Result {
    let new = new_child(dir, idmap, &dentry, mode, rdev)?;
    // On an error `new` is dropped here, when the handle has stopped (D2).
    let tid = dir::create(dir, dentry.name(), &new, content)?;
    new.instantiate(dentry);
    sync(dir, tid)
}

fn remove(dir: &Inode, dentry: Named<'_, Calf>) -> Result {
    let inode = dentry.inode().ok_or(ENOENT)?;
    let tid = dir::unlink(dir, dentry.name(), inode)?;
    sync(dir, tid)
}

#[vtable]
impl InodeOperations for DirInode {
    type FileSystem = Calf;

    fn lookup(
        dir: &Inode,
        dentry: Unhashed<'_, Calf>,
        _flags: u32,
    ) -> Result<Option<ARef<Dentry<Calf>>>> {
        let inode = match dir::lookup(dir, dentry.name())? {
            None => None,
            // A name keeps its inode alive on disk, and `i_rwsem` keeps the name.
            Some(ino) => Some(iget(dir.sb(), ino)?),
        };
        dentry.splice_alias(inode)
    }

    fn create(idmap: Idmap<'_>, dir: &Inode, dentry: Negative<'_, Calf>, mode: u16) -> Result {
        make(
            idmap,
            dir,
            dentry,
            S_IFREG | mode & 0o7777,
            0,
            Content::Nothing,
        )
    }

    fn link(old: Positive<'_, Calf>, dir: &Inode, dentry: Negative<'_, Calf>) -> Result {
        let inode = old.inode();
        let tid = dir::link(dir, dentry.name(), inode)?;
        dentry.instantiate(inode.get());
        sync(dir, tid)
    }

    fn unlink(dir: &Inode, dentry: Named<'_, Calf>) -> Result {
        remove(dir, dentry)
    }

    fn symlink(idmap: Idmap<'_>, dir: &Inode, dentry: Negative<'_, Calf>, target: &CStr) -> Result {
        let target = target.to_bytes();
        if target.len() > TARGET_MAX {
            return Err(ENAMETOOLONG);
        }
        make(
            idmap,
            dir,
            dentry,
            S_IFLNK | 0o777,
            0,
            Content::Symlink(target),
        )
    }

    fn mkdir(idmap: Idmap<'_>, dir: &Inode, dentry: Negative<'_, Calf>, mode: u16) -> Result {
        make(
            idmap,
            dir,
            dentry,
            S_IFDIR | mode & 0o7777,
            0,
            Content::Directory,
        )
    }

    fn rmdir(dir: &Inode, dentry: Named<'_, Calf>) -> Result {
        remove(dir, dentry)
    }

    fn mknod(
        idmap: Idmap<'_>,
        dir: &Inode,
        dentry: Negative<'_, Calf>,
        mode: u16,
        rdev: u32,
    ) -> Result {
        make(idmap, dir, dentry, mode, rdev, Content::Nothing)
    }

    fn rename(
        idmap: Idmap<'_>,
        old_dir: &Inode,
        old: Named<'_, Calf>,
        new_dir: &Inode,
        new: Named<'_, Calf>,
        flags: u32,
    ) -> Result {
        // The VFS has seen to RENAME_NOREPLACE itself, and to the combinations.
        if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) != 0 {
            return Err(EINVAL);
        }
        // On an error it is dropped here, when the handle has stopped (D2).
        let whiteout = (flags & RENAME_WHITEOUT != 0)
            .then(|| new_inode(old_dir, idmap, S_IFCHR, 0))
            .transpose()?;
        let names = Rename {
            old_dir,
            old_name: old.name(),
            new_dir,
            new_name: new.name(),
            inode: old.inode().ok_or(ENOENT)?,
            target: new.inode(),
            whiteout: whiteout.as_ref(),
        };
        let tid = if flags & RENAME_EXCHANGE != 0 {
            dir::exchange(&names)?
        } else {
            dir::rename(&names)?
        };
        if let Some(whiteout) = whiteout {
            whiteout.publish();
        }
        sync(old_dir, tid)?;
        sync(new_dir, tid)
    }

    fn tmpfile<'a>(
        idmap: Idmap<'_>,
        dir: &Inode,
        file: Tmpfile<'a, Calf>,
        mode: u16,
    ) -> Result<FullTmpfile<'a>> {
        let new = new_child(dir, idmap, file.dentry(), S_IFREG | mode & 0o7777, 0)?;
        dir::create_unnamed(&new)?;
        Ok(new.instantiate_tmpfile(file))
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

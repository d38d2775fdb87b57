// SPDX-License-Identifier: GPL-2.0

//! Attributes, and the inode operations of everything that is not a directory.

use kernel::error::{code::EINVAL, Result};
use kernel::prelude::vtable;

use crate::fs::begin_read::{REPORT, REPORT_ATTRS};
use crate::fs::{self, fileattr, Calf, Inode};
use crate::kapi::acl;
use crate::kapi::attr::{Attr, Stat};
use crate::kapi::dentry::Positive;
use crate::kapi::fileattr::FileAttr;
use crate::kapi::inode_ops::{FiemapInfo, InodeOperations, InodeOps};
use crate::kapi::iomap;
use crate::kapi::memalloc::retry_nomem;
use crate::kapi::Idmap;

/// Inode operations of regular files.
pub(super) const FILE_IOPS: InodeOps<Calf> = InodeOps::new::<FileInode>();

/// Inode operations of devices, sockets and fifos.
pub(super) const SPECIAL_IOPS: InodeOps<Calf> = InodeOps::new::<SpecialInode>();

/// Changes attributes, in the order that a crash may cut anywhere: checks, size, then the rest.
///
/// The size has its own transactions. The rest is marked dirty and logged by the next transaction
/// of the inode, by `write_inode` or by fsync (D3).
pub(super) fn setattr(idmap: Idmap<'_>, dentry: Positive<'_, Calf>, mut attr: Attr<'_>) -> Result {
    let inode = dentry.inode();
    inode.sb().data().check_shutdown()?;
    attr.prepare(idmap, &dentry)?;
    if let Some(size) = attr.size() {
        if !inode.is_reg() {
            return Err(EINVAL);
        }
        let changes = size != inode.size();
        fs::truncate::setsize(inode, size)?;
        if changes {
            // `truncate(2)` asks for new times only by changing the size.
            inode.touch(true);
        }
    }
    let mode = inode.mode();
    if attr.sets_mode() || attr.sets_owner() {
        // As in XFS, who may do what is logged at once, and fdatasync waits for it: what an ordinary user has written
        // must not come back as a program that runs as root.
        retry_nomem(|| fs::itable::change_record(inode, |_| attr.copy_to(idmap, inode)))?;
    } else {
        let _ext = inode.data().ext.write();
        attr.copy_to(idmap, inode);
    }
    // Times may live in memory for a while.
    inode.mark_dirty();
    if attr.sets_mode() {
        // Logs the new mode as well, if there is an ACL.
        let followed = acl::chmod(idmap, &dentry);
        if followed.is_err() && attr.size().is_none() && !attr.sets_owner() {
            // Without its ACL the mode says something else. A new owner or size must not keep the old bits.
            if fs::itable::change_record(inode, |_| inode.set_mode(mode)).is_err() {
                inode.set_mode(mode);
                inode.mark_dirty();
            }
        }
        followed?;
    }
    if inode.is_sync() {
        // Synchronous mounts and files wait for attributes as for names.
        fs::fsync::fsync_metadata(inode, false)?;
    }
    Ok(())
}

/// Reports attributes.
pub(super) fn getattr(idmap: Idmap<'_>, inode: &Inode, mut stat: Stat<'_>, mask: u32) -> Result {
    inode.sb().data().check_readable()?;
    stat.fill(idmap, mask, inode);
    stat.raise_blksize_to_page();
    let ext = inode.data().ext.read();
    if inode.is_reg() {
        let sb = inode.sb().data();
        // Part of a block that must be copied goes through the page cache (C3).
        let copies = ext.may_share() || sb.opts().always_cow;
        stat.set_dio_align(
            inode,
            if copies {
                // CAST: At most a page.
                sb.block_size() as u32
            } else {
                inode.sb().logical_block_size()
            },
        );
        // CAST: A few blocks.
        let (min, max) = (sb.block_size() as u32, sb.atomic_write_max() as u32);
        stat.set_atomic_write(mask, min, max);
    }
    stat.set_btime(ext.btime);
    stat.set_attributes(fileattr::fs_flags(ext.flags));
    // What waits for its place takes space already, as in XFS.
    let staged = ext
        .staging
        .reserved_blocks()
        .saturating_add(ext.staging.claimed_blocks());
    stat.add_sectors(staged.saturating_mul(inode.sb().block_size() / 512));
    Ok(())
}

struct FileInode;

#[vtable]
impl InodeOperations for FileInode {
    type FileSystem = Calf;

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

    fn fiemap(inode: &Inode, info: &FiemapInfo, start: u64, len: u64) -> Result {
        inode.sb().data().check_readable()?;
        let _lock = inode.lock_shared();
        let table = match info.take_xattr() {
            true => REPORT_ATTRS,
            false => REPORT,
        };
        iomap::fiemap(inode, info, start, len, table)
    }
}

struct SpecialInode;

#[vtable]
impl InodeOperations for SpecialInode {
    type FileSystem = Calf;

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

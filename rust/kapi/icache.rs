// SPDX-License-Identifier: GPL-2.0

//! The inode cache: finding, filling and making inodes.
//!
//! An inode that is not complete yet is a value of its own type: [`FreshInode`] is one to be filled
//! from disk, [`NascentInode`] one that does not exist on disk yet. Both are locked (`I_NEW`), and
//! dropping them makes the inode disappear, so that error paths are plain `?`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::dentry::{FullTmpfile, Negative, Tmpfile};
use super::fs::FileSystem;
use super::idmap::Idmap;
use super::inode::{Inode, Times};
use super::super_block::SuperBlock;
use crate::bindings;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use kernel::error::code::{EINVAL, ENOMEM};
use kernel::error::{to_result, Result};
use kernel::sync::aref::ARef;

/// What a lookup in the inode cache gave.
pub enum Found<T: FileSystem> {
    /// In memory and complete.
    Cached(ARef<Inode<T>>),
    /// Not in memory; the caller fills it.
    Fresh(FreshInode<T>),
}

/// Looks inode `ino` up. Errors: `ENOMEM`.
///
/// May wait for another task's eviction of the same inode, hence never under a handle (D2).
pub fn iget<T: FileSystem>(sb: &SuperBlock<T>, ino: u64) -> Result<Found<T>> {
    // SAFETY: The superblock is valid.
    let raw = unsafe { bindings::iget_locked(sb.as_ptr(), ino) };
    let ptr = NonNull::new(raw).ok_or(ENOMEM)?;
    // SAFETY: We own a reference to the inode, which belongs to `T` by its superblock.
    let inode = unsafe { ARef::from_raw(ptr.cast::<Inode<T>>()) };
    // SAFETY: The inode is valid.
    if unsafe { bindings::calf_inode_is_new(raw) } {
        // INVARIANT: New and locked by us.
        Ok(Found::Fresh(FreshInode(ManuallyDrop::new(inode))))
    } else {
        Ok(Found::Cached(inode))
    }
}

/// The VFS's part of an inode.
#[derive(Clone, Copy, Debug)]
pub struct VfsFields {
    /// Type and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Times.
    pub times: Times,
    /// Device number, `new_encode_dev`.
    pub rdev: u32,
    /// Distinguishes users of the same number.
    pub generation: u32,
    /// Change counter, raw.
    pub iversion: u64,
    /// Space, in units of 512 bytes.
    pub sectors: u64,
}

/// An inode in the cache whose content nobody has read yet.
///
/// # Invariants
///
/// `I_NEW` is set, and we are the one to clear it. We own a reference.
pub struct FreshInode<T: FileSystem>(ManuallyDrop<ARef<Inode<T>>>);

impl<T: FileSystem> FreshInode<T> {
    /// The inode. Only its number and its superblock mean anything yet.
    pub fn inode(&self) -> &Inode<T> {
        &self.0
    }

    /// Sets the VFS fields.
    pub fn fill(&self, f: &VfsFields) -> Result {
        fill(&self.0, f)
    }

    /// The inode is complete: lets others use it.
    pub fn publish(self) -> ARef<Inode<T>> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again.
        let inode = unsafe { ManuallyDrop::take(&mut this.0) };
        // SAFETY: New and locked by us.
        unsafe { bindings::unlock_new_inode(inode.as_ptr()) };
        inode
    }
}

impl<T: FileSystem> Drop for FreshInode<T> {
    fn drop(&mut self) {
        // SAFETY: New and locked by us; the call drops our reference.
        unsafe { bindings::iget_failed(self.0.as_ptr()) }
    }
}

fn fill<T: FileSystem>(inode: &Inode<T>, f: &VfsFields) -> Result {
    let p = inode.as_ptr();
    if i64::try_from(f.size).is_err() {
        return Err(EINVAL);
    }
    // SAFETY: The inode is new and locked, so nobody else uses its fields.
    unsafe { (*p).i_mode = f.mode };
    // SAFETY: As above.
    unsafe { (*p).i_generation = f.generation };
    // SAFETY: As above.
    unsafe { bindings::calf_i_uid_write(p, f.uid) };
    // SAFETY: As above.
    unsafe { bindings::calf_i_gid_write(p, f.gid) };
    // SAFETY: As above.
    unsafe { bindings::calf_inode_iversion_set(p, f.iversion) };
    inode.set_nlink(f.nlink);
    inode.set_size(f.size);
    inode.set_times(f.times);
    inode.set_sectors(f.sectors);
    match u32::from(f.mode) & bindings::S_IFMT {
        bindings::S_IFREG | bindings::S_IFDIR | bindings::S_IFLNK => {}
        bindings::S_IFCHR | bindings::S_IFBLK | bindings::S_IFIFO | bindings::S_IFSOCK => {
            // SAFETY: The inode is new and locked.
            unsafe { bindings::calf_init_special_inode(p, f.mode, f.rdev) }
        }
        _ => return Err(EINVAL),
    }
    Ok(())
}

/// An inode in the making: in the cache under its number, but with no record on disk.
///
/// # Invariants
///
/// `I_NEW` and `I_CREATING` are set, and we are the one to clear them. We own a reference.
pub struct NascentInode<T: FileSystem>(ManuallyDrop<ARef<Inode<T>>>);

impl<T: FileSystem> NascentInode<T> {
    /// Makes an inode with number `ino`, owned as `inode_init_owner` decides from `dir`, with one
    /// link and all times now. `rdev` is the kernel's `dev_t`. Errors: `ENOMEM`, `EBUSY` when the number is in use.
    pub fn new(
        dir: &Inode<T>,
        idmap: Idmap<'_>,
        ino: u64,
        generation: u32,
        mode: u16,
        rdev: u32,
    ) -> Result<Self> {
        let sb = dir.sb();
        // SAFETY: The superblock is valid.
        let raw = unsafe { bindings::new_inode(sb.as_ptr()) };
        let ptr = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: We own the reference to a new inode of `T`.
        let inode = unsafe { ARef::from_raw(ptr.cast::<Inode<T>>()) };
        // SAFETY: Nobody else sees the inode yet.
        unsafe { (*raw).i_ino = ino };
        // SAFETY: All pointers are valid.
        unsafe { bindings::inode_init_owner(idmap.as_ptr(), raw, dir.as_ptr(), mode) };
        let now = inode.now();
        // SAFETY: Nobody else sees the inode yet.
        let mode = unsafe { (*raw).i_mode };
        fill(
            &inode,
            &VfsFields {
                mode,
                uid: inode.uid(),
                gid: inode.gid(),
                nlink: 1,
                size: 0,
                times: Times {
                    atime: now,
                    mtime: now,
                    ctime: now,
                },
                // SAFETY: Pure arithmetic.
                rdev: unsafe { bindings::calf_new_encode_dev(rdev) },
                generation,
                iversion: 1,
                sectors: 0,
            },
        )?;
        // SAFETY: A new inode that is in no hash list.
        to_result(unsafe { bindings::insert_inode_locked(raw) })?;
        // INVARIANT: Inserted as new, locked by us.
        Ok(Self(ManuallyDrop::new(inode)))
    }

    /// The inode. Nobody else uses it yet.
    pub fn inode(&self) -> &Inode<T> {
        &self.0
    }

    /// The inode exists now, under the name of `dentry`; lets others use it.
    pub fn instantiate(self, dentry: Negative<'_, T>) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again.
        let inode = unsafe { ManuallyDrop::take(&mut this.0) };
        // SAFETY: New and locked by us, and complete.
        unsafe { dentry.instantiate_new(inode) };
    }

    /// The inode exists now and has no name: it is that of `file`.
    pub fn instantiate_tmpfile<'a>(self, file: Tmpfile<'a, T>) -> FullTmpfile<'a> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again.
        let inode = unsafe { ManuallyDrop::take(&mut this.0) };
        // SAFETY: New and locked by us, and complete; made with one link.
        unsafe { file.instantiate_new(inode) }
    }

    /// The inode exists now, under a name that has no dentry yet; lets others use it.
    pub fn publish(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again.
        let inode = unsafe { ManuallyDrop::take(&mut this.0) };
        // SAFETY: New and locked by us, and complete.
        unsafe { bindings::unlock_new_inode(inode.as_ptr()) };
    }
}

impl<T: FileSystem> Drop for NascentInode<T> {
    fn drop(&mut self) {
        let raw = self.0.as_ptr();
        // A bad inode leaves the hash, so the number is free again, and its eviction does nothing
        // on disk.
        // SAFETY: The inode is new and locked by us.
        unsafe { bindings::make_bad_inode(raw) };
        // SAFETY: As above; the call drops our reference.
        unsafe { bindings::discard_new_inode(raw) };
    }
}

/// A number that is not to be guessed, for inode generations.
pub fn random_u32() -> u32 {
    // SAFETY: Callable from any context.
    unsafe { bindings::get_random_u32() }
}

impl<T: FileSystem> Inode<T> {
    /// Is this an inode whose reading or making failed?
    pub fn is_bad(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::is_bad_inode(self.as_ptr()) }
    }

    /// Drops the page cache of an inode that is being evicted; waits for writeback of each page.
    pub fn drop_page_cache(&self) {
        // SAFETY: The mapping is valid; eviction excludes new users.
        unsafe { bindings::truncate_inode_pages_final(&raw mut (*self.as_ptr()).i_data) }
    }
}

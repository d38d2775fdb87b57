// SPDX-License-Identifier: GPL-2.0

//! The operations of a mounted filesystem: `struct super_operations`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::fs::FileSystem;
use super::inode::{Inode, InodeBox};
use super::registration::InodeCacheSlot;
use super::statfs::{StatFs, StatFsValues};
use super::super_block::SuperBlock;
use crate::bindings;
use core::marker::PhantomData;
use core::ptr;
use kernel::error::{from_result, Result};
use kernel::prelude::*;
use kernel::seq_file::SeqFile;

/// What the VFS asks of a mounted filesystem.
///
/// `alloc_inode` and `free_inode` are provided by this module. `dirty_inode` is left out on
/// purpose: marking is all that happens then, and the VFS does it alone.
pub trait SuperOps: FileSystem {
    /// The slab that [`super::registration::Registration`] fills for this filesystem.
    fn inode_cache() -> &'static InodeCacheSlot;

    /// Writes the inode's record. With `wait`, it must be durable on return.
    ///
    /// Called without locks of the inode but with `I_SYNC` set, from writeback and sync.
    fn write_inode(inode: &Inode<Self>, wait: bool) -> Result;

    /// The last reference went away: drops the page cache and, for an unlinked inode, everything
    /// it owns. The trampoline calls `clear_inode` afterwards.
    fn evict_inode(inode: &Inode<Self>);

    /// Last call before the superblock's data is dropped: stops workers, writes what is left.
    /// No inode exists any more.
    fn put_super(sb: &SuperBlock<Self>);

    /// With `wait`, commits everything and waits for it; without, may do nothing: a call with `wait` follows.
    fn sync_fs(sb: &SuperBlock<Self>, wait: bool) -> Result;

    /// All writers are stopped and the data is synced: bring the device to a clean state.
    fn freeze_fs(sb: &SuperBlock<Self>) -> Result;

    /// Numbers for `statfs(2)`.
    fn statfs(sb: &SuperBlock<Self>) -> Result<StatFsValues>;

    /// Mount options for `/proc/self/mountinfo`, each as `,name[=value]`.
    fn show_options(sb: &SuperBlock<Self>, m: &SeqFile) -> Result;

    /// The device is gone: no more I/O is possible.
    fn shutdown(sb: &SuperBlock<Self>);
}

/// The C table of a [`SuperOps`].
pub(super) struct SuperOpsTable<T: SuperOps>(PhantomData<T>);

impl<T: SuperOps> SuperOpsTable<T> {
    /// # Safety
    ///
    /// C calls this with a valid superblock of filesystem `T`.
    unsafe extern "C" fn alloc_inode(sb: *mut bindings::super_block) -> *mut bindings::inode {
        let cache = T::inode_cache().get();
        // SAFETY: The superblock keeps the filesystem type registered, hence the cache alive.
        let slot = unsafe { bindings::calf_inode_cache_alloc(sb, cache) }.cast::<InodeBox<T>>();
        if slot.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: `slot` is an object of the cache, valid for writes behind its VFS inode, which
        // the slab's constructor initialised.
        let data = unsafe { ptr::addr_of_mut!((*slot).data) }.cast::<T::InodeData>();
        // SAFETY: `data` is valid for writes, pinned in the slab, and dropped by `free_inode`; on
        // error nothing needs dropping.
        if unsafe { pin_init::raw_try_init(data, T::init_inode_data()) }.is_err() {
            // SAFETY: Allocated from this cache above and not published.
            unsafe { bindings::kmem_cache_free(cache, slot.cast()) };
            return ptr::null_mut();
        }
        slot.cast()
    }

    /// # Safety
    ///
    /// C calls this once for an inode that `alloc_inode` returned, after a grace period.
    unsafe extern "C" fn free_inode(inode: *mut bindings::inode) {
        let slot = inode.cast::<InodeBox<T>>();
        // SAFETY: The inode is the first field of an `InodeBox`.
        let data = unsafe { ptr::addr_of_mut!((*slot).data) }.cast::<T::InodeData>();
        // SAFETY: Initialised by `alloc_inode`; nobody can reach the inode any more.
        unsafe { ptr::drop_in_place(data) };
        // SAFETY: Allocated from this cache, which outlives all inodes (`rcu_barrier`).
        unsafe { bindings::kmem_cache_free(T::inode_cache().get(), slot.cast()) };
    }

    /// # Safety
    ///
    /// C calls this with a valid inode of filesystem `T` and a valid `wbc`.
    unsafe extern "C" fn write_inode(
        inode: *mut bindings::inode,
        wbc: *mut bindings::writeback_control,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        // SAFETY: By the safety requirements.
        let wait = unsafe { bindings::calf_wbc_wait_for_inode(wbc) };
        from_result(|| T::write_inode(inode, wait).map(|()| 0))
    }

    /// # Safety
    ///
    /// C calls this with an inode of filesystem `T` that is being freed.
    unsafe extern "C" fn evict_inode(inode: *mut bindings::inode) {
        // SAFETY: By the safety requirements.
        T::evict_inode(unsafe { Inode::<T>::from_raw(inode) });
        // SAFETY: The page cache is empty and no I/O is in flight.
        unsafe { bindings::clear_inode(inode) };
    }

    /// # Safety
    ///
    /// C calls this with a superblock whose inodes are gone.
    unsafe extern "C" fn put_super(sb: *mut bindings::super_block) {
        // SAFETY: `s_root` was set, so `fill_super` had set `s_fs_info` before.
        T::put_super(unsafe { SuperBlock::<T>::from_raw(sb) });
        // SAFETY: Nobody uses the data any more: no inode, no worker, no operation is left.
        unsafe { drop_sb_data::<T>(sb) };
    }

    /// # Safety
    ///
    /// C calls this with a mounted superblock of filesystem `T`.
    unsafe extern "C" fn sync_fs(sb: *mut bindings::super_block, wait: c_int) -> c_int {
        // SAFETY: By the safety requirements.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        from_result(|| T::sync_fs(sb, wait != 0).map(|()| 0))
    }

    /// # Safety
    ///
    /// C calls this with a mounted superblock of filesystem `T`.
    unsafe extern "C" fn freeze_fs(sb: *mut bindings::super_block) -> c_int {
        // SAFETY: By the safety requirements.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        from_result(|| T::freeze_fs(sb).map(|()| 0))
    }

    /// # Safety
    ///
    /// C calls this with a dentry of filesystem `T` and a zeroed `kstatfs`.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut bindings::kstatfs,
    ) -> c_int {
        // SAFETY: By the safety requirements; `d_sb` is constant.
        let sb = unsafe { SuperBlock::<T>::from_raw((*dentry).d_sb) };
        from_result(|| {
            let values = T::statfs(sb)?;
            // SAFETY: By the safety requirements.
            unsafe { StatFs::from_raw(buf) }.fill(&values);
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// C calls this with a valid seq_file and the root dentry of a mount of filesystem `T`.
    unsafe extern "C" fn show_options(
        m: *mut bindings::seq_file,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: By the safety requirements; `d_sb` is constant.
        let sb = unsafe { SuperBlock::<T>::from_raw((*dentry).d_sb) };
        // SAFETY: By the safety requirements; this task alone uses `m` now.
        let m = unsafe { SeqFile::from_raw(m) };
        from_result(|| T::show_options(sb, m).map(|()| 0))
    }

    /// # Safety
    ///
    /// C calls this with a mounted superblock of filesystem `T`.
    unsafe extern "C" fn shutdown(sb: *mut bindings::super_block) {
        // SAFETY: By the safety requirements.
        T::shutdown(unsafe { SuperBlock::<T>::from_raw(sb) });
    }

    const TABLE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(Self::alloc_inode),
        free_inode: Some(Self::free_inode),
        write_inode: Some(Self::write_inode),
        evict_inode: Some(Self::evict_inode),
        put_super: Some(Self::put_super),
        sync_fs: Some(Self::sync_fs),
        freeze_fs: Some(Self::freeze_fs),
        statfs: Some(Self::statfs_cast),
        show_options: Some(Self::show_options),
        shutdown: Some(Self::shutdown),
        ..pin_init::zeroed()
    };

    /// [`Self::statfs`] with the opaque `kstatfs` of the kernel crate's bindings.
    ///
    /// # Safety
    ///
    /// As [`Self::statfs`].
    unsafe extern "C" fn statfs_cast(
        dentry: *mut bindings::dentry,
        buf: *mut kernel::bindings::kstatfs,
    ) -> c_int {
        // SAFETY: The same C type, by the same requirements.
        unsafe { Self::statfs(dentry, buf.cast()) }
    }

    /// The table to put in `s_op`.
    pub(super) const fn build() -> &'static bindings::super_operations {
        &Self::TABLE
    }
}

/// Takes the filesystem's data off the superblock and drops it, and with it the journal; then forgets what the device's
/// page cache holds. A transaction that was not committed has left its blocks there, changed and not
/// dirty: if somebody keeps the device open, the next mount would take them for what is on the device.
///
/// # Safety
///
/// `s_fs_info` is null or holds the data that `fill_super` installed, and nobody uses it or will
/// use it. `s_bdev` is set.
pub(super) unsafe fn drop_sb_data<T: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: The superblock is valid.
    let data = unsafe { (*sb).s_fs_info }.cast::<T::SbData>();
    if !data.is_null() {
        // SAFETY: The superblock is valid, and nobody looks at the field any more.
        unsafe { (*sb).s_fs_info = ptr::null_mut() };
        // SAFETY: The pointer came from `KBox::into_raw` of a pinned box, which stays pinned until it
        // is dropped here.
        drop(unsafe { Pin::new_unchecked(KBox::from_raw(data)) });
    }
    // SAFETY: The superblock is valid.
    let bdev = unsafe { (*sb).s_bdev };
    // What is dirty stays. An error has been counted by the device; umount has nobody to tell.
    // SAFETY: The superblock holds its device.
    let _ = unsafe { bindings::sync_blockdev(bdev) };
    // SAFETY: As above.
    unsafe { bindings::invalidate_bdev(bdev) };
}

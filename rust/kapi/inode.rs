// SPDX-License-Identifier: GPL-2.0

//! Inodes.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::fs::FileSystem;
use super::idmap::Idmap;
use super::super_block::SuperBlock;
#[cfg(calf_lab)]
use super::watch::{Lock, Watch as _};
use crate::bindings;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::error::code::EFBIG;
use kernel::error::{to_result, Result};
use kernel::ffi::c_int;
use kernel::sync::aref::{ARef, AlwaysRefCounted};
use kernel::types::{NotThreadSafe, Opaque};

/// What the inode slab of filesystem `T` holds: the VFS inode, then the filesystem's data.
#[repr(C)]
pub struct InodeBox<T: FileSystem> {
    /// First, so that a `*mut inode` is a `*mut InodeBox`.
    pub(super) vfs: Opaque<bindings::inode>,
    /// Initialised by `alloc_inode`, dropped by `free_inode`.
    pub(super) data: MaybeUninit<T::InodeData>,
}

/// A `struct inode` of filesystem `T`.
///
/// # Invariants
///
/// It is the first field of an [`InodeBox<T>`] whose `data` is initialised.
#[repr(transparent)]
pub struct Inode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

// SAFETY: All methods that take `&self` may be called from any task.
unsafe impl<T: FileSystem> Send for Inode<T> {}
// SAFETY: See above.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

// SAFETY: `i_count` is the reference count of an inode.
unsafe impl<T: FileSystem> AlwaysRefCounted for Inode<T> {
    fn inc_ref(&self) {
        // SAFETY: A shared reference means that the count is not zero.
        unsafe { bindings::ihold(self.as_ptr()) }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference it owns.
        unsafe { bindings::iput(obj.as_ptr().cast()) }
    }
}

/// Times of an inode in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Last access.
    pub atime: i64,
    /// Last change of content.
    pub mtime: i64,
    /// Last change of the inode.
    pub ctime: i64,
}

impl<T: FileSystem> Inode<T> {
    /// Wraps a raw inode.
    ///
    /// # Safety
    ///
    /// `ptr` is an inode of filesystem `T` and stays valid for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: Transparent wrapper, valid by the safety requirements.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// The filesystem's data of this inode.
    pub fn data(&self) -> &T::InodeData {
        let this = self.as_ptr().cast::<InodeBox<T>>();
        // SAFETY: By the type invariant the inode starts an `InodeBox` with initialised data.
        unsafe { (*this).data.assume_init_ref() }
    }

    /// A counted reference (`ihold`).
    pub fn get(&self) -> ARef<Self> {
        self.into()
    }

    /// The superblock.
    pub fn sb(&self) -> &SuperBlock<T> {
        // SAFETY: `i_sb` is constant, and inodes do not outlive their superblock's data.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// Inode number.
    pub fn ino(&self) -> u64 {
        // SAFETY: Constant once the inode is visible.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// `i_size`, bytes. Needs no lock.
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_i_size_read(self.as_ptr()) as u64 }
    }

    /// Sets `i_size`. The caller holds `i_rwsem` or what else serialises size changes.
    pub fn set_size(&self, size: u64) {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_i_size_write(self.as_ptr(), size as i64) }
    }

    /// `i_mode`: type and permission bits.
    pub fn mode(&self) -> u16 {
        // SAFETY: Valid and aligned; a volatile read, as `READ_ONCE`, may race with a writer.
        unsafe { (&raw const (*self.as_ptr()).i_mode).read_volatile() }
    }

    fn is_type(&self, t: u32) -> bool {
        u32::from(self.mode()) & bindings::S_IFMT == t
    }

    /// Directory?
    pub fn is_dir(&self) -> bool {
        self.is_type(bindings::S_IFDIR)
    }

    /// Regular file?
    pub fn is_reg(&self) -> bool {
        self.is_type(bindings::S_IFREG)
    }

    /// Symbolic link?
    pub fn is_lnk(&self) -> bool {
        self.is_type(bindings::S_IFLNK)
    }

    /// `i_nlink`.
    pub fn nlink(&self) -> u32 {
        // SAFETY: As in `mode`.
        unsafe { (&raw const (*self.as_ptr()).__bindgen_anon_1.i_nlink).read_volatile() }
    }

    /// `set_nlink`. The caller serialises link count changes.
    pub fn set_nlink(&self, n: u32) {
        // SAFETY: The inode is valid.
        unsafe { bindings::set_nlink(self.as_ptr(), n) }
    }

    /// `inc_nlink`.
    pub fn inc_nlink(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inc_nlink(self.as_ptr()) }
    }

    /// `drop_nlink`.
    pub fn drop_nlink(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::drop_nlink(self.as_ptr()) }
    }

    /// `clear_nlink`.
    pub fn clear_nlink(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::clear_nlink(self.as_ptr()) }
    }

    /// Owner as stored on disk (in the initial user namespace of the superblock).
    pub fn uid(&self) -> u32 {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_i_uid_read(self.as_ptr()) }
    }

    /// Group as stored on disk.
    pub fn gid(&self) -> u32 {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_i_gid_read(self.as_ptr()) }
    }

    /// Device number as stored on disk (`new_encode_dev`).
    pub fn rdev(&self) -> u32 {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_new_encode_dev((*self.as_ptr()).i_rdev) }
    }

    /// All times.
    pub fn times(&self) -> Times {
        let p = self.as_ptr();
        Times {
            // SAFETY: The inode is valid.
            atime: unsafe { bindings::calf_inode_atime_ns(p) },
            // SAFETY: The inode is valid.
            mtime: unsafe { bindings::calf_inode_mtime_ns(p) },
            // SAFETY: The inode is valid.
            ctime: unsafe { bindings::calf_inode_ctime_ns(p) },
        }
    }

    /// Sets all times.
    pub fn set_times(&self, t: Times) {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_set_times_ns(self.as_ptr(), t.atime, t.mtime, t.ctime) }
    }

    /// Now, at the granularity of the filesystem.
    pub fn now(&self) -> i64 {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_now_ns(self.as_ptr()) }
    }

    /// Sets ctime (and mtime if `content`) to now and counts `i_version` up.
    pub fn touch(&self, content: bool) {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_touch(self.as_ptr(), content) }
    }

    /// `i_version`: the number of changes that somebody could have seen.
    pub fn iversion(&self) -> u64 {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_iversion_peek(self.as_ptr()) }
    }

    /// `i_generation`.
    pub fn generation(&self) -> u32 {
        // SAFETY: Constant once the inode is visible.
        unsafe { (*self.as_ptr()).i_generation }
    }

    /// `mark_inode_dirty`: the record is logged later by `write_inode` or `fsync` (D3).
    pub fn mark_dirty(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_mark_inode_dirty(self.as_ptr()) }
    }

    /// Publishes the number of blocks as `i_blocks` (512-byte sectors).
    pub fn set_sectors(&self, sectors: u64) {
        // SAFETY: The inode is valid; `i_blocks` is only reported.
        unsafe { bindings::calf_set_i_blocks(self.as_ptr(), sectors) }
    }

    /// Synchronous inode or mount (`IS_SYNC`)?
    pub fn is_sync(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_is_sync(self.as_ptr()) }
    }

    /// Synchronous directory or mount (`IS_DIRSYNC`)?
    pub fn is_dirsync(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_is_dirsync(self.as_ptr()) }
    }

    /// Sets `S_*` of `i_flags` within `mask`. The caller serialises changes.
    pub fn set_flags(&self, flags: u32, mask: u32) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_flags(self.as_ptr(), flags, mask) }
    }

    /// Must the inode lose its set-id bits when a caller through `idmap` changes whose it is?
    pub fn must_drop_setid(&self, idmap: Idmap<'_>) -> bool {
        // CAST: A capability is a small number.
        let cap = bindings::CAP_FSETID as c_int;
        u32::from(self.mode()) & (bindings::S_ISUID | bindings::S_ISGID) != 0
            // SAFETY: Both are valid.
            && !unsafe { bindings::capable_wrt_inode_uidgid(idmap.as_ptr(), self.as_ptr(), cap) }
    }

    /// Takes the set-id bits away. The caller holds `i_rwsem` exclusively.
    pub fn drop_setid(&self) {
        // CAST: The bits of a mode.
        let mode = self.mode() & !((bindings::S_ISUID | bindings::S_ISGID) as u16);
        // SAFETY: The inode is valid, the caller excludes other writers.
        unsafe { (*self.as_ptr()).i_mode = mode }
    }

    /// `i_mapping`.
    pub fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: Constant for inodes of a disk filesystem.
        unsafe { (*self.as_ptr()).i_mapping }
    }

    /// Takes `i_rwsem` exclusively.
    pub fn lock(&self) -> InodeLock<'_, T> {
        #[cfg(calf_lab)]
        T::Watch::locking(self, Lock::Inode);
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_lock(self.as_ptr()) };
        InodeLock(self, NotThreadSafe)
    }

    /// Takes `i_rwsem` exclusively unless that would wait.
    pub fn try_lock(&self) -> Option<InodeLock<'_, T>> {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_trylock(self.as_ptr()) }
            .then(|| InodeLock(self, NotThreadSafe))
    }

    /// Takes `i_rwsem` shared.
    pub fn lock_shared(&self) -> InodeLockShared<'_, T> {
        #[cfg(calf_lab)]
        T::Watch::locking(self, Lock::Inode);
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_lock_shared(self.as_ptr()) };
        InodeLockShared(self, NotThreadSafe)
    }

    /// Takes `i_rwsem` shared unless that would wait.
    pub fn try_lock_shared(&self) -> Option<InodeLockShared<'_, T>> {
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_inode_trylock_shared(self.as_ptr()) }
            .then(|| InodeLockShared(self, NotThreadSafe))
    }

    /// Takes the mapping's `invalidate_lock` exclusively: no fault, no readahead meanwhile.
    pub fn invalidate_lock(&self) -> InvalidateLock<'_, T> {
        #[cfg(calf_lab)]
        T::Watch::locking(self, Lock::Invalidate);
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_invalidate_lock(self.as_ptr()) };
        InvalidateLock(self, NotThreadSafe)
    }

    /// Takes the mapping's `invalidate_lock` exclusively unless that would wait.
    #[cfg(calf_lab)]
    pub fn try_invalidate_lock(&self) -> Option<InvalidateLock<'_, T>> {
        #[cfg(calf_lab)]
        T::Watch::locking(self, Lock::Invalidate);
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_invalidate_trylock(self.as_ptr()) }
            .then(|| InvalidateLock(self, NotThreadSafe))
    }

    /// Takes the mapping's `invalidate_lock` shared.
    pub fn invalidate_lock_shared(&self) -> InvalidateLockShared<'_, T> {
        #[cfg(calf_lab)]
        T::Watch::locking(self, Lock::Invalidate);
        // SAFETY: The inode is valid.
        unsafe { bindings::calf_invalidate_lock_shared(self.as_ptr()) };
        InvalidateLockShared(self, NotThreadSafe)
    }

    /// May the file grow to `size` (`RLIMIT_FSIZE`, `s_maxbytes`)? Errors: `EFBIG`, `ETXTBSY`.
    pub fn newsize_ok(&self, size: u64) -> Result {
        let size = i64::try_from(size).map_err(|_| EFBIG)?;
        // SAFETY: The inode is valid.
        to_result(unsafe { bindings::inode_newsize_ok(self.as_ptr(), size) })
    }

    /// Waits for all direct I/O on the inode. The caller holds `i_rwsem` exclusively.
    pub fn dio_wait(&self) {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_dio_wait(self.as_ptr()) }
    }

    /// Is no direct I/O under way? No more begins while the caller holds `i_rwsem` exclusively.
    pub fn is_dio_finished(&self) -> bool {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_dio_finished(self.as_ptr()) }
    }
}

macro_rules! inode_guard {
    ($(#[$doc:meta])* $name:ident, $unlock:ident) => {
        $(#[$doc])*
        pub struct $name<'a, T: FileSystem>(&'a Inode<T>, NotThreadSafe);

        impl<T: FileSystem> $name<'_, T> {
            /// The inode that is locked.
            // Not every kind of guard is asked.
            #[allow(dead_code)]
            pub fn inode(&self) -> &Inode<T> {
                self.0
            }
        }

        impl<T: FileSystem> Drop for $name<'_, T> {
            fn drop(&mut self) {
                // SAFETY: The guard holds the lock.
                unsafe { bindings::$unlock(self.0.as_ptr()) }
            }
        }
    };
}

inode_guard!(
    /// `i_rwsem`, held exclusively.
    InodeLock,
    calf_inode_unlock
);
inode_guard!(
    /// `i_rwsem`, held shared.
    InodeLockShared,
    calf_inode_unlock_shared
);
inode_guard!(
    /// `invalidate_lock`, held exclusively.
    InvalidateLock,
    calf_invalidate_unlock
);
inode_guard!(
    /// `invalidate_lock`, held shared.
    InvalidateLockShared,
    calf_invalidate_unlock_shared
);

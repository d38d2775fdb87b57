// SPDX-License-Identifier: GPL-2.0

//! Buffer heads: metadata blocks in the page cache of the block device.
//!
//! C header: [`include/linux/buffer_head.h`](srctree/include/linux/buffer_head.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::error::code::EIO;
use kernel::error::Result;

/// A counted reference to a `struct buffer_head` that is mapped to a block.
///
/// # Invariants
///
/// `ptr` is valid, mapped, has `b_data` of `b_size` bytes, and we own one reference.
pub struct BufferHead {
    ptr: NonNull<bindings::buffer_head>,
}

// SAFETY: Buffer heads may be used and released by any task.
unsafe impl Send for BufferHead {}
// SAFETY: Shared use is serialised by the locks named at each method.
unsafe impl Sync for BufferHead {}

impl BufferHead {
    /// Takes over a reference returned by C.
    ///
    /// # Safety
    ///
    /// `ptr` is NULL or a mapped buffer of which the caller owns a reference and gives it up.
    unsafe fn from_raw(ptr: *mut bindings::buffer_head) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        NonNull::new(ptr).map(|ptr| Self { ptr })
    }

    /// Reads block `block` of `size` bytes, from the cache if it is there.
    ///
    /// A buffer whose write to its home failed counts as uptodate (C11). Errors: `EIO`. May sleep.
    ///
    /// # Safety
    ///
    /// `bdev` is an open block device with block size `size`.
    pub unsafe fn read(bdev: *mut bindings::block_device, block: u64, size: u32) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let bh = unsafe { bindings::calf_bread(bdev, block, size) };
        // SAFETY: The call returned a reference or NULL.
        unsafe { Self::from_raw(bh) }.ok_or(EIO)
    }

    /// The buffer of `block` if it is in memory and uptodate; does not sleep for I/O.
    ///
    /// # Safety
    ///
    /// As for [`BufferHead::read`].
    pub unsafe fn find(bdev: *mut bindings::block_device, block: u64, size: u32) -> Option<Self> {
        // SAFETY: By the safety requirements.
        let bh = unsafe { bindings::calf_find_buffer(bdev, block, size) };
        // SAFETY: The call returned a reference or NULL.
        let bh = unsafe { Self::from_raw(bh) }?;
        bh.is_uptodate().then_some(bh)
    }

    /// The buffer of `block` if it is in memory, uptodate, and [`BufferHead::set_verified`] was called on
    /// it; does not sleep for I/O.
    ///
    /// # Safety
    ///
    /// As for [`BufferHead::read`].
    pub unsafe fn find_verified(
        bdev: *mut bindings::block_device,
        block: u64,
        size: u32,
    ) -> Option<Self> {
        // SAFETY: By the safety requirements.
        let bh = unsafe { bindings::calf_find_verified(bdev, block, size) };
        // SAFETY: The call returned a reference or NULL.
        unsafe { Self::from_raw(bh) }
    }

    /// The buffer of `block`, not read: for a block that is about to be written whole.
    ///
    /// # Safety
    ///
    /// As for [`BufferHead::read`].
    pub unsafe fn get(bdev: *mut bindings::block_device, block: u64, size: u32) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let bh = unsafe { bindings::calf_getblk(bdev, block, size) };
        // SAFETY: The call returned a reference or NULL.
        unsafe { Self::from_raw(bh) }.ok_or(EIO)
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::buffer_head {
        self.ptr.as_ptr()
    }

    /// Gives the reference to C, which will drop it.
    pub fn into_raw(self) -> *mut bindings::buffer_head {
        let ptr = self.as_ptr();
        core::mem::forget(self);
        ptr
    }

    /// Block number.
    pub fn block(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { (*self.as_ptr()).b_blocknr }
    }

    /// Content uptodate?
    pub fn is_uptodate(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_buffer_uptodate(self.as_ptr()) }
    }

    /// Has the content passed its verifier since it entered memory (C11)?
    pub fn is_verified(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_buffer_verified(self.as_ptr()) }
    }

    /// Notes that the content passed its verifier.
    pub fn set_verified(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_set_buffer_verified(self.as_ptr()) }
    }

    /// Forgets that the content passed its verifier.
    pub fn clear_verified(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_clear_buffer_verified(self.as_ptr()) }
    }

    /// The content. The caller holds the lock that excludes writers of this block.
    pub fn data(&self) -> &[u8] {
        // SAFETY: By the type invariant.
        let (data, size) = unsafe { ((*self.as_ptr()).b_data, (*self.as_ptr()).b_size) };
        // SAFETY: `b_data` has `b_size` bytes and stays mapped while we own a reference; the
        // caller excludes writers.
        unsafe { core::slice::from_raw_parts(data.cast(), size) }
    }

    /// Calls `f` with the content to change.
    ///
    /// The caller has journal write access to the buffer, or there is no transaction, and excludes
    /// all other users of this block's bytes.
    pub(super) fn with_data_mut<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        // SAFETY: By the type invariant.
        let (data, size) = unsafe { ((*self.as_ptr()).b_data, (*self.as_ptr()).b_size) };
        // SAFETY: As for `data`, and the caller excludes all other users.
        f(unsafe { core::slice::from_raw_parts_mut(data.cast(), size) })
    }

    /// Changes the content past the journal; it goes home with the next [`super::block_dev::BlockDev::sync`].
    ///
    /// The journal has no transaction left to commit, and no handle starts before the change is done.
    pub fn update_home<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        // Locked, so that it does not go home half changed.
        let r = self.locked(|| self.with_data_mut(f));
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_mark_buffer_dirty(self.as_ptr()) };
        r
    }

    /// Runs `f` with the buffer locked (`lock_buffer`).
    pub(super) fn locked<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariant; may sleep.
        unsafe { bindings::calf_lock_buffer(self.as_ptr()) };
        let r = f();
        // SAFETY: Locked above.
        unsafe { bindings::calf_unlock_buffer(self.as_ptr()) };
        r
    }

    /// Marks the content uptodate.
    pub(super) fn set_uptodate(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_set_buffer_uptodate(self.as_ptr()) }
    }
}

impl Clone for BufferHead {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_get_bh(self.as_ptr()) };
        // INVARIANT: A reference was taken above.
        Self { ptr: self.ptr }
    }
}

impl Drop for BufferHead {
    fn drop(&mut self) {
        // SAFETY: We own a reference.
        unsafe { bindings::calf_brelse(self.as_ptr()) }
    }
}

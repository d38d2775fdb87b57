// SPDX-License-Identifier: GPL-2.0

//! The block device below a filesystem.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::buffer_head::BufferHead;
use crate::bindings;
use kernel::error::code::EFBIG;
use kernel::error::{to_result, Result};

/// An open block device whose soft block size has been set.
///
/// # Invariants
///
/// `ptr` is open for as long as the value lives, with block size `size`.
#[derive(Clone, Copy)]
pub struct BlockDev {
    ptr: *mut bindings::block_device,
    size: u32,
}

// SAFETY: A block device may be used by any task.
unsafe impl Send for BlockDev {}
// SAFETY: See above.
unsafe impl Sync for BlockDev {}

impl BlockDev {
    /// Wraps an open device.
    ///
    /// # Safety
    ///
    /// `ptr` stays open with block size `size` as long as the value or a copy of it lives.
    pub unsafe fn from_raw(ptr: *mut bindings::block_device, size: u32) -> Self {
        // INVARIANT: By the safety requirements.
        Self { ptr, size }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::block_device {
        self.ptr
    }

    /// Block size, bytes.
    pub fn block_size(&self) -> u32 {
        self.size
    }

    /// Size of the device in bytes.
    pub fn bytes(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_bdev_nr_bytes(self.ptr) }
    }

    /// Reads a block; see [`BufferHead::read`].
    pub fn read(&self, block: u64) -> Result<BufferHead> {
        // SAFETY: By the type invariant.
        unsafe { BufferHead::read(self.ptr, block, self.size) }
    }

    /// The buffer of a block, not read; see [`BufferHead::get`].
    pub fn get(&self, block: u64) -> Result<BufferHead> {
        // SAFETY: By the type invariant.
        unsafe { BufferHead::get(self.ptr, block, self.size) }
    }

    /// The buffer of a block if it is in memory; see [`BufferHead::find`].
    pub fn find(&self, block: u64) -> Option<BufferHead> {
        // SAFETY: By the type invariant.
        unsafe { BufferHead::find(self.ptr, block, self.size) }
    }

    /// The buffer of a block if it is in memory and verified; see [`BufferHead::find_verified`].
    pub fn find_verified(&self, block: u64) -> Option<BufferHead> {
        // SAFETY: By the type invariant.
        unsafe { BufferHead::find_verified(self.ptr, block, self.size) }
    }

    /// Begins to read what is not in memory of the first 16 of `blocks`, unless the first two are: the
    /// first alone may have been read for its neighbour's sake.
    pub fn read_ahead(&self, blocks: impl Iterator<Item = u64>) {
        let mut some = [0; 16];
        let (mut n, mut there) = (0, 0);
        for (place, block) in some.iter_mut().zip(blocks) {
            there += u32::from(n < 2 && self.find(block).is_some());
            if there == 2 {
                return;
            }
            *place = block;
            n += 1;
        }
        // SAFETY: By the type invariant; `some` has more than `n` blocks.
        unsafe { bindings::calf_read_ahead(self.ptr, some.as_ptr(), n, self.size) };
    }

    /// Can the device write zeros without writing them (`bdev_write_zeroes_unmap_sectors`)?
    pub fn unmaps_zeroes(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_bdev_unmaps_zeroes(self.ptr) }
    }

    /// Fills `n` blocks from `block` on with zeros and waits.
    pub fn zero_out(&self, block: u64, n: u64) -> Result {
        let sectors = u64::from(self.size >> 9);
        let start = block.checked_mul(sectors).ok_or(EFBIG)?;
        let len = n.checked_mul(sectors).ok_or(EFBIG)?;
        // SAFETY: By the type invariant.
        to_result(unsafe {
            bindings::blkdev_issue_zeroout(self.ptr, start, len, bindings::CALF_CONST_GFP_NOFS, 0)
        })
    }

    /// The unit in which the device discards, bytes; none if it cannot.
    pub fn discard_granularity(&self) -> Option<u64> {
        // SAFETY: By the type invariant.
        let bytes = unsafe { bindings::calf_bdev_discard_granularity(self.ptr) };
        (bytes > 0).then_some(u64::from(bytes))
    }

    /// Tells the device that nobody needs the content of `n` blocks from `block` on, and waits.
    pub fn discard(&self, block: u64, n: u64) -> Result {
        let sectors = u64::from(self.size >> 9);
        let start = block.checked_mul(sectors).ok_or(EFBIG)?;
        let len = n.checked_mul(sectors).ok_or(EFBIG)?;
        // SAFETY: By the type invariant.
        to_result(unsafe {
            bindings::blkdev_issue_discard(self.ptr, start, len, bindings::CALF_CONST_GFP_NOFS)
        })
    }

    /// The device number as user space sees it (`new_encode_dev`).
    pub fn encoded_number(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_bdev_encoded_number(self.ptr) }
    }

    /// Writes the metadata that is to go home, and waits; the device may have it in its cache.
    pub fn sync(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { kernel::bindings::sync_blockdev(self.ptr.cast()) })
    }

    /// Flushes the volatile write cache of the device and waits.
    pub fn flush(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::blkdev_issue_flush(self.ptr) })
    }
}

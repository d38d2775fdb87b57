// SPDX-License-Identifier: GPL-2.0

//! The platform seam, kernel side: what shared code (`format`, `algo`) needs from its platform.
//!
//! `tools/calf-core/src/seam.rs` offers the same names to the userspace build.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use kernel::alloc::flags::GFP_KERNEL;
use kernel::alloc::KVVec;

/// Memory is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMem;

impl From<NoMem> for kernel::error::Error {
    fn from(_: NoMem) -> Self {
        kernel::error::code::ENOMEM
    }
}

/// A vector whose growth can fail.
///
/// Memory comes from `kvmalloc(GFP_KERNEL)`; callers that hold an extent lock or a journal handle
/// are inside a NOFS scope (D1), so reclaim never enters the filesystem.
pub struct FVec<T>(ManuallyDrop<KVVec<T>>);

/// Items that a vector has room for, at least, when it grows for the first time.
const FIRST: usize = 4;

impl<T> Drop for FVec<T> {
    fn drop(&mut self) {
        // Most vectors of a transaction stay empty, and to free nothing costs a hundred instructions.
        if self.0.capacity() > 0 {
            // SAFETY: Nobody uses the vector after this.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

// The same methods as on the host, whether the kernel side needs each or not.
#[allow(dead_code)]
impl<T> FVec<T> {
    /// An empty vector without memory.
    pub const fn new() -> Self {
        Self(ManuallyDrop::new(KVVec::new()))
    }

    /// An empty vector with room for `n` items.
    pub fn with_capacity(n: usize) -> Result<Self, NoMem> {
        KVVec::with_capacity(n, GFP_KERNEL)
            .map(|v| Self(ManuallyDrop::new(v)))
            .map_err(|_| NoMem)
    }

    /// Appends an item, growing when needed.
    pub fn push(&mut self, v: T) -> Result<(), NoMem> {
        if self.0.len() == self.0.capacity() {
            self.reserve(1)?;
        }
        self.0.push(v, GFP_KERNEL).map_err(|_| NoMem)
    }

    /// Appends an item without allocating; gives it back when there is no room.
    pub fn push_within_capacity(&mut self, v: T) -> Result<(), T> {
        if self.0.len() == self.0.capacity() {
            return Err(v);
        }
        // NO-FAIL: there is room, so this does not allocate.
        let _ = self.0.push(v, GFP_KERNEL);
        Ok(())
    }

    /// Appends copies of all of `v`, or nothing and says no: without allocating.
    ///
    /// [`KVVec::extend_from_slice`] clones item by item, which for the bytes of a block costs more than
    /// all the rest of an edit.
    pub fn extend_within_capacity(&mut self, v: &[T]) -> bool
    where
        T: Copy,
    {
        let room = self.0.spare_capacity_mut();
        if room.len() < v.len() {
            return false;
        }
        // SAFETY: There is room for all of `v`, which is borrowed and so lies elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(v.as_ptr(), room.as_mut_ptr().cast(), v.len()) };
        // SAFETY: There was room for them, and they are initialised now.
        unsafe { self.0.inc_len(v.len()) };
        true
    }

    /// Appends `n` times `v`, or nothing and says no: without allocating.
    pub fn fill_within_capacity(&mut self, v: T, n: usize) -> bool
    where
        T: Copy,
    {
        let Some(room) = self.0.spare_capacity_mut().get_mut(..n) else {
            return false;
        };
        room.fill(MaybeUninit::new(v));
        // SAFETY: There was room for them, and they are initialised now.
        unsafe { self.0.inc_len(n) };
        true
    }

    /// Makes room for `n` more items; for a few at once, because each growth costs an allocation.
    pub fn reserve(&mut self, n: usize) -> Result<(), NoMem> {
        let n = match self.0.capacity() {
            0 => n.max(FIRST),
            _ => n,
        };
        self.0.reserve(n, GFP_KERNEL).map_err(|_| NoMem)
    }

    /// Items that fit without growing.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Removes and returns the last item.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Inserts `v` before index `i` (at the end when `i` is past it).
    pub fn insert(&mut self, i: usize, v: T) -> Result<(), NoMem> {
        self.push(v)?;
        let len = self.0.len();
        if let Some(tail) = self.0.as_mut_slice().get_mut(i..len) {
            tail.rotate_right(1);
        }
        Ok(())
    }

    /// Removes and returns the item at index `i`.
    pub fn remove(&mut self, i: usize) -> Option<T> {
        let len = self.0.len();
        if i >= len {
            return None;
        }
        self.0.as_mut_slice().get_mut(i..len)?.rotate_left(1);
        self.0.pop()
    }

    /// Drops all items, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear()
    }

    /// Drops the items from index `n` on.
    pub fn truncate(&mut self, n: usize) {
        self.0.truncate(n)
    }
}

impl<T: Clone> FVec<T> {
    /// A vector of `n` copies of `v`.
    pub fn from_elem(v: T, n: usize) -> Result<Self, NoMem> {
        KVVec::from_elem(v, n, GFP_KERNEL)
            .map(|v| Self(ManuallyDrop::new(v)))
            .map_err(|_| NoMem)
    }
}

impl<T> Default for FVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for FVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.0.as_slice()
    }
}

impl<T> DerefMut for FVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut_slice()
    }
}

/// CRC-32C in the kernel's convention: `seed` in, no final inversion.
pub fn crc32c(seed: u32, data: &[u8]) -> u32 {
    // SAFETY: `data` is valid for reads of its length.
    unsafe { crate::bindings::calf_crc32c(seed, data.as_ptr().cast(), data.len()) }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The platform seam, user space side. `rust/seam.rs` offers the same names to the module.

use std::ops::{Deref, DerefMut};

/// Memory is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMem;

/// A vector whose growth can fail.
#[derive(Debug)]
pub struct FVec<T>(Vec<T>);

impl<T> FVec<T> {
    /// An empty vector without memory.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty vector with room for `n` items.
    pub fn with_capacity(n: usize) -> Result<Self, NoMem> {
        let mut vec = Self::new();
        vec.reserve(n)?;
        Ok(vec)
    }

    /// Appends an item, growing when needed.
    pub fn push(&mut self, v: T) -> Result<(), NoMem> {
        self.reserve(1)?;
        self.0.push(v);
        Ok(())
    }

    /// Appends an item without allocating; gives it back when there is no room.
    pub fn push_within_capacity(&mut self, v: T) -> Result<(), T> {
        if self.0.len() == self.0.capacity() {
            return Err(v);
        }
        self.0.push(v);
        Ok(())
    }

    /// Appends copies of all of `v`, or nothing and says no: without allocating.
    pub fn extend_within_capacity(&mut self, v: &[T]) -> bool
    where
        T: Copy,
    {
        let fits = self.0.capacity() - self.0.len() >= v.len();
        if fits {
            self.0.extend_from_slice(v);
        }
        fits
    }

    /// Appends `n` times `v`, or nothing and says no: without allocating.
    pub fn fill_within_capacity(&mut self, v: T, n: usize) -> bool
    where
        T: Copy,
    {
        let fits = self.0.capacity() - self.0.len() >= n;
        if fits {
            self.0.resize(self.0.len() + n, v);
        }
        fits
    }

    /// Makes room for `n` more items.
    pub fn reserve(&mut self, n: usize) -> Result<(), NoMem> {
        self.0.try_reserve(n).map_err(|_| NoMem)
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
        self.reserve(1)?;
        self.0.insert(i.min(self.0.len()), v);
        Ok(())
    }

    /// Removes and returns the item at index `i`.
    pub fn remove(&mut self, i: usize) -> Option<T> {
        (i < self.0.len()).then(|| self.0.remove(i))
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
        let mut vec = Self::with_capacity(n)?;
        vec.0.resize(n, v);
        Ok(vec)
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
        &self.0
    }
}

impl<T> DerefMut for FVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// CRC-32C in the kernel's convention: `seed` in, no final inversion.
pub fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_has_the_kernels_convention() {
        // RFC 3720 B.4: 32 bytes of zeros give 0x8a9136aa, with both inversions.
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), !0xe306_9283);
        assert_eq!(crc32c(0, &[0; 8]), 0);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Memory for direct I/O.

use std::alloc::Layout;
use std::ptr::NonNull;

/// Memory aligned for direct I/O.
pub struct Aligned {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory like a `Box<[u8]>`.
unsafe impl Send for Aligned {}

/// Bytes of a huge page.
pub const HUGE: usize = 2 << 20;

impl Aligned {
    /// `len` zero bytes at an address that is a multiple of 4096, of [`HUGE`] if there is room for a huge page.
    pub fn new(len: usize) -> Aligned {
        let align = if len < HUGE { 4096 } else { HUGE };
        let layout = Layout::from_size_align(len.max(1), align).expect("length fits");
        // SAFETY: the size is not zero.
        let p = unsafe { std::alloc::alloc_zeroed(layout) };
        Aligned {
            base: NonNull::new(p).expect("memory"),
            layout,
        }
    }

    /// A copy of `data`.
    pub fn from(data: &[u8]) -> Aligned {
        let mut a = Aligned::new(data.len());
        a[..data.len()].copy_from_slice(data);
        a
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is initialised, ours, and as long as the layout says.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.layout.size()) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

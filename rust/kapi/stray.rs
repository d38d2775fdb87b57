// SPDX-License-Identifier: GPL-2.0

//! Slices that are wrong on purpose, as a mistake in unsafe code would make them: KASAN must tell of who reads there.
//!
//! C header: [`include/linux/kasan.h`](srctree/include/linux/kasan.h)

use core::hint::black_box;
use kernel::prelude::*;

/// Bytes allocated; the slab's object is larger.
const LEN: usize = 40;

/// Calls `f` with an allocation that is freed already.
pub fn freed(f: impl FnOnce(&[u8])) -> Result {
    let memory = KBox::into_raw(KBox::new([0u8; LEN], GFP_KERNEL)?);
    // SAFETY: `memory` came from `into_raw`.
    drop(unsafe { KBox::from_raw(memory) });
    // SAFETY: None, on purpose: the memory is freed. It is the kernel's to read all the same.
    f(unsafe { core::slice::from_raw_parts(black_box(memory.cast()), LEN) });
    Ok(())
}

/// Calls `f` with a slice that is one byte longer than its allocation.
pub fn too_long(f: impl FnOnce(&[u8])) -> Result {
    let memory = KBox::new([0u8; LEN], GFP_KERNEL)?;
    // SAFETY: None, on purpose: the last byte is the slab's, not the allocation's.
    f(unsafe { core::slice::from_raw_parts(black_box(memory.as_ptr()), LEN + 1) });
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Mount idmappings.
//!
//! C header: [`include/linux/mnt_idmapping.h`](srctree/include/linux/mnt_idmapping.h)

use core::marker::PhantomData;

use crate::bindings;

/// The idmapping of the mount an operation came through.
///
/// # Invariants
///
/// The pointer is valid for `'a`.
#[derive(Clone, Copy)]
pub struct Idmap<'a>(
    *mut bindings::mnt_idmap,
    PhantomData<&'a bindings::mnt_idmap>,
);

impl Idmap<'_> {
    /// Wraps a raw idmapping.
    ///
    /// # Safety
    ///
    /// `ptr` is valid for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::mnt_idmap) -> Idmap<'a> {
        // INVARIANT: By the safety requirements.
        Idmap(ptr, PhantomData)
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::mnt_idmap {
        self.0
    }
}

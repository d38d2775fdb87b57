// SPDX-License-Identifier: GPL-2.0

//! Folios and readahead requests, as the address space operations get them.
//!
//! C header: [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::fs::FileSystem;
use crate::bindings;
use core::marker::PhantomData;
use kernel::types::Opaque;

/// A locked folio in the page cache of an inode of filesystem `F`.
///
/// # Invariants
///
/// Locked, so that its mapping stays the same.
#[repr(transparent)]
pub struct Folio<F: FileSystem>(Opaque<bindings::folio>, PhantomData<F>);

impl<F: FileSystem> Folio<F> {
    /// Wraps a raw folio.
    ///
    /// # Safety
    ///
    /// `ptr` is a folio of an inode of `F` that stays locked for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::folio) -> &'a Self {
        // SAFETY: Transparent wrapper, valid by the safety requirements.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::folio {
        self.0.get()
    }
}

/// A locked folio that is to be read, which ends with its lock: given up to whoever reads it.
#[must_use = "a folio that nobody reads stays locked"]
pub struct FolioToRead<'a, F: FileSystem>(&'a Folio<F>);

impl<F: FileSystem> FolioToRead<'_, F> {
    /// Wraps a raw folio.
    ///
    /// # Safety
    ///
    /// `ptr` is a locked folio of an inode of `F`; the caller gives its lock up.
    pub unsafe fn from_raw(ptr: *mut bindings::folio) -> Self {
        // SAFETY: By the safety requirements: locked while the value lives.
        Self(unsafe { Folio::from_raw(ptr) })
    }

    /// The C object, with its lock.
    pub fn into_raw(self) -> *mut bindings::folio {
        self.0.as_ptr()
    }
}

/// A readahead request for an inode of filesystem `F`.
pub struct Readahead<'a, F: FileSystem> {
    ptr: *mut bindings::readahead_control,
    _p: PhantomData<(&'a mut bindings::readahead_control, F)>,
}

impl<F: FileSystem> Readahead<'_, F> {
    /// Wraps a raw request.
    ///
    /// # Safety
    ///
    /// `ptr` is a request for an inode of `F`, valid while the value lives.
    pub unsafe fn from_raw(ptr: *mut bindings::readahead_control) -> Self {
        Self {
            ptr,
            _p: PhantomData,
        }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::readahead_control {
        self.ptr
    }
}

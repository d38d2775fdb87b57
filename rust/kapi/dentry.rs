// SPDX-License-Identifier: GPL-2.0

//! Directory entries as the name operations of a filesystem see them.
//!
//! A dentry's name and inode change under a filesystem's feet unless the right lock is held. The
//! inode operations are called with that lock held, and each of them is entitled to one thing. The
//! types say what it is:
//!
//! * [`Unhashed`]: `lookup` must [splice](Unhashed::splice_alias) an inode (or none) in;
//! * [`Negative`]: `create` and its kin may [instantiate](Negative::instantiate) it;
//! * [`Positive`]: has an inode, which stays.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h)

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use kernel::error::{from_err_ptr, to_result, Result};
use kernel::sync::aref::{ARef, AlwaysRefCounted};
use kernel::types::Opaque;

use super::fs::FileSystem;
use super::inode::Inode;
use crate::bindings;

/// A `struct dentry` of filesystem `T`.
///
/// # Invariants
///
/// It belongs to a superblock of `T`, hence its inode, if there is one, does; its reference count is not zero.
#[repr(transparent)]
pub struct Dentry<T: FileSystem>(Opaque<bindings::dentry>, PhantomData<T>);

// SAFETY: All methods that take `&self` may be called from any task.
unsafe impl<T: FileSystem> Send for Dentry<T> {}
// SAFETY: See above.
unsafe impl<T: FileSystem> Sync for Dentry<T> {}

// SAFETY: `d_lockref` is the reference count of a dentry.
unsafe impl<T: FileSystem> AlwaysRefCounted for Dentry<T> {
    fn inc_ref(&self) {
        // SAFETY: By the type invariant the count is not zero.
        unsafe { bindings::calf_dget(self.as_ptr()) }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference it owns.
        unsafe { bindings::dput(obj.as_ptr().cast()) }
    }
}

impl<T: FileSystem> Dentry<T> {
    /// Wraps a raw dentry.
    ///
    /// # Safety
    ///
    /// `ptr` is a dentry of filesystem `T` and stays valid for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::dentry) -> &'a Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: Transparent wrapper, valid by the safety requirements.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::dentry {
        self.0.get()
    }
}

/// A dentry whose name cannot change.
///
/// # Invariants
///
/// For `'a` the parent's `i_rwsem` is held (exclusively, or shared in `lookup`), hence `d_name` and
/// `d_parent` are stable.
pub struct Named<'a, T: FileSystem>(&'a Dentry<T>);

impl<'a, T: FileSystem> Named<'a, T> {
    /// Wraps a raw dentry.
    ///
    /// # Safety
    ///
    /// `ptr` is a dentry of filesystem `T`, valid for `'a`, with its name stable for `'a`.
    pub unsafe fn from_raw(ptr: *mut bindings::dentry) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: By the safety requirements.
        Self(unsafe { Dentry::from_raw(ptr) })
    }

    /// The name.
    pub fn name(&self) -> &'a [u8] {
        // SAFETY: By the type invariant nobody writes `d_name`. All variants of both unions are
        // the same plain bytes.
        let (name, len) = unsafe {
            let name = (*self.0.as_ptr()).__bindgen_anon_1.d_name;
            (name.name, name.__bindgen_anon_1.__bindgen_anon_1.len)
        };
        // SAFETY: `name` points to `len` bytes that are stable for `'a` by the type invariant.
        unsafe { core::slice::from_raw_parts(name, len as usize) }
    }

    /// The inode, if the dentry has one.
    pub fn inode(&self) -> Option<&'a Inode<T>> {
        // SAFETY: `d_inode` only changes under the parent's `i_rwsem`, which is held by the type
        // invariant, and a dentry keeps its inode alive.
        let inode = unsafe { (*self.0.as_ptr()).d_inode };
        if inode.is_null() {
            return None;
        }
        // SAFETY: See above; the dentry is of filesystem `T`, hence the inode is.
        Some(unsafe { Inode::from_raw(inode) })
    }
}

impl<T: FileSystem> Deref for Named<'_, T> {
    type Target = Dentry<T>;
    fn deref(&self) -> &Dentry<T> {
        self.0
    }
}

/// The dentry that `lookup` is asked to resolve: without inode, not in the hash.
///
/// # Invariants
///
/// The dentry is negative and unhashed until [`Unhashed::splice_alias`] consumes this value.
pub struct Unhashed<'a, T: FileSystem>(Named<'a, T>);

impl<'a, T: FileSystem> Unhashed<'a, T> {
    /// Wraps the dentry of a lookup.
    ///
    /// # Safety
    ///
    /// As [`Named::from_raw`]; the dentry is negative and unhashed, and the caller leaves it to
    /// this value to change that.
    pub unsafe fn from_raw(ptr: *mut bindings::dentry) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: By the safety requirements.
        Self(unsafe { Named::from_raw(ptr) })
    }

    /// Resolves the dentry to `inode`, or to "no such name".
    ///
    /// Returns the dentry to use instead if the inode is a directory that is in the tree already.
    pub fn splice_alias(self, inode: Option<ARef<Inode<T>>>) -> Result<Option<ARef<Dentry<T>>>> {
        let inode = inode.map_or(ptr::null_mut(), |i| ARef::into_raw(i).as_ptr().cast());
        // SAFETY: The dentry is unhashed by the type invariant; the call consumes the reference to
        // the inode also when it fails.
        let other = from_err_ptr(unsafe { bindings::d_splice_alias(inode, self.0.as_ptr()) })?;
        // SAFETY: A pointer that is not NULL comes with a reference, which we take over.
        Ok(NonNull::new(other).map(|p| unsafe { ARef::from_raw(p.cast()) }))
    }
}

impl<'a, T: FileSystem> Deref for Unhashed<'a, T> {
    type Target = Named<'a, T>;
    fn deref(&self) -> &Named<'a, T> {
        &self.0
    }
}

/// A dentry without inode, in a directory that is locked exclusively.
///
/// # Invariants
///
/// The dentry is negative until this value is consumed.
pub struct Negative<'a, T: FileSystem>(Named<'a, T>);

impl<'a, T: FileSystem> Negative<'a, T> {
    /// Wraps a raw dentry.
    ///
    /// # Safety
    ///
    /// As [`Named::from_raw`]; the dentry is negative, and the parent's `i_rwsem` is held
    /// exclusively.
    pub unsafe fn from_raw(ptr: *mut bindings::dentry) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: By the safety requirements.
        Self(unsafe { Named::from_raw(ptr) })
    }

    /// Gives the dentry an inode that other names may lead to as well (`d_instantiate`).
    pub fn instantiate(self, inode: ARef<Inode<T>>) {
        let inode = ARef::into_raw(inode).as_ptr().cast();
        // SAFETY: The dentry is negative by the type invariant; it takes over the reference.
        unsafe { bindings::d_instantiate(self.0.as_ptr(), inode) }
    }

    /// Gives the dentry a new inode and unlocks that (`d_instantiate_new`).
    ///
    /// # Safety
    ///
    /// The inode is locked by the caller as new (`I_NEW`), and fully set up.
    pub unsafe fn instantiate_new(self, inode: ARef<Inode<T>>) {
        let inode = ARef::into_raw(inode).as_ptr().cast();
        // SAFETY: The dentry is negative by the type invariant, the inode `I_NEW` by the safety
        // requirements; the dentry takes over the reference.
        unsafe { bindings::d_instantiate_new(self.0.as_ptr(), inode) }
    }
}

impl<'a, T: FileSystem> Deref for Negative<'a, T> {
    type Target = Named<'a, T>;
    fn deref(&self) -> &Named<'a, T> {
        &self.0
    }
}

/// A file that `O_TMPFILE` is opening: it has a dentry without a name, and no inode yet.
///
/// # Invariants
///
/// The pointer is valid for `'a`, the dentry of the file is negative.
pub struct Tmpfile<'a, T: FileSystem>(NonNull<bindings::file>, PhantomData<&'a Inode<T>>);

/// A file of `O_TMPFILE` that has its inode.
///
/// # Invariants
///
/// The pointer is valid for `'a`, the dentry of the file is positive, and nobody else uses the file yet.
#[must_use = "the VFS wants to hear of it"]
pub struct FullTmpfile<'a>(NonNull<bindings::file>, PhantomData<&'a ()>);

impl FullTmpfile<'_> {
    /// Opens the file. Errors: what the `open` of the filesystem says.
    pub(super) fn finish_open(self) -> Result {
        // SAFETY: By the type invariant; `self` is used up, so it is done once.
        to_result(unsafe { bindings::calf_finish_open(self.0.as_ptr()) })
    }
}

impl<'a, T: FileSystem> Tmpfile<'a, T> {
    /// Wraps a raw file.
    ///
    /// # Safety
    ///
    /// `ptr` is valid for `'a`, and opened by `O_TMPFILE` on filesystem `T`, without inode.
    pub unsafe fn from_raw(ptr: NonNull<bindings::file>) -> Self {
        // INVARIANT: By the safety requirements.
        Tmpfile(ptr, PhantomData)
    }

    /// The dentry of the file.
    pub fn dentry(&self) -> &Dentry<T> {
        // SAFETY: The file is valid by the type invariant, its dentry lives as long.
        unsafe { Dentry::from_raw(bindings::calf_file_dentry(self.0.as_ptr())) }
    }

    /// Gives the file a new inode, which loses its only link (`d_tmpfile`), and unlocks that.
    ///
    /// # Safety
    ///
    /// As [`Negative::instantiate_new`]; the inode has one link.
    pub unsafe fn instantiate_new(self, inode: ARef<Inode<T>>) -> FullTmpfile<'a> {
        let inode = ARef::into_raw(inode).as_ptr().cast();
        // SAFETY: The dentry is negative by the type invariant; it takes over the reference.
        unsafe { bindings::d_tmpfile(self.0.as_ptr(), inode) };
        // SAFETY: New and locked by the safety requirements; the dentry has a reference.
        unsafe { bindings::unlock_new_inode(inode) };
        // INVARIANT: It has just got its inode, and is still ours.
        FullTmpfile(self.0, PhantomData)
    }
}

/// A dentry with an inode.
///
/// # Invariants
///
/// The dentry is positive; somebody holds a reference to it for `'a`, so it stays positive.
pub struct Positive<'a, T: FileSystem>(&'a Dentry<T>);

impl<'a, T: FileSystem> Positive<'a, T> {
    /// Wraps a raw dentry.
    ///
    /// # Safety
    ///
    /// `ptr` is a positive dentry of filesystem `T`, and a reference to it is held for `'a`.
    pub unsafe fn from_raw(ptr: *mut bindings::dentry) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: By the safety requirements.
        Self(unsafe { Dentry::from_raw(ptr) })
    }

    /// Its inode.
    pub fn inode(&self) -> &'a Inode<T> {
        // SAFETY: Positive by the type invariant, so the pointer is valid and does not change.
        unsafe { Inode::from_raw((*self.0.as_ptr()).d_inode) }
    }
}

impl<T: FileSystem> Deref for Positive<'_, T> {
    type Target = Dentry<T>;
    fn deref(&self) -> &Dentry<T> {
        self.0
    }
}

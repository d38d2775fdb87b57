// SPDX-License-Identifier: GPL-2.0

//! File handles: `name_to_handle_at(2)` and NFS (`struct export_operations`).
//!
//! A handle is number and generation of the inode and, if asked for, of a parent, in the formats
//! `FILEID_INO64_GEN` and `FILEID_INO64_GEN_PARENT`: numbers of 64 bits rule out what the kernel does
//! on its own (B7). The name of a child in its parent is found by reading the directory
//! (the VFS's own `get_name`).
//!
//! C header: [`include/linux/exportfs.h`](srctree/include/linux/exportfs.h)

use super::fs::FileSystem;
use super::inode::Inode;
use super::super_block::SuperBlock;
use crate::bindings;
use core::marker::PhantomData;
use core::ptr;
use kernel::error::{code::ESTALE, from_result, Result};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

/// What a filesystem must know to be exported.
pub trait ExportOps: FileSystem {
    /// The inode of a handle. Errors: `ESTALE` if there is none with this number and generation.
    fn handle_to_inode(
        sb: &SuperBlock<Self>,
        ino: u64,
        generation: u32,
    ) -> Result<ARef<Inode<Self>>>;

    /// The parent of directory `dir`.
    fn get_parent(dir: &Inode<Self>) -> Result<ARef<Inode<Self>>>;

    /// Makes the metadata of an inode durable.
    fn commit_metadata(inode: &Inode<Self>) -> Result;
}

/// One object in a handle: 3 words.
fn to_words<T: FileSystem>(inode: &Inode<T>) -> [u32; 3] {
    // CAST: the number is cut in two.
    [
        inode.ino() as u32,
        (inode.ino() >> 32) as u32,
        inode.generation(),
    ]
}

/// Number and generation of the object at the start of `words`.
fn from_words(words: &[u32]) -> Option<(u64, u32)> {
    match *words {
        [low, high, generation, ..] => Some((u64::from(low) | u64::from(high) << 32, generation)),
        _ => None,
    }
}

const INO: c_int = bindings::fid_type_FILEID_INO64_GEN as c_int;
const INO_PARENT: c_int = bindings::fid_type_FILEID_INO64_GEN_PARENT as c_int;

/// The C table of an [`ExportOps`].
pub(super) struct ExportTable<T: ExportOps>(PhantomData<T>);

impl<T: ExportOps> ExportTable<T> {
    /// # Safety
    ///
    /// C calls this with an inode of `T`, room for `*max_len` words at `fh`, and an inode of `T` or
    /// NULL as parent.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        fh: *mut u32,
        max_len: *mut c_int,
        parent: *mut bindings::inode,
    ) -> c_int {
        let words: usize = if parent.is_null() { 3 } else { 6 };
        // SAFETY: By the safety requirements.
        let room = unsafe { *max_len };
        // SAFETY: By the safety requirements. CAST: 3 or 6.
        unsafe { *max_len = words as c_int };
        if usize::try_from(room).unwrap_or(0) < words {
            // CAST: 255.
            return bindings::fid_type_FILEID_INVALID as c_int;
        }
        // SAFETY: There is room for `words` words.
        let out = unsafe { core::slice::from_raw_parts_mut(fh, words) };
        for (object, to) in [inode, parent].into_iter().zip(out.chunks_exact_mut(3)) {
            // SAFETY: By the safety requirements; there are six words only with a parent.
            let words = to_words(unsafe { Inode::<T>::from_raw(object) });
            for (to, word) in to.iter_mut().zip(words) {
                *to = word;
            }
        }
        if parent.is_null() {
            INO
        } else {
            INO_PARENT
        }
    }

    /// A dentry for what `get` finds.
    fn obtain(get: impl FnOnce() -> Result<ARef<Inode<T>>>) -> *mut bindings::dentry {
        match get() {
            // SAFETY: The call consumes the reference, also when it fails.
            Ok(inode) => unsafe { bindings::d_obtain_alias(ARef::into_raw(inode).as_ptr().cast()) },
            Err(e) => e.to_ptr(),
        }
    }

    /// The object at word `at` of a handle, which must be of a type in `types`.
    ///
    /// # Safety
    ///
    /// `sb` is a mounted superblock of `T`, `fid` has `len` words.
    unsafe fn find(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        good: bool,
        at: usize,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements. A negative length does not come.
        let words = unsafe {
            core::slice::from_raw_parts(fid.cast::<u32>(), usize::try_from(len).unwrap_or(0))
        };
        // SAFETY: By the safety requirements.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        let object = words.get(at..).and_then(from_words).filter(|_| good);
        let Some((ino, generation)) = object else {
            return ptr::null_mut();
        };
        Self::obtain(|| T::handle_to_inode(sb, ino, generation))
    }

    /// # Safety
    ///
    /// C calls this with a mounted superblock of `T` and a handle of `len` words.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        unsafe { Self::find(sb, fid, len, kind == INO || kind == INO_PARENT, 0) }
    }

    /// # Safety
    ///
    /// As [`Self::fh_to_dentry`].
    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        unsafe { Self::find(sb, fid, len, kind == INO_PARENT, 3) }
    }

    /// # Safety
    ///
    /// C calls this with a positive dentry of a directory of `T`.
    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::<T>::from_raw((*child).d_inode) };
        Self::obtain(|| {
            if dir.nlink() == 0 {
                return Err(ESTALE);
            }
            T::get_parent(dir)
        })
    }

    /// # Safety
    ///
    /// C calls this with an inode of `T`.
    unsafe extern "C" fn commit_metadata(inode: *mut bindings::inode) -> c_int {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        from_result(|| T::commit_metadata(inode).map(|()| 0))
    }

    const TABLE: bindings::export_operations = bindings::export_operations {
        encode_fh: Some(Self::encode_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        commit_metadata: Some(Self::commit_metadata),
        ..pin_init::zeroed()
    };

    /// The table to put in `s_export_op`.
    pub(super) const fn build() -> &'static bindings::export_operations {
        &Self::TABLE
    }
}

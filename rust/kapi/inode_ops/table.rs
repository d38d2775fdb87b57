// SPDX-License-Identifier: GPL-2.0

//! The C table, whose functions call an implementation of [`InodeOperations`].
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use kernel::error::{code::ECHILD, from_result};
use kernel::ffi::{c_char, c_int, c_uint};
use kernel::str::{CStr, CStrExt as _};
use kernel::sync::aref::ARef;

use super::fiemap::FiemapInfo;
use super::operations::InodeOperations;
use crate::bindings;
use crate::kapi::attr::{Attr, Stat};
use crate::kapi::dentry::{Named, Negative, Positive, Tmpfile, Unhashed};
use crate::kapi::fileattr::FileAttr;
use crate::kapi::fs::FileSystem;
use crate::kapi::idmap::Idmap;
use crate::kapi::inode::Inode;
use crate::kapi::xattr::XattrTable;

/// A table of inode operations of filesystem `T`.
pub struct InodeOps<T: FileSystem>(&'static bindings::inode_operations, PhantomData<T>);

impl<T: FileSystem> InodeOps<T> {
    /// The table that calls `O`.
    pub const fn new<O: InodeOperations<FileSystem = T>>() -> Self {
        Self(InodeOpsVTable::<O>::build(), PhantomData)
    }

    /// Installs the table in an inode that is being set up.
    pub fn install(&self, inode: &Inode<T>) {
        // SAFETY: The inode is not visible yet; the table is static.
        unsafe { (*inode.as_ptr()).i_op = self.0 };
    }
}

/// The C side of [`InodeOperations`].
struct InodeOpsVTable<O: InodeOperations>(PhantomData<O>);

/// For all functions of the table, the VFS is the caller. It passes inodes, dentries and idmappings
/// of filesystem `O::FileSystem` that stay valid during the call, with the locks held that
/// [`InodeOperations`] names.
impl<O: InodeOperations> InodeOpsVTable<O> {
    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is negative and unhashed.
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        flags: c_uint,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Unhashed::from_raw(dentry) };
        match O::lookup(dir, dentry, flags) {
            Ok(other) => other.map_or(ptr::null_mut(), |d| ARef::into_raw(d).as_ptr().cast()),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is NULL in RCU mode.
    unsafe extern "C" fn get_link(
        dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        done: *mut bindings::delayed_call,
    ) -> *const c_char {
        if dentry.is_null() {
            // In RCU mode nothing may sleep; the VFS comes again without.
            return ECHILD.to_ptr::<c_char>();
        }
        // SAFETY: By the safety requirements.
        match O::get_link(unsafe { Inode::from_raw(inode) }) {
            Ok(target) => {
                let (bytes, _, _) = target.0.into_raw_parts();
                let call = bindings::delayed_call {
                    fn_: Some(bindings::kfree_link),
                    arg: bytes.cast(),
                };
                // SAFETY: The VFS passes a place for the call, which frees the bytes later.
                unsafe { done.write(call) };
                bytes.cast()
            }
            Err(e) => e.to_ptr::<c_char>(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is negative.
    unsafe extern "C" fn create(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Negative::from_raw(dentry) };
        from_result(|| O::create(idmap, dir, dentry, mode).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `old` is positive, `dentry` is negative.
    unsafe extern "C" fn link(
        old: *mut bindings::dentry,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let old = unsafe { Positive::from_raw(old) };
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Negative::from_raw(dentry) };
        from_result(|| O::link(old, dir, dentry).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only.
    unsafe extern "C" fn unlink(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Named::from_raw(dentry) };
        from_result(|| O::unlink(dir, dentry).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is negative, `target` ends in a NUL.
    unsafe extern "C" fn symlink(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        target: *const c_char,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Negative::from_raw(dentry) };
        // SAFETY: By the safety requirements.
        let target = unsafe { CStr::from_char_ptr(target) };
        from_result(|| O::symlink(idmap, dir, dentry, target).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is negative.
    unsafe extern "C" fn mkdir(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
    ) -> *mut bindings::dentry {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Negative::from_raw(dentry) };
        match O::mkdir(idmap, dir, dentry, mode) {
            // NULL: the dentry that was passed is the one to use.
            Ok(()) => ptr::null_mut(),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS only.
    unsafe extern "C" fn rmdir(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Named::from_raw(dentry) };
        from_result(|| O::rmdir(dir, dentry).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is negative.
    unsafe extern "C" fn mknod(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        rdev: bindings::dev_t,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Negative::from_raw(dentry) };
        from_result(|| O::mknod(idmap, dir, dentry, mode, rdev).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only.
    unsafe extern "C" fn rename(
        idmap: *mut bindings::mnt_idmap,
        old_dir: *mut bindings::inode,
        old: *mut bindings::dentry,
        new_dir: *mut bindings::inode,
        new: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let old_dir = unsafe { Inode::from_raw(old_dir) };
        // SAFETY: By the safety requirements.
        let old = unsafe { Named::from_raw(old) };
        // SAFETY: By the safety requirements.
        let new_dir = unsafe { Inode::from_raw(new_dir) };
        // SAFETY: By the safety requirements.
        let new = unsafe { Named::from_raw(new) };
        from_result(|| O::rename(idmap, old_dir, old, new_dir, new, flags).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `file` has no inode yet.
    unsafe extern "C" fn tmpfile(
        idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        file: *mut bindings::file,
        mode: bindings::umode_t,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dir = unsafe { Inode::from_raw(dir) };
        // SAFETY: By the safety requirements; never NULL.
        let new = unsafe { Tmpfile::from_raw(NonNull::new_unchecked(file)) };
        from_result(|| {
            O::tmpfile(idmap, dir, new, mode)?.finish_open()?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is positive.
    unsafe extern "C" fn fileattr_get(
        dentry: *mut bindings::dentry,
        // The kernel crate's own, opaque form of the type.
        attr: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Positive::from_raw(dentry) };
        // SAFETY: The VFS passes attributes, never NULL, that it leaves to us meanwhile.
        let attr = unsafe { FileAttr::from_raw(NonNull::new_unchecked(attr.cast())) };
        from_result(|| O::fileattr_get(dentry.inode(), attr).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is positive.
    unsafe extern "C" fn fileattr_set(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        // The kernel crate's own, opaque form of the type.
        attr: *mut kernel::bindings::file_kattr,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Positive::from_raw(dentry) };
        // SAFETY: The VFS passes attributes, never NULL, that it leaves to us meanwhile.
        let attr = unsafe { FileAttr::from_raw(NonNull::new_unchecked(attr.cast())) };
        from_result(|| O::fileattr_set(idmap, dentry.inode(), attr).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is positive.
    unsafe extern "C" fn setattr(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        attr: *mut bindings::iattr,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Positive::from_raw(dentry) };
        // SAFETY: The VFS passes a change, never NULL, that it leaves to us meanwhile.
        let attr = unsafe { Attr::from_raw(NonNull::new_unchecked(attr)) };
        from_result(|| O::setattr(idmap, dentry, attr).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `path` leads to a positive dentry.
    unsafe extern "C" fn getattr(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        mask: u32,
        _flags: c_uint,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Positive::from_raw((*path).dentry) };
        // SAFETY: The VFS passes a place for the answer, never NULL, that it leaves to us
        // meanwhile.
        let stat = unsafe { Stat::from_raw(NonNull::new_unchecked(stat)) };
        from_result(|| O::getattr(idmap, dentry.inode(), stat, mask).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only.
    unsafe extern "C" fn fiemap(
        inode: *mut bindings::inode,
        // The kernel crate's own, opaque form of the type.
        info: *mut kernel::bindings::fiemap_extent_info,
        start: u64,
        len: u64,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::from_raw(inode) };
        // SAFETY: The VFS passes a valid object; the wrapper is transparent.
        let info = unsafe { &*info.cast::<FiemapInfo>() };
        from_result(|| O::fiemap(inode, info, start, len).map(|()| 0))
    }

    const VTABLE: bindings::inode_operations = bindings::inode_operations {
        // The VFS's own refuses IOCB_NOWAIT for the sake of filesystems whose `i_version` or
        // `dirty_inode` may wait; here both only mark the inode (D3, U2).
        update_time: Some(bindings::calf_update_time),
        lookup: if O::HAS_LOOKUP {
            Some(Self::lookup)
        } else {
            None
        },
        get_link: if O::HAS_GET_LINK {
            Some(Self::get_link)
        } else {
            None
        },
        create: if O::HAS_CREATE {
            Some(Self::create)
        } else {
            None
        },
        link: if O::HAS_LINK { Some(Self::link) } else { None },
        unlink: if O::HAS_UNLINK {
            Some(Self::unlink)
        } else {
            None
        },
        symlink: if O::HAS_SYMLINK {
            Some(Self::symlink)
        } else {
            None
        },
        mkdir: if O::HAS_MKDIR {
            Some(Self::mkdir)
        } else {
            None
        },
        rmdir: if O::HAS_RMDIR {
            Some(Self::rmdir)
        } else {
            None
        },
        mknod: if O::HAS_MKNOD {
            Some(Self::mknod)
        } else {
            None
        },
        rename: if O::HAS_RENAME {
            Some(Self::rename)
        } else {
            None
        },
        tmpfile: if O::HAS_TMPFILE {
            Some(Self::tmpfile)
        } else {
            None
        },
        fileattr_get: if O::HAS_FILEATTR_GET {
            Some(Self::fileattr_get)
        } else {
            None
        },
        fileattr_set: if O::HAS_FILEATTR_SET {
            Some(Self::fileattr_set)
        } else {
            None
        },
        setattr: if O::HAS_SETATTR {
            Some(Self::setattr)
        } else {
            None
        },
        getattr: if O::HAS_GETATTR {
            Some(Self::getattr)
        } else {
            None
        },
        fiemap: if O::HAS_FIEMAP {
            Some(Self::fiemap)
        } else {
            None
        },
        listxattr: Some(XattrTable::<O::FileSystem>::list),
        get_inode_acl: if O::HAS_ACL {
            Some(XattrTable::<O::FileSystem>::get_acl)
        } else {
            None
        },
        set_acl: if O::HAS_ACL {
            Some(XattrTable::<O::FileSystem>::set_acl)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    const fn build() -> &'static bindings::inode_operations {
        &Self::VTABLE
    }
}

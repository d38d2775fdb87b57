// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and ACLs: what the VFS asks of a filesystem.
//!
//! C header: [`include/linux/xattr.h`](srctree/include/linux/xattr.h)

use core::marker::PhantomData;
use core::ptr;
use kernel::ffi::{c_char, c_int, c_void};

use kernel::error::code::EINVAL;
use kernel::error::{from_result, to_result, Result};
use kernel::str::{CStr, CStrExt as _};
use kernel::sync::aref::ARef;

use super::acl::{Acl, AclType};
use super::dentry::{Dentry, Positive};
use super::fs::FileSystem;
use super::idmap::Idmap;
use super::inode::Inode;
use crate::bindings;

/// The prefix of a name; ACLs have calls of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `user.`
    User,
    /// `trusted.`
    Trusted,
    /// `security.`
    Security,
}

/// What [`XattrOperations::set`] expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// No such attribute (`XATTR_CREATE`).
    Nothing,
    /// The attribute (`XATTR_REPLACE`, removal).
    Something,
}

/// The attributes of a filesystem's inodes.
///
/// Names come without their prefix. All buffers are the kernel's own memory.
pub trait XattrOperations: FileSystem {
    /// Copies a value out and returns its length; an empty `value` asks for the length only.
    /// Errors: `ENODATA`, `ERANGE`. No lock is held, or `i_rwsem`.
    fn get(inode: &Inode<Self>, space: Namespace, name: &[u8], value: &mut [u8]) -> Result<usize>;

    /// Sets an attribute, or removes it. `i_rwsem` is held exclusively.
    /// Errors: `EEXIST`, `ENODATA`, `ENOSPC`.
    fn set(
        inode: &Inode<Self>,
        space: Namespace,
        name: &[u8],
        value: Option<&[u8]>,
        expect: Expect,
    ) -> Result;

    /// Writes all full names that the caller may see, a NUL behind each, and returns their length;
    /// [`None`] asks for the length only. Errors: `ERANGE`. No lock is held.
    fn list(inode: &Inode<Self>, names: Option<&mut [u8]>) -> Result<usize>;

    /// Reads an ACL; the VFS caches it. May be called with `i_rwsem` or without. May sleep.
    fn get_acl(inode: &Inode<Self>, which: AclType) -> Result<Option<ARef<Acl>>>;

    /// Sets or removes an ACL. `i_rwsem` is held exclusively.
    fn set_acl(idmap: Idmap<'_>, inode: &Inode<Self>, acl: Option<&Acl>, which: AclType) -> Result;
}

/// What the superblock and the inode operations of filesystem `T` point to.
pub(super) struct XattrTable<T: XattrOperations>(PhantomData<T>);

/// A C buffer to be filled; a length of 0 allows NULL.
///
/// # Safety
///
/// `p` is valid for reads and writes of `len` bytes for `'a`, and nobody else uses them.
unsafe fn buffer<'a>(p: *mut c_void, len: usize) -> &'a mut [u8] {
    if p.is_null() || len == 0 {
        return &mut [];
    }
    // SAFETY: By the safety requirements.
    unsafe { core::slice::from_raw_parts_mut(p.cast(), len) }
}

/// The bytes of a value; a length of 0 allows NULL.
///
/// # Safety
///
/// `p` is valid for reads of `len` bytes for `'a`, and nobody changes them.
unsafe fn bytes<'a>(p: *const c_void, len: usize) -> &'a [u8] {
    if p.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: By the safety requirements.
    unsafe { core::slice::from_raw_parts(p.cast(), len) }
}

fn result(r: Result<usize>) -> isize {
    from_result(|| isize::try_from(r?).map_err(|_| EINVAL))
}

/// For all functions the VFS is the caller; it passes inodes and dentries of filesystem `T`.
impl<T: XattrOperations> XattrTable<T> {
    const HANDLERS: &'static [*const bindings::xattr_handler; 4] = &[
        Self::handler::<{ Namespace::User as i32 }>(),
        Self::handler::<{ Namespace::Trusted as i32 }>(),
        Self::handler::<{ Namespace::Security as i32 }>(),
        ptr::null(),
    ];

    /// What goes into `s_xattr`.
    pub(super) const fn handlers() -> *const *const bindings::xattr_handler {
        Self::HANDLERS.as_ptr()
    }

    const fn handler<const SPACE: i32>() -> *const bindings::xattr_handler {
        const {
            &bindings::xattr_handler {
                name: ptr::null(),
                prefix: match Self::space(SPACE) {
                    Namespace::User => c"user.",
                    Namespace::Trusted => c"trusted.",
                    Namespace::Security => c"security.",
                }
                .to_bytes_with_nul()
                .as_ptr(),
                flags: SPACE,
                list: None,
                get: Some(Self::get),
                set: Some(Self::set),
            }
        }
    }

    const fn space(flags: c_int) -> Namespace {
        const TRUSTED: c_int = Namespace::Trusted as c_int;
        const SECURITY: c_int = Namespace::Security as c_int;
        match flags {
            TRUSTED => Namespace::Trusted,
            SECURITY => Namespace::Security,
            _ => Namespace::User,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS only, with one of our handlers.
    unsafe extern "C" fn get(
        handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const c_char,
        value: *mut c_void,
        size: usize,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let space = Self::space(unsafe { (*handler).flags });
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        // SAFETY: The name ends in a NUL.
        let name = unsafe { CStr::from_char_ptr(name) };
        // SAFETY: The VFS passes a kernel buffer of this size, or NULL and 0.
        let value = unsafe { buffer(value, size) };
        // CAST: At most 64 KiB, or a negative errno.
        result(T::get(inode, space, name.to_bytes(), value)) as c_int
    }

    /// # Safety
    ///
    /// Called by the VFS only, with one of our handlers, and with `i_rwsem` held.
    unsafe extern "C" fn set(
        handler: *const bindings::xattr_handler,
        _idmap: *mut bindings::mnt_idmap,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const c_char,
        value: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let space = Self::space(unsafe { (*handler).flags });
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        // SAFETY: The name ends in a NUL.
        let name = unsafe { CStr::from_char_ptr(name) };
        let removes = value.is_null();
        // SAFETY: The VFS passes a kernel buffer of this size, or NULL to remove.
        let value = (!removes).then(|| unsafe { bytes(value, size) });
        // CAST: Bits.
        let expect = match flags as u32 {
            _ if removes => Expect::Something,
            f if f & bindings::XATTR_CREATE != 0 => Expect::Nothing,
            f if f & bindings::XATTR_REPLACE != 0 => Expect::Something,
            _ => Expect::Any,
        };
        from_result(|| T::set(inode, space, name.to_bytes(), value, expect).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is positive.
    pub(super) unsafe extern "C" fn list(
        dentry: *mut bindings::dentry,
        names: *mut c_char,
        size: usize,
    ) -> isize {
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Positive::<T>::from_raw(dentry) };
        // SAFETY: The VFS passes a kernel buffer of this size, or NULL and 0.
        let names = unsafe { buffer(names.cast(), size) };
        result(T::list(dentry.inode(), (size > 0).then_some(names)))
    }

    /// # Safety
    ///
    /// Called by the VFS only.
    pub(super) unsafe extern "C" fn get_acl(
        inode: *mut bindings::inode,
        kind: c_int,
        rcu: bool,
    ) -> *mut bindings::posix_acl {
        if rcu {
            // Nothing may sleep; the VFS comes again without.
            return kernel::error::code::ECHILD.to_ptr();
        }
        // SAFETY: By the safety requirements.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        match AclType::from_raw(kind).and_then(|which| T::get_acl(inode, which)) {
            Ok(acl) => acl.map_or(ptr::null_mut(), |a| ARef::into_raw(a).as_ptr().cast()),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS only; `dentry` is positive, its inode's `i_rwsem` is held.
    pub(super) unsafe extern "C" fn set_acl(
        idmap: *mut bindings::mnt_idmap,
        dentry: *mut bindings::dentry,
        acl: *mut bindings::posix_acl,
        kind: c_int,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: By the safety requirements.
        let dentry = unsafe { Positive::<T>::from_raw(dentry) };
        // SAFETY: NULL, or an ACL that the caller has a reference to.
        let acl = unsafe { acl.cast::<Acl>().as_ref() };
        from_result(|| T::set_acl(idmap, dentry.inode(), acl, AclType::from_raw(kind)?).map(|()| 0))
    }
}

/// Asks the security modules what `security.` attributes the new `inode` of `dentry` gets, and
/// hands each to `store`.
pub fn init_security<T: FileSystem, F: FnMut(&[u8], &[u8]) -> Result>(
    inode: &Inode<T>,
    dir: &Inode<T>,
    dentry: &Dentry<T>,
    mut store: F,
) -> Result {
    /// # Safety
    ///
    /// Called by `security_inode_init_security` only; `data` is the closure.
    unsafe extern "C" fn each<F: FnMut(&[u8], &[u8]) -> Result>(
        _inode: *mut bindings::inode,
        mut xattr: *const bindings::xattr,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let store = unsafe { &mut *data.cast::<F>() };
        // SAFETY: The array ends with an entry without a name.
        while let Some(x) = unsafe { xattr.as_ref() }.filter(|x| !x.name.is_null()) {
            // SAFETY: The name ends in a NUL.
            let name = unsafe { CStr::from_char_ptr(x.name) };
            // SAFETY: The value has this length.
            let value = unsafe { bytes(x.value, x.value_len) };
            if let Err(e) = store(name.to_bytes(), value) {
                return e.to_errno();
            }
            // SAFETY: Not the end of the array.
            xattr = unsafe { xattr.add(1) };
        }
        0
    }
    // SAFETY: All pointers are valid; the closure outlives the call.
    to_result(unsafe {
        bindings::calf_init_security(
            inode.as_ptr(),
            dir.as_ptr(),
            dentry.as_ptr(),
            Some(each::<F>),
            ptr::from_mut(&mut store).cast(),
        )
    })
}

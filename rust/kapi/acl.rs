// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs.
//!
//! C header: [`include/linux/posix_acl.h`](srctree/include/linux/posix_acl.h)

use core::ptr::{self, NonNull};
use kernel::ffi::{c_int, c_void};

use kernel::alloc::{flags::GFP_KERNEL, KVVec};
use kernel::error::code::EINVAL;
use kernel::error::{from_err_ptr, to_result, Result};
use kernel::sync::aref::{ARef, AlwaysRefCounted};
use kernel::types::Opaque;

use super::dentry::Positive;
use super::fs::FileSystem;
use super::idmap::Idmap;
use super::inode::Inode;
use crate::bindings;

/// A `struct posix_acl`; nobody changes one that is shared.
#[repr(transparent)]
pub struct Acl(Opaque<bindings::posix_acl>);

// SAFETY: Immutable but for the reference count, which is atomic.
unsafe impl Send for Acl {}
// SAFETY: See above.
unsafe impl Sync for Acl {}

// SAFETY: `a_refcount` is the reference count.
unsafe impl AlwaysRefCounted for Acl {
    fn inc_ref(&self) {
        // SAFETY: A shared reference means that the count is not zero.
        unsafe { bindings::calf_acl_get(self.as_ptr()) }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference it owns.
        unsafe { bindings::calf_acl_put(obj.as_ptr().cast()) }
    }
}

/// Which ACL of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclType {
    /// The one that decides on access.
    Access,
    /// Of a directory: what new inodes in it start with.
    Default,
}

impl AclType {
    pub(super) fn from_raw(kind: c_int) -> Result<Self> {
        match kind {
            bindings::CALF_CONST_ACL_TYPE_ACCESS => Ok(Self::Access),
            bindings::CALF_CONST_ACL_TYPE_DEFAULT => Ok(Self::Default),
            _ => Err(EINVAL),
        }
    }

    fn as_raw(self) -> c_int {
        match self {
            Self::Access => bindings::CALF_CONST_ACL_TYPE_ACCESS,
            Self::Default => bindings::CALF_CONST_ACL_TYPE_DEFAULT,
        }
    }
}

/// What a new inode inherits.
pub struct Inherited {
    /// Its mode.
    pub mode: u16,
    /// Its default ACL, if it is a directory.
    pub default: Option<ARef<Acl>>,
    /// Its access ACL, if the mode does not say it all.
    pub access: Option<ARef<Acl>>,
}

/// # Safety
///
/// `acl` is NULL or a reference that is handed over.
unsafe fn owned(acl: *mut bindings::posix_acl) -> Option<ARef<Acl>> {
    // SAFETY: By the safety requirements.
    NonNull::new(acl).map(|p| unsafe { ARef::from_raw(p.cast()) })
}

impl Acl {
    fn as_ptr(&self) -> *mut bindings::posix_acl {
        self.0.get()
    }

    /// Parses the form that `getxattr(2)` knows, with ids of the initial user namespace.
    /// [`None`] if there are no entries. Errors: `EINVAL`, `EOPNOTSUPP`, `ENOMEM`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Option<ARef<Self>>> {
        let from = bytes.as_ptr().cast::<c_void>();
        // SAFETY: The bytes are valid.
        let acl = unsafe { bindings::calf_acl_from_bytes(from, bytes.len()) };
        // SAFETY: A new ACL.
        Ok(unsafe { owned(from_err_ptr(acl)?) })
    }

    /// Length of what [`Acl::to_bytes`] gives.
    pub fn size(&self) -> usize {
        // SAFETY: The ACL is valid.
        unsafe { bindings::calf_acl_size(self.as_ptr()) }
    }

    /// The inverse of [`Acl::from_bytes`].
    pub fn to_bytes(&self) -> Result<KVVec<u8>> {
        let mut bytes = KVVec::from_elem(0, self.size(), GFP_KERNEL)?;
        let to = bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: The ACL is valid, the buffer has the size that it asks for.
        to_result(unsafe { bindings::calf_acl_to_bytes(self.as_ptr(), to) })?;
        Ok(bytes)
    }

    /// The mode of `inode` under this access ACL, and whether the ACL says more than that.
    /// The caller holds `i_rwsem`. Errors: `EINVAL`.
    pub fn update_mode<T: FileSystem>(
        &self,
        idmap: Idmap<'_>,
        inode: &Inode<T>,
    ) -> Result<(u16, bool)> {
        let (mut mode, mut acl) = (0, self.as_ptr());
        // SAFETY: All pointers are valid; the call takes no reference.
        to_result(unsafe {
            bindings::calf_acl_update_mode(idmap.as_ptr(), inode.as_ptr(), &mut mode, &mut acl)
        })?;
        Ok((mode, !acl.is_null()))
    }
}

impl<T: FileSystem> Inode<T> {
    /// What a new inode of mode `mode` in this directory inherits; applies the umask. May read the
    /// directory's ACL, hence not under a handle.
    pub fn inherit_acl(&self, mode: u16) -> Result<Inherited> {
        let (mut mode, mut default, mut access) = (mode, ptr::null_mut(), ptr::null_mut());
        // SAFETY: All pointers are valid.
        to_result(unsafe {
            bindings::calf_acl_create(self.as_ptr(), &mut mode, &mut default, &mut access)
        })?;
        Ok(Inherited {
            mode,
            // SAFETY: A reference of ours, or NULL.
            default: unsafe { owned(default) },
            // SAFETY: As above.
            access: unsafe { owned(access) },
        })
    }

    /// Remembers what an ACL is now. The caller holds `i_rwsem` exclusively.
    pub fn cache_acl(&self, which: AclType, acl: Option<&Acl>) {
        let acl = acl.map_or(ptr::null_mut(), Acl::as_ptr);
        // SAFETY: The inode is valid; the cache takes its own reference.
        unsafe { bindings::calf_acl_cache(self.as_ptr(), which.as_raw(), acl) }
    }

    /// Remembers that an inode nobody uses yet has neither ACLs nor anything that a write strips.
    pub fn no_xattrs(&self) {
        // SAFETY: The inode is valid and not visible to others.
        unsafe { bindings::calf_inode_no_xattrs(self.as_ptr()) }
    }

    /// Sets permissions and type. The caller holds `i_rwsem` exclusively.
    pub fn set_mode(&self, mode: u16) {
        // SAFETY: The inode is valid; nobody else writes the field.
        unsafe { (*self.as_ptr()).i_mode = mode }
    }
}

/// Lets the access ACL follow a mode that has just changed (`posix_acl_chmod`).
/// The caller holds `i_rwsem` exclusively.
pub fn chmod<T: FileSystem>(idmap: Idmap<'_>, dentry: &Positive<'_, T>) -> Result {
    // SAFETY: The dentry is valid and positive.
    to_result(unsafe { bindings::calf_acl_chmod(idmap.as_ptr(), dentry.as_ptr()) })
}

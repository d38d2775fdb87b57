// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and ACLs: the VFS side of [`crate::fs::xattr`] and [`crate::fs::acl`].

use kernel::error::Result;
use kernel::sync::aref::ARef;

use crate::algo::xattr::Name;
use crate::format::xattr::{SECURITY, TRUSTED, USER};
use crate::fs::{acl, xattr, Calf, Inode};
use crate::kapi::acl::{Acl, AclType};
use crate::kapi::xattr::{Expect, Namespace, XattrOperations};
use crate::kapi::Idmap;

fn name(space: Namespace, name: &[u8]) -> Name<'_> {
    let index = match space {
        Namespace::User => USER,
        Namespace::Trusted => TRUSTED,
        Namespace::Security => SECURITY,
    };
    Name { index, name }
}

impl XattrOperations for Calf {
    fn get(inode: &Inode, space: Namespace, text: &[u8], value: &mut [u8]) -> Result<usize> {
        xattr::get(inode, name(space, text), value)
    }

    fn set(
        inode: &Inode,
        space: Namespace,
        text: &[u8],
        value: Option<&[u8]>,
        expect: Expect,
    ) -> Result {
        xattr::set(inode, name(space, text), value, expect, None)
    }

    fn list(inode: &Inode, names: Option<&mut [u8]>) -> Result<usize> {
        xattr::list(inode, names)
    }

    fn get_acl(inode: &Inode, which: AclType) -> Result<Option<ARef<Acl>>> {
        acl::get(inode, which)
    }

    fn set_acl(idmap: Idmap<'_>, inode: &Inode, acl: Option<&Acl>, which: AclType) -> Result {
        acl::set(idmap, inode, acl, which)
    }
}

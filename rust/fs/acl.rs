// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs: attributes that the VFS keeps in parsed form.
//!
//! They are stored as `getxattr(2)` shows them, with ids of the initial user namespace, under a
//! namespace of their own each.

use kernel::error::code::{E2BIG, EACCES, ENOMEM};
use kernel::error::Result;
use kernel::sync::aref::ARef;

use super::inode::Inode;
use super::sb::Place;
use super::xattr::{self, Initial};
use crate::algo::xattr::Name;
use crate::format::types::Ino;
use crate::format::xattr::{ACL_ACCESS, ACL_DEFAULT, VALUE_MAX};
use crate::kapi::acl::{Acl, AclType};
use crate::kapi::xattr::Expect;
use crate::kapi::Idmap;

/// Longest ACL, bytes: 4095 entries. A new directory gets two of them in one transaction, which
/// has room for one attribute of the largest size.
const SIZE_MAX: usize = VALUE_MAX / 2;

fn name(which: AclType) -> Name<'static> {
    let index = match which {
        AclType::Access => ACL_ACCESS,
        AclType::Default => ACL_DEFAULT,
    };
    Name { index, name: b"" }
}

/// Reads an ACL of `inode`.
pub(crate) fn get(inode: &Inode, which: AclType) -> Result<Option<ARef<Acl>>> {
    let Some(value) = xattr::read(inode, name(which))? else {
        return Ok(None);
    };
    match Acl::from_bytes(&value) {
        Err(e) if e != ENOMEM => {
            let place = Place::Ino(Ino::new(inode.ino()));
            Err(inode.sb().data().corrupted(place, "malformed ACL"))
        }
        other => other,
    }
}

/// Sets or removes an ACL, and the mode that follows from it, in one transaction. The caller holds
/// `i_rwsem` exclusively. Errors: `E2BIG`, `EACCES` for a default ACL of a file, `ENOSPC`.
pub(crate) fn set(
    idmap: Idmap<'_>,
    inode: &Inode,
    mut acl: Option<&Acl>,
    which: AclType,
) -> Result {
    let mut mode = None;
    match (which, acl) {
        (AclType::Default, _) if !inode.is_dir() => {
            return if acl.is_some() { Err(EACCES) } else { Ok(()) };
        }
        (_, Some(a)) if a.size() > SIZE_MAX => return Err(E2BIG),
        (AclType::Access, Some(a)) => {
            let (new, says_more) = a.update_mode(idmap, inode)?;
            mode = Some(new);
            acl = acl.filter(|_| says_more);
        }
        _ => {}
    }
    let bytes = acl.map(Acl::to_bytes).transpose()?;
    xattr::set(inode, name(which), bytes.as_deref(), Expect::Any, mode)?;
    inode.cache_acl(which, acl);
    Ok(())
}

/// What a new inode in `dir` gets before it is made: its mode under umask or default ACL, and ACLs.
pub(crate) fn inherit(dir: &Inode, mode: u16) -> Result<(u16, Initial)> {
    let inherited = dir.inherit_acl(mode)?;
    let mut initial = Initial::new();
    for (which, acl) in [
        (AclType::Access, &inherited.access),
        (AclType::Default, &inherited.default),
    ] {
        if let Some(acl) = acl {
            initial.push(name(which), &acl.to_bytes()?)?;
        }
    }
    Ok((inherited.mode, initial))
}

// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs, which the kernel parses when it asks who may do what: one that it cannot parse is damage to it.

use calf_core::format::xattr::{ACL_ACCESS, ACL_DEFAULT};

/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
/// `ACL_USER` and `ACL_GROUP`: the entries with an id.
const WITH_ID: [u16; 2] = [0x02, 0x08];
/// `ACL_USER_OBJ`, `ACL_GROUP_OBJ`, `ACL_MASK`, `ACL_OTHER`.
const WITHOUT_ID: [u16; 4] = [0x01, 0x04, 0x10, 0x20];

/// Is an attribute of the namespace `index` an ACL?
pub fn is_one(index: u8) -> bool {
    index == ACL_ACCESS || index == ACL_DEFAULT
}

/// Checks the value of an attribute of the namespace `index`, as `posix_acl_from_xattr()` does. The values of other
/// attributes mean nothing to the filesystem.
pub fn check(index: u8, value: &[u8]) -> Result<(), &'static str> {
    if !is_one(index) {
        return Ok(());
    }
    let (version, entries) = value.split_first_chunk().ok_or("ACL without a version")?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err("ACL of an unknown version");
    }
    for entry in entries.chunks(8) {
        let &[tag0, tag1, _, _, id0, id1, id2, id3] = entry else {
            return Err("ACL with a part of an entry");
        };
        let tag = u16::from_le_bytes([tag0, tag1]);
        if WITH_ID.contains(&tag) {
            if u32::from_le_bytes([id0, id1, id2, id3]) == u32::MAX {
                return Err("ACL with an entry for nobody");
            }
        } else if !WITHOUT_ID.contains(&tag) {
            return Err("ACL with an unknown entry");
        }
    }
    Ok(())
}

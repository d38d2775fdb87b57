// SPDX-License-Identifier: GPL-2.0

//! Extended attributes of a file, not of what a symbolic link leads to.

use crate::{ensure, Context, Result};
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The names as the kernel lists them.
pub fn names(path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut names = vec![0; 65536];
    let len = llistxattr(path, &mut names[..]).ctx(format!("listxattr {}", path.display()))?;
    let names = names[..len].split(|b| *b == 0).filter(|n| !n.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// The names as a set; fails if one is listed twice.
pub fn list(path: &Path) -> Result<BTreeSet<String>> {
    let mut set = BTreeSet::new();
    for name in names(path)? {
        let name = String::from_utf8_lossy(&name).into_owned();
        ensure!(set.insert(name.clone()), "{name} is listed twice");
    }
    Ok(set)
}

/// A value.
pub fn get(path: &Path, name: &str) -> std::result::Result<Vec<u8>, Errno> {
    let mut value = vec![0; 65536];
    let len = lgetxattr(path, name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

/// Fails unless the value is `want`.
pub fn check(path: &Path, name: &str, want: &[u8]) -> Result {
    let have = get(path, name).ctx(name)?;
    let differ = have.iter().zip(want).position(|(a, b)| a != b);
    ensure!(
        have == want,
        "{name}: {} bytes in place of {}, first difference at {differ:?}",
        have.len(),
        want.len()
    );
    Ok(())
}

/// Names and values.
pub fn all(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for name in names(path)? {
        let mut value = vec![0; 65536];
        let len = lgetxattr(path, name.as_slice(), &mut value[..])
            .ctx(format!("getxattr {}", path.display()))?;
        value.truncate(len);
        all.insert(name, value);
    }
    Ok(all)
}

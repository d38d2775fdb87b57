// SPDX-License-Identifier: GPL-2.0

//! Describes a mounted tree.

use crate::world::{Found, Kind, Node, Tree};
use calf_vmlib::xattr;
use calf_vmlib::{ensure, Context, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Describes the tree below `root`.
pub fn describe(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut left = vec![String::new()];
    while let Some(name) = left.pop() {
        let path = if name.is_empty() {
            root.into()
        } else {
            root.join(&name)
        };
        let meta = fs::symlink_metadata(&path).ctx(path.display())?;
        let kind = if meta.is_dir() {
            for e in fs::read_dir(&path).ctx(path.display())? {
                let e = e.ctx(path.display())?.file_name();
                let e = e.to_string_lossy();
                left.push(format!("{name}/{e}").trim_start_matches('/').into());
            }
            Kind::Dir
        } else if meta.is_symlink() {
            let to = fs::read_link(&path).ctx(path.display())?;
            Kind::Link(to.to_string_lossy().into_owned())
        } else if meta.is_file() {
            Kind::File
        } else {
            Kind::Fifo
        };
        let mut node = Node::new(kind, meta.mode() & 0o7777);
        if meta.is_file() {
            node.data = fs::read(&path).ctx(path.display())?;
            ensure!(node.data.len() as u64 == meta.len(), "{name}: short");
        }
        for (x, value) in xattr::all(&path)? {
            let x = String::from_utf8_lossy(&x).into_owned();
            node.xattrs.insert(x, value);
        }
        let (ino, nlink) = (meta.ino(), meta.nlink());
        tree.insert(name, Found { ino, nlink, node });
    }
    Ok(tree)
}

// SPDX-License-Identifier: GPL-2.0

//! Describes a mounted tree.

use crate::world::{Attr, Found, Kind, Node, Times, Tree};
use calf_vmlib::xattr;
use calf_vmlib::{ensure, Context, Result};
use rustix::fs::{statx, AtFlags, StatxFlags, StatxTimestamp, CWD};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Times of what a path names, also if it is a symbolic link.
pub fn times(path: &Path) -> Result<Times> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let s = statx(CWD, path, flags, StatxFlags::ALL).ctx(path.display())?;
    let ns = |t: StatxTimestamp| t.tv_sec * 1_000_000_000 + i64::from(t.tv_nsec);
    let [born, data, change] = [s.stx_btime, s.stx_mtime, s.stx_ctime].map(ns);
    Ok(Times { born, data, change })
}

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
        let mode = meta.mode() & 0o7777;
        let mut node = Node::new(kind, mode);
        let owner = (meta.uid(), meta.gid());
        node.attr = Attr { mode, owner };
        node.times = times(&path)?;
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

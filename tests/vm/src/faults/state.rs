// SPDX-License-Identifier: GPL-2.0

//! What a folder holds, and whether that may be so after an operation that failed.

use calf_vmlib::file::extents;
use calf_vmlib::sys::{FIEMAP_SHARED, FIEMAP_UNWRITTEN};
use calf_vmlib::xattr;
use calf_vmlib::{ensure, ensure_eq, Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of the pieces of a file that are old or new as a whole.
const BLOCK: usize = 4096;

/// One file or folder; no times, no numbers of inodes.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    mode: u32,
    owner: (u32, u32),
    nlink: u64,
    /// Of `chattr`.
    flags: u32,
    data: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// For each block of a file `.` hole, `u` unwritten, `d` data, `s` shared; empty if it was not asked for.
    map: String,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = self
            .data
            .iter()
            .fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(*b)));
        let Node {
            mode,
            nlink,
            flags,
            map,
            ..
        } = self;
        write!(
            f,
            "{mode:o} links {nlink} flags {flags:x} bytes {} sum {sum:x} ",
            self.data.len()
        )?;
        write!(f, "xattrs {} {map}", self.xattrs.len())
    }
}

/// A folder, by relative path.
pub type Tree = BTreeMap<String, Node>;

/// Reads a folder with all below it; with `maps` also where the files have blocks (they must be written back).
pub fn tree(dir: &Path, maps: bool) -> Result<Tree> {
    let mut all = Tree::new();
    walk(dir, "", maps, &mut all)?;
    Ok(all)
}

fn walk(path: &Path, name: &str, maps: bool, all: &mut Tree) -> Result {
    let meta = fs::symlink_metadata(path).ctx(format!("lstat {name}"))?;
    let (mut data, mut map, mut flags) = (Vec::new(), String::new(), 0);
    if meta.is_symlink() {
        data = fs::read_link(path)
            .ctx("readlink")?
            .as_os_str()
            .as_bytes()
            .to_vec();
    } else if meta.is_file() {
        data = fs::read(path).ctx(format!("read {name}"))?;
        ensure_eq!(data.len() as u64, meta.len(), "{name}: bytes read and size");
        if maps {
            map = blocks(&File::open(path)?)?;
        }
    } else if meta.is_dir() {
        for e in fs::read_dir(path).ctx("readdir")? {
            let e = e.ctx("readdir")?;
            let below = format!("{name}/{}", e.file_name().to_string_lossy());
            walk(&e.path(), &below, maps, all)?;
        }
    }
    if meta.is_file() || meta.is_dir() {
        flags = rustix::fs::ioctl_getflags(File::open(path)?)
            .ctx("FS_IOC_GETFLAGS")?
            .bits();
    }
    let node = Node {
        mode: meta.mode(),
        flags,
        owner: (meta.uid(), meta.gid()),
        nlink: meta.nlink(),
        data,
        xattrs: xattr::all(path)?,
        map,
    };
    all.insert(name.into(), node);
    Ok(())
}

fn blocks(f: &File) -> Result<String> {
    let mut map: Vec<u8> = Vec::new();
    for e in extents(f)? {
        let (start, end) = (
            e.logical as usize / BLOCK,
            (e.logical + e.length) as usize / BLOCK,
        );
        let c = match e.flags {
            f if f & FIEMAP_SHARED != 0 => b's',
            f if f & FIEMAP_UNWRITTEN != 0 => b'u',
            _ => b'd',
        };
        map.resize(start, b'.');
        map.resize(end, c);
    }
    Ok(String::from_utf8_lossy(&map).into_owned())
}

/// What an operation that failed may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// All or nothing.
    Whole,
    /// Any block of a file, and its size, is the old or the new one.
    Blocks,
    /// Blocks have moved or not.
    Moves,
}

/// Is `now` a state that the promise allows between `before` and `after`?
pub fn allowed(promise: Promise, before: &Tree, after: &Tree, now: &Tree) -> Result {
    if now == before || now == after {
        return Ok(());
    }
    let differ = difference(before, now);
    ensure!(
        promise != Promise::Whole,
        "neither old nor new; from old: {differ}"
    );
    let names = |t: &Tree| t.keys().cloned().collect::<Vec<_>>();
    ensure_eq!(names(now), names(before), "names after a change of data");
    for (name, node) in now {
        let (old, new) = (&before[name], &after[name]);
        ensure!(
            (node.mode, node.nlink, &node.xattrs) == (old.mode, old.nlink, &old.xattrs),
            "{name}: attributes have changed: {differ}"
        );
        let len = node.data.len();
        let between = old.data.len().min(new.data.len())..=old.data.len().max(new.data.len());
        ensure!(
            between.contains(&len),
            "{name}: size {len} is not in {between:?}"
        );
        let any: BTreeSet<&[u8]> = old
            .data
            .chunks(BLOCK)
            .chain(new.data.chunks(BLOCK))
            .collect();
        for (i, now) in node.data.chunks(BLOCK).enumerate() {
            let at = |d: &[u8]| {
                let mut v = d.get(i * BLOCK..).unwrap_or(&[]).to_vec();
                v.resize(now.len(), 0);
                v == now
            };
            let fine = match promise {
                Promise::Moves => any.contains(now) || now.iter().all(|b| *b == 0),
                _ => at(&old.data) || at(&new.data),
            };
            ensure!(fine, "{name}: block {i} is neither old nor new: {differ}");
        }
    }
    Ok(())
}

/// What differs between two trees, for people.
pub fn difference(old: &Tree, new: &Tree) -> String {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut text = String::new();
    for k in keys {
        if old.get(k) != new.get(k) {
            text += &format!("'{k}': {:?} -> {:?}; ", old.get(k), new.get(k));
        }
    }
    text
}

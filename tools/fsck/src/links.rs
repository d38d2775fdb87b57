// SPDX-License-Identifier: GPL-2.0

//! Names, link counts, orphans, and whether everything hangs together.

use std::collections::{BTreeMap, BTreeSet};

use calf_core::format::inode::InodeRecord;
use calf_core::format::super_block::ROOT_INO;

use crate::inodes::Found;
use crate::report::Report;

/// Checks names against inodes.
pub fn check(found: &mut Found, report: &mut Report) {
    entries(found, report);
    root(found, report);
    orphans(found, report);
    // What a name would have led to may lie in what cannot be read.
    if found.whole {
        counts(found, report);
        reachable(found, report);
    }
}

fn entries(found: &mut Found, report: &mut Report) {
    for link in &found.links {
        let (dir, ino) = (link.dir, link.ino);
        let Some(target) = found.inodes.get_mut(&ino) else {
            if found.whole {
                report.error(format_args!(
                    "inode {dir}: a name leads to inode {ino}, which does not exist"
                ));
            }
            continue;
        };
        let ftype = InodeRecord::ftype(target.mode);
        if link.ftype != ftype {
            let said = link.ftype;
            report.error(format_args!(
                "inode {dir}: a name says inode {ino} is of type {said}, it is {ftype}"
            ));
        }
        target.names = target.names.saturating_add(1);
        let is_dir = target.is_dir();
        if is_dir {
            if target.found_in != 0 {
                report.error(format_args!("inode {ino}: directory with two names"));
            } else if target.parent != dir {
                let parent = target.parent;
                report.error(format_args!(
                    "inode {ino}: lies in directory {dir}, but names {parent} its parent"
                ));
            }
            target.found_in = dir;
        }
        if ino == ROOT_INO.get() {
            report.error(format_args!(
                "inode {dir}: a name leads to the root directory"
            ));
        }
        if is_dir {
            if let Some(dir) = found.inodes.get_mut(&dir) {
                dir.subdirs = dir.subdirs.saturating_add(1);
            }
        }
    }
}

fn root(found: &Found, report: &mut Report) {
    let ino = ROOT_INO.get();
    match found.inodes.get(&ino) {
        None if !found.whole => {}
        None => report.error(format_args!("there is no root directory")),
        Some(root) if !root.is_dir() => {
            report.error(format_args!("inode {ino}: the root is not a directory"))
        }
        Some(root) if root.parent != ino => report.error(format_args!(
            "inode {ino}: the root names {} its parent",
            root.parent
        )),
        Some(_) => {}
    }
}

fn orphans(found: &Found, report: &mut Report) {
    for (ino, &truncate) in &found.orphans {
        match found.inodes.get(ino) {
            None if !found.whole => {}
            None => report.error(format_args!(
                "orphan record of inode {ino}, which does not exist"
            )),
            Some(inode) if truncate && !inode.is_reg() => report.error(format_args!(
                "inode {ino}: to be cut, but is not a regular file"
            )),
            Some(inode) if !truncate && (inode.nlink > 0 || inode.names > 0) => {
                report.error(format_args!(
                    "inode {ino}: has an orphan record, but also {} links and {} names",
                    inode.nlink, inode.names
                ))
            }
            Some(_) => {}
        }
    }
}

fn counts(found: &Found, report: &mut Report) {
    for (&ino, inode) in &found.inodes {
        let unlinked = found.orphans.get(&ino) == Some(&false);
        let want = match () {
            () if inode.is_dir() && (inode.names > 0 || ino == ROOT_INO.get()) => {
                inode.subdirs.saturating_add(2)
            }
            () => inode.names,
        };
        if want == 0 && !unlinked {
            let nlink = inode.nlink;
            report.error(format_args!(
                "inode {ino}: no name leads to it (it says {nlink}), and it is no orphan"
            ));
        } else if inode.nlink != want && !(unlinked && inode.names == 0) {
            let nlink = inode.nlink;
            report.error(format_args!(
                "inode {ino}: says it has {nlink} links, but has {want}"
            ));
        }
    }
}

fn reachable(found: &Found, report: &mut Report) {
    let mut children: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (&ino, inode) in found.inodes.iter().filter(|(_, inode)| inode.is_dir()) {
        if inode.found_in != 0 && ino != ROOT_INO.get() {
            children.entry(inode.found_in).or_default().push(ino);
        }
    }
    let mut seen = BTreeSet::from([ROOT_INO.get()]);
    let mut todo = vec![ROOT_INO.get()];
    while let Some(ino) = todo.pop() {
        for &child in children.get(&ino).into_iter().flatten() {
            if seen.insert(child) {
                todo.push(child);
            }
        }
    }
    for (ino, inode) in &found.inodes {
        if inode.is_dir() && inode.found_in != 0 && !seen.contains(ino) {
            report.error(format_args!(
                "inode {ino}: directory cannot be reached from the root"
            ));
        }
    }
}

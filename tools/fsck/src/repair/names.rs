// SPDX-License-Identifier: GPL-2.0

//! Names: every one leads to an inode of its type, every directory has one name and knows its
//! parent, and everything can be reached from the root. What has no name goes to lost+found.

use std::collections::{BTreeMap, BTreeSet};

use calf_core::algo::dir::{self, DT_DIR};
use calf_core::format::inode::S_IFDIR;
use calf_core::format::super_block::ROOT_INO;

use super::attrs::Attributes;
use super::gather::new_record;
use super::model::{Content, Entry, Model, Node};
use crate::report::Report;

const ROOT: u64 = ROOT_INO.get();

/// Sets the names right, removes what is being removed, and collects what has no name.
pub fn settle(model: &mut Model, report: &mut Report) {
    root(model, report);
    orphans(model, report);
    entries(model, report);
    unnamed(model, report);
    unreachable(model, report);
    parents_and_counts(model, report);
}

fn root(model: &mut Model, report: &mut Report) {
    if model.inodes.get(&ROOT).is_some_and(Node::is_dir) {
        return;
    }
    if let Some(old) = model.inodes.remove(&ROOT) {
        let ino = model.next_ino();
        report.done(format_args!(
            "inode {ROOT}: the root is not a directory; its content is inode {ino} now"
        ));
        let mut node = old;
        node.rec.ino = ino.into();
        (node.changed, node.rewrite) = (true, true);
        model.inodes.insert(ino, node);
    }
    report.lost(format_args!(
        "inode {ROOT}: there is no root directory; an empty one is made"
    ));
    model.new_dir(ROOT, 0o755, ROOT);
}

/// Does what the orphan records ask for.
fn orphans(model: &mut Model, report: &mut Report) {
    let orphans = std::mem::take(&mut model.orphans);
    model.orphan_tree.rewrite |= !orphans.is_empty();
    let named: BTreeSet<u64> = match orphans.is_empty() {
        true => BTreeSet::new(),
        false => model.names().map(|(_, e)| e.ino).collect(),
    };
    for (ino, cut) in orphans {
        let Some(node) = model.inodes.get_mut(&ino) else {
            report.done(format_args!(
                "orphan record of inode {ino}, which does not exist; dropped"
            ));
            continue;
        };
        if cut && node.is_reg() {
            report.done(format_args!("inode {ino}: truncation completed"));
            model.cut(ino);
        } else if !cut && node.rec.nlink.get() == 0 && !named.contains(&ino) {
            report.done(format_args!("inode {ino}: unlinked; removed"));
            model.remove(ino);
        } else {
            report.done(format_args!(
                "inode {ino}: orphan record, but the file is in use; record dropped"
            ));
        }
    }
}

/// Drops names that lead nowhere, sets wrong types right, leaves one name to each directory.
fn entries(model: &mut Model, report: &mut Report) {
    let types: BTreeMap<u64, (u8, u64)> = model
        .inodes
        .iter()
        .map(|(&ino, node)| {
            let parent = match node.content {
                Content::Dir(parent, _) => parent,
                _ => 0,
            };
            (ino, (node.ftype(), parent))
        })
        .collect();
    // The name of a directory that its own record of the parent speaks for.
    let mut holder: BTreeMap<u64, (u64, Box<[u8]>)> = BTreeMap::new();
    for (dir, e) in model.names() {
        let Some((DT_DIR, parent)) = types.get(&e.ino) else {
            continue;
        };
        let better = holder
            .get(&e.ino)
            .is_none_or(|(old, _)| old != parent && dir == *parent);
        if better {
            holder.insert(e.ino, (dir, e.name.clone()));
        }
    }
    for (&dir, node) in &mut model.inodes {
        let wrong = |e: &Entry| match types.get(&e.ino) {
            None => true,
            Some((ftype, _)) if *ftype != e.ftype => true,
            Some((DT_DIR, _)) => {
                e.ino == ROOT || holder.get(&e.ino) != Some(&(dir, e.name.clone()))
            }
            Some(_) => false,
        };
        if !node.entries().iter().any(wrong) {
            continue;
        }
        let Some(entries) = node.entries_mut() else {
            continue;
        };
        entries.retain_mut(|e| {
            let (name, ino) = (e.name.escape_ascii().to_string(), e.ino);
            let Some((ftype, _)) = types.get(&ino) else {
                report.lost(format_args!(
                    "inode {dir}: name \"{name}\" leads to inode {ino}, which does not exist; dropped"
                ));
                return false;
            };
            if *ftype == DT_DIR {
                let why = match holder.get(&ino) {
                    _ if ino == ROOT => "to the root",
                    Some(at) if *at != (dir, e.name.clone()) => "to a directory with another name",
                    _ => "",
                };
                if !why.is_empty() {
                    report.lost(format_args!(
                        "inode {dir}: name \"{name}\" leads {why} (inode {ino}); dropped"
                    ));
                    return false;
                }
            }
            if e.ftype != *ftype {
                report.done(format_args!(
                    "inode {dir}: name \"{name}\" says inode {ino} is of type {}, it is {ftype}; set",
                    e.ftype
                ));
                e.ftype = *ftype;
            }
            true
        });
    }
}

/// Finds a place for inodes without a name.
fn unnamed(model: &mut Model, report: &mut Report) {
    let mut named: BTreeSet<u64> = model.names().map(|(_, e)| e.ino).collect();
    named.insert(ROOT);
    let lost: Vec<(u64, u32)> = model
        .inodes
        .iter()
        .filter(|(ino, _)| !named.contains(ino))
        .map(|(&ino, node)| (ino, node.rec.nlink.get()))
        .collect();
    for (ino, nlink) in lost {
        let empty = model
            .inodes
            .get(&ino)
            .is_some_and(|n| n.entries().is_empty());
        // Without a link it was being removed; its orphan record is lost.
        if nlink == 0 && empty && !model.hurt.contains(&ino) {
            report.done(format_args!(
                "inode {ino}: no name leads to it, and it has no links; removed"
            ));
            model.remove(ino);
        } else {
            model.adopt(ino, report);
        }
    }
}

/// Cuts loops of directories open and hangs them into lost+found.
fn unreachable(model: &mut Model, report: &mut Report) {
    loop {
        let mut seen = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            for e in model.inodes.get(&dir).map_or(&[][..], Node::entries) {
                if e.ftype == DT_DIR && seen.insert(e.ino) {
                    todo.push(e.ino);
                }
            }
        }
        let mut dirs = model.inodes.iter().filter(|(_, node)| node.is_dir());
        let Some(start) = dirs.find(|(ino, _)| !seen.contains(ino)).map(|(&i, _)| i) else {
            return;
        };
        // Upwards: everything has a name by now, so the way leads into a loop.
        let mut way = BTreeSet::new();
        let mut at = start;
        while way.insert(at) {
            let up = model.names().find(|(_, e)| e.ino == at).map(|(dir, _)| dir);
            at = up.unwrap_or(at);
        }
        for node in model.inodes.values_mut() {
            if node.entries().iter().any(|e| e.ino == at) {
                if let Some(entries) = node.entries_mut() {
                    entries.retain(|e| e.ino != at);
                }
            }
        }
        report.done(format_args!(
            "inode {at}: directory in a loop that does not lead to the root; cut out"
        ));
        model.adopt(at, report);
    }
}

fn parents_and_counts(model: &mut Model, report: &mut Report) {
    let mut parents: BTreeMap<u64, u64> = BTreeMap::from([(ROOT, ROOT)]);
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    let mut subdirs: BTreeMap<u64, u32> = BTreeMap::new();
    for (dir, e) in model.names() {
        let count = names.entry(e.ino).or_default();
        *count = count.saturating_add(1);
        if e.ftype == DT_DIR {
            parents.insert(e.ino, dir);
            let count = subdirs.entry(dir).or_default();
            *count = count.saturating_add(1);
        }
    }
    for (&ino, node) in &mut model.inodes {
        if let (Content::Dir(parent, entries), Some(&right)) =
            (&mut node.content, parents.get(&ino))
        {
            if *parent != right {
                if *parent != 0 {
                    report.done(format_args!(
                        "inode {ino}: lies in directory {right}, but named {parent} its parent; set"
                    ));
                }
                *parent = right;
                node.rewrite = true;
            }
            let size = dir::size_for(entries.len() as u64);
            if node.rec.size.get() != size {
                report.done(format_args!(
                    "inode {ino}: directory with a size of {}; set to {size}",
                    node.rec.size
                ));
                node.rec.size = size.into();
                node.changed = true;
            }
        }
        let right = match node.is_dir() {
            true => subdirs.get(&ino).map_or(2, |n| n.saturating_add(2)),
            false => names.get(&ino).copied().unwrap_or(0),
        };
        if node.rec.nlink.get() != right {
            report.done(format_args!(
                "inode {ino}: said it had {} links; set to {right}",
                node.rec.nlink
            ));
            node.rec.nlink = right.into();
            node.changed = true;
        }
    }
}

impl Model {
    /// All names: the directory and the entry.
    pub fn names(&self) -> impl Iterator<Item = (u64, &Entry)> + '_ {
        let dirs = self.inodes.iter();
        dirs.flat_map(|(&dir, node)| node.entries().iter().map(move |e| (dir, e)))
    }

    fn next_ino(&self) -> u64 {
        let last = self.inodes.keys().next_back().copied().unwrap_or(ROOT);
        last.saturating_add(1)
    }

    fn remove(&mut self, ino: u64) {
        self.inodes.remove(&ino);
        self.inode_tree.rewrite = true;
    }

    fn new_dir(&mut self, ino: u64, mode: u16, parent: u64) {
        let node = Node {
            rec: new_record(ino, S_IFDIR | mode),
            content: Content::Dir(parent, Vec::new()),
            nodes: Vec::new(),
            rewrite: true,
            changed: true,
            attrs: Attributes::default(),
        };
        self.inodes.insert(ino, node);
    }

    fn add_name(&mut self, dir: u64, name: &[u8], ino: u64) {
        let ftype = self.inodes.get(&ino).map_or(0, Node::ftype);
        let Some(node) = self.inodes.get_mut(&dir) else {
            return;
        };
        if let Some(entries) = node.entries_mut() {
            entries.push(Entry {
                key: None,
                ino,
                ftype,
                name: name.into(),
            });
        }
    }

    /// A name like `base` that is not taken in `dir`.
    fn free_name(&self, dir: u64, base: &str) -> String {
        let entries = self.inodes.get(&dir).map_or(&[][..], Node::entries);
        let taken = |name: &str| entries.iter().any(|e| &*e.name == name.as_bytes());
        let mut name = base.to_owned();
        let mut i = 0u64;
        while taken(&name) {
            i = i.saturating_add(1);
            name = format!("{base}.{i}");
        }
        name
    }

    /// Gives an inode without a name one in lost+found, which is made if it is not there.
    fn adopt(&mut self, ino: u64, report: &mut Report) {
        let root = self.inodes.get(&ROOT).map_or(&[][..], Node::entries);
        let found = root
            .iter()
            .find(|e| &*e.name == b"lost+found" && e.ftype == DT_DIR && e.ino != ino)
            .map(|e| e.ino);
        let dir = found.unwrap_or_else(|| {
            let dir = self.next_ino();
            self.new_dir(dir, 0o700, ROOT);
            let name = self.free_name(ROOT, "lost+found");
            self.add_name(ROOT, name.as_bytes(), dir);
            report.done(format_args!("/{name}: made (inode {dir})"));
            dir
        });
        let name = self.free_name(dir, &format!("#{ino}"));
        self.add_name(dir, name.as_bytes(), ino);
        report.done(format_args!(
            "inode {ino}: no name leads to it; it is lost+found/{name} now"
        ));
    }
}

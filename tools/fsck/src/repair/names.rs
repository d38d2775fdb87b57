// SPDX-License-Identifier: GPL-2.0

//! Names: every one leads to an inode of its type, every directory has one name and knows its
//! parent, and everything can be reached from the root. What has no name goes to lost+found.

use std::collections::{BTreeMap, BTreeSet};

use calf_core::algo::dir::{self, DT_DIR};
use calf_core::format::inode::{MAX_INO, S_IFDIR};
use calf_core::format::super_block::ROOT_INO;

use super::attrs::Attributes;
use super::gather::{judge_target, new_record};
use super::model::{Content, Entry, Model, Node};
use super::types::may_be_bare;
use crate::report::Report;

const ROOT: u64 = ROOT_INO.get();

/// Sets the names right, removes what is being removed, and collects what has no name.
pub fn settle(model: &mut Model, report: &mut Report) {
    root(model, report);
    orphans(model, report);
    targets(model, report);
    entries(model, report);
    let mut found = LostFound::new(model);
    unnamed(model, &mut found, report);
    unreachable(model, &mut found, report);
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

/// Judges the targets of the symbolic links that seemed to be on their way out and are not.
fn targets(model: &mut Model, report: &mut Report) {
    let before = model.inodes.len();
    model.inodes.retain(|&ino, node| {
        let Content::Link(target) = &node.content else {
            return true;
        };
        let len = target.len();
        let whole = len as u64 == node.rec.size.get() || !node.rewrite;
        node.rec.nlink.get() != 0 || judge_target(ino, node, len, whole, report)
    });
    model.inode_tree.rewrite |= model.inodes.len() < before;
}

/// Inodes that could as well be of the type a name says: neither their tree nor another name
/// speaks for the mode.
fn ambiguous(model: &Model) -> BTreeSet<u64> {
    let bare = |e: &Entry| model.inodes.get(&e.ino).filter(|node| node.is_bare());
    let says = |e: &Entry, right: bool| {
        bare(e).is_some_and(|node| (node.ftype() == e.ftype) == right && may_be_bare(e.ftype))
    };
    let against = model.names().filter(|(_, e)| says(e, false));
    let mut found: BTreeSet<u64> = against.map(|(_, e)| e.ino).collect();
    if !found.is_empty() {
        for (_, e) in model.names().filter(|(_, e)| says(e, true)) {
            found.remove(&e.ino);
        }
    }
    found
}

/// Drops names that lead nowhere, sets wrong types right, leaves one name to each directory.
fn entries(model: &mut Model, report: &mut Report) {
    let ambiguous = ambiguous(model);
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
                if ambiguous.contains(&ino) {
                    report.uncertain();
                }
                e.ftype = *ftype;
            }
            true
        });
    }
}

/// Finds a place for inodes without a name.
fn unnamed(model: &mut Model, found: &mut LostFound, report: &mut Report) {
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
            found.adopt(model, ino, report);
        }
    }
}

/// Cuts loops of directories open and hangs them into lost+found.
fn unreachable(model: &mut Model, found: &mut LostFound, report: &mut Report) {
    let mut seen = BTreeSet::new();
    model.reach(ROOT, &mut seen);
    let dirs = model.inodes.iter().filter(|(_, node)| node.is_dir());
    let lost: Vec<u64> = dirs
        .map(|(&ino, _)| ino)
        .filter(|ino| !seen.contains(ino))
        .collect();
    if lost.is_empty() {
        return;
    }
    let names = model.names().filter(|(_, e)| e.ftype == DT_DIR);
    let parents: BTreeMap<u64, u64> = names.map(|(dir, e)| (e.ino, dir)).collect();
    for start in lost {
        if seen.contains(&start) {
            continue;
        }
        // Upwards: everything has a name by now, so the way leads into a loop. All that hangs on it can be
        // reached when it is cut, so no way is gone twice.
        let mut way = BTreeSet::new();
        let mut at = start;
        while way.insert(at) {
            at = parents.get(&at).copied().unwrap_or(at);
        }
        let parent = parents.get(&at).and_then(|dir| model.inodes.get_mut(dir));
        if let Some(entries) = parent.and_then(Node::entries_mut) {
            entries.retain(|e| e.ino != at);
        }
        report.done(format_args!(
            "inode {at}: directory in a loop that does not lead to the root; cut out"
        ));
        found.adopt(model, at, report);
        model.reach(at, &mut seen);
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
        if last < MAX_INO {
            return last.saturating_add(1);
        }
        let mut from_last = (ROOT..=MAX_INO).rev();
        let free = from_last.find(|ino| !self.inodes.contains_key(ino));
        free.unwrap_or(MAX_INO)
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

    /// The names in an inode, if it is a directory.
    fn entries_of(&self, ino: u64) -> &[Entry] {
        self.inodes.get(&ino).map_or(&[], Node::entries)
    }

    /// Adds to `seen` the directories that can be reached from `from` by ways that do not lead through those
    /// already there.
    fn reach(&self, from: u64, seen: &mut BTreeSet<u64>) {
        seen.insert(from);
        let mut todo = vec![from];
        while let Some(dir) = todo.pop() {
            for e in self.entries_of(dir) {
                if e.ftype == DT_DIR && seen.insert(e.ino) {
                    todo.push(e.ino);
                }
            }
        }
    }
}

/// The names of a directory.
type Taken = BTreeSet<Box<[u8]>>;

/// lost+found. It is looked up once, and its names are kept sorted: many inodes may have to go there.
struct LostFound {
    /// Its inode; [`None`] until it is needed and made.
    dir: Option<u64>,
    /// The names in it.
    taken: Taken,
}

impl LostFound {
    fn new(model: &Model) -> Self {
        let mut root = model.entries_of(ROOT).iter();
        let dir = root.find(|e| &*e.name == b"lost+found" && e.ftype == DT_DIR);
        let dir = dir.map(|e| e.ino);
        let taken = dir.map_or_else(Taken::new, |dir| taken(model, dir));
        Self { dir, taken }
    }

    /// Gives an inode without a name one here.
    fn adopt(&mut self, model: &mut Model, ino: u64, report: &mut Report) {
        let dir = match self.dir {
            Some(dir) => dir,
            None => {
                let dir = model.next_ino();
                model.new_dir(dir, 0o700, ROOT);
                let name = free_name(&taken(model, ROOT), "lost+found");
                model.add_name(ROOT, name.as_bytes(), dir);
                report.done(format_args!("/{name}: made (inode {dir})"));
                self.dir = Some(dir);
                dir
            }
        };
        let name = free_name(&self.taken, &format!("#{ino}"));
        self.taken.insert(name.as_bytes().into());
        model.add_name(dir, name.as_bytes(), ino);
        report.guessed(format_args!(
            "inode {ino}: no name leads to it; it is lost+found/{name} now"
        ));
    }
}

fn taken(model: &Model, dir: u64) -> Taken {
    let entries = model.entries_of(dir).iter();
    entries.map(|e| e.name.clone()).collect()
}

/// A name like `base` that is not taken.
fn free_name(taken: &Taken, base: &str) -> String {
    let mut name = base.to_owned();
    let mut i = 0u64;
    while taken.contains(name.as_bytes()) {
        i = i.saturating_add(1);
        name = format!("{base}.{i}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nanoseconds that this thread has been running: other programs shall not decide.
    fn ran() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or_default();
        first.parse().unwrap_or(0)
    }

    /// A root with lost+found, and `n` directories from inode 10 on with names that lead where `entries` says.
    fn model(n: u64, entries: impl Fn(u64) -> Vec<u64>) -> Model {
        let mut model = Model::default();
        model.new_dir(ROOT, 0o755, ROOT);
        model.new_dir(2, 0o700, ROOT);
        model.add_name(ROOT, b"lost+found", 2);
        for ino in 10..10 + n {
            model.new_dir(ino, 0o755, 0);
            // Without a link and without a name it would be removed.
            if let Some(node) = model.inodes.get_mut(&ino) {
                node.rec.nlink = 2.into();
            }
        }
        for ino in 10..10 + n {
            for to in entries(ino) {
                model.add_name(ino, format!("to {to}").as_bytes(), to);
            }
        }
        model
    }

    fn settled(mut model: Model) -> Model {
        let start = ran();
        settle(&mut model, &mut Report::silent());
        // The square of the number would take minutes.
        assert!(ran() - start < 15_000_000_000, "{} ns", ran() - start);
        model
    }

    #[test]
    fn many_without_a_name_find_a_place() {
        let n = 100_000;
        let after = settled(model(n, |_| Vec::new()));
        assert_eq!(after.entries_of(2).len() as u64, n);
        assert!(after.entries_of(2).iter().all(|e| e.ftype == DT_DIR));
    }

    #[test]
    fn many_loops_are_cut() {
        let n = 20_000;
        // Two directories in each other.
        let after = settled(model(n, |ino| vec![ino ^ 1]));
        assert_eq!(after.entries_of(2).len() as u64, n / 2);
        // One loop of all, with a leg that leads into it.
        let last = 10 + n - 1;
        let after = settled(model(n, |ino| match ino {
            10 => vec![],
            _ if ino == last => vec![11, 10],
            _ => vec![ino + 1],
        }));
        let mut seen = BTreeSet::new();
        after.reach(ROOT, &mut seen);
        assert_eq!((after.entries_of(2).len(), seen.len() as u64), (1, n + 2));
    }

    #[test]
    fn a_name_that_is_taken_stays() {
        let mut model = model(2, |_| Vec::new());
        model.new_dir(20, 0o755, 2);
        model.add_name(2, b"#11", 20);
        let after = settled(model);
        let names = after.entries_of(2).iter().map(|e| (&*e.name, e.ino));
        let names: BTreeMap<&[u8], u64> = names.collect();
        let right: [(&[u8], u64); 3] = [(b"#10", 10), (b"#11", 20), (b"#11.1", 11)];
        assert_eq!(names, BTreeMap::from(right));
    }
}

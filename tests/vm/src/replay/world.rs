// SPDX-License-Identifier: GPL-2.0

//! What operations do to a tree of files, told as events, and what a tree looks like.

use std::collections::BTreeMap;

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A pipe.
    Fifo,
    /// A symbolic link, and where to.
    Link(String),
}

/// What `chmod` and `chown` set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// Times of an inode, in nanoseconds. Not when it was read: nobody promises that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Birth.
    pub born: i64,
    /// Change of the contents.
    pub data: i64,
    /// Change of anything.
    pub change: i64,
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permissions and owner.
    pub attr: Attr,
    /// When it was born and changed; for one that nobody has looked at yet, a time before that.
    pub times: Times,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Contents of a regular file.
    pub data: Vec<u8>,
}

impl Node {
    /// A new inode of root.
    pub fn new(kind: Kind, mode: u32) -> Node {
        let owner = (0, 0);
        Node {
            kind,
            attr: Attr { mode, owner },
            times: Times::default(),
            xattrs: BTreeMap::new(),
            data: Vec::new(),
        }
    }
}

/// A tree: paths below the mount point (`""` for itself), and the inodes that they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Which inode a path names.
    pub names: BTreeMap<String, usize>,
    /// All inodes there ever were.
    pub nodes: Vec<Node>,
}

/// What somebody was told is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// Everything (`sync`).
    All,
    /// One inode: by `fsync`, or by `fdatasync`.
    Node {
        /// Which.
        node: usize,
        /// `fdatasync`.
        data_only: bool,
    },
}

/// A part of an operation. The comments say what a crash may make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Names appear and vanish, all at once, and not before what came earlier.
    Names {
        /// Paths, and which inode they name now.
        changes: Vec<(String, Option<usize>)>,
        /// Inodes whose `fsync` makes it durable.
        touches: Vec<usize>,
        /// An inode that gets its first name, without which `fdatasync` would be of no use.
        born: Option<usize>,
    },
    /// An extended attribute changes or vanishes; in order, like names.
    Xattr {
        /// Of which inode.
        node: usize,
        /// Its name.
        name: String,
        /// The new value.
        value: Option<Vec<u8>>,
    },
    /// The size is set; in order, like names.
    Resize {
        /// Of which inode.
        node: usize,
        /// Bytes.
        size: usize,
    },
    /// `len` bytes are taken out. In order, but a crash in the middle leaves a mixture.
    Collapse {
        /// Of which inode.
        node: usize,
        /// First byte.
        at: usize,
        /// Bytes.
        len: usize,
    },
    /// A hole is put in. Like `Collapse`.
    Insert {
        /// Of which inode.
        node: usize,
        /// First byte.
        at: usize,
        /// Bytes.
        len: usize,
    },
    /// Permissions and owner change, on disk at any time from now on.
    Attr {
        /// Of which inode.
        node: usize,
        /// The new ones.
        attr: Attr,
    },
    /// Times were seen to have changed, perhaps in steps; on disk at any time.
    Times {
        /// Of which inode.
        node: usize,
        /// The new ones.
        times: Times,
    },
    /// Bytes change, on disk block by block at any time from now on; the file grows with them.
    Write {
        /// Of which inode.
        node: usize,
        /// First byte.
        at: usize,
        /// The new bytes.
        data: Vec<u8>,
    },
    /// Somebody is told that something is durable.
    Ack(Ack),
}

impl Event {
    /// Does the journal keep its place among others of this kind?
    pub fn ordered(&self) -> bool {
        !matches!(
            self,
            Event::Attr { .. } | Event::Times { .. } | Event::Write { .. } | Event::Ack(_)
        )
    }

    /// Must this be on disk when `ack` was given after it?
    pub fn covered_by(&self, ack: Ack) -> bool {
        let Ack::Node { node: n, data_only } = ack else {
            return true;
        };
        match self {
            Event::Names {
                touches, born: b, ..
            } => *b == Some(n) || !data_only && touches.contains(&n),
            Event::Xattr { node, .. } | Event::Attr { node, .. } | Event::Times { node, .. } => {
                *node == n && !data_only
            }
            Event::Resize { node, .. }
            | Event::Collapse { node, .. }
            | Event::Insert { node, .. }
            | Event::Write { node, .. } => *node == n,
            Event::Ack(_) => false,
        }
    }
}

impl World {
    /// Does the event, as if there were no crash.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Names { changes, .. } => rename(&mut self.names, changes),
            Event::Xattr { node, name, value } => {
                set_xattr(&mut self.nodes[*node].xattrs, name, value)
            }
            Event::Resize { node, size } => self.nodes[*node].data.resize(*size, 0),
            Event::Collapse { node, at, len } => {
                self.nodes[*node].data.drain(*at..*at + *len);
            }
            Event::Insert { node, at, len } => {
                let data = &mut self.nodes[*node].data;
                let tail = data.split_off(*at);
                data.resize(*at + *len, 0);
                data.extend(tail);
            }
            Event::Attr { node, attr } => self.nodes[*node].attr = *attr,
            Event::Times { node, times } => self.nodes[*node].times = *times,
            Event::Write { node, at, data } => {
                let old = &mut self.nodes[*node].data;
                old.resize(old.len().max(at + data.len()), 0);
                old[*at..at + data.len()].copy_from_slice(data);
            }
            Event::Ack(_) => {}
        }
    }
}

/// Changes names.
pub fn rename(names: &mut BTreeMap<String, usize>, changes: &[(String, Option<usize>)]) {
    for (path, node) in changes {
        match node {
            Some(n) => names.insert(path.clone(), *n),
            None => names.remove(path),
        };
    }
}

/// Changes an extended attribute.
pub fn set_xattr(all: &mut BTreeMap<String, Vec<u8>>, name: &str, value: &Option<Vec<u8>>) {
    match value {
        Some(v) => all.insert(name.into(), v.clone()),
        None => all.remove(name),
    };
}

/// All that happened: the inodes as they were born, the names at the beginning, and the events.
#[derive(Debug, Clone)]
pub struct History {
    /// The tree before the first event; holds the inodes that are born later, too, as they are then.
    pub start: World,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// A path as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its inode number.
    pub ino: u64,
    /// Link count.
    pub nlink: u64,
    /// The inode.
    pub node: Node,
}

/// A tree as it was found.
pub type Tree = BTreeMap<String, Found>;

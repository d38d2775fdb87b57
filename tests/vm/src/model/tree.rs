// SPDX-License-Identifier: GPL-2.0

//! What the filesystem should hold: a tree in memory. Nothing here touches a file.

use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Number of an object of the model.
pub type Id = usize;

/// The root directory.
pub const ROOT: Id = 0;
/// Permission bit: group of the directory is inherited.
pub const SGID: u32 = 0o2000;

/// Permissions of an access control list with one more user and one more group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acl {
    /// Owner, named user, group, named group, mask, others: 0 to 7 each.
    pub perms: [u8; 6],
    /// The named user; the named group has the same number.
    pub id: u32,
}

impl Acl {
    /// The value of `system.posix_acl_access`.
    pub fn bytes(&self) -> Vec<u8> {
        let tags = [0x01u16, 0x02, 0x04, 0x08, 0x10, 0x20];
        let mut v = 2u32.to_le_bytes().to_vec();
        for (tag, perm) in tags.into_iter().zip(self.perms) {
            let id = if tag == 0x02 || tag == 0x08 {
                self.id
            } else {
                u32::MAX
            };
            v.extend(tag.to_le_bytes());
            v.extend(u16::from(perm).to_le_bytes());
            v.extend(id.to_le_bytes());
        }
        v
    }
}

/// What an object is.
#[derive(Debug, Clone)]
pub enum What {
    /// A regular file and its bytes.
    File(Vec<u8>),
    /// A directory.
    Dir {
        /// Names.
        names: BTreeMap<Vec<u8>, Id>,
        /// The directory that holds it.
        parent: Id,
        /// Its name there.
        name: Vec<u8>,
    },
    /// A symbolic link and its target.
    Link(Vec<u8>),
    /// Fifo, socket or device: type bits of the mode, device number.
    Special(u32, u64),
}

/// An object.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub what: What,
    /// Permissions with the three bits above them.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Names that lead to it (directories: as `stat` counts).
    pub nlink: u64,
    /// Open files of the test that refer to it.
    pub opens: u32,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Access control list.
    pub acl: Option<Acl>,
    /// `FS_*_FL`.
    pub flags: u32,
    /// Modification time, when a test has set it and nothing has changed since.
    pub mtime: Option<i64>,
}

impl Node {
    fn new(what: What, mode: u32, owner: (u32, u32)) -> Node {
        Node {
            nlink: if matches!(what, What::Dir { .. }) {
                2
            } else {
                1
            },
            what,
            mode,
            owner,
            opens: 0,
            xattrs: BTreeMap::new(),
            acl: None,
            flags: 0,
            mtime: None,
        }
    }

    /// Is it a directory?
    pub fn is_dir(&self) -> bool {
        matches!(self.what, What::Dir { .. })
    }

    /// Is it a regular file?
    pub fn is_file(&self) -> bool {
        matches!(self.what, What::File(_))
    }

    /// Type bits of `st_mode`.
    pub fn kind(&self) -> u32 {
        match self.what {
            What::File(_) => libc_mode::REG,
            What::Dir { .. } => libc_mode::DIR,
            What::Link(_) => libc_mode::LNK,
            What::Special(kind, _) => kind,
        }
    }

    /// Changes the permissions as `chmod` does.
    pub fn chmod(&mut self, mode: u32) {
        self.mode = mode & 0o7777;
        if let Some(acl) = &mut self.acl {
            acl.perms[0] = (mode >> 6 & 7) as u8;
            acl.perms[4] = (mode >> 3 & 7) as u8;
            acl.perms[5] = (mode & 7) as u8;
        }
    }

    /// Changes the owner as `chown` does: a program loses the rights of its owner.
    pub fn chown(&mut self, owner: (u32, u32)) {
        self.owner = owner;
        if !self.is_dir() {
            self.mode &= !0o4000;
            if self.mode & 0o010 != 0 {
                self.mode &= !SGID;
            }
        }
    }

    /// Sets an access control list; the permissions follow.
    pub fn set_acl(&mut self, acl: Acl) {
        let p = acl.perms.map(u32::from);
        self.mode = self.mode & !0o777 | p[0] << 6 | p[4] << 3 | p[5];
        self.acl = Some(acl);
    }

    /// All names that `listxattr` gives.
    pub fn xattr_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.xattrs.keys().cloned().collect();
        if self.acl.is_some() {
            names.push("system.posix_acl_access".into());
        }
        names.sort();
        names
    }
}

/// Type bits of `st_mode`.
pub mod libc_mode {
    /// Fifo.
    pub const FIFO: u32 = 0o010000;
    /// Character device.
    pub const CHR: u32 = 0o020000;
    /// Directory.
    pub const DIR: u32 = 0o040000;
    /// Block device.
    pub const BLK: u32 = 0o060000;
    /// Regular file.
    pub const REG: u32 = 0o100000;
    /// Symbolic link.
    pub const LNK: u32 = 0o120000;
    /// Socket.
    pub const SOCK: u32 = 0o140000;
}

/// A place for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The directory.
    pub dir: Id,
    /// The name.
    pub name: Vec<u8>,
}

/// What a call returns without a value.
pub type Outcome = Result<(), Errno>;

/// Everything.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: BTreeMap<Id, Node>,
    next: Id,
}

impl Tree {
    /// An empty root directory.
    pub fn new(mode: u32, owner: (u32, u32)) -> Tree {
        let what = What::Dir {
            names: BTreeMap::new(),
            parent: ROOT,
            name: Vec::new(),
        };
        Tree {
            nodes: BTreeMap::from([(ROOT, Node::new(what, mode, owner))]),
            next: ROOT + 1,
        }
    }

    /// An object.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    /// An object, to change it.
    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("object of the model")
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes.iter().map(|(id, n)| (*id, n))
    }

    /// The names of a directory.
    pub fn names(&self, dir: Id) -> &BTreeMap<Vec<u8>, Id> {
        match &self.node(dir).what {
            What::Dir { names, .. } => names,
            _ => panic!("not a directory of the model"),
        }
    }

    fn names_mut(&mut self, dir: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        let node = self.node_mut(dir);
        node.mtime = None;
        match &mut node.what {
            What::Dir { names, .. } => names,
            _ => panic!("not a directory of the model"),
        }
    }

    /// The bytes of a file, which are about to change.
    pub fn bytes_mut(&mut self, id: Id) -> &mut Vec<u8> {
        let node = self.node_mut(id);
        node.mtime = None;
        match &mut node.what {
            What::File(bytes) => bytes,
            _ => panic!("not a file of the model"),
        }
    }

    /// The bytes of a file.
    pub fn bytes(&self, id: Id) -> &[u8] {
        match &self.node(id).what {
            What::File(bytes) => bytes,
            _ => panic!("not a file of the model"),
        }
    }

    /// What a name leads to.
    pub fn at(&self, spot: &Spot) -> Option<Id> {
        self.names(spot.dir).get(&spot.name).copied()
    }

    /// Path of a directory, relative to the root.
    pub fn dir_path(&self, dir: Id) -> PathBuf {
        match &self.node(dir).what {
            What::Dir { parent, name, .. } if dir != ROOT => {
                self.dir_path(*parent).join(OsStr::from_bytes(name))
            }
            _ => PathBuf::new(),
        }
    }

    /// Path of a name, relative to the root.
    pub fn path(&self, spot: &Spot) -> PathBuf {
        self.dir_path(spot.dir).join(OsStr::from_bytes(&spot.name))
    }

    /// Is `dir` the directory `other`, or below it?
    pub fn is_below(&self, dir: Id, other: Id) -> bool {
        match &self.node(dir).what {
            _ if dir == other => true,
            What::Dir { parent, .. } if dir != ROOT => self.is_below(*parent, other),
            _ => false,
        }
    }

    /// Directories between it and the root.
    pub fn depth(&self, dir: Id) -> usize {
        match &self.node(dir).what {
            What::Dir { parent, .. } if dir != ROOT => 1 + self.depth(*parent),
            _ => 0,
        }
    }

    fn check_name(name: &[u8]) -> Outcome {
        match name.len() {
            0..=255 => Ok(()),
            _ => Err(Errno::NAMETOOLONG),
        }
    }

    /// What making a name there returns.
    pub fn may_create(&self, spot: &Spot) -> Outcome {
        Self::check_name(&spot.name)?;
        match self.at(spot) {
            Some(_) => Err(Errno::EXIST),
            None => Ok(()),
        }
    }

    /// A new object without a name, made in `dir` by root without a umask.
    pub fn make(&mut self, dir: Id, what: What, mode: u32) -> Id {
        let parent = self.node(dir);
        let mut mode = mode & 0o7777;
        let mut owner = (0, 0);
        if parent.mode & SGID != 0 {
            owner.1 = parent.owner.1;
            if matches!(what, What::Dir { .. }) {
                mode |= SGID;
            }
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node::new(what, mode, owner));
        id
    }

    /// Gives a new object its name.
    pub fn enter(&mut self, spot: &Spot, id: Id) {
        self.names_mut(spot.dir).insert(spot.name.clone(), id);
        if let What::Dir { parent, name, .. } = &mut self.node_mut(id).what {
            (*parent, *name) = (spot.dir, spot.name.clone());
            self.node_mut(spot.dir).nlink += 1;
        }
    }

    /// Takes a name away; what it led to stays.
    fn leave(&mut self, spot: &Spot) -> Option<Id> {
        let id = self.names_mut(spot.dir).remove(&spot.name)?;
        if self.node(id).is_dir() {
            self.node_mut(spot.dir).nlink -= 1;
        }
        Some(id)
    }

    /// Forgets an object that nothing leads to.
    pub fn settle(&mut self, id: Id) {
        let node = self.node(id);
        let named = if node.is_dir() {
            node.nlink >= 2
        } else {
            node.nlink > 0
        };
        if !named && node.opens == 0 {
            self.nodes.remove(&id);
        }
    }

    /// Takes a name away, and the object if it was the last.
    pub fn remove(&mut self, spot: &Spot) {
        if let Some(id) = self.leave(spot) {
            let node = self.node_mut(id);
            node.nlink -= if node.is_dir() { 2 } else { 1 };
            self.settle(id);
        }
    }

    /// What `unlink` returns.
    pub fn may_unlink(&self, spot: &Spot) -> Outcome {
        Self::check_name(&spot.name)?;
        match self.at(spot) {
            None => Err(Errno::NOENT),
            Some(id) if self.node(id).is_dir() => Err(Errno::ISDIR),
            Some(_) => Ok(()),
        }
    }

    /// What `rmdir` returns.
    pub fn may_rmdir(&self, spot: &Spot) -> Outcome {
        Self::check_name(&spot.name)?;
        match self.at(spot) {
            None => Err(Errno::NOENT),
            Some(id) if !self.node(id).is_dir() => Err(Errno::NOTDIR),
            Some(id) if !self.names(id).is_empty() => Err(Errno::NOTEMPTY),
            Some(_) => Ok(()),
        }
    }

    /// What `rename` returns.
    pub fn may_rename(&self, from: &Spot, to: &Spot, how: Rename) -> Outcome {
        Self::check_name(&from.name)?;
        let old = self.at(from).ok_or(Errno::NOENT)?;
        Self::check_name(&to.name)?;
        let new = self.at(to);
        match (how, new) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        let old_dir = self.node(old).is_dir();
        if old_dir && self.is_below(to.dir, old) {
            return Err(Errno::INVAL);
        }
        let Some(new) = new else {
            return Ok(());
        };
        let new_dir = self.node(new).is_dir();
        if new_dir && self.is_below(from.dir, new) {
            return Err(match how {
                Rename::Exchange => Errno::INVAL,
                _ => Errno::NOTEMPTY,
            });
        }
        if old == new || how == Rename::Exchange {
            return Ok(());
        }
        match (old_dir, new_dir) {
            (true, false) => Err(Errno::NOTDIR),
            (false, true) => Err(Errno::ISDIR),
            (true, true) if !self.names(new).is_empty() => Err(Errno::NOTEMPTY),
            _ => Ok(()),
        }
    }

    /// A rename that works.
    pub fn rename(&mut self, from: &Spot, to: &Spot, how: Rename) {
        // Two names of one object stay as they are.
        if self.at(from) == self.at(to) {
            return;
        }
        if how == Rename::Exchange {
            let (Some(old), Some(new)) = (self.leave(from), self.leave(to)) else {
                return;
            };
            self.enter(to, old);
            self.enter(from, new);
            return;
        }
        self.remove(to);
        if let Some(old) = self.leave(from) {
            self.enter(to, old);
        }
        if how == Rename::Whiteout {
            let id = self.make(from.dir, What::Special(libc_mode::CHR, 0), 0);
            self.enter(from, id);
        }
    }
}

/// Flags of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// None.
    Plain,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
    /// `RENAME_WHITEOUT`.
    Whiteout,
}

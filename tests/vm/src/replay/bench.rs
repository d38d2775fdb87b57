// SPDX-License-Identifier: GPL-2.0

//! The mounted tree that operations work on, and the history of what they did.

use crate::ops::{Target, OPS};
use crate::tree;
use crate::world::{Ack, Event, History, Kind, Node, Times, World};
use calf_vmlib::file::{clone_file, open, open_direct, patterned};
use calf_vmlib::sys::{self, Aligned};
use calf_vmlib::{ensure_eq, Context, Result};
use rustix::fs::XattrFlags;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The tree that operations work on, and what they did.
pub struct Bench<'a> {
    /// Where it is mounted.
    pub mnt: &'a Path,
    /// Block size.
    pub bs: usize,
    /// Everything is written out of place.
    pub cow: bool,
    /// Differs in each operation, so that their data do.
    pub seed: u64,
    /// The tree as it should be now.
    pub now: World,
    /// What happened.
    pub history: History,
    /// No inode that an operation makes is older than this.
    begun: i64,
}

/// What follows an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Nothing.
    None,
    /// The data of the file are written, but nothing is promised.
    Writeback,
    /// `fsync`.
    Fsync,
    /// `fdatasync`.
    Fdatasync,
    /// `syncfs`.
    All,
    /// `fsync` of another file that has changed: the journal is written, the data are not.
    Other,
}

impl Sync {
    /// All of them.
    pub const ALL: [Sync; 6] = [
        Sync::None,
        Sync::Writeback,
        Sync::Fsync,
        Sync::Fdatasync,
        Sync::All,
        Sync::Other,
    ];
}

/// Nothing that anybody has written.
fn empty() -> World {
    World {
        names: [(String::new(), 0)].into(),
        nodes: vec![Node::new(Kind::Dir, 0o755)],
    }
}

impl<'a> Bench<'a> {
    /// On a tree that is there.
    pub fn new(mnt: &'a Path, bs: usize, cow: bool, start: World) -> Bench<'a> {
        Bench {
            mnt,
            bs,
            cow,
            seed: 100,
            now: start.clone(),
            history: History {
                start,
                events: Vec::new(),
            },
            begun: 0,
        }
    }

    /// Makes the tree that every sequence begins with, on an empty filesystem, and returns it.
    pub fn setup(mnt: &Path, bs: usize) -> Result<World> {
        let mut b = Bench::new(mnt, bs, false, empty());
        fs::set_permissions(mnt, fs::Permissions::from_mode(0o755))?;
        for (n, (path, blocks)) in [("a", 6), ("b", 6)].into_iter().enumerate() {
            b.seed = n as u64;
            b.put(path, 0, blocks * bs)?;
        }
        for dir in ["d", "e"] {
            b.make_dir(dir)?;
        }
        b.seed = 2;
        b.put("d/f", 0, 3 * bs)?;
        b.seed = 0;
        b.put("same", 0, 3 * bs)?;
        let (a, _) = b.file("a")?;
        let (sh, node) = b.file("sh")?;
        clone_file(&sh, &a)?;
        let data = b.data("a").to_vec();
        b.event(Event::Write { node, at: 0, data });
        b.set_xattr("a", b"old".to_vec())?;
        b.look_at_times()?;
        Ok(b.now)
    }

    /// Tells which times have changed.
    pub fn look_at_times(&mut self) -> Result {
        for (path, node) in self.now.names.clone() {
            let times = tree::times(&self.path(&path))?;
            if times != self.now.nodes[node].times {
                self.event(Event::Times { node, times });
            }
        }
        Ok(())
    }

    /// Tells what happened.
    pub fn event(&mut self, e: Event) {
        // An inode that was born since the beginning is told there.
        for n in self.history.start.nodes.len()..self.now.nodes.len() {
            self.history.start.nodes.push(self.now.nodes[n].clone());
        }
        self.now.apply(&e);
        self.history.events.push(e);
    }

    /// Does operation number `op` and what follows it. Returns whether anything was acknowledged, which the
    /// caller puts in the log.
    pub fn step(&mut self, op: usize, sync: Sync) -> Result<bool> {
        self.seed += 1;
        let changes = self.now.nodes.iter().map(|n| n.times.change);
        self.begun = changes.max().unwrap_or(0);
        let (name, run) = OPS[op];
        let target = run(self).ctx(name)?;
        self.look_at_times()?;
        let target = target.filter(|t| self.now.names.contains_key(*t));
        if sync == Sync::All {
            rustix::fs::syncfs(File::open(self.mnt)?).ctx("syncfs")?;
            self.event(Event::Ack(Ack::All));
            return Ok(true);
        }
        if sync == Sync::Other {
            self.set_xattr("same", self.pattern(0, 20))?;
            self.look_at_times()?;
        }
        let target = if sync == Sync::Other {
            Some("same")
        } else {
            target
        };
        let Some(path) = target else {
            return Ok(false);
        };
        let node = self.now.names[path];
        let regular = self.now.nodes[node].kind == Kind::File;
        let f = if regular {
            open(&self.path(path))?
        } else {
            File::open(self.path(path))?
        };
        match sync {
            Sync::Writeback if regular => sys::sync_range(&f, 0, 0).ctx("sync_file_range")?,
            Sync::Fsync | Sync::Other => f.sync_all().ctx("fsync")?,
            Sync::Fdatasync => f.sync_data().ctx("fdatasync")?,
            _ => return Ok(false),
        }
        let data_only = sync == Sync::Fdatasync && regular;
        if sync != Sync::Writeback {
            self.event(Event::Ack(Ack::Node { node, data_only }));
        }
        Ok(sync != Sync::Writeback)
    }

    /// All is acknowledged by an unmount.
    pub fn unmounted(&mut self) {
        self.event(Event::Ack(Ack::All));
    }

    /// Where `name` is.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            self.mnt.into()
        } else {
            self.mnt.join(name)
        }
    }

    /// Is the path there?
    pub fn has(&self, path: &str) -> bool {
        self.now.names.contains_key(path)
    }

    /// Contents of a file; empty if it is not there.
    pub fn data(&self, path: &str) -> &[u8] {
        let node = self.now.names.get(path);
        node.map_or(&[], |n| &self.now.nodes[*n].data)
    }

    /// Size of a file.
    pub fn size(&self, path: &str) -> usize {
        self.data(path).len()
    }

    /// Inode of the folder that `path` lies in.
    pub fn folder(&self, path: &str) -> usize {
        self.now.names[path.rsplit_once('/').map_or("", |(d, _)| d)]
    }

    /// An inode that has no name yet.
    pub fn fresh(&mut self, kind: Kind, mode: u32) -> usize {
        let mut node = Node::new(kind, mode);
        let (born, data, change) = (self.begun, self.begun, self.begun);
        node.times = Times { born, data, change };
        self.now.nodes.push(node);
        self.now.nodes.len() - 1
    }

    /// A new inode gets a name.
    pub fn born(&mut self, path: &str, node: usize) {
        let touches = vec![node, self.folder(path)];
        self.event(Event::Names {
            changes: vec![(path.into(), Some(node))],
            touches,
            born: Some(node),
        });
    }

    /// Opens a regular file; makes it if it is not there.
    pub fn file(&mut self, path: &str) -> Result<(File, usize)> {
        let there = self.has(path);
        let f = open(&self.path(path))?;
        if !there {
            // What the umask leaves.
            let mode = f.metadata()?.permissions().mode() & 0o7777;
            let node = self.fresh(Kind::File, mode);
            self.born(path, node);
        }
        Ok((f, self.now.names[path]))
    }

    /// Makes a directory.
    pub fn make_dir(&mut self, path: &str) -> Result {
        fs::create_dir(self.path(path))?;
        let mode = fs::metadata(self.path(path))?.permissions().mode() & 0o7777;
        let node = self.fresh(Kind::Dir, mode);
        self.born(path, node);
        Ok(())
    }

    /// Bytes that only this operation writes.
    pub fn pattern(&self, at: usize, len: usize) -> Vec<u8> {
        patterned(self.seed, at as u64, len)
    }

    /// Writes the pattern.
    pub fn put(&mut self, path: &str, at: usize, len: usize) -> Target {
        let (f, node) = self.file(path)?;
        let data = self.pattern(at, len);
        f.write_all_at(&data, at as u64).ctx("write")?;
        self.event(Event::Write { node, at, data });
        Ok(Some("a"))
    }

    /// The same to `a`, by direct I/O.
    pub fn put_direct(&mut self, at: usize, len: usize) -> Target {
        let (_, node) = self.file("a")?;
        let f = open_direct(&self.path("a"))?;
        let data = self.pattern(at, len);
        let done = f.write_at(&Aligned::from(&data), at as u64);
        ensure_eq!(done.ctx("direct write")?, len, "direct write");
        self.event(Event::Write { node, at, data });
        Ok(Some("a"))
    }

    /// Sets the size of `a`.
    pub fn resize(&mut self, size: usize) -> Target {
        let (f, node) = self.file("a")?;
        f.set_len(size as u64).ctx("truncate")?;
        self.event(Event::Resize { node, size });
        Ok(Some("a"))
    }

    /// The range reads as zeros now, as far as it lies in the file.
    pub fn zeroed(&mut self, node: usize, at: usize, len: usize) {
        let size = self.now.nodes[node].data.len();
        if at < size {
            let data = vec![0; len.min(size - at)];
            self.event(Event::Write { node, at, data });
        }
    }

    /// Sets the one attribute that there is.
    pub fn set_xattr(&mut self, path: &str, value: Vec<u8>) -> Result {
        let name = "user.x";
        rustix::fs::setxattr(self.path(path), name, &value, XattrFlags::empty())?;
        let node = self.now.names[path];
        self.event(Event::Xattr {
            node,
            name: name.into(),
            value: Some(value),
        });
        Ok(())
    }

    /// Tells names that changed.
    pub fn names(&mut self, changes: &[(&str, Option<usize>)], touches: &[usize]) {
        self.event(Event::Names {
            changes: changes.iter().map(|(p, n)| ((*p).into(), *n)).collect(),
            touches: touches.into(),
            born: None,
        });
    }
}

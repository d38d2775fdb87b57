// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Directories: names in a B+tree, keyed by a hash of the name.
//!
//! The key of an entry is `hash << 22 | seq`: 40 bits of SipHash-2-4 of the name under the
//! filesystem's own seed, and a sequence number that tells apart the names of one hash. As the hash
//! is keyed by a secret, nobody can fill one hash with names on purpose; a *run* (the entries of
//! one hash) is almost always one entry long.
//!
//! The key is also the position that readdir reports. It never changes while the name exists, so
//! positions stay valid while other names come and go. Positions 0 and 1 belong to `.` and `..`,
//! which are not stored; key 0 holds the number of the parent directory instead.

use core::ops::ControlFlow;

use crate::algo::btree::Tree;
use crate::algo::store::{NodeRead, NodeStore, TreeError};
use crate::format::dirent::{self, HEADER, SEQ_BITS};
pub use crate::format::dirent::{DT_DIR, FIRST_KEY, NAME_MAX, PARENT_KEY};
use crate::format::siphash::siphash24;
use crate::format::types::Ino;
use crate::seam::{FVec, NoMem};

/// What `i_size` of a directory counts for each entry.
pub const ENTRY_SIZE: u64 = 32;

const HASH_MASK: u64 = (1 << 40) - 1;
const MAX_RECORD: usize = HEADER + NAME_MAX;

/// A directory record as it lies in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The inode the name leads to.
    pub ino: Ino,
    /// Its type, one of the `DT_*` numbers.
    pub ftype: u8,
    /// The name; empty in the record of the parent.
    pub name: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses the value of the tree entry `key`; [`None`] if it is damaged.
    pub fn parse(key: u64, value: &'a [u8]) -> Option<Self> {
        dirent::verify(key, value).ok()?;
        let (ino, rest) = value.split_first_chunk::<8>()?;
        let (&ftype, name) = rest.split_first()?;
        Some(Self {
            ino: Ino::new(u64::from_le_bytes(*ino)),
            ftype,
            name,
        })
    }
}

/// The first key that `name` may have.
pub fn base_key(seed: &[u8; 16], name: &[u8]) -> u64 {
    // Hash 0 would collide with the parent's record.
    (siphash24(seed, name) & HASH_MASK).max(1) << SEQ_BITS
}

/// The encoded form of a record, built on the stack.
struct Encoded {
    bytes: [u8; MAX_RECORD],
    len: usize,
}

impl Encoded {
    fn new(ino: Ino, ftype: u8, name: &[u8]) -> Result<Self, TreeError> {
        let mut bytes = [0; MAX_RECORD];
        let (head, rest) = bytes.split_at_mut(HEADER);
        let (number, kind) = head.split_at_mut(8);
        number.copy_from_slice(&ino.get().to_le_bytes());
        kind.fill(ftype);
        rest.get_mut(..name.len())
            .ok_or(TreeError::TooBig)?
            .copy_from_slice(name);
        Ok(Self {
            bytes,
            len: HEADER + name.len(),
        })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// A name found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key, which [`remove`] and [`replace`] take.
    pub key: u64,
    /// The inode it leads to.
    pub ino: Ino,
    /// The type recorded with it.
    pub ftype: u8,
}

/// What the search of a run brought.
struct Run {
    found: Option<Found>,
    /// The lowest key of the run that is not taken.
    vacant: Option<u64>,
}

fn damaged<S: NodeRead>(t: &Tree, s: &S) -> S::Error {
    t.damaged(s, "directory record")
}

fn search<S: NodeRead>(t: &Tree, s: &S, seed: &[u8; 16], name: &[u8]) -> Result<Run, S::Error> {
    let base = base_key(seed, name);
    let last = base | (FIRST_KEY - 1);
    let (mut found, mut bad) = (None, false);
    let mut vacant = Some(base);
    t.scan(s, base, |key, value| {
        if key > last {
            return ControlFlow::Break(());
        }
        if vacant == Some(key) {
            vacant = (key < last).then_some(key + 1);
        }
        match Record::parse(key, value) {
            None => {
                bad = true;
                ControlFlow::Break(())
            }
            Some(r) if r.name == name => {
                found = Some(Found {
                    key,
                    ino: r.ino,
                    ftype: r.ftype,
                });
                ControlFlow::Break(())
            }
            Some(_) => ControlFlow::Continue(()),
        }
    })?;
    if bad {
        return Err(damaged(t, s));
    }
    Ok(Run { found, vacant })
}

/// Looks `name` up.
pub fn lookup<S: NodeRead>(
    t: &Tree,
    s: &S,
    seed: &[u8; 16],
    name: &[u8],
) -> Result<Option<Found>, S::Error> {
    Ok(search(t, s, seed, name)?.found)
}

/// Adds `name`; [`TreeError::Exists`] if it is there already. Returns its key.
pub fn insert<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    seed: &[u8; 16],
    name: &[u8],
    ino: Ino,
    ftype: u8,
) -> Result<u64, S::Error> {
    let run = search(t, s, seed, name)?;
    if run.found.is_some() {
        return Err(TreeError::Exists.into());
    }
    let key = run.vacant.ok_or(TreeError::TooBig)?;
    t.insert(s, key, Encoded::new(ino, ftype, name)?.as_bytes())?;
    Ok(key)
}

/// Takes out the entry at `key`, as [`lookup`] reported it.
pub fn remove<S: NodeStore>(t: &mut Tree, s: &mut S, key: u64) -> Result<(), S::Error> {
    t.remove(s, key)
}

/// Lets the entry at `key`, whose name is `name`, lead to another inode.
pub fn replace<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    key: u64,
    name: &[u8],
    ino: Ino,
    ftype: u8,
) -> Result<(), S::Error> {
    t.replace(s, key, Encoded::new(ino, ftype, name)?.as_bytes())
}

/// Whether no name is left.
pub fn is_empty<S: NodeRead>(t: &Tree, s: &S) -> Result<bool, S::Error> {
    Ok(t.ceil(s, FIRST_KEY)?.is_none())
}

/// The parent directory.
pub fn parent<S: NodeRead>(t: &Tree, s: &S) -> Result<Ino, S::Error> {
    let value = t.get(s, PARENT_KEY)?;
    match value.as_ref().and_then(|v| Record::parse(PARENT_KEY, v)) {
        Some(r) => Ok(r.ino),
        None => Err(damaged(t, s)),
    }
}

/// Writes the parent's record into a new, empty directory.
pub fn init<S: NodeStore>(t: &mut Tree, s: &mut S, parent: Ino) -> Result<(), S::Error> {
    t.insert(s, PARENT_KEY, Encoded::new(parent, DT_DIR, b"")?.as_bytes())
}

/// Changes the parent's record.
pub fn set_parent<S: NodeStore>(t: &mut Tree, s: &mut S, parent: Ino) -> Result<(), S::Error> {
    replace(t, s, PARENT_KEY, b"", parent, DT_DIR)
}

/// Names copied out of a directory, for a reader that may not hold its lock while it hands them on.
#[derive(Default)]
pub struct Batch {
    keys: FVec<(u64, u16)>,
    bytes: FVec<u8>,
}

impl Batch {
    /// An empty batch with room for about `bytes` bytes of records.
    pub fn with_capacity(bytes: usize) -> Result<Self, NoMem> {
        Ok(Self {
            keys: FVec::with_capacity(bytes / 32)?,
            bytes: FVec::with_capacity(bytes)?,
        })
    }

    /// Whether it holds no name.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Its names with their keys, in ascending order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Record<'_>)> + '_ {
        let mut rest: &[u8] = &self.bytes;
        self.keys.iter().filter_map(move |&(key, len)| {
            let (value, tail) = rest.split_at_checked(usize::from(len))?;
            rest = tail;
            Some((key, Record::parse(key, value)?))
        })
    }

    /// Refills the batch with the names from key `from` on, as far as they fit.
    ///
    /// An empty batch afterwards means that there are no more.
    pub fn fill<S: NodeRead>(&mut self, t: &Tree, s: &S, from: u64) -> Result<(), S::Error> {
        self.keys.clear();
        self.bytes.clear();
        let mut bad = false;
        t.scan(s, from.max(FIRST_KEY), |key, value| {
            if Record::parse(key, value).is_none() {
                bad = true;
                return ControlFlow::Break(());
            }
            match self.push(key, value) {
                Some(()) => ControlFlow::Continue(()),
                None => ControlFlow::Break(()),
            }
        })?;
        // Names before a damaged record are still worth reporting; the next call finds it first.
        if bad && self.keys.is_empty() {
            return Err(damaged(t, s));
        }
        Ok(())
    }

    fn push(&mut self, key: u64, value: &[u8]) -> Option<()> {
        let len = u16::try_from(value.len()).ok()?;
        if self.keys.capacity() == self.keys.len() || !self.bytes.extend_within_capacity(value) {
            return None;
        }
        self.keys.push_within_capacity((key, len)).ok()
    }
}

/// `i_size` of a directory with `entries` names.
pub fn size_for(entries: u64) -> u64 {
    entries.saturating_mul(ENTRY_SIZE)
}

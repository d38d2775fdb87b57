// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Extended attributes of one inode: look-up, change, listing.
//!
//! The key of an attribute in the tree is 40 bits of SipHash-2-4 of namespace and name under the
//! filesystem's own seed, and a sequence number for names of one hash, as in directories; the low
//! bits count the pieces. A value that is replaced keeps its key, so that its pieces are
//! overwritten in place and a change costs about the blocks that the longer value fills.

use core::ops::ControlFlow;

use crate::algo::btree::Tree;
use crate::algo::store::{NodeId, NodeRead, NodeStore, TreeError, LEVEL_ANY};
use crate::format::node::header_mut;
use crate::format::siphash::siphash24;
use crate::format::types::{BlockNr, Ino, Kind};
use crate::format::xattr::{
    form, head, piece_of, pieces, short, tree_area, First, AREA, FORM_SHORT, NAME_MAX, PIECE,
    PIECE_BITS, SEQ_BITS, SHORT_HEAD, VALUE_MAX,
};
pub use crate::format::xattr::{Form, Name};

const HASH_MASK: u64 = (1 << 40) - 1;
/// From one attribute's first key to the next one's.
const STRIDE: u64 = 1 << PIECE_BITS;
/// A listing steps over a value of more pieces than this with a new descent.
const SKIP: u64 = 8;

/// The attributes of an inode. A plain value: edit a copy and store area and count back once the
/// edit has been published. After a failed edit the copy is worthless (C5).
#[derive(Clone, Copy)]
pub struct Attrs {
    owner: Ino,
    area: [u8; AREA],
    delta: i64,
}

/// An attribute found in the tree.
struct Found {
    key: u64,
    value_len: usize,
    pieces: u64,
}

/// What the search among the names of one hash brought.
struct Run {
    found: Option<Found>,
    /// The lowest key of the run that is not taken.
    vacant: Option<u64>,
}

fn damaged<S: NodeRead>(t: &Tree, s: &S) -> S::Error {
    t.damaged(s, "extended attribute")
}

/// The first key that `name` may have.
pub fn base_key(seed: &[u8; 16], name: Name<'_>) -> u64 {
    let mut bytes = [0; 1 + NAME_MAX];
    let mut len = 0;
    for (to, &from) in bytes.iter_mut().zip([name.index].iter().chain(name.name)) {
        *to = from;
        len += 1;
    }
    (siphash24(seed, bytes.get(..len).unwrap_or_default()) & HASH_MASK) << SEQ_BITS
}

/// Piece `i` of the string that `parts` make up.
fn cut<'b>(parts: [&[u8]; 3], i: u64, piece: &'b mut [u8; PIECE]) -> &'b [u8] {
    // CAST: At most `PIECE << PIECE_BITS`.
    let mut skip = (i as usize).saturating_mul(PIECE);
    let mut len = 0;
    for part in parts {
        let from = part.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(part.len());
        for (to, &b) in piece.iter_mut().skip(len).zip(from) {
            *to = b;
            len += 1;
        }
    }
    piece.get(..len).unwrap_or_default()
}

fn search<S: NodeRead>(t: &Tree, s: &S, seed: &[u8; 16], name: Name<'_>) -> Result<Run, S::Error> {
    let base = base_key(seed, name);
    let last = base | ((1 << SEQ_BITS) - 1);
    let (mut found, mut bad) = (None, false);
    let mut vacant = Some(base);
    t.scan(s, base, |key, value| {
        if key > last {
            return ControlFlow::Break(());
        }
        if piece_of(key) != 0 {
            return ControlFlow::Continue(());
        }
        if vacant == Some(key) {
            vacant = key.checked_add(STRIDE).filter(|&k| k <= last);
        }
        match First::parse(value) {
            Ok(first) if first.name == name => {
                found = Some(Found {
                    key,
                    value_len: first.value_len,
                    pieces: first.pieces(),
                });
                ControlFlow::Break(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(_) => {
                bad = true;
                ControlFlow::Break(())
            }
        }
    })?;
    match bad {
        true => Err(damaged(t, s)),
        false => Ok(Run { found, vacant }),
    }
}

/// Writes an attribute over `run.found`, or under a new key.
fn write<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    run: &Run,
    name: Name<'_>,
    value: &[u8],
) -> Result<(), S::Error> {
    let (key, old) = match &run.found {
        Some(f) => (f.key, f.pieces),
        None => (run.vacant.ok_or(TreeError::TooBig)?, 0),
    };
    let new = pieces(name, value.len());
    let head = head(name, value.len());
    let mut buf = [0; PIECE];
    for i in 0..new {
        let piece = cut([&head, name.name, value], i, &mut buf);
        if i < old {
            t.replace(s, key + i, piece)?;
        } else {
            t.insert(s, key + i, piece)?;
        }
    }
    remove_pieces(t, s, key, new, old)
}

/// Removes pieces `from..to` of the attribute at `key`, the last one first.
fn remove_pieces<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    key: u64,
    from: u64,
    to: u64,
) -> Result<(), S::Error> {
    (from..to).rev().try_for_each(|i| t.remove(s, key + i))
}

/// Appends an attribute to an area; [`None`] if it does not fit.
fn put(area: &mut [u8; AREA], at: &mut usize, name: Name<'_>, value: &[u8]) -> Option<()> {
    let lens = [name.name.len(), value.len()].map(|n| u8::try_from(n).ok());
    let [Some(name_len), Some(value_len)] = lens else {
        return None;
    };
    for part in [&[name.index, name_len, value_len], name.name, value] {
        let end = *at + part.len();
        area.get_mut(*at..end)?.copy_from_slice(part);
        *at = end;
    }
    Some(())
}

/// Whether attributes with names and values of so many bytes fit into the inode record.
pub fn fit_short(sizes: impl Iterator<Item = (usize, usize)>) -> bool {
    let total = sizes.fold(1usize, |sum, (name, value)| {
        sum.saturating_add(SHORT_HEAD + name).saturating_add(value)
    });
    total <= AREA
}

impl Attrs {
    /// The attributes that the area of inode `owner` leads to.
    pub const fn new(owner: Ino, area: [u8; AREA]) -> Self {
        Self {
            owner,
            area,
            delta: 0,
        }
    }

    /// Whether `name` with `value` has room in `area`, if there is no tree.
    pub fn fits_short(area: &[u8; AREA], name: Name<'_>, value: &[u8]) -> bool {
        Self::new(Ino::GLOBAL, *area)
            .edit_short(name, Some(value))
            .is_some()
    }

    /// The area to store back.
    pub const fn area(&self) -> &[u8; AREA] {
        &self.area
    }

    /// Blocks that the inode gained (or lost) since this value was made.
    pub const fn delta(&self) -> i64 {
        self.delta
    }

    fn tree_at(&self, root: BlockNr) -> Tree {
        Tree::fixed(Kind::Xattr, self.owner, root)
    }

    /// Levels of the tree, 0 if there is none.
    pub fn height<S: NodeRead>(&self, s: &S) -> Result<u8, S::Error> {
        match form(&self.area) {
            Form::Tree(root) => self.tree_at(root).height(s),
            _ => Ok(0),
        }
    }

    /// Calls `f` on the blocks of the tree as [`Tree::nodes`] does. Returns whether there is a tree.
    pub fn nodes<S: NodeRead>(
        &self,
        s: &S,
        skip: u64,
        f: impl FnMut(BlockNr) -> ControlFlow<()>,
    ) -> Result<bool, S::Error> {
        let Form::Tree(root) = form(&self.area) else {
            return Ok(false);
        };
        self.tree_at(root).nodes(s, skip, f)?;
        Ok(true)
    }

    /// Length of the value of `name`, which is copied out if it is not longer than `out`.
    pub fn get<S: NodeRead>(
        &self,
        s: &S,
        seed: &[u8; 16],
        name: Name<'_>,
        out: &mut [u8],
    ) -> Result<Option<usize>, S::Error> {
        let tree = match form(&self.area) {
            Form::None => return Ok(None),
            Form::Short => {
                let found = short(&self.area).find(|(n, _)| *n == name);
                return Ok(found.map(|(_, value)| {
                    if let Some(out) = out.get_mut(..value.len()) {
                        out.copy_from_slice(value);
                    }
                    value.len()
                }));
            }
            Form::Tree(root) => self.tree_at(root),
        };
        let Some(found) = search(&tree, s, seed, name)?.found else {
            return Ok(None);
        };
        let Some(mut rest) = out.get_mut(..found.value_len) else {
            return Ok(Some(found.value_len));
        };
        let mut next = found.key;
        let mut whole = true;
        tree.scan(s, found.key, |key, piece| {
            if next >= found.key + found.pieces {
                return ControlFlow::Break(());
            }
            let bytes = match First::parse(piece) {
                Ok(first) if key == found.key => first.value,
                _ => piece,
            };
            let to = core::mem::take(&mut rest).split_at_mut_checked(bytes.len());
            let Some((to, tail)) = to.filter(|_| key == next) else {
                whole = false;
                return ControlFlow::Break(());
            };
            to.copy_from_slice(bytes);
            (rest, next) = (tail, next + 1);
            ControlFlow::Continue(())
        })?;
        match whole && rest.is_empty() && next == found.key + found.pieces {
            true => Ok(Some(found.value_len)),
            false => Err(damaged(&tree, s)),
        }
    }

    /// Calls `f` with each name and the length of its value. It runs inside the store's
    /// `with_node`: no user memory, no other tree call from there (D4).
    pub fn for_each<S: NodeRead>(
        &self,
        s: &S,
        mut f: impl FnMut(Name<'_>, usize),
    ) -> Result<(), S::Error> {
        let tree = match form(&self.area) {
            Form::None => return Ok(()),
            Form::Short => {
                short(&self.area).for_each(|(name, value)| f(name, value.len()));
                return Ok(());
            }
            Form::Tree(root) => self.tree_at(root),
        };
        let mut from = Some(0);
        let mut bad = false;
        while let Some(start) = from.take() {
            tree.scan(s, start, |key, value| {
                if piece_of(key) != 0 {
                    return ControlFlow::Continue(());
                }
                let Ok(first) = First::parse(value) else {
                    bad = true;
                    return ControlFlow::Break(());
                };
                f(first.name, first.value_len);
                if first.pieces() > SKIP {
                    from = Some(key + STRIDE);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
        }
        match bad {
            true => Err(damaged(&tree, s)),
            false => Ok(()),
        }
    }

    /// Sets `name` to `value`, or removes it. Removing what is not there does nothing.
    /// Errors: [`TreeError::TooBig`] and those of the store.
    pub fn set<S: NodeStore>(
        &mut self,
        s: &mut S,
        seed: &[u8; 16],
        name: Name<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), S::Error> {
        if name.name.len() > NAME_MAX || value.is_some_and(|v| v.len() > VALUE_MAX) {
            return Err(TreeError::TooBig.into());
        }
        let (root, mut tree) = match form(&self.area) {
            Form::Tree(root) => (root, self.tree_at(root)),
            _ => {
                if let Some(area) = self.edit_short(name, value) {
                    self.area = area;
                    return Ok(());
                }
                self.grow_tree(s, seed, name)?
            }
        };
        let run = search(&tree, s, seed, name)?;
        match (value, &run.found) {
            (Some(value), _) => write(&mut tree, s, &run, name, value)?,
            (None, Some(f)) => remove_pieces(&mut tree, s, f.key, 0, f.pieces)?,
            (None, None) => {}
        }
        self.settle(s, root, &tree)
    }

    /// Removes one record of the tree, which may leave an attribute without its first pieces.
    /// Returns whether there was one. For inodes that nobody can reach any more.
    pub fn remove_any<S: NodeStore>(&mut self, s: &mut S) -> Result<bool, S::Error> {
        let Form::Tree(root) = form(&self.area) else {
            return Ok(false);
        };
        let mut tree = self.tree_at(root);
        if let Some((key, ())) = tree.ceil_with(s, 0, |key, _| (key, ()))? {
            tree.remove(s, key)?;
        }
        self.settle(s, root, &tree)?;
        Ok(true)
    }

    /// The area with `name` set to `value` or without it; [`None`] if it does not fit.
    fn edit_short(&self, name: Name<'_>, value: Option<&[u8]>) -> Option<[u8; AREA]> {
        let mut area = [0; AREA];
        let mut at = 1;
        if let Form::Short = form(&self.area) {
            for (old, value) in short(&self.area).filter(|(old, _)| *old != name) {
                put(&mut area, &mut at, old, value)?;
            }
        }
        if let Some(value) = value {
            put(&mut area, &mut at, name, value)?;
        }
        if at > 1 {
            *area.first_mut()? = FORM_SHORT;
        }
        Some(area)
    }

    /// Makes a tree of the attributes in the area, all but `name`.
    fn grow_tree<S: NodeStore>(
        &mut self,
        s: &mut S,
        seed: &[u8; 16],
        name: Name<'_>,
    ) -> Result<(BlockNr, Tree), S::Error> {
        let root = s.alloc_node(self.owner, Kind::Xattr, 0, BlockNr::ZERO)?;
        if let Some(header) = header_mut(s.node_mut(self.root_id(root))?) {
            header.tree_blocks.set(1);
        }
        self.delta += 1;
        let mut tree = self.tree_at(root);
        if let Form::Short = form(&self.area) {
            for (old, value) in short(&self.area).filter(|(old, _)| *old != name) {
                let run = search(&tree, s, seed, old)?;
                write(&mut tree, s, &run, old, value)?;
            }
        }
        self.area = tree_area(root);
        Ok((root, tree))
    }

    /// Takes over an edited tree, and gives up one that is empty.
    fn settle<S: NodeStore>(
        &mut self,
        s: &mut S,
        root: BlockNr,
        tree: &Tree,
    ) -> Result<(), S::Error> {
        self.delta += tree.delta();
        if tree.ceil_with(s, 0, |_, _| ())?.is_none() {
            s.free_node(self.root_id(root))?;
            self.delta -= 1;
            self.area = [0; AREA];
        }
        Ok(())
    }

    fn root_id(&self, block: BlockNr) -> NodeId {
        NodeId {
            block,
            owner: self.owner,
            kind: Kind::Xattr,
            // Before the edit it may have been another.
            level: LEVEL_ANY,
        }
    }
}

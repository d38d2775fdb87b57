// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A change of one record of a node, as a value: checked while it may still fail, made later, in
//! place, when it must not (C5). It spares the store a private copy of the node.

use super::node::{weight_of, Broken, Edit, Layout, View};
use crate::format::node::InlineRoot;
use crate::seam::{FVec, NoMem};

/// A change of one record. `at` is its place among the records of the node.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A new record before record `at`.
    Insert {
        /// The place.
        at: usize,
        /// Its key, which lies between those of its neighbours.
        key: u64,
        /// Its value.
        value: &'a [u8],
    },
    /// Another value for record `at`, of any length.
    Replace {
        /// The place.
        at: usize,
        /// The value.
        value: &'a [u8],
    },
    /// Record `at` goes.
    Remove {
        /// The place.
        at: usize,
    },
}

impl Change<'_> {
    /// Whether a block node can take the change. If so [`Change::apply`] does not fail.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Broken> {
        let view = View::new(bytes, Layout::Block)?;
        let fits = match *self {
            Self::Insert { at, value, .. } => {
                at <= view.len() && weight_of(value.len()) <= view.room()
            }
            Self::Replace { at, value } => {
                value.len() <= view.room().saturating_add(view.value(at)?.len())
            }
            Self::Remove { at } => at < view.len(),
        };
        fits.then_some(()).ok_or("node: no room for a change")
    }

    /// Makes the change in a block node.
    pub fn apply(&self, bytes: &mut [u8]) -> Result<(), Broken> {
        self.make(&mut Edit::new(bytes, Layout::Block))
    }

    /// Makes the change in an inline root.
    pub(super) fn apply_inline(&self, root: &mut InlineRoot) -> Result<(), Broken> {
        self.make(&mut Edit::new(&mut root.0, Layout::Inline))
    }

    fn make(&self, node: &mut Edit<'_>) -> Result<(), Broken> {
        match *self {
            Self::Insert { at, key, value } => node.insert(at, key, value),
            Self::Replace { at, value } => node.set_value(at, value),
            Self::Remove { at } => node.remove(at, at.saturating_add(1)),
        }
    }
}

/// What a [`Kept`] does to its record.
enum What {
    Insert { key: u64 },
    Replace,
    Remove,
}

/// A [`Change`] that owns its value.
pub struct Kept {
    at: usize,
    what: What,
    /// Not an array: most changes have a short value or none, and are moved around.
    value: FVec<u8>,
}

impl Kept {
    /// Keeps a change.
    pub fn new(change: Change<'_>) -> Result<Self, NoMem> {
        let (at, what, from): (_, _, &[u8]) = match change {
            Change::Insert { at, key, value } => (at, What::Insert { key }, value),
            Change::Replace { at, value } => (at, What::Replace, value),
            Change::Remove { at } => (at, What::Remove, &[]),
        };
        let mut value = FVec::new();
        if !from.is_empty() {
            value.reserve(from.len())?;
            value.extend_within_capacity(from);
        }
        Ok(Self { at, what, value })
    }

    /// The change.
    pub fn change(&self) -> Change<'_> {
        let (at, value) = (self.at, &*self.value);
        match self.what {
            What::Insert { key } => Change::Insert { at, key, value },
            What::Replace => Change::Replace { at, value },
            What::Remove => Change::Remove { at },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::node::{self, NodeId};
    use crate::format::types::{BlockNr, Ino, Kind};
    use crate::random::Random;

    /// What is checked can be made, and leaves the node sound; what cannot be made fails the check.
    #[test]
    fn what_passes_the_check_can_be_made() {
        let uuid = [7; 16];
        let id = NodeId {
            block: BlockNr::new(9),
            owner: Ino::new(5),
            kind: Kind::Dir,
            level: 0,
        };
        let mut numbers = Random::new(3);
        let mut bytes = vec![0; 1024];
        node::init(&mut bytes, &id, &uuid);
        let (mut made, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let value = vec![numbers.below(256) as u8; numbers.below(273) as usize];
            let view = View::block(&bytes, &id).unwrap();
            let at = numbers.below(view.len() as u64 + 2) as usize;
            let below = at.checked_sub(1).and_then(|i| view.key(i));
            let lo = below.map_or(0, |key| key + 1);
            let hi = view.key(at).unwrap_or(1 << 40);
            let key = lo + hi.saturating_sub(lo) / 2;
            let change = match numbers.below(3) {
                0 if key < hi => Change::Insert {
                    at,
                    key,
                    value: &value,
                },
                1 => Change::Replace { at, value: &value },
                _ => Change::Remove { at },
            };
            let kept = Kept::new(change).unwrap();
            let before = bytes.clone();
            let fits = kept.change().check(&bytes).is_ok();
            let done = kept.change().apply(&mut bytes);
            assert_eq!(done.is_ok(), fits, "{change:?}: {done:?}");
            if fits {
                node::seal(&mut bytes, &uuid);
                node::verify_structure(&bytes, &id, &uuid).unwrap();
                made += 1;
            } else {
                bytes = before;
                refused += 1;
            }
        }
        assert!(made > 5_000 && refused > 1_000, "{made} {refused}");
    }
}

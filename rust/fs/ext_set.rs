// SPDX-License-Identifier: GPL-2.0

//! The extent locks of several inodes at once.

use core::array;

use super::inode::{ExtWrite, Inode, InodeExt};

/// The extent locks of up to five inodes, held exclusively.
///
/// They are taken in the order of the inodes' addresses (D6), whatever order they are named in, and
/// once for an inode that is named twice. lockdep sees them as subclasses 0 to 4.
pub(crate) struct ExtSet<'a> {
    locked: [Option<(&'a Inode, ExtWrite<'a>)>; 5],
}

fn same(a: &Inode, b: &Inode) -> bool {
    core::ptr::eq(a, b)
}

impl<'a> ExtSet<'a> {
    /// Locks all `inodes`.
    pub(crate) fn lock<const N: usize>(mut inodes: [&'a Inode; N]) -> Self {
        const { assert!(N <= 5) };
        inodes.sort_unstable_by_key(|i| core::ptr::from_ref(*i).addr());
        let mut last: Option<&Inode> = None;
        let mut nth = 0;
        let mut distinct = inodes.into_iter().filter(|i| {
            let new = last.is_none_or(|l| !same(l, i));
            last = Some(i);
            new
        });
        let locked = array::from_fn(|_| {
            let inode = distinct.next()?;
            let guard = inode.data().ext.write_nth(nth);
            nth += 1;
            Some((inode, guard))
        });
        Self { locked }
    }

    /// What the lock of `inode` protects.
    ///
    /// # Panics
    ///
    /// If `inode` is not among those that were locked, which no input can bring about.
    pub(crate) fn of(&mut self, inode: &Inode) -> &mut InodeExt {
        let held = self
            .locked
            .iter_mut()
            .flatten()
            .find(|(i, _)| same(i, inode));
        match held {
            Some((_, guard)) => guard,
            None => panic!("extent lock not taken"),
        }
    }
}

impl Drop for ExtSet<'_> {
    fn drop(&mut self) {
        // The scopes that the guards open close in reverse.
        for slot in self.locked.iter_mut().rev() {
            *slot = None;
        }
    }
}

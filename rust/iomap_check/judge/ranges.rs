// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What is known of ranges of files, in a list of fixed size that forgets when it is full.
//!
//! Nothing can be allocated where events come. What was forgotten is not judged, never wrongly.

use super::view::NULL_ADDR;
use core::ops::DerefMut;

/// A file, wherever its inode lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileId {
    /// Device of the filesystem.
    pub dev: (u32, u32),
    /// Inode number.
    pub ino: u64,
}

/// What is known of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum What {
    /// Nothing: the entry is free.
    #[default]
    Free,
    /// A direct write of it has ended well.
    Written,
    /// Writeback of it is under way, to an address.
    Flying,
    /// Writeback of it, to an address, has ended well.
    Settled,
    /// It was a hole, and no I/O to it was seen since.
    Hole,
    /// It was seen at an address.
    Owned,
}

/// One entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// What is known.
    pub what: What,
    /// Of which file.
    pub file: FileId,
    /// First byte in the file.
    pub from: i64,
    /// First byte after it.
    pub to: i64,
    /// Which block device; 0: none.
    pub dev: u64,
    /// Address on it of the first byte, or [`NULL_ADDR`].
    pub addr: u64,
}

impl Range {
    /// Its address at `pos`.
    pub fn at(&self, pos: i64) -> u64 {
        match self.addr {
            NULL_ADDR => NULL_ADDR,
            addr => addr.wrapping_add(pos.wrapping_sub(self.from) as u64),
        }
    }

    /// The part of it inside of `from` to `to`.
    fn part(&self, from: i64, to: i64) -> Option<Self> {
        let (from, to) = (self.from.max(from), self.to.min(to));
        let addr = self.at(from);
        (from < to).then_some(Self {
            from,
            to,
            addr,
            ..*self
        })
    }
}

/// The list.
#[derive(Debug, Default)]
pub struct Ranges<S> {
    slots: S,
    next: usize,
}

impl<S: DerefMut<Target = [Range]>> Ranges<S> {
    /// A list in `slots`, which are free.
    pub fn new(slots: S) -> Self {
        Self { slots, next: 0 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.fill(Range::default());
    }

    /// Entries in use.
    pub fn used(&self) -> usize {
        self.slots.iter().filter(|s| s.what != What::Free).count()
    }

    /// All entries.
    pub fn all(&self) -> impl Iterator<Item = &Range> {
        self.slots.iter().filter(|s| s.what != What::Free)
    }

    /// The parts of entries of these kinds between `from` and `to`.
    pub fn parts<'a>(
        &'a self,
        what: &'a [What],
        file: FileId,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = Range> + 'a {
        let of = move |s: &&Range| s.file == file && what.contains(&s.what);
        self.slots
            .iter()
            .filter(of)
            .filter_map(move |s| s.part(from, to))
    }

    /// Adds an entry; an empty one is nothing. The oldest goes when there is no room.
    pub fn add(&mut self, new: Range) {
        if new.from >= new.to {
            return;
        }
        let free = self.slots.iter().position(|s| s.what == What::Free);
        let at = free.unwrap_or_else(|| {
            self.next = (self.next + 1) % self.slots.len().max(1);
            self.next
        });
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = new;
        }
    }

    /// Forgets what entries of these kinds say of `from` to `to`.
    pub fn cut(&mut self, what: &[What], file: FileId, from: i64, to: i64) {
        for i in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(i) else {
                return;
            };
            let old = *slot;
            if old.file != file || !what.contains(&old.what) || old.part(from, to).is_none() {
                continue;
            }
            *slot = Range::default();
            for rest in [old.part(old.from, from), old.part(to, old.to)] {
                self.add(rest.unwrap_or_default());
            }
        }
    }

    /// Makes entries of one kind of a file another kind, or free.
    pub fn turn(&mut self, file: FileId, from: What, to: What) {
        for s in self.slots.iter_mut() {
            if s.file == file && s.what == from {
                s.what = to;
            }
        }
    }
}

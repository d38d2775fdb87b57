// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The small numbers that must not be mixed up: device blocks, inode numbers, kinds of tree.

use core::fmt;

/// Number of a block on the device, counted in blocks of the filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockNr(u64);

impl BlockNr {
    /// Block 0 holds the superblock; as the place of a tree node it means "the inline root".
    pub const ZERO: Self = Self(0);

    /// Wraps a raw number; whether it lies on the device is a question for the geometry (C11).
    pub const fn new(block: u64) -> Self {
        Self(block)
    }

    /// The raw number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The block `blocks` further on, or `None` beyond 2^64.
    pub const fn checked_add(self, blocks: u64) -> Option<Self> {
        match self.0.checked_add(blocks) {
            Some(block) => Some(Self(block)),
            None => None,
        }
    }
}

impl fmt::Display for BlockNr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Inode number. As the owner of a tree, 0 stands for the filesystem itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(u64);

impl Ino {
    /// The owner of the global trees.
    pub const GLOBAL: Self = Self(0);

    /// Wraps a raw inode number.
    pub const fn new(ino: u64) -> Self {
        Self(ino)
    }

    /// The raw number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a tree holds. The number is on disk in every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Inode records by inode number (global).
    Inodes = 1,
    /// Extents of a file by file block.
    Extents = 2,
    /// Entries of a directory by hash of the name.
    Dir = 3,
    /// Extended attributes.
    Xattr = 4,
    /// Reference counts of two and more by physical block (global).
    Refcount = 5,
    /// Inodes with work left to do, by inode number (global).
    Orphans = 6,
    /// Target of a symbolic link in pieces.
    Symlink = 7,
}

impl Kind {
    /// The kind with this number on disk.
    pub const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Inodes,
            2 => Self::Extents,
            3 => Self::Dir,
            4 => Self::Xattr,
            5 => Self::Refcount,
            6 => Self::Orphans,
            7 => Self::Symlink,
            _ => return None,
        })
    }

    /// The number on disk.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

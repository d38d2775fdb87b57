// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Where things are: groups, fixed areas, journal, roots.
//!
//! ```text
//! group 0:  superblock | descriptors | bitmap | journal, if it fits | inode, refcount, orphan root
//! group 1:  copy of the superblock | bitmap | ...
//! group g:  bitmap | ...             (the journal, where it did not fit: group ngroups / 2)
//! ```
//!
//! A [`Layout`] is what somebody says; a [`Geometry`] is a layout that holds. Every block number
//! from disk passes [`Geometry::check_block`] or [`Geometry::check_range`] (C11).

use super::refcount;
use super::types::BlockNr;
use crate::algo::btree::worst_nodes;

/// Bytes of a group descriptor.
pub const DESC_SIZE: u64 = 32;
/// Fewest blocks of a journal: one step of a completion must fit into an eighth of it (B1).
pub const JOURNAL_MIN: u64 = 2048;
/// Most blocks of a journal made by default.
pub const JOURNAL_MAX: u64 = 32768;
/// A last group shorter than this is left unused.
pub const LAST_GROUP_MIN: u64 = 64;
/// Fewest blocks that must be left for data.
pub const DATA_MIN: u64 = 64;

/// What a superblock says about places. Nothing is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Identity of the filesystem.
    pub uuid: [u8; 16],
    /// log2 of the block size.
    pub block_size_log: u32,
    /// Blocks of the filesystem.
    pub blocks: u64,
    /// First block of the group descriptors.
    pub desc_start: u64,
    /// Blocks of group descriptors.
    pub desc_blocks: u64,
    /// Groups.
    pub ngroups: u64,
    /// First block of the journal.
    pub journal_start: u64,
    /// Blocks of the journal.
    pub journal_blocks: u64,
    /// Root of the inode tree.
    pub inode_root: u64,
    /// Root of the tree of reference counts.
    pub refcount_root: u64,
    /// Root of the orphan tree.
    pub orphan_root: u64,
    /// Copy of the superblock, 0 if there is none.
    pub backup_block: u64,
}

impl Layout {
    /// The layout for a device of `blocks` blocks of `1 << block_size_log` bytes. The filesystem
    /// may come out a few blocks shorter than the device.
    pub fn plan(block_size_log: u32, blocks: u64, uuid: [u8; 16]) -> Result<Self, &'static str> {
        const SMALL: &str = "device too small for a journal of 2048 blocks and some data";
        if !(10..=12).contains(&block_size_log) {
            return Err("block size is not one of 1024, 2048, 4096");
        }
        let group_log = block_size_log.saturating_add(3);
        let group = 1u64 << group_log;
        let mut blocks = blocks.min(1 << 56);
        let tail = blocks & (group - 1);
        if blocks > group && tail < LAST_GROUP_MIN {
            blocks = blocks.saturating_sub(tail);
        }
        let ngroups = blocks.div_ceil(group);
        let per_block = (1u64 << block_size_log) / DESC_SIZE;
        let needed = ngroups.div_ceil(per_block);
        if needed > group / 2 {
            return Err("device too large for this block size");
        }
        // Room for a filesystem 1024 times as large, where that costs little.
        let room = ngroups.saturating_mul(1024).div_ceil(per_block);
        let desc_blocks = room.min(blocks / 1024).min(group / 2).max(needed);
        let largest = JOURNAL_MAX.min(group.saturating_sub(LAST_GROUP_MIN));
        let journal_blocks = (blocks / 16).clamp(JOURNAL_MIN, largest);
        let head = desc_blocks.saturating_add(2);
        let first = blocks.min(group);
        let (journal_start, inode_root) = if head.saturating_add(journal_blocks) + 8 <= first {
            (head, head.saturating_add(journal_blocks))
        } else if ngroups >= 3 {
            let g = ngroups / 2;
            let start = (g << group_log).saturating_add(if g == 1 { 2 } else { 1 });
            (start, head)
        } else {
            return Err(SMALL);
        };
        let layout = Self {
            uuid,
            block_size_log,
            blocks,
            desc_start: 1,
            desc_blocks,
            ngroups,
            journal_start,
            journal_blocks,
            inode_root,
            refcount_root: inode_root.saturating_add(1),
            orphan_root: inode_root.saturating_add(2),
            backup_block: if ngroups >= 2 { group } else { 0 },
        };
        let geo = Geometry::check(&layout)?;
        let kept = geo.refcount_reserve().saturating_add(geo.pool_blocks());
        let used = geo.fixed_blocks().saturating_add(3);
        if blocks < used.saturating_add(kept).saturating_add(DATA_MIN) {
            return Err(SMALL);
        }
        Ok(layout)
    }
}

/// A layout that holds.
///
/// # Invariants
///
/// The block size is 1024, 2048 or 4096; all places lie on the device, none of them overlap; each
/// group is longer than its head; the journal lies within one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    layout: Layout,
}

impl Geometry {
    /// Checks a layout, all but the size of the device.
    pub fn check(layout: &Layout) -> Result<Self, &'static str> {
        if !(10..=12).contains(&layout.block_size_log) {
            return Err("block size is not one of 1024, 2048, 4096");
        }
        let l = *layout;
        let group = 1u64 << l.block_size_log.saturating_add(3);
        if l.blocks == 0 || l.blocks > 1 << 56 || l.ngroups != l.blocks.div_ceil(group) {
            return Err("number of groups does not fit the number of blocks");
        }
        let per_block = (1u64 << l.block_size_log) / DESC_SIZE;
        if l.desc_start != 1 || l.desc_blocks < l.ngroups.div_ceil(per_block) {
            return Err("group descriptors do not fit the number of groups");
        }
        if l.desc_blocks > group / 2 {
            return Err("more group descriptors than group 0 may hold");
        }
        let geo = Self { layout: l };
        let (last, len) = geo.group_range(l.ngroups.saturating_sub(1));
        if len <= geo.head(geo.group_of(last)) {
            return Err("last group is too short");
        }
        if l.backup_block != if l.ngroups >= 2 { group } else { 0 } {
            return Err("copy of the superblock is not at the start of group 1");
        }
        if l.journal_blocks < JOURNAL_MIN {
            return Err("journal is too short");
        }
        geo.check_journal()?;
        let roots = [l.inode_root, l.refcount_root, l.orphan_root];
        for root in roots {
            geo.check_block(BlockNr::new(root))
                .map_err(|_| "root of a tree is out of place")?;
        }
        if [Some(l.refcount_root), Some(l.orphan_root)]
            != [1, 2].map(|n| l.inode_root.checked_add(n))
        {
            return Err("roots of the trees are not side by side");
        }
        // INVARIANT: checked above.
        Ok(geo)
    }

    fn check_journal(&self) -> Result<(), &'static str> {
        const PLACE: &str = "journal is out of place";
        let l = &self.layout;
        if l.journal_start >= l.blocks {
            return Err(PLACE);
        }
        let g = self.group_of(BlockNr::new(l.journal_start));
        let (start, len) = self.group_range(g);
        let at = l.journal_start.saturating_sub(start.get());
        let end = at.checked_add(l.journal_blocks).ok_or(PLACE)?;
        if at < self.head(g) || end > len {
            return Err(PLACE);
        }
        Ok(())
    }

    /// The layout when the filesystem has grown to `blocks` blocks, less a last group that would
    /// be too short. Says why not: it cannot shrink, nor outgrow its descriptors.
    pub fn grown(&self, blocks: u64) -> Result<Self, &'static str> {
        let mut l = self.layout;
        let group = self.group_blocks();
        let tail = blocks & (group - 1);
        l.blocks = if blocks > group && tail < LAST_GROUP_MIN {
            blocks.saturating_sub(tail)
        } else {
            blocks
        };
        if l.blocks < self.layout.blocks {
            return Err("a filesystem cannot shrink");
        }
        l.ngroups = l.blocks.div_ceil(group);
        if l.ngroups >= 2 {
            l.backup_block = group;
        }
        Self::check(&l)
    }

    /// Block size, bytes.
    pub const fn block_size(&self) -> u64 {
        1 << self.layout.block_size_log
    }

    /// log2 of the block size.
    pub const fn block_shift(&self) -> u32 {
        self.layout.block_size_log
    }

    /// Identity of the filesystem.
    pub const fn uuid(&self) -> &[u8; 16] {
        &self.layout.uuid
    }

    /// Blocks of the filesystem.
    pub const fn blocks(&self) -> u64 {
        self.layout.blocks
    }

    /// Groups.
    pub const fn ngroups(&self) -> u64 {
        self.layout.ngroups
    }

    /// First block of the group descriptors.
    pub const fn desc_start(&self) -> BlockNr {
        BlockNr::new(self.layout.desc_start)
    }

    /// Blocks of group descriptors.
    pub const fn desc_blocks(&self) -> u64 {
        self.layout.desc_blocks
    }

    /// First block of the journal.
    pub const fn journal_start(&self) -> BlockNr {
        BlockNr::new(self.layout.journal_start)
    }

    /// Blocks of the journal.
    pub const fn journal_blocks(&self) -> u64 {
        self.layout.journal_blocks
    }

    /// Root of the inode tree.
    pub const fn inode_root(&self) -> BlockNr {
        BlockNr::new(self.layout.inode_root)
    }

    /// Root of the tree of reference counts.
    pub const fn refcount_root(&self) -> BlockNr {
        BlockNr::new(self.layout.refcount_root)
    }

    /// Root of the orphan tree.
    pub const fn orphan_root(&self) -> BlockNr {
        BlockNr::new(self.layout.orphan_root)
    }

    /// Block of the copy of the superblock.
    pub const fn backup_block(&self) -> Option<BlockNr> {
        match self.layout.backup_block {
            0 => None,
            block => Some(BlockNr::new(block)),
        }
    }

    /// Blocks of a whole group: one bit each in one block.
    pub const fn group_blocks(&self) -> u64 {
        8 << self.layout.block_size_log
    }

    const fn group_shift(&self) -> u32 {
        // NO-OVERFLOW: the block size is at most 2^12 by the type's invariant.
        self.layout.block_size_log + 3
    }

    /// The group that block `b` belongs to.
    pub const fn group_of(&self, b: BlockNr) -> u64 {
        b.get() >> self.group_shift()
    }

    /// First block and number of blocks of group `g`; no blocks if there is no such group.
    pub fn group_range(&self, g: u64) -> (BlockNr, u64) {
        let start = g.saturating_mul(self.group_blocks());
        let end = start
            .saturating_add(self.group_blocks())
            .min(self.layout.blocks);
        (BlockNr::new(start), end.saturating_sub(start))
    }

    /// Fixed blocks at the start of group `g`; the last of them is its bitmap.
    pub fn head(&self, g: u64) -> u64 {
        match g {
            0 => self.layout.desc_blocks.saturating_add(2),
            1 => 2,
            _ => 1,
        }
    }

    /// The bitmap of group `g`.
    pub fn bitmap_block(&self, g: u64) -> BlockNr {
        let (start, _) = self.group_range(g);
        let at = self.head(g).saturating_sub(1);
        BlockNr::new(start.get().saturating_add(at))
    }

    /// Block and byte offset of the descriptor of group `g`.
    pub fn desc_location(&self, g: u64) -> (BlockNr, usize) {
        let shift = self.layout.block_size_log.saturating_sub(5);
        let block = self.layout.desc_start.saturating_add(g >> shift);
        let index = g & ((1u64 << shift) - 1);
        // CAST: less than a block.
        (BlockNr::new(block), (index << 5) as usize)
    }

    /// Is this block part of a fixed area: superblock, copy, descriptors, bitmap, journal?
    pub fn is_fixed(&self, b: BlockNr) -> bool {
        let at = b.get() & (self.group_blocks() - 1);
        at < self.head(self.group_of(b)) || self.in_journal(b)
    }

    /// For how many blocks from `b` on, within its group, [`Geometry::is_fixed`] stays the same;
    /// and what it is.
    pub fn fixed_run(&self, b: BlockNr) -> (u64, bool) {
        let g = self.group_of(b);
        let (start, len) = self.group_range(g);
        let fixed = self.is_fixed(b);
        let end = start.get().saturating_add(len);
        let journal = self.layout.journal_start;
        let edges = [
            start.get().saturating_add(self.head(g)),
            journal,
            journal.saturating_add(self.layout.journal_blocks),
        ];
        let differs =
            |e: &u64| (b.get()..end).contains(e) && self.is_fixed(BlockNr::new(*e)) != fixed;
        let end = edges.into_iter().filter(differs).min().unwrap_or(end);
        (end.saturating_sub(b.get()), fixed)
    }

    /// Is this block part of the journal?
    pub fn in_journal(&self, b: BlockNr) -> bool {
        let l = &self.layout;
        b.get()
            .checked_sub(l.journal_start)
            .is_some_and(|at| at < l.journal_blocks)
    }

    /// Checks the number of a block that something on disk points to (C11).
    pub fn check_block(&self, b: BlockNr) -> Result<(), &'static str> {
        if b.get() >= self.layout.blocks {
            return Err("block number beyond the end of the filesystem");
        }
        if self.is_fixed(b) {
            return Err("block number inside a fixed area");
        }
        Ok(())
    }

    /// Checks a run of blocks that something on disk points to (C11). As every group starts with
    /// a fixed block, a good run lies within one group.
    pub fn check_range(&self, start: BlockNr, len: u64) -> Result<(), &'static str> {
        let last = len
            .checked_sub(1)
            .and_then(|n| start.checked_add(n))
            .ok_or("run of blocks is empty or too long")?;
        self.check_block(last)?;
        self.check_block(start)?;
        if self.group_of(start) != self.group_of(last) {
            return Err("run of blocks covers a bitmap");
        }
        let journal = self.layout.journal_start;
        if start.get() < journal && last.get() >= journal {
            return Err("run of blocks covers the journal");
        }
        Ok(())
    }

    /// Number of blocks in fixed areas.
    pub fn fixed_blocks(&self) -> u64 {
        let l = &self.layout;
        // One bitmap in each group, and what else stands before it in groups 0 and 1.
        let heads = l.ngroups.saturating_add(l.desc_blocks).saturating_add(1);
        let copy = u64::from(l.backup_block != 0);
        heads.saturating_add(copy).saturating_add(l.journal_blocks)
    }

    /// Blocks of the tree of reference counts in the worst case: a record for every block, all
    /// nodes as thin as the tree lets them become (B2a). What the tree does not have yet of this number is set aside for it
    /// and hidden in statfs.
    pub fn refcount_reserve(&self) -> u64 {
        let records = self.layout.blocks.saturating_sub(self.fixed_blocks());
        // CAST: at most 4096.
        worst_nodes(records, self.block_size() as usize, refcount::SIZE)
    }

    /// Blocks kept back for operations that free blocks, and in part for some others (B2c).
    pub fn pool_blocks(&self) -> u64 {
        (self.layout.blocks / 256).clamp(64, 1024)
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The journal as jbd2 defines it: big endian, checksums v3, 64-bit block numbers.
//!
//! C header: [`include/linux/jbd2.h`](srctree/include/linux/jbd2.h)

use crate::seam::crc32c;
use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First four bytes of every block that jbd2 writes for itself.
pub const MAGIC: u32 = 0xc03b_3998;
/// Block type: names the blocks that follow.
pub const TYPE_DESCRIPTOR: u32 = 1;
/// Block type: end of a transaction.
pub const TYPE_COMMIT: u32 = 2;
/// Block type: superblock, version 2.
pub const TYPE_SUPERBLOCK: u32 = 4;
/// Block type: blocks whose earlier copies must not be replayed.
pub const TYPE_REVOKE: u32 = 5;
/// Feature: revoke blocks.
pub const INCOMPAT_REVOKE: u32 = 1;
/// Feature: 64-bit block numbers.
pub const INCOMPAT_64BIT: u32 = 2;
/// Feature: checksums v3.
pub const INCOMPAT_CSUM_V3: u32 = 0x10;
/// The features of every calf journal.
pub const INCOMPAT: u32 = INCOMPAT_REVOKE | INCOMPAT_64BIT | INCOMPAT_CSUM_V3;
/// Checksum type crc32c.
pub const CRC32C: u8 = 4;
/// Bit of a tag: the block began with [`MAGIC`], which was replaced by zeros.
pub const FLAG_ESCAPE: u32 = 1;
/// Bit of a tag: no uuid follows.
pub const FLAG_SAME_UUID: u32 = 2;
/// Bit of a tag: the last one of its descriptor.
pub const FLAG_LAST_TAG: u32 = 8;
/// Bytes of a tag.
pub const TAG_SIZE: usize = 16;
/// Bytes at the end of a descriptor or revoke block: the checksum.
pub const TAIL_SIZE: usize = 4;

const _: () = assert!(size_of::<Header>() == 12);
const _: () = assert!(size_of::<JournalSuperBlock>() == 1024);
const _: () = assert!(core::mem::offset_of!(JournalSuperBlock, checksum_type) == 0x50);
const _: () = assert!(core::mem::offset_of!(JournalSuperBlock, checksum) == 0xfc);
const _: () = assert!(size_of::<Tag>() == TAG_SIZE);
const _: () = assert!(core::mem::offset_of!(Commit, checksum) == 16);
const _: () = assert!(core::mem::offset_of!(Commit, seconds) == 48);
const _: () = assert!(size_of::<RevokeHeader>() == 16);

/// `journal_header_t`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: U32,
    /// One of the `TYPE_` numbers.
    pub blocktype: U32,
    /// Number of the transaction.
    pub sequence: U32,
}

/// `journal_superblock_t`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct JournalSuperBlock {
    /// With [`TYPE_SUPERBLOCK`].
    pub header: Header,
    /// Block size, bytes.
    pub blocksize: U32,
    /// Blocks of the journal, this one included.
    pub maxlen: U32,
    /// First block of the log, counted from this one.
    pub first: U32,
    /// First transaction expected in the log.
    pub sequence: U32,
    /// Where it starts; 0: the log is empty.
    pub start: U32,
    /// Errno of an abort.
    pub errno: U32,
    /// Zero.
    pub feature_compat: U32,
    /// [`INCOMPAT`].
    pub feature_incompat: U32,
    /// Zero.
    pub feature_ro_compat: U32,
    /// Seeds the checksums.
    pub uuid: [u8; 16],
    /// 1.
    pub nr_users: U32,
    /// Zero.
    pub dynsuper: U32,
    /// Zero.
    pub max_transaction: U32,
    /// Zero.
    pub max_trans_data: U32,
    /// [`CRC32C`].
    pub checksum_type: u8,
    /// Zero.
    pub padding2: [u8; 3],
    /// Zero.
    pub num_fc_blks: U32,
    /// Where the next transaction goes, on a clean journal.
    pub head: U32,
    /// Zero.
    pub padding: [u8; 160],
    /// crc32c, seed all ones, over the 1024 bytes with this field taken as zero.
    pub checksum: U32,
    /// The first 16 bytes: the one user's uuid.
    pub users: [u8; 768],
}

impl JournalSuperBlock {
    /// The superblock of an empty journal of `blocks` blocks.
    pub fn new(block_size: u32, blocks: u32, uuid: [u8; 16]) -> Self {
        let mut sb = Self::new_zeroed();
        sb.header = Header {
            magic: U32::new(MAGIC),
            blocktype: U32::new(TYPE_SUPERBLOCK),
            sequence: U32::ZERO,
        };
        sb.blocksize = U32::new(block_size);
        sb.maxlen = U32::new(blocks);
        sb.first = U32::new(1);
        sb.sequence = U32::new(1);
        sb.feature_incompat = U32::new(INCOMPAT);
        sb.uuid = uuid;
        sb.nr_users = U32::new(1);
        sb.checksum_type = CRC32C;
        for (to, from) in sb.users.iter_mut().zip(uuid) {
            *to = from;
        }
        sb.seal();
        sb
    }

    /// The structure at the start of `bytes`; [`None`] if `bytes` is too short.
    pub fn of(bytes: &[u8]) -> Option<&Self> {
        Some(Self::ref_from_prefix(bytes).ok()?.0)
    }

    /// The checksum that the content calls for.
    pub fn compute_checksum(&self) -> u32 {
        let mut copy = *self;
        copy.checksum = U32::ZERO;
        crc32c(!0, copy.as_bytes())
    }

    /// Stores the checksum: the last step of every change.
    pub fn seal(&mut self) {
        self.checksum = U32::new(self.compute_checksum());
    }

    /// Seed of all other checksums of the journal.
    pub fn seed(&self) -> u32 {
        crc32c(!0, &self.uuid)
    }

    /// Checks it for a journal of `blocks` blocks of `block_size` bytes.
    pub fn verify(&self, block_size: u64, blocks: u64) -> Result<(), &'static str> {
        if self.header.magic.get() != MAGIC || self.header.blocktype.get() != TYPE_SUPERBLOCK {
            return Err("journal superblock: not there");
        }
        if self.checksum_type != CRC32C || self.checksum.get() != self.compute_checksum() {
            return Err("journal superblock: wrong checksum");
        }
        if u64::from(self.blocksize.get()) != block_size {
            return Err("journal superblock: another block size");
        }
        if u64::from(self.maxlen.get()) != blocks || self.first.get() != 1 {
            return Err("journal superblock: wrong length or start");
        }
        if self.start.get() != 0 && !(1..blocks).contains(&u64::from(self.start.get())) {
            return Err("journal superblock: log starts outside of the journal");
        }
        if self.feature_incompat.get() != INCOMPAT
            || self.feature_ro_compat.get() != 0
            || self.feature_compat.get() != 0
        {
            return Err("journal superblock: unexpected features");
        }
        Ok(())
    }
}

/// `journal_block_tag3_t`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tag {
    /// Low half of the block number.
    pub blocknr: U32,
    /// The `FLAG_` bits.
    pub flags: U32,
    /// High half of the block number.
    pub blocknr_high: U32,
    /// [`data_checksum`] of the block as it lies in the log.
    pub checksum: U32,
}

impl Tag {
    /// The block's place on the device.
    pub fn block(&self) -> u64 {
        u64::from(self.blocknr_high.get()) << 32 | u64::from(self.blocknr.get())
    }
}

/// `struct commit_header`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Commit {
    /// With [`TYPE_COMMIT`].
    pub header: Header,
    /// Zero with checksums v3.
    pub chksum_type: u8,
    /// Zero with checksums v3.
    pub chksum_size: u8,
    /// Zero.
    pub padding: [u8; 2],
    /// crc32c of the block with this field taken as zero.
    pub checksum: U32,
    /// Zero.
    pub unused: [u8; 28],
    /// Time of the commit.
    pub seconds: U64,
    /// Time of the commit.
    pub nanoseconds: U32,
}

/// `jbd2_journal_revoke_header_t`; block numbers of 8 bytes follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RevokeHeader {
    /// With [`TYPE_REVOKE`].
    pub header: Header,
    /// Bytes of the block in use, this header included.
    pub count: U32,
}

/// Checksum of a block with the field of four bytes at `at` taken as zero.
pub fn block_checksum(seed: u32, block: &[u8], at: usize) -> u32 {
    let after = at.saturating_add(4);
    let crc = crc32c(seed, block.get(..at).unwrap_or_default());
    let crc = crc32c(crc, &[0; 4]);
    crc32c(crc, block.get(after..).unwrap_or_default())
}

/// Checksum of a block in the log, for its tag.
pub fn data_checksum(seed: u32, sequence: u32, block: &[u8]) -> u32 {
    crc32c(crc32c(seed, &sequence.to_be_bytes()), block)
}

// SPDX-License-Identifier: GPL-2.0

//! Writes transactions into the journal, as jbd2 does, for tests.

use std::io;

use calf_core::format::geometry::Geometry;
use calf_core::format::journal::{
    block_checksum, data_checksum, Commit, Header, JournalSuperBlock, RevokeHeader, Tag,
    FLAG_ESCAPE, FLAG_LAST_TAG, FLAG_SAME_UUID, MAGIC, TAG_SIZE, TAIL_SIZE, TYPE_COMMIT,
    TYPE_DESCRIPTOR, TYPE_REVOKE,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::device::Storage;

/// Writes a log, block by block.
pub struct Log<'a> {
    storage: &'a dyn Storage,
    size: u64,
    start: u64,
    blocks: u64,
    seed: u32,
    /// Where the next block goes, counted from the start of the journal.
    pub at: u64,
    /// The transaction that is being written.
    pub tid: u32,
    /// Seconds, for the next commit block.
    pub time: u64,
}

fn short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// Copies a structure to byte `at` of a block. Errors: there is no room.
fn put(block: &mut [u8], at: usize, what: &[u8]) -> io::Result<()> {
    let to = block.get_mut(at..).and_then(|to| to.get_mut(..what.len()));
    to.ok_or_else(short)?.copy_from_slice(what);
    Ok(())
}

impl<'a> Log<'a> {
    /// A log that begins at place `at` of the journal (1 or more) with transaction `tid`; the
    /// journal's superblock says so from now on.
    pub fn new(storage: &'a dyn Storage, geo: &Geometry, at: u64, tid: u32) -> io::Result<Self> {
        let (size, start) = (geo.block_size(), geo.journal_start().get());
        let place = start.saturating_mul(size);
        let bytes = storage.read(place, size_of::<JournalSuperBlock>())?;
        let mut sb = *JournalSuperBlock::of(&bytes).ok_or_else(short)?;
        // CAST: a journal fits into a group.
        sb.start = (at as u32).into();
        sb.sequence = tid.into();
        sb.seal();
        storage.write_at(sb.as_bytes(), place)?;
        Ok(Self {
            storage,
            size,
            start,
            blocks: geo.journal_blocks(),
            seed: sb.seed(),
            at,
            tid,
            time: 1000,
        })
    }

    /// The byte on the device where the next block goes.
    pub fn place(&self) -> u64 {
        self.start.saturating_add(self.at).saturating_mul(self.size)
    }

    /// Writes a block. Returns its first byte on the device.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let place = self.place();
        self.storage.write_at(bytes, place)?;
        self.at = match self.at.saturating_add(1) {
            at if at < self.blocks => at,
            _ => 1,
        };
        Ok(place)
    }

    fn head(&self, kind: u32) -> io::Result<Vec<u8>> {
        // CAST: at most 4096.
        let mut bytes = vec![0; self.size as usize];
        let header = Header {
            magic: MAGIC.into(),
            blocktype: kind.into(),
            sequence: self.tid.into(),
        };
        put(&mut bytes, 0, header.as_bytes())?;
        Ok(bytes)
    }

    /// Writes a descriptor block and the blocks it names: number and content. Returns the first byte of
    /// the descriptor on the device. Errors: they are too many for one descriptor.
    pub fn blocks(&mut self, blocks: &[(u64, Vec<u8>)]) -> io::Result<u64> {
        let mut bytes = self.head(TYPE_DESCRIPTOR)?;
        let mut at = size_of::<Header>();
        let mut data = Vec::new();
        for (i, (block, content)) in blocks.iter().enumerate() {
            let mut content = content.clone();
            let mut tag = Tag::new_zeroed();
            // CAST: the halves of a number.
            tag.blocknr = (*block as u32).into();
            tag.blocknr_high = ((*block >> 32) as u32).into();
            let mut flags = if i == 0 { 0 } else { FLAG_SAME_UUID };
            if content.starts_with(&MAGIC.to_be_bytes()) {
                put(&mut content, 0, &[0; 4])?;
                flags |= FLAG_ESCAPE;
            }
            if i.saturating_add(1) == blocks.len() {
                flags |= FLAG_LAST_TAG;
            }
            tag.flags = flags.into();
            tag.checksum = data_checksum(self.seed, self.tid, &content).into();
            put(&mut bytes, at, tag.as_bytes())?;
            at = at.saturating_add(if i == 0 { TAG_SIZE + 16 } else { TAG_SIZE });
            data.push(content);
        }
        if at > bytes.len().saturating_sub(TAIL_SIZE) {
            return Err(short());
        }
        tail(&mut bytes, self.seed)?;
        let place = self.put(&bytes)?;
        for content in data {
            self.put(&content)?;
        }
        Ok(place)
    }

    /// Writes a revoke block. Returns its first byte on the device. Errors: they are too many for one block.
    pub fn revoke(&mut self, blocks: &[u64]) -> io::Result<u64> {
        let mut bytes = self.head(TYPE_REVOKE)?;
        let list: Vec<u8> = blocks.iter().flat_map(|b| b.to_be_bytes()).collect();
        let used = size_of::<RevokeHeader>().saturating_add(list.len());
        // CAST: of a block.
        put(
            &mut bytes,
            size_of::<Header>(),
            &(used as u32).to_be_bytes(),
        )?;
        put(&mut bytes, size_of::<RevokeHeader>(), &list)?;
        tail(&mut bytes, self.seed)?;
        self.put(&bytes)
    }

    /// Ends the transaction; the next one follows. Returns the first byte of its commit block.
    pub fn commit(&mut self) -> io::Result<u64> {
        let mut bytes = self.head(TYPE_COMMIT)?;
        let (commit, _) = Commit::mut_from_prefix(&mut bytes).map_err(|_| short())?;
        commit.seconds = self.time.into();
        commit_sum(&mut bytes, self.seed)?;
        let place = self.put(&bytes)?;
        self.tid = self.tid.wrapping_add(1);
        self.time = self.time.saturating_add(1);
        Ok(place)
    }
}

/// Puts the checksum of a descriptor or revoke block right.
pub fn tail(block: &mut [u8], seed: u32) -> io::Result<()> {
    let at = block.len().saturating_sub(TAIL_SIZE);
    let crc = block_checksum(seed, block, at);
    put(block, at, &crc.to_be_bytes())
}

/// Puts the checksum of a commit block right.
pub fn commit_sum(block: &mut [u8], seed: u32) -> io::Result<()> {
    let at = std::mem::offset_of!(Commit, checksum);
    let crc = block_checksum(seed, block, at);
    put(block, at, &crc.to_be_bytes())
}

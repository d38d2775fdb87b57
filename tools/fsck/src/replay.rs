// SPDX-License-Identifier: GPL-2.0

//! Replay of the journal, as jbd2 does it: find the end of the log, collect revoked blocks, then
//! bring all others home. Nothing is written here; the blocks go over the image in memory.

use std::collections::HashMap;
use std::io;

use calf_core::format::geometry::Geometry;
use calf_core::format::journal::{
    block_checksum, data_checksum, Commit, Header, JournalSuperBlock, RevokeHeader, Tag,
    FLAG_ESCAPE, FLAG_LAST_TAG, FLAG_SAME_UUID, MAGIC, TAG_SIZE, TAIL_SIZE, TYPE_COMMIT,
    TYPE_DESCRIPTOR, TYPE_REVOKE,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::image::Image;

/// Blocks to be written: number and content.
pub type Blocks = Vec<(u64, Vec<u8>)>;

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Was there anything in the log?
    pub dirty: bool,
    /// Transactions brought home.
    pub transactions: u32,
    /// Blocks brought home, repeated ones counted each time.
    pub blocks: u64,
    /// Copies left out because they were revoked.
    pub revoked: u64,
    /// The errno an aborted journal recorded, 0 if none.
    pub errno: u32,
    /// Where the journal is damaged, and how. What came before that is replayed.
    pub damaged: Option<(u64, &'static str)>,
    /// Committed transactions that are left out because of the damage, as far as they can be told.
    pub left_out: u32,
    /// Where the journal's superblock is damaged: has the log ever been written? If so, nobody can tell what of it is home.
    pub used: bool,
}

/// Why the journal cannot be replayed.
#[derive(Debug)]
pub enum Error {
    /// The device failed.
    Io(io::Error),
    /// The journal is damaged at this block of the device.
    Damaged {
        /// The block.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl Error {
    /// The place of the damage. A block of the journal that does not read is damaged, too.
    fn place(self, geo: &Geometry) -> io::Result<(u64, &'static str)> {
        match self {
            Self::Damaged { block, what } => Ok((block, what)),
            Self::Io(_) => Ok((geo.journal_start().get(), "journal: cannot be read")),
        }
    }
}

/// Is `a` not before `b`? Transaction numbers wrap around.
fn not_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}

struct Log<'a, 'b> {
    image: &'a Image<'b>,
    start: u64,
    blocks: u64,
    seed: u32,
}

/// What the pass over the log hands out.
enum Item<'a> {
    Descriptor(&'a [u8], u64),
    Revoke(&'a [u8]),
}

impl Log<'_, '_> {
    fn read(&self, at: u64) -> Result<Vec<u8>, Error> {
        if at >= self.blocks {
            return Err(self.damaged(0, "journal: a place outside of the log"));
        }
        Ok(self.image.read(self.start.saturating_add(at))?)
    }

    fn damaged(&self, at: u64, what: &'static str) -> Error {
        let block = self.start.saturating_add(at);
        Error::Damaged { block, what }
    }

    /// The place `by` blocks after `at`, around the end.
    fn after(&self, at: u64, by: u64) -> u64 {
        let mut at = at.saturating_add(by);
        // Place 0 is the journal's superblock.
        let turn = self.blocks.saturating_sub(1).max(1);
        while at >= self.blocks {
            at = at.saturating_sub(turn);
        }
        at
    }

    fn tail_holds(&self, bytes: &[u8]) -> bool {
        let at = bytes.len().saturating_sub(TAIL_SIZE);
        let stored = bytes
            .last_chunk::<TAIL_SIZE>()
            .map(|b| u32::from_be_bytes(*b));
        stored == Some(block_checksum(self.seed, bytes, at))
    }

    /// Checks a commit block. The part behind the header may never have reached the disk.
    fn commit_holds(&self, stored: u32, bytes: &[u8]) -> bool {
        let mut head = vec![0; bytes.len()];
        if let (Some(to), Some(from)) = (
            head.get_mut(..size_of::<Commit>()),
            bytes.get(..size_of::<Commit>()),
        ) {
            to.copy_from_slice(from);
        }
        stored == block_checksum(self.seed, bytes, 16)
            || stored == block_checksum(self.seed, &head, 16)
    }

    /// Finds the end of the log: the number of the first transaction that is not complete, or is
    /// damaged.
    fn scan(&self, first: u32, start: u64) -> (u32, Option<Error>) {
        let mut tid = first;
        let result = self.scan_from(&mut tid, start);
        (tid, result.err())
    }

    fn scan_from(&self, tid: &mut u32, start: u64) -> Result<(), Error> {
        let mut at = start;
        let (mut suspect, mut last_time) = (None, 0);
        // A log that goes round without an end is damaged; a transaction number does not repeat.
        let mut steps = self.blocks.saturating_mul(2);
        loop {
            let bytes = self.read(at)?;
            let Ok((header, _)) = Header::ref_from_prefix(&bytes) else {
                return Ok(());
            };
            if header.magic.get() != MAGIC || header.sequence.get() != *tid || steps == 0 {
                return Ok(());
            }
            steps = steps.saturating_sub(1);
            let here = at;
            at = self.after(at, 1);
            match header.blocktype.get() {
                TYPE_DESCRIPTOR => {
                    if !self.tail_holds(&bytes) {
                        suspect = suspect.or(Some(here));
                    }
                    at = self.after(at, tags(&bytes).len() as u64);
                }
                TYPE_REVOKE => {
                    if !self.tail_holds(&bytes) {
                        suspect = suspect.or(Some(here));
                    }
                    // jbd2 gives up here, committed or not.
                    let used =
                        RevokeHeader::ref_from_prefix(&bytes).map_or(0, |(h, _)| h.count.get());
                    if used as usize > bytes.len().saturating_sub(TAIL_SIZE) {
                        let what = "journal: a revoke block lists more blocks than it holds";
                        return Err(self.damaged(here, what));
                    }
                }
                TYPE_COMMIT => {
                    let Ok((commit, _)) = Commit::ref_from_prefix(&bytes) else {
                        return Ok(());
                    };
                    let time = commit.seconds.get();
                    let holds = self.commit_holds(commit.checksum.get(), &bytes);
                    if suspect.is_some() || !holds {
                        if time < last_time {
                            // Left over from an earlier use of the place.
                            return Ok(());
                        }
                        let what = "journal: wrong checksum in a committed transaction";
                        return Err(self.damaged(suspect.unwrap_or(here), what));
                    }
                    last_time = time;
                    *tid = tid.wrapping_add(1);
                }
                _ => return Ok(()),
            }
        }
    }

    /// How many committed transactions there are from the damaged one called `end` on, which may
    /// itself be what does not hold.
    fn committed_from(&self, end: u32) -> u32 {
        let mut count = 1;
        for bytes in (1..self.blocks).filter_map(|at| self.read(at).ok()) {
            let (Ok((header, _)), Ok((commit, _))) = (
                Header::ref_from_prefix(&bytes),
                Commit::ref_from_prefix(&bytes),
            ) else {
                continue;
            };
            let after = header.sequence.get().wrapping_sub(end);
            let is_commit = header.magic.get() == MAGIC && header.blocktype.get() == TYPE_COMMIT;
            // What is older has numbers before it, which wrap around to large ones.
            if is_commit
                && u64::from(after) < self.blocks
                && self.commit_holds(commit.checksum.get(), &bytes)
            {
                count = count.max(after.saturating_add(1));
            }
        }
        count
    }

    /// Hands out all descriptor and revoke blocks from transaction `first` up to before `end`.
    fn each(
        &self,
        first: u32,
        end: u32,
        start: u64,
        mut f: impl FnMut(u32, Item<'_>) -> Result<(), Error>,
    ) -> Result<(), (u32, Error)> {
        let (mut tid, mut at) = (first, start);
        while !not_before(tid, end) {
            let bytes = self.read(at).map_err(|e| (tid, e))?;
            let kind = Header::ref_from_prefix(&bytes).map_or(0, |(h, _)| h.blocktype.get());
            at = self.after(at, 1);
            match kind {
                TYPE_DESCRIPTOR => {
                    f(tid, Item::Descriptor(&bytes, at)).map_err(|e| (tid, e))?;
                    at = self.after(at, tags(&bytes).len() as u64);
                }
                TYPE_REVOKE => f(tid, Item::Revoke(&bytes)).map_err(|e| (tid, e))?,
                TYPE_COMMIT => tid = tid.wrapping_add(1),
                _ => {
                    let what = "journal: block of an unknown type";
                    return Err((tid, self.damaged(at, what)));
                }
            }
        }
        Ok(())
    }

    /// The blocks that the transactions from `first` up to before `end` bring home, in order. An
    /// error names the transaction that is damaged.
    fn collect(
        &self,
        first: u32,
        end: u32,
        start: u64,
        geo: &Geometry,
        done: &mut Replay,
    ) -> Result<Blocks, (u32, Error)> {
        let mut last: HashMap<u64, u32> = HashMap::new();
        self.each(first, end, start, |tid, item| {
            if let Item::Revoke(bytes) = item {
                for block in revoked(bytes) {
                    // Ascending order: the latest one stays.
                    last.insert(block, tid);
                }
            }
            Ok(())
        })?;
        let mut home = Vec::new();
        (done.blocks, done.revoked) = (0, 0);
        self.each(first, end, start, |tid, item| {
            let Item::Descriptor(bytes, mut at) = item else {
                return Ok(());
            };
            for tag in tags(bytes) {
                let place = at;
                at = self.after(at, 1);
                let block = tag.block();
                let revoke = last.get(&block);
                if revoke.is_some_and(|&revoke| not_before(revoke, tid)) {
                    done.revoked = done.revoked.saturating_add(1);
                    continue;
                }
                if block >= self.image.device_blocks() || in_log(geo, block) {
                    let what = "journal: block for a place outside of the filesystem";
                    return Err(self.damaged(place, what));
                }
                let mut bytes = self.read(place)?;
                if tag.checksum.get() != data_checksum(self.seed, tid, &bytes) {
                    return Err(self.damaged(place, "journal: wrong checksum of a logged block"));
                }
                if tag.flags.get() & FLAG_ESCAPE != 0 {
                    if let Some(head) = bytes.first_chunk_mut::<4>() {
                        *head = MAGIC.to_be_bytes();
                    }
                }
                home.push((block, bytes));
                done.blocks = done.blocks.saturating_add(1);
            }
            Ok(())
        })?;
        Ok(home)
    }
}

/// The tags of a descriptor block.
fn tags(bytes: &[u8]) -> Vec<Tag> {
    let mut tags = Vec::new();
    let end = bytes.len().saturating_sub(TAIL_SIZE);
    let mut at = size_of::<Header>();
    while let Some(next) = at.checked_add(TAG_SIZE).filter(|&next| next <= end) {
        let Some(Ok(tag)) = bytes.get(at..next).map(Tag::read_from_bytes) else {
            break;
        };
        let flags = tag.flags.get();
        tags.push(tag);
        if flags & FLAG_LAST_TAG != 0 {
            break;
        }
        at = next.saturating_add(if flags & FLAG_SAME_UUID == 0 { 16 } else { 0 });
    }
    tags
}

/// The block numbers in a revoke block.
fn revoked(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let most = bytes.len().saturating_sub(TAIL_SIZE);
    let used = RevokeHeader::ref_from_prefix(bytes).map_or(0, |(h, _)| h.count.get() as usize);
    let list = bytes.get(size_of::<RevokeHeader>()..used.min(most));
    let numbers = list.unwrap_or_default().chunks_exact(8);
    numbers.filter_map(|b| Some(u64::from_be_bytes(b.try_into().ok()?)))
}

/// The journal's superblock, checked.
pub fn superblock(image: &Image<'_>, geo: &Geometry) -> Result<JournalSuperBlock, Error> {
    let block = geo.journal_start().get();
    let bytes = image.read(block)?;
    let damaged = |what| Error::Damaged { block, what };
    let sb = JournalSuperBlock::of(&bytes).ok_or(damaged("journal superblock: too short"))?;
    sb.verify(geo.block_size(), geo.journal_blocks())
        .map_err(damaged)?;
    Ok(*sb)
}

/// Replays the journal over `image`, and makes the journal empty there. Transactions from the
/// first damaged one on are left out: half a transaction is worse than none. Errors: none but those
/// of the device.
pub fn replay(image: &mut Image<'_>, geo: &Geometry) -> io::Result<Replay> {
    let mut done = Replay::default();
    let mut sb = match superblock(image, geo) {
        Ok(sb) => sb,
        Err(e) => {
            done.damaged = Some(e.place(geo)?);
            done.used = log_blocks(geo).any(|block| holds_log(image, block));
            // CAST: a journal fits into a group.
            let (size, blocks) = (geo.block_size() as u32, geo.journal_blocks() as u32);
            put_superblock(
                image,
                geo,
                JournalSuperBlock::new(size, blocks, *geo.uuid()),
            );
            return Ok(done);
        }
    };
    done.errno = sb.errno.get();
    if sb.start.get() == 0 {
        return Ok(done);
    }
    done.dirty = true;
    let (first, start) = (sb.sequence.get(), u64::from(sb.start.get()));
    let log = Log {
        image,
        start: geo.journal_start().get(),
        blocks: geo.journal_blocks(),
        seed: sb.seed(),
    };
    let (mut end, damage) = log.scan(first, start);
    if let Some(e) = damage {
        done.damaged = Some(e.place(geo)?);
    }
    // Shorter by a transaction whenever a logged block turns out damaged.
    let home = loop {
        match log.collect(first, end, start, geo, &mut done) {
            Ok(home) => break home,
            Err((tid, e)) => {
                done.damaged = Some(e.place(geo)?);
                end = tid;
            }
        }
    };
    done.transactions = end.wrapping_sub(first);
    if done.damaged.is_some() {
        done.left_out = log.committed_from(end);
    }
    for (block, bytes) in home {
        image.put(block, bytes);
    }
    sb.sequence = end.wrapping_add(1).into();
    sb.start = 0.into();
    put_superblock(image, geo, sb);
    Ok(done)
}

/// Overwrites whatever could be taken for a part of the log, behind the journal's superblock.
/// Without this, blocks of a damaged log might be replayed later, when their numbers come round.
pub fn wipe(image: &mut Image<'_>, geo: &Geometry) {
    for block in log_blocks(geo) {
        if holds_log(image, block) {
            // CAST: at most 4096.
            image.put(block, vec![0; geo.block_size() as usize]);
        }
    }
}

/// The blocks of the journal behind its superblock.
fn log_blocks(geo: &Geometry) -> impl Iterator<Item = u64> {
    let start = geo.journal_start().get();
    (1..geo.journal_blocks()).map(move |at| start.saturating_add(at))
}

/// Could the block be taken for a part of a log? One that does not read could.
fn holds_log(image: &Image<'_>, block: u64) -> bool {
    let bytes = image.read(block);
    bytes.map_or(true, |bytes| bytes.starts_with(&MAGIC.to_be_bytes()))
}

/// Is the block part of the journal?
fn in_log(geo: &Geometry, block: u64) -> bool {
    geo.in_journal(calf_core::format::BlockNr::new(block))
}

/// Stores the journal's superblock in memory.
pub fn put_superblock(image: &mut Image<'_>, geo: &Geometry, mut sb: JournalSuperBlock) {
    sb.seal();
    let block = geo.journal_start().get();
    let mut bytes = image.read(block).unwrap_or_default();
    // CAST: at most 4096.
    bytes.resize(geo.block_size() as usize, 0);
    if let Some(to) = bytes.get_mut(..size_of::<JournalSuperBlock>()) {
        to.copy_from_slice(sb.as_bytes());
    }
    image.put(block, bytes);
}

// SPDX-License-Identifier: GPL-2.0

//! A log on a clean image, which brings back what is there already, and every field in it: what
//! [`crate::fields`] is for all else.

use std::cell::RefCell;
use std::io;

use calf_core::algo::bitmap;
use calf_core::format::geometry::Geometry;
use calf_core::format::group;
use calf_core::format::journal::{Commit, Header, JournalSuperBlock, RevokeHeader, Tag, MAGIC};

use crate::device::Storage;
use crate::fields::{journal_layout, layout, Field, Layout};
use crate::log::Log;
use crate::seal::Seal;

/// The log, not written yet.
pub struct Sample {
    writes: RefCell<Vec<(u64, Vec<u8>)>>,
    /// Its fields, and those of the journal's superblock, which means more with a log than without.
    pub fields: Vec<Field>,
}

/// Takes what is written, and writes nothing.
struct Draft<'a> {
    storage: &'a dyn Storage,
    sample: &'a Sample,
}

impl Storage for Draft<'_> {
    fn size(&self) -> u64 {
        self.storage.size()
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.storage.read_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.sample.writes.borrow_mut().push((at, buf.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Sample {
    /// Plans the log for the image on `storage`: three transactions with copies of blocks as they are, a block
    /// that is free and begins with the journal's magic number, and one that is free and revoked later.
    /// Errors: those of the device; `StorageFull` if no two blocks are free.
    pub fn plan(storage: &dyn Storage, geo: &Geometry) -> io::Result<Self> {
        let mut sample = Self {
            writes: RefCell::default(),
            fields: Vec::new(),
        };
        // CAST: a block has at most 4096 bytes.
        let size = geo.block_size() as usize;
        let here = |block: u64| {
            let at = block.saturating_mul(geo.block_size());
            Ok::<_, io::Error>((block, storage.read(at, size)?))
        };
        let [spare, revoked] = spare(storage, geo)?;
        let mut escaped = vec![7; size];
        if let Some(head) = escaped.first_chunk_mut::<4>() {
            *head = MAGIC.to_be_bytes();
        }
        let journal = geo.journal_start().get().saturating_mul(geo.block_size());
        let bytes = storage.read(journal, size_of::<JournalSuperBlock>())?;
        let old = JournalSuperBlock::of(&bytes).map_or(0, |sb| sb.sequence.get());

        let draft = Draft {
            storage,
            sample: &sample,
        };
        // Far from the numbers in what may be left of an older log.
        let mut log = Log::new(&draft, geo, 1, old.wrapping_add(1000))?;
        let first = log.blocks(&[
            here(geo.inode_root().get())?,
            (spare, escaped),
            (revoked, vec![1; size]),
            here(geo.bitmap_block(0).get())?,
        ])?;
        let commit = log.commit()?;
        let revoke = log.revoke(&[revoked, revoked, revoked])?;
        let single = log.blocks(&[here(geo.orphan_root().get())?])?;
        log.commit()?;
        log.blocks(&[
            here(geo.refcount_root().get())?,
            here(geo.desc_start().get())?,
        ])?;
        let last = log.commit()?;

        let block = |n: u64| n.saturating_mul(geo.block_size());
        sample.add(
            "log(super)",
            &journal_layout(),
            journal,
            Seal::Journal(journal),
        );
        for (name, at, tags) in [("descriptor", first, 4), ("descriptor of one", single, 1)] {
            let name = format!("log({name})");
            let seal = Seal::LogTail(at);
            sample.add(&name, &layout!(Header: magic blocktype sequence), at, seal);
            sample.tags(&name, at, tags, seal);
            sample.end(&name, at, geo, Seal::None);
        }
        let data = vec![("bytes", 0, 8), ("last bytes", size.saturating_sub(8), 8)];
        sample.add(
            "log(logged)",
            &data,
            first.saturating_add(block(1)),
            Seal::None,
        );
        sample.add(
            "log(logged,escaped)",
            &data,
            first.saturating_add(block(2)),
            Seal::None,
        );
        for (name, at) in [("commit", commit), ("last commit", last)] {
            let mut layout = layout!(Header: magic blocktype sequence);
            let rest = layout!(Commit: header chksum_type chksum_size padding checksum unused seconds nanoseconds);
            layout.extend(rest.into_iter().skip(1));
            sample.add(&format!("log({name})"), &layout, at, Seal::LogCommit(at));
        }
        let mut layout = layout!(Header: magic blocktype sequence);
        layout.extend(layout!(RevokeHeader: header count).into_iter().skip(1));
        let list = size_of::<RevokeHeader>();
        layout.extend([("first block", list, 8), ("last block", list + 16, 8)]);
        sample.add("log(revoke)", &layout, revoke, Seal::LogTail(revoke));
        sample.end("log(revoke)", revoke, geo, Seal::None);
        Ok(sample)
    }

    fn add(&mut self, structure: &str, layout: &Layout, at: u64, seal: Seal) {
        for &(field, off, len) in layout {
            let name = format!("{structure}.{field}");
            let again = self.fields.iter().any(|f| f.name == name);
            self.fields.push(Field {
                name: if again { format!("{name}@{off}") } else { name },
                at: at.saturating_add(off as u64),
                len,
                big_endian: true,
                // A checksum that is damaged is not put right.
                seal: if field == "checksum" {
                    Seal::None
                } else {
                    seal
                },
            });
        }
    }

    /// The tags of a descriptor: the first has a uuid behind it.
    fn tags(&mut self, name: &str, at: u64, n: usize, seal: Seal) {
        let first = at.saturating_add(size_of::<Header>() as u64);
        let mut layout = vec![("uuid", size_of::<Tag>(), 16)];
        for i in 0..n {
            // Its checksum is one of the logged block, and the descriptor's own covers it.
            for (field, off, len) in layout!(Tag: blocknr flags blocknr_high checksum) {
                let field = if field == "checksum" {
                    "of_block"
                } else {
                    field
                };
                let after = if i == 0 {
                    0
                } else {
                    (i + 1) * size_of::<Tag>()
                };
                layout.push((field, after + off, len));
            }
        }
        self.add(&format!("{name}.tag"), &layout, first, seal);
    }

    /// The checksum at the end of a block.
    fn end(&mut self, name: &str, at: u64, geo: &Geometry, seal: Seal) {
        // CAST: a block has at most 4096 bytes.
        let off = geo.block_size() as usize - 4;
        self.add(name, &vec![("checksum", off, 4)], at, seal);
    }

    /// Writes the log.
    pub fn write(&self, storage: &dyn Storage) -> io::Result<()> {
        for (at, bytes) in self.writes.borrow().iter() {
            storage.write_at(bytes, *at)?;
        }
        Ok(())
    }
}

/// Two free blocks.
fn spare(storage: &dyn Storage, geo: &Geometry) -> io::Result<[u64; 2]> {
    let byte = |block: u64| block.saturating_mul(geo.block_size());
    // CAST: a block has at most 4096 bytes.
    let size = geo.block_size() as usize;
    for g in (0..geo.ngroups()).rev() {
        let (block, off) = geo.desc_location(g);
        let descs = storage.read(byte(block.get()), size)?;
        let mut bits = storage.read(byte(geo.bitmap_block(g).get()), size)?;
        if group::is_uninit(&descs, off) {
            group::init_bitmap(&mut bits, geo, g);
        }
        let (start, len) = geo.group_range(g);
        // CAST: bits of a block.
        let mut free = (0..len)
            .rev()
            .filter(|&bit| !bitmap::test_byte(&bits, bit as usize));
        if let (Some(one), Some(other)) = (free.next(), free.next()) {
            return Ok([one, other].map(|bit| start.get().saturating_add(bit)));
        }
    }
    Err(io::ErrorKind::StorageFull.into())
}

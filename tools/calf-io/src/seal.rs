// SPDX-License-Identifier: GPL-2.0

//! Puts checksums right after something was changed behind the back of the code that keeps them.

use std::io;

use calf_core::format::geometry::Geometry;
use calf_core::format::group::{self, GroupDesc};
use calf_core::format::journal::JournalSuperBlock;
use calf_core::format::node;
use calf_core::format::super_block::{self, RawSuperBlock};
use zerocopy::{FromBytes, IntoBytes};

use crate::device::Storage;
use crate::log;

/// Which checksums cover a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    /// None, or it is one itself.
    None,
    /// That of the superblock at this byte.
    Super(u64),
    /// That of the journal's superblock at this byte.
    Journal(u64),
    /// That at the end of the descriptor or revoke block of the log at this byte.
    LogTail(u64),
    /// That of the commit block of the log at this byte.
    LogCommit(u64),
    /// That of the node in this block.
    Node(u64),
    /// That of the descriptor of this group.
    Desc(u64),
    /// That of the bitmap of this group, which is in the descriptor.
    Bitmap(u64),
}

impl Seal {
    /// Writes the checksums that the content calls for.
    pub fn apply(self, storage: &dyn Storage, geo: &Geometry) -> io::Result<()> {
        // CAST: a block has at most 4096 bytes.
        let size = geo.block_size() as usize;
        let byte = |block: u64| block.saturating_mul(geo.block_size());
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        match self {
            Self::None => Ok(()),
            Self::Super(at) => {
                let mut bytes = storage.read(at, super_block::SIZE)?;
                RawSuperBlock::of_mut(&mut bytes).ok_or_else(short)?.seal();
                storage.write_at(&bytes, at)
            }
            Self::Journal(at) => {
                let mut bytes = storage.read(at, size_of::<JournalSuperBlock>())?;
                JournalSuperBlock::mut_from_bytes(&mut bytes)
                    .map_err(|_| short())?
                    .seal();
                storage.write_at(&bytes, at)
            }
            Self::LogTail(at) | Self::LogCommit(at) => {
                let mut bytes = storage.read(at, size)?;
                let seed = JournalSuperBlock::new(0, 0, *geo.uuid()).seed();
                match self {
                    Self::LogTail(_) => log::tail(&mut bytes, seed)?,
                    _ => log::commit_sum(&mut bytes, seed)?,
                }
                storage.write_at(&bytes, at)
            }
            Self::Node(block) => {
                let mut bytes = storage.read(byte(block), size)?;
                node::seal(&mut bytes, geo.uuid());
                storage.write_at(&bytes, byte(block))
            }
            Self::Desc(g) | Self::Bitmap(g) => {
                let (block, off) = geo.desc_location(g);
                let at = byte(block.get()).saturating_add(off as u64);
                let mut bytes = storage.read(at, size_of::<GroupDesc>())?;
                let desc = GroupDesc::mut_from_bytes(&mut bytes).map_err(|_| short())?;
                if self == Self::Bitmap(g) {
                    let bitmap = storage.read(byte(geo.bitmap_block(g).get()), size)?;
                    desc.bitmap_crc = group::bitmap_checksum(&bitmap, geo).into();
                }
                desc.crc = desc.checksum(geo, g).into();
                let bytes = desc.as_bytes().to_vec();
                storage.write_at(&bytes, at)
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Reference counts of shared blocks: a tree of kind [`Kind::Refcount`](crate::format::Kind),
//! keyed by physical block. Counts of two and more are stored; what no record covers counts one.
//!
//! Every function that changes the tree is one bounded step: it adds at most [`INSERTS`] records,
//! and the few edits it is made of lie side by side, so that together they touch no more nodes than
//! [`EDITS`] single ones.

use super::btree::Tree;
use super::runs::{self, Run};
use super::store::{NodeRead, NodeStore, TreeError};
use crate::format::refcount::RawRefcount;
pub use crate::format::refcount::SIZE as RECORD_SIZE;
use crate::format::types::BlockNr;
use zerocopy::little_endian::U32;

/// One call touches at most this many times `edit_nodes(height)` nodes.
pub const EDITS: u32 = 2;
/// Records that one call adds at most.
pub const INSERTS: u64 = 2;
impl Run for RawRefcount {
    fn decode(key: u64, bytes: &[u8]) -> Result<Self, &'static str> {
        Self::parse(key, bytes).copied()
    }

    fn size(&self) -> u32 {
        self.len.get()
    }

    fn part(&self, _by: u32, size: u32) -> Self {
        Self {
            len: U32::new(size),
            ..*self
        }
    }

    fn join(&self, next: &Self) -> Option<Self> {
        let len = self.len.get().checked_add(next.len.get())?;
        (self.count == next.count).then_some(Self {
            len: U32::new(len),
            ..*self
        })
    }
}

/// A range of equal count: its record if it has one, and its end.
struct Shared {
    record: Option<(u64, RawRefcount, u64)>,
    end: u64,
}

impl Shared {
    fn find<S: NodeRead>(t: &Tree, s: &S, phys: u64) -> Result<Self, S::Error> {
        let record = runs::before::<S, RawRefcount>(t, s, phys)?.filter(|(_, _, end)| *end > phys);
        let end = match record {
            Some((_, _, end)) => end,
            None => {
                runs::after::<S, RawRefcount>(t, s, phys)?.map_or(u64::MAX, |(start, _, _)| start)
            }
        };
        Ok(Self { record, end })
    }

    fn count(&self) -> u32 {
        self.record.map_or(1, |(_, count, _)| count.count.get())
    }

    /// How many blocks from `phys` on are alike, up to `len` and to what one record can hold.
    fn run(&self, phys: BlockNr, len: u64) -> u64 {
        self.end
            .saturating_sub(phys.get())
            .min(len)
            .min(u64::from(u32::MAX))
    }

    /// Gives the `len` blocks from `phys` on another count.
    fn set<S: NodeStore>(
        &self,
        t: &mut Tree,
        s: &mut S,
        phys: BlockNr,
        len: u64,
        count: u32,
    ) -> Result<(), S::Error> {
        let (start, end) = (phys.get(), phys.get().saturating_add(len));
        if let Some(record) = self.record {
            runs::carve(t, s, record, start, end)?;
        }
        if count < 2 {
            return Ok(());
        }
        let len = u32::try_from(len).map_err(|_| TreeError::TooBig)?;
        let run = RawRefcount {
            len: U32::new(len),
            count: U32::new(count),
        };
        runs::insert(t, s, start, run)
    }
}

/// The count (1 or more) of the block `phys` and how many blocks from there on, of `len`, have the
/// same.
pub fn lookup<S: NodeRead>(
    t: &Tree,
    s: &S,
    phys: BlockNr,
    len: u64,
) -> Result<(u32, u64), S::Error> {
    let shared = Shared::find(t, s, phys.get())?;
    Ok((shared.count(), shared.run(phys, len)))
}

/// Counts one more reference on the first blocks of the range; returns how many, or `None` when
/// they have 2^32 - 1 references, which is the most. Callers loop.
pub fn increase_step<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    phys: BlockNr,
    len: u64,
) -> Result<Option<u64>, S::Error> {
    let shared = Shared::find(t, s, phys.get())?;
    let run = shared.run(phys, len);
    if run > 0 {
        let Some(count) = shared.count().checked_add(1) else {
            return Ok(None);
        };
        shared.set(t, s, phys, run, count)?;
    }
    Ok(Some(run))
}

/// Drops one reference on the first blocks of the range; returns how many, and the references that are left:
/// with none, they are free now. Callers loop.
pub fn decrease_step<S: NodeStore>(
    t: &mut Tree,
    s: &mut S,
    phys: BlockNr,
    len: u64,
) -> Result<(u64, u32), S::Error> {
    let shared = Shared::find(t, s, phys.get())?;
    let run = shared.run(phys, len);
    if run == 0 || shared.record.is_none() {
        return Ok((run, 0));
    }
    let left = shared.count().saturating_sub(1);
    shared.set(t, s, phys, run, left)?;
    Ok((run, left))
}

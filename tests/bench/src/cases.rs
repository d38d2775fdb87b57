// SPDX-License-Identifier: GPL-2.0

//! What is measured.

mod clone;
mod data;
mod direct;
mod growth;
mod names;
mod space;

use crate::turn::{Kind, Turn, RAW};
use calf_vmlib::error::Context;
use calf_vmlib::rng::Rng;
use calf_vmlib::{ensure_eq, file, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a case asks of a filesystem.
#[derive(Clone, Copy, PartialEq)]
pub enum Needs {
    /// Nothing special.
    Nothing,
    /// Clones.
    Reflink,
    /// Unshare.
    Unshare,
    /// `mkfs` that writes little, however large the disk is.
    SparseMkfs,
}

/// One case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What one operation is.
    pub unit: &'static str,
    /// What it asks for.
    pub needs: Needs,
    /// It can do with the device itself in place of a file.
    pub raw: bool,
    /// It has a disk of its own, in memory, of so many GiB as its size says.
    pub own_disk: bool,
    /// Sizes it runs with.
    pub sizes: &'static [u64],
    /// More of them, which take long.
    pub full: &'static [u64],
    /// Does it.
    pub run: fn(&mut Turn, u64) -> Result,
}

impl Case {
    const fn new(
        name: &'static str,
        unit: &'static str,
        run: fn(&mut Turn, u64) -> Result,
    ) -> Case {
        Case {
            name,
            unit,
            needs: Needs::Nothing,
            raw: false,
            own_disk: false,
            sizes: &[0],
            full: &[],
            run,
        }
    }

    const fn sized(self, sizes: &'static [u64], full: &'static [u64]) -> Case {
        Case {
            sizes,
            full,
            ..self
        }
    }

    const fn needs(self, needs: Needs) -> Case {
        Case { needs, ..self }
    }

    const fn on_own_disk(self) -> Case {
        Case {
            own_disk: true,
            needs: Needs::SparseMkfs,
            ..self
        }
    }

    const fn also_raw(self) -> Case {
        Case { raw: true, ..self }
    }

    /// Says whether the filesystem has what it takes.
    pub fn works_on(&self, kind: &Kind) -> bool {
        match self.needs {
            _ if kind.fs == RAW => self.raw,
            Needs::Nothing => true,
            Needs::Reflink => kind.reflink,
            Needs::Unshare => kind.unshare,
            Needs::SparseMkfs => kind.sparse_mkfs,
        }
    }
}

/// All cases.
pub fn all() -> impl Iterator<Item = &'static Case> {
    data::CASES
        .iter()
        .chain(direct::CASES)
        .chain(names::CASES)
        .chain(clone::CASES)
        .chain(space::CASES)
        .chain(growth::CASES)
}

/// Bytes of a block.
const BLOCK: u64 = 4096;

/// Marks a block, so that it can be told from others: the rest of it does not matter.
fn stamp(block: &mut [u8], number: u64) {
    block[..8].copy_from_slice(&number.to_le_bytes());
}

/// `count` numbers below `below`, each once: the same for all filesystems.
fn shuffled(count: u64, below: u64) -> Vec<u64> {
    let mut all: Vec<u64> = (0..below).collect();
    let mut rng = Rng::new(7);
    for i in (1..all.len()).rev() {
        all.swap(i, rng.below(i as u64 + 1) as usize);
    }
    all.truncate(count as usize);
    all
}

/// A file of `blocks` blocks, each with its number, all on disk.
fn make(path: &Path, blocks: u64) -> Result {
    let f = file::open(path)?;
    let mut buf = vec![b'm'; 256 * BLOCK as usize];
    let mut at = 0;
    while at < blocks {
        let n = (blocks - at).min(256);
        for i in 0..n {
            stamp(&mut buf[(i * BLOCK) as usize..], at + i);
        }
        f.write_all_at(&buf[..(n * BLOCK) as usize], at * BLOCK)
            .ctx("write")?;
        at += n;
    }
    f.sync_all().ctx("fsync")
}

/// A file of `count` extents: every second block. It has its size before, so that nobody preallocates past its end.
fn make_extents(path: &Path, count: u64) -> Result {
    let f = file::open(path)?;
    f.set_len((2 * count - 1) * BLOCK).ctx("truncate")?;
    let mut buf = vec![b'e'; BLOCK as usize];
    for i in 0..count {
        stamp(&mut buf, 2 * i);
        f.write_all_at(&buf, 2 * i * BLOCK).ctx("write")?;
    }
    f.sync_all().ctx("fsync")?;
    ensure_eq!(extent_count(&f)?, count, "extents");
    Ok(())
}

fn extent_count(f: &File) -> Result<u64> {
    Ok(calf_vmlib::sys::fiemap_count(f).ctx("FIEMAP")?.into())
}

/// Fails unless the file has so many blocks and each has the stamp that `want` says.
fn check(path: &Path, blocks: u64, want: impl Fn(u64) -> u64) -> Result {
    let f = File::open(path).ctx(format!("open {}", path.display()))?;
    let meta = f.metadata().ctx("stat")?;
    if meta.is_file() {
        ensure_eq!(meta.len(), blocks * BLOCK, "size of {}", path.display());
    }
    let mut buf = vec![0; 256 * BLOCK as usize];
    let mut at = 0;
    while at < blocks {
        let n = (blocks - at).min(256);
        let part = &mut buf[..(n * BLOCK) as usize];
        f.read_exact_at(part, at * BLOCK).ctx("read")?;
        for i in 0..n {
            check_stamp(&part[(i * BLOCK) as usize..], want(at + i))?;
        }
        at += n;
    }
    Ok(())
}

/// Fails unless the block has this stamp.
fn check_stamp(block: &[u8], want: u64) -> Result {
    ensure_eq!(block[..8], want.to_le_bytes(), "stamp of block {want}");
    Ok(())
}

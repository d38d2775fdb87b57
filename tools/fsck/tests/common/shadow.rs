// SPDX-License-Identifier: GPL-2.0

//! A device over an image that many runs share: what is written stays beside it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use calf_io::device::Storage;

const PIECE: usize = 1024;

/// The device.
#[derive(Clone)]
pub struct Shadow {
    base: &'static [u8],
    new: RefCell<BTreeMap<usize, [u8; PIECE]>>,
}

impl Shadow {
    /// Over `base`, of whole pieces.
    pub fn new(base: &'static [u8]) -> Self {
        Self {
            base,
            new: RefCell::default(),
        }
    }

    /// Does it hold the same as `other`, which has the same base?
    pub fn same(&self, other: &Self) -> bool {
        let (a, b) = (self.new.borrow(), other.new.borrow());
        let old = |piece: usize| &self.base[piece * PIECE..][..PIECE];
        a.keys().chain(b.keys()).all(|piece| {
            let at = |map: &BTreeMap<usize, [u8; PIECE]>| {
                map.get(piece).map_or(old(*piece).to_vec(), |p| p.to_vec())
            };
            at(&a) == at(&b)
        })
    }

    fn check(&self, len: usize, at: u64) -> io::Result<usize> {
        let start = usize::try_from(at).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        match start.checked_add(len) {
            Some(end) if end <= self.base.len() => Ok(start),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Cuts `len` bytes from `at` on into parts of pieces: piece, first byte in it, length.
fn parts(at: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (piece, off) = ((at + done) / PIECE, (at + done) % PIECE);
        let n = (PIECE - off).min(len - done);
        done += n;
        (n > 0).then_some((piece, off, n))
    })
}

impl Storage for Shadow {
    fn size(&self) -> u64 {
        self.base.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let start = self.check(buf.len(), at)?;
        let new = self.new.borrow();
        let mut to = buf;
        for (piece, off, n) in parts(start, to.len()) {
            let (now, rest) = to.split_at_mut(n);
            match new.get(&piece) {
                Some(bytes) => now.copy_from_slice(&bytes[off..off + n]),
                None => now.copy_from_slice(&self.base[piece * PIECE + off..][..n]),
            }
            to = rest;
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let start = self.check(buf.len(), at)?;
        let mut new = self.new.borrow_mut();
        let mut from = buf;
        for (piece, off, n) in parts(start, from.len()) {
            let (now, rest) = from.split_at(n);
            let bytes = new.entry(piece).or_insert_with(|| {
                let mut bytes = [0; PIECE];
                bytes.copy_from_slice(&self.base[piece * PIECE..][..PIECE]);
                bytes
            });
            bytes[off..off + n].copy_from_slice(now);
            from = rest;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Numbers from the fuzzer's bytes. Past the end they are all zero, so that every input means something.

/// The bytes that are left.
#[derive(Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Nothing left?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `n` bytes, or as many as there are.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (now, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        now
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn number(&mut self, n: usize) -> u64 {
        let mut bytes = [0; 8];
        let from = self.bytes(n);
        bytes[..from.len()].copy_from_slice(from);
        u64::from_le_bytes(bytes)
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        self.number(8)
    }

    /// A number below `n`, which is 1 or more.
    pub fn below(&mut self, n: usize) -> usize {
        let bytes = match n {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        (self.number(bytes) % n.max(1) as u64) as usize
    }

    /// Any number; short for small ones, those around powers of two, and those near the end of all numbers.
    pub fn any(&mut self) -> u64 {
        match self.u8() {
            255 => self.u64(),
            n @ 192.. => u64::MAX - u64::from(n - 192),
            n @ 128.. => (1u64 << (n - 128)).wrapping_add(self.u8() as i8 as u64),
            n => u64::from(n),
        }
    }
}

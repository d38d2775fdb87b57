// SPDX-License-Identifier: GPL-2.0

//! Blocks of the filesystem, seen through those that the journal brings.

use std::collections::BTreeMap;
use std::io;

use calf_io::device::Storage;

/// A filesystem on a device, with the blocks of the journal laid over it.
#[derive(Clone)]
pub struct Image<'a> {
    storage: &'a dyn Storage,
    block_size: u64,
    overlay: BTreeMap<u64, Vec<u8>>,
}

impl<'a> Image<'a> {
    /// The filesystem with blocks of `block_size` bytes.
    pub fn new(storage: &'a dyn Storage, block_size: u64) -> Self {
        Self {
            storage,
            block_size,
            overlay: BTreeMap::new(),
        }
    }

    /// Block size, bytes.
    pub fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Bytes of the device.
    pub fn device_bytes(&self) -> u64 {
        self.storage.size()
    }

    /// Blocks of the device, which may have more of them than the filesystem.
    pub fn device_blocks(&self) -> u64 {
        self.storage
            .size()
            .checked_div(self.block_size)
            .unwrap_or(0)
    }

    fn offset(&self, block: u64) -> io::Result<u64> {
        match block.checked_mul(self.block_size) {
            Some(at) if block < self.device_blocks() => Ok(at),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The content of a block. Errors: those of the device; `UnexpectedEof` past the end.
    pub fn read(&self, block: u64) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.overlay.get(&block) {
            return Ok(bytes.clone());
        }
        let at = self.offset(block)?;
        // CAST: a block has at most 4096 bytes.
        self.storage.read(at, self.block_size as usize)
    }

    /// Replaces a block in memory.
    pub fn put(&mut self, block: u64, bytes: Vec<u8>) {
        self.overlay.insert(block, bytes);
    }

    /// Replaces blocks in memory.
    pub fn put_all(&mut self, blocks: &[(u64, Vec<u8>)]) {
        for (block, bytes) in blocks {
            self.put(*block, bytes.clone());
        }
    }

    /// Drops what replaces a block.
    pub fn forget(&mut self, block: u64) {
        self.overlay.remove(&block);
    }

    /// Writes all blocks replaced in memory to the device and waits until they are durable.
    pub fn flush(&mut self) -> io::Result<()> {
        for (&block, bytes) in &self.overlay {
            self.storage.write_at(bytes, self.offset(block)?)?;
        }
        self.storage.sync()?;
        self.overlay.clear();
        Ok(())
    }
}

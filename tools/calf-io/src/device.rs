// SPDX-License-Identifier: GPL-2.0

//! Where a filesystem lies: a block device, an image file, or memory.

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::claim;

/// Bytes that can be read and perhaps written.
pub trait Storage {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Fills `buf` from byte `at` on. Errors: those of the device; `UnexpectedEof` past the end.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes `buf` to byte `at`.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;
    /// Waits until all that was written is durable.
    fn sync(&self) -> io::Result<()>;

    /// Makes bytes `[from, to)` zeros. By default writes only where there is anything else, so that what is
    /// sparse stays sparse.
    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        zero_if_needed(self, from, to)
    }

    /// `len` bytes from byte `at` on.
    fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read_at(&mut buf, at)?;
        Ok(buf)
    }
}

fn neither() -> io::Error {
    let what = "neither a block device nor a regular file";
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Bytes that are zeroed at a time.
const PIECE: u64 = 1 << 20;

fn pieces(from: u64, to: u64, mut f: impl FnMut(u64, usize) -> io::Result<()>) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(PIECE);
        // CAST: at most PIECE.
        f(at, len as usize)?;
        at += len;
    }
    Ok(())
}

fn zero_if_needed<S: Storage + ?Sized>(storage: &S, from: u64, to: u64) -> io::Result<()> {
    pieces(from, to.min(storage.size()), |at, len| {
        if storage.read(at, len)?.iter().any(|&b| b != 0) {
            storage.write_at(&vec![0; len], at)?;
        }
        Ok(())
    })
}

/// A block device or an image file.
#[derive(Debug)]
pub struct Device {
    file: File,
    size: u64,
    sector: u32,
    block: bool,
}

impl Device {
    /// Opens `path`. For writing, a block device is claimed for this process alone; the error is
    /// `ResourceBusy` if it is mounted or otherwise in use. Of an image file nothing is asked: see
    /// [`claim`](Self::claim).
    pub fn open(path: &Path, write: bool) -> io::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        let block = kind.is_block_device();
        // To open anything else may wait for somebody, or do something.
        if !block && !kind.is_file() {
            return Err(neither());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        if block && write {
            // CAST: the flag is one low bit.
            options.custom_flags(rustix::fs::OFlags::EXCL.bits() as i32);
        }
        Self::new(options.open(path)?, block)
    }

    /// Opens `path` for writing, for this process alone. If somebody else uses it, the error is `ResourceBusy`
    /// and its text goes on after "the device is".
    pub fn claim(path: &Path) -> io::Result<Self> {
        let device = Self::open(path, true).map_err(|e| match e.kind() {
            io::ErrorKind::ResourceBusy => claim::busy("mounted or in use; unmount it first"),
            _ => e,
        })?;
        if !device.block {
            claim::claim(&device.file)?;
        }
        Ok(device)
    }

    /// Makes and claims an image file of `size` bytes. If that fails, no file stays behind. Errors: those of the host;
    /// `AlreadyExists` if somebody else has made the file meanwhile.
    pub fn create(path: &Path, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut device = Self::new(options.open(path)?, false)?;
        claim::claim(&device.file)?;
        if device.size > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Err(e) = device.lengthen(size) {
            // The error that matters is the first one.
            let _ = std::fs::remove_file(path);
            return Err(e);
        }
        Ok(device)
    }

    /// Makes an image file longer. Errors: those of the host.
    pub fn lengthen(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)?;
        self.size = size;
        Ok(())
    }

    fn new(mut file: File, block: bool) -> io::Result<Self> {
        let kind = file.metadata()?.file_type();
        if !block && !kind.is_file() {
            return Err(neither());
        }
        let size = file.seek(SeekFrom::End(0))?;
        let sector = if block {
            rustix::fs::ioctl_blksszget(&file)?
        } else {
            512
        };
        Ok(Self {
            file,
            size,
            sector,
            block,
        })
    }

    /// Is it a block device?
    pub fn is_block_device(&self) -> bool {
        self.block
    }

    /// The smallest unit of transfer, bytes.
    pub fn sector_size(&self) -> u32 {
        self.sector
    }

    /// Lets the rest of the program see only the first `size` bytes.
    pub fn shorten(&mut self, size: u64) {
        self.size = self.size.min(size);
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Storage for Device {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(buf, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// On a block device whatever it reads: one that was discarded, or has not given a block its place yet,
    /// may read zeros now and something else later; and a log of its writes shall have them.
    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        let to = to.min(self.size);
        if !self.block {
            return zero_if_needed(self, from, to);
        }
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, from, to.saturating_sub(from)) {
            // Not whole sectors, or not known to the kernel.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                pieces(from, to, |at, len| self.write_at(&vec![0; len], at))
            }
            other => Ok(other?),
        }
    }
}

/// An image in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub RefCell<Vec<u8>>);

impl Memory {
    /// An image of `size` zeros.
    pub fn new(size: usize) -> Self {
        Self(RefCell::new(vec![0; size]))
    }
}

fn span(buf: &[u8], at: u64) -> Option<std::ops::Range<usize>> {
    let at = usize::try_from(at).ok()?;
    Some(at..at.checked_add(buf.len())?)
}

impl Storage for Memory {
    fn size(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let bytes = self.0.borrow();
        let from = span(buf, at).and_then(|span| bytes.get(span));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut bytes = self.0.borrow_mut();
        let to = span(buf, at).and_then(|span| bytes.get_mut(span));
        to.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(buf);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

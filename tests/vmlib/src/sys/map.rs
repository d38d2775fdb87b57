// SPDX-License-Identifier: GPL-2.0

//! Memory maps of files, and huge pages.

use super::rw::pwritev2;
use super::{last, Result};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// A shared, writable map of a range of a file. Access is by copies, so that a partner that
/// changes the file at the same time is no problem for the language.
pub struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the map may be used and unmapped from any thread; it has no state of its own.
unsafe impl Send for Map {}

impl Map {
    /// Maps `len` bytes of `file` from `off` (page aligned).
    pub fn new(file: &File, off: u64, len: usize) -> Result<Map> {
        Self::with(file, off, len, rustix::mm::MapFlags::SHARED)
    }

    /// The same, with changes of its own.
    pub fn private(file: &File, off: u64, len: usize) -> Result<Map> {
        Self::with(file, off, len, rustix::mm::MapFlags::PRIVATE)
    }

    /// Memory of nobody's, at an address that is a multiple of 2 MiB, in huge pages if there are any.
    pub fn huge(len: usize) -> Result<Map> {
        use rustix::mm::{madvise, mmap_anonymous, munmap, Advice, MapFlags, ProtFlags};
        const HUGE: usize = 2 << 20;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let all = len + HUGE;
        // SAFETY: a new map at an address of the kernel's choice.
        let p = unsafe { mmap_anonymous(std::ptr::null_mut(), all, prot, MapFlags::PRIVATE)? };
        let skip = p.align_offset(HUGE);
        // SAFETY: the two ends of our map, to which no reference exists.
        unsafe {
            if skip > 0 {
                munmap(p, skip)?;
            }
            if skip < HUGE {
                munmap(p.byte_add(skip + len), HUGE - skip)?;
            }
        }
        // SAFETY: inside of our map.
        let base = unsafe { p.byte_add(skip) };
        // A kernel without huge pages does not know the advice.
        // SAFETY: the rest of our map.
        let _ = unsafe { madvise(base, len, Advice::LinuxHugepage) };
        Ok(Map {
            base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?,
            len,
        })
    }

    fn with(file: &File, off: u64, len: usize, flags: rustix::mm::MapFlags) -> Result<Map> {
        use rustix::mm::{mmap, ProtFlags};
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh map at an address of the kernel's choice overlaps nothing.
        let p = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, file.as_fd(), off) }?;
        Ok(Map {
            base: NonNull::new(p.cast()).ok_or(Errno::NOMEM)?,
            len,
        })
    }

    fn check(&self, off: usize, len: usize) {
        assert!(
            off.checked_add(len).is_some_and(|e| e <= self.len),
            "outside of the map"
        );
    }

    /// Copies `data` into the map at `off`.
    pub fn write(&self, off: usize, data: &[u8]) {
        self.check(off, data.len());
        // SAFETY: the range is inside the map (just checked), which is unmapped only in drop;
        // `data` is not part of it because the map is reached only through this type.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), self.base.as_ptr().add(off), data.len())
        }
    }

    /// Copies from the map at `off` into `out`.
    pub fn read(&self, off: usize, out: &mut [u8]) {
        self.check(off, out.len());
        // SAFETY: as in `write`.
        unsafe {
            std::ptr::copy_nonoverlapping(self.base.as_ptr().add(off), out.as_mut_ptr(), out.len())
        }
    }

    /// Makes the process forget the pages of a range; the next access brings them back.
    pub fn zap(&self, off: usize, len: usize) -> Result<()> {
        use rustix::mm::{madvise, Advice};
        self.check(off, len);
        // SAFETY: the range is inside the map, to which no reference exists; file pages come back.
        unsafe {
            madvise(
                self.base.as_ptr().add(off).cast(),
                len,
                Advice::LinuxDontNeed,
            )
        }
    }

    /// Writes `len` bytes of the map from `at` on to a file at `off`; `flags` are `RWF_*`.
    pub fn write_to(
        &self,
        at: usize,
        len: usize,
        file: &File,
        off: u64,
        flags: i32,
    ) -> Result<usize> {
        self.check(at, len);
        // SAFETY: the memory is mapped; the kernel copes with a partner that changes it.
        unsafe { pwritev2(file, self.base.as_ptr().add(at), len, off, flags) }
    }

    /// Reads from a file at `off` into `len` bytes of the map from `at` on.
    pub fn read_from(&self, at: usize, len: usize, file: &File, off: u64) -> Result<usize> {
        self.check(at, len);
        let iov = libc::iovec {
            // SAFETY: inside the map.
            iov_base: unsafe { self.base.as_ptr().add(at) }.cast(),
            iov_len: len,
        };
        // SAFETY: the memory is mapped and reached only by copies.
        let n = unsafe { libc::preadv2(file.as_raw_fd(), &iov, 1, off as libc::off_t, 0) };
        usize::try_from(n).map_err(|_| last())
    }

    /// Which pages of the map are in the page cache (`mincore`).
    pub fn resident(&self) -> Result<Vec<bool>> {
        let mut pages = vec![0u8; self.len.div_ceil(4096)];
        // SAFETY: the map is live, and there is a byte for each page.
        let r = unsafe { libc::mincore(self.base.as_ptr().cast(), self.len, pages.as_mut_ptr()) };
        if r < 0 {
            return Err(last());
        }
        Ok(pages.iter().map(|p| p & 1 != 0).collect())
    }

    /// Writes the map back and waits (`MS_SYNC`).
    pub fn sync(&self) -> Result<()> {
        use rustix::mm::{msync, MsyncFlags};
        // SAFETY: base and length are those of the live map.
        unsafe { msync(self.base.as_ptr().cast(), self.len, MsyncFlags::SYNC) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the map is ours, and no reference into it is ever given out.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

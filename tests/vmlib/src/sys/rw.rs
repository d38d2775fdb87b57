// SPDX-License-Identifier: GPL-2.0

//! Reads and writes with flags, atomic ones, writes from memory that is not there, writeback of a range.

use super::{last, Result};
use std::fs::File;
use std::os::fd::AsRawFd;

/// `RWF_NOWAIT`.
pub const RWF_NOWAIT: i32 = 0x8;
/// `RWF_ATOMIC`.
pub const RWF_ATOMIC: i32 = 0x40;
/// `RWF_DONTCACHE`.
pub const RWF_DONTCACHE: i32 = 0x80;

/// # Safety
///
/// `len` bytes from `base` on are memory of nobody else, or may be anything.
pub(super) unsafe fn pwritev2(
    file: &File,
    base: *const u8,
    len: usize,
    off: u64,
    flags: i32,
) -> Result<usize> {
    let iov = libc::iovec {
        iov_base: base.cast_mut().cast(),
        iov_len: len,
    };
    // SAFETY: the kernel only reads the memory, and checks it.
    let n = unsafe { libc::pwritev2(file.as_raw_fd(), &iov, 1, off as libc::off_t, flags) };
    usize::try_from(n).map_err(|_| last())
}

/// Writes a buffer with `RWF_*` flags.
pub fn write_flags(file: &File, buf: &[u8], off: u64, flags: i32) -> Result<usize> {
    // SAFETY: `buf` lives over the call.
    unsafe { pwritev2(file, buf.as_ptr(), buf.len(), off, flags) }
}

/// Reads into a buffer with `RWF_*` flags.
pub fn read_flags(file: &File, buf: &mut [u8], off: u64, flags: i32) -> Result<usize> {
    let iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: `buf` lives over the call.
    let n = unsafe { libc::preadv2(file.as_raw_fd(), &iov, 1, off as libc::off_t, flags) };
    usize::try_from(n).map_err(|_| last())
}

/// What `statx` says of atomic writes: whether there are any, the shortest, the longest.
pub fn atomic_limits(file: &File) -> Result<(bool, u32, u32)> {
    const STATX_WRITE_ATOMIC: u32 = 0x0001_0000;
    const STATX_ATTR_WRITE_ATOMIC: u64 = 0x0040_0000;
    // `struct statx` as numbers: libc does not know its new fields.
    let mut x = [0u64; 32];
    // SAFETY: 256 bytes are what the structure has.
    let r = unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            STATX_WRITE_ATOMIC,
            x.as_mut_ptr(),
        )
    };
    if r < 0 {
        return Err(last());
    }
    let known = x[0] as u32 & STATX_WRITE_ATOMIC != 0;
    let has = known && x[1] & STATX_ATTR_WRITE_ATOMIC != 0;
    Ok((has, x[21] as u32, (x[21] >> 32) as u32))
}

/// Writes `data` followed by memory that is not there, `len` bytes in all, at `off` of the file: the
/// kernel's copy ends at the hole. Returns the bytes that were written. The length of `data` is a
/// multiple of the page size; it may be 0.
pub fn write_into_the_void(file: &File, data: &[u8], len: usize, off: u64) -> Result<usize> {
    write_into_the_void_flags(file, data, len, off, 0)
}

/// [`write_into_the_void`] with `RWF_*` flags.
pub fn write_into_the_void_flags(
    file: &File,
    data: &[u8],
    len: usize,
    off: u64,
    flags: i32,
) -> Result<usize> {
    use rustix::mm::{madvise, mmap_anonymous, munmap, Advice, MapFlags, ProtFlags};
    assert!(data.len() < len && data.len() % 4096 == 0);
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new map at an address of the kernel's choice.
    let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::PRIVATE)? };
    // One touch must not populate more than a page. A kernel without huge pages does not know the advice.
    // SAFETY: the map is ours.
    let _ = unsafe { madvise(base, len, Advice::LinuxNoHugepage) };
    // SAFETY: the map has at least `data.len()` bytes.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), base.cast(), data.len()) };
    // SAFETY: the end of our map, to which no reference exists.
    unsafe { munmap(base.byte_add(data.len()), len - data.len())? };
    // SAFETY: bad addresses make the call fail or end early, they harm nobody.
    let result = unsafe { pwritev2(file, base.cast(), len, off, flags) };
    if !data.is_empty() {
        // SAFETY: the rest of our map.
        unsafe { munmap(base, data.len())? };
    }
    result
}

/// `sync_file_range` with all three flags: writes the pages of the range and waits for them; no
/// metadata, no flush.
pub fn sync_range(file: &File, off: u64, len: u64) -> Result<()> {
    // SAFETY: no memory is passed.
    let r = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            off as libc::off64_t,
            len as libc::off64_t,
            libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER,
        )
    };
    if r < 0 {
        return Err(last());
    }
    Ok(())
}

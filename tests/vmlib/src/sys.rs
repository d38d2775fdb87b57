// SPDX-License-Identifier: GPL-2.0

//! System calls without a safe wrapper elsewhere: FIEMAP, FICLONERANGE, memory maps.
//!
//! All `unsafe` of the test programs is in this file and those below it.
#![allow(unsafe_code)]

mod inflight;
pub mod vfs;

pub use inflight::{Aio, Dir, Queue, Ring};

use rustix::io::Errno;
use std::alloc::Layout;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

// rustix takes `DSYNC` for `SYNC`.
pub use libc::{O_APPEND, O_DIRECT, O_DSYNC, O_SYNC};

type Result<T> = std::result::Result<T, Errno>;

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `FIEMAP_EXTENT_LAST`: nothing follows.
pub const FIEMAP_LAST: u32 = 0x1;
/// `FIEMAP_EXTENT_DELALLOC`: no block chosen yet.
pub const FIEMAP_DELALLOC: u32 = 0x4;
/// `FIEMAP_EXTENT_UNWRITTEN`: allocated, reads as zeros.
pub const FIEMAP_UNWRITTEN: u32 = 0x800;
/// `FIEMAP_EXTENT_SHARED`: the blocks have other owners too.
pub const FIEMAP_SHARED: u32 = 0x2000;

/// One extent as FIEMAP reports it, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FiemapExtent {
    /// First byte in the file.
    pub logical: u64,
    /// First byte on the device.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
    reserved64: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
    reserved: [u32; 3],
}

const FIEMAP_BATCH: usize = 256;

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; FIEMAP_BATCH],
}

/// `FIEMAP_FLAG_XATTR`: the extents of the extended attributes.
pub const FIEMAP_FLAG_XATTR: u32 = 2;

/// Reports up to 256 extents from `start`; empty when there are none. `sync` writes the file back
/// first.
pub fn fiemap(file: &File, start: u64, length: u64, sync: bool) -> Result<Vec<FiemapExtent>> {
    fiemap_with(file, start, length, sync.into())
}

/// [`fiemap`] with any `FIEMAP_FLAG_*`.
pub fn fiemap_with(file: &File, start: u64, length: u64, flags: u32) -> Result<Vec<FiemapExtent>> {
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    let mut map = Box::new(Fiemap {
        start,
        length,
        flags,
        mapped: 0,
        count: FIEMAP_BATCH as u32,
        reserved: 0,
        extents: [FiemapExtent::default(); FIEMAP_BATCH],
    });
    // SAFETY: `map` is a `struct fiemap` with room for `count` extents and lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &mut *map as *mut Fiemap) };
    if r < 0 {
        return Err(last());
    }
    Ok(map.extents[..(map.mapped as usize).min(FIEMAP_BATCH)].to_vec())
}

/// Makes `dst` at `dst_off` share `len` bytes with `src` at `src_off` (0: up to the end).
pub fn clone_range(dst: &File, src: &File, src_off: u64, len: u64, dst_off: u64) -> Result<()> {
    const FICLONERANGE: libc::c_ulong = 0x4020_940d;
    #[repr(C)]
    struct Range {
        fd: i64,
        src_off: u64,
        len: u64,
        dst_off: u64,
    }
    let arg = Range {
        fd: src.as_raw_fd().into(),
        src_off,
        len,
        dst_off,
    };
    // SAFETY: `arg` is a `struct file_clone_range` that lives over the call, which only reads it.
    let r = unsafe { libc::ioctl(dst.as_raw_fd(), FICLONERANGE, &arg as *const Range) };
    if r < 0 {
        return Err(last());
    }
    Ok(())
}

/// The number of extents that FIEMAP would report.
pub fn fiemap_count(file: &File) -> Result<u32> {
    const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
    // `struct fiemap` without room for extents: start, length, flags and mapped, count.
    let mut map = [0, u64::MAX, 0, 0u64];
    // SAFETY: `map` is a `struct fiemap` that lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, map.as_mut_ptr()) };
    if r < 0 {
        return Err(last());
    }
    Ok((map[2] >> 32) as u32)
}

/// `FMR_OWN_FREE`.
pub const FSMAP_FREE: u64 = 1;
/// `FMR_OWN_UNKNOWN`.
pub const FSMAP_UNKNOWN: u64 = 2;
/// `FMR_OWN_METADATA`.
pub const FSMAP_METADATA: u64 = 3;
/// `FMR_OF_SPECIAL_OWNER`.
pub const FSMAP_SPECIAL: u32 = 0x10;
/// `FMR_OF_LAST`.
pub const FSMAP_LAST: u32 = 0x20;

/// `struct fsmap`, bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fsmap {
    /// Device number.
    pub device: u32,
    /// `FMR_OF_*`.
    pub flags: u32,
    /// First byte on the device.
    pub physical: u64,
    /// `FMR_OWN_*`.
    pub owner: u64,
    /// Byte of the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

impl Fsmap {
    /// The key that nothing is greater than.
    pub const MAX: Fsmap = Fsmap {
        device: u32::MAX,
        flags: u32::MAX,
        physical: u64::MAX,
        owner: u64::MAX,
        offset: u64::MAX,
        length: 0,
        reserved: [0; 3],
    };
}

/// `FS_IOC_GETFSMAP` with room for `count` records. Returns the records and the number that the
/// kernel says (which is all there is with `count` 0).
pub fn getfsmap(file: &File, low: Fsmap, high: Fsmap, count: usize) -> Result<(Vec<Fsmap>, u32)> {
    const FS_IOC_GETFSMAP: libc::c_ulong = 0xc0c0_583b;
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Head {
        iflags: u32,
        oflags: u32,
        count: u32,
        entries: u32,
        reserved: [u64; 6],
        keys: [Fsmap; 2],
    }
    const _: () = assert!(std::mem::size_of::<Head>() == 3 * std::mem::size_of::<Fsmap>());
    // The head takes the place of three records.
    let mut buf = vec![Fsmap::default(); 3 + count];
    let head: *mut Head = buf.as_mut_ptr().cast();
    // SAFETY: the head lies within the buffer, whose alignment is the same.
    unsafe {
        head.write(Head {
            iflags: 0,
            oflags: 0,
            count: count as u32,
            entries: 0,
            reserved: [0; 6],
            keys: [low, high],
        })
    };
    // SAFETY: the buffer is a `struct fsmap_head` with room for `count` records.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSMAP, head) };
    if r < 0 {
        return Err(last());
    }
    // SAFETY: as above; the kernel has written it.
    let entries = unsafe { head.read() }.entries;
    buf.drain(..3);
    buf.truncate(entries as usize);
    Ok((buf, entries))
}

/// `FITRIM`. Returns the bytes that the kernel says.
pub fn fitrim(file: &File, start: u64, len: u64, minlen: u64) -> Result<u64> {
    const FITRIM: libc::c_ulong = 0xc018_5879;
    let mut range = [start, len, minlen];
    // SAFETY: `range` is a `struct fstrim_range` that lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FITRIM, range.as_mut_ptr()) };
    if r < 0 {
        return Err(last());
    }
    Ok(range[1])
}

/// `FIBMAP`: the block of the device that holds block `block` of a file; 0 for none.
pub fn fibmap(file: &File, block: u32) -> Result<u32> {
    const FIBMAP: libc::c_ulong = 1;
    let mut at = block;
    // SAFETY: the argument is an int that lives over the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), FIBMAP, &raw mut at) } {
        0 => Ok(at),
        _ => Err(last()),
    }
}

/// The clock of time stamps: seconds, nanoseconds. (rustix finds no such clock in User Mode Linux, which has no vDSO.)
pub fn coarse_time() -> (i64, i64) {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is a `struct timespec` that lives over the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut t) };
    (t.tv_sec, t.tv_nsec)
}

/// Freezes the filesystem of an open file (`FIFREEZE`).
pub fn freeze(file: &File) -> Result<()> {
    const FIFREEZE: libc::c_ulong = 0xc004_5877;
    // SAFETY: the argument is not used.
    match unsafe { libc::ioctl(file.as_raw_fd(), FIFREEZE, 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Ends what [`freeze`] began (`FITHAW`).
pub fn thaw(file: &File) -> Result<()> {
    const FITHAW: libc::c_ulong = 0xc004_5878;
    // SAFETY: the argument is not used.
    match unsafe { libc::ioctl(file.as_raw_fd(), FITHAW, 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Swaps to a file.
pub fn swapon(path: &std::ffi::CStr) -> Result<()> {
    // SAFETY: the path is a C string.
    match unsafe { libc::swapon(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Ends swapping to a file.
pub fn swapoff(path: &std::ffi::CStr) -> Result<()> {
    // SAFETY: the path is a C string.
    match unsafe { libc::swapoff(path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Makes `dst` at `dst_off` share `len` bytes with `src` at `src_off` if they are the same
/// (`FIDEDUPERANGE`). Returns the bytes that are shared now, or `None` if the ranges differ.
pub fn dedupe(src: &File, src_off: u64, len: u64, dst: &File, dst_off: u64) -> Result<Option<u64>> {
    const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
    #[repr(C)]
    struct Range {
        src_off: u64,
        len: u64,
        count: u16,
        reserved: [u16; 3],
        fd: i64,
        dst_off: u64,
        deduped: u64,
        status: i32,
        reserved2: u32,
    }
    let mut arg = Range {
        src_off,
        len,
        count: 1,
        reserved: [0; 3],
        fd: dst.as_raw_fd().into(),
        dst_off,
        deduped: 0,
        status: 0,
        reserved2: 0,
    };
    // SAFETY: `arg` is a `struct file_dedupe_range` with one target that lives over the call.
    let r = unsafe { libc::ioctl(src.as_raw_fd(), FIDEDUPERANGE, &mut arg as *mut Range) };
    match (r, arg.status) {
        (r, _) if r < 0 => Err(last()),
        (_, 0) => Ok(Some(arg.deduped)),
        (_, 1) => Ok(None),
        (_, e) => Err(Errno::from_raw_os_error(-e)),
    }
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

/// `RWF_NOWAIT`.
pub const RWF_NOWAIT: i32 = 0x8;
/// `RWF_ATOMIC`.
pub const RWF_ATOMIC: i32 = 0x40;
/// `RWF_DONTCACHE`.
pub const RWF_DONTCACHE: i32 = 0x80;

/// # Safety
///
/// `len` bytes from `base` on are memory of nobody else, or may be anything.
unsafe fn pwritev2(
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

/// Stops the filesystem that the file is on, without writing the journal.
pub fn shutdown(file: &File) -> Result<()> {
    const XFS_IOC_GOINGDOWN: libc::c_ulong = 0x8004_587d;
    let how = 2u32;
    // SAFETY: the request reads a number.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), XFS_IOC_GOINGDOWN, &how as *const u32) };
    if r < 0 {
        return Err(last());
    }
    Ok(())
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

/// Memory aligned for direct I/O.
pub struct Aligned {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory like a `Box<[u8]>`.
unsafe impl Send for Aligned {}

impl Aligned {
    /// `len` zero bytes at an address that is a multiple of 4096.
    pub fn new(len: usize) -> Aligned {
        let layout = Layout::from_size_align(len.max(1), 4096).expect("length fits");
        // SAFETY: the size is not zero.
        let p = unsafe { std::alloc::alloc_zeroed(layout) };
        Aligned {
            base: NonNull::new(p).expect("memory"),
            layout,
        }
    }

    /// A copy of `data`.
    pub fn from(data: &[u8]) -> Aligned {
        let mut a = Aligned::new(data.len());
        a[..data.len()].copy_from_slice(data);
        a
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is initialised, ours, and as long as the layout says.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.layout.size()) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// `FIFREEZE`.
pub const FIFREEZE: u32 = 0xc004_5877;
/// `FITHAW`.
pub const FITHAW: u32 = 0xc004_5878;
/// `XFS_IOC_GOINGDOWN`.
pub const GOINGDOWN: u32 = 0x8004_587d;
/// `FS_IOC_GETFSLABEL`.
pub const GETFSLABEL: u32 = 0x8100_9431;
/// `FS_IOC_SETFSLABEL`.
pub const SETFSLABEL: u32 = 0x4100_9432;
/// `FS_IOC_GETFSUUID`: the length, then 16 bytes.
pub const GETFSUUID: u32 = 0x8011_1500;
/// `FS_IOC_GETFSSYSFSPATH`: the length, then 128 bytes.
pub const GETFSSYSFSPATH: u32 = 0x8081_1501;
/// `BLKROSET`: an int follows.
pub const BLKROSET: u32 = 0x125d;

/// An ioctl whose argument is a plain structure without pointers, given as its bytes.
pub fn ioctl(file: &File, cmd: u32, arg: &mut [u8]) -> Result<i32> {
    let size = (cmd >> 16 & 0x3fff) as usize;
    assert!(arg.len() >= size.max(4), "argument of ioctl {cmd:#x}");
    // SAFETY: `arg` is at least as long as the command says and lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), cmd as _, arg.as_mut_ptr()) };
    if r < 0 {
        return Err(last());
    }
    Ok(r)
}

/// A file handle (`struct file_handle`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// Bytes of `data` in use.
    pub bytes: u32,
    /// `FILEID_*` and flags.
    pub kind: i32,
    /// What the filesystem put in.
    pub data: [u8; 128],
}

/// The handle of `path`; `connectable` ones know the parent too.
pub fn name_to_handle(path: &std::path::Path, connectable: bool) -> Result<Handle> {
    const AT_HANDLE_CONNECTABLE: libc::c_int = 2;
    let path =
        std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    let flags = if connectable {
        AT_HANDLE_CONNECTABLE
    } else {
        0
    };
    let mut h = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0i32;
    // SAFETY: the path ends in NUL, `h` has room for the 128 bytes it announces.
    let r = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &mut h as *mut Handle,
            &mut mount as *mut i32,
            flags,
        )
    };
    if r < 0 {
        return Err(last());
    }
    Ok(h)
}

/// Opens what a handle names, on the filesystem that `mount` is on.
pub fn open_by_handle(mount: &File, h: &Handle) -> Result<File> {
    let mut h = *h;
    // SAFETY: `h` holds at least the bytes it announces, which the kernel limits to 128.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &mut h as *mut Handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) })
}

/// A loop device over the first part of a device or file; it goes when this is dropped.
pub struct Loop {
    /// Its path.
    pub path: std::path::PathBuf,
    _open: File,
}

impl Loop {
    /// Makes a device of `bytes` bytes over the start of `backing`.
    pub fn new(backing: &std::path::Path, bytes: u64) -> std::io::Result<Loop> {
        const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
        const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
        const LO_FLAGS_AUTOCLEAR: u32 = 4;
        /// `struct loop_config` with its `struct loop_info64`.
        #[repr(C)]
        struct Config {
            fd: u32,
            block_size: u32,
            device: u64,
            inode: u64,
            rdevice: u64,
            offset: u64,
            sizelimit: u64,
            number: u32,
            encrypt_type: u32,
            encrypt_key_size: u32,
            flags: u32,
            names_and_rest: [u64; 22],
            reserved: [u64; 8],
        }
        const _: () = assert!(std::mem::size_of::<Config>() == 304);
        let rw = |p: &std::path::Path| File::options().read(true).write(true).open(p);
        let under = rw(backing)?;
        let control = rw("/dev/loop-control".as_ref())?;
        // SAFETY: this request takes no argument.
        let n = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if n < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let path = std::path::PathBuf::from(format!("/dev/loop{n}"));
        let open = rw(&path)?;
        let config = Config {
            fd: under.as_raw_fd() as u32,
            block_size: 0,
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: bytes,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            names_and_rest: [0; 22],
            reserved: [0; 8],
        };
        // SAFETY: `config` is a `struct loop_config` that lives over the call, which reads it.
        let r = unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CONFIGURE, &config as *const Config) };
        if r < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Loop { path, _open: open })
    }
}

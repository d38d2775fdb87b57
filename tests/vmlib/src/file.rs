// SPDX-License-Identifier: GPL-2.0

//! One file: patterns, holes, extents, clones.

use crate::error::{Context, Fail};
use crate::rng::mix;
use crate::sys::{self, Aligned, FiemapExtent};
use crate::{ensure, Result};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file for reading and writing; makes it when missing.
pub fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .ctx(format!("open {}", path.display()))
}

/// Opens a file for direct I/O; makes it when missing.
pub fn open_direct(path: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DIRECT | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
        .ctx(format!("open {} with O_DIRECT", path.display()))?;
    Ok(fd.into())
}

/// Opens a file for reading and writing with more flags (`O_*`); makes it when missing.
pub fn open_with(path: &Path, flags: i32) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path)
        .ctx(format!("open {} with {flags:#o}", path.display()))
}

/// Fills `buf` with the pattern `seed` as it is at offset `off` of a file. Each byte depends on
/// its place, so that data that moved is seen; no byte is 0, so that a hole is seen too.
pub fn pattern(seed: u64, off: u64, buf: &mut [u8]) {
    for (i, b) in buf.iter_mut().enumerate() {
        let at = off + i as u64;
        let word = mix(seed ^ mix(at >> 3)).to_le_bytes();
        *b = word[(at & 7) as usize] | 1;
    }
}

/// The pattern as a fresh buffer.
pub fn patterned(seed: u64, off: u64, len: usize) -> Vec<u8> {
    let mut v = vec![0; len];
    pattern(seed, off, &mut v);
    v
}

/// Writes the pattern over a range.
pub fn write_pattern(file: &File, seed: u64, off: u64, len: u64) -> Result {
    let mut done = 0;
    while done < len {
        let n = (len - done).min(1 << 20);
        let buf = patterned(seed, off + done, n as usize);
        file.write_all_at(&buf, off + done).ctx("write")?;
        done += n;
    }
    Ok(())
}

/// Writes until the disk is full; returns how many bytes were accepted, 0 if not even a file was.
pub fn fill(path: &Path, seed: u64) -> Result<u64> {
    let full = Some(Errno::NOSPC.raw_os_error());
    let f = match open(path) {
        Err(e) if e.errno == full => return Ok(0),
        other => other?,
    };
    let (mut at, mut step) = (0, 1 << 20);
    loop {
        match f.write_at(&patterned(seed, at, step as usize), at) {
            Ok(n) => at += n as u64,
            Err(e) if e.raw_os_error() == full && step > 512 => step /= 2,
            Err(e) if e.raw_os_error() == full => return Ok(at),
            Err(e) => return Err(e).ctx(format!("write at {at}")),
        }
    }
}

/// Reads exactly `len` bytes.
pub fn read_at(file: &File, off: u64, len: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; len];
    file.read_exact_at(&mut buf, off)
        .ctx(format!("read {len} at {off}"))?;
    Ok(buf)
}

/// Reads a whole file.
pub fn read_all(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).ctx(format!("read {}", path.display()))
}

/// Says where two buffers first differ, if they do.
pub fn compare(what: &str, have: &[u8], want: &[u8]) -> Result {
    ensure!(
        have.len() == want.len(),
        "{what}: {} bytes, expected {}",
        have.len(),
        want.len()
    );
    if have == want {
        return Ok(());
    }
    let at = have.iter().zip(want).position(|(a, b)| a != b).unwrap_or(0);
    let count = have.iter().zip(want).filter(|(a, b)| a != b).count();
    let show = |b: &[u8]| {
        b[at..(at + 8).min(b.len())]
            .iter()
            .map(|x| format!("{x:02x}"))
            .collect::<Vec<_>>()
            .join("")
    };
    Err(Fail::new(format!(
        "{what}: {count} bytes differ, first at {at} ({at:#x}): {} is not {}",
        show(have),
        show(want)
    )))
}

/// Fails unless the range of the file holds the pattern.
pub fn check_pattern(file: &File, seed: u64, off: u64, len: u64) -> Result {
    let mut done = 0;
    while done < len {
        let n = (len - done).min(1 << 20);
        let have = read_at(file, off + done, n as usize)?;
        compare(
            &format!("at {}", off + done),
            &have,
            &patterned(seed, off + done, n as usize),
        )?;
        done += n;
    }
    Ok(())
}

/// Fails unless the range of the file reads as zeros.
pub fn check_zero(file: &File, off: u64, len: u64) -> Result {
    let mut done = 0;
    while done < len {
        let n = (len - done).min(1 << 20);
        let have = read_at(file, off + done, n as usize)?;
        compare(
            &format!("zeros at {}", off + done),
            &have,
            &vec![0; n as usize],
        )?;
        done += n;
    }
    Ok(())
}

/// Direct write of the pattern.
pub fn write_direct(file: &File, seed: u64, off: u64, len: usize) -> Result {
    let buf = Aligned::from(&patterned(seed, off, len));
    let n = file
        .write_at(&buf, off)
        .ctx(format!("direct write {len} at {off}"))?;
    ensure!(n == len, "direct write of {len} at {off} wrote {n}");
    Ok(())
}

/// Direct read, compared with the pattern.
pub fn check_direct(file: &File, seed: u64, off: u64, len: usize) -> Result {
    let mut buf = Aligned::new(len);
    let n = file
        .read_at(&mut buf, off)
        .ctx(format!("direct read {len} at {off}"))?;
    ensure!(n == len, "direct read of {len} at {off} read {n}");
    compare(
        &format!("direct at {off}"),
        &buf,
        &patterned(seed, off, len),
    )
}

/// fallocate with these flags.
pub fn fallocate(file: &File, flags: FallocateFlags, off: u64, len: u64) -> Result {
    rustix::fs::fallocate(file, flags, off, len).ctx(format!("fallocate {flags:?} {off}+{len}"))
}

/// Makes a hole.
pub fn punch(file: &File, off: u64, len: u64) -> Result {
    fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        off,
        len,
    )
}

/// Gives the range blocks of its own.
pub fn unshare(file: &File, off: u64, len: u64) -> Result {
    fallocate(file, FallocateFlags::UNSHARE_RANGE, off, len)
}

/// Makes `dst` share all of `src`.
pub fn clone_file(dst: &File, src: &File) -> Result {
    rustix::fs::ioctl_ficlone(dst, src).ctx("FICLONE")
}

/// Makes a range shared.
pub fn clone_range(dst: &File, src: &File, src_off: u64, len: u64, dst_off: u64) -> Result {
    sys::clone_range(dst, src, src_off, len, dst_off)
        .ctx(format!("FICLONERANGE {src_off}+{len} to {dst_off}"))
}

/// All extents of a file.
pub fn extents(file: &File) -> Result<Vec<FiemapExtent>> {
    let mut all: Vec<FiemapExtent> = Vec::new();
    let mut at = 0;
    loop {
        let part = sys::fiemap(file, at, u64::MAX - at, false).ctx("FIEMAP")?;
        let Some(end) = part.last() else {
            return Ok(all);
        };
        let next = end.logical + end.length;
        ensure!(next > at, "FIEMAP does not advance at {at}");
        at = next;
        let last = end.flags & sys::FIEMAP_LAST != 0;
        all.extend(part);
        if last {
            return Ok(all);
        }
    }
}

/// Bytes of the extents that have all bits of `flags`.
pub fn extent_bytes(all: &[FiemapExtent], flags: u32) -> u64 {
    all.iter()
        .filter(|e| e.flags & flags == flags)
        .map(|e| e.length)
        .sum()
}

/// Next data at or after `off`; `None` when only a hole follows.
pub fn seek_data(file: &File, off: u64) -> Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(off)) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(e) => Err(e).ctx(format!("SEEK_DATA {off}")),
    }
}

/// Next hole at or after `off`.
pub fn seek_hole(file: &File, off: u64) -> Result<u64> {
    rustix::fs::seek(file, SeekFrom::Hole(off)).ctx(format!("SEEK_HOLE {off}"))
}

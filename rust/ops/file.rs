// SPDX-License-Identifier: GPL-2.0

//! File operations of regular files.

use crate::fs::begin_read::SEEK;
use crate::fs::begin_write::{FAULT, WRITE, WRITE_OPS};
use crate::fs::begin_zero::ZERO;
use crate::fs::dio::{self, Outcome};
use crate::fs::zeroout::{undo_size, zero_out};
use crate::fs::{fallocate, fsync, reflink, truncate, Calf, Inode};
use crate::kapi::file_ops::{table, FileOperations, FopsRef, Whence};
use crate::kapi::iomap::{
    file_buffered_write, page_mkwrite, seek_data, seek_hole, zero_range, InvalidateHeld,
};
use crate::kapi::kiocb::{File, IovIter, Kiocb, PagefaultScope, VmFault};
use kernel::prelude::*;
use kernel::uaccess::UserPtr;

struct RegularFile;

/// The table.
pub(super) const FILE_FOPS: FopsRef<Calf> = table::<RegularFile>();

#[vtable]
impl FileOperations for RegularFile {
    type Fs = Calf;

    fn check(inode: &Inode) -> Result {
        inode.sb().data().check_readable()
    }

    fn read_iter(iocb: &mut Kiocb<'_, Calf>, to: &mut IovIter<'_>) -> Result<usize> {
        iocb.inode().sb().data().check_readable()?;
        if iocb.is_direct() {
            return dio::read(iocb, to);
        }
        // i_rwsem makes a read see all or nothing of a concurrent write.
        let inode = iocb.inode();
        let _lock = if iocb.is_nowait() {
            inode.try_lock_shared().ok_or(EAGAIN)?
        } else {
            inode.lock_shared()
        };
        iocb.buffered_read(to)
    }

    fn write_iter(iocb: &mut Kiocb<'_, Calf>, from: &mut IovIter<'_>) -> Result<usize> {
        iocb.inode().sb().data().check_shutdown()?;
        // C-WR-PRECHECK: nothing to write, nothing to map.
        if from.count() == 0 {
            return Ok(0);
        }
        if iocb.is_atomic() {
            iocb.inode().sb().data().check_atomic_write(from.count())?;
            iocb.atomic_write_valid(from)?;
        }
        if iocb.is_direct() {
            return direct_write(iocb, from);
        }
        buffered_write(iocb, from, false)
    }

    fn fsync(file: &File<Calf>, start: u64, end: u64, datasync: bool) -> Result {
        fsync::fsync_file(file, start, end, datasync)
    }

    fn seek(file: &File<Calf>, offset: i64, whence: Whence) -> Result<i64> {
        let inode = file.inode();
        inode.sb().data().check_readable()?;
        let _lock = inode.lock_shared();
        match whence {
            Whence::Data => seek_data(inode, offset, SEEK),
            Whence::Hole => seek_hole(inode, offset, SEEK),
        }
    }

    fn fallocate(file: &File<Calf>, mode: u32, offset: u64, len: u64) -> Result {
        fallocate::fallocate(file, mode, offset, len)
    }

    fn remap_file_range(
        src: &File<Calf>,
        src_pos: u64,
        dst: &File<Calf>,
        dst_pos: u64,
        len: u64,
        flags: u32,
    ) -> Result<u64> {
        reflink::remap_file_range(src, src_pos, dst, dst_pos, len, flags)
    }

    fn ioctl(file: &File<Calf>, cmd: u32, arg: UserPtr) -> Result<isize> {
        super::ioctl::ioctl(file, cmd, arg)
    }

    /// Lock order: mmap_lock, freeze protection, `invalidate_lock` shared, folio lock (in iomap).
    fn page_mkwrite(fault: &mut VmFault<'_, Calf>) -> u32 {
        let inode = fault.inode();
        // C-MKWRITE-SHUTDOWN: a folio whose writeback failed may not be uptodate.
        if let Err(e) = inode.sb().data().check_shutdown() {
            return VmFault::<Calf>::error(e);
        }
        let _freeze = PagefaultScope::enter(inode);
        if let Err(e) = fault.file().update_time() {
            return VmFault::<Calf>::error(e);
        }
        let ret = mkwrite(fault);
        if VmFault::<Calf>::failed(ret) && make_writable(fault) {
            return mkwrite(fault);
        }
        ret
    }
}

/// `page_mkwrite` under `invalidate_lock`: exclusively while the file is remapped
/// (C-MKWRITE-REMAP).
fn mkwrite(fault: &mut VmFault<'_, Calf>) -> u32 {
    let inode = fault.inode();
    let faults = inode.invalidate_lock_shared();
    if !inode.data().is_remapping() {
        return page_mkwrite(fault, FAULT);
    }
    drop(faults);
    let _faults = inode.invalidate_lock();
    page_mkwrite(fault, FAULT)
}

/// The last resort of [`buffered_write`] for a store by map: preallocated blocks that cannot be
/// converted one by one for want of tree blocks are converted together. Returns whether there were
/// any. `i_rwsem` comes before `mmap_lock`, which the fault holds: only if nobody has it.
fn make_writable(fault: &VmFault<'_, Calf>) -> bool {
    let inode = fault.inode();
    let (pos, end) = fault.folio_range();
    let Some(_lock) = inode.try_lock() else {
        return false;
    };
    zero_out(inode, pos, end.min(inode.size())).unwrap_or(false)
}

/// Writes past the page cache what can be, the rest through it.
fn direct_write(iocb: &mut Kiocb<'_, Calf>, from: &mut IovIter<'_>) -> Result<usize> {
    let inode = iocb.inode();
    let done = match dio::write(iocb, from, make_way)? {
        Outcome::Done(n) => return Ok(n),
        Outcome::Fallback(0) if iocb.is_nowait() || iocb.is_atomic() => return Err(EAGAIN),
        Outcome::Fallback(n) if iocb.is_nowait() => return Ok(n),
        // Another append may come between the two parts.
        Outcome::Fallback(n) if n > 0 && iocb.is_append() => return Ok(n),
        Outcome::Fallback(n) => n,
    };
    let middle = iocb.pos();
    let rest = match buffered_write(iocb, from, true) {
        Ok(n) => n,
        Err(_) if done > 0 => {
            // It may be the way to the disk that has failed.
            iocb.set_pos(middle);
            return Ok(done);
        }
        Err(e) => return Err(e),
    };
    if rest > 0 {
        // C-DIO-FALLBACK-SYNC: the next direct read must not find old data on disk.
        let end = iocb.pos();
        let start = end.saturating_sub(rest as u64);
        if let Err(e) = inode.write_and_wait(start, end - 1) {
            iocb.set_pos(start);
            return if done > 0 { Ok(done) } else { Err(e) };
        }
        inode.invalidate_clean(start, end - 1);
    }
    Ok(done + rest)
}

/// Writes through the page cache. Also the way of direct writes that cannot go directly; then
/// direct I/O to the same blocks must have ended before, or it would be undone (`drain`). So must what
/// may move EOF: it decides where an append begins, and both set the size.
fn buffered_write(
    iocb: &mut Kiocb<'_, Calf>,
    from: &mut IovIter<'_>,
    drain: bool,
) -> Result<usize> {
    let inode = iocb.inode();
    let nowait = iocb.is_nowait();
    let written = {
        let _lock = if nowait {
            inode.try_lock().ok_or(EAGAIN)?
        } else {
            inode.lock()
        };
        if drain || iocb.is_append() || end_of(iocb, from) > inode.size() {
            if nowait && !inode.is_dio_finished() {
                return Err(EAGAIN);
            }
            inode.dio_wait();
        }
        if iocb.write_checks(from)? == 0 {
            return Ok(0);
        }
        make_way(inode, iocb.pos(), end_of(iocb, from), nowait)?;
        iocb.modified()?;
        match file_buffered_write(iocb, from, WRITE, WRITE_OPS) {
            // C-WR-ENOSPC: reservations are worst cases. Writing dirty data turns them into what
            // is really needed, and gives the rest back.
            Err(ENOSPC) => {
                inode.write_and_wait(0, u64::MAX)?;
                inode.sb().sync_inodes();
                match file_buffered_write(iocb, from, WRITE, WRITE_OPS) {
                    Err(ENOSPC) => write_zeroed(iocb, from)?,
                    other => other?,
                }
            }
            other => other?,
        }
    };
    iocb.write_sync(written)
}

/// A buffered write where not even preallocated blocks can be written for lack of space: whole extents of them are
/// filled with zeros first ([`zero_out`]). `i_rwsem` is held exclusively. Errors: `ENOSPC` where there are none.
fn write_zeroed(iocb: &mut Kiocb<'_, Calf>, from: &mut IovIter<'_>) -> Result<usize> {
    let inode = iocb.inode();
    let old = inode.size();
    let outcome = match zero_out(inode, iocb.pos(), end_of(iocb, from)) {
        Ok(true) => file_buffered_write(iocb, from, WRITE, WRITE_OPS),
        Ok(false) => return Err(ENOSPC),
        Err(e) => Err(e),
    };
    // That moved EOF for a write that may have failed, or been short. What the caller hears is how it went.
    let right = match outcome {
        Ok(n) if n > 0 => old.max(iocb.pos()),
        _ => old,
    };
    let _ = undo_size(inode, right);
    outcome
}

/// One past the last byte of a write.
fn end_of(iocb: &Kiocb<'_, Calf>, from: &IovIter<'_>) -> u64 {
    iocb.pos().saturating_add(from.count() as u64)
}

/// Before a write of bytes `[pos, end)`: if it moves EOF, frees what a truncation has left behind that, and zeroes from
/// EOF to `pos`, above all the rest of the EOF block (C-WR-ZERO-GAP).
///
/// `i_rwsem` is held exclusively if it moves EOF. Errors: `EAGAIN` if there is something to do and `nowait`, those of
/// [`truncate::finish`] and of zeroing.
fn make_way(inode: &Inode, pos: u64, end: u64, nowait: bool) -> Result {
    let size = inode.size();
    if pos <= size && (end <= size || !inode.sb().data().has_half_cut()) {
        return Ok(());
    }
    if nowait {
        return Err(EAGAIN);
    }
    let guard = inode.invalidate_lock();
    inode.dio_wait();
    truncate::finish(inode)?;
    let size = inode.size();
    if pos > size {
        let held = InvalidateHeld::by(&guard);
        zero_range(&held, size, pos - size, ZERO, WRITE_OPS)?;
    }
    Ok(())
}

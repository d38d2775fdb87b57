// SPDX-License-Identifier: GPL-2.0

//! I/O requests: open files, `struct kiocb`, `struct iov_iter`, `struct vm_fault`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/uio.h`](srctree/include/linux/uio.h)

use super::fs::FileSystem;
use super::inode::Inode;
use crate::bindings;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::{NotThreadSafe, Opaque};

/// Converts the result of a C function that returns a byte count or an error.
pub(super) fn count(ret: isize) -> Result<usize> {
    usize::try_from(ret).map_err(|_| Error::from_errno(i32::try_from(ret).unwrap_or(-5)))
}

/// An open file of filesystem `F`.
///
/// # Invariants
///
/// It is open, and its inode is of `F`.
#[repr(transparent)]
pub struct File<F: FileSystem>(Opaque<bindings::file>, PhantomData<F>);

impl<F: FileSystem> File<F> {
    /// Wraps a raw file.
    ///
    /// # Safety
    ///
    /// `ptr` is an open file of `F`, valid for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::file) -> &'a Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: Transparent wrapper, valid by the safety requirements.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::file {
        self.0.get()
    }

    /// The inode.
    pub fn inode(&self) -> &Inode<F> {
        // SAFETY: By the type invariant.
        unsafe { Inode::from_raw(bindings::calf_file_inode(self.as_ptr())) }
    }

    /// `file_accessed`.
    pub fn accessed(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_file_accessed(self.as_ptr()) }
    }

    /// Opened with `O_SYNC` or `O_DSYNC`?
    pub fn is_sync(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_file_is_sync(self.as_ptr()) }
    }

    /// `file_update_time`.
    pub fn update_time(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::file_update_time(self.as_ptr()) })
    }

    /// Runs `f` with write access to the mount (`mnt_want_write_file`): it is writable and is not
    /// frozen meanwhile. Errors: `EROFS`, those of `f`. With no lock held.
    pub fn with_write<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::mnt_want_write_file(self.as_ptr()) })?;
        let ret = f();
        // SAFETY: Taken above.
        unsafe { bindings::mnt_drop_write_file(self.as_ptr()) };
        ret
    }

    /// `file_modified`: drops privileges, updates times. The caller holds `i_rwsem` exclusively.
    pub fn modified(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::file_modified(self.as_ptr()) })
    }

    /// `file_write_and_wait_range`, bytes, `end` inclusive.
    pub fn write_and_wait(&self, start: u64, end: u64) -> Result {
        // CAST: offsets are below `i64::MAX`, which also stands for "all".
        // SAFETY: By the type invariant.
        to_result(unsafe {
            bindings::file_write_and_wait_range(self.as_ptr(), start as i64, end as i64)
        })
    }

    /// `file_fdatawait_range`: waits for writeback of bytes, `end` inclusive, and tells its error as
    /// [`Self::check_wb_err`] does.
    pub fn wait(&self, start: u64, end: u64) -> Result {
        // CAST: offsets are below `i64::MAX`, which also stands for "all".
        // SAFETY: By the type invariant.
        to_result(unsafe {
            bindings::file_fdatawait_range(self.as_ptr(), start as i64, end as i64)
        })
    }

    /// `file_check_and_advance_wb_err`.
    pub fn check_wb_err(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::file_check_and_advance_wb_err(self.as_ptr()) })
    }
}

/// A read or write request on a file of filesystem `F`.
///
/// # Invariants
///
/// `ptr` is such a request, valid for `'a`.
pub struct Kiocb<'a, F: FileSystem> {
    ptr: *mut bindings::kiocb,
    _p: PhantomData<(&'a mut bindings::kiocb, F)>,
}

impl<F: FileSystem> Kiocb<'_, F> {
    /// Wraps a raw request.
    ///
    /// # Safety
    ///
    /// `ptr` is a request on a file of `F`, valid while the value lives.
    pub unsafe fn from_raw(ptr: *mut bindings::kiocb) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            ptr,
            _p: PhantomData,
        }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::kiocb {
        self.ptr
    }

    /// The file.
    pub fn file(&self) -> &File<F> {
        // SAFETY: By the type invariant.
        unsafe { File::from_raw((*self.ptr).ki_filp) }
    }

    /// The inode.
    ///
    /// The reference does not borrow the request: the file that the request holds keeps the
    /// inode, so it must not be used after the request has ended.
    pub fn inode<'b>(&self) -> &'b Inode<F>
    where
        Self: 'b,
    {
        // SAFETY: By the type invariant; the file pins the inode as long as the request (`'b` at most) lives.
        unsafe { Inode::from_raw(bindings::calf_file_inode((*self.ptr).ki_filp)) }
    }

    /// File position.
    pub fn pos(&self) -> u64 {
        // SAFETY: By the type invariant.
        // CAST: positions are not negative after the checks of the VFS.
        unsafe { (*self.ptr).ki_pos as u64 }
    }

    /// Moves the position to `pos`, a position of this request.
    pub fn set_pos(&mut self, pos: u64) {
        // SAFETY: By the type invariant.
        // CAST: below the largest size of a file.
        unsafe { (*self.ptr).ki_pos = pos as i64 }
    }

    fn has(&self, flag: i32) -> bool {
        // SAFETY: By the type invariant.
        unsafe { (*self.ptr).ki_flags & flag != 0 }
    }

    /// `IOCB_DIRECT`.
    pub fn is_direct(&self) -> bool {
        self.has(bindings::CALF_CONST_IOCB_DIRECT)
    }

    /// `IOCB_NOWAIT`.
    pub fn is_nowait(&self) -> bool {
        self.has(bindings::CALF_CONST_IOCB_NOWAIT)
    }

    /// `IOCB_APPEND`.
    pub fn is_append(&self) -> bool {
        self.has(bindings::CALF_CONST_IOCB_APPEND)
    }

    /// `IOCB_ATOMIC`.
    pub fn is_atomic(&self) -> bool {
        self.has(bindings::CALF_CONST_IOCB_ATOMIC)
    }

    /// `generic_atomic_write_valid`: one direct, naturally aligned segment.
    /// Errors: `EINVAL`, `EOPNOTSUPP`.
    pub fn atomic_write_valid(&self, from: &IovIter<'_>) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { bindings::generic_atomic_write_valid(self.ptr, from.as_ptr()) })
    }

    /// `generic_write_checks`: returns the bytes to write, and sets the position when appending.
    /// The caller holds `i_rwsem`.
    pub fn write_checks(&mut self, from: &mut IovIter<'_>) -> Result<usize> {
        // SAFETY: By the type invariants.
        count(unsafe { bindings::generic_write_checks(self.ptr, from.as_ptr()) })
    }

    /// `kiocb_modified`: as `file_modified`, honours NOWAIT.
    pub fn modified(&self) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { bindings::kiocb_modified(self.ptr) })
    }

    /// `generic_write_sync`: makes `written` bytes durable if the request asks for that.
    pub fn write_sync(&self, written: usize) -> Result<usize> {
        // CAST: byte counts of I/O fit in isize.
        // SAFETY: By the type invariant.
        count(unsafe { bindings::calf_generic_write_sync(self.ptr, written as isize) })
    }

    /// `filemap_read`: reads through the page cache.
    pub fn buffered_read(&mut self, to: &mut IovIter<'_>) -> Result<usize> {
        // SAFETY: By the type invariants.
        count(unsafe { bindings::filemap_read(self.ptr, to.as_ptr(), 0) })
    }
}

/// The user (or kernel) memory of a request.
///
/// # Invariants
///
/// `ptr` is valid; `start` bytes were left when the value was made.
pub struct IovIter<'a> {
    ptr: *mut bindings::iov_iter,
    start: usize,
    _p: PhantomData<&'a mut bindings::iov_iter>,
}

impl IovIter<'_> {
    /// Wraps a raw iterator.
    ///
    /// # Safety
    ///
    /// `ptr` is valid while the value lives.
    pub unsafe fn from_raw(ptr: *mut bindings::iov_iter) -> Self {
        // INVARIANT: Valid by the safety requirements.
        Self {
            ptr,
            // SAFETY: As above.
            start: unsafe { bindings::calf_iov_iter_count(ptr) },
            _p: PhantomData,
        }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::iov_iter {
        self.ptr
    }

    /// Goes back to where `left` bytes were left. Never further back than where it was made, and never
    /// forward.
    pub fn rewind(&mut self, left: usize) {
        let n = left.min(self.start).saturating_sub(self.count());
        // SAFETY: Valid by the type invariant, by which `n` bytes have been consumed.
        unsafe { bindings::iov_iter_revert(self.ptr, n) }
    }

    /// Is it the memory of a process, which may have to be faulted in?
    pub fn is_user(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_iov_iter_is_user(self.ptr) }
    }

    /// Decides whether pinning memory that is not present is an error (`EFAULT`).
    pub fn set_nofault(&mut self, nofault: bool) {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_iov_iter_set_nofault(self.ptr, nofault) }
    }

    /// Faults in at most `most` bytes from the current position on, for a write into them if
    /// `to_write`. Returns whether there was any progress. No lock that a fault takes is held.
    pub fn fault_in(&self, most: usize, to_write: bool) -> bool {
        let want = self.count().min(most);
        let left = if to_write {
            // SAFETY: By the type invariant.
            unsafe { bindings::fault_in_iov_iter_writeable(self.ptr, want) }
        } else {
            // SAFETY: As above.
            unsafe { bindings::fault_in_iov_iter_readable(self.ptr, want) }
        };
        left < want
    }

    /// Bytes left.
    pub fn count(&self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::calf_iov_iter_count(self.ptr) }
    }
}

/// A page fault on a mapping of a file of filesystem `F`.
///
/// # Invariants
///
/// `ptr` is such a fault, valid for `'a`.
pub struct VmFault<'a, F: FileSystem> {
    ptr: *mut bindings::vm_fault,
    _p: PhantomData<(&'a mut bindings::vm_fault, F)>,
}

impl<F: FileSystem> VmFault<'_, F> {
    /// Wraps a raw fault.
    ///
    /// # Safety
    ///
    /// `ptr` is a fault on a mapping of a file of `F`, valid while the value lives.
    pub unsafe fn from_raw(ptr: *mut bindings::vm_fault) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            ptr,
            _p: PhantomData,
        }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::vm_fault {
        self.ptr
    }

    /// The inode. Kept by the mapping for as long as the fault is handled.
    pub fn inode<'b>(&self) -> &'b Inode<F>
    where
        Self: 'b,
    {
        // SAFETY: By the type invariant; the mapping's file pins the inode while the fault (`'b` at most) lives.
        unsafe { Inode::from_raw(bindings::calf_vmf_inode(self.ptr)) }
    }

    /// The file.
    pub fn file<'b>(&self) -> &'b File<F>
    where
        Self: 'b,
    {
        // SAFETY: As above.
        unsafe { File::from_raw(bindings::calf_vmf_file(self.ptr)) }
    }

    /// The bytes of the folio that is to become writable, `[start, end)`. Only in `page_mkwrite`,
    /// whose caller holds a reference to it; a folio that is not locked may leave the file.
    pub fn folio_range(&self) -> (u64, u64) {
        // SAFETY: The fault has a page, and its folio is referenced.
        let pos = unsafe { bindings::calf_vmf_folio_pos(self.ptr) };
        // SAFETY: As above.
        let len = unsafe { bindings::calf_vmf_folio_size(self.ptr) };
        let pos = u64::try_from(pos).unwrap_or(0);
        (pos, pos.saturating_add(len as u64))
    }

    /// Is this return value of a fault handler an error?
    pub fn failed(ret: u32) -> bool {
        // SAFETY: Pure computation.
        unsafe { bindings::calf_vmf_failed(ret) }
    }

    /// The fault's return value for an error.
    pub fn error(e: Error) -> u32 {
        // SAFETY: Pure computation.
        unsafe { bindings::calf_vmf_error(e.to_errno()) }
    }
}

/// A hold that keeps the filesystem from being frozen while a fault makes pages dirty.
pub struct PagefaultScope<'a, F: FileSystem>(&'a Inode<F>, NotThreadSafe);

impl<'a, F: FileSystem> PagefaultScope<'a, F> {
    /// `sb_start_pagefault`.
    pub fn enter(inode: &'a Inode<F>) -> Self {
        // SAFETY: The superblock is valid.
        unsafe { bindings::calf_sb_start_pagefault(inode.sb().as_ptr()) };
        Self(inode, NotThreadSafe)
    }
}

impl<F: FileSystem> Drop for PagefaultScope<'_, F> {
    fn drop(&mut self) {
        // SAFETY: Entered by `enter`.
        unsafe { bindings::calf_sb_end_pagefault(self.0.sb().as_ptr()) }
    }
}

/// While it lives, touching user memory of this task that is not present fails at once.
pub struct NoPagefaults(NotThreadSafe);

impl NoPagefaults {
    /// `pagefault_disable`.
    pub fn enter() -> Self {
        // SAFETY: Only counts in the current task.
        unsafe { bindings::calf_pagefault_disable() };
        Self(NotThreadSafe)
    }
}

impl Drop for NoPagefaults {
    fn drop(&mut self) {
        // SAFETY: Entered by `enter`, in the same task.
        unsafe { bindings::calf_pagefault_enable() }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! File operations of regular files.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::fs::FileSystem;
use super::inode::Inode;
use super::kiocb::{File, IovIter, Kiocb, VmFault};
use crate::bindings;
use core::marker::PhantomData;
use kernel::error::{from_result, VTABLE_DEFAULT_ERROR};
use kernel::ffi::{c_long, c_uint, c_ulong};
use kernel::prelude::*;
use kernel::uaccess::UserPtr;

/// Origin of a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// To the next data at or after the offset.
    Data,
    /// To the next hole at or after the offset.
    Hole,
}

/// The operations of regular files.
#[vtable]
pub trait FileOperations: Sized + 'static {
    /// The filesystem.
    type Fs: FileSystem;

    /// May the file be used? Asked for what the kernel does without the filesystem: opening, moving the position,
    /// splicing from the page cache. No lock is held.
    fn check(inode: &Inode<Self::Fs>) -> Result;

    /// Reads. No lock is held.
    fn read_iter(iocb: &mut Kiocb<'_, Self::Fs>, to: &mut IovIter<'_>) -> Result<usize>;

    /// Writes. No lock is held, the filesystem cannot be frozen meanwhile.
    fn write_iter(iocb: &mut Kiocb<'_, Self::Fs>, from: &mut IovIter<'_>) -> Result<usize>;

    /// Makes bytes `[start, end]` durable, and the metadata that reaching them needs; with
    /// `datasync` false all metadata.
    fn fsync(file: &File<Self::Fs>, start: u64, end: u64, datasync: bool) -> Result;

    /// A write fault: makes space certain and the page dirty. Returns `VM_FAULT_*`.
    fn page_mkwrite(fault: &mut VmFault<'_, Self::Fs>) -> u32;

    /// `SEEK_DATA` and `SEEK_HOLE`; returns the new offset.
    fn seek(_file: &File<Self::Fs>, _offset: i64, _whence: Whence) -> Result<i64> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// `fallocate` with `FALLOC_FL_*` in `mode`; the range was checked by the VFS.
    fn fallocate(_file: &File<Self::Fs>, _mode: u32, _offset: u64, _len: u64) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// `remap_file_range` with `REMAP_FILE_*` in `flags`; returns the bytes done.
    fn remap_file_range(
        _src: &File<Self::Fs>,
        _src_pos: u64,
        _dst: &File<Self::Fs>,
        _dst_pos: u64,
        _len: u64,
        _flags: u32,
    ) -> Result<u64> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// An ioctl that the VFS does not handle itself; `arg` is what came from user space. No lock
    /// is held. Errors: `ENOTTY` for a command that is not known.
    fn ioctl(_file: &File<Self::Fs>, _cmd: u32, _arg: UserPtr) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The last reference of an open file goes.
    fn release(_inode: &Inode<Self::Fs>, _file: &File<Self::Fs>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

struct Table<T: FileOperations>(PhantomData<T>);

impl<T: FileOperations> Table<T> {
    /// # Safety
    ///
    /// Called by the VFS as `file_operations::read_iter` of a file of `T::Fs`.
    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        to: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: Valid for the call.
        let mut iocb = unsafe { Kiocb::from_raw(iocb) };
        // SAFETY: Valid for the call.
        let mut to = unsafe { IovIter::from_raw(to) };
        // CAST: byte counts fit in isize.
        from_result(|| T::read_iter(&mut iocb, &mut to).map(|n| n as isize))
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::write_iter` of a file of `T::Fs`.
    unsafe extern "C" fn write_iter(
        iocb: *mut bindings::kiocb,
        from: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: Valid for the call.
        let mut iocb = unsafe { Kiocb::from_raw(iocb) };
        // SAFETY: Valid for the call.
        let mut from = unsafe { IovIter::from_raw(from) };
        // CAST: byte counts fit in isize.
        from_result(|| T::write_iter(&mut iocb, &mut from).map(|n| n as isize))
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::fsync` of a file of `T::Fs`.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        start: i64,
        end: i64,
        datasync: c_int,
    ) -> c_int {
        // SAFETY: Valid for the call.
        let file = unsafe { File::from_raw(file) };
        // CAST: the VFS passes offsets from 0 to `LLONG_MAX`.
        from_result(|| T::fsync(file, start as u64, end as u64, datasync != 0).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::llseek` of a file of `T::Fs`.
    unsafe extern "C" fn llseek(file: *mut bindings::file, offset: i64, whence: c_int) -> i64 {
        let hole = match whence as u32 {
            bindings::SEEK_HOLE if T::HAS_SEEK => Whence::Hole,
            bindings::SEEK_DATA if T::HAS_SEEK => Whence::Data,
            _ => {
                // SAFETY: Valid for the call.
                let this = unsafe { File::from_raw(file) };
                return from_result(|| {
                    T::check(this.inode())?;
                    // SAFETY: Valid for the call.
                    Ok(unsafe { bindings::generic_file_llseek(file, offset, whence) })
                });
            }
        };
        // SAFETY: Valid for the call.
        let this = unsafe { File::from_raw(file) };
        from_result(|| {
            let pos = T::seek(this, offset, hole)?;
            // SAFETY: Valid for the call; the position is within the size limit.
            let pos = unsafe { bindings::vfs_setpos(file, pos, i64::MAX) };
            if pos < 0 {
                return Err(EINVAL);
            }
            Ok(pos)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::fallocate` of a file of `T::Fs`.
    unsafe extern "C" fn fallocate(
        file: *mut bindings::file,
        mode: c_int,
        offset: i64,
        len: i64,
    ) -> isize {
        // SAFETY: Valid for the call.
        let file = unsafe { File::from_raw(file) };
        // CAST: checked by the VFS: not negative.
        from_result(|| T::fallocate(file, mode as u32, offset as u64, len as u64).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::remap_file_range` of two files of `T::Fs` on one
    /// mount.
    unsafe extern "C" fn remap_file_range(
        src: *mut bindings::file,
        src_pos: i64,
        dst: *mut bindings::file,
        dst_pos: i64,
        len: i64,
        flags: u32,
    ) -> i64 {
        // SAFETY: Valid for the call.
        let src = unsafe { File::from_raw(src) };
        // SAFETY: Valid for the call.
        let dst = unsafe { File::from_raw(dst) };
        // CAST: checked by the VFS: not negative.
        from_result(|| {
            T::remap_file_range(src, src_pos as u64, dst, dst_pos as u64, len as u64, flags)
                .map(|n| n as i64)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::unlocked_ioctl` of a file of `T::Fs`, or as
    /// `compat_ioctl`: all arguments are pointers or numbers that mean the same in both.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: Valid for the call.
        let file = unsafe { File::from_raw(file) };
        from_result(|| T::ioctl(file, cmd, UserPtr::from_addr(arg)))
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::open` of a file of `T::Fs`.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: Valid for the call.
            T::check(unsafe { Inode::from_raw(inode) })?;
            // SAFETY: The file is being opened, nobody else sees it.
            unsafe { bindings::calf_file_set_odirect(file) };
            // SAFETY: Both are valid.
            Ok(unsafe { bindings::generic_file_open(inode, file) })
        })
    }

    /// With `i_rwsem` shared, as a read: all or nothing of a write that runs beside it.
    ///
    /// # Safety
    ///
    /// Called by the VFS as `file_operations::splice_read` of a file of `T::Fs`.
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        pos: *mut i64,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: u32,
    ) -> isize {
        // SAFETY: Valid for the call.
        let inode = unsafe { File::<T::Fs>::from_raw(file) }.inode();
        from_result(|| {
            T::check(inode)?;
            let _lock = inode.lock_shared();
            // SAFETY: Valid for the call.
            Ok(unsafe { bindings::filemap_splice_read(file, pos, pipe, len, flags) })
        })
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::release` of a file of `T::Fs`.
    unsafe extern "C" fn release(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: Valid for the call.
        let inode = unsafe { Inode::from_raw(inode) };
        // SAFETY: Valid for the call.
        T::release(inode, unsafe { File::from_raw(file) });
        0
    }

    /// # Safety
    ///
    /// Called by the VFS as `file_operations::mmap_prepare` of a file of `T::Fs`.
    unsafe extern "C" fn mmap_prepare(desc: *mut bindings::vm_area_desc) -> c_int {
        // SAFETY: The descriptor is valid for the call, the table is static.
        unsafe { bindings::calf_mmap_prepare(desc, &Self::VM_OPS) };
        0
    }

    /// # Safety
    ///
    /// Called by the memory manager as `vm_operations_struct::page_mkwrite` for a mapping of a
    /// file of `T::Fs`.
    unsafe extern "C" fn page_mkwrite(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: Valid for the call.
        T::page_mkwrite(&mut unsafe { VmFault::from_raw(vmf) })
    }

    const VM_OPS: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(bindings::filemap_fault),
        map_pages: Some(bindings::filemap_map_pages),
        page_mkwrite: Some(Self::page_mkwrite),
        ..pin_init::zeroed()
    };

    const OPS: bindings::file_operations = bindings::file_operations {
        owner: kernel::module::this_module::<T::OwnerModule>().as_ptr(),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        write_iter: Some(Self::write_iter),
        unlocked_ioctl: if T::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        compat_ioctl: if T::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        fsync: Some(Self::fsync),
        open: Some(Self::open),
        release: if T::HAS_RELEASE {
            Some(Self::release)
        } else {
            None
        },
        mmap_prepare: Some(Self::mmap_prepare),
        splice_read: Some(Self::splice_read),
        splice_write: Some(bindings::iter_file_splice_write),
        fallocate: if T::HAS_FALLOCATE {
            Some(Self::fallocate)
        } else {
            None
        },
        remap_file_range: if T::HAS_REMAP_FILE_RANGE {
            Some(Self::remap_file_range)
        } else {
            None
        },
        setlease: Some(bindings::calf_setlease),
        fop_flags: bindings::CALF_CONST_FOP_FLAGS,
        ..pin_init::zeroed()
    };
}

/// A table of file operations.
pub struct FopsRef<F: FileSystem>(&'static bindings::file_operations, PhantomData<F>);

/// Builds the table.
pub const fn table<T: FileOperations>() -> FopsRef<T::Fs> {
    FopsRef(&Table::<T>::OPS, PhantomData)
}

impl<F: FileSystem> FopsRef<F> {
    /// Installs the table in an inode that is being set up.
    pub fn install(&self, inode: &Inode<F>) {
        // SAFETY: The inode is not visible yet; the table is static.
        unsafe { (*inode.as_ptr()).__bindgen_anon_3.i_fop = self.0 };
    }
}

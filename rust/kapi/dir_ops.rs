// SPDX-License-Identifier: GPL-2.0

//! File operations of directories.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use core::marker::PhantomData;

use kernel::error::{from_result, Result, VTABLE_DEFAULT_ERROR};
use kernel::ffi::{c_int, c_long, c_uint, c_ulong};
use kernel::module::this_module;
use kernel::prelude::{build_error, vtable};
use kernel::uaccess::UserPtr;

use super::fs::FileSystem;
use super::inode::Inode;
use super::kiocb::File;
use crate::bindings;

/// One call of `readdir`: where it stands and where the names go.
///
/// Names go to user memory: a page fault may run any filesystem code, so a caller of
/// [`DirContext::emit`] must hold nothing but `i_rwsem`, shared.
///
/// # Invariants
///
/// Both pointers are valid for `'a`, and nobody else uses the context.
pub struct DirContext<'a> {
    file: *mut bindings::file,
    ctx: *mut bindings::dir_context,
    _p: PhantomData<&'a mut bindings::dir_context>,
}

impl DirContext<'_> {
    /// The position to go on from: 0 and 1 are `.` and `..`, the rest is the filesystem's.
    pub fn pos(&self) -> u64 {
        // SAFETY: Valid by the type invariant.
        // CAST: Positions are never negative.
        unsafe { (*self.ctx).pos as u64 }
    }

    /// Sets the position of the name to be emitted next.
    pub fn set_pos(&mut self, pos: u64) {
        // SAFETY: Valid and ours by the type invariant.
        // CAST: See `pos`.
        unsafe { (*self.ctx).pos = pos as i64 }
    }

    /// Emits a name at the current position; `false` means that there is no more room.
    pub fn emit(&mut self, name: &[u8], ino: u64, ftype: u8) -> bool {
        // SAFETY: Valid by the type invariant; `name` is readable for its length.
        unsafe {
            bindings::calf_dir_emit(
                self.ctx,
                name.as_ptr().cast(),
                // CAST: Names have at most 255 bytes.
                name.len() as c_int,
                ino,
                c_uint::from(ftype),
            )
        }
    }

    /// Emits `.` and `..` if they are due; `false` means that there is no more room.
    pub fn emit_dots(&mut self) -> bool {
        // SAFETY: Valid by the type invariant.
        unsafe { bindings::calf_dir_emit_dots(self.file, self.ctx) }
    }
}

/// The file operations of directories.
#[vtable]
pub trait DirOperations: Sized {
    /// The filesystem whose directories these are.
    type FileSystem: FileSystem;

    /// Reports names. `i_rwsem` of `dir` is held shared.
    fn iterate(dir: &Inode<Self::FileSystem>, ctx: &mut DirContext<'_>) -> Result;

    /// Makes the directory durable. No lock is held.
    fn fsync(_dir: &Inode<Self::FileSystem>, _datasync: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// An ioctl that the VFS does not handle itself; see
    /// [`FileOperations::ioctl`](super::file_ops::FileOperations::ioctl).
    fn ioctl(_file: &File<Self::FileSystem>, _cmd: u32, _arg: UserPtr) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A table of file operations for directories of filesystem `T`.
pub struct DirOps<T: FileSystem>(&'static bindings::file_operations, PhantomData<T>);

impl<T: FileSystem> DirOps<T> {
    /// The table that calls `O`.
    pub const fn new<O: DirOperations<FileSystem = T>>() -> Self {
        Self(DirOpsVTable::<O>::build(), PhantomData)
    }

    /// Installs the table in an inode that is being set up.
    pub fn install(&self, inode: &Inode<T>) {
        // SAFETY: The inode is not visible yet; the table is static.
        unsafe { (*inode.as_ptr()).__bindgen_anon_3.i_fop = self.0 };
    }
}

/// The C side of [`DirOperations`].
struct DirOpsVTable<O: DirOperations>(PhantomData<O>);

impl<O: DirOperations> DirOpsVTable<O> {
    /// # Safety
    ///
    /// Called by the VFS only: `file` is an open directory of `O::FileSystem`, its `i_rwsem` is
    /// held shared, and `ctx` belongs to this call.
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        // SAFETY: An open file keeps its inode.
        let dir = unsafe { Inode::from_raw((*file).f_inode) };
        // INVARIANT: By the safety requirements.
        let mut ctx = DirContext {
            file,
            ctx,
            _p: PhantomData,
        };
        from_result(|| O::iterate(dir, &mut ctx).map(|()| 0))
    }

    /// Moves the position, which may be any number: it is not bounded by `s_maxbytes`.
    ///
    /// # Safety
    ///
    /// Called by the VFS only: `file` is an open directory.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // SAFETY: `file` is valid by the safety requirements.
        unsafe { bindings::generic_file_llseek_size(file, offset, whence, i64::MAX, i64::MAX) }
    }

    /// # Safety
    ///
    /// Called by the VFS only: `file` is an open directory of `O::FileSystem`.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        _start: bindings::loff_t,
        _end: bindings::loff_t,
        datasync: c_int,
    ) -> c_int {
        // SAFETY: An open file keeps its inode.
        let dir = unsafe { Inode::from_raw((*file).f_inode) };
        from_result(|| O::fsync(dir, datasync != 0).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only: `file` is an open directory of `O::FileSystem`.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: Valid for the call.
        let file = unsafe { File::from_raw(file) };
        from_result(|| O::ioctl(file, cmd, UserPtr::from_addr(arg)))
    }

    const VTABLE: bindings::file_operations = bindings::file_operations {
        owner: this_module::<O::OwnerModule>().as_ptr(),
        llseek: Some(Self::llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        unlocked_ioctl: if O::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        compat_ioctl: if O::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        fsync: if O::HAS_FSYNC {
            Some(Self::fsync)
        } else {
            None
        },
        setlease: Some(bindings::calf_setlease),
        ..pin_init::zeroed()
    };

    const fn build() -> &'static bindings::file_operations {
        &Self::VTABLE
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The mount API: parsing options, making and reconfiguring a superblock.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h),
//! [`include/linux/fs_parser.h`](srctree/include/linux/fs_parser.h)

use super::block_dev::BlockDev;
use super::export::{ExportOps, ExportTable};
use super::fs::FileSystem;
use super::inode::Inode;
use super::jbd2::OpenedJournal;
use super::super_block::SuperBlock;
use super::super_ops::{drop_sb_data, SuperOps, SuperOpsTable};
use super::xattr::{XattrOperations, XattrTable};
use crate::bindings;
use core::marker::PhantomData;
use core::ptr;
use kernel::error::{code::*, from_result, Result};
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::types::Opaque;

/// One option a filesystem understands.
#[repr(transparent)]
pub struct ParamSpec(bindings::fs_parameter_spec);

// SAFETY: The pointers inside refer to constants.
unsafe impl Sync for ParamSpec {}
// SAFETY: See above.
unsafe impl Send for ParamSpec {}

impl ParamSpec {
    /// `name`, without a value.
    pub const fn flag(name: &'static CStr, id: u8) -> Self {
        let mut spec: bindings::fs_parameter_spec = pin_init::zeroed();
        spec.name = kernel::str::as_char_ptr_in_const_context(name);
        spec.opt = id;
        Self(spec)
    }

    /// `name=TEXT`.
    pub const fn string(name: &'static CStr, id: u8) -> Self {
        let mut spec = Self::flag(name, id);
        spec.0.type_ = Some(bindings::fs_param_is_string);
        spec
    }

    /// The end of a list.
    pub const fn end() -> Self {
        Self(pin_init::zeroed())
    }
}

/// All options of a filesystem.
///
/// # Invariants
///
/// The last item is [`ParamSpec::end`].
pub struct ParamTable(&'static [ParamSpec]);

impl ParamTable {
    /// Wraps a list; fails to compile in const context if it does not end with the end marker.
    pub const fn new(specs: &'static [ParamSpec]) -> Self {
        assert!(!specs.is_empty() && specs[specs.len() - 1].0.name.is_null());
        // INVARIANT: Checked above.
        Self(specs)
    }
}

/// The value of a parsed option.
#[derive(Clone, Copy, Debug)]
pub enum ParamValue<'a> {
    /// The option stood alone.
    Flag,
    /// `name=TEXT`.
    Text(&'a CStr),
}

/// The mount side of a filesystem.
pub trait MountOps: SuperOps + ExportOps {
    /// What the options become while they are collected.
    type Options: Send + 'static;

    /// The options there are.
    const PARAMS: ParamTable;

    /// The state before the first option is parsed: the defaults for a new mount, the current
    /// options for a reconfiguration.
    fn init_options(current: Option<&SuperBlock<Self>>) -> Result<Self::Options>;

    /// Takes in one option. On error the reason belongs into `fc.error()`.
    fn parse_param(
        options: &mut Self::Options,
        fc: &FsContext,
        id: u8,
        value: ParamValue<'_>,
    ) -> Result;

    /// Reads the superblock and brings the mount up. The device is open.
    fn fill_super(sb: NewSuper<'_, Self>, fc: &FsContext, options: &Self::Options) -> Result;

    /// Changes options of a live mount; `rdonly` is the wanted state.
    fn reconfigure(
        sb: &SuperBlock<Self>,
        fc: &FsContext,
        options: &Self::Options,
        rdonly: bool,
    ) -> Result;
}

/// A mount or reconfiguration in progress.
#[repr(transparent)]
pub struct FsContext(Opaque<bindings::fs_context>);

impl FsContext {
    /// # Safety
    ///
    /// `fc` is valid for `'a`.
    unsafe fn from_raw<'a>(fc: *mut bindings::fs_context) -> &'a Self {
        // SAFETY: Transparent wrapper, valid by the safety requirements.
        unsafe { &*fc.cast() }
    }

    /// Tells the user (and, for the old API, the log) why this fails.
    pub fn error(&self, msg: &CStr) {
        // SAFETY: The context is valid and the text NUL-terminated.
        unsafe { bindings::calf_fc_error(self.0.get(), msg.as_char_ptr()) }
    }
}

/// A superblock that `fill_super` is building: no data, no root yet.
///
/// # Invariants
///
/// `s_fs_info` and `s_root` are null; the block device is open.
pub struct NewSuper<'a, T: FileSystem> {
    sb: *mut bindings::super_block,
    _p: PhantomData<&'a T>,
}

/// Constant facts about a filesystem that the superblock carries.
#[derive(Clone, Copy, Debug)]
pub struct SuperParams {
    /// `s_magic`.
    pub magic: u32,
    /// Largest file, bytes.
    pub max_bytes: u64,
    /// `s_max_links`.
    pub max_links: u32,
    /// `s_time_gran`, ns.
    pub time_gran: u32,
    /// Oldest time, seconds since the epoch.
    pub time_min: i64,
    /// Latest time, seconds since the epoch.
    pub time_max: i64,
    /// Identity.
    pub uuid: [u8; 16],
}

impl<'a, T: MountOps> NewSuper<'a, T> {
    fn bdev(&self) -> *mut bindings::block_device {
        // SAFETY: Set before `fill_super`, by the type invariant.
        unsafe { (*self.sb).s_bdev }
    }

    /// Name of the device (`s_id`).
    pub fn id(&self) -> &'a CStr {
        // SAFETY: `s_id` is a NUL-terminated array that does not change any more.
        unsafe { CStr::from_char_ptr(ptr::addr_of!((*self.sb).s_id).cast()) }
    }

    /// Size of the device in bytes.
    pub fn device_bytes(&self) -> u64 {
        // SAFETY: The device is open.
        unsafe { bindings::calf_bdev_nr_bytes(self.bdev()) }
    }

    /// Was a read-only mount asked for?
    pub fn is_rdonly(&self) -> bool {
        // SAFETY: The superblock is valid.
        unsafe { bindings::calf_sb_rdonly(self.sb) }
    }

    /// Is the device itself read-only?
    pub fn device_rdonly(&self) -> bool {
        // SAFETY: The device is open.
        unsafe { bindings::calf_bdev_read_only(self.bdev()) }
    }

    /// Smallest block size the device can do, bytes.
    pub fn min_block_size(&self) -> u32 {
        // SAFETY: The device is open.
        unsafe { bindings::calf_bdev_logical_block_size(self.bdev()) }
    }

    /// Makes the device's buffers `size` bytes large. Fails if the device or the page size
    /// forbids it. The device handle of an earlier call must not be used any more.
    pub fn set_block_size(&self, size: u32) -> Result<BlockDev> {
        let int = i32::try_from(size).map_err(|_| EINVAL)?;
        // SAFETY: The superblock is valid, its device is open and has no buffers in use.
        if unsafe { bindings::sb_set_blocksize(self.sb, int) } == 0 {
            return Err(EINVAL);
        }
        // SAFETY: The device stays open until the data of the superblock has been dropped; it is
        // the filesystem that copies go into. See [`NewSuper::install`].
        Ok(unsafe { BlockDev::from_raw(self.bdev(), size) })
    }

    /// Opens the journal in the region of `len` blocks from `start` on `dev`; it must go into
    /// the filesystem's data or be dropped.
    pub fn open_journal(&self, dev: &BlockDev, start: u64, len: u32) -> Result<OpenedJournal> {
        // SAFETY: The device stays open until the data of the superblock has been dropped.
        unsafe { OpenedJournal::open(dev, start, len) }
    }

    /// Installs the filesystem's data, the operations and the constants.
    ///
    /// From here on inodes may be read. If `fill_super` fails later, the data is dropped, after
    /// `put_super` in case the root exists.
    pub fn install(self, params: &SuperParams, data: Pin<KBox<T::SbData>>) -> BootingSuper<'a, T>
    where
        T: XattrOperations,
    {
        let sb = self.sb;
        // SAFETY: The box is not moved out of while it is installed; `drop_sb_data` makes a
        // pinned box of it again.
        let data = KBox::into_raw(unsafe { Pin::into_inner_unchecked(data) });
        // SAFETY: Nobody else sees the superblock's fields yet.
        let s = unsafe { &mut *sb };
        s.s_fs_info = data.cast();
        s.s_op = SuperOpsTable::<T>::build();
        // The same C type; the kernel crate has it without fields.
        s.s_export_op = ptr::from_ref(ExportTable::<T>::build()).cast();
        s.s_xattr = XattrTable::<T>::handlers();
        s.s_magic = params.magic as usize;
        // Nothing on a file that a write would have to strip can have been set unnoticed.
        s.s_flags |= bindings::CALF_CONST_SB_NOSEC | bindings::CALF_CONST_SB_POSIXACL;
        s.s_maxbytes = i64::try_from(params.max_bytes).unwrap_or(i64::MAX);
        s.s_max_links = params.max_links;
        s.s_time_gran = params.time_gran;
        s.s_time_min = params.time_min;
        s.s_time_max = params.time_max;
        // SAFETY: The uuid has 16 bytes.
        unsafe { bindings::calf_sb_set_uuid(sb, params.uuid.as_ptr()) };
        BootingSuper {
            // SAFETY: `s_fs_info` was set above.
            sb: unsafe { SuperBlock::from_raw(sb) },
        }
    }
}

/// A superblock that has its data but no root yet.
pub struct BootingSuper<'a, T: FileSystem> {
    sb: &'a SuperBlock<T>,
}

impl<'a, T: FileSystem> BootingSuper<'a, T> {
    /// The superblock, usable for reading inodes.
    pub fn sb(&self) -> &'a SuperBlock<T> {
        self.sb
    }

    /// Makes `root` the root of the mount; consumes its reference.
    ///
    /// When `fill_super` fails after this, the VFS runs `put_super`.
    pub fn set_root(self, root: ARef<Inode<T>>) -> Result<&'a SuperBlock<T>> {
        let inode = ARef::into_raw(root).as_ptr().cast();
        // SAFETY: The reference to the inode goes to the dentry, or is dropped on failure.
        let dentry = unsafe { bindings::d_make_root(inode) };
        if dentry.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The mount is not visible yet, so nobody reads the field.
        unsafe { (*self.sb.as_ptr()).s_root = dentry };
        Ok(self.sb)
    }
}

/// `file_system_type::init_fs_context`.
///
/// # Safety
///
/// C calls this with a new context of a filesystem type registered for `T`.
pub(super) unsafe extern "C" fn init_fs_context<T: MountOps>(
    fc: *mut kernel::bindings::fs_context,
) -> c_int {
    let fc = fc.cast::<bindings::fs_context>();
    from_result(|| {
        // SAFETY: By the safety requirements.
        let current = if unsafe { bindings::calf_fc_is_reconfigure(fc) } {
            // SAFETY: A reconfiguration starts from a root of this filesystem.
            let sb = unsafe { (*(*fc).root).d_sb };
            // SAFETY: A mounted superblock of `T`.
            Some(unsafe { SuperBlock::<T>::from_raw(sb) })
        } else {
            None
        };
        let options = KBox::new(T::init_options(current)?, GFP_KERNEL)?;
        // SAFETY: The context is ours to fill; `free` below gives the memory back.
        unsafe { (*fc).fs_private = KBox::into_raw(options).cast() };
        // `i_version` counts always; a remount must not end it.
        // SAFETY: As above.
        unsafe { (*fc).sb_flags |= bindings::CALF_CONST_SB_I_VERSION as u32 };
        // SAFETY: As above.
        unsafe { (*fc).ops = ContextTable::<T>::build() };
        Ok(0)
    })
}

struct ContextTable<T: MountOps>(PhantomData<T>);

impl<T: MountOps> ContextTable<T> {
    /// # Safety
    ///
    /// C calls this once, as the last operation on a context.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: The context is valid.
        let options = unsafe { (*fc).fs_private }.cast::<T::Options>();
        if !options.is_null() {
            // SAFETY: Comes from `KBox::into_raw` in `init_fs_context`.
            drop(unsafe { KBox::from_raw(options) });
        }
    }

    /// # Safety
    ///
    /// C calls this with a context made by `init_fs_context` and a valid parameter.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> c_int {
        let table = T::PARAMS;
        // SAFETY: All pointers are valid, and the table ends with an empty item.
        let id = unsafe { bindings::calf_fs_parse(fc, table.0.as_ptr().cast(), param) };
        if id < 0 {
            // Also -ENOPARAM: the VFS then tries its own options and refuses what is left with a
            // message that names the option.
            return id;
        }
        from_result(|| {
            // SAFETY: The parameter is valid.
            let text = unsafe { bindings::calf_fs_parameter_string(param) };
            let value = if text.is_null() {
                ParamValue::Flag
            } else {
                // SAFETY: A NUL-terminated string that lives as long as the parameter.
                ParamValue::Text(unsafe { CStr::from_char_ptr(text) })
            };
            // SAFETY: Set by `init_fs_context`; the context is used by one task at a time.
            let options = unsafe { &mut *(*fc).fs_private.cast::<T::Options>() };
            let id = u8::try_from(id).map_err(|_| EINVAL)?;
            // SAFETY: The context is valid.
            T::parse_param(options, unsafe { FsContext::from_raw(fc) }, id, value)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// C calls this with a context made by `init_fs_context`.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe { bindings::get_tree_bdev(fc, Some(Self::fill_super)) }
    }

    /// # Safety
    ///
    /// C calls this from `get_tree_bdev` with a new superblock whose device is open.
    unsafe extern "C" fn fill_super(
        sb: *mut bindings::super_block,
        fc: *mut bindings::fs_context,
    ) -> c_int {
        // SAFETY: Set by `init_fs_context`.
        let options = unsafe { &*(*fc).fs_private.cast::<T::Options>() };
        // INVARIANT: A new superblock has neither data nor root.
        let new = NewSuper {
            sb,
            _p: PhantomData,
        };
        // SAFETY: The context is valid.
        let fc = unsafe { FsContext::from_raw(fc) };
        let ret = from_result(|| T::fill_super(new, fc, options).map(|()| 0));
        // SAFETY: The superblock is valid.
        if ret != 0 && unsafe { (*sb).s_root }.is_null() {
            // Without a root the VFS does not call put_super.
            // SAFETY: `fill_super` is over and left no inode and no worker behind.
            unsafe { drop_sb_data::<T>(sb) };
        }
        ret
    }

    /// # Safety
    ///
    /// C calls this with a context for a mounted superblock of filesystem `T`.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: A reconfiguration has a root.
        let raw = unsafe { (*(*fc).root).d_sb };
        // SAFETY: A mounted superblock of filesystem `T`.
        let sb = unsafe { SuperBlock::<T>::from_raw(raw) };
        // SAFETY: Set by `init_fs_context`.
        let options = unsafe { &*(*fc).fs_private.cast::<T::Options>() };
        // SAFETY: The context is valid.
        let (flags, mask) = unsafe { ((*fc).sb_flags, (*fc).sb_flags_mask) };
        let ro = bindings::CALF_CONST_SB_RDONLY as u32;
        let rdonly = if mask & ro != 0 {
            flags & ro != 0
        } else {
            sb.is_rdonly()
        };
        // SAFETY: The context is valid.
        let fc = unsafe { FsContext::from_raw(fc) };
        from_result(|| T::reconfigure(sb, fc, options, rdonly).map(|()| 0))
    }

    const TABLE: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    const fn build() -> &'static bindings::fs_context_operations {
        &Self::TABLE
    }
}

/// The largest file the page cache can address, bytes.
pub fn max_file_size() -> u64 {
    bindings::CALF_CONST_MAX_LFS_FILESIZE
}

/// The wall clock, ns since 1970, for time stamps on disk.
pub fn real_time_ns() -> i64 {
    // SAFETY: Callable from any context.
    unsafe { bindings::ktime_get_real() }
}

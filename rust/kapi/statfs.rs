// SPDX-License-Identifier: GPL-2.0

//! The answer to `statfs(2)`.
//!
//! C header: [`include/linux/statfs.h`](srctree/include/linux/statfs.h)

use crate::bindings;
use kernel::ffi::c_long;
use kernel::types::Opaque;

/// What a filesystem says about itself. Blocks are of `block_size` bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatFsValues {
    /// `f_type`.
    pub magic: u32,
    /// `f_bsize`, bytes.
    pub block_size: u64,
    /// Blocks that can hold data at all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for anybody.
    pub avail: u64,
    /// Inodes that could exist.
    pub files: u64,
    /// Inodes that could still be made.
    pub files_free: u64,
    /// Longest name, bytes.
    pub name_max: u64,
    /// Identity, from which `f_fsid` is computed.
    pub uuid: [u8; 16],
}

/// A `struct kstatfs` to be filled.
#[repr(transparent)]
pub struct StatFs(Opaque<bindings::kstatfs>);

impl StatFs {
    /// Wraps a raw `kstatfs`.
    ///
    /// # Safety
    ///
    /// `ptr` is valid and nobody else uses it during `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::kstatfs) -> &'a mut Self {
        // SAFETY: Transparent wrapper, valid and exclusive by the safety requirements.
        unsafe { &mut *ptr.cast() }
    }

    /// Fills in the answer.
    pub fn fill(&mut self, v: &StatFsValues) {
        let st = self.0.get();
        // SAFETY: `&mut self` makes the access exclusive, and the C object is initialised (the
        // VFS zeroes it).
        let k = unsafe { &mut *st };
        k.f_type = v.magic as c_long;
        k.f_bsize = v.block_size as c_long;
        k.f_frsize = v.block_size as c_long;
        k.f_blocks = v.blocks;
        k.f_bfree = v.free;
        k.f_bavail = v.avail;
        k.f_files = v.files;
        k.f_ffree = v.files_free;
        k.f_namelen = v.name_max as c_long;
        // SAFETY: Both pointers are valid; the uuid has 16 bytes.
        unsafe { bindings::calf_kstatfs_set_fsid(st, v.uuid.as_ptr()) };
    }
}

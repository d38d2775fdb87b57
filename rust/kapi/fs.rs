// SPDX-License-Identifier: GPL-2.0

//! The filesystem type that every other wrapper is generic over.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use kernel::error::Error;
use kernel::str::CStr;
use pin_init::PinInit;

/// A filesystem: names the data that hangs on its superblocks and inodes.
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// Lives from `fill_super` to `put_super` behind `super_block::s_fs_info`.
    type SbData: Send + Sync + 'static;
    /// Lives behind every `struct inode` of the filesystem, from `alloc_inode` to `free_inode`.
    type InodeData: Send + Sync + 'static;
    /// Looks at the iomap contract.
    #[cfg(calf_lab)]
    type Watch: super::watch::Watch<Self>;
    /// `file_system_type::name`.
    const NAME: &'static CStr;

    /// Initialiser of the data of a new in-core inode; runs in `alloc_inode`.
    fn init_inode_data() -> impl PinInit<Self::InodeData, Error>;
}

/// Gives inodes their operation tables.
///
/// Apart from [`FileSystem`] so that the layer with the tables can implement it: the layer that makes
/// inodes calls it without naming the one above.
pub trait InodeTables: FileSystem {
    /// Gives an inode that is being set up the tables of its type.
    fn install(inode: &super::Inode<Self>);
}

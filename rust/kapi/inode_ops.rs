// SPDX-License-Identifier: GPL-2.0

//! Inode operations.
//!
//! A filesystem implements [`InodeOperations`] once for each kind of inode, on a type that serves
//! as a name only, and gets the C table by [`InodeOps::new`].
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h). The locks that are held are those
//! of `Documentation/filesystems/locking.rst`.

mod fiemap;
mod link_target;
mod operations;
mod table;

pub use fiemap::FiemapInfo;
pub use link_target::LinkTarget;
pub use operations::{InodeOperations, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};
pub use table::InodeOps;

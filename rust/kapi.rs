// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of the kernel interfaces that the kernel crate does not offer yet.
//!
//! One C concept a file. Nothing here knows calf: each file can go when upstream grows its like.

pub(crate) mod acl;
pub(crate) mod address_space;
pub(crate) mod attr;
pub(crate) mod block_dev;
pub(crate) mod buffer_head;
pub(crate) mod capability;
pub(crate) mod debugfs;
pub(crate) mod dentry;
pub(crate) mod dir_ops;
pub(crate) mod export;
pub(crate) mod falloc;
pub(crate) mod file_ops;
pub(crate) mod fileattr;
pub(crate) mod folio;
pub(crate) mod fs;
pub(crate) mod fs_context;
pub(crate) mod icache;
pub(crate) mod idmap;
pub(crate) mod inode;
pub(crate) mod inode_ops;
pub(crate) mod iomap;
pub(crate) mod iomap_dio;
pub(crate) mod iomap_writeback;
pub(crate) mod jbd2;
pub(crate) mod kiocb;
pub(crate) mod log;
pub(crate) mod memalloc;
pub(crate) mod mounted;
pub(crate) mod registration;
pub(crate) mod remap;
pub(crate) mod rwsem;
pub(crate) mod statfs;
#[cfg(calf_lab)]
pub(crate) mod stray;
pub(crate) mod super_block;
pub(crate) mod super_ops;
#[cfg(calf_lab)]
pub(crate) mod taint;
#[cfg(calf_lab)]
pub(crate) mod watch;
pub(crate) mod workqueue;
pub(crate) mod xattr;

pub(crate) use fs::FileSystem;
pub(crate) use idmap::Idmap;
pub(crate) use inode::Inode;
pub(crate) use super_block::SuperBlock;

// SPDX-License-Identifier: GPL-2.0

//! The VFS tables: what the kernel calls, translated for [`crate::fs`].

mod aspace;
mod dir;
mod file;
mod inode;
mod ioctl;
mod namei;
mod super_ops;
mod symlink;
mod xattr;

use crate::fs::{Calf, Inode};
use crate::kapi::fs::InodeTables;

impl InodeTables for Calf {
    fn install(inode: &Inode) {
        if inode.is_dir() {
            namei::DIR_IOPS.install(inode);
            dir::DIR_FOPS.install(inode);
        } else if inode.is_lnk() {
            symlink::SYMLINK_IOPS.install(inode);
        } else if inode.is_reg() {
            inode::FILE_IOPS.install(inode);
            file::FILE_FOPS.install(inode);
            aspace::FILE_AOPS.install(inode);
        } else {
            // `init_special_inode` has set the file operations.
            inode::SPECIAL_IOPS.install(inode);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Reading directories.

use kernel::error::Result;
use kernel::prelude::vtable;
use kernel::uaccess::UserPtr;

use crate::algo::dir::Batch;
use crate::fs::{self, Calf, Inode};
use crate::kapi::dir_ops::{DirContext, DirOperations, DirOps};
use crate::kapi::kiocb::File;

/// File operations of directories.
pub(super) const DIR_FOPS: DirOps<Calf> = DirOps::new::<Dir>();

/// Bytes of names that are copied at a time.
const BATCH: usize = 8 << 10;

struct Dir;

#[vtable]
impl DirOperations for Dir {
    type FileSystem = Calf;

    /// Names are copied out first and handed on with no lock held but `i_rwsem`: the reader's
    /// memory may be a page of a file of this filesystem, and its fault may start a handle (D4).
    fn iterate(dir: &Inode, ctx: &mut DirContext<'_>) -> Result {
        if !ctx.emit_dots() {
            return Ok(());
        }
        let mut batch = Batch::with_capacity(BATCH)?;
        loop {
            fs::dir::read(dir, ctx.pos(), &mut batch)?;
            if batch.is_empty() {
                return Ok(());
            }
            for (key, entry) in batch.iter() {
                // A position is the key of the name that comes next.
                ctx.set_pos(key);
                if !ctx.emit(entry.name, entry.ino.get(), entry.ftype) {
                    return Ok(());
                }
                ctx.set_pos(key + 1);
            }
        }
    }

    fn fsync(dir: &Inode, datasync: bool) -> Result {
        fs::fsync::fsync_metadata(dir, datasync)
    }

    fn ioctl(file: &File<Calf>, cmd: u32, arg: UserPtr) -> Result<isize> {
        super::ioctl::ioctl(file, cmd, arg)
    }
}

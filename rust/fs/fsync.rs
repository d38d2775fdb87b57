// SPDX-License-Identifier: GPL-2.0

//! Making a file durable (C9).

use super::inode::Inode;
use super::itable;
use super::Calf;
use crate::kapi::kiocb::File;
use kernel::error::code::EAGAIN;
use kernel::prelude::*;

/// `fsync` of bytes `[start, end]` of a regular file, `fdatasync` if `datasync`.
///
/// When writeback has been waited for, completion has noted the transactions that map the data.
/// Errors of writeback are reported once for each open file.
pub(crate) fn fsync_file(file: &File<Calf>, start: u64, end: u64, datasync: bool) -> Result {
    let inode = file.inode();
    if inode.sb().data().opts().norecovery {
        return file.check_wb_err();
    }
    // A read-only mount too: a forced remount (SysRq-U) leaves files open for writing, and what is written to them
    // counts, as in XFS.
    inode.sb().data().check_shutdown()?;
    #[cfg(calf_lab)]
    crate::lab::dio::wait_for_tickets(inode);
    // Without the data there is nothing to promise; and what failed for the data would now fail for the
    // journal, which stops the filesystem for good.
    let written = file.write_and_wait(start, end);
    if written.is_err() {
        // After EIO the core does not wait. What else fails until writeback ends is told here, not again by
        // the next fsync.
        let _ = file.wait(start, end);
        return written;
    }
    let logged = fsync_metadata(inode, datasync);
    file.check_wb_err()?;
    logged
}

/// Makes the metadata of an inode durable, and the device's cache with it: for directories too.
pub(crate) fn fsync_metadata(inode: &Inode, datasync: bool) -> Result {
    let sb = inode.sb().data();
    if sb.opts().norecovery {
        return Ok(());
    }
    sb.check_shutdown()?;
    if !datasync {
        // Times and attributes that live only in the VFS inode so far. Who writes the inode already may be
        // long about it, and its transaction would not be the one that is waited for.
        match inode.sync_record() {
            Ok(true) => {}
            Ok(false) | Err(EAGAIN) => {
                // Nothing else keeps a freeze from ending before this handle begins.
                let _no_freeze = inode.sb().intwrite();
                itable::log_inode(inode)?;
            }
            Err(e) => return Err(e),
        }
    }
    let tid = inode.data().tid(datasync);
    // Asked before the wait: afterwards nobody knows whether that commit flushed.
    let need_flush = !sb.journal().will_flush(tid);
    sb.journal().complete(tid)?;
    if need_flush {
        sb.dev().bdev().flush()?;
    }
    // A tid that is neither running nor committing counts as done even if it was aborted.
    sb.check_shutdown()
}

// SPDX-License-Identifier: GPL-2.0

//! The ioctls of regular files and directories that the VFS does not handle itself.

use crate::fs::{shutdown, Calf};
use crate::kapi::capability;
use crate::kapi::kiocb::File;
use core::mem::size_of;
use kernel::ioctl::_IOR;
use kernel::prelude::*;
use kernel::transmute::FromBytes;
use kernel::uaccess::{UserPtr, UserSlice};

/// `XFS_IOC_GOINGDOWN` and `EXT4_IOC_SHUTDOWN`.
const GOINGDOWN: u32 = _IOR::<u32>(b'X' as u32, 125);

/// Runs command `cmd`. No lock is held. Errors: `ENOTTY` for a command that calf does not know.
pub(super) fn ioctl(file: &File<Calf>, cmd: u32, arg: UserPtr) -> Result<isize> {
    let sb = file.inode().sb();
    match cmd {
        GOINGDOWN => {
            admin()?;
            shutdown::go_down(sb, read(arg)?)?;
        }
        _ => return Err(ENOTTY),
    }
    Ok(0)
}

/// `EPERM` unless the caller may administer the system.
fn admin() -> Result {
    if capability::sys_admin() {
        return Ok(());
    }
    Err(EPERM)
}

/// The argument behind `arg`. Not under a handle (D4).
fn read<T: FromBytes>(arg: UserPtr) -> Result<T> {
    UserSlice::new(arg, size_of::<T>()).reader().read()
}

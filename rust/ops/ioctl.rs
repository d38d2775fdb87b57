// SPDX-License-Identifier: GPL-2.0

//! The ioctls of regular files and directories that the VFS does not handle itself.

use crate::fs::discard::{self, TrimRange};
use crate::fs::fsmap::{self, Fsmap, FsmapHead};
use crate::fs::sb::Sb;
use crate::fs::{grow, label, shutdown, Calf};
use crate::kapi::capability;
use crate::kapi::kiocb::File;
use core::mem::size_of;
use kernel::ioctl::{_IOR, _IOW, _IOWR};
use kernel::prelude::*;
use kernel::transmute::{AsBytes, FromBytes};
use kernel::uaccess::{UserPtr, UserSlice};
use zerocopy::{FromZeros, IntoBytes};

/// `XFS_IOC_GOINGDOWN` and `EXT4_IOC_SHUTDOWN`.
const GOINGDOWN: u32 = _IOR::<u32>(b'X' as u32, 125);
/// `EXT4_IOC_RESIZE_FS`: the new number of blocks, 0 for as many as the device has.
const RESIZE_FS: u32 = _IOW::<u64>(b'f' as u32, 16);
/// `FS_IOC_GETFSLABEL` and `FS_IOC_SETFSLABEL`: a text with a NUL at the end.
const FSLABEL_MAX: usize = 256;
const GETFSLABEL: u32 = _IOR::<[u8; FSLABEL_MAX]>(0x94, 49);
const SETFSLABEL: u32 = _IOW::<[u8; FSLABEL_MAX]>(0x94, 50);
/// The argument is a `struct fstrim_range`.
const FITRIM: u32 = _IOWR::<[u64; 3]>(b'X' as u32, 121);
/// `FS_IOC_GETVERSION`, and that of a program of 32 bits: `int`, whatever the command says.
const GETVERSION: u32 = _IOR::<u64>(b'v' as u32, 1);
const GETVERSION32: u32 = _IOR::<u32>(b'v' as u32, 1);
const GETFSMAP: u32 = _IOWR::<FsmapHead>(b'X' as u32, 59);

/// Runs command `cmd`. No lock is held. Errors: `ENOTTY` for a command that calf does not know.
pub(super) fn ioctl(file: &File<Calf>, cmd: u32, arg: UserPtr) -> Result<isize> {
    let sb = file.inode().sb();
    match cmd {
        GOINGDOWN => {
            admin()?;
            shutdown::go_down(sb, read(arg)?)?;
        }
        FITRIM => {
            admin()?;
            trim(sb.data(), arg)?;
        }
        GETVERSION | GETVERSION32 => write(arg, &file.inode().generation())?,
        GETFSMAP => getfsmap(sb.data(), arg)?,
        GETFSLABEL => {
            let mut text = [0; FSLABEL_MAX];
            for (to, from) in text.iter_mut().zip(label::get(sb)?) {
                *to = from;
            }
            write(arg, &text)?;
        }
        SETFSLABEL => {
            admin()?;
            let text: [u8; FSLABEL_MAX] = read(arg)?;
            let len = text.iter().position(|&b| b == 0).ok_or(EINVAL)?;
            file.with_write(|| label::set(sb, text.get(..len).ok_or(EINVAL)?))?;
        }
        RESIZE_FS => {
            admin()?;
            let blocks = read(arg)?;
            file.with_write(|| grow::grow(sb, blocks))?;
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

/// The answer behind `arg`. Not under a handle (D4).
fn write<T: AsBytes>(arg: UserPtr, value: &T) -> Result {
    UserSlice::new(arg, size_of::<T>()).writer().write(value)
}

fn trim(sb: &Sb, arg: UserPtr) -> Result {
    let [start, len, minlen] = read(arg)?;
    let len = discard::trim(sb, TrimRange { start, len, minlen })?;
    write(arg, &[start, len, minlen])
}

fn getfsmap(sb: &Sb, arg: UserPtr) -> Result {
    let mut head = FsmapHead::new_zeroed();
    let size = size_of::<FsmapHead>();
    UserSlice::new(arg, size)
        .reader()
        .read_slice(head.as_mut_bytes())?;
    let room = size_of::<Fsmap>().saturating_mul(head.count as usize);
    let mut to = UserSlice::new(arg.wrapping_byte_add(size), room).writer();
    // One behind, because the last record is marked.
    let mut last: Option<Fsmap> = None;
    let all = fsmap::getfsmap(sb, &mut head, |record| match last.replace(record) {
        Some(before) => to.write_slice(before.as_bytes()),
        None => Ok(()),
    })?;
    if let Some(mut record) = last {
        record.flags |= if all { fsmap::LAST } else { 0 };
        to.write_slice(record.as_bytes())?;
    }
    UserSlice::new(arg, size)
        .writer()
        .write_slice(head.as_bytes())
}

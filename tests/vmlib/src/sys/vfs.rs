// SPDX-License-Identifier: GPL-2.0

//! System calls of the VFS without a safe wrapper elsewhere: file attributes, shutdown, idmapped
//! mounts.

use super::{last, Result};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Extended file attributes (`struct fsxattr`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FsxAttr {
    /// `FS_XFLAG_*`.
    pub xflags: u32,
    /// Hint for the size of extents.
    pub extsize: u32,
    /// Number of extents.
    pub nextents: u32,
    /// Project.
    pub projid: u32,
    /// Hint for the size of copies.
    pub cowextsize: u32,
    /// Zero.
    pub pad: [u8; 8],
}

/// `FS_XFLAG_APPEND`.
pub const XFLAG_APPEND: u32 = 0x10;
/// `FS_XFLAG_NODUMP`.
pub const XFLAG_NODUMP: u32 = 0x80;
/// `FS_XFLAG_PROJINHERIT`.
pub const XFLAG_PROJINHERIT: u32 = 0x200;
/// `FS_XFLAG_EXTSIZE`.
pub const XFLAG_EXTSIZE: u32 = 0x800;

/// `FS_IOC_FSGETXATTR`.
pub fn get_fsx(file: &File) -> Result<FsxAttr> {
    const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
    let mut attr = FsxAttr::default();
    // SAFETY: `attr` is a `struct fsxattr` that lives over the call.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attr) };
    if r < 0 {
        return Err(last());
    }
    Ok(attr)
}

/// `FS_IOC_FSSETXATTR`.
pub fn set_fsx(file: &File, attr: FsxAttr) -> Result<()> {
    const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
    // SAFETY: `attr` is a `struct fsxattr` that lives over the call, which only reads it.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attr) };
    if r < 0 {
        return Err(last());
    }
    Ok(())
}

/// `file_setattr(2)` of a file that need not be opened: gives it a project.
pub fn set_project(path: &Path, projid: u32) -> Result<()> {
    const SYS_FILE_SETATTR: libc::c_long = 469;
    #[repr(C)]
    struct FileAttr {
        xflags: u64,
        extsize: u32,
        nextents: u32,
        projid: u32,
        cowextsize: u32,
    }
    let attr = FileAttr {
        xflags: 0,
        extsize: 0,
        nextents: 0,
        projid,
        cowextsize: 0,
    };
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: `path` and `attr`, a `struct file_attr`, live over the call, which only reads them.
    let r = unsafe {
        libc::syscall(
            SYS_FILE_SETATTR,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const attr,
            std::mem::size_of::<FileAttr>(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if r < 0 {
        return Err(last());
    }
    Ok(())
}

/// `truncate(2)`.
pub fn truncate(path: &Path, len: i64) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: `path` lives over the call.
    if unsafe { libc::truncate(path.as_ptr(), len) } < 0 {
        return Err(last());
    }
    Ok(())
}

/// How [`shutdown`] stops a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Everything is written first.
    Default = 0,
    /// The journal is written first.
    FlushLog = 1,
    /// Nothing is: like pulling the plug.
    NoFlush = 2,
}

/// Stops the filesystem that `file` lies on, as a crash does.
pub fn shutdown(file: &File, how: Shutdown) -> Result<()> {
    const GOINGDOWN: libc::c_ulong = 0x8004_587d;
    let how = how as u32;
    // SAFETY: `how` lives over the call, which only reads it.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), GOINGDOWN, &raw const how) };
    if r < 0 {
        return Err(last());
    }
    Ok(())
}

/// Somebody who lives in a user namespace.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mounts the tree of `from` on `to` so that users and groups 0 to `count` - 1 on disk appear as
/// `first` and those after it. `NOSYS` if the kernel has no user namespaces.
pub fn idmapped_mount(from: &Path, to: &Path, first: u32, count: u32) -> Result<()> {
    const SYS_MOUNT_SETATTR: libc::c_long = 442;
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    if !Path::new("/proc/self/ns/user").exists() {
        return Err(Errno::NOSYS);
    }
    let io = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped());
    // SAFETY: `unshare` is a plain system call, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::unshare(libc::CLONE_NEWUSER) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let holder = Holder(command.spawn().map_err(io)?);
    let proc = format!("/proc/{}", holder.0.id());
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("{proc}/{map}"), format!("0 {first} {count}")).map_err(io)?;
    }
    let userns = File::open(format!("{proc}/ns/user")).map_err(io)?;
    let cwd = rustix::fs::CWD;
    let tree = rustix::mount::open_tree(cwd, from, OpenTreeFlags::OPEN_TREE_CLONE)?;
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        userns: userns.as_raw_fd() as u64,
    };
    // SAFETY: the path is empty and static, `attr` a `struct mount_attr` that lives over the call.
    let r = unsafe {
        libc::syscall(
            SYS_MOUNT_SETATTR,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            std::mem::size_of::<MountAttr>(),
        )
    };
    if r < 0 {
        return Err(last());
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree.as_fd(), c"", cwd, to, flags)
}

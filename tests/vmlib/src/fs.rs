// SPDX-License-Identifier: GPL-2.0

//! Format, mount, unmount, check; load and unload the module.

use crate::error::{Context, Fail};
use crate::gate::until;
use crate::sys::{self, Loop};
use crate::{ensure, ensure_eq, ktap, observe, Env, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn cstring(s: &str) -> Result<CString> {
    CString::new(s).map_err(|_| Fail::new("a NUL in a string"))
}

/// What statfs says, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Block size in bytes.
    pub bsize: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks that ordinary users may have.
    pub avail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
}

impl Space {
    /// Inodes in use.
    pub fn files_used(&self) -> u64 {
        self.files - self.ffree
    }
}

/// Reads the space counters of the filesystem that `path` is on.
pub fn space(path: &Path) -> Result<Space> {
    let s = rustix::fs::statvfs(path).ctx("statfs")?;
    Ok(Space {
        bsize: s.f_frsize,
        blocks: s.f_blocks,
        free: s.f_bfree,
        avail: s.f_bavail,
        files: s.f_files,
        ffree: s.f_ffree,
    })
}

/// The filesystem type that is tested: `calf`. `CALF_FSTYPE` sets another, so that the tests can
/// be tried on a filesystem that is known to be right; `CALF_BIN` then holds scripts with the
/// names of calf's tools.
pub fn fstype() -> String {
    std::env::var("CALF_FSTYPE").unwrap_or_else(|_| "calf".into())
}

/// Says whether the kernel knows the filesystem type.
pub fn registered() -> bool {
    let want = fstype();
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|t| {
        t.lines()
            .any(|l| l.split_whitespace().next_back() == Some(&want))
    })
}

/// Loads the module, unless it is there.
pub fn insmod(env: &Env) -> Result {
    if registered() {
        return Ok(());
    }
    let file = File::open(&env.module).ctx(format!("open {}", env.module.display()))?;
    rustix::system::finit_module(&file, c"", 0).ctx("finit_module")
}

/// Unloads the module. A module that was in use a moment ago may take an instant. Fails if it has seen
/// a contract broken.
pub fn rmmod() -> Result {
    let broken = observe::violations();
    ensure!(broken.is_empty(), "contracts were broken: {broken:?}");
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match rustix::system::delete_module(c"calf", libc::O_NONBLOCK) {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() > until => return Err(e).ctx("delete_module"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs a command; its output is shown when it fails. Returns (exit status, output).
pub fn command(cmd: &mut Command) -> Result<(i32, String)> {
    let what = format!("{cmd:?}");
    let out = cmd.output().ctx(&what)?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok((out.status.code().unwrap_or(-1), text))
}

/// Formats the device with `mkfs.calf -f -K` and more arguments: what was on it stays, so that who reads
/// blocks that were never written sees old data.
pub fn mkfs(env: &Env, dev: &Path, args: &[&str]) -> Result {
    let (status, text) = command(
        Command::new(env.tool("mkfs.calf"))
            .args(["-f", "-K"])
            .args(args)
            .arg(dev),
    )?;
    ensure!(status == 0, "mkfs.calf exits with {status}:\n{text}");
    Ok(())
}

/// Runs `fsck.calf -n`; anything but 0 fails.
pub fn fsck(env: &Env, dev: &Path) -> Result {
    let (status, text) = command(Command::new(env.tool("fsck.calf")).arg("-n").arg(dev))?;
    ensure!(status == 0, "fsck.calf -n exits with {status}:\n{text}");
    Ok(())
}

/// A mounted filesystem, unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    /// The device.
    pub dev: PathBuf,
    /// Where it is mounted.
    pub mnt: PathBuf,
    opts: String,
    up: bool,
}

impl Mounted {
    /// Mounts `dev` on `mnt` with these options (comma separated, may be empty).
    pub fn new(dev: &Path, mnt: &Path, opts: &str) -> Result<Mounted> {
        std::fs::create_dir_all(mnt).ctx("make the mount point")?;
        // The symbolic link that finds a disk by its serial is not a name the kernel shows.
        let dev = std::fs::canonicalize(dev).ctx(format!("look for {}", dev.display()))?;
        // More options for whatever is run, as `bug=NAME`.
        let more = std::env::var("CALF_OPTS").unwrap_or_default();
        let mut m = Mounted {
            dev,
            mnt: mnt.into(),
            opts: format!("{opts},{more}").trim_matches(',').into(),
            up: false,
        };
        m.mount()?;
        Ok(m)
    }

    /// Mounts it again after [`Mounted::umount`].
    pub fn mount(&mut self) -> Result {
        let mut flags = MountFlags::empty();
        let mut data: Vec<&str> = Vec::new();
        for o in self.opts.split(',').filter(|o| !o.is_empty()) {
            match o {
                "ro" => flags |= MountFlags::RDONLY,
                o => data.push(o),
            }
        }
        let data = cstring(&data.join(","))?;
        let fstype = cstring(&fstype())?;
        rustix::mount::mount(
            &self.dev,
            &self.mnt,
            fstype.as_c_str(),
            flags,
            Some(data.as_c_str()),
        )
        .ctx(format!("mount -o '{}'", self.opts))?;
        self.up = true;
        Ok(())
    }

    /// Fails unless nothing is under way once nobody writes: no claim, no pin. A module without
    /// counters passes.
    pub fn check_idle(&self) -> Result {
        self.sync()?;
        let all = observe::counters(&self.bdev());
        for name in ["claimed", "pinned"] {
            ensure_eq!(*all.get(name).unwrap_or(&0), 0, "blocks {name} at rest");
        }
        Ok(())
    }

    /// Unmounts. The device is then free for others.
    ///
    /// khugepaged looks at files that somebody has mapped, with a reference of its own that it drops a
    /// tick later than we close the last one: `EBUSY` must go away by itself. A reference that was lost stays.
    pub fn umount(&mut self) -> Result {
        if !self.up {
            return Ok(());
        }
        let mut asked = 0u32;
        let mut outcome = Err(Errno::BUSY);
        // Whether it went on too long is in the outcome.
        let _ = until("umount", || {
            outcome = rustix::mount::unmount(&self.mnt, UnmountFlags::empty());
            asked += 1;
            outcome != Err(Errno::BUSY)
        });
        outcome.ctx("umount")?;
        if asked > 1 {
            ktap::note(&format!("umount: busy, {asked} times asked"));
        }
        self.up = false;
        Ok(())
    }

    /// Somebody else has unmounted it.
    pub fn gone(&mut self) {
        self.up = false;
    }

    /// Unmounts and mounts again with the same options.
    pub fn cycle(&mut self) -> Result {
        self.umount()?;
        self.mount()
    }

    /// Stops everything without writing anything more, as when the power fails, and mounts again.
    pub fn crash(&mut self) -> Result {
        crate::sys::vfs::shutdown(&self.dir()?, crate::sys::vfs::Shutdown::NoFlush)
            .ctx("shutdown")?;
        self.cycle()
    }

    /// Unmounts and mounts again with other options.
    pub fn cycle_with(&mut self, opts: &str) -> Result {
        self.umount()?;
        self.opts = opts.into();
        self.mount()
    }

    /// Changes the mounted filesystem between read-only and writable.
    pub fn remount(&self, readonly: bool) -> std::result::Result<(), rustix::io::Errno> {
        let flags = if readonly {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        rustix::mount::mount_remount(&self.mnt, flags, c"")
    }

    /// Path below the mount point.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mnt.join(name)
    }

    /// The root directory.
    pub fn dir(&self) -> Result<File> {
        File::open(&self.mnt).ctx("open the mount point")
    }

    /// The filesystem's own options as mountinfo shows them.
    pub fn options(&self) -> Result<String> {
        let all = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mnt = self.mnt.display().to_string();
        let line = all
            .lines()
            .rfind(|l| l.split(' ').nth(4) == Some(&mnt))
            .ok_or(Fail::new("not in mountinfo"))?;
        Ok(line.rsplit(' ').next().unwrap_or_default().to_owned())
    }

    /// Is this one of [`Mounted::options`]?
    pub fn has_option(&self, opt: &str) -> Result<bool> {
        Ok(self.options()?.split(',').any(|o| o == opt))
    }

    /// Writes everything back (syncfs).
    pub fn sync(&self) -> Result {
        rustix::fs::syncfs(self.dir()?).ctx("syncfs")
    }

    /// Space counters.
    pub fn space(&self) -> Result<Space> {
        space(&self.mnt)
    }

    /// Name of the block device as the kernel has it (`vda`).
    pub fn bdev(&self) -> String {
        self.dev
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.umount().is_err() {
            // Whoever kept it busy is gone soon; the next test needs the device.
            let _ = rustix::mount::unmount(&self.mnt, UnmountFlags::DETACH);
        }
    }
}

/// Formats, mounts, runs `f`, unmounts and checks the device.
pub fn with_fs(
    env: &Env,
    mkfs_args: &[&str],
    opts: &str,
    f: impl FnOnce(&mut Mounted) -> Result,
) -> Result {
    mkfs(env, &env.dev, mkfs_args)?;
    let mut m = Mounted::new(&env.dev, &env.mnt, opts)?;
    let outcome = ktap::guarded(|| f(&mut m));
    let umount = m.umount();
    drop(m);
    let check = fsck(env, &env.dev);
    // The first of the three that failed is the cause; the others are still worth a line.
    for e in [&umount, &check] {
        if let (Err(e), true) = (e, outcome.is_err()) {
            ktap::note(&e.text);
        }
    }
    outcome?;
    umount?;
    check
}

/// Bytes of the filesystem of [`with_small`].
pub const SMALL: u64 = 48 << 20;

/// [`with_fs`] on a part of the device, which is made faster.
pub fn with_small(
    env: &Env,
    mkfs_args: &[&str],
    opts: &str,
    f: impl FnOnce(&mut Mounted) -> Result,
) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    let dev = small.path.clone();
    let env = Env { dev, ..env.clone() };
    with_fs(&env, mkfs_args, opts, f)
}

/// [`with_fs`] with the smallest and the largest block size.
pub fn each_block_size(env: &Env, f: impl Fn(&mut Mounted) -> Result) -> Result {
    for bs in ["4096", "1024"] {
        with_fs(env, &["-b", bs], "", &f).ctx(format!("block size {bs}"))?;
    }
    Ok(())
}

/// [`with_fs`] with two block sizes, and once with everything out of place; `f` hears whether it is.
pub fn each_way(env: &Env, f: impl Fn(&mut Mounted, bool) -> Result) -> Result {
    for (bs, opts) in [("4096", ""), ("1024", ""), ("4096", "always_cow")] {
        with_fs(env, &["-b", bs], opts, |m| f(m, !opts.is_empty()))
            .ctx(format!("block size {bs} {opts}"))?;
    }
    Ok(())
}

/// Returns once a change gets a later time stamp than any change made before: the kernel takes time stamps
/// from a clock that moves with the timer tick.
pub fn next_stamp() {
    let begin = sys::coarse_time();
    while sys::coarse_time() == begin {
        std::thread::yield_now();
    }
}

/// Drops the clean page cache, dentries and inodes (after a sync).
pub fn drop_caches() -> Result {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").ctx("drop_caches")
}

// SPDX-License-Identifier: GPL-2.0

//! Who may do what, and to whom things belong: set-id bits, umask, sticky directories, idmapped
//! mounts.

use calf_vmlib::file::open;
use calf_vmlib::fs::{with_fs, Mounted};
use calf_vmlib::sys::vfs::idmapped_mount;
use calf_vmlib::user::as_user;
use calf_vmlib::{cases, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::{
    ioctl_setflags, AtFlags, FallocateFlags, FileType, IFlags, Mode, OFlags, RenameFlags, CWD,
};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{chown, symlink, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

fn on_fs(env: &Env, f: impl FnOnce(&mut Mounted) -> Result) -> Result {
    with_fs(env, &[], "", f)
}

fn chmod(p: &Path, mode: u32) -> Result {
    fs::set_permissions(p, Permissions::from_mode(mode)).ctx("chmod")
}

fn mode(p: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(p)?.mode() & 0o7777)
}

fn umask_and_setgid(env: &Env) -> Result {
    on_fs(env, |m| {
        let d = m.path("d");
        fs::create_dir(&d)?;
        chown(&d, Some(1000), Some(2000))?;
        chmod(&d, 0o2777)?;
        // Not a member of the group: what inherits it may not be set-group-id.
        as_user(1000, 1000, || {
            let new = |n: &str, mode| {
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(d.join(n))
            };
            let old = rustix::process::umask(Mode::from_raw_mode(0o027));
            let made = new("file", 0o2777).and_then(|_| fs::create_dir(d.join("dir")));
            let unnamed = OFlags::TMPFILE | OFlags::RDWR;
            let tmp = rustix::fs::openat(CWD, &d, unnamed, Mode::from_raw_mode(0o2777));
            rustix::process::umask(old);
            made?;
            let s = File::from(tmp?).metadata()?;
            ensure_eq!((s.mode() & 0o7777, s.gid()), (0o750, 2000), "O_TMPFILE");
            new("exec", 0o2666).ctx("no group execute")?;
            Ok(())
        })?;
        for (n, want) in [("file", 0o750), ("dir", 0o2750), ("exec", 0o2644)] {
            let s = fs::metadata(d.join(n))?;
            ensure_eq!((s.gid(), s.uid()), (2000, 1000), "group of {n}");
            ensure_eq!(s.mode() & 0o7777, want, "mode of {n}");
        }
        Ok(())
    })
}

/// Whoever writes to a set-id file without privileges takes the bits away.
fn writing_drops_setid(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = m.path("f");
        let src = open(&m.path("src"))?;
        src.write_all_at(&[1; 65536], 0)?;
        chmod(&m.path("src"), 0o666)?;
        fs::write(&p, [0; 65536])?;
        type Act<'a> = &'a (dyn Fn(&File) -> Result + Sync);
        let keep = FallocateFlags::KEEP_SIZE;
        let alloc = |f: &File, how| -> Result {
            match rustix::fs::fallocate(f, how, 0, 65536) {
                Err(Errno::OPNOTSUPP) => Err(calf_vmlib::Fail::skip("not there")),
                other => Ok(other?),
            }
        };
        let acts: [(&str, Act<'_>); 8] = [
            ("write", &|f| Ok(f.write_all_at(b"x", 0)?)),
            ("truncate", &|f| Ok(f.set_len(65535)?)),
            ("clone", &|f| Ok(rustix::fs::ioctl_ficlone(f, &src)?)),
            ("copy", &|f| {
                rustix::fs::copy_file_range(&src, Some(&mut 0), f, Some(&mut 0), 65536)?;
                Ok(())
            }),
            ("allocate", &|f| alloc(f, FallocateFlags::empty())),
            ("punch", &|f| alloc(f, FallocateFlags::PUNCH_HOLE | keep)),
            ("zero", &|f| alloc(f, FallocateFlags::ZERO_RANGE)),
            ("unshare", &|f| alloc(f, FallocateFlags::UNSHARE_RANGE)),
        ];
        for (what, act) in acts {
            for (old, new) in [(0o6777, 0o777), (0o6666, 0o666), (0o2777, 0o777)] {
                chown(&p, Some(0), Some(0))?;
                chmod(&p, old)?;
                match act(&open(&p)?).ctx(what) {
                    Err(e) if e.skip => {
                        ktap::note(&format!("no {what}"));
                        break;
                    }
                    other => other?,
                }
                ensure_eq!(mode(&p)?, old, "{what} by root, {old:o}");
                as_user(1000, 1000, || act(&open(&p)?).ctx(what))?;
                ensure_eq!(mode(&p)?, new, "{what} by a user, {old:o}");
            }
        }
        Ok(())
    })
}

fn sticky_directory(env: &Env) -> Result {
    on_fs(env, |m| {
        let d = m.path("d");
        fs::create_dir(&d)?;
        chmod(&d, 0o1777)?;
        for n in ["a", "b"] {
            as_user(1000, 1000, || Ok(fs::write(d.join(n), "x")?))?;
        }
        as_user(1001, 1001, || {
            let perm = Errno::PERM;
            fs::write(d.join("own"), "x")?;
            ensure_errno!(fs::remove_file(d.join("a")), perm, "unlink");
            ensure_errno!(fs::rename(d.join("a"), d.join("c")), perm, "rename");
            ensure_errno!(fs::rename(d.join("own"), d.join("a")), perm, "over it");
            ensure_errno!(
                rustix::fs::renameat_with(
                    CWD,
                    d.join("own"),
                    CWD,
                    d.join("a"),
                    RenameFlags::EXCHANGE
                ),
                perm,
                "exchange"
            );
            ensure_errno!(
                rustix::fs::renameat_with(
                    CWD,
                    d.join("b"),
                    CWD,
                    d.join("x"),
                    RenameFlags::WHITEOUT
                ),
                perm,
                "whiteout"
            );
            fs::rename(d.join("own"), d.join("mine")).ctx("one's own")
        })
    })
}

/// The same files through a mount that shows users 0 to 9999 as 10000 to 19999.
fn idmapped(env: &Env) -> Result {
    on_fs(env, |m| {
        chmod(&m.mnt, 0o777)?;
        fs::create_dir(m.path("old"))?;
        fs::write(m.path("old/f"), "x")?;
        chown(m.path("old"), Some(5), Some(6))?;
        chown(m.path("old/f"), Some(5), Some(6))?;
        let view = env.mnt.with_file_name("calf-idmapped");
        fs::create_dir_all(&view)?;
        match idmapped_mount(&m.mnt, &view, 10_000, 10_000) {
            Err(Errno::NOSYS) => {
                return Err(calf_vmlib::Fail::skip("the kernel has no user namespaces"))
            }
            other => other.ctx("mount_setattr")?,
        }
        let outcome = through_the_map(m, &view);
        rustix::mount::unmount(&view, rustix::mount::UnmountFlags::empty()).ctx("umount")?;
        outcome?;
        m.cycle()?;
        let owner = |n: &str| fs::symlink_metadata(m.path(n)).map(|s| (s.uid(), s.gid()));
        for n in ["file", "dir", "link", "fifo", "tmp", "moved"] {
            ensure_eq!(owner(n)?, (1, 2), "{n} on disk");
        }
        ensure_eq!(owner("old/f")?, (7, 8), "given away, on disk");
        Ok(())
    })
}

fn through_the_map(m: &Mounted, view: &Path) -> Result {
    let owner = |p: &Path| fs::symlink_metadata(p).map(|s| (s.uid(), s.gid()));
    ensure_eq!(owner(&view.join("old/f"))?, (10_005, 10_006), "as shown");
    // Root is nobody here.
    ensure_errno!(
        File::create(view.join("no")),
        Errno::OVERFLOW,
        "create as a user without a number"
    );
    let tmp = OFlags::TMPFILE | OFlags::RDWR;
    ensure_errno!(
        rustix::fs::openat(CWD, view, tmp, Mode::empty()),
        Errno::OVERFLOW,
        "O_TMPFILE as a user without a number"
    );
    as_user(10_001, 10_002, || {
        let rw = Mode::from_raw_mode(0o600);
        fs::write(view.join("file"), "x").ctx("create")?;
        fs::create_dir(view.join("dir"))?;
        symlink("x", view.join("link"))?;
        rustix::fs::mknodat(CWD, view.join("fifo"), FileType::Fifo, rw, 0)?;
        let f = rustix::fs::openat(CWD, view, tmp, rw).ctx("O_TMPFILE")?;
        let by_fd = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&f));
        rustix::fs::linkat(CWD, by_fd, CWD, view.join("tmp"), AtFlags::SYMLINK_FOLLOW)
            .ctx("linkat")?;
        fs::write(view.join("moves"), "x")?;
        rustix::fs::renameat_with(
            CWD,
            view.join("moves"),
            CWD,
            view.join("moved"),
            RenameFlags::WHITEOUT,
        )
        .ctx("whiteout")?;
        for n in ["file", "dir", "link", "fifo", "tmp", "moved", "moves"] {
            ensure_eq!(owner(&view.join(n))?, (10_001, 10_002), "{n} in the map");
            ensure_eq!(owner(&m.path(n))?, (1, 2), "{n} outside");
        }
        chmod(&view.join("file"), 0o640).ctx("chmod of one's own")?;
        ioctl_setflags(File::open(view.join("file"))?, IFlags::NODUMP).ctx("flags of one's own")?;
        ensure_errno!(
            chmod(&view.join("old/f"), 0o600),
            Errno::PERM,
            "chmod of somebody else's"
        );
        Ok(())
    })?;
    // The same number outside is somebody else.
    as_user(10_001, 10_002, || {
        ensure_errno!(chmod(&m.path("file"), 0o600), Errno::PERM, "outside");
        Ok(())
    })?;
    chown(view.join("old/f"), Some(10_007), Some(10_008)).ctx("chown")?;
    ensure_eq!(owner(&m.path("old/f"))?, (7, 8), "given away");
    ensure_errno!(
        chown(view.join("old/f"), Some(7), None),
        Errno::OVERFLOW,
        "chown to a user outside the map"
    );
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            umask_and_setgid,
            writing_drops_setid,
            sticky_directory,
            idmapped,
        ],
        |_| {},
    )
}

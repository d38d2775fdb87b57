// SPDX-License-Identifier: GPL-2.0

//! What is remembered of an inode: file attributes and what they forbid, projects, what statx
//! says, times.

use calf_vmlib::file::open;
use calf_vmlib::fs::{with_fs, Mounted};
use calf_vmlib::sys::vfs::{
    get_fsx, set_fsx, set_project, shutdown, truncate, FsxAttr, Shutdown, XFLAG_APPEND,
    XFLAG_EXTSIZE, XFLAG_NODUMP, XFLAG_PROJINHERIT,
};
use calf_vmlib::user::as_user;
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::{
    ioctl_getflags, ioctl_setflags, AtFlags, FallocateFlags, FileType, IFlags, Mode, OFlags,
    RenameFlags, StatxFlags, CWD,
};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{chown, symlink, FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

fn on_fs(env: &Env, f: impl FnOnce(&mut Mounted) -> Result) -> Result {
    with_fs(env, &[], "", f)
}

fn flags(p: &Path) -> Result<IFlags> {
    Ok(ioctl_getflags(File::open(p)?)?)
}

fn set_flags(p: &Path, flags: IFlags) -> Result {
    Ok(ioctl_setflags(File::open(p)?, flags)?)
}

fn fsx(xflags: u32, projid: u32) -> FsxAttr {
    FsxAttr {
        xflags,
        projid,
        ..FsxAttr::default()
    }
}

fn chmod(p: &Path, mode: u32) -> Result {
    fs::set_permissions(p, Permissions::from_mode(mode)).ctx("chmod")
}

fn mode(p: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(p)?.mode() & 0o7777)
}

const ALL: [IFlags; 5] = [
    IFlags::NODUMP,
    IFlags::NOATIME,
    IFlags::SYNC,
    IFlags::APPEND,
    IFlags::IMMUTABLE,
];

fn flags_are_kept(env: &Env) -> Result {
    on_fs(env, |m| {
        fs::write(m.path("file"), "x")?;
        fs::create_dir(m.path("dir"))?;
        for n in ["file", "dir"] {
            let p = m.path(n);
            ensure_eq!(flags(&p)?, IFlags::empty(), "{n} at first");
            for f in ALL {
                set_flags(&p, f).ctx(format!("{f:?} of {n}"))?;
                ensure_eq!(flags(&p)?, f, "{n}");
            }
            set_flags(&p, ALL.into_iter().collect()).ctx("all")?;
        }
        m.cycle()?;
        for n in ["file", "dir"] {
            ensure_eq!(flags(&m.path(n))?, ALL.into_iter().collect(), "{n} later");
            set_flags(&m.path(n), IFlags::empty())?;
        }
        // Some belong to directories.
        let (file, dir) = (m.path("file"), m.path("dir"));
        let only = IFlags::DIRSYNC | IFlags::PROJECT_INHERIT;
        set_flags(&dir, only).ctx("a directory's own")?;
        set_flags(&file, only | IFlags::NODUMP).ctx("the same for a file")?;
        ensure_eq!(flags(&dir)?, only, "a directory's own");
        ensure_eq!(flags(&file)?, IFlags::NODUMP, "of the file");
        // Others there are not.
        for f in [IFlags::COMPRESSED, IFlags::JOURNALING, IFlags::NOCOW] {
            ensure_errno!(set_flags(&file, f), Errno::OPNOTSUPP, "{f:?}");
        }
        let f = File::open(&file)?;
        let mut hint = fsx(XFLAG_EXTSIZE, 0);
        hint.extsize = 65536;
        ensure_errno!(set_fsx(&f, hint), Errno::OPNOTSUPP, "a hint");
        Ok(())
    })
}

fn both_forms_agree(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = m.path("f");
        fs::write(&p, "x")?;
        let f = File::open(&p)?;
        set_fsx(&f, fsx(XFLAG_NODUMP, 42))?;
        ensure_eq!(flags(&p)?, IFlags::NODUMP, "flags");
        // The old form leaves the project alone.
        set_flags(&p, IFlags::APPEND)?;
        ensure_eq!(get_fsx(&f)?, fsx(XFLAG_APPEND, 42), "attributes");
        set_fsx(&f, fsx(0, u32::MAX - 1)).ctx("the largest project")?;
        ensure_errno!(set_fsx(&f, fsx(0, u32::MAX)), Errno::INVAL, "no project");
        drop(f);
        m.cycle()?;
        let f = File::open(m.path("f"))?;
        ensure_eq!(get_fsx(&f)?, fsx(0, u32::MAX - 1), "after a remount");
        // The form of a directory flag that has no S_* flag survives the other form.
        let d = File::open(&m.mnt)?;
        ioctl_setflags(&d, IFlags::DIRSYNC)?;
        set_fsx(&d, fsx(XFLAG_PROJINHERIT, 7))?;
        ensure_eq!(
            ioctl_getflags(&d)?,
            IFlags::DIRSYNC | IFlags::PROJECT_INHERIT,
            "flags of the root"
        );
        Ok(())
    })
}

fn immutable_is_enforced(env: &Env) -> Result {
    on_fs(env, |m| {
        let (p, d) = (m.path("f"), m.path("d"));
        fs::write(&p, "content")?;
        fs::create_dir(&d)?;
        fs::write(d.join("in"), "x")?;
        let before = open(&p)?;
        set_flags(&p, IFlags::IMMUTABLE)?;
        set_flags(&d, IFlags::IMMUTABLE)?;
        let perm = Errno::PERM;
        ensure_errno!(open(&p), perm, "open to write");
        ensure_errno!(fs::remove_file(&p), perm, "unlink");
        ensure_errno!(fs::rename(&p, m.path("g")), perm, "rename");
        ensure_errno!(fs::hard_link(&p, m.path("g")), perm, "link");
        ensure_errno!(chmod(&p, 0o600), perm, "chmod");
        ensure_errno!(chown(&p, Some(1), None), perm, "chown");
        ensure_errno!(truncate(&p, 0), perm, "truncate");
        let none = FallocateFlags::empty();
        for how in [none, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE] {
            ensure_errno!(
                rustix::fs::fallocate(&before, how, 0, 4096),
                perm,
                "fallocate {how:?}"
            );
        }
        ensure_errno!(
            before.set_times(fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)),
            perm,
            "utimes"
        );
        let other = open(&m.path("other"))?;
        other.write_all_at(&[1; 8192], 0)?;
        ensure_errno!(
            rustix::fs::ioctl_ficlone(&before, &other),
            perm,
            "clone over it"
        );
        ensure_errno!(
            rustix::fs::copy_file_range(&other, Some(&mut 0), &before, Some(&mut 0), 4096),
            perm,
            "copy over it"
        );
        ensure_errno!(File::create(d.join("new")), perm, "create");
        ensure_errno!(fs::remove_file(d.join("in")), perm, "unlink in it");
        ensure_errno!(fs::create_dir(d.join("sub")), perm, "mkdir");
        ensure_errno!(symlink("x", d.join("link")), perm, "symlink");
        ensure_errno!(fs::rename(d.join("in"), m.path("out")), perm, "rename out");
        ensure_errno!(fs::rename(m.path("other"), d.join("o")), perm, "rename in");
        ensure_errno!(
            rustix::fs::renameat_with(
                CWD,
                d.join("in"),
                CWD,
                m.path("other"),
                RenameFlags::EXCHANGE
            ),
            perm,
            "exchange"
        );
        let unnamed = OFlags::TMPFILE | OFlags::RDWR;
        ensure_errno!(
            rustix::fs::openat(CWD, &d, unnamed, Mode::empty()),
            perm,
            "O_TMPFILE"
        );
        fs::write(d.join("in"), "file in it").ctx("write to a file in it")?;
        ensure_eq!(fs::read_to_string(&p)?, "content", "content");
        m.sync()?;
        drop((before, other));
        m.cycle()?;
        ensure_errno!(fs::remove_file(m.path("f")), perm, "after a remount");
        set_flags(&m.path("f"), IFlags::empty())?;
        fs::remove_file(m.path("f")).ctx("unlink without the flag")
    })
}

fn append_is_enforced(env: &Env) -> Result {
    on_fs(env, |m| {
        let (p, d) = (m.path("f"), m.path("d"));
        fs::write(&p, "one")?;
        fs::create_dir(&d)?;
        set_flags(&p, IFlags::APPEND)?;
        set_flags(&d, IFlags::APPEND)?;
        let perm = Errno::PERM;
        ensure_errno!(open(&p), perm, "open to write anywhere");
        ensure_errno!(truncate(&p, 1), perm, "truncate");
        ensure_errno!(fs::remove_file(&p), perm, "unlink");
        ensure_errno!(chmod(&p, 0o600), perm, "chmod");
        let f = OpenOptions::new().append(true).read(true).open(&p)?;
        ensure_errno!(f.set_len(0), perm, "ftruncate");
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        ensure_errno!(rustix::fs::fallocate(&f, punch, 0, 1), perm, "punch");
        rustix::io::write(&f, b" two").ctx("append")?;
        drop(f);
        ensure_eq!(fs::read_to_string(&p)?, "one two", "content");
        fs::write(d.join("new"), "x").ctx("a new name")?;
        ensure_errno!(fs::remove_file(d.join("new")), perm, "unlink in it");
        ensure_errno!(
            fs::rename(d.join("new"), d.join("old")),
            perm,
            "rename in it"
        );
        m.cycle()?;
        ensure_errno!(fs::remove_file(m.path("d/new")), perm, "after a remount");
        set_flags(&m.path("d"), IFlags::empty())?;
        fs::remove_file(m.path("d/new")).ctx("unlink without the flag")
    })
}

fn flags_need_privilege(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = m.path("f");
        fs::write(&p, "x")?;
        chown(&p, Some(1000), Some(1000))?;
        as_user(1000, 1000, || {
            set_flags(&p, IFlags::NODUMP).ctx("the owner's NODUMP")?;
            for f in [IFlags::IMMUTABLE, IFlags::APPEND] {
                ensure_errno!(set_flags(&p, f), Errno::PERM, "{f:?} by the owner");
            }
            Ok(())
        })?;
        as_user(1001, 1001, || {
            ensure_errno!(
                set_flags(&p, IFlags::empty()),
                Errno::PERM,
                "NODUMP by somebody else"
            );
            Ok(())
        })?;
        // Whoever gives it to another project loses the set-id bits without CAP_FSETID.
        chmod(&p, 0o6755)?;
        set_fsx(&File::open(&p)?, fsx(0, 3))?;
        ensure_eq!(mode(&p)?, 0o6755, "mode after root's change");
        as_user(1000, 1000, || Ok(set_fsx(&File::open(&p)?, fsx(0, 4))?))?;
        ensure_eq!(mode(&p)?, 0o755, "mode after the owner's change");
        Ok(())
    })
}

fn noatime_and_sync(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = m.path("f");
        fs::write(&p, "x")?;
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let read = || -> Result<bool> {
            let f = open(&p)?;
            f.set_times(fs::FileTimes::new().set_accessed(old))?;
            f.read_at(&mut [0], 0)?;
            Ok(fs::metadata(&p)?.accessed()? != old)
        };
        ensure!(read()?, "reading does not change atime");
        set_flags(&p, IFlags::NOATIME)?;
        ensure!(!read()?, "reading changes atime");
        // A synchronous file needs no fsync: its size and data outlive a crash.
        let p = m.path("s");
        fs::write(&p, "")?;
        set_flags(&p, IFlags::SYNC)?;
        m.sync()?;
        let f = open(&p)?;
        f.write_all_at(b"durable", 0)?;
        let root = File::open(&m.mnt)?;
        shutdown(&root, Shutdown::NoFlush)?;
        drop((f, root));
        m.cycle()?;
        ensure_eq!(fs::read_to_string(m.path("s"))?, "durable", "content");
        Ok(())
    })
}

fn attributes_are_inherited(env: &Env) -> Result {
    on_fs(env, |m| {
        let d = m.path("d");
        fs::create_dir(&d)?;
        let down = IFlags::NODUMP | IFlags::NOATIME | IFlags::SYNC;
        let dirs = IFlags::DIRSYNC | IFlags::PROJECT_INHERIT;
        let f = File::open(&d)?;
        set_fsx(&f, fsx(0, 99))?;
        ioctl_setflags(&f, down)?;
        fs::create_dir(d.join("no-project"))?;
        ensure_eq!(
            get_fsx(&File::open(d.join("no-project"))?)?.projid,
            0,
            "project without the flag"
        );
        ioctl_setflags(&f, down | dirs | IFlags::APPEND)?;
        fs::create_dir(d.join("dir"))?;
        fs::write(d.join("dir/file"), "x")?;
        let unnamed = OFlags::TMPFILE | OFlags::RDWR;
        let tmp = File::from(rustix::fs::openat(
            CWD,
            &d,
            unnamed,
            Mode::from_raw_mode(0o600),
        )?);
        rustix::fs::linkat(&tmp, "", CWD, d.join("tmp"), AtFlags::EMPTY_PATH)?;
        ensure_eq!(flags(&d.join("dir"))?, down | dirs, "of a directory");
        drop((f, tmp));
        m.cycle()?;
        for n in ["d/dir/file", "d/tmp"] {
            let p = m.path(n);
            ensure_eq!(flags(&p)?, down, "{n}");
            ensure_eq!(get_fsx(&File::open(p)?)?.projid, 99, "project of {n}");
        }
        Ok(())
    })
}

fn projects_stay_apart(env: &Env) -> Result {
    on_fs(env, |m| {
        let (d, p) = (m.path("d"), m.path("f"));
        fs::create_dir(&d)?;
        set_fsx(&File::open(&d)?, fsx(XFLAG_PROJINHERIT, 5))?;
        fs::write(&p, "x")?;
        fs::create_dir(m.path("sub"))?;
        fs::write(d.join("in"), "x")?;
        let xdev = Errno::XDEV;
        ensure_errno!(fs::hard_link(&p, d.join("l")), xdev, "link");
        ensure_errno!(fs::rename(&p, d.join("l")), xdev, "rename");
        ensure_errno!(fs::rename(m.path("sub"), d.join("sub")), xdev, "directory");
        ensure_errno!(
            rustix::fs::renameat_with(CWD, &p, CWD, d.join("in"), RenameFlags::EXCHANGE),
            xdev,
            "exchange"
        );
        ensure_errno!(
            rustix::fs::renameat_with(CWD, d.join("in"), CWD, &p, RenameFlags::EXCHANGE),
            xdev,
            "exchange in the other order"
        );
        // Out is allowed, and so is what has no project at all.
        fs::rename(d.join("in"), m.path("out")).ctx("out")?;
        fs::rename(m.path("out"), d.join("in")).ctx("back")?;
        let fifo = m.path("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        fs::hard_link(&fifo, d.join("fifo")).ctx("a fifo without a project")?;
        set_project(&fifo, 6).ctx("project of a fifo")?;
        ensure_errno!(fs::hard_link(&fifo, d.join("fifo2")), xdev, "a fifo with");
        set_fsx(&File::open(&p)?, fsx(0, 5))?;
        fs::hard_link(&p, d.join("l")).ctx("of the same project")?;
        let link = d.join("symlink");
        symlink("target", &link)?;
        fs::rename(&link, m.path("symlink"))?;
        fs::rename(m.path("symlink"), &link).ctx("a link of the same project")?;
        set_project(&link, 8)?;
        fs::rename(&link, m.path("symlink"))?;
        ensure_errno!(fs::rename(m.path("symlink"), &link), xdev, "another link");
        Ok(())
    })
}

fn statx_says(env: &Env) -> Result {
    on_fs(env, |m| {
        let before = SystemTime::now() - Duration::from_millis(20);
        let p = m.path("f");
        fs::write(&p, "x")?;
        open(&p)?.set_times(fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH))?;
        let ask = |p: &Path| {
            rustix::fs::statx(
                CWD,
                p,
                AtFlags::SYMLINK_NOFOLLOW,
                StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::DIOALIGN,
            )
        };
        let s = ask(&p)?;
        ensure!(s.stx_mask & StatxFlags::BTIME.bits() != 0, "no btime");
        let btime = fs::metadata(&p)?.created()?;
        ensure!(
            btime >= before && btime <= SystemTime::now(),
            "btime {btime:?}"
        );
        ensure!(s.stx_mask & StatxFlags::DIOALIGN.bits() != 0, "no DIOALIGN");
        let bits = |a: rustix::fs::StatxAttributes| a.bits();
        let three = 0x10 | 0x20 | 0x40;
        for (flag, bit) in [
            (IFlags::IMMUTABLE, 0x10),
            (IFlags::APPEND, 0x20),
            (IFlags::NODUMP, 0x40),
        ] {
            set_flags(&p, flag)?;
            let s = ask(&p)?;
            ensure_eq!(bits(s.stx_attributes_mask) & three, three, "known");
            ensure_eq!(bits(s.stx_attributes) & three, bit, "{flag:?}");
        }
        set_flags(&p, IFlags::empty())?;
        drop(p);
        m.cycle()?;
        ensure_eq!(fs::metadata(m.path("f"))?.created()?, btime, "btime later");
        // Each change that follows a look has a time of its own, however fast it comes, if the clock
        // can tell them apart.
        let (p, mut last) = (m.path("f"), (0, 0));
        for n in 0..50 {
            // A machine without a better clock than the timer tick has one time for each tick.
            let tick = SystemTime::now();
            while SystemTime::now() == tick {
                std::hint::spin_loop();
            }
            chmod(&p, 0o600 + n % 2)?;
            let s = fs::metadata(&p)?;
            let now = (s.ctime(), s.ctime_nsec());
            ensure!(now > last, "ctime {now:?} after {last:?}");
            last = now;
        }
        Ok(())
    })
}

fn times_have_limits(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = m.path("f");
        fs::write(&p, "")?;
        let max = i64::MAX / 1_000_000_000 - 1;
        for (want, get) in [(max, max), (max + 1, max), (-max, -max), (-max - 9, -max)] {
            let t = rustix::fs::Timespec {
                tv_sec: want,
                tv_nsec: 0,
            };
            let times = rustix::fs::Timestamps {
                last_access: t,
                last_modification: t,
            };
            rustix::fs::utimensat(CWD, &p, &times, AtFlags::empty()).ctx(want)?;
            for round in ["at once", "after a remount"] {
                let s = fs::metadata(&p)?;
                ensure_eq!((s.atime(), s.mtime()), (get, get), "{want} {round}");
                m.cycle()?;
            }
        }
        Ok(())
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            flags_are_kept,
            both_forms_agree,
            immutable_is_enforced,
            append_is_enforced,
            flags_need_privilege,
            noatime_and_sync,
            attributes_are_inherited,
            projects_stay_apart,
            statx_says,
            times_have_limits,
        ],
        |_| {},
    )
}

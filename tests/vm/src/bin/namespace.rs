// SPDX-License-Identifier: GPL-2.0

//! Names: create, lookup, readdir, mkdir, rmdir, unlink, rename, symlink, hard links, attributes.

use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{drop_caches, next_stamp, with_fs, Mounted};
use calf_vmlib::rng::Rng;
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::{AtFlags, Timespec, Timestamps, CWD};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let mut set = BTreeSet::new();
    for e in fs::read_dir(dir).ctx("readdir")? {
        let name = e.ctx("readdir")?.file_name().to_string_lossy().into_owned();
        ensure!(set.insert(name.clone()), "readdir shows {name} twice");
    }
    Ok(set)
}

fn on_fs(env: &Env, f: impl FnOnce(&mut Mounted) -> Result) -> Result {
    with_fs(env, &[], "", f)
}

fn create_and_list(env: &Env) -> Result {
    on_fs(env, |m| {
        let want: BTreeSet<String> = (0..500).map(|i| format!("file-{i}")).collect();
        for n in &want {
            File::create(m.path(n)).ctx(n)?;
        }
        let same = |when: &str| -> Result {
            let have = names(&m.mnt)?;
            let differ: Vec<&String> = have.symmetric_difference(&want).take(10).collect();
            ensure!(
                differ.is_empty(),
                "{when}: {} entries, wrong are {differ:?}",
                have.len()
            );
            Ok(())
        };
        same("at once")?;
        drop_caches()?;
        same("with cold caches")?;
        ensure_errno!(
            File::open(m.path("file-500")),
            Errno::NOENT,
            "a missing file"
        );
        ensure_errno!(File::create_new(m.path("file-1")), Errno::EXIST, "O_EXCL");
        m.cycle()?;
        for n in &want {
            fs::remove_file(m.path(n)).ctx(n)?;
        }
        ensure!(names(&m.mnt)?.is_empty(), "entries are left");
        Ok(())
    })
}

fn long_and_odd_names(env: &Env) -> Result {
    on_fs(env, |m| {
        let long = "x".repeat(255);
        for n in [
            long.as_str(),
            " ",
            "a b",
            "\u{e9}\u{4e2d}",
            "-",
            "...",
            "new\nline",
        ] {
            fs::write(m.path(n), n).ctx(n)?;
        }
        m.cycle()?;
        for n in [
            long.as_str(),
            " ",
            "a b",
            "\u{e9}\u{4e2d}",
            "-",
            "...",
            "new\nline",
        ] {
            ensure_eq!(fs::read_to_string(m.path(n)).ctx(n)?, n, "content");
        }
        ensure_errno!(
            File::create(m.path(&"x".repeat(256))),
            Errno::NAMETOOLONG,
            "256 bytes"
        );
        Ok(())
    })
}

fn directories(env: &Env) -> Result {
    on_fs(env, |m| {
        let root_links = fs::metadata(&m.mnt)?.nlink();
        fs::create_dir(m.path("d"))?;
        ensure_eq!(
            fs::metadata(m.path("d"))?.nlink(),
            2,
            "links of an empty directory"
        );
        ensure_eq!(
            fs::metadata(&m.mnt)?.nlink(),
            root_links + 1,
            "links of the root"
        );
        ensure_errno!(fs::create_dir(m.path("d")), Errno::EXIST, "mkdir again");
        fs::create_dir(m.path("d/e"))?;
        ensure_eq!(
            fs::metadata(m.path("d"))?.nlink(),
            3,
            "links with a subdirectory"
        );
        fs::write(m.path("d/e/f"), "x")?;
        ensure_errno!(fs::remove_dir(m.path("d/e")), Errno::NOTEMPTY, "rmdir");
        ensure_errno!(
            fs::remove_file(m.path("d/e")),
            Errno::ISDIR,
            "unlink of a directory"
        );
        ensure_errno!(
            fs::remove_dir(m.path("d/e/f")),
            Errno::NOTDIR,
            "rmdir of a file"
        );
        ensure_errno!(
            File::open(m.path("d/e/f/g")),
            Errno::NOTDIR,
            "path through a file"
        );
        let up = fs::metadata(m.path("d/e/..")).ctx("..")?;
        ensure_eq!(up.ino(), fs::metadata(m.path("d"))?.ino(), "..");
        fs::remove_file(m.path("d/e/f"))?;
        fs::remove_dir(m.path("d/e"))?;
        ensure_eq!(fs::metadata(m.path("d"))?.nlink(), 2, "links after rmdir");
        fs::remove_dir(m.path("d"))?;
        ensure_eq!(
            fs::metadata(&m.mnt)?.nlink(),
            root_links,
            "links of the root at the end"
        );
        Ok(())
    })
}

fn deep_directories(env: &Env) -> Result {
    on_fs(env, |m| {
        let mut p = m.mnt.clone();
        for i in 0..100 {
            p.push(format!("level-{i}"));
            fs::create_dir(&p)?;
        }
        fs::write(p.join("leaf"), "deep")?;
        m.cycle()?;
        ensure_eq!(fs::read_to_string(p.join("leaf"))?, "deep", "content");
        fs::remove_dir_all(m.path("level-0")).ctx("remove all")?;
        ensure!(names(&m.mnt)?.is_empty(), "entries are left");
        Ok(())
    })
}

fn rename_all_ways(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = |n: &str| m.path(n);
        fs::write(p("a"), "a")?;
        fs::write(p("b"), "b")?;
        let a = fs::metadata(p("a"))?.ino();
        // In the same directory, then over an existing file.
        fs::rename(p("a"), p("c"))?;
        ensure_errno!(fs::metadata(p("a")), Errno::NOENT, "old name");
        ensure_eq!(fs::metadata(p("c"))?.ino(), a, "inode number");
        fs::rename(p("c"), p("b"))?;
        ensure_eq!(fs::read_to_string(p("b"))?, "a", "content of the target");
        // To another directory; directories change their parent.
        fs::create_dir_all(p("d1/sub"))?;
        fs::create_dir(p("d2"))?;
        fs::rename(p("b"), p("d1/sub/b"))?;
        fs::rename(p("d1/sub"), p("d2/sub"))?;
        ensure_eq!(fs::metadata(p("d1"))?.nlink(), 2, "links of the old parent");
        ensure_eq!(fs::metadata(p("d2"))?.nlink(), 3, "links of the new parent");
        let up = fs::metadata(p("d2/sub/.."))?.ino();
        ensure_eq!(up, fs::metadata(p("d2"))?.ino(), "..");
        // Over an empty directory, not over a full one, not into itself.
        fs::create_dir(p("empty"))?;
        fs::rename(p("d2"), p("empty"))?;
        fs::create_dir(p("other"))?;
        let e = fs::rename(p("other"), p("empty"))
            .err()
            .and_then(|e| e.raw_os_error());
        let (full, exists) = (Errno::NOTEMPTY.raw_os_error(), Errno::EXIST.raw_os_error());
        ensure!(
            e == Some(full) || e == Some(exists),
            "rename over a full directory: {e:?}"
        );
        ensure_errno!(
            fs::rename(p("empty"), p("empty/sub/x")),
            Errno::INVAL,
            "into itself"
        );
        ensure_errno!(
            fs::rename(p("empty/sub/b"), p("other")),
            Errno::ISDIR,
            "file over directory"
        );
        ensure_errno!(
            fs::rename(p("other"), p("empty/sub/b")),
            Errno::NOTDIR,
            "directory over file"
        );
        m.cycle()?;
        ensure_eq!(
            fs::read_to_string(m.path("empty/sub/b"))?,
            "a",
            "content after a remount"
        );
        Ok(())
    })
}

fn symbolic_links(env: &Env) -> Result {
    on_fs(env, |m| {
        for len in [1, 50, 90, 200, 256, 257, 1000, 3000, 4095] {
            let target = "t".repeat(len);
            let p = m.path(&format!("link-{len}"));
            symlink(&target, &p).ctx(len)?;
            let meta = fs::symlink_metadata(&p)?;
            ensure!(meta.file_type().is_symlink(), "type of link {len}");
            ensure_eq!(meta.size(), len as u64, "size of a link");
        }
        symlink("file", m.path("good"))?;
        fs::write(m.path("file"), "through")?;
        m.cycle()?;
        for len in [1, 50, 90, 200, 256, 257, 1000, 3000, 4095] {
            let have = fs::read_link(m.path(&format!("link-{len}"))).ctx(len)?;
            ensure!(
                have.as_os_str().len() == len,
                "target of {len} is {}",
                have.as_os_str().len()
            );
        }
        ensure_eq!(
            fs::read_to_string(m.path("good"))?,
            "through",
            "through a link"
        );
        for len in [1, 50, 90, 200, 256, 257, 1000, 3000, 4095] {
            fs::remove_file(m.path(&format!("link-{len}")))?;
        }
        Ok(())
    })
}

fn hard_links(env: &Env) -> Result {
    on_fs(env, |m| {
        fs::write(m.path("a"), "one")?;
        fs::hard_link(m.path("a"), m.path("b"))?;
        ensure_eq!(fs::metadata(m.path("a"))?.nlink(), 2, "links");
        fs::remove_file(m.path("a"))?;
        m.cycle()?;
        ensure_eq!(fs::read_to_string(m.path("b"))?, "one", "content");
        ensure_eq!(fs::metadata(m.path("b"))?.nlink(), 1, "links");
        Ok(())
    })
}

fn attributes(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = m.path("f");
        fs::write(&p, "x")?;
        fs::set_permissions(&p, Permissions::from_mode(0o4751))?;
        chown(&p, Some(70_000), Some(80_000))?;
        fs::set_permissions(&p, Permissions::from_mode(0o4751))?;
        let at = |s, n| Timespec {
            tv_sec: s,
            tv_nsec: n,
        };
        let times = Timestamps {
            last_access: at(-5, 7),
            last_modification: at(5_000_000_000, 123_456_789),
        };
        rustix::fs::utimensat(CWD, &p, &times, AtFlags::empty()).ctx("utimensat")?;
        for round in ["before", "after"] {
            let s = fs::metadata(&p)?;
            ensure_eq!(s.mode() & 0o7777, 0o4751, "mode {round} the remount");
            ensure_eq!((s.uid(), s.gid()), (70_000, 80_000), "owner {round}");
            ensure_eq!((s.atime(), s.atime_nsec()), (-5, 7), "atime {round}");
            ensure_eq!(
                (s.mtime(), s.mtime_nsec()),
                (5_000_000_000, 123_456_789),
                "mtime {round}"
            );
            m.cycle()?;
        }
        fs::create_dir(m.path("d"))?;
        fs::set_permissions(m.path("d"), Permissions::from_mode(0o2755))?;
        chown(m.path("d"), None, Some(90_000))?;
        fs::set_permissions(m.path("d"), Permissions::from_mode(0o2755))?;
        fs::write(m.path("d/child"), "")?;
        ensure_eq!(
            fs::metadata(m.path("d/child"))?.gid(),
            90_000,
            "group from a setgid directory"
        );
        Ok(())
    })
}

fn times_change(env: &Env) -> Result {
    on_fs(env, |m| {
        let p = m.path("f");
        fs::write(&p, "x")?;
        let dir = fs::metadata(&m.mnt)?;
        let old = fs::metadata(&p)?;
        next_stamp();
        fs::write(&p, "y")?;
        let new = fs::metadata(&p)?;
        ensure!(
            (new.mtime(), new.mtime_nsec()) > (old.mtime(), old.mtime_nsec()),
            "mtime after a write"
        );
        fs::remove_file(&p)?;
        let dir2 = fs::metadata(&m.mnt)?;
        ensure!(
            (dir2.mtime(), dir2.mtime_nsec()) > (dir.mtime(), dir.mtime_nsec()),
            "mtime of the directory after unlink"
        );
        Ok(())
    })
}

fn special_files(env: &Env) -> Result {
    use rustix::fs::{makedev, mknodat, FileType, Mode};
    use std::os::unix::fs::FileTypeExt;
    on_fs(env, |m| {
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, m.path("fifo"), FileType::Fifo, mode, 0).ctx("fifo")?;
        mknodat(
            CWD,
            m.path("null"),
            FileType::CharacterDevice,
            mode,
            makedev(1, 3),
        )
        .ctx("dev")?;
        m.cycle()?;
        ensure!(
            fs::symlink_metadata(m.path("fifo"))?.file_type().is_fifo(),
            "a fifo"
        );
        let s = fs::symlink_metadata(m.path("null"))?;
        ensure!(s.file_type().is_char_device(), "a device");
        ensure_eq!(s.rdev(), makedev(1, 3), "device number");
        fs::write(m.path("null"), "gone").ctx("write to the device")?;
        Ok(())
    })
}

fn readdir_while_changing(env: &Env) -> Result {
    on_fs(env, |m| {
        for i in 0..2000 {
            File::create(m.path(&format!("keep-{i}")))?;
        }
        let mut seen = BTreeSet::new();
        for (n, e) in fs::read_dir(&m.mnt)?.enumerate() {
            let name = e?.file_name().to_string_lossy().into_owned();
            if name.starts_with("keep-") {
                ensure!(seen.insert(name.clone()), "{name} twice");
            }
            if n % 3 == 0 {
                File::create(m.path(&format!("new-{n}")))?;
            }
            if n % 5 == 0 && n > 0 {
                let _ = fs::remove_file(m.path(&format!("new-{}", n - n % 3)));
            }
        }
        ensure_eq!(seen.len(), 2000, "entries that were there all the time");
        Ok(())
    })
}

fn many_threads(env: &Env) -> Result {
    on_fs(env, |m| {
        let mnt = m.mnt.clone();
        let work = |t: u64| -> Result {
            for i in 0..150u64 {
                let a = mnt.join(format!("t{t}-{i}"));
                let b = mnt.join(format!("shared-{}", i % 10));
                let f = open(&a)?;
                write_pattern(&f, t, 0, 5000)?;
                check_pattern(&f, t, 0, 5000)?;
                drop(f);
                if i % 3 == 0 {
                    fs::rename(&a, &b).ctx("rename")?;
                } else if i % 3 == 1 {
                    fs::remove_file(&a).ctx("unlink")?;
                }
            }
            Ok(())
        };
        std::thread::scope(|s| {
            let all: Vec<_> = (0..4).map(|t| s.spawn(move || work(t))).collect();
            all.into_iter()
                .try_for_each(|h| h.join().unwrap_or(Err("a thread panicked".into())))
        })?;
        ensure_eq!(names(&m.mnt)?.len(), 10 + 4 * 50, "entries");
        Ok(())
    })
}

/// One line for everything in a tree, sorted.
fn snapshot(dir: &Path, into: &mut BTreeSet<String>) -> Result {
    for e in fs::read_dir(dir)? {
        let p = e?.path();
        let s = fs::symlink_metadata(&p)?;
        let target = fs::read_link(&p).unwrap_or_default();
        into.insert(format!(
            "{} ino {} mode {:o} links {} size {} mtime {}.{} -> {}",
            p.display(),
            s.ino(),
            s.mode(),
            s.nlink(),
            s.size(),
            s.mtime(),
            s.mtime_nsec(),
            target.display()
        ));
        if s.is_dir() {
            snapshot(&p, into)?;
        }
    }
    Ok(())
}

/// Any operation on any name of a few directories. Most fail, as they should.
fn any_operation(mnt: &Path, rng: &mut Rng) {
    let dir = |rng: &mut Rng| {
        let d = mnt.join(format!("d{}", rng.below(5)));
        match rng.below(3) {
            0 => d.join(format!("s{}", rng.below(3))),
            _ => d,
        }
    };
    let sub = |rng: &mut Rng| {
        mnt.join(format!("d{}", rng.below(5)))
            .join(format!("s{}", rng.below(3)))
    };
    let a = dir(rng).join(format!("n{}", rng.below(30)));
    let b = dir(rng).join(format!("n{}", rng.below(30)));
    match rng.below(12) {
        0 | 1 => drop(fs::write(&a, vec![b'x'; rng.below(9000) as usize])),
        2 => drop(fs::create_dir(sub(rng))),
        3 => drop(fs::remove_dir(sub(rng))),
        4 => drop(fs::rename(sub(rng), sub(rng))),
        5 => drop(fs::remove_file(&a)),
        6 | 7 => drop(fs::rename(&a, &b)),
        8 => drop(fs::hard_link(&a, &b)),
        9 => drop(symlink("t".repeat(1 + rng.below(900) as usize), &a)),
        10 => {
            let _ = fs::set_permissions(&a, Permissions::from_mode(0o600 + rng.below(64) as u32));
        }
        _ => drop(fs::read_dir(dir(rng)).map(Iterator::count)),
    }
}

fn all_operations_at_once(env: &Env) -> Result {
    for bs in ["1024", "4096"] {
        with_fs(env, &["-b", bs], "", |m| {
            for d in 0..5 {
                fs::create_dir(m.path(&format!("d{d}")))?;
            }
            let mnt = m.mnt.clone();
            std::thread::scope(|s| {
                for t in 0..6 {
                    let mnt = &mnt;
                    s.spawn(move || {
                        let mut rng = Rng::new(t);
                        for _ in 0..2500 {
                            any_operation(mnt, &mut rng);
                        }
                    });
                }
            });
            let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
            snapshot(&m.mnt, &mut before)?;
            ktap::note(&format!("{} names with blocks of {bs}", before.len()));
            ensure!(before.len() > 50, "hardly any names");
            m.cycle()?;
            snapshot(&m.mnt, &mut after)?;
            for line in before.symmetric_difference(&after).take(4) {
                ktap::note(line);
            }
            ensure!(before == after, "the tree changed over a remount");
            for d in 0..5 {
                fs::remove_dir_all(m.path(&format!("d{d}"))).ctx("remove all")?;
            }
            let root = fs::metadata(&m.mnt)?;
            ensure_eq!(
                (root.nlink(), root.size()),
                (2, 0),
                "links, size of the root"
            );
            Ok(())
        })
        .ctx(format!("block size {bs}"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            create_and_list,
            long_and_odd_names,
            directories,
            deep_directories,
            rename_all_ways,
            symbolic_links,
            hard_links,
            attributes,
            times_change,
            special_files,
            readdir_while_changing,
            many_threads,
            all_operations_at_once,
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use calf_vmlib::file;
use calf_vmlib::fs::{drop_caches, fstype, next_stamp, with_fs, Mounted};
use calf_vmlib::sys::{fiemap_with, FIEMAP_FLAG_XATTR, FIEMAP_LAST};
use calf_vmlib::user::as_user;
use calf_vmlib::xattr::{check, get, list};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, Context, Env, Fail, Result};
use rustix::fs::{
    getxattr, getxattr_query, listxattr, listxattr_query, llistxattr, lremovexattr, lsetxattr,
    removexattr, setxattr, FileType, Mode, XattrFlags, CWD,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{symlink, FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

const ANY: XattrFlags = XattrFlags::empty();

fn value(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| seed.wrapping_add((i / 7) as u8)).collect()
}

const SIZES: [usize; 15] = [
    0, 1, 28, 29, 43, 44, 45, 255, 256, 271, 272, 4096, 20_000, 65_535, 65_536,
];

fn all_sizes(env: &Env) -> Result {
    for bs in ["1024", "4096"] {
        with_fs(env, &["-b", bs], "", |m| {
            let one = m.path("one");
            File::create(&one)?;
            // One attribute through all sizes, up and down.
            for (i, len) in SIZES.iter().chain(SIZES.iter().rev()).enumerate() {
                let v = value(i as u8, *len);
                setxattr(&one, "user.a", &v, ANY).ctx(format!("{len} bytes"))?;
                check(&one, "user.a", &v)?;
            }
            // All sizes side by side.
            let all = m.path("all");
            File::create(&all)?;
            for (i, len) in SIZES.iter().enumerate() {
                let name = format!("user.size{len}");
                setxattr(&all, &name, &value(i as u8, *len), ANY).ctx(&name)?;
            }
            m.cycle()?;
            check(&one, "user.a", &value(29, 0))?;
            let want: BTreeSet<String> = SIZES.iter().map(|l| format!("user.size{l}")).collect();
            ensure_eq!(list(&all)?, want, "names");
            for (i, len) in SIZES.iter().enumerate() {
                check(&all, &format!("user.size{len}"), &value(i as u8, *len))?;
            }
            ensure!(fs::metadata(&all)?.blocks() > 0, "no blocks");
            for len in SIZES {
                removexattr(&all, format!("user.size{len}")).ctx("remove")?;
            }
            ensure_eq!(list(&all)?.len(), 0, "names left");
            ensure_eq!(fs::metadata(&all)?.blocks(), 0, "blocks left");
            Ok(())
        })?;
    }
    Ok(())
}

fn rules_of_the_calls(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let f = m.path("f");
        File::create(&f)?;
        let set = |name: &str, v: &[u8], flags| setxattr(&f, name, v, flags);
        ensure_errno!(get(&f, "user.a"), Errno::NODATA, "get what is not there");
        ensure_errno!(removexattr(&f, "user.a"), Errno::NODATA, "remove it");
        ensure_errno!(
            set("user.a", b"1", XattrFlags::REPLACE),
            Errno::NODATA,
            "XATTR_REPLACE"
        );
        set("user.a", b"1", XattrFlags::CREATE)?;
        ensure_errno!(
            set("user.a", b"2", XattrFlags::CREATE),
            Errno::EXIST,
            "XATTR_CREATE"
        );
        set("user.a", b"12345", XattrFlags::REPLACE)?;
        ensure_eq!(getxattr_query(&f, "user.a")?, 5, "length of a value");
        ensure_errno!(
            getxattr(&f, "user.a", &mut [0u8; 4][..]),
            Errno::RANGE,
            "a short buffer"
        );
        ensure_eq!(listxattr_query(&f)?, 7, "length of the names");
        ensure_errno!(
            listxattr(&f, &mut [0u8; 6][..]),
            Errno::RANGE,
            "a short list"
        );
        ensure_errno!(
            set("user.b", &[0; 65537], ANY),
            Errno::TOOBIG,
            "more than 64 KiB"
        );
        let long = format!("user.{}", "x".repeat(250));
        set(&long, b"long", ANY)?;
        check(&f, &long, b"long")?;
        ensure_errno!(set(&format!("{long}x"), b"", ANY), Errno::RANGE, "256");
        ensure_errno!(set("user.", b"", ANY), Errno::INVAL, "an empty name");
        ensure_errno!(set("other.a", b"", ANY), Errno::OPNOTSUPP, "namespace");
        // A change counts as one of the inode.
        let before = fs::metadata(&f)?;
        next_stamp();
        set("user.a", b"x", ANY)?;
        let after = fs::metadata(&f)?;
        ensure_eq!(
            (before.mtime(), before.mtime_nsec()),
            (after.mtime(), after.mtime_nsec()),
            "mtime"
        );
        ensure!(
            (before.ctime(), before.ctime_nsec()) < (after.ctime(), after.ctime_nsec()),
            "ctime stands still"
        );
        m.remount(true)?;
        ensure_errno!(
            setxattr(&f, "user.a", b"y", ANY),
            Errno::ROFS,
            "on a read-only mount"
        );
        check(&f, "user.a", b"x")
    })
}

fn thousands_of_names(env: &Env) -> Result {
    const N: usize = 3000;
    with_fs(env, &["-b", "1024"], "", |m| {
        let f = m.path("f");
        File::create(&f)?;
        let name = |i: usize| format!("user.n{i}");
        for i in 0..N {
            setxattr(&f, name(i), &value(i as u8, i % 50), ANY).ctx(name(i))?;
        }
        ensure_eq!(list(&f)?.len(), N, "names");
        for i in (0..N).step_by(2) {
            removexattr(&f, name(i)).ctx(name(i))?;
        }
        m.cycle()?;
        let want: BTreeSet<String> = (0..N).skip(1).step_by(2).map(name).collect();
        ensure_eq!(list(&f)?, want, "names after a remount");
        for i in 0..N {
            if i % 2 == 0 {
                ensure_errno!(get(&f, &name(i)), Errno::NODATA, "{}", name(i));
            } else {
                check(&f, &name(i), &value(i as u8, i % 50))?;
            }
        }
        // More names than listxattr(2) can tell.
        for i in 0..280 {
            setxattr(&f, format!("user.{i:0>250}"), b"", ANY)?;
        }
        ensure_errno!(
            llistxattr(&f, &mut vec![0u8; 1 << 17][..]),
            Errno::TOOBIG,
            "a list of more than 64 KiB"
        );
        check(&f, &name(1), &value(1, 1))
    })
}

/// Where FIEMAP says that the attributes are.
fn fiemap_tells_the_blocks(env: &Env) -> Result {
    for bs in [1024u64, 4096] {
        with_fs(env, &["-b", &bs.to_string()], "", |m| {
            let path = m.path("f");
            let f = file::open(&path)?;
            let attrs = |at, len| fiemap_with(&f, at, len, FIEMAP_FLAG_XATTR);
            ensure_eq!(attrs(0, u64::MAX)?, [], "no attribute");
            setxattr(&path, "user.a", b"short", ANY)?;
            ensure_eq!(attrs(0, u64::MAX)?, [], "an attribute in the inode");
            for name in ["user.b", "user.c"] {
                setxattr(&path, name, &value(7, 65_536), ANY)?;
            }
            for _ in 0..2 {
                // Whatever the data is, and with the file's own offsets.
                f.write_at(b"x", 100 << 20)?;
                f.sync_all()?;
                let data = fiemap_with(&f, 0, u64::MAX, 0)?;
                ensure_eq!(data.len(), 1, "extents of the data");
                let all = attrs(0, u64::MAX)?;
                let bytes: u64 = all.iter().map(|e| e.length).sum();
                let want = f.metadata()?.blocks() * 512 - data[0].length;
                ensure_eq!(bytes, want, "bytes for attributes: {all:?}");
                ensure!(bytes >= 2 * 65_536, "room for {bytes} bytes");
                for (i, e) in all.iter().enumerate() {
                    let last = i + 1 == all.len();
                    ensure_eq!(e.flags, if last { FIEMAP_LAST } else { 0 }, "flags of {i}");
                    let after = i == 0 || e.logical >= all[i - 1].logical + all[i - 1].length;
                    ensure!(after, "{e:?} begins before the end of the one before");
                    let here = |p: u64| e.physical <= p && p < e.physical + e.length;
                    ensure!(!here(data[0].physical), "{e:?} is the data");
                    let others = all.iter().filter(|o| here(o.physical)).count();
                    ensure_eq!(others, 1, "owners of {e:?}");
                    let mut at = e.logical;
                    while at < e.logical + e.length {
                        let one = attrs(at, 1)?;
                        ensure_eq!(one.len(), 1, "extents of one byte at {at}");
                        let place = one[0].physical + (at - one[0].logical);
                        ensure_eq!(place, e.physical + (at - e.logical), "block of byte {at}");
                        if fstype() == "calf" {
                            let mut magic = [0; 4];
                            File::open(&m.dev)?.read_exact_at(&mut magic, place)?;
                            ensure_eq!(&magic, b"CALN", "magic number of the block at {place}");
                        }
                        at += bs;
                    }
                }
                let end = all.iter().map(|e| e.logical + e.length).max().unwrap_or(0);
                ensure_eq!(attrs(end, u64::MAX)?, [], "extents behind the last one");
                drop_caches()?;
            }
            for name in ["user.a", "user.b", "user.c"] {
                removexattr(&path, name)?;
            }
            ensure_eq!(attrs(0, u64::MAX)?, [], "all attributes are gone");
            ensure_errno!(
                fiemap_with(&f, 0, u64::MAX, FIEMAP_FLAG_XATTR | 0x100),
                Errno::BADR,
                "an unknown flag"
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn every_type_of_inode(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        for n in ["file", "dir", "link", "fifo", "chr"] {
            let p = m.path(n);
            match n {
                "file" => drop(File::create(&p)?),
                "dir" => fs::create_dir(&p)?,
                "link" => symlink("nowhere", &p)?,
                "fifo" => rustix::fs::mknodat(CWD, &p, FileType::Fifo, Mode::RUSR, 0)?,
                _ => rustix::fs::mknodat(CWD, &p, FileType::CharacterDevice, Mode::RUSR, 0x103)?,
            }
            lsetxattr(&p, "trusted.small", b"s", ANY).ctx(n)?;
            lsetxattr(&p, "trusted.large", &value(1, 50_000), ANY).ctx(n)?;
            lsetxattr(&p, "security.other", &value(2, 300), ANY).ctx(n)?;
            let user = lsetxattr(&p, "user.a", b"u", ANY);
            match n {
                "file" | "dir" => user.ctx(n)?,
                _ => ensure_errno!(user, Errno::PERM, "user. on a {n}"),
            }
        }
        m.cycle()?;
        fs::set_permissions(&m.mnt, Permissions::from_mode(0o755))?;
        for n in ["file", "dir", "link", "fifo", "chr"] {
            let p = m.path(n);
            check(&p, "trusted.small", b"s")?;
            check(&p, "trusted.large", &value(1, 50_000))?;
            check(&p, "security.other", &value(2, 300))?;
            ensure!(list(&p)?.contains("trusted.small"), "{n}: not listed");
            let seen = as_user(1000, 1000, || {
                ensure_errno!(
                    get(&p, "trusted.small"),
                    Errno::NODATA,
                    "trusted. of a {n} for a user"
                );
                list(&p)
            })?;
            ensure!(seen.contains("security.other"), "{n}: {seen:?}");
            ensure!(!seen.iter().any(|n| n.starts_with("trusted")), "{seen:?}");
            lremovexattr(&p, "trusted.small").ctx(n)?;
        }
        let target = fs::read_link(m.path("link"))?;
        ensure_eq!(target, Path::new("nowhere"), "target");
        Ok(())
    })
}

fn full_filesystem_keeps_the_old_value(env: &Env) -> Result {
    with_fs(env, &["-b", "1024"], "", |m| {
        let f = m.path("f");
        File::create(&f)?;
        let old = value(9, 3000);
        setxattr(&f, "user.old", &old, ANY)?;
        // Leaves a little, whatever the size of the device.
        let fill = File::create(m.path("fill"))?;
        let mut piece = 64 << 20;
        let mut at = 0;
        while piece >= 2 << 20 {
            match rustix::fs::fallocate(&fill, rustix::fs::FallocateFlags::empty(), at, piece) {
                Ok(()) => at += piece,
                Err(Errno::NOSPC) => piece /= 2,
                Err(e) => return Err(e).ctx("fallocate"),
            }
        }
        let mut n = 0;
        let error = loop {
            match setxattr(&f, format!("user.n{n}"), &value(n as u8, 60_000), ANY) {
                Ok(()) => n += 1,
                Err(e) => break e,
            }
            ensure!(n < 200, "never full");
        };
        ensure_eq!(error, Errno::NOSPC, "error on a full filesystem");
        ensure_errno!(
            setxattr(&f, "user.old", &value(1, 60_000), ANY),
            Errno::NOSPC,
            "grow a value"
        );
        check(&f, "user.old", &old)?;
        ensure_eq!(list(&f)?.len(), n + 1, "attributes");
        drop(fill);
        m.cycle()?;
        check(&f, "user.old", &old)?;
        for i in 0..n {
            check(&f, &format!("user.n{i}"), &value(i as u8, 60_000))?;
            removexattr(&f, format!("user.n{i}")).ctx("remove on a full filesystem")?;
        }
        fs::remove_file(m.path("fill"))?;
        m.sync()?;
        setxattr(&f, "user.old", &value(1, 60_000), ANY).ctx("with room again")?;
        check(&f, "user.old", &value(1, 60_000))
    })
}

fn space_comes_back(env: &Env) -> Result {
    with_fs(env, &["-b", "1024"], "", |m| {
        let round = |m: &Mounted| -> Result {
            for i in 0..40 {
                let p = m.path(&format!("x{i}"));
                match i % 4 {
                    0 => drop(File::create(&p)?),
                    1 => fs::create_dir(&p)?,
                    2 => symlink("t".repeat(2000), &p)?,
                    _ => rustix::fs::mknodat(CWD, &p, FileType::Fifo, Mode::RUSR, 0)?,
                }
                lsetxattr(&p, "trusted.a", &value(1, i * 1600), ANY)?;
                lsetxattr(&p, "trusted.b", &value(1, i * 30), ANY)?;
            }
            for i in 0..40 {
                let p = m.path(&format!("x{i}"));
                if i % 4 == 1 {
                    fs::remove_dir(&p)?;
                } else {
                    fs::remove_file(&p)?;
                }
            }
            drop_caches()?;
            m.sync()
        };
        round(m)?;
        let before = m.space()?;
        round(m)?;
        let after = m.space()?;
        ensure_eq!(after.free, before.free, "free blocks");
        ensure_eq!(after.ffree, before.ffree, "free inodes");
        Ok(())
    })
}

fn readers_see_one_value(env: &Env) -> Result {
    with_fs(env, &["-b", "1024"], "", |m| {
        let f = m.path("f");
        File::create(&f)?;
        setxattr(&f, "user.v", &[0; 65536], ANY)?;
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            let reader = s.spawn(|| -> Result<usize> {
                let mut seen = BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    let v = get(&f, "user.v")?;
                    ensure!(
                        v.iter().all(|b| *b == v[0]) && v.len() == 65536 - usize::from(v[0]),
                        "a mixture of {} bytes",
                        v.len()
                    );
                    seen.insert(v[0]);
                }
                Ok(seen.len())
            });
            let write = || -> Result {
                for i in 0..60 {
                    let b = i as u8;
                    setxattr(&f, "user.v", &vec![b; 65536 - i], ANY)?;
                }
                Ok(())
            };
            let written = write();
            done.store(true, Ordering::Relaxed);
            let seen = reader.join().map_err(|_| Fail::new("reader panics"))??;
            written?;
            ensure!(seen > 0, "the reader saw nothing");
            Ok(())
        })
    })
}

fn writes_kill_capabilities(env: &Env) -> Result {
    const NAME: &str = "security.capability";
    with_fs(env, &[], "", |m| {
        let p = m.path("f");
        File::create(&p)?;
        let mut cap = vec![0; 20];
        cap[3] = 2;
        cap[4] = 1;
        for direct in [false, true] {
            for round in 0..2 {
                // Writes in between let the VFS remember that there is nothing to kill.
                fs::write(&p, vec![1; 8192])?;
                setxattr(&p, NAME, &cap, ANY)?;
                check(&p, NAME, &cap)?;
                if round == 1 {
                    m.cycle()?;
                    check(&p, NAME, &cap)?;
                }
                if direct {
                    let f = calf_vmlib::file::open_direct(&p)?;
                    calf_vmlib::file::write_direct(&f, 1, 0, 4096)?;
                } else {
                    OpenOptions::new().write(true).open(&p)?.write_all(b"x")?;
                }
                ensure_errno!(get(&p, NAME), Errno::NODATA, "after a write");
            }
        }
        Ok(())
    })
}

fn main() -> ExitCode {
    ktap::run(
        &Env::new(),
        cases![
            all_sizes,
            rules_of_the_calls,
            thousands_of_names,
            fiemap_tells_the_blocks,
            every_type_of_inode,
            full_filesystem_keeps_the_old_value,
            space_comes_back,
            readers_see_one_value,
            writes_kill_capabilities,
        ],
        |_| (),
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Names that change places, leave whiteouts, or are not there at first: the flags of `renameat2`,
//! `O_TMPFILE`. How many names there may be.

use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{drop_caches, with_fs, Mounted};
use calf_vmlib::sys::vfs::{shutdown, Shutdown};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, CWD};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{symlink, DirEntryExt, FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::ExitCode;

fn on_fs(env: &Env, f: impl FnOnce(&mut Mounted) -> Result) -> Result {
    with_fs(env, &[], "", f)
}

fn rename(a: &Path, b: &Path, flags: RenameFlags) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, a, CWD, b, flags)
}

/// A name of each type; `full` is a directory with something in it.
const KINDS: [&str; 6] = ["file", "dir", "full", "link", "fifo", "dev"];

fn make(p: &Path, kind: &str) -> Result {
    let mode = Mode::from_raw_mode(0o600);
    match kind {
        "file" => fs::write(p, "content")?,
        "dir" => fs::create_dir(p)?,
        "full" => fs::create_dir_all(p.join("sub"))?,
        "link" => symlink("target", p)?,
        "fifo" => rustix::fs::mknodat(CWD, p, FileType::Fifo, mode, 0)?,
        _ => rustix::fs::mknodat(CWD, p, FileType::CharacterDevice, mode, 0x103)?,
    }
    Ok(())
}

fn check(p: &Path, kind: &str, ino: u64) -> Result {
    let s = fs::symlink_metadata(p).ctx(p.display())?;
    ensure_eq!(s.ino(), ino, "inode behind {}", p.display());
    let t = s.file_type();
    let right = match kind {
        "file" => t.is_file() && fs::read_to_string(p)? == "content",
        "dir" => t.is_dir() && fs::read_dir(p)?.count() == 0 && s.nlink() == 2,
        "full" => t.is_dir() && p.join("sub").is_dir() && s.nlink() == 3,
        "link" => t.is_symlink() && fs::read_link(p)? == Path::new("target"),
        "fifo" => t.is_fifo(),
        _ => t.is_char_device() && s.rdev() == 0x103,
    };
    ensure!(right, "{} is not a good {kind}", p.display());
    if t.is_dir() {
        let up = fs::metadata(p.join(".."))?.ino();
        let parent = fs::metadata(p.parent().ok_or("no parent")?)?.ino();
        ensure_eq!(up, parent, ".. of {}", p.display());
    }
    // What readdir says must agree with the inode.
    let entry = fs::read_dir(p.parent().ok_or("no parent")?)?
        .flatten()
        .find(|e| Some(e.file_name().as_os_str()) == p.file_name())
        .ok_or("the name is not listed")?;
    ensure_eq!(entry.ino(), ino, "number in the entry");
    ensure_eq!(entry.file_type()?, t, "type in the entry");
    Ok(())
}

fn noreplace(env: &Env) -> Result {
    on_fs(env, |m| {
        let (a, b) = (m.path("a"), m.path("b"));
        for kind in KINDS {
            make(&a, kind)?;
            fs::write(&b, "b")?;
            let no = RenameFlags::NOREPLACE;
            ensure_errno!(rename(&a, &b, no), Errno::EXIST, "{kind} over a file");
            ensure_errno!(rename(&a, &a, no), Errno::EXIST, "{kind} over itself");
            fs::remove_file(&b)?;
            rename(&a, &b, no).ctx(kind)?;
            ensure!(fs::symlink_metadata(&a).is_err(), "the old name is left");
            if fs::symlink_metadata(&b)?.is_dir() {
                fs::remove_dir_all(&b)?;
            } else {
                fs::remove_file(&b)?;
            }
        }
        Ok(())
    })
}

fn exchange_all_types(env: &Env) -> Result {
    on_fs(env, |m| {
        fs::create_dir(m.path("left"))?;
        fs::create_dir(m.path("right"))?;
        let mut have = Vec::new();
        for (n, a) in KINDS.iter().enumerate() {
            for (k, b) in KINDS.iter().enumerate() {
                for right in ["left", "right"] {
                    let pa = m.path(&format!("left/{right}-{n}-{k}-a"));
                    let pb = m.path(&format!("{right}/{right}-{n}-{k}-b"));
                    make(&pa, a)?;
                    make(&pb, b)?;
                    let (ia, ib) = (
                        fs::symlink_metadata(&pa)?.ino(),
                        fs::symlink_metadata(&pb)?.ino(),
                    );
                    rename(&pa, &pb, RenameFlags::EXCHANGE).ctx(format!("{a} and {b}"))?;
                    check(&pa, b, ib)?;
                    check(&pb, a, ia)?;
                    have.push((pa, *b, ib));
                    have.push((pb, *a, ia));
                }
            }
        }
        // 36 pairs each way; of six kinds two are directories.
        for (dir, links) in [("left", 2 + 12 * 2 + 12), ("right", 2 + 12)] {
            ensure_eq!(fs::metadata(m.path(dir))?.nlink(), links, "links of {dir}");
        }
        m.cycle()?;
        for (p, kind, ino) in &have {
            check(p, kind, *ino)?;
        }
        for (dir, links) in [("left", 2 + 12 * 2 + 12), ("right", 2 + 12)] {
            ensure_eq!(fs::metadata(m.path(dir))?.nlink(), links, "links of {dir}");
        }
        Ok(())
    })
}

/// An uneven exchange changes the links of both parents.
fn exchange_counts_links(env: &Env) -> Result {
    on_fs(env, |m| {
        fs::create_dir_all(m.path("a/d"))?;
        fs::create_dir(m.path("b"))?;
        fs::write(m.path("b/f"), "f")?;
        let links = || -> Result<(u64, u64)> {
            let of = |n: &str| fs::metadata(m.path(n)).map(|s| s.nlink());
            Ok((of("a")?, of("b")?))
        };
        ensure_eq!(links()?, (3, 2), "before");
        rename(&m.path("a/d"), &m.path("b/f"), RenameFlags::EXCHANGE)?;
        ensure_eq!(links()?, (2, 3), "there");
        rename(&m.path("a/d"), &m.path("b/f"), RenameFlags::EXCHANGE)?;
        ensure_eq!(links()?, (3, 2), "and back");
        Ok(())
    })
}

fn exchange_refused(env: &Env) -> Result {
    on_fs(env, |m| {
        fs::create_dir_all(m.path("d/e/f"))?;
        let ex = RenameFlags::EXCHANGE;
        let go = |a: &str, b: &str, f| rename(&m.path(a), &m.path(b), f);
        ensure_errno!(go("d", "none", ex), Errno::NOENT, "with nothing");
        ensure_errno!(go("none", "d", ex), Errno::NOENT, "nothing with d");
        ensure_errno!(go("d", "d/e", ex), Errno::INVAL, "with what is in it");
        ensure_errno!(go("d/e/f", "d", ex), Errno::INVAL, "with what it is in");
        for f in [RenameFlags::NOREPLACE, RenameFlags::WHITEOUT] {
            ensure_errno!(go("d", "d/e", ex | f), Errno::INVAL, "{f:?}");
        }
        go("d", "d", ex).ctx("with itself")
    })
}

fn is_whiteout(p: &Path) -> Result {
    let s = fs::symlink_metadata(p).ctx(p.display())?;
    ensure!(s.file_type().is_char_device(), "no device");
    ensure_eq!(
        (s.rdev(), s.mode() & 0o7777, s.nlink()),
        (0, 0, 1),
        "whiteout"
    );
    Ok(())
}

fn whiteout(env: &Env) -> Result {
    on_fs(env, |m| {
        let files = m.space()?;
        for dir in ["d", "e"] {
            fs::create_dir(m.path(dir))?;
        }
        let mut out = Vec::new();
        for kind in KINDS {
            for to in ["d", "e"] {
                for over in [false, true] {
                    let a = m.path(&format!("d/{kind}-{to}-{over}-a"));
                    let b = m.path(&format!("{to}/{kind}-{to}-{over}-b"));
                    make(&a, kind)?;
                    if over {
                        make(&b, if kind == "full" { "dir" } else { kind })?;
                    }
                    let ino = fs::symlink_metadata(&a)?.ino();
                    rename(&a, &b, RenameFlags::WHITEOUT).ctx(format!("{}", a.display()))?;
                    check(&b, kind, ino)?;
                    is_whiteout(&a)?;
                    out.push((a, b, kind, ino));
                }
            }
        }
        drop_caches()?;
        for round in ["at once", "after a remount"] {
            for (a, b, kind, ino) in &out {
                is_whiteout(a).ctx(round)?;
                check(b, kind, *ino).ctx(round)?;
            }
            m.cycle()?;
        }
        // Directories lost in d and gained in e.
        ensure_eq!(fs::metadata(m.path("d"))?.nlink(), 2 + 4, "links of d");
        ensure_eq!(fs::metadata(m.path("e"))?.nlink(), 2 + 4, "links of e");
        for dir in ["d", "e"] {
            fs::remove_dir_all(m.path(dir))?;
        }
        m.sync()?;
        ensure_eq!(m.space()?.files_used(), files.files_used(), "inodes");
        Ok(())
    })
}

fn tmpfile(dir: &Path, more: OFlags) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | more;
    let fd = rustix::fs::openat(CWD, dir, flags, Mode::from_raw_mode(0o640)).ctx("O_TMPFILE")?;
    Ok(File::from(fd))
}

fn link_tmpfile(file: &File, to: &Path) -> rustix::io::Result<()> {
    rustix::fs::linkat(file, "", CWD, to, AtFlags::EMPTY_PATH)
}

fn tmpfile_gets_a_name(env: &Env) -> Result {
    on_fs(env, |m| {
        fs::create_dir(m.path("d"))?;
        let f = tmpfile(&m.path("d"), OFlags::empty())?;
        ensure_eq!(f.metadata()?.nlink(), 0, "links at birth");
        ensure_eq!(fs::read_dir(m.path("d"))?.count(), 0, "names");
        write_pattern(&f, 1, 0, 100_000)?;
        link_tmpfile(&f, &m.path("d/named")).ctx("linkat")?;
        ensure_eq!(f.metadata()?.nlink(), 1, "links with a name");
        link_tmpfile(&f, &m.path("again")).ctx("linkat again")?;
        ensure_errno!(
            link_tmpfile(&f, &m.path("again")),
            Errno::EXIST,
            "linkat to a name that is there"
        );
        fs::remove_file(m.path("again"))?;
        drop(f);
        m.cycle()?;
        let f = File::open(m.path("d/named"))?;
        ensure_eq!(f.metadata()?.nlink(), 1, "links after a remount");
        ensure_eq!(f.metadata()?.mode() & 0o7777, 0o640, "mode");
        check_pattern(&f, 1, 0, 100_000)
    })
}

fn tmpfile_leaves_nothing(env: &Env) -> Result {
    on_fs(env, |m| {
        m.sync()?;
        let before = m.space()?;
        for (n, more) in [OFlags::empty(), OFlags::EXCL].into_iter().enumerate() {
            let f = tmpfile(&m.mnt, more)?;
            write_pattern(&f, 2, 0, 3 << 20)?;
            f.sync_all()?;
            if more == OFlags::EXCL {
                ensure_errno!(
                    link_tmpfile(&f, &m.path("x")),
                    Errno::NOENT,
                    "linkat of an exclusive one"
                );
            }
            ensure!(
                m.space()?.files_used() > before.files_used(),
                "round {n}: no inode"
            );
        }
        m.sync()?;
        let after = m.space()?;
        ensure_eq!(after.files_used(), before.files_used(), "inodes");
        ensure_eq!(after.free, before.free, "blocks");
        Ok(())
    })
}

/// Many at once: the orphan tree grows and shrinks, names come in another order.
fn many_tmpfiles(env: &Env) -> Result {
    on_fs(env, |m| {
        let all: Vec<File> = (0..400)
            .map(|_| tmpfile(&m.mnt, OFlags::empty()))
            .collect::<Result<_>>()?;
        for (n, f) in all.iter().enumerate().rev() {
            write_pattern(f, n as u64, 0, 100)?;
            if n % 3 == 0 {
                link_tmpfile(f, &m.path(&format!("f{n}"))).ctx(n)?;
            }
        }
        drop(all);
        m.cycle()?;
        ensure_eq!(fs::read_dir(&m.mnt)?.count(), 134, "names");
        for n in (0..400).step_by(3) {
            check_pattern(&File::open(m.path(&format!("f{n}")))?, n, 0, 100)?;
        }
        Ok(())
    })
}

/// A crash: what was open without a name is gone, whatever was done to it.
fn crash_with_unnamed_files(env: &Env) -> Result {
    on_fs(env, |m| {
        m.sync()?;
        let before = m.space()?;
        let mut files = vec![tmpfile(&m.mnt, OFlags::empty())?, open(&m.path("gone"))?];
        fs::remove_file(m.path("gone"))?;
        // Truncation has work of its own noted, and must not forget the rest.
        for f in &files {
            write_pattern(f, 3, 0, 2 << 20)?;
            f.sync_all()?;
            f.set_len(1 << 20)?;
            f.sync_all()?;
        }
        let named = tmpfile(&m.mnt, OFlags::empty())?;
        write_pattern(&named, 4, 0, 50_000)?;
        link_tmpfile(&named, &m.path("named"))?;
        named.sync_all()?;
        files.push(named);
        crash(m, &File::open(&m.mnt)?)?;
        drop(files);
        m.cycle()?;
        check_pattern(&File::open(m.path("named"))?, 4, 0, 50_000)?;
        fs::remove_file(m.path("named"))?;
        m.sync()?;
        let after = m.space()?;
        ensure_eq!(after.files_used(), before.files_used(), "inodes");
        ensure_eq!(after.free, before.free, "blocks");
        Ok(())
    })
}

/// Stops the filesystem like a crash, with what is durable on the disk.
fn crash(m: &Mounted, root: &File) -> Result {
    shutdown(root, Shutdown::NoFlush).ctx("shutdown")?;
    ensure!(File::create(m.path("x")).is_err(), "still alive");
    Ok(())
}

/// An exchange or a whiteout that fsync of a directory made durable is there after a crash.
fn crash_after_fsync(env: &Env) -> Result {
    on_fs(env, |m| {
        for d in ["d", "e"] {
            fs::create_dir(m.path(d))?;
        }
        make(&m.path("d/dir"), "full")?;
        make(&m.path("e/file"), "file")?;
        make(&m.path("d/moves"), "file")?;
        m.sync()?;
        let ino = |n: &str| fs::metadata(m.path(n)).map(|s| s.ino());
        let (dir, file, moves) = (ino("d/dir")?, ino("e/file")?, ino("d/moves")?);
        rename(&m.path("d/dir"), &m.path("e/file"), RenameFlags::EXCHANGE)?;
        rename(
            &m.path("d/moves"),
            &m.path("e/moved"),
            RenameFlags::WHITEOUT,
        )?;
        File::open(m.path("e"))?.sync_all()?;
        crash(m, &File::open(&m.mnt)?)?;
        m.cycle()?;
        check(&m.path("d/dir"), "file", file)?;
        check(&m.path("e/file"), "full", dir)?;
        check(&m.path("e/moved"), "file", moves)?;
        is_whiteout(&m.path("d/moves"))?;
        ensure_eq!(fs::metadata(m.path("d"))?.nlink(), 2, "links of d");
        ensure_eq!(fs::metadata(m.path("e"))?.nlink(), 3, "links of e");
        Ok(())
    })
}

/// Exchanges, whiteouts and plain renames from several threads, of the same names.
fn threads(env: &Env) -> Result {
    on_fs(env, |m| {
        for d in 0..3 {
            fs::create_dir(m.path(&format!("d{d}")))?;
            for (n, kind) in KINDS.iter().enumerate() {
                make(&m.path(&format!("d{d}/n{n}")), kind)?;
            }
        }
        let mnt = m.mnt.clone();
        std::thread::scope(|s| {
            for t in 0..4 {
                let mnt = &mnt;
                s.spawn(move || {
                    let mut rng = calf_vmlib::rng::Rng::new(t);
                    for _ in 0..1500 {
                        let mut name = || mnt.join(format!("d{}/n{}", rng.below(3), rng.below(6)));
                        let (a, b) = (name(), name());
                        let _ = match rng.below(8) {
                            0 => rename(&a, &b, RenameFlags::WHITEOUT),
                            1 => rename(&a, &b, RenameFlags::empty()),
                            _ => rename(&a, &b, RenameFlags::EXCHANGE),
                        };
                    }
                });
            }
        });
        // That counts and parents are right is for fsck to say.
        Ok(())
    })
}

/// CRC-32C as the format has it: the seed goes in as it is, the result is not inverted.
fn crc32c(seed: u32, data: &[u8]) -> u32 {
    data.iter().fold(seed, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| {
            (c >> 1) ^ (0x82f6_3b78 & (c & 1).wrapping_neg())
        })
    })
}

fn number<const N: usize>(block: &[u8], at: usize) -> Option<[u8; N]> {
    block.get(at..at + N)?.try_into().ok()
}

/// Changes the link count of inode `ino` on the unmounted device, behind the filesystem's back.
fn patch_links(dev: &Path, ino: u64, from: u32, to: u32) -> Result {
    let dev = File::options().read(true).write(true).open(dev)?;
    let mut sup = [0; 1024];
    dev.read_exact_at(&mut sup, 0)?;
    let bs = 1usize << sup[136];
    let mut block = vec![0; bs];
    for nr in 1..65_536u64 {
        if dev.read_exact_at(&mut block, nr * bs as u64).is_err() {
            break;
        }
        // A node of the inode table in its own place, not a copy of one in the journal.
        let in_place = number(&block, 8).map(u64::from_le_bytes) == Some(nr);
        if !block.starts_with(b"CALN") || block[41] != 1 || !in_place {
            continue;
        }
        let record = (64..=bs - 256).find(|&at| {
            number(&block, at).map(u64::from_le_bytes) == Some(ino)
                && number(&block, at + 80).map(u32::from_le_bytes) == Some(from)
                && block[at + 94..at + 96] == [0, 0]
        });
        let Some(at) = record else {
            continue;
        };
        block[at + 80..at + 84].copy_from_slice(&to.to_le_bytes());
        block[4..8].fill(0);
        let crc = crc32c(crc32c(!0, &sup[40..56]), &block);
        block[4..8].copy_from_slice(&crc.to_le_bytes());
        dev.write_all_at(&block, nr * bs as u64)?;
        dev.sync_all()?;
        return Ok(());
    }
    Err("no such inode record".into())
}

/// Nobody makes two billion links: the counts are written to the disk.
fn link_count_limit(env: &Env) -> Result {
    const MAX: u32 = i32::MAX as u32;
    on_fs(env, |m| {
        fs::write(m.path("f"), "x")?;
        fs::create_dir_all(m.path("from/sub"))?;
        fs::create_dir(m.path("full"))?;
        fs::write(m.path("full/file"), "x")?;
        let (f, full) = (
            fs::metadata(m.path("f"))?.ino(),
            fs::metadata(m.path("full"))?.ino(),
        );
        m.umount()?;
        patch_links(&m.dev, f, 1, MAX - 1)?;
        patch_links(&m.dev, full, 2, MAX)?;
        m.cycle()?;
        let p = |n: &str| m.path(n);
        let many = Errno::MLINK;
        ensure_eq!(
            fs::metadata(p("f"))?.nlink(),
            u64::from(MAX - 1),
            "links of f"
        );
        fs::hard_link(p("f"), p("last")).ctx("the last link")?;
        ensure_eq!(fs::metadata(p("f"))?.nlink(), u64::from(MAX), "links");
        ensure_errno!(fs::hard_link(p("f"), p("no")), many, "one more");
        ensure_errno!(fs::create_dir(p("full/no")), many, "mkdir");
        ensure_errno!(fs::rename(p("from/sub"), p("full/sub")), many, "rename");
        let exchange = |a: &str, b: &str| {
            rustix::fs::renameat_with(CWD, p(a), CWD, p(b), RenameFlags::EXCHANGE)
        };
        ensure_errno!(exchange("from/sub", "full/file"), many, "exchange");
        ensure_errno!(exchange("full/file", "from/sub"), many, "the other way");
        fs::write(p("full/other"), "x").ctx("files are not counted")?;
        fs::remove_file(p("last"))?;
        m.umount()?;
        patch_links(&m.dev, f, MAX - 1, 1)?;
        patch_links(&m.dev, full, MAX, 2)
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            noreplace,
            exchange_all_types,
            exchange_counts_links,
            exchange_refused,
            whiteout,
            tmpfile_gets_a_name,
            tmpfile_leaves_nothing,
            many_tmpfiles,
            crash_with_unnamed_files,
            crash_after_fsync,
            threads,
            link_count_limit,
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Operations on names and attributes, and the choice of the next operation.

use crate::data;
use crate::tree::{libc_mode, Acl, Rename, Spot, What, ROOT};
use crate::world::{Touched, World};
use calf_vmlib::rng::Rng;
use calf_vmlib::{ensure, Context, Result};
use rustix::fs::{
    AtFlags, FileType, Gid, IFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid,
    XattrFlags, CWD,
};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

/// Modes of fallocate that are asked for, with their names.
pub const FALLOC: &[(u32, &str)] = &[
    (0, "ALLOCATE"),
    (1, "ALLOCATE|KEEP_SIZE"),
    (3, "PUNCH_HOLE|KEEP_SIZE"),
    (8, "COLLAPSE_RANGE"),
    (0x10, "ZERO_RANGE"),
    (0x11, "ZERO_RANGE|KEEP_SIZE"),
    (0x20, "INSERT_RANGE"),
    (0x40, "UNSHARE_RANGE"),
    (0x80, "WRITE_ZEROES"),
];

/// `FS_SYNC_FL`, `FS_NODUMP_FL`, `FS_NOATIME_FL`.
pub const FLAGS: u32 = 0x8 | 0x40 | 0x80;
const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;

/// The C flags of a rename.
pub fn rename_flags(how: Rename) -> RenameFlags {
    match how {
        Rename::Plain => RenameFlags::empty(),
        Rename::NoReplace => RenameFlags::NOREPLACE,
        Rename::Exchange => RenameFlags::EXCHANGE,
        Rename::Whiteout => RenameFlags::WHITEOUT,
    }
}

fn some_mode(r: &mut Rng) -> u32 {
    match r.below(4) {
        0 => r.below(0o10000) as u32,
        _ => 0o600 | (r.below(0o100) as u32),
    }
}

type Op = fn(&mut World, &mut Rng) -> Result<Touched>;

/// The operations and how often each is chosen.
const OPS: &[(u64, Op)] = &[
    (12, create),
    (5, mkdir),
    (3, mknod),
    (3, symlink),
    (5, link),
    (7, rename),
    (5, unlink),
    (2, rmdir),
    (3, tmpfile),
    (4, chmod),
    (3, chown),
    (3, utimes),
    (5, xattr_set),
    (3, xattr_remove),
    (2, acl),
    (3, fileattr),
    (1, forbid),
    (14, data::truncate),
    (22, data::write),
    (8, data::write_direct),
    (10, data::write_mapped),
    (10, data::read),
    (26, data::fallocate),
    (5, data::clone),
    (12, data::clone_range),
    (5, data::dedupe),
    (7, data::copy),
    (4, data::seek),
    (3, data::fiemap),
    (5, data::sync),
    (1, statfs),
    (1, trim),
    (1, freeze),
];

/// Does one operation on both sides; compares their results.
pub fn step(w: &mut World, r: &mut Rng) -> Result<Touched> {
    w.say("nothing");
    let sum = OPS.iter().map(|o| o.0).sum();
    let mut n = r.below(sum);
    for (weight, op) in OPS {
        if n < *weight {
            return op(w, r);
        }
        n -= weight;
    }
    Ok(Touched::default())
}

fn touched(spots: Vec<Spot>) -> Result<Touched> {
    Ok(Touched {
        spots,
        ..Touched::default()
    })
}

/// What makes the type bits of rustix out of those of the model.
fn file_type(kind: u32) -> FileType {
    FileType::from_raw_mode(kind)
}

fn create(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let dir = w.some_dir(r);
    let spot = w.some_spot(r, dir, true);
    let mode = some_mode(r);
    let path = w.path(&spot);
    w.say(format!("create {} {mode:o}", path.display()));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let got = rustix::fs::open(&path, flags, Mode::from_raw_mode(mode));
    if let Some(fd) = w.expect(got, w.tree.may_create(&spot))? {
        let id = w.tree.make(dir, What::File(Vec::new()), mode);
        w.tree.enter(&spot, id);
        w.keep(fd.into(), id);
    }
    touched(vec![spot])
}

fn mkdir(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let dir = w.shallow_dir(r);
    let spot = w.some_spot(r, dir, true);
    let mode = some_mode(r) | 0o700;
    let path = w.path(&spot);
    w.say(format!("mkdir {} {mode:o}", path.display()));
    // mkdir knows no set-id bits.
    let mode = mode & 0o1777;
    let got = rustix::fs::mkdir(&path, Mode::from_raw_mode(mode));
    if w.expect(got, w.tree.may_create(&spot))?.is_some() {
        let what = What::Dir {
            names: Default::default(),
            parent: ROOT,
            name: Vec::new(),
        };
        let id = w.tree.make(dir, what, mode);
        w.tree.enter(&spot, id);
    }
    touched(vec![spot])
}

fn mknod(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let dir = w.some_dir(r);
    let spot = w.some_spot(r, dir, true);
    let kinds = [
        libc_mode::FIFO,
        libc_mode::SOCK,
        libc_mode::CHR,
        libc_mode::BLK,
    ];
    let kind = kinds[r.below(4) as usize];
    let device = matches!(kind, libc_mode::CHR | libc_mode::BLK);
    let (major, minor) = (r.below(4000) as u32, r.below(1 << 20) as u32);
    let rdev = if device {
        rustix::fs::makedev(major, minor)
    } else {
        0
    };
    let mode = some_mode(r);
    let path = w.path(&spot);
    w.say(format!(
        "mknod {} {kind:o} {mode:o} {rdev:#x}",
        path.display()
    ));
    let got = rustix::fs::mknodat(CWD, &path, file_type(kind), Mode::from_raw_mode(mode), rdev);
    if w.expect(got, w.tree.may_create(&spot))?.is_some() {
        let id = w.tree.make(dir, What::Special(kind, rdev), mode);
        w.tree.enter(&spot, id);
    }
    touched(vec![spot])
}

fn symlink(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let dir = w.some_dir(r);
    let spot = w.some_spot(r, dir, true);
    let len = match r.below(3) {
        0 => r.range(1, 1023),
        _ => r.range(1, 60),
    };
    let target: Vec<u8> = (0..len)
        .map(|i| b'a' + ((i * 7 + len) % 26) as u8)
        .collect();
    let path = w.path(&spot);
    w.say(format!("symlink {} of {len}", path.display()));
    let got = rustix::fs::symlink(std::ffi::OsStr::from_bytes(&target), &path);
    if w.expect(got, w.tree.may_create(&spot))?.is_some() {
        let id = w.tree.make(dir, What::Link(target), 0o777);
        w.tree.enter(&spot, id);
    }
    touched(vec![spot])
}

fn link(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let dir = w.some_dir(r);
    let to = w.some_spot(r, dir, true);
    let Some((from, id)) = w.spot_of(r, |_, id| id != ROOT) else {
        return Ok(Touched::default());
    };
    let (a, b) = (w.path(&from), w.path(&to));
    w.say(format!("link {} to {}", a.display(), b.display()));
    let mut want = w.tree.may_create(&to);
    if want.is_ok() && w.tree.node(id).is_dir() {
        want = Err(Errno::PERM);
    }
    let got = rustix::fs::linkat(CWD, &a, CWD, &b, AtFlags::empty());
    if w.expect(got, want)?.is_some() {
        w.tree.enter(&to, id);
        w.tree.node_mut(id).nlink += 1;
    }
    touched(vec![from, to])
}

fn rename(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let from_dir = w.some_dir(r);
    let from = w.some_spot(r, from_dir, false);
    let to_dir = match r.below(2) {
        0 => from_dir,
        _ => w.shallow_dir(r),
    };
    let new = r.below(2) == 0;
    let to = w.some_spot(r, to_dir, new);
    let how = w.offers.rename[r.below(w.offers.rename.len() as u64) as usize];
    let (a, b) = (w.path(&from), w.path(&to));
    w.say(format!("rename {how:?} {} to {}", a.display(), b.display()));
    let got = rustix::fs::renameat_with(CWD, &a, CWD, &b, rename_flags(how));
    if w.expect(got, w.tree.may_rename(&from, &to, how))?.is_some() {
        w.tree.rename(&from, &to, how);
    }
    touched(vec![from, to])
}

fn unlink(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let dir = w.some_dir(r);
    let spot = w.some_spot(r, dir, false);
    let path = w.path(&spot);
    w.say(format!("unlink {}", path.display()));
    let got = rustix::fs::unlink(&path);
    if w.expect(got, w.tree.may_unlink(&spot))?.is_some() {
        w.tree.remove(&spot);
    }
    touched(vec![spot])
}

fn rmdir(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let dir = w.some_dir(r);
    let spot = match w.spot_of(r, |t, id| t.node(id).is_dir()) {
        Some((spot, _)) if r.below(4) > 0 => spot,
        _ => w.some_spot(r, dir, false),
    };
    let path = w.path(&spot);
    w.say(format!("rmdir {}", path.display()));
    let got = rustix::fs::rmdir(&path);
    if w.expect(got, w.tree.may_rmdir(&spot))?.is_some() {
        w.tree.remove(&spot);
    }
    touched(vec![spot])
}

/// A file without a name, which may get one later.
fn tmpfile(w: &mut World, r: &mut Rng) -> Result<Touched> {
    if !w.offers.tmpfile {
        return Ok(Touched::default());
    }
    let dir = w.some_dir(r);
    let mode = some_mode(r);
    let path = w.root.join(w.tree.dir_path(dir));
    w.say(format!("O_TMPFILE {} {mode:o}", path.display()));
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(mode)).ctx(w.text.clone())?;
    let id = w.tree.make(dir, What::File(Vec::new()), mode);
    w.tree.node_mut(id).nlink = 0;
    w.keep(fd.into(), id);
    let at = w.opens.len() - 1;
    let len = r.below(20_000);
    data::fill(w, at, 0, len, r.draw())?;
    let mut spots = Vec::new();
    if r.below(2) == 0 {
        let dir = w.some_dir(r);
        let to = w.some_spot(r, dir, true);
        let path = w.path(&to);
        w.say(format!("{}, linkat {}", w.text, path.display()));
        let flags = AtFlags::EMPTY_PATH;
        let got = rustix::fs::linkat(&w.opens[at].file, "", CWD, &path, flags);
        if w.expect(got, w.tree.may_create(&to))?.is_some() {
            w.tree.node_mut(id).nlink = 1;
            w.tree.enter(&to, id);
        }
        spots.push(to);
    }
    Ok(Touched {
        spots,
        bytes: vec![(at, 0, len)],
    })
}

fn chmod(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((spot, id)) = w.spot_of(r, |t, id| !matches!(t.node(id).what, What::Link(_))) else {
        return Ok(Touched::default());
    };
    let mode = some_mode(r) | if w.tree.node(id).is_dir() { 0o700 } else { 0 };
    let path = w.path(&spot);
    w.say(format!("chmod {} {mode:o}", path.display()));
    let got = rustix::fs::chmod(&path, Mode::from_raw_mode(mode));
    w.expect(got, Ok(()))?;
    w.tree.node_mut(id).chmod(mode);
    touched(vec![spot])
}

fn chown(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((spot, id)) = w.spot_of(r, |_, _| true) else {
        return Ok(Touched::default());
    };
    let owner = (r.below(1 << 20) as u32, r.below(70000) as u32);
    let path = w.path(&spot);
    w.say(format!("chown {} {owner:?}", path.display()));
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    let got = rustix::fs::chownat(CWD, &path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
    w.expect(got, Ok(()))?;
    w.tree.node_mut(id).chown(owner);
    touched(vec![spot])
}

fn utimes(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((spot, id)) = w.spot_of(r, |_, _| true) else {
        return Ok(Touched::default());
    };
    let when = r.below(4 << 30) as i64 - (1 << 30);
    let time = |tv_sec| Timespec {
        tv_sec,
        tv_nsec: 999_999_999,
    };
    let path = w.path(&spot);
    w.say(format!("utimes {} {when}", path.display()));
    let times = Timestamps {
        last_access: time(when - 5),
        last_modification: time(when),
    };
    let got = rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW);
    w.expect(got, Ok(()))?;
    w.tree.node_mut(id).mtime = Some(when);
    touched(vec![spot])
}

/// A file or a directory that may have attributes.
fn attributed(w: &World, r: &mut Rng) -> Option<(Spot, usize)> {
    w.spot_of(r, |t, id| t.node(id).is_file() || t.node(id).is_dir())
}

fn xattr_name(r: &mut Rng) -> String {
    let space = ["user", "trusted"][r.below(2) as usize];
    match r.below(12) {
        0 => format!("{space}.{}", "long".repeat(50)),
        n => format!("{space}.{n}"),
    }
}

fn xattr_set(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((spot, id)) = attributed(w, r).filter(|_| w.offers.xattr) else {
        return Ok(Touched::default());
    };
    let name = xattr_name(r);
    let len = match r.below(12) {
        0 => r.range(3000, 65536),
        1..=3 => r.below(3000),
        _ => r.below(100),
    };
    let value = calf_vmlib::file::patterned(r.draw(), 0, len as usize);
    let there = w.tree.node(id).xattrs.contains_key(&name);
    let (flags, want) = match r.below(6) {
        0 if there => (XattrFlags::CREATE, Err(Errno::EXIST)),
        0 => (XattrFlags::CREATE, Ok(())),
        1 if there => (XattrFlags::REPLACE, Ok(())),
        1 => (XattrFlags::REPLACE, Err(Errno::NODATA)),
        _ => (XattrFlags::empty(), Ok(())),
    };
    let path = w.path(&spot);
    w.say(format!(
        "setxattr {} {name} {len} {flags:?}",
        path.display()
    ));
    let got = rustix::fs::lsetxattr(&path, name.as_str(), &value, flags);
    if w.expect(got, want)?.is_some() {
        w.tree.node_mut(id).xattrs.insert(name, value);
    }
    w.check_extra(id, &path).ctx(w.text.clone())?;
    touched(vec![spot])
}

fn xattr_remove(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((spot, id)) = attributed(w, r).filter(|_| w.offers.xattr) else {
        return Ok(Touched::default());
    };
    let there = &w.tree.node(id).xattrs;
    let name = match there.len() as u64 {
        n if n > 0 && r.below(4) > 0 => there.keys().nth(r.below(n) as usize).cloned(),
        _ => None,
    };
    let name = name.unwrap_or_else(|| xattr_name(r));
    let want = match there.contains_key(&name) {
        true => Ok(()),
        false => Err(Errno::NODATA),
    };
    let path = w.path(&spot);
    w.say(format!("removexattr {} {name}", path.display()));
    let got = rustix::fs::lremovexattr(&path, name.as_str());
    w.expect(got, want)?;
    w.tree.node_mut(id).xattrs.remove(&name);
    w.check_extra(id, &path).ctx(w.text.clone())?;
    touched(vec![spot])
}

fn acl(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((spot, id)) = attributed(w, r).filter(|_| w.offers.acl) else {
        return Ok(Touched::default());
    };
    let path = w.path(&spot);
    let name = "system.posix_acl_access";
    if w.tree.node(id).acl.is_some() && r.below(2) == 0 {
        w.say(format!("remove the list of {}", path.display()));
        w.expect(rustix::fs::lremovexattr(&path, name), Ok(()))?;
        w.tree.node_mut(id).acl = None;
    } else {
        let mut perms = [0; 6].map(|_: u8| r.below(8) as u8);
        perms[0] |= 7;
        let list = Acl {
            perms,
            id: r.below(1000) as u32,
        };
        w.say(format!("set the list of {}: {list:?}", path.display()));
        let got = rustix::fs::lsetxattr(&path, name, &list.bytes(), XattrFlags::empty());
        w.expect(got, Ok(()))?;
        w.tree.node_mut(id).set_acl(list);
    }
    w.check_extra(id, &path).ctx(w.text.clone())?;
    touched(vec![spot])
}

fn set_flags(f: &File, flags: u32) -> Result {
    let old = rustix::fs::ioctl_getflags(f).ctx("GETFLAGS")?;
    let keep = old.bits() & !(FLAGS | IMMUTABLE | APPEND);
    let flags = IFlags::from_bits_retain(keep | flags);
    rustix::fs::ioctl_setflags(f, flags).ctx("SETFLAGS")
}

fn fileattr(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let found = w.spot_of(r, |t, id| t.node(id).is_file());
    let Some((spot, id)) = found.filter(|_| w.offers.fileattr) else {
        return Ok(Touched::default());
    };
    let flags = r.below(256) as u32 & FLAGS;
    let path = w.path(&spot);
    w.say(format!("set attributes {flags:#x} of {}", path.display()));
    set_flags(&File::open(&path)?, flags)?;
    w.tree.node_mut(id).flags = flags;
    w.check_extra(id, &path).ctx(w.text.clone())?;
    touched(vec![spot])
}

/// Immutable and append-only files refuse what they should, then are ordinary again.
fn forbid(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let found = w.spot_of(r, |t, id| t.node(id).is_file());
    let Some((spot, id)) = found.filter(|_| w.offers.fileattr) else {
        return Ok(Touched::default());
    };
    let path = w.path(&spot);
    let immutable = r.below(2) == 0;
    w.say(format!("immutable {immutable} {}", path.display()));
    let f = File::open(&path)?;
    let keep = w.tree.node(id).flags;
    set_flags(&f, keep | if immutable { IMMUTABLE } else { APPEND })?;
    let errno = |e: Option<std::io::Error>| e.and_then(|e| e.raw_os_error());
    let mut calls = vec![
        errno(File::options().write(true).open(&path).err()),
        errno(std::fs::remove_file(&path).err()),
        errno(std::fs::hard_link(&path, w.root.join("forbidden")).err()),
    ];
    let append = File::options().append(true).open(&path);
    if immutable {
        calls.push(errno(append.err()));
    } else {
        append?;
    }
    set_flags(&f, keep)?;
    let refused = calls.iter().all(|e| *e == Some(libc_eperm()));
    ensure!(refused, "{}: {calls:?} in place of EPERM", w.text);
    touched(vec![spot])
}

fn libc_eperm() -> i32 {
    Errno::PERM.raw_os_error()
}

fn statfs(w: &mut World, _: &mut Rng) -> Result<Touched> {
    w.say("statfs");
    let s = calf_vmlib::fs::space(&w.root)?;
    ensure!(s.avail <= s.free && s.free <= s.blocks, "{s:?}");
    ensure!(s.ffree <= s.files, "{s:?}");
    Ok(Touched::default())
}

fn trim(w: &mut World, r: &mut Rng) -> Result<Touched> {
    if w.offers.trim {
        w.say("FITRIM");
        let top = File::open(&w.root)?;
        let start = r.below(64 << 20);
        calf_vmlib::sys::fitrim(&top, start, r.range(1 << 20, 256 << 20), 0).ctx("FITRIM")?;
    }
    Ok(Touched::default())
}

fn freeze(w: &mut World, _: &mut Rng) -> Result<Touched> {
    if w.offers.freeze {
        w.say("freeze");
        let top = File::open(&w.root)?;
        calf_vmlib::sys::freeze(&top).ctx("freeze")?;
        calf_vmlib::sys::thaw(&top).ctx("thaw")?;
    }
    Ok(Touched::default())
}

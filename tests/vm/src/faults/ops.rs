// SPDX-License-Identifier: GPL-2.0

//! The operations in which something fails. Each has a folder of its own, in which `setup` makes what it
//! needs; `open` opens what is no part of the operation; `act` is the operation. It can be tried again.

use super::state::Promise::{self, Blocks, Moves, Whole};
use calf_vmlib::file::{check_pattern, clone_file, clone_range, fallocate, open, open_direct};
use calf_vmlib::file::{patterned, punch, unshare, write_pattern};
use calf_vmlib::sys::{self, Aligned, Map};
use calf_vmlib::{ensure, ensure_eq, Context, Result};
use rustix::fs::{
    renameat_with, FallocateFlags as F, IFlags, Mode, OFlags, RenameFlags, XattrFlags, CWD,
};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{chown, symlink, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const KIB: u64 = 1024;
const BLOCK: u64 = 4096;
/// Names in the folder that is listed, beside the folders of the operations.
pub const MANY: usize = 400;

/// An operation.
pub struct Op {
    /// Its name.
    pub name: &'static str,
    /// What it may have done when it fails.
    pub promise: Promise,
    /// Success means that a crash does not undo it.
    pub durable: bool,
    /// Makes what it needs.
    pub setup: fn(&Path) -> Result,
    /// Opens files.
    pub open: fn(&Path) -> Result<Vec<File>>,
    /// Does it.
    pub act: fn(&Path, &mut Vec<File>) -> Result,
}

fn none(_: &Path) -> Result<Vec<File>> {
    Ok(Vec::new())
}

/// A file of 16 blocks of the pattern 1.
fn one(d: &Path) -> Result {
    write_pattern(&open(&d.join("f"))?, 1, 0, 64 * KIB)
}

/// The same, and another of the pattern 2.
fn two(d: &Path) -> Result {
    one(d)?;
    write_pattern(&open(&d.join("g"))?, 2, 0, 64 * KIB)
}

/// A file, and one that shares all its blocks.
fn shared(d: &Path) -> Result {
    one(d)?;
    clone_file(&open(&d.join("g"))?, &open(&d.join("f"))?)
}

/// A file with an extended attribute of each kind.
fn with_xattrs(d: &Path) -> Result {
    one(d)?;
    setxattr(d, "user.small", 7, 20)?;
    setxattr(d, "user.large", 7, 9000)
}

fn setxattr(d: &Path, name: &str, byte: u8, len: usize) -> Result {
    let value = vec![byte; len];
    rustix::fs::lsetxattr(d.join("f"), name, &value, XattrFlags::empty()).ctx("setxattr")
}

/// Gives a file or folder an access control list with one more user; the owner may do `owner`.
fn set_acl(path: &Path, name: &str, owner: u16) -> Result {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [
        (0x01u16, owner, u32::MAX),
        (0x02, 5, 1000),
        (0x04, 4, u32::MAX),
        (0x10, 5, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(perm.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    rustix::fs::lsetxattr(path, name, &list, XattrFlags::empty()).ctx("set an ACL")
}

/// A folder whose new files get a list.
fn with_default_acl(d: &Path) -> Result {
    one(d)?;
    set_acl(d, "system.posix_acl_default", 7)
}

/// A file with a list.
fn with_acl(d: &Path) -> Result {
    one(d)?;
    set_acl(&d.join("f"), "system.posix_acl_access", 7)
}

/// Names so long that few of them fill a block.
fn long_name(d: &Path, i: usize) -> PathBuf {
    d.join(format!("{i:0>240}"))
}

/// A file, and a folder `to` whose tree gets a new block with the next name.
fn growing(d: &Path) -> Result {
    static NAMES: OnceLock<usize> = OnceLock::new();
    one(d)?;
    let to = d.join("to");
    let fill = |names: usize| -> Result<usize> {
        fs::create_dir(&to)?;
        let (mut sizes, mut n) = (BTreeSet::new(), 0);
        // Empty, a first block, a second one.
        while n < names && sizes.len() < 3 {
            File::create(long_name(&to, n))?;
            n += 1;
            sizes.insert(to.metadata()?.blocks());
        }
        Ok(n)
    };
    if NAMES.get().is_none() {
        let names = fill(1000)?;
        ensure!(names < 1000, "the folder does not grow");
        NAMES.get_or_init(|| names - 1);
        fs::remove_dir_all(&to)?;
    }
    fill(NAMES.get().copied().unwrap_or(0)).map(drop)
}

/// A file of extents of three blocks, the tree of which gets a block with the next extent.
fn splitting(d: &Path) -> Result {
    static EXTENTS: OnceLock<u64> = OnceLock::new();
    let fill = |extents: u64| -> Result<u64> {
        let f = open(&d.join("f"))?;
        let mut n = 0;
        while n < extents && f.metadata()?.blocks() <= n * 3 * BLOCK / 512 {
            write_pattern(&f, 1, n * 4 * BLOCK, 3 * BLOCK)?;
            f.sync_all()?;
            n += 1;
        }
        Ok(n)
    };
    if EXTENTS.get().is_none() {
        let extents = fill(1000)?;
        ensure!(extents < 1000, "the tree does not grow");
        EXTENTS.get_or_init(|| extents - 1);
        fs::remove_file(d.join("f"))?;
    }
    fill(EXTENTS.get().copied().unwrap_or(0)).map(drop)
}

fn open_f(d: &Path) -> Result<Vec<File>> {
    Ok(vec![open(&d.join("f"))?])
}

fn open_two(d: &Path) -> Result<Vec<File>> {
    Ok(vec![open(&d.join("f"))?, open(&d.join("g"))?])
}

/// Opens a file whose pages are not in memory.
fn open_cold(d: &Path) -> Result<Vec<File>> {
    let all = open_f(d)?;
    all[0].sync_all()?;
    rustix::fs::fadvise(&all[0], 0, None, rustix::fs::Advice::DontNeed).ctx("fadvise")?;
    Ok(all)
}

/// The same for direct I/O.
fn open_for_direct(d: &Path) -> Result<Vec<File>> {
    Ok(vec![open_direct(&d.join("f"))?])
}

/// Opens a file and makes it dirty.
fn open_dirty(d: &Path) -> Result<Vec<File>> {
    let all = open_f(d)?;
    write_pattern(&all[0], 3, 48 * KIB, 32 * KIB)?;
    Ok(all)
}

/// A file that is open has lost its name; `act` closes it.
fn open_unlinked(d: &Path) -> Result<Vec<File>> {
    let all = open_f(d)?;
    fs::remove_file(d.join("f"))?;
    Ok(all)
}

/// Stores the pattern 3 in a map of a file by a system call that is told of a fault, not killed by it.
fn store(d: &Path, f: &[File]) -> Result {
    let map = Map::new(&f[0], 0, 64 << 10).ctx("mmap")?;
    let from = File::open(d.join("g")).ctx("open")?;
    for at in [0usize, 20 << 10, 40 << 10] {
        let n = map.read_from(at, 6 << 10, &from, at as u64).ctx("store")?;
        if n < 6 << 10 {
            // The rest tells the error.
            map.read_from(at + n, (6 << 10) - n, &from, (at + n) as u64)
                .ctx("store")?;
        }
    }
    map.sync().ctx("msync")
}

/// A direct write; who is told that a part was written tries the rest, and hears why.
fn write_all_direct(f: &File, seed: u64, off: u64, len: u64) -> Result {
    let mut at = off;
    while at < off + len {
        let buf = Aligned::from(&patterned(seed, at, (off + len - at) as usize));
        let n = f.write_at(&buf, at).ctx(format!("direct write at {at}"))?;
        ensure!(n > 0, "nothing written at {at}");
        at += n as u64;
    }
    Ok(())
}

fn list(d: &Path, _: &[File]) -> Result {
    let many = d.parent().unwrap_or(d).join("many");
    let mut n = 0;
    for e in fs::read_dir(many).ctx("readdir")? {
        e.ctx("readdir")?;
        n += 1;
    }
    ensure_eq!(n, MANY, "names listed");
    Ok(())
}

fn rename(d: &Path, from: &str, to: &str, flags: RenameFlags) -> Result {
    renameat_with(CWD, d.join(from), CWD, d.join(to), flags).ctx("rename")
}

macro_rules! op {
    ($name:ident $promise:ident $durable:literal, $setup:expr, $open:expr, |$d:ident, $f:ident| $act:expr) => {
        Op {
            name: stringify!($name),
            promise: $promise,
            durable: $durable,
            setup: $setup,
            open: $open,
            act: |$d, $f| $act,
        }
    };
}

/// All of them.
pub const ALL: &[Op] = &[
    op!(create Whole false, one, none, |d, _f| File::create_new(d.join("new")).map(drop).ctx("create")),
    op!(create_grow Whole false, growing, none, |d, _f| {
        File::create_new(long_name(&d.join("to"), 999)).map(drop).ctx("create")
    }),
    op!(mkdir Whole false, one, none, |d, _f| Ok(fs::create_dir(d.join("new"))?)),
    op!(symlink Whole false, one, none, |d, _f| Ok(symlink("x".repeat(700), d.join("new"))?)),
    op!(tmpfile Whole false, one, none, |d, _f| {
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let f = rustix::fs::open(d, flags, Mode::from_raw_mode(0o644)).ctx("O_TMPFILE")?;
        drop(f);
        Ok(())
    }),
    op!(write Blocks true, one, open_f, |_d, f| {
        write_pattern(&f[0], 3, 48 * KIB, 32 * KIB)?;
        f[0].sync_all().ctx("fsync")
    }),
    op!(write_shared Blocks true, shared, open_f, |_d, f| {
        write_pattern(&f[0], 3, 9 * KIB, 32 * KIB)?;
        f[0].sync_all().ctx("fsync")
    }),
    op!(mmap Blocks true, two, open_cold, |d, f| store(d, f)),
    op!(mmap_hole Blocks true, |d| { two(d)?; Ok(File::create(d.join("f"))?.set_len(64 * KIB)?) },
        open_cold, |d, f| store(d, f)),
    op!(direct Blocks false, one, open_for_direct, |_d, f| {
        write_all_direct(&f[0], 3, 48 * KIB, 32 * KIB)
    }),
    op!(direct_shared Blocks false, shared, open_for_direct, |_d, f| {
        write_all_direct(&f[0], 3, 8 * KIB, 32 * KIB)
    }),
    op!(read Whole false, one, open_cold, |_d, f| check_pattern(&f[0], 1, 0, 64 * KIB)),
    op!(clone Blocks false, |d| { two(d)?; Ok(File::create(d.join("g")).map(drop)?) }, open_two,
        |_d, f| clone_file(&f[1], &f[0])),
    op!(clonerange Blocks false, two, open_two, |_d, f| {
        clone_range(&f[1], &f[0], 16 * KIB, 32 * KIB, 8 * KIB)
    }),
    op!(dedupe Blocks false,
    |d| { two(d)?; write_pattern(&open(&d.join("g"))?, 1, 0, 64 * KIB) }, open_two,
    |_d, f| {
        let n = sys::dedupe(&f[0], 0, 64 * KIB, &f[1], 0).ctx("dedupe")?;
        ensure!(n == Some(64 * KIB), "deduped {n:?}");
        Ok(())
    }),
    op!(unshare Blocks false, shared, open_f, |_d, f| unshare(&f[0], 0, 64 * KIB)),
    op!(punch Blocks false, one, open_f, |_d, f| punch(&f[0], 10 * KIB, 20 * KIB)),
    op!(punch_grow Blocks false, splitting, open_f, |_d, f| punch(&f[0], BLOCK, BLOCK)),
    op!(punch_shared Blocks false, shared, open_f, |_d, f| punch(&f[0], 10 * KIB, 20 * KIB)),
    op!(zero Blocks false, one, open_f, |_d, f| fallocate(&f[0], F::ZERO_RANGE, 10 * KIB, 60 * KIB)),
    op!(collapse Moves false, one, open_f,
        |_d, f| fallocate(&f[0], F::COLLAPSE_RANGE, 8 * KIB, 16 * KIB)),
    op!(insert Moves false, one, open_f, |_d, f| fallocate(&f[0], F::INSERT_RANGE, 8 * KIB, 16 * KIB)),
    op!(preallocate Blocks false, one, open_f, |_d, f| fallocate(&f[0], F::empty(), 0, 200 * KIB)),
    op!(shorten Blocks false, one, open_f, |_d, f| Ok(f[0].set_len(10_000)?)),
    op!(lengthen Blocks false, |d| { one(d)?; Ok(open(&d.join("f"))?.set_len(65_000)?) }, open_f,
        |_d, f| Ok(f[0].set_len(100_000)?)),
    op!(rename Whole false, one, none, |d, _f| rename(d, "f", "h", RenameFlags::empty())),
    op!(rename_grow Whole false, growing, none, |d, _f| {
        fs::rename(d.join("f"), long_name(&d.join("to"), 999)).ctx("rename")
    }),
    op!(rename_over Whole false, two, none, |d, _f| rename(d, "f", "g", RenameFlags::empty())),
    op!(exchange Whole false, |d| { one(d)?; Ok(fs::create_dir(d.join("g"))?) }, none,
        |d, _f| rename(d, "f", "g", RenameFlags::EXCHANGE)),
    op!(whiteout Whole false, one, none, |d, _f| rename(d, "f", "g", RenameFlags::WHITEOUT)),
    op!(link Whole false, one, none, |d, _f| Ok(fs::hard_link(d.join("f"), d.join("g"))?)),
    op!(unlink Whole false, two, none, |d, _f| Ok(fs::remove_file(d.join("f"))?)),
    op!(last_close Whole false, two, open_unlinked, |_d, f| {
        f.clear();
        Ok(())
    }),
    op!(rmdir Whole false, |d| Ok(fs::create_dir(d.join("g"))?), none,
        |d, _f| Ok(fs::remove_dir(d.join("g"))?)),
    op!(xattr_inline Whole false, one, none, |d, _f| setxattr(d, "user.new", 5, 20)),
    op!(xattr_large Whole false, one, none, |d, _f| setxattr(d, "user.new", 5, 9000)),
    op!(xattr_replace Whole false, with_xattrs, none, |d, _f| setxattr(d, "user.large", 5, 9500)),
    op!(xattr_remove Whole false, with_xattrs, none,
        |d, _f| rustix::fs::lremovexattr(d.join("f"), "user.large").ctx("removexattr")),
    op!(chmod Whole false, one, none,
        |d, _f| Ok(fs::set_permissions(d.join("f"), Permissions::from_mode(0o600))?)),
    op!(chown Whole false, one, none, |d, _f| Ok(chown(d.join("f"), Some(7), Some(8))?)),
    op!(chattr Whole false, one, open_f, |_d, f| {
        rustix::fs::ioctl_setflags(&f[0], IFlags::NODUMP).ctx("FS_IOC_SETFLAGS")
    }),
    op!(chmod_acl Whole false, with_acl, none,
        |d, _f| Ok(fs::set_permissions(d.join("f"), Permissions::from_mode(0o600))?)),
    op!(set_acl Whole false, one, none, |d, _f| set_acl(&d.join("f"), "system.posix_acl_access", 6)),
    op!(create_acl Whole false, with_default_acl, none, |d, _f| {
        File::create_new(d.join("new")).map(drop).ctx("create")
    }),
    op!(mkdir_acl Whole false, with_default_acl, none, |d, _f| Ok(fs::create_dir(d.join("new"))?)),
    op!(readdir Whole false, one, none, |d, f| list(d, f)),
    op!(statfs Whole false, one, none, |d, _f| rustix::fs::statvfs(d).map(drop).ctx("statfs")),
    op!(fsync Blocks true, one, open_dirty, |_d, f| f[0].sync_all().ctx("fsync")),
    op!(syncfs Blocks true, one, open_dirty, |_d, f| rustix::fs::syncfs(&f[0]).ctx("syncfs")),
];

/// Is everything written out of place? Then nothing is preallocated (`EOPNOTSUPP`, as in XFS).
pub fn always_cow() -> bool {
    let opts = std::env::var("CALF_OPTS").unwrap_or_default();
    opts.split(',').any(|o| o == "always_cow")
}

/// Makes what [`list`] lists.
pub fn make_many(root: &Path) -> Result {
    let many = root.join("many");
    fs::create_dir(&many)?;
    for i in 0..MANY {
        let f = File::create(many.join(format!("a name that is not short {i}")))?;
        if i % 50 == 0 {
            f.write_all_at(b"x", 0)?;
        }
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! The operations: each does something to the mounted tree and tells it as events.
//!
//! Most work on the file `a`, so that any two of them meet. What an operation needs and does not find makes it
//! do nothing; every other failure is one of the filesystem.

use crate::bench::Bench;
use crate::world::{Attr, Event, Kind};
use calf_vmlib::file::{clone_file, clone_range, fallocate, punch, unshare};
use calf_vmlib::sys::{self, Map};
use calf_vmlib::{ensure_eq, Context, Result};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, CWD};
use std::fs::{self, File};
use std::os::unix::fs::{fchown, FileExt, PermissionsExt};
use std::time::{Duration, SystemTime};

/// What `fsync` after the operation is done to: a path, or nothing if the operation does not apply.
pub type Target = Result<Option<&'static str>>;
/// An operation.
pub type Op = fn(&mut Bench) -> Target;

/// All of them.
pub const OPS: &[(&str, Op)] = &[
    ("write", write),
    ("write_direct", write_direct),
    ("write_mapped", write_mapped),
    ("write_part", write_part),
    ("append", append),
    ("append_direct", append_direct),
    ("truncate_down", truncate_down),
    ("truncate_up", truncate_up),
    ("clone", clone),
    ("clone_range", clone_some),
    ("dedupe", dedupe),
    ("unshare", unshare_all),
    ("punch", punch_some),
    ("zero", zero),
    ("zero_grow", zero_grow),
    ("collapse", collapse),
    ("insert", insert),
    ("preallocate", preallocate),
    ("preallocate_keep", preallocate_keep),
    ("create", create),
    ("mkdir", mkdir),
    ("rmdir", rmdir),
    ("unlink", unlink),
    ("rename_over", rename_over),
    ("rename_exchange", exchange),
    ("rename_into", rename_into),
    ("rename_dir", rename_dir),
    ("link", link),
    ("symlink", symlink),
    ("setxattr", setxattr),
    ("removexattr", removexattr),
    ("chmod", chmod),
    ("chown", chown),
    ("utimes", utimes),
    ("tmpfile", tmpfile),
    ("mknod", mknod),
];

fn write(b: &mut Bench) -> Target {
    b.put("a", b.bs, 3 * b.bs)
}

fn write_direct(b: &mut Bench) -> Target {
    b.put_direct(2 * b.bs, 3 * b.bs)
}

fn write_mapped(b: &mut Bench) -> Target {
    if b.size("a") < 2 * b.bs {
        return Ok(None);
    }
    let (f, node) = b.file("a")?;
    let map = Map::new(&f, 0, 2 * b.bs).ctx("mmap")?;
    let (at, data) = (b.bs / 2, b.pattern(b.bs / 2, b.bs));
    map.write(at, &data);
    b.event(Event::Write { node, at, data });
    Ok(Some("a"))
}

fn write_part(b: &mut Bench) -> Target {
    b.put("a", 2 * b.bs + 100, 100)
}

fn append(b: &mut Bench) -> Target {
    b.put("a", b.size("a"), b.bs + b.bs / 2)
}

fn append_direct(b: &mut Bench) -> Target {
    b.put_direct(5 * b.bs, 3 * b.bs)
}

fn truncate_down(b: &mut Bench) -> Target {
    let size = 2 * b.bs + b.bs / 2;
    if b.size("a") <= size {
        return Ok(None);
    }
    b.resize(size)
}

fn truncate_up(b: &mut Bench) -> Target {
    let size = 9 * b.bs + 100;
    if b.size("a") >= size {
        return Ok(None);
    }
    b.resize(size)
}

fn clone(b: &mut Bench) -> Target {
    let (from, to) = (b.size("b"), b.size("a"));
    if !b.has("b") || from == 0 || from % b.bs != 0 && from < to {
        return Ok(None);
    }
    let ((src, _), (dst, node)) = (b.file("b")?, b.file("a")?);
    clone_file(&dst, &src)?;
    let data = b.data("b").to_vec();
    b.event(Event::Write { node, at: 0, data });
    Ok(Some("a"))
}

fn clone_some(b: &mut Bench) -> Target {
    let bs = b.bs;
    if b.size("b") < 2 * bs {
        return Ok(None);
    }
    let ((src, _), (dst, node)) = (b.file("b")?, b.file("a")?);
    clone_range(&dst, &src, 0, 2 * bs as u64, 3 * bs as u64)?;
    let data = b.data("b")[..2 * bs].to_vec();
    let at = 3 * bs;
    b.event(Event::Write { node, at, data });
    Ok(Some("a"))
}

fn dedupe(b: &mut Bench) -> Target {
    let len = 2 * b.bs;
    if b.size("a") < len {
        return Ok(None);
    }
    let ((src, _), (dst, _)) = (b.file("same")?, b.file("a")?);
    let equal = b.data("same")[..len] == b.data("a")[..len];
    let done = sys::dedupe(&src, 0, len as u64, &dst, 0).ctx("dedupe")?;
    ensure_eq!(done, equal.then_some(len as u64), "deduped");
    Ok(Some("a"))
}

fn unshare_all(b: &mut Bench) -> Target {
    if b.size("a") == 0 {
        return Ok(None);
    }
    let (f, _) = b.file("a")?;
    unshare(&f, 0, b.size("a") as u64)?;
    Ok(Some("a"))
}

fn punch_some(b: &mut Bench) -> Target {
    let (at, len) = (b.bs + b.bs / 2, 2 * b.bs);
    let (f, node) = b.file("a")?;
    punch(&f, at as u64, len as u64)?;
    b.zeroed(node, at, len);
    Ok(Some("a"))
}

fn zero(b: &mut Bench) -> Target {
    let (at, len) = (2 * b.bs, 2 * b.bs + b.bs / 2);
    let (f, node) = b.file("a")?;
    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    fallocate(&f, flags, at as u64, len as u64)?;
    b.zeroed(node, at, len);
    Ok(Some("a"))
}

fn zero_grow(b: &mut Bench) -> Target {
    let (at, len) = (5 * b.bs, 3 * b.bs);
    let (f, node) = b.file("a")?;
    fallocate(&f, FallocateFlags::ZERO_RANGE, at as u64, len as u64)?;
    b.zeroed(node, at, len);
    if b.size("a") < at + len {
        let size = at + len;
        b.event(Event::Resize { node, size });
    }
    Ok(Some("a"))
}

fn collapse(b: &mut Bench) -> Target {
    let (at, len) = (b.bs, b.bs);
    if b.size("a") <= at + len {
        return Ok(None);
    }
    let (f, node) = b.file("a")?;
    fallocate(&f, FallocateFlags::COLLAPSE_RANGE, at as u64, len as u64)?;
    b.event(Event::Collapse { node, at, len });
    Ok(Some("a"))
}

fn insert(b: &mut Bench) -> Target {
    let (at, len) = (2 * b.bs, b.bs);
    if b.size("a") <= at {
        return Ok(None);
    }
    let (f, node) = b.file("a")?;
    fallocate(&f, FallocateFlags::INSERT_RANGE, at as u64, len as u64)?;
    b.event(Event::Insert { node, at, len });
    Ok(Some("a"))
}

fn preallocate(b: &mut Bench) -> Target {
    let end = 10 * b.bs;
    // With always_cow there is no preallocation.
    if b.cow {
        return Ok(None);
    }
    let (f, node) = b.file("a")?;
    let at = 5 * b.bs as u64;
    fallocate(&f, FallocateFlags::empty(), at, end as u64 - at)?;
    if b.size("a") < end {
        b.event(Event::Resize { node, size: end });
    }
    Ok(Some("a"))
}

fn preallocate_keep(b: &mut Bench) -> Target {
    if b.cow {
        return Ok(None);
    }
    let (f, _) = b.file("a")?;
    let bs = b.bs as u64;
    fallocate(&f, FallocateFlags::KEEP_SIZE, 4 * bs, 6 * bs)?;
    Ok(Some("a"))
}

fn create(b: &mut Bench) -> Target {
    b.put("n", 0, b.bs + b.bs / 2)?;
    Ok(Some("n"))
}

fn mkdir(b: &mut Bench) -> Target {
    if b.has("m") {
        return Ok(None);
    }
    b.make_dir("m")?;
    Ok(Some("m"))
}

fn rmdir(b: &mut Bench) -> Target {
    let Some(node) = b.now.names.get("e").copied() else {
        return Ok(None);
    };
    fs::remove_dir(b.path("e"))?;
    b.names(&[("e", None)], &[node, 0]);
    Ok(Some(""))
}

fn unlink(b: &mut Bench) -> Target {
    let Some(node) = b.now.names.get("a").copied() else {
        return Ok(None);
    };
    fs::remove_file(b.path("a"))?;
    b.names(&[("a", None)], &[node, 0]);
    Ok(Some(""))
}

/// Renames `from` to `to`; if `swap`, to `from` as well. Nothing if they are the same file.
fn rename(b: &mut Bench, from: &'static str, to: &'static str, swap: bool) -> Target {
    let get = |p: &str| b.now.names.get(p).copied();
    let (Some(node), old) = (get(from), get(to)) else {
        return Ok(None);
    };
    let dir = to.rsplit_once('/').map_or("", |(d, _)| d);
    if !b.has(dir) || old == Some(node) || swap && old.is_none() {
        return Ok(None);
    }
    let flags = if swap {
        RenameFlags::EXCHANGE
    } else {
        RenameFlags::empty()
    };
    rustix::fs::renameat_with(CWD, b.path(from), CWD, b.path(to), flags).ctx("rename")?;
    let mut touches = vec![node, b.folder(from), b.folder(to)];
    touches.extend(old);
    b.names(&[(from, old.filter(|_| swap)), (to, Some(node))], &touches);
    Ok(Some(to))
}

fn rename_over(b: &mut Bench) -> Target {
    rename(b, "a", "b", false)
}

fn exchange(b: &mut Bench) -> Target {
    rename(b, "a", "d/f", true)
}

fn rename_into(b: &mut Bench) -> Target {
    rename(b, "a", "d/a", false)
}

fn rename_dir(b: &mut Bench) -> Target {
    let Some(node) = b.now.names.get("d").copied() else {
        return Ok(None);
    };
    fs::rename(b.path("d"), b.path("dd")).ctx("rename")?;
    let mut changes = vec![("d".to_string(), None), ("dd".into(), Some(node))];
    for (path, n) in b.now.names.iter().filter(|(p, _)| p.starts_with("d/")) {
        changes.push((path.clone(), None));
        changes.push((format!("d{path}"), Some(*n)));
    }
    b.event(Event::Names {
        changes,
        touches: vec![node, 0],
        born: None,
    });
    Ok(Some(""))
}

fn link(b: &mut Bench) -> Target {
    if b.has("la") || !b.has("a") {
        return Ok(None);
    }
    let node = b.now.names["a"];
    fs::hard_link(b.path("a"), b.path("la"))?;
    b.names(&[("la", Some(node))], &[node, 0]);
    Ok(Some("a"))
}

fn symlink(b: &mut Bench) -> Target {
    if b.has("sy") {
        return Ok(None);
    }
    let to = "x/".repeat(100);
    std::os::unix::fs::symlink(&to, b.path("sy"))?;
    let node = b.fresh(Kind::Link(to), 0o777);
    b.born("sy", node);
    Ok(Some(""))
}

fn setxattr(b: &mut Bench) -> Target {
    b.file("a")?;
    let value = b.pattern(0, 3000);
    b.set_xattr("a", value)?;
    Ok(Some("a"))
}

fn removexattr(b: &mut Bench) -> Target {
    let name = "user.x".to_string();
    let node = b.now.names.get("a").copied();
    let has = |n: &usize| b.now.nodes[*n].xattrs.contains_key(&name);
    let Some(node) = node.filter(has) else {
        return Ok(None);
    };
    rustix::fs::removexattr(b.path("a"), name.as_str()).ctx("removexattr")?;
    let value = None;
    b.event(Event::Xattr { node, name, value });
    Ok(Some("a"))
}

fn chmod(b: &mut Bench) -> Target {
    let (f, node) = b.file("a")?;
    let mode = 0o600 | (b.seed as u32 & 7);
    f.set_permissions(fs::Permissions::from_mode(mode))?;
    let owner = b.now.nodes[node].attr.owner;
    let attr = Attr { mode, owner };
    b.event(Event::Attr { node, attr });
    Ok(Some("a"))
}

fn chown(b: &mut Bench) -> Target {
    let (f, node) = b.file("a")?;
    let owner = (1000 + b.seed as u32, 2000 + b.seed as u32);
    fchown(&f, Some(owner.0), Some(owner.1)).ctx("chown")?;
    let mode = b.now.nodes[node].attr.mode;
    let attr = Attr { mode, owner };
    b.event(Event::Attr { node, attr });
    Ok(Some("a"))
}

/// The bench looks at all times after each operation; here before, too, in case the file is new: time goes back.
fn utimes(b: &mut Bench) -> Target {
    let (f, _) = b.file("a")?;
    b.look_at_times()?;
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + b.seed, 123_456_789);
    f.set_modified(long_ago).ctx("utimes")?;
    Ok(Some("a"))
}

fn tmpfile(b: &mut Bench) -> Target {
    if b.has("t") {
        return Ok(None);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let fd = rustix::fs::openat(CWD, b.mnt, flags, Mode::from_raw_mode(0o640)).ctx("O_TMPFILE")?;
    let f = File::from(fd);
    let node = b.fresh(Kind::File, 0o640);
    let data = b.pattern(0, 2 * b.bs + 10);
    f.write_all_at(&data, 0)?;
    b.event(Event::Write { node, at: 0, data });
    rustix::fs::linkat(&f, "", CWD, b.path("t"), AtFlags::EMPTY_PATH).ctx("linkat")?;
    b.born("t", node);
    Ok(Some("t"))
}

fn mknod(b: &mut Bench) -> Target {
    if b.has("p") {
        return Ok(None);
    }
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, b.path("p"), FileType::Fifo, mode, 0).ctx("mknod")?;
    let node = b.fresh(Kind::Fifo, 0o600);
    b.born("p", node);
    Ok(Some(""))
}

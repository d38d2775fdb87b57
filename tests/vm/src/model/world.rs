// SPDX-License-Identifier: GPL-2.0

//! The filesystem beside its model: where things are, how results are compared.

use crate::tree::{Id, Outcome, Spot, Tree, What, ROOT};
use calf_vmlib::file::compare;
use calf_vmlib::rng::Rng;
use calf_vmlib::sys::Aligned;
use calf_vmlib::xattr;
use calf_vmlib::{ensure, ensure_eq, Context, Fail, Result};
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most bytes of a file.
pub const MAX: u64 = 320 << 10;
/// Most directories above a file.
const DEPTH: usize = 3;
/// Most objects in a directory.
const CROWD: usize = 12;

/// What this filesystem offers of what is not in all.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    /// Modes of fallocate.
    pub falloc: Vec<u32>,
    /// `FICLONE` and `FICLONERANGE`.
    pub clone: bool,
    /// `FIDEDUPERANGE`.
    pub dedupe: bool,
    /// `O_DIRECT`.
    pub direct: bool,
    /// `O_TMPFILE`.
    pub tmpfile: bool,
    /// Flags of a rename.
    pub rename: Vec<crate::tree::Rename>,
    /// Extended attributes.
    pub xattr: bool,
    /// Access control lists.
    pub acl: bool,
    /// File attributes.
    pub fileattr: bool,
    /// `FITRIM`.
    pub trim: bool,
    /// Freezing.
    pub freeze: bool,
    /// Nobody else uses the filesystem or the machine.
    pub own: bool,
    /// What was asked for and is not there.
    pub missing: Vec<String>,
}

/// An open file of the test.
pub struct Open {
    /// The file.
    pub file: File,
    /// Its object.
    pub id: Id,
}

/// What an operation has touched.
#[derive(Default)]
pub struct Touched {
    /// Names, also of what is gone.
    pub spots: Vec<Spot>,
    /// An open file and a range of its bytes.
    pub bytes: Vec<(usize, u64, u64)>,
}

/// The filesystem and its model.
pub struct World {
    /// Where the filesystem is mounted.
    pub root: PathBuf,
    /// What it should hold.
    pub tree: Tree,
    /// Open files; the last one is that of the operation.
    pub opens: Vec<Open>,
    /// What the filesystem offers.
    pub offers: Offers,
    /// Block size.
    pub bs: u64,
    /// What the operation is, for the log.
    pub text: String,
}

impl World {
    /// An empty filesystem.
    pub fn new(root: &Path, offers: Offers, bs: u64) -> Result<World> {
        let m = fs::symlink_metadata(root)?;
        Ok(World {
            root: root.into(),
            tree: Tree::new(m.mode() & 0o7777, (m.uid(), m.gid())),
            opens: Vec::new(),
            offers,
            bs,
            text: String::new(),
        })
    }

    /// Says what is being done.
    pub fn say(&mut self, text: impl Into<String>) {
        self.text = text.into();
    }

    /// Path of a name.
    pub fn path(&self, spot: &Spot) -> PathBuf {
        self.root.join(self.tree.path(spot))
    }

    /// A directory.
    pub fn some_dir(&self, r: &mut Rng) -> Id {
        let dirs: Vec<Id> = self
            .tree
            .all()
            .filter(|(_, n)| n.is_dir())
            .map(|(id, _)| id)
            .collect();
        dirs[r.below(dirs.len() as u64) as usize]
    }

    /// A directory that takes another one.
    pub fn shallow_dir(&self, r: &mut Rng) -> Id {
        let dir = self.some_dir(r);
        if self.tree.depth(dir) < DEPTH {
            dir
        } else {
            ROOT
        }
    }

    /// A name, there or not; most often a free one if `new`.
    pub fn some_spot(&self, r: &mut Rng, dir: Id, new: bool) -> Spot {
        let names = self.tree.names(dir);
        let old = if new { 1 } else { 7 };
        let crowded = names.len() >= CROWD;
        if !names.is_empty() && (crowded || r.below(8) < old) {
            let nth = r.below(names.len() as u64) as usize;
            let name = names.keys().nth(nth).cloned().unwrap_or_default();
            return Spot { dir, name };
        }
        let name = match r.below(40) {
            0 => vec![b'L'; 255],
            1 => vec![b'x'; 256],
            2 => (1..=255).filter(|c| *c != b'/').take(250).collect(),
            3 => vec![0xff, 0xfe, b' ', b'\n'],
            n => format!("n{n}").into_bytes(),
        };
        Spot { dir, name }
    }

    /// A name that leads to something `wanted`.
    pub fn spot_of(&self, r: &mut Rng, wanted: impl Fn(&Tree, Id) -> bool) -> Option<(Spot, Id)> {
        let mut found = Vec::new();
        for (dir, node) in self.tree.all() {
            if let What::Dir { names, .. } = &node.what {
                for (name, id) in names {
                    if wanted(&self.tree, *id) {
                        found.push((dir, name, *id));
                    }
                }
            }
        }
        if found.is_empty() {
            return None;
        }
        let (dir, name, id) = found[r.below(found.len() as u64) as usize];
        let name = name.clone();
        Some((Spot { dir, name }, id))
    }

    /// Opens a file of the tree, or takes one that is open. Returns its place in `opens`.
    pub fn some_file(&mut self, r: &mut Rng) -> Result<Option<usize>> {
        if !self.opens.is_empty() && r.below(3) == 0 {
            return Ok(Some(r.below(self.opens.len() as u64) as usize));
        }
        let Some((spot, id)) = self.spot_of(r, |t, id| t.node(id).is_file()) else {
            return Ok(None);
        };
        let path = self.path(&spot);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.ctx(format!("open {}", path.display()))?;
        self.keep(file, id);
        Ok(Some(self.opens.len() - 1))
    }

    /// Keeps a file open.
    pub fn keep(&mut self, file: File, id: Id) {
        self.tree.node_mut(id).opens += 1;
        self.opens.push(Open { file, id });
    }

    /// Closes open files, all but `keep` of them.
    pub fn close(&mut self, keep: usize) {
        while self.opens.len() > keep {
            let open = self.opens.remove(0);
            self.tree.node_mut(open.id).opens -= 1;
            self.tree.settle(open.id);
        }
    }

    /// Another description of an open file, for direct I/O.
    pub fn reopen_direct(&self, at: usize) -> Result<File> {
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&self.opens[at].file)
        );
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())
            .ctx("open with O_DIRECT")?
            .into())
    }

    /// Compares what a call returned with what it should; `None` when it failed as it should.
    pub fn expect<T, E: Into<Fail>>(
        &self,
        got: std::result::Result<T, E>,
        want: Outcome,
    ) -> Result<Option<T>> {
        match (got, want) {
            (Ok(v), Ok(())) => Ok(Some(v)),
            (Ok(_), Err(e)) => Err(Fail::new(format!("{}: worked, expected {e:?}", self.text))),
            (Err(e), want) => {
                let e: Fail = e.into();
                let got = e.errno.map(Errno::from_raw_os_error);
                ensure!(
                    want.err() == got && got.is_some(),
                    "{}: failed with {e} ({got:?}), expected {want:?}",
                    self.text
                );
                Ok(None)
            }
        }
    }

    /// Compares the attributes of a name, and the directory it is in.
    pub fn check_spot(&self, spot: &Spot) -> Result {
        let path = self.path(spot);
        let stat = fs::symlink_metadata(&path);
        let Some(id) = self.tree.at(spot) else {
            let errno = stat.err().and_then(|e| e.raw_os_error());
            let want = if spot.name.len() > 255 {
                Errno::NAMETOOLONG
            } else {
                Errno::NOENT
            };
            ensure_eq!(errno, Some(want.raw_os_error()), "stat {}", path.display());
            return Ok(());
        };
        self.check_stat(id, &stat.ctx(format!("stat {}", path.display()))?)
            .ctx(path.display())
    }

    fn check_stat(&self, id: Id, m: &fs::Metadata) -> Result {
        let n = self.tree.node(id);
        ensure_eq!(
            format!("{:o}", m.mode()),
            format!("{:o}", n.kind() | n.mode),
            "mode"
        );
        ensure_eq!((m.uid(), m.gid()), n.owner, "owner");
        ensure_eq!(m.nlink(), n.nlink, "links");
        match &n.what {
            What::File(bytes) => ensure_eq!(m.len(), bytes.len() as u64, "size"),
            What::Link(target) => ensure_eq!(m.len(), target.len() as u64, "size of a link"),
            What::Special(_, rdev) => ensure_eq!(m.rdev(), *rdev, "device number"),
            What::Dir { .. } => {}
        }
        if let Some(mtime) = n.mtime {
            ensure_eq!(m.mtime(), mtime, "modification time");
        }
        Ok(())
    }

    /// Compares a range of an open file, or all of it: through the page cache, or directly.
    pub fn check_bytes(&self, at: usize, start: u64, end: u64, direct: bool) -> Result {
        let open = &self.opens[at];
        let want = self.tree.bytes(open.id);
        self.check_stat(open.id, &open.file.metadata()?)?;
        let size = want.len() as u64;
        let align = if direct { 4096 } else { 1 };
        let start = start.min(size) / align * align;
        let end = end.min(size).max(start);
        let len = (end - start).next_multiple_of(align) as usize;
        let mut buf = Aligned::new(len);
        let mut done = 0;
        let file = if direct {
            &self.reopen_direct(at)?
        } else {
            &open.file
        };
        while (done as u64) < end - start {
            let n = file
                .read_at(&mut buf[done..len], start + done as u64)
                .ctx("read")?;
            ensure!(n > 0, "read ends at {} of {size}", start + done as u64);
            done += n;
        }
        let (start, end) = (start as usize, end as usize);
        compare(
            &format!("bytes from {start}"),
            &buf[..end - start],
            &want[start..end],
        )
    }

    /// Compares what the last operation has touched.
    pub fn check(&self, r: &mut Rng, t: &Touched) -> Result {
        for spot in &t.spots {
            self.check_spot(spot)?;
        }
        for &(at, start, end) in &t.bytes {
            let direct = self.offers.direct && r.below(8) == 0;
            let start = start.saturating_sub(r.below(5000));
            let end = end + r.below(5000);
            self.check_bytes(at, start, end, direct)
                .ctx(format!("{}, read back (direct: {direct})", self.text))?;
        }
        Ok(())
    }

    /// Compares everything.
    pub fn check_all(&self) -> Result {
        let mut inodes: BTreeMap<Id, u64> = BTreeMap::new();
        for (dir, node) in self.tree.all().filter(|(_, n)| n.is_dir()) {
            let What::Dir { names, .. } = &node.what else {
                continue;
            };
            let path = self.root.join(self.tree.dir_path(dir));
            self.check_stat(dir, &fs::symlink_metadata(&path)?)
                .ctx(path.display())?;
            self.check_extra(dir, &path)?;
            let mut there = Vec::new();
            for entry in fs::read_dir(&path).ctx(path.display())? {
                there.push(entry?.file_name().into_vec());
            }
            there.sort();
            let want: Vec<&Vec<u8>> = names.keys().collect();
            let there: Vec<&Vec<u8>> = there
                .iter()
                .filter(|n| dir != ROOT || *n != b"lost+found")
                .collect();
            ensure_eq!(there, want, "names in {}", path.display());
            for (name, &id) in names {
                let path = path.join(std::ffi::OsStr::from_bytes(name));
                self.check_object(id, &path, &mut inodes)
                    .ctx(path.display())?;
            }
        }
        let mut numbers: Vec<u64> = inodes.values().copied().collect();
        numbers.sort();
        numbers.dedup();
        ensure_eq!(numbers.len(), inodes.len(), "inode numbers");
        for at in 0..self.opens.len() {
            self.check_bytes(at, 0, MAX, false).ctx("an open file")?;
        }
        Ok(())
    }

    fn check_object(&self, id: Id, path: &Path, inodes: &mut BTreeMap<Id, u64>) -> Result {
        let m = fs::symlink_metadata(path)?;
        self.check_stat(id, &m)?;
        ensure_eq!(
            *inodes.entry(id).or_insert(m.ino()),
            m.ino(),
            "inode number"
        );
        match &self.tree.node(id).what {
            What::File(want) => compare("content", &fs::read(path)?, want)?,
            What::Link(want) => {
                let target = fs::read_link(path)?.into_os_string().into_vec();
                ensure_eq!(&target, want, "target");
                return Ok(());
            }
            _ => return Ok(()),
        }
        self.check_extra(id, path)
    }

    /// Extended attributes and file attributes of a file or directory.
    pub fn check_extra(&self, id: Id, path: &Path) -> Result {
        let node = self.tree.node(id);
        if self.offers.xattr {
            let mut buf = vec![0u8; 65536];
            let mut names: Vec<String> = xattr::names(path)?
                .iter()
                .map(|n| String::from_utf8_lossy(n).into_owned())
                .collect();
            names.sort();
            // XFS shows its own form of the list, too.
            names.retain(|n| !n.starts_with("security.") && !n.starts_with("trusted.SGI_"));
            ensure_eq!(names, node.xattr_names(), "extended attributes");
            let acl = node
                .acl
                .map(|a| ("system.posix_acl_access".to_string(), a.bytes()));
            let all = node
                .xattrs
                .iter()
                .map(|(n, v)| (n.clone(), v.clone()))
                .chain(acl);
            for (name, want) in all {
                let n = rustix::fs::lgetxattr(path, name.as_str(), &mut buf[..])
                    .ctx(format!("getxattr {name}"))?;
                compare(&format!("attribute {name}"), &buf[..n], &want)?;
            }
        }
        if self.offers.fileattr {
            let f = File::open(path)?;
            let flags = rustix::fs::ioctl_getflags(&f).ctx("GETFLAGS")?.bits();
            ensure_eq!(flags & crate::ops::FLAGS, node.flags, "file attributes");
        }
        Ok(())
    }

    /// Removes everything.
    pub fn remove_all(&mut self) -> Result {
        self.close(0);
        for name in self.tree.names(ROOT).keys() {
            let path = self.root.join(std::ffi::OsStr::from_bytes(name));
            if fs::symlink_metadata(&path)?.is_dir() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Finds out what the filesystem at `root` offers.
pub fn probe(root: &Path, own: bool) -> Result<Offers> {
    use crate::tree::Rename;
    let mut o = Offers::default();
    let (a, b) = (root.join("probe-a"), root.join("probe-b"));
    let open = |p: &Path| {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(p)
    };
    let mut there = |what: String, e: Option<Errno>| -> Result<bool> {
        match e {
            None => return Ok(true),
            Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {}
            Some(e) => return Err(e).ctx(format!("probing {what}")),
        }
        o.missing.push(what);
        Ok(false)
    };
    let mut falloc = Vec::new();
    for (mode, name) in crate::ops::FALLOC {
        let f = open(&a)?;
        f.write_all_at(&[1; 65536], 0)?;
        f.sync_all()?;
        let flags = rustix::fs::FallocateFlags::from_bits_retain(*mode);
        if there(
            format!("fallocate {name}"),
            rustix::fs::fallocate(&f, flags, 8192, 4096).err(),
        )? {
            falloc.push(*mode);
        }
        f.set_len(0)?;
    }
    let (f, g) = (open(&a)?, open(&b)?);
    f.write_all_at(&[1; 65536], 0)?;
    g.write_all_at(&[1; 65536], 0)?;
    let clone = there("clone".into(), rustix::fs::ioctl_ficlone(&g, &f).err())?;
    let dedupe = there(
        "dedupe".into(),
        calf_vmlib::sys::dedupe(&f, 0, 4096, &g, 0).err(),
    )?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let dir = |f: OFlags| rustix::fs::open(root, flags | f, Mode::from_raw_mode(0o600)).err();
    let tmpfile = there("O_TMPFILE".into(), dir(OFlags::TMPFILE))?;
    let direct = rustix::fs::open(&a, flags | OFlags::DIRECT, Mode::empty()).err();
    let direct = there("O_DIRECT".into(), direct)?;
    let mut rename = vec![Rename::Plain];
    for how in [Rename::NoReplace, Rename::Exchange, Rename::Whiteout] {
        if how == Rename::NoReplace {
            fs::remove_file(&b)?;
        }
        let e = rustix::fs::renameat_with(
            rustix::fs::CWD,
            &a,
            rustix::fs::CWD,
            &b,
            crate::ops::rename_flags(how),
        );
        if there(format!("rename {how:?}"), e.err())? {
            rename.push(how);
            // Or what a whiteout has left.
            let _ = fs::remove_file(&a);
            open(&a)?;
        }
    }
    let _ = fs::remove_file(&b);
    fs::remove_file(&a)?;
    let f = open(&a)?;
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(&a, name, value, XattrFlags::empty()).err();
    let xattr = there("extended attributes".into(), set("user.a", b"1"))?;
    let xattr = xattr && there("trusted attributes".into(), set("trusted.a", b"1"))?;
    let acl = crate::tree::Acl {
        perms: [6, 4, 4, 4, 6, 0],
        id: 1,
    };
    let acl = xattr
        && there(
            "access control lists".into(),
            set("system.posix_acl_access", &acl.bytes()),
        )?;
    let fileattr = rustix::fs::ioctl_getflags(&f).and_then(|old| {
        rustix::fs::ioctl_setflags(&f, rustix::fs::IFlags::from_bits_retain(crate::ops::FLAGS))?;
        rustix::fs::ioctl_setflags(&f, old)
    });
    let fileattr = there("file attributes".into(), fileattr.err())?;
    let top = File::open(root)?;
    let trim = own
        && there(
            "FITRIM".into(),
            calf_vmlib::sys::fitrim(&top, 0, u64::MAX, 0).err(),
        )?;
    let freeze = || calf_vmlib::sys::freeze(&top).and_then(|()| calf_vmlib::sys::thaw(&top));
    let freeze = own && there("freeze".into(), freeze().err())?;
    drop((f, g));
    fs::remove_file(&a)?;
    let _ = rustix::fs::unlinkat(rustix::fs::CWD, &b, AtFlags::empty());
    o.falloc = falloc;
    (o.clone, o.dedupe, o.direct, o.tmpfile) = (clone, dedupe, direct, tmpfile);
    (o.rename, o.xattr, o.acl, o.fileattr) = (rename, xattr, acl, fileattr);
    (o.trim, o.freeze, o.own) = (trim, freeze, own);
    Ok(o)
}

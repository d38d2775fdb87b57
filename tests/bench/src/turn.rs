// SPDX-License-Identifier: GPL-2.0

//! One case on one filesystem: a place to work in, and the measurement.

use crate::disk::{self, Disk, Io};
use calf_vmlib::error::Context;
use calf_vmlib::fs::{self, command, Mounted};
use calf_vmlib::{ensure, ktap, Env, Fail, Result};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A filesystem, how to make one, what it has.
#[derive(Debug)]
pub struct Kind {
    /// Its type.
    pub fs: &'static str,
    /// How to format a device, which comes last.
    pub mkfs: &'static [&'static str],
    /// It can clone.
    pub reflink: bool,
    /// It can unshare.
    pub unshare: bool,
    /// `mkfs` writes little, however large the disk is: no tables of inodes.
    pub sparse_mkfs: bool,
}

/// Not a filesystem: the device itself, what it can do at most.
pub const RAW: &str = "raw";

/// What is compared; what is built when the filesystem is mounted belongs to mkfs, where mkfs can do it.
pub const KINDS: [Kind; 5] = [
    Kind {
        fs: "calf",
        mkfs: &["mkfs.calf", "-f"],
        reflink: true,
        unshare: true,
        sparse_mkfs: true,
    },
    Kind {
        fs: "xfs",
        mkfs: &["mkfs.xfs", "-f", "-q", "-m", "reflink=1"],
        reflink: true,
        unshare: true,
        sparse_mkfs: true,
    },
    Kind {
        fs: "ext4",
        mkfs: &[
            "mkfs.ext4",
            "-F",
            "-q",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        ],
        reflink: false,
        unshare: false,
        sparse_mkfs: false,
    },
    Kind {
        fs: "btrfs",
        mkfs: &["mkfs.btrfs", "-f", "-q"],
        reflink: true,
        unshare: false,
        sparse_mkfs: true,
    },
    Kind {
        fs: RAW,
        mkfs: &[],
        reflink: false,
        unshare: false,
        sparse_mkfs: false,
    },
];

impl Kind {
    /// Formats the device. Skips if the kernel has no such filesystem.
    pub fn mkfs(&self, env: &Env) -> Result {
        let [program, options @ ..] = self.mkfs else {
            return Ok(());
        };
        if self.fs != "calf" {
            // Built in, or a module, or not there.
            let _ = command(Command::new("modprobe").arg(self.fs));
        }
        std::env::set_var("CALF_FSTYPE", self.fs);
        if !fs::registered() {
            return Err(Fail::skip(format!("the kernel has no {}", self.fs)));
        }
        let (status, text) = command(Command::new(env.tool(program)).args(options).arg(&env.dev))?;
        ensure!(status == 0, "{:?} exits with {status}:\n{text}", self.mkfs);
        Ok(())
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Sample {
    /// Operations.
    pub ops: u64,
    /// Nanoseconds, which are instructions where the clock counts those.
    pub ns: u64,
    /// I/O of the operations.
    pub io: Io,
    /// I/O until the filesystem was unmounted: what the operations left to do.
    pub later: Io,
    /// Bytes of kernel memory that stay in use.
    pub memory: Option<i64>,
}

/// Where a case works: on a filesystem, or on the device itself, which is then the file, whatever its name. When nobody
/// has the device open, nothing of it is cached.
enum Place {
    Fs(Mounted),
    Device(PathBuf),
}

impl Place {
    fn mount(&mut self) -> Result {
        match self {
            Place::Fs(m) => m.mount(),
            Place::Device(_) => Ok(()),
        }
    }

    fn umount(&mut self) -> Result {
        match self {
            Place::Fs(m) => m.umount(),
            Place::Device(_) => Ok(()),
        }
    }

    fn sync(&self) -> Result {
        match self {
            Place::Fs(m) => m.sync(),
            Place::Device(dev) => File::open(dev)
                .ctx("open the device")?
                .sync_all()
                .ctx("fsync"),
        }
    }

    fn mounted(&self) -> Result<&Mounted> {
        match self {
            Place::Fs(m) => Ok(m),
            Place::Device(_) => Err(Fail::new("the device has no filesystem")),
        }
    }
}

/// The filesystem a case works on. A case prepares, calls one of the measurements once, and checks that the work
/// was done.
pub struct Turn {
    /// The filesystem.
    pub kind: &'static Kind,
    place: Place,
    disk: Disk,
    sample: Option<Sample>,
}

impl Turn {
    /// Mounts what is on the device.
    pub fn new(env: &Env, kind: &'static Kind) -> Result<Turn> {
        std::env::set_var("CALF_FSTYPE", kind.fs);
        let place = match kind.fs {
            RAW => Place::Device(env.dev.clone()),
            _ => Place::Fs(Mounted::new(&env.dev, &env.mnt, "")?),
        };
        let dev = env.dev.canonicalize().ctx(env.dev.display())?;
        let name = dev.file_name().unwrap_or_default().to_string_lossy();
        Ok(Turn {
            kind,
            place,
            disk: Disk::new(&name),
            sample: None,
        })
    }

    /// A path on the filesystem.
    pub fn path(&self, name: &str) -> PathBuf {
        match &self.place {
            Place::Fs(m) => m.path(name),
            Place::Device(dev) => dev.clone(),
        }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        match &self.place {
            Place::Fs(m) => &m.mnt,
            Place::Device(dev) => dev,
        }
    }

    /// Free bytes.
    pub fn free(&self) -> Result<u64> {
        let space = self.place.mounted()?.space()?;
        Ok(space.avail * space.bsize)
    }

    /// Unmounts and mounts: nothing is cached, nothing is left in the journal. No file may be open.
    pub fn fresh(&mut self) -> Result {
        self.place.umount()?;
        self.place.mount()
    }

    /// Ends without another word, as a crash does; mounted again only by [`Turn::measure_mount`]. Skips where
    /// the filesystem cannot.
    pub fn crash(&mut self) -> Result {
        let root = File::open(self.root()).ctx("open the root")?;
        calf_vmlib::sys::vfs::shutdown(&root, calf_vmlib::sys::vfs::Shutdown::NoFlush)
            .map_err(|e| Fail::skip(format!("{} does not shut down: {e}", self.kind.fs)))?;
        drop(root);
        self.place.umount()
    }

    /// Unmounts in order.
    pub fn umount(&mut self) -> Result {
        self.place.umount()
    }

    /// Measures `ops` operations, then unmounts and mounts. `f` owns the files it works on, so that they are
    /// closed in the end.
    pub fn measure(&mut self, ops: u64, f: impl FnOnce() -> Result) -> Result {
        self.place.sync()?;
        same_free_pages()?;
        let before = self.disk.io()?;
        let ((), ns) = timed(f)?;
        let after = self.disk.io()?;
        self.place.umount()?;
        let end = self.disk.io()?;
        self.done(ops, ns, after - before, end - after, None);
        self.place.mount()
    }

    /// The same where part of the work is done later by somebody else: unmounting is measured with it.
    pub fn measure_to_umount(&mut self, ops: u64, f: impl FnOnce() -> Result) -> Result {
        self.place.sync()?;
        same_free_pages()?;
        let before = self.disk.io()?;
        let ((), ns) = timed(|| {
            f()?;
            self.place.umount()
        })?;
        let after = self.disk.io()?;
        self.done(ops, ns, after - before, Io::default(), None);
        self.place.mount()
    }

    /// Measures mounting what [`Turn::umount`] or [`Turn::crash`] left.
    pub fn measure_mount(&mut self) -> Result {
        same_free_pages()?;
        let before = self.disk.io()?;
        let ((), ns) = timed(|| self.place.mount())?;
        let after = self.disk.io()?;
        self.place.umount()?;
        let end = self.disk.io()?;
        self.done(1, ns, after - before, end - after, None);
        self.place.mount()
    }

    /// Measures as well how many bytes of kernel memory `f` leaves in use.
    pub fn measure_memory<T>(&mut self, ops: u64, f: impl FnOnce() -> Result<T>) -> Result {
        let memory = settled_slabs()?;
        let before = self.disk.io()?;
        let (keep, ns) = timed(f)?;
        let memory = disk::slab_bytes()? - memory;
        let after = self.disk.io()?;
        drop(keep);
        self.done(ops, ns, after - before, Io::default(), Some(memory));
        Ok(())
    }

    fn done(&mut self, ops: u64, ns: u64, io: Io, later: Io, memory: Option<i64>) {
        self.sample = Some(Sample {
            ops,
            ns,
            io,
            later,
            memory,
        });
    }

    /// Unmounts; returns what was measured.
    pub fn finish(mut self) -> Result<Sample> {
        self.place.umount()?;
        self.sample.take().ok_or(Fail::new("nothing was measured"))
    }
}

/// Takes pages and frees them: what the page allocator has at hand, which is cheaper than what it must split first, does
/// not depend on whose turn it was before. Meanwhile what RCU had to free has been freed.
fn same_free_pages() -> Result {
    let pages = rustix::fs::memfd_create("pages", MemfdFlags::CLOEXEC).ctx("memfd_create")?;
    let part = vec![1; 1 << 20];
    for _ in 0..64 {
        File::from(pages.try_clone()?).write_all(&part)?;
    }
    Ok(())
}

/// Drops what is cached until nothing more goes, and returns what the slabs hold: much is freed only later, behind
/// RCU, also what was cached of a filesystem that is not mounted any more.
fn settled_slabs() -> Result<i64> {
    let (mut least, mut quiet) = (i64::MAX, 0);
    while quiet < 10 {
        fs::drop_caches()?;
        let now = disk::slab_bytes()?;
        quiet = if now < least { 0 } else { quiet + 1 };
        least = least.min(now);
    }
    Ok(least)
}

/// Calls `f`; returns also how long it took, in nanoseconds.
fn timed<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    mark()?;
    let start = Instant::now();
    let result = f();
    let ns = start.elapsed().as_nanos() as u64;
    mark()?;
    Ok((result?, ns))
}

/// For `make profile`: begins or ends what is counted, by a file that nobody else reads, and says which
/// modules there are. Otherwise nothing.
fn mark() -> Result {
    if std::env::var_os("CALF_BENCH_MARK").is_none() {
        return Ok(());
    }
    for module in std::fs::read_to_string("/proc/modules")?.lines() {
        let words: Vec<&str> = module.split_whitespace().collect();
        if let [name, size, .., address] = words[..6.min(words.len())] {
            ktap::line(&format!("CALF-MODULE {name} {size} {address}"));
        }
    }
    ktap::line("CALF-MARK");
    std::fs::read("/proc/self/personality")?;
    Ok(())
}

/// Writes everything back, as `syncfs` does.
pub fn sync_fs(root: &Path) -> Result {
    rustix::fs::syncfs(File::open(root).ctx("open the root")?).ctx("syncfs")
}

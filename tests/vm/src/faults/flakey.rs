// SPDX-License-Identifier: GPL-2.0

//! A device that fails, or forgets what it is told, for a while (`dm-flakey`).

use super::stacked::Stacked;
use super::state::{difference, tree};
use super::sweep::{complete, is_down};
use calf_vmlib::file::{check_pattern, clone_file, open, open_direct, write_direct, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::{ensure, ensure_errno, Context, Env, Result};
use rustix::io::Errno;
use std::fs::{self, File};

/// Bytes of a file.
const LEN: u64 = 100_000;
/// MiB of the disk.
const MIB: u32 = 32;

/// A device that does what it is told.
struct Flakey(Stacked);

impl Flakey {
    fn new(env: &Env) -> Result<Flakey> {
        // Up for ever.
        Ok(Flakey(Stacked::new(env, MIB, "flakey", "0 1 0")?))
    }

    /// From now on it does what the feature says (`error_writes`).
    fn down(&self, feature: &str) -> Result {
        let args = format!("{} 0 0 1 1 {feature}", self.0.under);
        self.0.dm.switch("flakey", &args)
    }

    /// It works again.
    fn up(&self) -> Result {
        self.0
            .dm
            .switch("flakey", &format!("{} 0 1 0", self.0.under))
    }

    /// Formats and mounts it; `f` uses it and leaves it working; then it can be unmounted, is sound, and has what was there
    /// for certain. A short run uses one block size.
    fn with(env: &Env, f: impl Fn(&mut Flakey, &mut Mounted) -> Result) -> Result {
        let all = ["4096", "1024"];
        for bs in &all[..if complete() { 2 } else { 1 }] {
            let mut flakey = Flakey::new(env)?;
            cfs::mkfs(&flakey.0.env, &flakey.0.dm.path, &["-b", bs])?;
            let mut m = Mounted::new(&flakey.0.dm.path, &env.mnt, "")?;
            let kept = open(&m.path("kept"))?;
            write_pattern(&kept, 9, 0, LEN)?;
            kept.sync_all().ctx("fsync")?;
            drop(kept);
            f(&mut flakey, &mut m).ctx(format!("block size {bs}"))?;
            m.umount()?;
            cfs::fsck(&flakey.0.env, &flakey.0.dm.path)?;
            m.mount().ctx("when it works again")?;
            check_pattern(&File::open(m.path("kept"))?, 9, 0, LEN)?;
            let new = open(&m.path("new"))?;
            write_pattern(&new, 4, 0, LEN)?;
            new.sync_all().ctx("fsync of a new file")?;
            drop(new);
            m.umount()?;
            cfs::fsck(&flakey.0.env, &flakey.0.dm.path)?;
            flakey.0.end()?;
        }
        Ok(())
    }
}

/// A direct write in place needs nothing but the block: it is told, and all goes on.
pub fn direct_write(env: &Env) -> Result {
    Flakey::with(env, |flakey, m| {
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, 64 << 10)?;
        m.sync()?;
        flakey.down("error_writes")?;
        let told = write_direct(&f, 2, 0, 64 << 10);
        check_pattern(&open(&m.path("kept"))?, 9, 0, LEN)?;
        flakey.up()?;
        ensure_errno!(told, Errno::IO, "a direct write");
        ensure!(!is_down(m)?, "a direct write has shut it down");
        write_direct(&f, 3, 0, 64 << 10).ctx("a direct write later")?;
        f.sync_all().ctx("fsync")?;
        cfs::drop_caches()?;
        check_pattern(&open(&m.path("f"))?, 3, 0, 64 << 10)
    })
}

/// Nothing can be written any more: fsync of data, and of a new name, is told, by everyone who asks.
pub fn error_writes(env: &Env) -> Result {
    Flakey::with(env, |flakey, m| {
        let dirty = open(&m.path("dirty"))?;
        write_pattern(&dirty, 1, 0, LEN)?;
        flakey.down("error_writes")?;
        let data = dirty.sync_all();
        // Until something finds the journal dead, names can be made, in memory.
        let name = File::create_new(m.path("name"));
        let name = name.and_then(|f| f.sync_all());
        let all = m.sync();
        flakey.up()?;
        ensure_errno!(data, Errno::IO, "fsync of data");
        ensure_errno!(name, Errno::IO, "fsync of a new file");
        ensure_errno!(all, Errno::IO, "syncfs");
        ensure!(is_down(m)?, "the journal is dead, the filesystem is not");
        // The device works; what was lost stays lost until umount.
        ensure_errno!(dirty.sync_all(), Errno::IO, "fsync later");
        ensure_errno!(File::create(m.path("later")), Errno::IO, "create later");
        Ok(())
    })
}

/// What is in memory can be used, the rest is told; nothing is lost by that.
pub fn error_reads(env: &Env) -> Result {
    Flakey::with(env, |flakey, m| {
        let warm = open(&m.path("warm"))?;
        write_pattern(&warm, 1, 0, LEN)?;
        fs::create_dir(m.path("folder"))?;
        for i in 0..200 {
            File::create(m.path(&format!("folder/a name that is not short {i}")))?;
        }
        drop(warm);
        m.cycle()?;
        let (warm, kept) = (open(&m.path("warm"))?, open(&m.path("kept"))?);
        check_pattern(&warm, 1, 0, LEN)?;
        flakey.down("error_reads")?;
        let read = (
            check_pattern(&warm, 1, 0, LEN),
            check_pattern(&kept, 9, 0, LEN),
            tree(&m.path("folder"), false),
            File::create_new(m.path("folder/new")),
        );
        flakey.up()?;
        read.0.ctx("what is in memory")?;
        ensure_errno!(read.1, Errno::IO, "a file that is not in memory");
        ensure_errno!(read.2, Errno::IO, "a folder that is not in memory");
        ensure_errno!(read.3, Errno::IO, "a new name in it");
        ensure!(!is_down(m)?, "reading has shut it down");
        check_pattern(&kept, 9, 0, LEN).ctx("when it works again")?;
        File::create_new(m.path("folder/new")).ctx("create later")?;
        kept.sync_all().ctx("fsync later")?;
        drop((warm, kept));
        m.umount()?;
        flakey.down("error_reads")?;
        let mounted = m.mount();
        flakey.up()?;
        ensure_errno!(mounted, Errno::IO, "mount");
        m.mount().ctx("mount later")
    })
}

/// From some moment on nothing that is told to the device is kept, and it says that all went well: when it is mounted
/// again, it is as after a power failure at that moment.
pub fn drop_writes(env: &Env) -> Result {
    Flakey::with(env, |flakey, m| {
        let dir = m.path("folder");
        fs::create_dir(&dir)?;
        for i in 0..20u64 {
            write_pattern(&open(&dir.join(format!("{i}")))?, i, 0, 5000 * i)?;
        }
        clone_file(&open(&dir.join("clone"))?, &open(&dir.join("19"))?)?;
        m.sync()?;
        let want = tree(&dir, true)?;
        let dirty = open(&m.path("dirty"))?;
        write_pattern(&dirty, 1, 0, LEN)?;
        flakey.down("drop_writes")?;
        for i in 0..20u64 {
            let f = open(&dir.join(format!("{i}")))?;
            match i % 4 {
                0 => write_pattern(&f, 77, 1000, 9000)?,
                1 => fs::remove_file(dir.join(format!("{i}")))?,
                2 => fs::rename(dir.join(format!("{i}")), dir.join(format!("new {i}")))?,
                _ => f.set_len(7)?,
            }
            f.sync_all().ctx("fsync that is believed")?;
        }
        dirty.sync_all().ctx("fsync that is believed")?;
        drop(dirty);
        m.umount()?;
        flakey.up()?;
        m.mount().ctx("after the power failure")?;
        let now = tree(&dir, true)?;
        ensure!(now == want, "{}", difference(&want, &now));
        // Its name may be there or not, its data never was.
        let len = fs::metadata(m.path("dirty")).map_or(0, |d| d.len());
        ensure!(len == 0, "a file that was not written has {len} bytes");
        Ok(())
    })
}

// SPDX-License-Identifier: GPL-2.0

//! The image that is damaged: some of everything, orphans of both kinds, three groups.

use calf_vmlib::file::{clone_file, open, write_pattern};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::sys::{self, Loop};
use calf_vmlib::{ensure, Context, Env, Result};
use rustix::fs::{
    fadvise, mknodat, setxattr, Advice, FallocateFlags, FileType, Mode, XattrFlags, CWD,
};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of an image: three groups, of which the one in the middle has never been written, where that is not too much.
fn size_of(bs: &str) -> u64 {
    match bs {
        "1024" => 24 << 20,
        "2048" => 72 << 20,
        // Two groups, and so a copy of the superblock.
        _ => 136 << 20,
    }
}

/// Some of everything.
fn populate(m: &Mounted) -> Result {
    for d in 0..6 {
        let dir = m.path(&format!("dir{d}"));
        fs::create_dir(&dir)?;
        for i in 0..40u64 {
            write_pattern(&open(&dir.join(format!("file{i}")))?, i, 0, i * 700)?;
        }
        std::os::unix::fs::symlink("t/".repeat(50 + 200 * d), dir.join("link"))?;
    }
    // Blocks here and there.
    let sparse = open(&m.path("sparse"))?;
    for i in 0..200 {
        write_pattern(&sparse, i, i * 4096, 1024)?;
    }
    let copy = open(&m.path("dir0/copy"))?;
    clone_file(&copy, &sparse)?;
    fs::hard_link(m.path("sparse"), m.path("dir1/another name"))?;
    let any = XattrFlags::empty();
    setxattr(m.path("dir1"), "user.short", b"value", any)?;
    for i in 0..60 {
        setxattr(
            copy_path(m),
            format!("user.n{i}"),
            &vec![i; usize::from(i) * 30],
            any,
        )?;
    }
    // The truncation of this one is cut short, see `Sound::new`.
    write_pattern(&open(&m.path("half cut"))?, 3, 0, 200_000)?;
    mknodat(CWD, m.path("fifo"), FileType::Fifo, Mode::RUSR, 0)?;
    Ok(())
}

/// The file with many attributes.
fn copy_path(m: &Mounted) -> PathBuf {
    m.path("dir0/copy")
}

/// Unlinks files that are open, and has the filesystem end with them: two orphans.
fn leave_orphans(m: &mut Mounted) -> Result {
    let long = open(&m.path("unlinked"))?;
    for i in 0..40 {
        write_pattern(&long, i, i * 8192, 4096)?;
    }
    let any = XattrFlags::empty();
    setxattr(m.path("unlinked"), "user.gone", &[7; 500], any)?;
    let short = open(&m.path("unlinked, empty"))?;
    for name in ["unlinked", "unlinked, empty"] {
        fs::remove_file(m.path(name))?;
    }
    // As FIFREEZE: everything is at home, and the log is empty.
    let dir = m.dir()?;
    sys::ioctl(&dir, sys::GOINGDOWN, &mut 0u32.to_le_bytes()).ctx("shutdown")?;
    drop((long, short, dir));
    m.umount()
}

/// A disk in memory with an undamaged filesystem.
pub struct Sound {
    pub disk: Loop,
    /// What is under the disk.
    file: PathBuf,
    /// What is not zero in it: where, and the bytes.
    image: Vec<(u64, Vec<u8>)>,
    size: u64,
}

impl Sound {
    pub fn new(env: &Env, bs: &str) -> Result<Sound> {
        let size = size_of(bs);
        let file = Path::new("/tmp").join(format!("calf-damage-{bs}.img"));
        let disk = fs::File::create(&file).and_then(|f| f.set_len(size));
        let disk = disk.and_then(|()| Loop::new(&file, size));
        let disk = disk.ctx("loop device")?;
        cfs::mkfs(env, &disk.path, &["-b", bs])?;
        let mut m = Mounted::new(&disk.path, &env.mnt, "")?;
        populate(&m)?;
        let cut = fs::metadata(m.path("half cut"))?.ino();
        leave_orphans(&mut m)?;
        open(&disk.path)?.sync_all().ctx("write the image")?;
        let mut sound = Sound {
            disk,
            file,
            image: Vec::new(),
            size,
        };
        sound.tool(env, &["--truncation", &cut.to_string()])?;
        cfs::fsck(env, &sound.disk.path).ctx("the image to damage")?;
        sound.image = sound.content()?;
        Ok(sound)
    }

    /// Makes it sound again, and then damages it as `args` say. Returns what was done.
    pub fn damage(&self, env: &Env, args: &[&str]) -> Result<String> {
        // Nothing of it stays in the disk's cache.
        let disk = open(&self.disk.path)?;
        disk.sync_all().ctx("restore the image")?;
        fadvise(&disk, 0, None, Advice::DontNeed).ctx("restore the image")?;
        let file = open(&self.file)?;
        let all = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, all, 0, self.size).ctx("restore the image")?;
        for (at, bytes) in &self.image {
            file.write_all_at(bytes, *at).ctx("restore the image")?;
        }
        self.tool(env, args)
    }

    /// What is not zero in the file.
    fn content(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        const PIECE: usize = 64 << 10;
        let file = open(&self.file)?;
        let mut all = Vec::new();
        for at in (0..self.size).step_by(PIECE) {
            let mut bytes = vec![0; PIECE];
            file.read_exact_at(&mut bytes, at).ctx("read the image")?;
            if bytes.iter().any(|&b| b != 0) {
                all.push((at, bytes));
            }
        }
        Ok(all)
    }

    pub fn tool(&self, env: &Env, args: &[&str]) -> Result<String> {
        let mut tool = Command::new(env.tool("calf-damage"));
        let (status, text) = cfs::command(tool.args(args).arg(&self.file))?;
        ensure!(status == 0, "calf-damage exits with {status}:\n{text}");
        Ok(text)
    }
}

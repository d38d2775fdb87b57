// SPDX-License-Identifier: GPL-2.0

//! The disks in memory: one that a sequence runs on, its log, and one to look at states on.

use crate::bench::{Bench, Sync};
use crate::log::{self, Entry};
use crate::oracle;
use crate::states::{Image, State};
use crate::tree::describe;
use crate::world::{Event, History, World};
use calf_vmlib::dm::Dm;
use calf_vmlib::file::open_with;
use calf_vmlib::fs::{command, fsck, Mounted};
use calf_vmlib::sys::{Aligned, O_DIRECT};
use calf_vmlib::{ensure, Context, Env, Fail, Result};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a filesystem is made and mounted.
pub struct Config {
    /// Block size in bytes.
    pub block: usize,
    /// Size of the disk, just enough for the journal and a little data.
    mib: usize,
    /// Mount options.
    opts: &'static str,
}

/// All of them.
pub const CONFIGS: [Config; 4] = [
    Config {
        block: 4096,
        mib: 12,
        opts: "",
    },
    Config {
        block: 1024,
        mib: 4,
        opts: "",
    },
    Config {
        block: 4096,
        mib: 12,
        opts: "always_cow",
    },
    Config {
        block: 1024,
        mib: 4,
        opts: "always_cow",
    },
];

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes a block", self.block)?;
        match self.opts {
            "" => Ok(()),
            o => write!(f, ", {o}"),
        }
    }
}

/// What was recorded.
pub struct Recording {
    config: usize,
    /// The disk before the first operation.
    pub start: Image,
    /// What the disk was told.
    pub log: Vec<Entry>,
    /// What the operations did.
    pub history: History,
}

/// The disks, with a tree to begin with for each configuration.
pub struct Lab {
    env: Env,
    disk: PathBuf,
    log: PathBuf,
    scratch: PathBuf,
    starts: Vec<(Image, World)>,
}

/// Bytes of a disk that are moved at a time.
const PIECE: usize = 1 << 20;

fn read_disk(path: &Path, bytes: usize) -> Result<Vec<u8>> {
    let f = open_with(path, O_DIRECT)?;
    let mut buf = Aligned::new(PIECE);
    let mut all = Vec::with_capacity(bytes);
    while all.len() < bytes {
        f.read_exact_at(&mut buf, all.len() as u64)
            .ctx(path.display())?;
        all.extend_from_slice(&buf);
    }
    Ok(all)
}

fn write_disk(path: &Path, bytes: &[u8]) -> Result {
    let f = open_with(path, O_DIRECT)?;
    let mut buf = Aligned::new(PIECE);
    for (n, piece) in bytes.chunks(PIECE).enumerate() {
        buf[..piece.len()].copy_from_slice(piece);
        f.write_all_at(&buf[..piece.len()], (n * PIECE) as u64)
            .ctx(path.display())?;
    }
    Ok(())
}

impl Lab {
    /// Makes the disks.
    pub fn new(env: &Env) -> Result<Lab> {
        for args in [
            &["brd", "rd_nr=3", "rd_size=32768"][..],
            &["dm-log-writes"][..],
        ] {
            let (status, text) = command(Command::new("modprobe").args(args))?;
            if status != 0 {
                return Err(Fail::skip(format!("no {}: {text}", args[0])));
            }
        }
        let mut lab = Lab {
            env: env.clone(),
            disk: "/dev/ram0".into(),
            log: "/dev/ram1".into(),
            scratch: "/dev/ram2".into(),
            starts: Vec::new(),
        };
        for c in &CONFIGS {
            let (bs, size) = (c.block.to_string(), format!("{}M", c.mib));
            // Not `mkfs`, which takes no size.
            let tool = env.tool("mkfs.calf");
            let args = ["-f", "-q", "-b", &bs];
            let mut mkfs = Command::new(tool);
            let (status, text) = command(mkfs.args(args).arg(&lab.disk).arg(size))?;
            ensure!(status == 0, "mkfs.calf exits with {status}:\n{text}");
            let mut m = Mounted::new(&lab.disk, &env.mnt, c.opts)?;
            let world = Bench::setup(&m.mnt, c.block)?;
            m.umount()?;
            let image = Image::new(read_disk(&lab.disk, c.mib << 20)?);
            lab.starts.push((image, world));
        }
        Ok(lab)
    }

    /// Runs the steps and records what the disk is told.
    pub fn record(&self, config: usize, steps: &[(usize, Sync)]) -> Result<Recording> {
        let c = &CONFIGS[config];
        let (start, world) = &self.starts[config];
        write_disk(&self.disk, &start.bytes)?;
        let dm = self.logged(&self.disk, start)?;
        let mut m = Mounted::new(&dm.path, &self.env.mnt, c.opts)?;
        let mut bench = Bench::new(
            &self.env.mnt,
            c.block,
            c.opts == "always_cow",
            world.clone(),
        );
        for (op, sync) in steps {
            if bench.step(*op, *sync)? {
                dm.message("mark ack")?;
            }
        }
        let tree = describe(&self.env.mnt)?;
        oracle::judge_live(&bench.history, &tree, c.block).ctx("without a crash")?;
        m.umount()?;
        bench.unmounted();
        dm.message("mark ack")?;
        let log = self.read_log(dm)?;
        Ok(Recording {
            config,
            start: start.clone(),
            log,
            history: bench.history,
        })
    }

    /// A device that records what `disk` is told.
    fn logged(&self, disk: &Path, image: &Image) -> Result<Dm> {
        let sectors = (image.bytes.len() / 512) as u64;
        let args = format!("{} {}", disk.display(), self.log.display());
        Dm::new("calf-replay", sectors, "log-writes", &args)
    }

    /// Ends the recording.
    fn read_log(&self, mut dm: Dm) -> Result<Vec<Entry>> {
        dm.remove()?;
        let f = open_with(&self.log, O_DIRECT)?;
        let read = |at, len: usize| -> Result<Vec<u8>> {
            let mut buf = Aligned::new(len);
            f.read_exact_at(&mut buf, at).ctx("read")?;
            Ok(buf.to_vec())
        };
        let mut log = log::parse(read)?;
        // The target's own mark, which says that the log is whole.
        let end = log.pop();
        let whole = end == Some(Entry::Mark("dm-log-writes-end".into()));
        ensure!(whole, "the log does not end: {end:?}");
        Ok(log)
    }

    /// Mounts a state, unmounts it, and says what the disk was told.
    pub fn recover(&self, rec: &Recording, image: &Image) -> Result<Vec<Entry>> {
        write_disk(&self.scratch, &image.bytes)?;
        let dm = self.logged(&self.scratch, image)?;
        Mounted::new(&dm.path, &self.env.mnt, CONFIGS[rec.config].opts)?.umount()?;
        self.read_log(dm)
    }

    /// Mounts a state and looks at it.
    pub fn judge(&self, rec: &Recording, state: &State) -> Result {
        let c = &CONFIGS[rec.config];
        write_disk(&self.scratch, &state.image.bytes)?;
        let mut m = Mounted::new(&self.scratch, &self.env.mnt, c.opts)?;
        let tree = describe(&m.mnt)?;
        let acks = rec.history.events.iter().enumerate();
        let mut acks = acks.filter(|(_, e)| matches!(e, Event::Ack(_)));
        // Mark number n was made after acknowledgement number n.
        let acked = state.marks.checked_sub(1).and_then(|n| acks.nth(n));
        let acked = acked.map_or(0, |(i, _)| i + 1);
        let verdict = oracle::judge(&rec.history, acked, &tree, c.block);
        m.umount()?;
        fsck(&self.env, &self.scratch)?;
        verdict.map_err(Fail::new)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Gives the memory back. If it cannot, the next one uses what is there.
        let _ = command(Command::new("modprobe").args(["-r", "brd"]));
    }
}

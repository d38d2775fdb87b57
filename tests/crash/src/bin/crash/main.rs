// SPDX-License-Identifier: GPL-2.0

//! The part of the crash test that runs in the VM: describes what the last crash left, checks the
//! filesystem, then loads it until the VM is killed.
//!
//! `calf.crash=RUN,SEED,STEPS,BLOCKSIZE` on the kernel command line (or `CALF_CRASH` in the
//! environment); STEPS holds any of `m` (make a new filesystem), `v` (describe and check), `l`
//! (load).

mod look;
mod names;

use calf_crash::log::{Line, Op, Times};
use calf_crash::progress::WRITERS;
use calf_crash::unit::{self, UNIT};
use calf_vmlib::file::{clone_range, fallocate, open, open_direct, punch, unshare};
use calf_vmlib::fs::{self as cfs, Mounted};
use calf_vmlib::ktap;
use calf_vmlib::rng::Rng;
use calf_vmlib::sys::{Aligned, Map};
use calf_vmlib::{ensure, observe, Context, Env, Result};
use look::{describe, mark, times, MARK};
use names::{remove_tree, shuffle, Beat};
use rustix::fs::{FallocateFlags, XattrFlags};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const FILES: usize = 20;
/// Largest file, in units.
const MAX: u64 = 1500;
const BATCH: usize = 12;

struct Order {
    run: u64,
    seed: u64,
    steps: String,
    block_size: String,
}

fn order() -> Result<Order> {
    let text = match std::env::var("CALF_CRASH") {
        Ok(t) => t,
        Err(_) => fs::read_to_string("/proc/cmdline")?
            .split_whitespace()
            .find_map(|w| w.strip_prefix("calf.crash=").map(str::to_string))
            .ok_or("no calf.crash= on the kernel command line")?,
    };
    let w: Vec<&str> = text.split(',').collect();
    ensure!(w.len() == 4, "calf.crash={text}: four words expected");
    let num = |s: &str| {
        s.parse::<u64>()
            .map_err(|_| calf_vmlib::Fail::new("not a number"))
    };
    Ok(Order {
        run: num(w[0])?,
        seed: num(w[1])?,
        steps: w[2].into(),
        block_size: w[3].into(),
    })
}

fn main() -> ExitCode {
    ktap::head(1);
    let outcome = ktap::guarded(|| {
        let env = Env::new();
        observe::mount_debugfs();
        cfs::insmod(&env)?;
        let order = order()?;
        run(&env, &order)
    });
    if let Err(e) = &outcome {
        ktap::line(&Line::Fail(e.text.replace('\n', " | ")).to_string());
    }
    if ktap::result(1, "crash", 0.0, &outcome) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

fn run(env: &Env, order: &Order) -> Result {
    if order.steps.contains('m') {
        cfs::mkfs(env, &env.dev, &["-b", &order.block_size])?;
    }
    if order.steps.contains('v') {
        // Mounting replays the journal and cleans up orphans.
        let mut m = Mounted::new(&env.dev, &env.mnt, "").ctx("mount after the crash")?;
        let dir = m.path(&format!("run{}", order.run - 1));
        let mut all = Vec::new();
        if dir.exists() {
            describe(&dir, &dir, &mut all)?;
        }
        all.iter().for_each(|l| ktap::line(&l.to_string()));
        m.umount()?;
        cfs::fsck(env, &env.dev).ctx("after the crash")?;
        ktap::line(&Line::FoundAll.to_string());
    }
    if order.steps.contains('l') {
        let m = Mounted::new(&env.dev, &env.mnt, "")?;
        load(&m, order)?;
    }
    Ok(())
}

/// The console, and the counter that numbers operations.
pub struct Console {
    seq: AtomicU64,
    ids: AtomicU64,
    lock: Mutex<()>,
}

impl Console {
    /// Prints lines; they have left the machine when this returns.
    fn announce(&self, lines: &[Line]) {
        let text: Vec<String> = lines.iter().map(Line::to_string).collect();
        let _one = self.lock.lock();
        ktap::line(&text.join("\n"));
        // Not a terminal when tried on a host.
        let _ = rustix::termios::tcdrain(rustix::stdio::stdout());
    }

    /// Prints a line.
    pub fn say(&self, line: Line) {
        let _one = self.lock.lock();
        ktap::line(&line.to_string());
    }
}

#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    path: String,
    size: u64,
}

struct Worker<'a> {
    me: u64,
    dir: PathBuf,
    console: &'a Console,
    rng: Rng,
    files: Vec<Entry>,
    names: u64,
    /// Where each file is now, as far as the operations are done.
    links: Vec<(u64, PathBuf)>,
    /// Files that were synced with all there is.
    synced: BTreeSet<u64>,
    /// Something was acknowledged since it was last said that this thread goes on.
    acked: bool,
    /// Unlinked files that stay open: orphans at the crash.
    held: Vec<File>,
}

fn load(m: &Mounted, order: &Order) -> Result {
    let dir = m.path(&format!("run{}", order.run));
    let console = Console {
        seq: AtomicU64::new(1),
        ids: AtomicU64::new(1),
        lock: Mutex::new(()),
    };
    for t in 0..WRITERS {
        fs::create_dir_all(dir.join(format!("t{t}/sub")))?;
    }
    m.sync()?;
    console.announce(&[]);
    ktap::line("CALF-CRASH-LOAD");
    // On a host the time is limited, in the VM the kill ends it.
    let limit = calf_vmlib::env::number("CALF_CRASH_SECONDS", 3600)?;
    let until = Instant::now() + Duration::from_secs(limit);
    std::thread::scope(|s| {
        let mut all = Vec::new();
        for t in 0..WRITERS {
            let mut w = Worker {
                me: t,
                dir: dir.clone(),
                console: &console,
                rng: Rng::new(order.seed ^ t << 32),
                files: Vec::new(),
                names: 0,
                links: Vec::new(),
                synced: BTreeSet::new(),
                acked: false,
                held: Vec::new(),
            };
            all.push(s.spawn(move || {
                while Instant::now() < until {
                    w.batch()?;
                }
                Ok(())
            }));
        }
        // What earlier runs left is removed meanwhile: unlinks of shared blocks, no rules. Then
        // names change places for as long as it lasts.
        let old = m.mnt.clone();
        let now = order.run;
        let mut rng = Rng::new(order.seed ^ 0x6e61_6d65);
        let mut beat = Beat::new(&console);
        all.push(s.spawn(move || {
            for e in fs::read_dir(&old)? {
                let p = e?.path();
                let name = p
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if name.starts_with("run") && name != format!("run{now}") {
                    remove_tree(&p, &mut beat).ctx("remove an old run")?;
                }
            }
            while Instant::now() < until {
                shuffle(&old.join("names"), &mut rng);
                beat.beat();
            }
            Ok(())
        }));
        all.into_iter().try_for_each(|h| {
            h.join()
                .unwrap_or(Err("a thread panicked".into()))
                .inspect_err(|e: &calf_vmlib::Fail| {
                    console.say(Line::Fail(e.text.replace('\n', " | ")));
                })
        })
    })
}

impl Worker<'_> {
    /// Announces a few operations, then does them, then may sync.
    fn batch(&mut self) -> Result {
        let mut plan = Vec::new();
        let mut lines = Vec::new();
        for _ in 0..BATCH {
            let Some(op) = self.choose() else { continue };
            let seq = self.console.seq.fetch_add(1, Ordering::Relaxed);
            lines.push(Line::Op {
                seq,
                op: op.clone(),
            });
            plan.push((seq, op));
        }
        self.console.announce(&lines);
        for (seq, op) in plan {
            let what = format!("op {seq} {op}");
            if let Some(times) = self.perform(seq, &op).ctx(what)? {
                let id = op.id();
                self.console.say(Line::Ack { id, seq, times });
                self.acked = true;
            }
        }
        if std::mem::take(&mut self.acked) {
            self.console.say(Line::Alive { thread: self.me });
        }
        Ok(())
    }

    fn pick(&mut self) -> Option<usize> {
        let n = self.files.len() as u64;
        (n > 0).then(|| self.rng.below(n) as usize)
    }

    fn new_path(&mut self) -> String {
        self.names += 1;
        let sub = if self.rng.below(3) == 0 { "sub/" } else { "" };
        format!("t{}/{sub}n{}", self.me, self.names)
    }

    fn range(&mut self, align: u64) -> (u64, u64) {
        let len = match self.rng.below(8) {
            0 => self.rng.range(1, 400),
            1..=3 => self.rng.range(1, 64),
            _ => self.rng.range(1, 8),
        };
        let off = self.rng.below(MAX - len);
        (off / align * align, len.div_ceil(align) * align)
    }

    /// Chooses an operation and changes the picture of the files as if it were done.
    fn choose(&mut self) -> Option<Op> {
        let what = self.rng.below(100);
        if self.files.len() < 4 || (what < 12 && self.files.len() < FILES) {
            let id = self.console.ids.fetch_add(1, Ordering::Relaxed);
            let path = self.new_path();
            self.files.push(Entry {
                id,
                path: path.clone(),
                size: 0,
            });
            return Some(Op::Create { id, path });
        }
        let i = self.pick()?;
        let id = self.files[i].id;
        match what {
            0..=51 => {
                // Overwrite, append or leave a hole; some aligned, for direct I/O.
                let (mut off, len) = self.range(if what % 3 == 0 { 4 } else { 1 });
                if what % 4 == 1 && self.files[i].size + len <= MAX {
                    off = self.files[i].size;
                }
                self.files[i].size = self.files[i].size.max(off + len);
                Some(Op::Write { id, off, len })
            }
            52..=61 => {
                let byte = self.rng.below(256) as u8;
                Some(Op::Mark { id, byte })
            }
            62..=70 => {
                let (off, len) = self.range(1);
                Some(Op::Punch { id, off, len })
            }
            71..=74 => {
                let (off, len) = self.range(1);
                self.files[i].size = self.files[i].size.max(off + len);
                Some(Op::Allocate { id, off, len })
            }
            75..=80 => {
                let size = self.rng.below(MAX);
                self.files[i].size = size;
                Some(Op::Truncate { id, size })
            }
            81..=88 => {
                let j = self.pick()?;
                let len = self.files[j].size / 4 * 4;
                if i == j || len == 0 {
                    return None;
                }
                let off = self.rng.below(len) / 8 * 4;
                let len = len - off;
                self.files[i].size = self.files[i].size.max(off + len);
                Some(Op::Clone {
                    id,
                    from: self.files[j].id,
                    off,
                    len,
                })
            }
            89..=93 => {
                let over = self.rng.below(3) == 0;
                let j = self.pick()?;
                if over && i != j {
                    let path = self.files[j].path.clone();
                    let victim = self.files[j].id;
                    self.files[i].path = path.clone();
                    self.files.remove(j);
                    return Some(Op::Rename { id, path, victim });
                }
                let path = self.new_path();
                self.files[i].path = path.clone();
                Some(Op::Rename {
                    id,
                    path,
                    victim: 0,
                })
            }
            _ => {
                self.files.remove(i);
                Some(Op::Unlink { id })
            }
        }
    }

    /// Does one operation; says when the file was synced afterwards: with its times, if they were.
    fn perform(&mut self, seq: u64, op: &Op) -> Result<Option<Option<Times>>> {
        let kb = UNIT as u64;
        let id = op.id();
        let path = self.path_of(op, id)?;
        match op {
            Op::Create { .. } => {
                let f = File::create_new(&path)?;
                std::os::unix::fs::fchown(&f, Some(id as u32), Some(id as u32))?;
                self.links_add(id, &path);
            }
            Op::Write { off, len, .. } => {
                self.write(&path, seq, *off, *len)?;
            }
            Op::Mark { byte, .. } => {
                rustix::fs::setxattr(&path, MARK, &mark(*byte), XattrFlags::empty())?;
            }
            Op::Punch { off, len, .. } => punch(&open(&path)?, off * kb, len * kb)?,
            Op::Allocate { off, len, .. } => {
                fallocate(&open(&path)?, FallocateFlags::empty(), off * kb, len * kb)?
            }
            Op::Truncate { size, .. } => open(&path)?.set_len(size * kb)?,
            Op::Clone { from, off, len, .. } => {
                let src = open(&self.place(*from)?)?;
                let dst = open(&path)?;
                clone_range(&dst, &src, off * kb, len * kb, off * kb)?;
                if seq % 4 == 0 {
                    unshare(&dst, off * kb, len * kb)?;
                }
            }
            Op::Rename { path: to, .. } => {
                let to = self.dir.join(to);
                fs::rename(&path, &to)?;
                self.links_add(id, &to);
            }
            Op::Unlink { .. } => {
                if seq % 3 == 0 {
                    self.held.push(open(&path)?);
                    if self.held.len() > 5 {
                        self.held.remove(0);
                    }
                }
                fs::remove_file(&path)?;
                return Ok(None);
            }
        }
        let roll = self.rng.below(100);
        if roll < 18 {
            let path = self.place(id)?;
            let f = open(&path)?;
            // The first time all of it: the number of the file is in its owner.
            let data_only = roll % 2 == 0 && self.synced.contains(&id);
            if data_only {
                f.sync_data().ctx("fdatasync")?;
                return Ok(Some(None));
            }
            f.sync_all().ctx("fsync")?;
            self.synced.insert(id);
            // Some are left alone from now on: all of them must be there, and as old as it is.
            if roll == 15 || roll == 17 {
                self.files.retain(|f| f.id != id);
            }
            return Ok(Some(Some(times(&path)?)));
        }
        Ok(None)
    }

    fn write(&mut self, path: &Path, seq: u64, off: u64, len: u64) -> Result {
        let (at, n) = (off * UNIT as u64, len as usize * UNIT);
        let mut buf = Aligned::new(n);
        unit::fill(&mut buf, seq, off);
        let aligned = off % 4 == 0 && len % 4 == 0;
        let f = open(path)?;
        let size = f.metadata()?.len();
        if aligned && seq % 2 == 0 {
            open_direct(path)?
                .write_all_at(&buf, at)
                .ctx("direct write")?;
        } else if seq % 5 == 0 && at + n as u64 <= size {
            let page = at / 4096 * 4096;
            let map = Map::new(&f, page, (at - page) as usize + n).ctx("mmap")?;
            map.write((at - page) as usize, &buf);
            if seq % 10 == 0 {
                map.sync().ctx("msync")?;
            }
        } else {
            f.write_all_at(&buf, at).ctx("write")?;
        }
        Ok(())
    }

    /// Where the file of an operation is now; for a new file, where it will be.
    fn path_of(&self, op: &Op, id: u64) -> Result<PathBuf> {
        match op {
            Op::Create { path, .. } => Ok(self.dir.join(path)),
            _ => self.place(id),
        }
    }

    fn place(&self, id: u64) -> Result<PathBuf> {
        self.links
            .iter()
            .rev()
            .find(|(n, _)| *n == id)
            .map(|(_, p)| p.clone())
            .ok_or(calf_vmlib::Fail::new(format!("file {id} has no place")))
    }

    fn links_add(&mut self, id: u64, path: &Path) {
        self.links.retain(|(n, _)| *n != id);
        self.links.push((id, path.into()));
    }
}

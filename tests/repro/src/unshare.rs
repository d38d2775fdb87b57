// SPDX-License-Identifier: GPL-2.0

//! The scene of seed 000, common to all its variants: unshare of a file whose even blocks are
//! shared and whose odd blocks are holes.
//!
//! ```text
//! xfs_io -f -c "pwrite -S 0x58 -b 10m 0 10m" file1
//! cp --reflink=always file1 file2
//! punch-alternating -o 1 file2
//! xfs_io -c "funshare 0 10m" file2
//! ```

use crate::frame::{window_missed, Judgement, Needs, Stage, Verdict};
use calf_vmlib::error::Context;
use calf_vmlib::file;
use calf_vmlib::fs::drop_caches;
use calf_vmlib::observe::{self, field, Trace};
use calf_vmlib::sys::{FIEMAP_DELALLOC, FIEMAP_SHARED};
use calf_vmlib::{ensure, Result};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Contracts of all variants.
pub const CONTRACT: &str = "C-SHARED-SRC";

/// `WARN_ON_ONCE(iter->flags & IOMAP_UNSHARE)` in `__iomap_write_begin` of Linux 7.3.4.
pub const WARN_UNSHARE_ZEROING: &str = "fs/iomap/buffered-io.c:921";

/// Trace lines of the report.
pub const HISTORY: &[&str] = &[
    "iomap_iter   pos 0 len 0 WRITE|0x80 iomap_file_unshare",
    "  dstmap     off 0 len 131072 addr -1 DELALLOC SHARED",
    "  srcmap     off 0 len 4096 addr 147456 MAPPED",
    "iomap_iter   pos 0 len 4096 WRITE|0x80 iomap_file_unshare",
    "  dstmap     off 4096 len 4096 addr -1 DELALLOC SHARED",
    "console      WARNING: fs/iomap/buffered-io.c:577 iomap_write_begin",
];

const FILL: u8 = 0x58;

/// The two files and what is true of them before the act.
pub struct Scene {
    f1: File,
    f2: File,
    block: u64,
    blocks: u64,
    free: u64,
    sectors: u64,
}

/// What the act saw.
pub struct Seen {
    errno: Option<Errno>,
}

/// Everything the judgement of a variant can look at.
#[derive(Debug)]
pub struct Facts {
    /// Error of fallocate.
    pub errno: Option<Errno>,
    /// Warnings in the act.
    pub warned: bool,
    /// file2 read differently right after the act.
    pub changed_now: Option<String>,
    /// file2 read differently after the caches were dropped, or after a remount.
    pub changed_later: Option<String>,
    /// file1 changed.
    pub source_changed: Option<String>,
    /// Blocks of file2 that are still shared.
    pub shared_left: u64,
    /// Blocks that were shared before, and as many holes.
    pub half: u64,
    /// Holes of file2 that are no holes any more.
    pub holes_lost: u64,
    /// Free blocks that are missing beside those that file2 got, while file2 is open.
    pub leak: i64,
    /// Blocks set aside for metadata by then.
    pub set_aside: i64,
    /// The same after a remount.
    pub leak_later: i64,
    /// `delalloc_reserved + cow_reserved` after fsync; `None` when the module shows no counters.
    pub reserved: Option<i64>,
}

impl Facts {
    /// Everything the contract asks for holds.
    pub fn correct(&self) -> bool {
        self.errno.is_none()
            && !self.warned
            && self.data_same()
            && self.shared_left == 0
            && self.holes_lost == 0
            && self.leak == 0
            && self.set_aside == 0
            && self.leak_later == 0
            && self.reserved.unwrap_or(0) == 0
    }

    /// No byte of either file changed.
    pub fn data_same(&self) -> bool {
        self.changed_now.is_none() && self.changed_later.is_none() && self.source_changed.is_none()
    }

    /// Turns the facts into a judgement; `bug` says whether the switch's own symptom is there.
    pub fn judge(&self, bug: bool) -> Judgement {
        let verdict = match (self.correct(), bug) {
            (true, _) => Verdict::Correct,
            (false, true) => Verdict::Bug,
            (false, false) => Verdict::Other,
        };
        let errno = self.errno.map_or("0".to_string(), name);
        let data = match (&self.changed_now, &self.changed_later, &self.source_changed) {
            (None, None, None) => "same".to_string(),
            (_, _, Some(t)) => format!("file1-changed[{t}]"),
            (Some(t), _, _) | (None, Some(t), _) => format!("changed[{t}]"),
        };
        let reserved = self.reserved.map_or("?".into(), |r| r.to_string());
        let mut observed = vec![self.errno.map_or("success".to_string(), name)];
        if !self.data_same() {
            observed.push("data changed".into());
        }
        if self.holes_lost > 0 {
            observed.push(format!(
                "{} hole{} filled",
                self.holes_lost,
                plural(self.holes_lost)
            ));
        }
        if self.leak != 0 {
            let n = self.leak.unsigned_abs();
            observed.push(format!("{} block{} leaked", self.leak, plural(n)));
        }
        Judgement {
            verdict,
            observed: observed.join(", "),
            facts: format!(
                "errno={errno} data={data} shared-left={}/{} holes-lost={}/{} leak={}+{} \
                 leak-after-remount={} reserved-after-fsync={reserved}",
                self.shared_left,
                self.half,
                self.holes_lost,
                self.half,
                self.leak,
                self.set_aside,
                self.leak_later
            ),
        }
    }
}

fn plural(n: u64) -> &'static str {
    if n == 1 {
        ""
    } else {
        "s"
    }
}

/// Name of the errors that these variants give.
fn name(e: Errno) -> String {
    match e {
        Errno::IO => "EIO".into(),
        Errno::NOSPC => "ENOSPC".into(),
        Errno::OPNOTSUPP => "EOPNOTSUPP".into(),
        e => format!("errno {}", e.raw_os_error()),
    }
}

/// Needs of all variants.
pub fn needs() -> Needs {
    Needs {
        junk: true,
        ..Needs::default()
    }
}

/// file1, its clone file2 with every odd block punched, all on disk, caches cold.
pub fn setup(stage: &mut Stage) -> Result<Scene> {
    let fs = &stage.fs;
    let block = fs.space()?.bsize;
    let blocks = stage.size / block / 2 * 2;
    ensure!(blocks >= 2, "the file must have two blocks at least");
    for old in ["file1", "file2"] {
        // Left by the run before, in a series.
        let _ = std::fs::remove_file(fs.path(old));
    }
    let f1 = file::open(&fs.path("file1"))?;
    let chunk = vec![FILL; 1 << 20];
    let mut at = 0;
    while at < blocks * block {
        let n = (blocks * block - at).min(chunk.len() as u64);
        f1.write_all_at(&chunk[..n as usize], at)
            .ctx("write file1")?;
        at += n;
    }
    let f2 = file::open(&fs.path("file2"))?;
    file::clone_file(&f2, &f1)?;
    for b in (1..blocks).step_by(2) {
        file::punch(&f2, b * block, block)?;
    }
    fs.sync()?;
    check_files(&f1, &f2, block, blocks).ctx("before the act")?;
    let (shared, holes) = census(&f2, block, blocks)?;
    if shared != blocks / 2 || holes != blocks / 2 {
        return Err(window_missed(format!(
            "{shared} blocks shared, {holes} holes of {blocks}"
        )));
    }
    // With the hole's folio in the cache the core has nothing to read and nothing to warn about.
    drop_caches()?;
    rustix::fs::fadvise(&f2, 0, None, rustix::fs::Advice::DontNeed).ctx("fadvise")?;
    fs.sync()?;
    let free = fs.space()?.free;
    let sectors = sectors(&f1, &f2)?;
    Ok(Scene {
        f1,
        f2,
        block,
        blocks,
        free,
        sectors,
    })
}

/// funshare over the whole file, traced.
pub fn act(stage: &mut Stage, scene: &mut Scene) -> Result<Seen> {
    let trace = Trace::start(&["iomap_iter", "iomap_iter_dstmap", "iomap_iter_srcmap"])?;
    let outcome = rustix::fs::fallocate(
        &scene.f2,
        rustix::fs::FallocateFlags::UNSHARE_RANGE,
        0,
        scene.blocks * scene.block,
    );
    let lines = trace.stop()?;
    let ino = format!(" ino {:#x} ", scene.f2.metadata().ctx("stat")?.ino());
    let lines: Vec<&String> = lines.iter().filter(|l| l.contains(&ino)).collect();
    stage.trace = lines.iter().take(12).map(|l| shorten(l)).collect();
    // The situation is reached when the core asked for a mapping at the first hole.
    let asked = lines.iter().any(|l| {
        l.starts_with("iomap_iter_dstmap")
            && field(l, "offset")
                .zip(field(l, "length"))
                .is_some_and(|(off, len)| {
                    off <= scene.block && scene.block < off.saturating_add(len) && off > 0
                })
    });
    let stepped = lines.iter().any(|l| {
        l.starts_with("iomap_iter:") && l.contains("UNSHARE") && field(l, "pos") == Some(0)
    });
    if !asked || !stepped {
        return Err(window_missed(format!(
            "no mapping was asked for at the first hole ({} trace lines, fallocate: {outcome:?})",
            lines.len()
        )));
    }
    Ok(Seen {
        errno: outcome.err(),
    })
}

/// Looks at everything there is to see.
pub fn look(stage: &mut Stage, scene: Scene, seen: Seen) -> Result<Facts> {
    let Scene {
        f1,
        f2,
        block,
        blocks,
        free,
        sectors: sectors_before,
    } = scene;
    let now = check_files(&f1, &f2, block, blocks);
    // An unshare that failed may leave errors behind that only fsync tells.
    let fsynced = f2.sync_all();
    ensure!(
        fsynced.is_ok() || seen.errno.is_some(),
        "fsync: {:?}",
        fsynced.err()
    );
    stage.fs.sync()?;
    let counters = observe::counters(&stage.fs.bdev());
    let reserved = ["delalloc_reserved", "cow_reserved"]
        .iter()
        .filter_map(|c| counters.get(*c))
        .copied()
        .reduce(|a, b| a + b);
    let set_aside = counters.get("meta_reserved").copied().unwrap_or(0);
    let free_now = stage.fs.space()?.free;
    let (shared_left, holes) = census(&f2, block, blocks)?;
    let half = blocks / 2;
    let own = (half - shared_left.min(half)) + (half - holes.min(half));
    drop_caches()?;
    let cold = check_files(&f1, &f2, block, blocks);
    drop((f1, f2));
    stage.fs.cycle()?;
    let f1 = file::open(&stage.fs.path("file1"))?;
    let f2 = file::open(&stage.fs.path("file2"))?;
    // What file2 had to get, and what its mapping tree gained or lost meanwhile; asked for now,
    // because an open file counts blocks that are only reserved.
    let gained = sectors(&f1, &f2)? as i64 - sectors_before as i64;
    let tree = gained / (block as i64 / 512) - (half - holes.min(half)) as i64;
    let leak = |free_then: u64| free as i64 - own as i64 - tree - free_then as i64;
    let leak_later = leak(stage.fs.space()?.free);
    let later = check_files(&f1, &f2, block, blocks);
    let text = |r: Result, of_source: bool| {
        r.err()
            .map(|e| e.text)
            .filter(|t| t.starts_with("file1") == of_source)
    };
    let source_changed = [now.clone(), cold.clone(), later.clone()]
        .into_iter()
        .find_map(|r| text(r, true));
    let changed_now = text(now, false);
    let changed_later = text(cold, false).or(text(later, false));
    Ok(Facts {
        errno: seen.errno,
        warned: !stage.warnings.is_empty(),
        changed_now,
        changed_later,
        source_changed,
        shared_left,
        half,
        holes_lost: half - holes.min(half),
        leak: leak(free_now) - set_aside,
        set_aside,
        leak_later,
        reserved,
    })
}

fn sectors(f1: &File, f2: &File) -> Result<u64> {
    Ok(f1.metadata().ctx("stat")?.blocks() + f2.metadata().ctx("stat")?.blocks())
}

/// (shared blocks, blocks of holes) of file2.
fn census(f2: &File, block: u64, blocks: u64) -> Result<(u64, u64)> {
    let all = file::extents(f2)?;
    let mapped = file::extent_bytes(&all, 0) - file::extent_bytes(&all, FIEMAP_DELALLOC);
    Ok((
        file::extent_bytes(&all, FIEMAP_SHARED) / block,
        (blocks * block).saturating_sub(mapped) / block,
    ))
}

fn check_files(f1: &File, f2: &File, block: u64, blocks: u64) -> Result {
    let len = (block * blocks) as usize;
    let full = vec![FILL; len];
    file::compare("file1", &file::read_at(f1, 0, len).ctx("file1")?, &full)?;
    let mut want = full;
    for b in (1..blocks as usize).step_by(2) {
        let at = b * block as usize;
        want[at..at + block as usize].fill(0);
    }
    file::compare("file2", &file::read_at(f2, 0, len).ctx("file2")?, &want)
}

/// A trace line in the words of [`HISTORY`].
fn shorten(l: &str) -> String {
    let word_after = |key: &str| {
        let mut w = l.split_whitespace().skip_while(|w| *w != key).skip(1);
        w.next().unwrap_or("?").to_string()
    };
    let number = |key: &str| match field(l, key) {
        Some(u64::MAX) => "-1".to_string(),
        Some(v) => v.to_string(),
        None => "?".to_string(),
    };
    let flags = Some(word_after("flags"))
        .filter(|f| !f.starts_with('('))
        .unwrap_or_default();
    if l.starts_with("iomap_iter:") {
        let caller = word_after("caller");
        let caller = caller.split('+').next().unwrap_or("?");
        format!(
            "iomap_iter   pos {} len {} {flags} {caller}",
            number("pos"),
            number("length")
        )
    } else {
        let name = if l.starts_with("iomap_iter_dstmap") {
            "dstmap"
        } else {
            "srcmap"
        };
        format!(
            "  {name}     off {} len {} addr {} {} {flags}",
            number("offset"),
            number("length"),
            number("addr"),
            word_after("type"),
        )
    }
}

/// Implements the frame for a variant: everything but the judgement is common.
macro_rules! variant {
    ($t:ident, $name:literal, $contract:expr, $summary:literal, $warn:expr, $bug:expr) => {
        /// The reproducer (see the head of the file).
        pub struct $t;

        impl crate::frame::Reproducer for $t {
            type Scene = crate::unshare::Scene;
            type Seen = crate::unshare::Seen;

            fn name(&self) -> &'static str {
                $name
            }
            fn contract(&self) -> &'static str {
                $contract
            }
            fn summary(&self) -> &'static str {
                $summary
            }
            fn needs(&self) -> crate::frame::Needs {
                crate::unshare::needs()
            }
            fn expect_warn(&self) -> Option<&'static str> {
                $warn
            }
            fn history(&self) -> &'static [&'static str] {
                crate::unshare::HISTORY
            }
            fn setup(
                &self,
                stage: &mut crate::frame::Stage,
            ) -> calf_vmlib::Result<crate::unshare::Scene> {
                crate::unshare::setup(stage)
            }
            fn act(
                &self,
                stage: &mut crate::frame::Stage,
                scene: &mut crate::unshare::Scene,
            ) -> calf_vmlib::Result<crate::unshare::Seen> {
                crate::unshare::act(stage, scene)
            }
            fn judge(
                &self,
                stage: &mut crate::frame::Stage,
                scene: crate::unshare::Scene,
                seen: crate::unshare::Seen,
            ) -> calf_vmlib::Result<crate::frame::Judgement> {
                let facts = crate::unshare::look(stage, scene, seen)?;
                let bug: fn(&crate::unshare::Facts) -> bool = $bug;
                Ok(facts.judge(bug(&facts)))
            }
        }
    };
}
pub(crate) use variant;

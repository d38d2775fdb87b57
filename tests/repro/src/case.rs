// SPDX-License-Identifier: GPL-2.0

//! A reproducer that is one function: it prepares its files, walks into the situation and says what
//! it saw.

use crate::frame::{Judgement, Needs, Reproducer, Stage, Verdict};
use calf_vmlib::error::Context;
use calf_vmlib::gate::Gate;
use calf_vmlib::sys::vfs::{shutdown, Shutdown};
use calf_vmlib::{file, fs, observe, Result};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// One reproducer.
pub struct Case {
    /// Name; also the name of the switch.
    pub name: &'static str,
    /// Contract id, as in the catalogue.
    pub contract: &'static str,
    /// What happens with the switch on, one line.
    pub summary: &'static str,
    /// Mount options besides the switch.
    pub options: &'static str,
    /// All of it.
    pub run: fn(&mut Stage) -> Result<Outcome>,
}

/// A [`Case`] that asks for more than most.
pub struct Special {
    /// The case.
    pub case: Case,
    /// See [`Needs::junk`].
    pub junk: bool,
    /// See [`Reproducer::expect_warn`].
    pub warn: Option<&'static str>,
    /// See [`Reproducer::expect_lockdep`].
    pub lockdep: Option<&'static str>,
}

/// What a run showed. Neither correct nor the bug is neither.
pub struct Outcome {
    /// Everything is as the contract demands.
    pub correct: bool,
    /// Exactly the symptom of the switch.
    pub bug: bool,
    /// In a few words, for the table.
    pub observed: String,
    /// The facts that it rests on.
    pub facts: String,
}

impl Reproducer for Case {
    type Scene = ();
    type Seen = Outcome;

    fn name(&self) -> &'static str {
        self.name
    }
    fn contract(&self) -> &'static str {
        self.contract
    }
    fn summary(&self) -> &'static str {
        self.summary
    }
    fn needs(&self) -> Needs {
        Needs {
            options: self.options,
            ..Needs::default()
        }
    }
    fn setup(&self, _stage: &mut Stage) -> Result<()> {
        Ok(())
    }
    fn act(&self, stage: &mut Stage, _scene: &mut ()) -> Result<Outcome> {
        let seen = (self.run)(stage);
        // The next run starts with an empty filesystem, whatever became of this one.
        for entry in std::fs::read_dir(&stage.fs.mnt).ctx("clean up")? {
            let path = entry.ctx("clean up")?.path();
            std::fs::remove_file(&path).ctx(format!("remove {}", path.display()))?;
        }
        seen
    }
    fn judge(&self, _stage: &mut Stage, _scene: (), seen: Outcome) -> Result<Judgement> {
        let verdict = match (seen.correct, seen.bug) {
            (true, false) => Verdict::Correct,
            (false, true) => Verdict::Bug,
            _ => Verdict::Other,
        };
        Ok(Judgement {
            verdict,
            observed: seen.observed,
            facts: seen.facts,
        })
    }
}

impl Reproducer for Special {
    type Scene = ();
    type Seen = Outcome;

    fn name(&self) -> &'static str {
        self.case.name
    }
    fn contract(&self) -> &'static str {
        self.case.contract
    }
    fn summary(&self) -> &'static str {
        self.case.summary
    }
    fn needs(&self) -> Needs {
        Needs {
            junk: self.junk,
            options: self.case.options,
            ..Needs::default()
        }
    }
    fn expect_warn(&self) -> Option<&'static str> {
        self.warn
    }
    fn expect_lockdep(&self) -> Option<&'static str> {
        self.lockdep
    }
    fn setup(&self, stage: &mut Stage) -> Result<()> {
        self.case.setup(stage)
    }
    fn act(&self, stage: &mut Stage, scene: &mut ()) -> Result<Outcome> {
        self.case.act(stage, scene)
    }
    fn judge(&self, stage: &mut Stage, scene: (), seen: Outcome) -> Result<Judgement> {
        self.case.judge(stage, scene, seen)
    }
}

/// Bytes of a page, and of the block size that the recipes assume.
pub const PAGE: u64 = 4096;

impl Stage {
    /// A file of the test filesystem.
    pub fn path(&self, name: &str) -> PathBuf {
        self.fs.mnt.join(name)
    }

    /// Opens a file, new if there is none.
    pub fn file(&self, name: &str) -> Result<File> {
        file::open(&self.path(name))
    }

    /// A file of `len` bytes, all `byte`, on disk.
    pub fn filled(&self, name: &str, byte: u8, len: u64) -> Result<File> {
        let f = self.file(name)?;
        fill(&f, byte, 0, len)?;
        f.sync_all().ctx("fsync")?;
        Ok(f)
    }

    /// A clone of a file, on disk.
    pub fn cloned(&self, name: &str, src: &File) -> Result<File> {
        let f = self.file(name)?;
        file::clone_file(&f, src)?;
        f.sync_all().ctx("fsync")?;
        Ok(f)
    }

    /// A gate of the mount.
    pub fn gate(&self, name: &str) -> Result<Gate> {
        Gate::new(&self.fs.dev, name)
    }

    /// Ends the mount as a crash does, and mounts again. What was committed is there, what was only in
    /// memory is not.
    pub fn crash(&mut self, f: File) -> Result {
        shutdown(&f, Shutdown::NoFlush).ctx("shutdown")?;
        drop(f);
        self.fs.cycle()
    }

    /// Commits the running transaction, by fsync of another file.
    pub fn commit(&self) -> Result {
        self.filled("commit", b'c', 1).map(drop)
    }

    /// A counter of the mount.
    pub fn counter(&self, name: &str) -> Result<i64> {
        let bdev = self.fs.dev.file_name().unwrap_or_default();
        observe::counters(&bdev.to_string_lossy())
            .get(name)
            .copied()
            .ok_or_else(|| calf_vmlib::Fail::new(format!("no counter {name}")))
    }
}

/// Writes `len` bytes `byte` through the page cache.
pub fn fill(f: &File, byte: u8, off: u64, len: u64) -> Result {
    use std::os::unix::fs::FileExt;
    f.write_all_at(&vec![byte; len as usize], off).ctx("write")
}

/// The byte at `off`, read from the disk.
pub fn cold_byte(f: &File, off: u64) -> Result<u8> {
    fs::drop_caches()?;
    Ok(file::read_at(f, off, 1)?[0])
}

/// The inode number.
pub fn ino(f: &File) -> Result<u64> {
    Ok(f.metadata().ctx("stat")?.ino())
}

/// A byte for people.
pub fn show(b: u8) -> String {
    if b.is_ascii_graphic() {
        format!("'{}'", b as char)
    } else {
        format!("{b:#04x}")
    }
}

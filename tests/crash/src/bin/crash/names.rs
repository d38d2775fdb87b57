// SPDX-License-Identifier: GPL-2.0

//! The thread that does things to names that nobody announces.

use crate::Console;
use calf_crash::log::Line;
use calf_crash::progress::SHUFFLER;
use calf_vmlib::rng::Rng;
use calf_vmlib::Result;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, CWD};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Does something to names that nobody announces: what the next boot finds is for fsck to judge.
/// Most of it fails, as it should.
pub fn shuffle(dir: &Path, rng: &mut Rng) {
    let mut any = || dir.join(format!("d{}/n{}", rng.below(3), rng.below(8)));
    let (a, b) = (any(), any());
    let flags = match rng.below(12) {
        0 => return drop(fs::create_dir_all(&a)),
        1 => return drop(fs::remove_dir(&a)),
        2 => return drop(fs::write(&a, b"x")),
        3 => return drop(fs::remove_file(&a)),
        4 | 5 => {
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            let file = rustix::fs::openat(CWD, dir, flags, Mode::from_raw_mode(0o600));
            if let Ok(file) = file.map(File::from) {
                let _ = file.write_all_at(&[1; 9000], 0);
                let _ = file.set_len(5000);
                if rng.below(2) == 0 {
                    let _ = rustix::fs::linkat(&file, "", CWD, &a, AtFlags::EMPTY_PATH);
                }
            }
            return;
        }
        6 => return drop(File::open(dir).and_then(|d| d.sync_all())),
        7 => RenameFlags::WHITEOUT,
        8 => RenameFlags::empty(),
        _ => RenameFlags::EXCHANGE,
    };
    let _ = rustix::fs::renameat_with(CWD, &a, CWD, &b, flags);
}

/// Says that the thread that changes names goes on, but not too often.
pub struct Beat<'a> {
    console: &'a Console,
    last: Instant,
}

impl<'a> Beat<'a> {
    /// Of a thread that begins.
    pub fn new(console: &'a Console) -> Beat<'a> {
        let last = Instant::now();
        Beat { console, last }
    }

    /// The thread goes on.
    pub fn beat(&mut self) {
        if self.last.elapsed() >= Duration::from_millis(100) {
            self.last = Instant::now();
            self.console.say(Line::Alive { thread: SHUFFLER });
        }
    }
}

/// `remove_dir_all`, with a beat for each file: the kill may come in the middle.
pub fn remove_tree(dir: &Path, beat: &mut Beat) -> Result {
    for e in fs::read_dir(dir)? {
        let e = e?;
        if e.file_type()?.is_dir() {
            remove_tree(&e.path(), beat)?;
        } else {
            fs::remove_file(e.path())?;
        }
        beat.beat();
    }
    Ok(fs::remove_dir(dir)?)
}

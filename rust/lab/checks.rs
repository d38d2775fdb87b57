// SPDX-License-Identifier: GPL-2.0

//! Checks: the iomap contracts as rules that a laboratory build looks at while it runs.
//!
//! A check is named after its contract. [`Checker`] sees what begin and end say and which locks are
//! taken; `check!(name(...))` in the filesystem calls the function of that name in this folder. A
//! violation is counted, for the mount and for the module, and reported in the kernel log: contract,
//! inode, byte range, place, facts; the first [`LOUD`] of each contract, then only each that doubles their
//! number. With `-o checks=error` begin fails with `EIO` where its answer is wrong. Nothing panics.
//!
//! `/sys/kernel/debug/calf/<device>/checks` has one line a check: contract, violations, what it says.
//! `/sys/kernel/debug/calf/checks` is the same since the module was loaded, or since somebody last
//! wrote to it, with the contracts that no check can see, and why. [`lies`] make checks fire.
//!
//! A check never says more than it knows: where others may change what it looks at, it looks under the
//! extent lock and compares cookies, or keeps quiet.

mod begin;
mod direct;
mod end;
mod lies;
mod locks;
mod space;
pub(crate) mod table;
mod truth;
mod writeback;

pub(crate) use begin::Checker;
pub(crate) use direct::*;
pub(crate) use space::*;
pub(crate) use writeback::*;

use crate::fs::{Inode, Sb};
use core::cell::Cell;
use core::fmt;
use kernel::debugfs::{Dir, File};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::Arc;
use kernel::uaccess::UserSliceReader;
use table::{Check, UNCHECKED};

/// Reports of one contract before they become rare.
const LOUD: u64 = 4;

/// A violation counter for every check.
pub(crate) struct Counts([Atomic<u64>; Check::COUNT]);

impl Counts {
    const fn new() -> Self {
        Self([const { Atomic::new(0) }; Check::COUNT])
    }

    /// Counts one more and returns how many that makes.
    fn add(&self, check: Check) -> u64 {
        self.0
            .get(check as usize)
            .map_or(0, |c| c.fetch_add(1, Relaxed) + 1)
    }

    fn get(&self, check: Check) -> u64 {
        self.0.get(check as usize).map_or(0, |c| c.load(Relaxed))
    }
}

// A debugfs file of the kernel crate prints the `Debug` form of what it holds.
impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &c in Check::ALL {
            writeln!(f, "{} {} {}", c.id(), self.get(c), c.says())?;
        }
        Ok(())
    }
}

/// Since the module was loaded.
static TOTAL: Counts = Counts::new();

/// What the module's file shows.
pub(crate) struct Total;

fn show(_: &Total, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{TOTAL:?}")?;
    for (id, says, why) in UNCHECKED {
        writeln!(f, "{id} - {says} (not checked: {why})")?;
    }
    Ok(())
}

fn command(_: &Total, reader: &mut UserSliceReader) -> Result {
    let mut buf = [0u8; 64];
    let len = reader.len();
    let text = buf.get_mut(..len).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    lies::tell(text.trim_ascii())?;
    for c in &TOTAL.0 {
        c.store(0, Relaxed);
    }
    Ok(())
}

fn show_mount(counts: &Arc<Counts>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:?}", &**counts)
}

/// The module's file `checks`.
pub(crate) struct TotalFile(#[expect(dead_code)] Option<Pin<KBox<File<Total>>>>);

impl TotalFile {
    /// Makes it in the module's folder, which must be there.
    pub(crate) fn new() -> Self {
        Self(crate::kapi::debugfs::root().and_then(|dir| {
            let file = dir.read_write_callback_file(c"checks", Total, &show, &command);
            KBox::pin_init(file, GFP_KERNEL).ok()
        }))
    }
}

/// The counters of a mount, and its file `checks`.
pub(crate) struct Checks {
    counts: Arc<Counts>,
    /// Begins whose end has not run.
    open: Atomic<i64>,
    _file: Option<Pin<KBox<File<Arc<Counts>>>>>,
}

impl Checks {
    /// Makes the file in the folder of the mount.
    pub(crate) fn new(dir: Option<&Dir>) -> Result<Self> {
        let counts = Arc::new(Counts::new(), GFP_KERNEL)?;
        let file = dir.map(|d| d.read_callback_file(c"checks", counts.clone(), &show_mount));
        Ok(Self {
            counts,
            open: Atomic::new(0),
            _file: file.and_then(|f| KBox::pin_init(f, GFP_KERNEL).ok()),
        })
    }
}

/// Counts a violation, and reports it unless there have been many.
fn report(
    sb: &Sb,
    check: Check,
    ino: u64,
    (start, end): (u64, u64),
    place: &str,
    facts: kernel::fmt::Arguments<'_>,
) {
    TOTAL.add(check);
    let n = sb.debug().checks().counts.add(check);
    if n <= LOUD || n.is_power_of_two() {
        sb.say(fmt!(
            "check {} violated ({}): ino {} bytes [{}, {}) at {}: {}",
            check.id(),
            n,
            ino,
            start,
            end,
            place,
            facts
        ));
    }
}

/// A place where checks are made, for one operation on a range of a file.
struct Seam<'a> {
    inode: &'a Inode,
    place: &'a str,
    start: u64,
    end: u64,
    violated: Cell<bool>,
}

impl<'a> Seam<'a> {
    /// For bytes `[start, end)`; `place` is for people.
    fn new(inode: &'a Inode, place: &'a str, start: u64, end: u64) -> Self {
        Self {
            inode,
            place,
            start,
            end,
            violated: Cell::new(false),
        }
    }

    /// Counts and reports a violation unless `kept`.
    fn demand(&self, check: Check, kept: bool, facts: kernel::fmt::Arguments<'_>) {
        if kept && !lies::turns(check) {
            return;
        }
        self.violated.set(true);
        let sb = self.inode.sb().data();
        let range = (self.start, self.end);
        report(sb, check, self.inode.ino(), range, self.place, facts);
    }

    /// `EIO` if something was wrong and the mount asks for it.
    fn result(&self) -> Result {
        if self.violated.get() && self.inode.sb().data().opts().checks_fail {
            return Err(EIO);
        }
        Ok(())
    }
}

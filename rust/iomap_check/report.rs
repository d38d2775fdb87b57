// SPDX-License-Identifier: GPL-2.0

//! Counters, and the last reports.

use crate::judge::rules::Rule;
use crate::judge::view::RequestFlags;
use crate::judge::{known, Map};
use crate::kapi::inode::InodeRef;
use crate::kapi::probe::with_irq;
use crate::kapi::symbol::{Event, Symbol};
use core::fmt;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_spinlock_irq, SpinLockIrq};

/// Reports kept.
const KEPT: usize = 64;

/// What an event was about.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) inode: InodeRef<'a>,
    /// Address of the filesystem's table of operations.
    pub(crate) ops: usize,
    /// Who called iomap's iterator; 0: unknown.
    pub(crate) caller: usize,
    /// Range in bytes.
    pub(crate) pos: i64,
    pub(crate) len: u64,
    /// Flags of the request; `None`: writeback and others that have none.
    pub(crate) flags: Option<u32>,
    pub(crate) map: Map,
    pub(crate) src: Map,
}

#[derive(Clone, Copy)]
struct Report {
    number: u64,
    rule: Rule,
    fs: [u8; 12],
    dev: (u32, u32),
    ino: u64,
    size: i64,
    ops: Symbol,
    caller: Symbol,
    pos: i64,
    len: u64,
    flags: Option<u32>,
    map: Map,
    src: Map,
    why: &'static str,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fs = self.fs.split(|b| *b == 0).next().unwrap_or(&[]);
        write!(
            f,
            "#{} {} {} fs {} dev {}:{} ino {:#x} size {:#x} ops {} caller {} range {:#x}+{:#x} flags ",
            self.number,
            self.rule,
            self.rule.severity(),
            core::str::from_utf8(fs).unwrap_or("?"),
            self.dev.0,
            self.dev.1,
            self.ino,
            self.size,
            self.ops,
            self.caller,
            self.pos,
            self.len,
        )?;
        match self.flags {
            Some(flags) => write!(f, "{}", RequestFlags(flags))?,
            None => f.write_str("-")?,
        }
        write!(f, " map {} src {}: {}", self.map, self.src, self.why)
    }
}

struct Ring {
    reports: KVec<Report>,
    /// How many there were; the next one's place follows from it.
    total: u64,
}

/// How often a rule was violated.
struct Count {
    hits: Atomic<u64>,
    masked: Atomic<u64>,
}

/// All counters and reports.
#[pin_data]
pub(crate) struct Reports {
    counts: [Count; Rule::COUNT],
    // Violations are found in interrupts, too.
    #[pin]
    ring: SpinLockIrq<Ring>,
}

impl Reports {
    /// Empty. Errors: `ENOMEM`.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            counts: core::array::from_fn(|_| Count {
                hits: Atomic::new(0),
                masked: Atomic::new(0),
            }),
            ring <- new_spinlock_irq!(Ring {
                reports: KVec::with_capacity(KEPT, GFP_KERNEL)?,
                total: 0,
            }),
        })
    }

    fn count(&self, rule: Rule) -> Option<&Count> {
        self.counts.get(rule as usize)
    }

    /// Counts a violation, and keeps a report of it unless the filesystem is known for it.
    pub(crate) fn hit(&self, rule: Rule, why: &'static str, s: &Subject<'_>) {
        let Some(count) = self.count(rule) else {
            return;
        };
        let name = s.inode.fs_name().to_bytes();
        if known::find(name, rule).is_some() {
            count.masked.fetch_add(1, Relaxed);
            return;
        }
        let earlier = count.hits.fetch_add(1, Relaxed);
        let mut fs = [0u8; 12];
        for (to, from) in fs.iter_mut().zip(name) {
            *to = *from;
        }
        let mut report = Report {
            number: 0,
            rule,
            fs,
            dev: s.inode.dev(),
            ino: s.inode.ino(),
            size: s.inode.file().size,
            ops: Symbol::of_table(s.ops),
            caller: Symbol::of(s.caller),
            pos: s.pos,
            len: s.len,
            flags: s.flags,
            map: s.map,
            src: s.src,
            why,
        };
        Event {
            inode: s.inode,
            rule: rule.c_name(),
            pos: s.pos,
            len: s.len,
            flags: s.flags.unwrap_or(0),
            why,
        }
        .fire();
        with_irq(&self.ring, |ring| {
            let at = (ring.total % KEPT as u64) as usize;
            ring.total += 1;
            report.number = ring.total;
            match ring.reports.get_mut(at) {
                Some(old) => *old = report,
                // Within the capacity, so nothing is allocated and nothing can fail.
                None => drop(ring.reports.push(report, GFP_ATOMIC)),
            }
        });
        if earlier == 0 {
            kernel::pr_warn!("{}\n", core::format_args!("{report}"));
        }
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        for c in &self.counts {
            c.hits.store(0, Relaxed);
            c.masked.store(0, Relaxed);
        }
        let mut ring = self.ring.lock();
        ring.reports.truncate(0);
        ring.total = 0;
    }

    /// Prints the reports, the oldest first.
    pub(crate) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.ring.lock().total;
        for number in total.saturating_sub(KEPT as u64)..total {
            let at = (number % KEPT as u64) as usize;
            // Copied: printing may take long.
            let report = self.ring.lock().reports.get(at).copied();
            if let Some(report) = report {
                writeln!(f, "{report}")?;
            }
        }
        Ok(())
    }

    /// Violations of `rule`: reported, masked.
    pub(crate) fn of(&self, rule: Rule) -> (u64, u64) {
        self.count(rule)
            .map_or((0, 0), |c| (c.hits.load(Relaxed), c.masked.load(Relaxed)))
    }
}

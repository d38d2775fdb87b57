// SPDX-License-Identifier: GPL-2.0

//! What happens when an event comes: look, judge, report.

use crate::judge::rules::{Point, Rule};
use crate::judge::sequence::{unused_reservation, Operation};
use crate::judge::view::request_flag as req;
use crate::judge::writeback::is_odd_error;
use crate::judge::{begin, writeback, Map, Request};
use crate::kapi::hooks::{DirectIo, Hooks};
use crate::kapi::inode::InodeRef;
use crate::kapi::iter::{IterRef, Writeback};
use crate::kapi::probe::{in_task, Function, Probed};
use crate::oracle::Oracle;
use crate::report::{Reports, Subject};
use crate::table::Table;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::task::Task;

/// What is known of a task.
#[derive(Clone, Copy, Default)]
struct Doing {
    /// Inode of the last direct I/O, and whether it is synchronous.
    dio: (usize, bool),
    /// Iterator of the last call of `iomap_iter`, and where that came from, with kprobes.
    call: (usize, usize),
    /// A reservation that must be given back before `iomap_iter` returns.
    owed: Option<Owed>,
}

#[derive(Clone, Copy)]
struct Owed {
    iter: usize,
    inode: usize,
    op: Operation,
    request: Request,
    range: (i64, i64),
}

/// Events seen.
pub(crate) struct Seen {
    pub(crate) iters: Atomic<u64>,
    pub(crate) begins: Atomic<u64>,
    pub(crate) writebacks: Atomic<u64>,
    pub(crate) probes: Atomic<u64>,
}

/// The state of the module.
#[pin_data]
pub(crate) struct Checker {
    #[pin]
    pub(crate) reports: Reports,
    /// Rules for directed tests.
    #[pin]
    pub(crate) oracle: Oracle,
    pub(crate) seen: Seen,
    /// Only this device (`dev_t` as in the kernel); 0: all.
    pub(crate) only: Atomic<u32>,
    /// There are kprobes.
    pub(crate) probed: Atomic<bool>,
    operations: Table<Operation>,
    tasks: Table<Doing>,
    /// Filesystems, by device, that write back or write through iomap.
    writers: Table<bool>,
}

fn me() -> usize {
    Task::current_raw() as usize
}

/// The filesystem of the file, as the key of a table: never 0.
fn fs_key(inode: &InodeRef<'_>) -> usize {
    let (major, minor) = inode.dev();
    // What the table hashes are addresses, whose low bits say nothing.
    ((major << 20 | minor) as usize) << 3 | 1
}

fn subject<'a>(inode: InodeRef<'a>, op: &Operation, r: &Request) -> Subject<'a> {
    Subject {
        inode,
        ops: op.ops,
        caller: op.caller,
        pos: r.pos,
        len: r.len,
        flags: Some(r.flags),
        map: r.map,
        src: r.src,
    }
}

/// An event without request and mapping.
fn plain(inode: InodeRef<'_>, pos: i64, len: u64) -> Subject<'_> {
    Subject {
        inode,
        ops: 0,
        caller: 0,
        pos,
        len,
        flags: None,
        map: Map::default(),
        src: Map::default(),
    }
}

impl Checker {
    /// Nothing seen, nothing filtered. Errors: `ENOMEM`.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            reports <- Reports::new(),
            oracle <- Oracle::new(),
            seen: Seen {
                iters: Atomic::new(0),
                begins: Atomic::new(0),
                writebacks: Atomic::new(0),
                probes: Atomic::new(0),
            },
            only: Atomic::new(0),
            probed: Atomic::new(false),
            operations: Table::new()?,
            tasks: Table::new()?,
            writers: Table::new()?,
        })
    }

    /// Is the file on a device that is looked at?
    fn wanted(&self, inode: &InodeRef<'_>) -> bool {
        let only = self.only.load(Relaxed);
        let (major, minor) = inode.dev();
        only == 0 || only == (major << 20 | minor)
    }

    /// Remembers that the filesystem of the file writes through iomap.
    fn writes(&self, inode: &InodeRef<'_>) {
        self.writers.with(fs_key(inode), |w| *w = true);
    }

    /// Can the rule fire on this kernel?
    pub(crate) fn is_on(&self, rule: Rule) -> bool {
        match rule.point() {
            Point::Probe => self.probed.load(Relaxed),
            Point::Oracle => self.oracle.is_on(),
            _ => true,
        }
    }

    fn hit_plain(&self, rule: Rule, why: &'static str, inode: InodeRef<'_>) {
        self.reports.hit(rule, why, &plain(inode, 0, 0));
    }

    fn hit_each(&self, hits: &[Option<(Rule, &'static str)>], s: &Subject<'_>) {
        for (rule, why) in hits.iter().flatten() {
            self.reports.hit(*rule, why, s);
        }
    }
}

impl Hooks for Checker {
    fn iter(&self, iter: IterRef<'_>, ops: usize, caller: usize) {
        let Some(inode) = iter.inode().filter(|i| self.wanted(i)) else {
            return;
        };
        self.seen.iters.fetch_add(1, Relaxed);
        let caller = match self.tasks.get(me()) {
            Some(t) if t.call.0 == iter.key() && t.call.1 != 0 => t.call.1,
            _ => caller,
        };
        let r = iter.request();
        let mut broken = None;
        let op = self.operations.with(iter.key(), |op| {
            op.enter(&r, ops, caller, &mut |rule, why| broken = Some((rule, why)));
            *op
        });
        if let Some((rule, why)) = broken {
            self.reports.hit(rule, why, &subject(inode, &op, &r));
        }
        if !self.probed.load(Relaxed) {
            return;
        }
        if let Some(range) = unused_reservation(&r, &inode.file()) {
            self.tasks.with(me(), |t| {
                t.owed = Some(Owed {
                    iter: iter.key(),
                    inode: inode.key(),
                    op,
                    request: r,
                    range,
                });
            });
        }
    }

    fn dstmap(&self, iter: IterRef<'_>) {
        let Some(inode) = iter.inode().filter(|i| self.wanted(i)) else {
            return;
        };
        self.seen.begins.fetch_add(1, Relaxed);
        let mut r = iter.request();
        if r.has(req::WRITE) {
            self.writes(&inode);
        }
        if r.has(req::DIRECT | req::WRITE) {
            let dio = self.tasks.get(me()).map_or((0, false), |t| t.dio);
            r.dsync = dio == (inode.key(), true);
        }
        // No report from under the table's lock: at most these two rules look at the sequence.
        let mut broken = [None; 2];
        let (op, first) = self.operations.with(iter.key(), |op| {
            let first = op.rounds == 0;
            let mut slots = broken.iter_mut();
            op.begun(&r, &mut |rule, why| {
                if let Some(slot) = slots.next() {
                    *slot = Some((rule, why));
                }
            });
            (*op, first)
        });
        let s = subject(inode, &op, &r);
        begin::judge(&r, &inode.file(), first, &mut |rule, why| {
            self.reports.hit(rule, why, &s)
        });
        let told = self
            .oracle
            .tell(|o, hear| o.mapping(&r, &Oracle::subject(&inode), hear));
        self.hit_each(&broken, &s);
        self.hit_each(&told, &s);
    }

    fn writeback(&self, wb: Writeback<'_>) {
        if !self.wanted(&wb.inode) {
            return;
        }
        self.seen.writebacks.fetch_add(1, Relaxed);
        self.writes(&wb.inode);
        let s = Subject {
            inode: wb.inode,
            ops: wb.ops,
            caller: 0,
            pos: wb.pos,
            len: wb.len,
            flags: None,
            map: wb.map,
            src: Map::default(),
        };
        writeback::judge(&wb.map, wb.pos, &wb.inode.file(), &mut |rule, why| {
            self.reports.hit(rule, why, &s)
        });
        let told = self.oracle.tell(|o, hear| {
            let of = Oracle::subject(&wb.inode);
            o.writeback(&wb.map, wb.pos, wb.len, &of, hear)
        });
        self.hit_each(&told, &s);
    }

    fn writeback_failed(&self, inode: InodeRef<'_>, errno: i32) {
        if !self.wanted(&inode) {
            return;
        }
        self.oracle.tell(|o, _| o.writeback_failed(inode.id()));
        // Every filesystem says here that it lost data, those that have nothing to do with iomap too. In an interrupt it
        // is what the device said, and the table must be left alone.
        if is_odd_error(errno) && in_task() && self.writers.get(fs_key(&inode)).is_some() {
            self.hit_plain(
                Rule::G28,
                "writeback lost data for no reason of the device",
                inode,
            );
        }
    }

    fn dio_begin(&self, dio: DirectIo<'_>) {
        let inode = dio.inode;
        if !self.wanted(&inode) {
            return;
        }
        self.tasks.with(me(), |t| t.dio = (inode.key(), dio.dsync));
        if !dio.writes {
            return;
        }
        let told = self
            .oracle
            .tell(|o, hear| o.direct_begins(dio.direct, &Oracle::subject(&inode), hear));
        self.hit_each(&told, &plain(inode, dio.direct.pos, dio.direct.asked));
    }

    fn dio_end(&self, iocb: usize, ret: i64) {
        self.oracle.tell(|o, _| o.direct_ends(iocb, ret));
    }

    fn writeback_ended(&self, inode: InodeRef<'_>) {
        self.oracle.tell(|o, _| o.writeback_ended(inode.id()));
    }
}

impl Probed for Checker {
    fn iter_called(&self, iter: IterRef<'_>, caller: usize) {
        self.tasks.with(me(), |t| t.call = (iter.key(), caller));
    }

    fn iter_returns(&self, iter: IterRef<'_>, ret: i64) {
        let Some(inode) = iter.inode().filter(|i| self.wanted(i)) else {
            return;
        };
        self.seen.probes.fetch_add(1, Relaxed);
        let owed = self
            .tasks
            .with(me(), |t| t.owed.take_if(|o| o.iter == iter.key()));
        if let Some(owed) = owed {
            let s = Subject {
                pos: owed.range.0,
                len: (owed.range.1 - owed.range.0) as u64,
                ..subject(inode, &owed.op, &owed.request)
            };
            self.reports
                .hit(Rule::G16, "a reservation was not given back", &s);
        }
        if ret <= 0 {
            self.operations.take(iter.key());
        }
    }

    fn entered(&self, function: Function, inode: InodeRef<'_>) {
        if !self.wanted(&inode) {
            return;
        }
        self.seen.probes.fetch_add(1, Relaxed);
        match function {
            Function::DelallocRelease => {
                self.tasks.with(me(), |t| {
                    t.owed.take_if(|o| o.inode == inode.key());
                });
                if !inode.invalidate_held_write() {
                    self.hit_plain(Rule::G17, "released without invalidate_lock", inode);
                }
            }
            Function::Unshare | Function::ZeroRange => {
                if !inode.lock_held() {
                    self.hit_plain(Rule::G17b, "unshare or zeroing without i_rwsem", inode);
                }
                if !inode.invalidate_held_write() {
                    self.hit_plain(
                        Rule::G17b,
                        "unshare or zeroing without invalidate_lock",
                        inode,
                    );
                }
            }
            Function::PageMkwrite => {
                if !inode.invalidate_held() {
                    self.hit_plain(Rule::G17b, "a write fault without invalidate_lock", inode);
                }
            }
            Function::BufferedWrite => {
                if !inode.lock_held() {
                    self.hit_plain(Rule::G17b, "a buffered write without i_rwsem", inode);
                }
            }
        }
    }
}

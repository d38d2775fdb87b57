// SPDX-License-Identifier: GPL-2.0

//! Seed 003: a reservation is punched without `invalidate_lock`. Between the scan for dirty folios
//! and the punch a write fault makes a folio dirty over the reservation that is still there; the
//! punch takes it away; writeback finds a hole and drops the data, and fsync says 0.
//!
//! With the lock the fault waits until the punch is done, and makes a reservation of its own.

use crate::case::{cold_byte, show, Case, Outcome, Special};
use crate::frame::{window_missed, Stage};
use crate::full_disk::take_all;
use crate::short_write::{cache_page, left_over, write_held, ASKED};
use calf_vmlib::error::Context;
use calf_vmlib::gate::{is_blocked, until};
use calf_vmlib::sys::Map;
use calf_vmlib::Result;
use rustix::io::Errno;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// `lockdep_assert_held_write(&inode->i_mapping->invalidate_lock)` in `iomap_write_delalloc_release` of
/// Linux 7.3.4.
pub const WARN_PUNCH_UNLOCKED: &str = "fs/iomap/buffered-io.c:1518";

/// The reproducer of the form with `iomap_write_delalloc_release`.
pub const CASE: Special = asserted(Case {
    name: "punch_nolock",
    contract: "C-PUNCH-LOCK",
    summary: "a store through mmap is lost, and fsync succeeds",
    options: "",
    run,
});

/// The reproducer of the form with `truncate_pagecache_range`.
pub const LEGACY: Case = Case {
    name: "punch_nolock_legacy",
    contract: "C-PUNCH-LOCK",
    summary: "the same in the form before 6.2",
    options: "",
    run,
};

/// The reproducer over shared blocks, on a disk that is full afterwards.
pub const ENOSPC: Special = asserted(Case {
    name: "punch_nolock_enospc",
    contract: "C-PUNCH-LOCK",
    summary: "a store that had space promised fails at fsync with ENOSPC",
    options: "",
    run: run_enospc,
});

/// A switch that calls the core's helper without the lock that the helper asserts.
const fn asserted(case: Case) -> Special {
    Special {
        case,
        junk: false,
        warn: None,
        lockdep: Some(WARN_PUNCH_UNLOCKED),
    }
}

const STORE: usize = 512 << 10;

/// A short write, and a store through mmap while its reservation is about to be punched. Returns whether
/// the store had to wait.
fn race(stage: &Stage, f: &File) -> Result<bool> {
    let gate = stage.gate("punch")?;
    let (tid, stored) = (AtomicI32::new(0), AtomicBool::new(false));
    let mut blocked = false;
    std::thread::scope(|s| -> Result {
        let mut store = None;
        let (tid, stored) = (&tid, &stored);
        write_held(f, &gate, || {
            let map = Map::new(f, 0, ASKED).ctx("mmap")?;
            store = Some(s.spawn(move || {
                tid.store(
                    rustix::thread::gettid().as_raw_nonzero().get(),
                    Ordering::SeqCst,
                );
                map.write(STORE, b"M");
                stored.store(true, Ordering::SeqCst);
            }));
            // Either the store is done, or it waits for the lock: nothing else can happen.
            until("the store", || {
                let t = tid.load(Ordering::SeqCst);
                blocked = t != 0 && is_blocked(t) && !stored.load(Ordering::SeqCst);
                blocked || stored.load(Ordering::SeqCst)
            })?;
            gate.release()
        })?;
        match store {
            Some(t) => t.join().map_err(|_| window_missed("the store died")),
            None => Err(window_missed("no store")),
        }
    })?;
    Ok(blocked)
}

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.file("f")?;
    f.set_len(ASKED as u64).ctx("truncate")?;
    f.sync_all().ctx("fsync")?;
    let blocked = race(stage, &f)?;
    let left = left_over(stage, &f)?;
    let cold = cold_byte(&f, STORE as u64)?;
    Ok(Outcome {
        correct: blocked && cold == b'M' && left == 0,
        bug: !blocked && cold == 0 && left == 0,
        observed: format!("fsync 0, the store reads {}", show(cold)),
        facts: format!("fault_waited={blocked} cold={cold:#x} reserved={left}"),
    })
}

fn run_enospc(stage: &mut Stage) -> Result<Outcome> {
    let a = stage.filled("a", b'o', ASKED as u64)?;
    let f = stage.cloned("f", &a)?;
    calf_vmlib::fs::drop_caches()?;
    // So that the store has nothing to wait for but the lock: a slow disk looks the same.
    cache_page(&f, STORE as u64)?;
    let blocked = race(stage, &f)?;
    take_all(stage)?;
    let synced = f.sync_all().err().and_then(|e| e.raw_os_error());
    let cold = cold_byte(&f, STORE as u64)?;
    let source = cold_byte(&a, STORE as u64)?;
    let full = synced == Some(Errno::NOSPC.raw_os_error());
    Ok(Outcome {
        correct: blocked && synced.is_none() && cold == b'M' && source == b'o',
        bug: !blocked && full && cold == b'o' && source == b'o',
        observed: format!("fsync: ENOSPC, the store reads {}", show(cold)),
        facts: format!("fault_waited={blocked} fsync={synced:?} cold={cold:#x} source={source:#x}"),
    })
}

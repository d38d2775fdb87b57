// SPDX-License-Identifier: GPL-2.0

//! What a truncation has cut off does not come back: not after a crash, not when it failed half way.

use calf_vmlib::fault::Faults;
use calf_vmlib::file::{
    check_pattern, check_zero, clone_range, fallocate, open, open_direct, open_with, patterned,
    write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_block_size, with_fs, Mounted};
use calf_vmlib::sys::vfs::{shutdown, Shutdown};
use calf_vmlib::sys::{Aligned, O_DIRECT, O_DSYNC};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

/// What a truncation has cut off does not come back with the size of a later write, when everything stops before
/// the rest of its block is written.
fn cut_tail_stays_cut(env: &Env) -> Result {
    const KEPT: u64 = 100;
    each_block_size(env, |m| {
        let bs = m.space()?.bsize;
        for direct in [false, true] {
            let name = format!("f{direct}");
            let f = open(&m.path(&name))?;
            write_pattern(&f, 1, 0, 2 * bs)?;
            f.sync_all()?;
            f.set_len(KEPT).ctx("truncate")?;
            let flags = if direct { O_DIRECT } else { 0 };
            let past = open_with(&m.path(&name), O_DSYNC | flags)?;
            let buf = Aligned::from(&patterned(2, 4 * bs, bs as usize));
            past.write_all_at(&buf, 4 * bs).ctx("write")?;
            drop((f, past));
            shutdown(&File::open(&m.mnt)?, Shutdown::NoFlush).ctx("shutdown")?;
            m.cycle()?;
            let f = open(&m.path(&name))?;
            ensure_eq!(f.metadata()?.len(), 5 * bs, "size");
            check_pattern(&f, 1, 0, KEPT)?;
            check_zero(&f, KEPT, 4 * bs - KEPT)?;
            check_pattern(&f, 2, 4 * bs, bs)?;
        }
        Ok(())
    })
}

/// A truncation fails at what it cannot read. Either nothing has changed, or the file has the new size, and
/// what was past it does not come back with whatever makes it larger again.
fn cut_where_nothing_can_be_read(env: &Env) -> Result {
    const EXTENTS: u64 = 1000;
    type Grow = fn(&Mounted, &File, u64) -> Result;
    let grow: [(&str, Grow); 5] = [
        ("write", |_, f, end| write_pattern(f, 2, end - 512, 512)),
        ("direct", |m, _, end| {
            let f = open_direct(&m.path("direct"))?;
            write_direct(&f, 2, end - 4096, 4096)
        }),
        ("truncate", |_, f, end| f.set_len(end).ctx("truncate")),
        ("fallocate", |_, f, end| {
            fallocate(f, FallocateFlags::empty(), end - 4096, 4096)
        }),
        ("clone", |m, f, end| {
            let source = open(&m.path("source"))?;
            write_pattern(&source, 2, 0, 4096)?;
            clone_range(f, &source, 0, 4096, end - 4096)
        }),
    ];
    let (before, after) = (Cell::new(0), Cell::new(0));
    for read_before in [false, true] {
        with_fs(env, &[], "", |m| {
            let at = |i: u64| i * 8192;
            for (name, _) in grow {
                let f = open(&m.path(name))?;
                for i in 0..EXTENTS {
                    write_pattern(&f, 1, at(i), 512)?;
                }
            }
            m.cycle()?;
            let disk = m.dev.file_name().unwrap_or_default().to_string_lossy();
            let faults = Faults::new(&disk)?;
            for (name, grow) in grow {
                let f = open(&m.path(name))?;
                let old = f.metadata()?.len();
                if read_before {
                    // The first node of its extents is in memory now, the others are not.
                    check_pattern(&f, 1, 0, 512)?;
                }
                let cut = {
                    let _nothing = faults.all_requests()?;
                    f.set_len(512)
                };
                ensure_errno!(cut, Errno::IO, "truncate");
                let len = f.metadata()?.len();
                if len == old {
                    before.set(before.get() + 1);
                    for i in 0..EXTENTS {
                        check_pattern(&f, 1, at(i), 512)?;
                    }
                    continue;
                }
                after.set(after.get() + 1);
                ensure_eq!(len, 512, "{name}: size after the failure");
                // Also when nobody has it in memory any more.
                drop(f);
                drop_caches()?;
                let f = open(&m.path(name))?;
                let end = at(EXTENTS);
                grow(m, &f, end)?;
                ensure_eq!(f.metadata()?.len(), end, "{name}: size");
                check_pattern(&f, 1, 0, 512)?;
                check_zero(&f, 512, end - 4096 - 512).ctx(format!("grown by {name}"))?;
            }
            drop(faults);
            m.cycle()
        })?;
    }
    let (before, after) = (before.get(), after.get());
    ensure!(
        before > 0 && after > 0,
        "failed {before} times before the size changed, {after} times after it"
    );
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    ktap::run(
        &env,
        cases![cut_tail_stays_cut, cut_where_nothing_can_be_read],
        |_| {},
    )
}

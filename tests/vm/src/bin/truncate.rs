// SPDX-License-Identifier: GPL-2.0

//! What a truncation has cut off does not come back: not after a crash, not when it failed half way.

use calf_vmlib::fault::Faults;
use calf_vmlib::file::{
    check_pattern, check_zero, clone_range, fallocate, open, open_direct, open_with, patterned,
    read_at, write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_block_size, with_fs, Mounted};
use calf_vmlib::sys::{freeze, sync_range, thaw, Aligned, Map, O_DIRECT, O_DSYNC};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::{linkat, openat, AtFlags, FallocateFlags, Mode, OFlags, CWD};
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::ExitCode;

/// The size of what is left.
const KEPT: u64 = 100;

/// What a truncation has cut off does not come back with the size of a later write, when everything stops before
/// the rest of its block is written.
fn cut_tail_stays_cut(env: &Env) -> Result {
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
            m.crash()?;
            let f = open(&m.path(&name))?;
            ensure_eq!(f.metadata()?.len(), 5 * bs, "size");
            check_pattern(&f, 1, 0, KEPT)?;
            check_zero(&f, KEPT, 4 * bs - KEPT)?;
            check_pattern(&f, 2, 4 * bs, bs)?;
        }
        Ok(())
    })
}

/// The same when the file grows by an append to what is left, and the size on disk passes that by: with a direct write, with
/// the writeback of later pages, with a clone.
fn cut_tail_stays_cut_when_appended(env: &Env) -> Result {
    for way in ["direct", "writeback", "clone"] {
        each_block_size(env, |m| {
            let bs = m.space()?.bsize;
            let f = open(&m.path("f"))?;
            write_pattern(&f, 1, 0, 2 * bs)?;
            let other = open(&m.path("other"))?;
            write_pattern(&other, 2, 0, 8 * bs)?;
            m.sync()?;
            f.set_len(KEPT).ctx("truncate")?;
            write_pattern(&f, 3, KEPT, 4 * bs - KEPT)?;
            match way {
                "direct" => {
                    let past = open_with(&m.path("f"), O_DSYNC | O_DIRECT)?;
                    write_direct(&past, 2, 4 * bs, bs as usize)?;
                }
                "writeback" => sync_range(&f, bs, 3 * bs).ctx("sync_file_range")?,
                _ => clone_range(&f, &other, 4 * bs, bs, 4 * bs)?,
            }
            // Commits the size.
            other.set_len(0)?;
            other.sync_all()?;
            drop((f, other));
            m.crash()?;
            let f = open(&m.path("f"))?;
            let len = f.metadata()?.len().min(bs) as usize;
            let have = read_at(&f, 0, len)?;
            ensure!(
                have.starts_with(&patterned(1, 0, KEPT as usize)),
                "{way}: what was kept is lost"
            );
            let (tail, kept) = (&have[KEPT as usize..], KEPT);
            let appended = patterned(3, kept, tail.len());
            ensure!(
                tail == appended || tail.iter().all(|b| *b == 0),
                "{way}: {len} bytes of the first block, and the rest is neither zeros nor what was appended"
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// The same over two crashes: only the size has reached the disk before the first.
fn cut_tail_stays_cut_after_a_crash(env: &Env) -> Result {
    each_block_size(env, |m| {
        let bs = m.space()?.bsize;
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, 2 * bs)?;
        f.sync_all()?;
        f.set_len(KEPT).ctx("truncate")?;
        open(&m.path("other"))?.sync_all()?;
        drop(f);
        m.crash()?;
        let f = open(&m.path("f"))?;
        ensure_eq!(f.metadata()?.len(), KEPT, "size");
        {
            let map = Map::new(&f, 0, 4096).ctx("mmap")?;
            let mut rest = vec![1; 4096 - KEPT as usize];
            map.read(KEPT as usize, &mut rest);
            ensure!(rest.iter().all(|b| *b == 0), "behind EOF in a mapping");
        }
        let past = open_with(&m.path("f"), O_DSYNC | O_DIRECT)?;
        write_direct(&past, 2, 4 * bs, bs as usize)?;
        drop((f, past));
        m.crash()?;
        let f = open(&m.path("f"))?;
        ensure_eq!(f.metadata()?.len(), 5 * bs, "size");
        check_pattern(&f, 1, 0, KEPT)?;
        check_zero(&f, KEPT, 4 * bs - KEPT)
    })
}

/// A file without a name is cut off half way, and gets a name then: what was past its new size does not come back.
fn cut_without_a_name(env: &Env) -> Result {
    const EXTENTS: u64 = 1000;
    with_fs(env, &[], "", |m| {
        let at = |i: u64| i * 8192;
        let (flags, mode) = (OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o640));
        let f = File::from(openat(CWD, &m.mnt, flags, mode).ctx("O_TMPFILE")?);
        for i in 0..EXTENTS {
            write_pattern(&f, 1, at(i), 512)?;
        }
        f.sync_all()?;
        // The journal must not keep the nodes in memory.
        freeze(&m.dir()?).ctx("freeze")?;
        thaw(&m.dir()?).ctx("thaw")?;
        drop_caches()?;
        // The tree of orphans and the first node of the extents are in memory, the others are not.
        drop(open(&m.path("x"))?);
        std::fs::remove_file(m.path("x"))?;
        check_pattern(&f, 1, 0, 512)?;
        let faults = Faults::new(&m.bdev())?;
        let cut = {
            let _nothing = faults.all_requests()?;
            f.set_len(4096)
        };
        drop(faults);
        ensure_errno!(cut, Errno::IO, "truncate");
        ensure_eq!(f.metadata()?.len(), 4096, "size after the failure");
        linkat(&f, "", CWD, m.path("named"), AtFlags::EMPTY_PATH).ctx("linkat")?;
        f.set_len(at(EXTENTS))?;
        check_pattern(&f, 1, 0, 512)?;
        check_zero(&f, 512, at(EXTENTS) - 512)
    })
}

/// A truncation fails at what it cannot read. Either nothing has changed, or the file has the new size, and
/// what was past it does not come back with whatever makes it larger again.
fn cut_where_nothing_can_be_read(env: &Env) -> Result {
    const EXTENTS: u64 = 1000;
    type Grow = fn(&Mounted, &File, u64) -> Result;
    let grow: [(&str, Grow); 6] = [
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
        ("append", |m, f, end| {
            f.write_all_at(&[0; 8192], f.metadata()?.len())
                .ctx("write")?;
            m.sync()?;
            let blocks = f.metadata()?.blocks();
            ensure!(
                blocks < 64,
                "{blocks} sectors of what was cut off and what is new"
            );
            f.set_len(end).ctx("truncate")
        }),
    ];
    let (before, after) = (Cell::new(0), Cell::new(0));
    // Where the rest of a block is cleared first, and where it is not.
    for (to, read_before) in [(512, false), (512, true), (4096, false), (4096, true)] {
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
                    f.set_len(to)
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
                ensure_eq!(len, to, "{name}: size after the failure");
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
        cases![
            cut_tail_stays_cut,
            cut_tail_stays_cut_when_appended,
            cut_tail_stays_cut_after_a_crash,
            cut_where_nothing_can_be_read,
            cut_without_a_name,
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! A full disk: what was accepted is kept, and when all is deleted the free count is what it was.

#[path = "../enospc/refused.rs"]
mod refused;

use calf_vmlib::fault::Faults;
use calf_vmlib::file::{
    self, check_pattern, check_zero, clone_file, clone_range, fallocate, open, open_direct,
    patterned, punch, write_direct, write_pattern,
};
use calf_vmlib::fs::{self as cfs, drop_caches, Mounted};
use calf_vmlib::sys::{Loop, Map};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Result};
use refused::{
    a_new_name_has_data_written, a_refused_write_moves_no_end, a_write_that_faults_moves_no_end,
    many_remove_at_once,
};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Bytes of the filesystem: small, so that it fills quickly.
const SIZE: u64 = 96 << 20;

fn is_enospc(e: &std::io::Error) -> bool {
    e.raw_os_error() == Some(Errno::NOSPC.raw_os_error())
}

fn small_fs(env: &Env, bs: &str, f: impl FnOnce(&mut Mounted) -> Result) -> Result {
    fs_of(env, SIZE, bs, f)
}

fn fs_of(env: &Env, size: u64, bs: &str, f: impl FnOnce(&mut Mounted) -> Result) -> Result {
    let small = Loop::new(&env.dev, size).ctx("loop device")?;
    cfs::mkfs(env, &small.path, &["-b", bs])?;
    let mut m = Mounted::new(&small.path, &env.mnt, "")?;
    let outcome = ktap::guarded(|| f(&mut m));
    m.umount()?;
    drop(m);
    outcome?;
    cfs::fsck(env, &small.path)
}

/// Deletes everything and waits for the free count to come back.
fn all_is_back(m: &mut Mounted, start: u64) -> Result {
    for e in std::fs::read_dir(&m.mnt)? {
        std::fs::remove_file(e?.path()).ctx("unlink on a full disk")?;
    }
    m.sync()?;
    // Evicted inodes and a commit may need an instant.
    let until = Instant::now() + Duration::from_secs(3);
    while m.space()?.free < start && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
        m.sync()?;
    }
    let live = m.space()?.free;
    m.cycle()?;
    let end = m.space()?.free;
    ensure_eq!(end, start, "free blocks after a remount ({live} before it)");
    ensure_eq!(live, start, "free blocks");
    Ok(())
}

/// Free blocks of a filesystem on which files have come and gone: the tree of inodes has its
/// nodes, which stay.
fn start(m: &mut Mounted) -> Result<u64> {
    for i in 0..10 {
        write_pattern(&open(&m.path(&format!("warm-{i}")))?, 1, 0, 10_000)?;
    }
    m.sync()?;
    for i in 0..10 {
        std::fs::remove_file(m.path(&format!("warm-{i}")))?;
    }
    m.sync()?;
    m.cycle()?;
    Ok(m.space()?.free)
}

/// [`file::fill`] into a file of the filesystem.
fn fill(m: &Mounted, name: &str, seed: u64) -> Result<u64> {
    file::fill(&m.path(name), seed)
}

fn buffered(env: &Env) -> Result {
    for bs in ["4096", "1024"] {
        small_fs(env, bs, |m| {
            let free = start(m)?;
            let len = fill(m, "full", 1)?;
            ktap::note(&format!(
                "block size {bs}: {free} free blocks took {len} bytes"
            ));
            ensure!(len > 32 << 20, "only {len} bytes were accepted");
            // Accepted means kept: nothing may fail later for lack of space.
            open(&m.path("full"))?
                .sync_all()
                .ctx("fsync of accepted data")?;
            drop_caches()?;
            check_pattern(&open(&m.path("full"))?, 1, 0, len)?;
            let left = m.space()?.free;
            ktap::note(&format!(
                "{left} blocks are left free, {} available",
                m.space()?.avail
            ));
            m.cycle()?;
            check_pattern(&open(&m.path("full"))?, 1, 0, len)?;
            all_is_back(m, free)
        })?;
    }
    Ok(())
}

fn many_small_files(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        let mut n = 0u64;
        loop {
            let p = m.path(&format!("f{n}"));
            let full = |e: &calf_vmlib::Fail| e.errno == Some(Errno::NOSPC.raw_os_error());
            match open(&p).and_then(|f| write_pattern(&f, n, 0, 3000)) {
                Ok(()) => n += 1,
                Err(e) if full(&e) => break,
                Err(e) => return Err(e),
            }
        }
        ktap::note(&format!("{n} files of 3000 bytes"));
        ensure!(n > 5000, "only {n} files");
        m.sync()?;
        m.cycle()?;
        for i in 0..n {
            check_pattern(&open(&m.path(&format!("f{i}")))?, i, 0, 3000).ctx(i)?;
        }
        all_is_back(m, free).or_else(|e| {
            // A tree that had thousands of records may keep an inner node.
            let now = m.space()?.free;
            if free.abs_diff(now) <= 4 {
                Ok(())
            } else {
                Err(e)
            }
        })
    })
}

fn mapped(env: &Env) -> Result {
    for bs in ["4096", "1024"] {
        small_fs(env, bs, |m| {
            let free = start(m)?;
            // Leave a little space, then dirty holes by map as far as it goes. A page that cannot
            // be backed kills with SIGBUS, so that a child does it.
            let len = fill(m, "full", 1)?;
            open(&m.path("full"))?.set_len(len - (2 << 20))?;
            m.sync()?;
            let f = open(&m.path("map"))?;
            f.set_len(8 << 20)?;
            let exe = std::env::current_exe()?;
            let out = std::process::Command::new(exe)
                .arg("--map-child")
                .arg(m.path("map"))
                .output()
                .ctx("child")?;
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            let done = text
                .lines()
                .filter_map(|l| l.parse::<u64>().ok())
                .next_back()
                .unwrap_or(0);
            ktap::note(&format!(
                "block size {bs}: {done} bytes by map, child {}",
                out.status
            ));
            ensure!(done >= 1 << 20, "only {done} bytes by map");
            ensure!(!out.status.success(), "8 MiB fitted into 2 MiB");
            f.sync_all().ctx("fsync of mapped data")?;
            drop_caches()?;
            check_pattern(&f, 7, 0, done)?;
            drop(f);
            all_is_back(m, free)
        })?;
    }
    Ok(())
}

fn map_child(path: &std::path::Path) -> Result {
    use std::io::Write;
    let f = open(path)?;
    let map = Map::new(&f, 0, 8 << 20)?;
    let mut out = std::io::stdout().lock();
    for at in (0..8usize << 20).step_by(4096) {
        map.write(at, &patterned(7, at as u64, 4096));
        writeln!(out, "{}", at + 4096)?;
        out.flush()?;
    }
    Ok(())
}

fn unwritten_blocks_on_a_full_disk(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        let f = open(&m.path("pre"))?;
        fallocate(&f, FallocateFlags::empty(), 0, 8 << 20)?;
        m.sync()?;
        fill(m, "full", 1)?;
        m.sync()?;
        fill(m, "full2", 2)?;
        m.sync()?;
        // However the mapping tree splits: that is what preallocation is for.
        for i in (0..8u64 << 10).step_by(2) {
            f.write_all_at(&patterned(3, i * 1024, 1024), i * 1024)
                .ctx(format!("block {i}"))?;
        }
        f.sync_all().ctx("fsync of preallocated blocks")?;
        drop_caches()?;
        for i in (0..8u64 << 10).step_by(2) {
            check_pattern(&f, 3, i * 1024, 1024)?;
        }
        drop(f);
        all_is_back(m, free)
    })
}

/// The same past EOF, where no block may be written before the file is there.
fn unwritten_blocks_past_the_end_on_a_full_disk(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        let f = open(&m.path("pre"))?;
        fallocate(&f, FallocateFlags::KEEP_SIZE, 0, 32 << 20)?;
        m.sync()?;
        fill(m, "full", 1)?;
        m.sync()?;
        fill(m, "full2", 2)?;
        m.sync()?;
        // Half of them when the tree has got all blocks that it can.
        let blocks = 10 << 10;
        for i in (0..blocks).step_by(2) {
            f.write_all_at(&patterned(3, i * 1024, 1024), i * 1024)
                .ctx(format!("block {i}"))?;
        }
        f.sync_all().ctx("fsync of preallocated blocks")?;
        drop(f);
        m.crash()?;
        m.umount()?;
        cfs::fsck(env, &m.dev)?;
        m.mount()?;
        let f = open(&m.path("pre"))?;
        ensure_eq!(f.metadata()?.len(), (blocks - 1) * 1024, "size");
        for i in (0..blocks - 1).step_by(2) {
            check_pattern(&f, 3, i * 1024, 1024)?;
            check_zero(&f, (i + 1) * 1024, if i + 2 < blocks { 1024 } else { 0 })?;
        }
        drop(f);
        all_is_back(m, free)
    })
}

/// Written directly, one by one: as through the page cache.
fn unwritten_blocks_directly_on_a_full_disk(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        let f = open_direct(&m.path("pre"))?;
        fallocate(&f, FallocateFlags::empty(), 0, 8 << 20)?;
        m.sync()?;
        fill(m, "full", 1)?;
        m.sync()?;
        fill(m, "full2", 2)?;
        m.sync()?;
        for i in (0..8u64 << 10).step_by(2) {
            write_direct(&f, 3, i * 1024, 1024).ctx(format!("block {i}"))?;
        }
        f.sync_all().ctx("fsync of preallocated blocks")?;
        for i in (0..8u64 << 10).step_by(2) {
            check_pattern(&open(&m.path("pre"))?, 3, i * 1024, 1024)?;
        }
        drop(f);
        all_is_back(m, free)
    })
}

/// The same by map: a store whose page cannot be made writable kills with SIGBUS.
fn unwritten_pages_on_a_full_disk(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        let f = open(&m.path("pre"))?;
        fallocate(&f, FallocateFlags::empty(), 0, 32 << 20)?;
        m.sync()?;
        fill(m, "full", 1)?;
        m.sync()?;
        fill(m, "full2", 2)?;
        m.sync()?;
        let exe = std::env::current_exe()?;
        let status = std::process::Command::new(exe)
            .arg("--store-child")
            .arg(m.path("pre"))
            .status()
            .ctx("child")?;
        ensure!(status.success(), "stores into preallocated pages: {status}");
        f.sync_all().ctx("fsync of preallocated pages")?;
        drop_caches()?;
        for at in (0..32u64 << 20).step_by(8192) {
            check_pattern(&f, 3, at, 100)?;
        }
        drop(f);
        all_is_back(m, free)
    })
}

fn store_child(path: &std::path::Path) -> Result {
    let f = open(path)?;
    let map = Map::new(&f, 0, 32 << 20)?;
    for at in (0..32usize << 20).step_by(8192) {
        map.write(at, &patterned(3, at as u64, 100));
    }
    Ok(())
}

fn unlink_and_punch_shared_on_a_full_disk(env: &Env) -> Result {
    small_fs(env, "1024", |m| {
        let free = start(m)?;
        let f1 = open(&m.path("f1"))?;
        write_pattern(&f1, 1, 0, 4 << 20)?;
        f1.sync_all()?;
        let f2 = open(&m.path("f2"))?;
        clone_file(&f2, &f1)?;
        m.sync()?;
        fill(m, "full", 2)?;
        m.sync()?;
        fill(m, "full2", 2)?;
        m.sync()?;
        // Each punch splits a shared extent and needs space for records. The pool that freeing
        // operations may use is small: it must last for a while, then refusal is allowed.
        let mut refused = 0;
        for i in (1..4u64 << 10).step_by(2) {
            match punch(&f2, i * 1024, 1024) {
                Ok(()) => {}
                Err(e) if i > 128 && e.errno == Some(Errno::NOSPC.raw_os_error()) => refused += 1,
                Err(e) => return Err(e).ctx(format!("punch block {i} on a full disk")),
            }
        }
        ktap::note(&format!("{refused} of 2048 punches were refused"));
        check_pattern(&f1, 1, 0, 4 << 20)?;
        drop((f1, f2));
        all_is_back(m, free)
    })
}

/// Fills the disk until not even a file can be made.
fn to_the_brim(m: &Mounted) -> Result {
    for name in ["full", "full2"] {
        fill(m, name, 3)?;
        m.sync()?;
    }
    let mut n = 0;
    let last = loop {
        match std::fs::File::create(m.path(&format!("n{n}"))) {
            Ok(_) => n += 1,
            Err(e) => break e,
        }
    };
    ensure!(is_enospc(&last), "create: {last}");
    ktap::note(&format!(
        "{n} files more; {} blocks available",
        m.space()?.avail
    ));
    Ok(())
}

/// Who makes room moves files first.
fn rename_on_a_full_disk(env: &Env) -> Result {
    for bs in ["4096", "1024"] {
        small_fs(env, bs, |m| {
            let free = start(m)?;
            for dir in ["a", "b"] {
                std::fs::create_dir(m.path(dir))?;
            }
            let old = |i| m.path(&format!("a/{i}"));
            let new = |i| m.path(&format!("b/another and longer name {i}"));
            for i in 0..200 {
                std::fs::File::create(old(i))?;
            }
            m.sync()?;
            to_the_brim(m)?;
            for i in 0..200 {
                std::fs::rename(old(i), new(i)).ctx(format!("rename {i}"))?;
            }
            for i in 0..200 {
                std::fs::remove_file(new(i)).ctx(format!("unlink {i}"))?;
            }
            for dir in ["a", "b"] {
                std::fs::remove_dir(m.path(dir))?;
            }
            all_is_back(m, free)
        })?;
    }
    Ok(())
}

/// What may use a part of the pool leaves enough to free a file with many extents, also of a small pool.
fn freeing_goes_on_when_renames_are_refused(env: &Env) -> Result {
    for (bs, mib) in [("4096", 32), ("1024", 16)] {
        fs_of(env, mib << 20, bs, |m| {
            let step = m.space()?.bsize * 2;
            for dir in ["a", "b"] {
                std::fs::create_dir(m.path(dir))?;
            }
            let new = |i| m.path(&format!("b/{i}{}", "x".repeat(240)));
            for i in 0..300 {
                std::fs::File::create(m.path(&format!("a/{i}")))?;
            }
            for file in ["cut", "gone"] {
                let f = open(&m.path(file))?;
                for at in (0..256 * step).step_by(step as usize) {
                    write_pattern(&f, 1, at, 512)?;
                }
            }
            m.sync()?;
            to_the_brim(m)?;
            let mut refused = 0;
            for i in 0..300 {
                match std::fs::rename(m.path(&format!("a/{i}")), new(i)) {
                    Err(e) if is_enospc(&e) => refused += 1,
                    other => other?,
                }
            }
            ktap::note(&format!("{refused} of 300 renames were refused"));
            m.sync()?;
            open(&m.path("cut"))?.set_len(0).ctx("truncate")?;
            m.sync()?;
            std::fs::remove_file(m.path("gone")).ctx("unlink")?;
            m.sync()?;
            m.cycle()?;
            ensure_eq!(std::fs::metadata(m.path("cut"))?.len(), 0, "size");
            let file = open(&m.path("new")).ctx("a new file in what became free")?;
            write_pattern(&file, 2, 0, 64 << 10)?;
            file.sync_all().ctx("fsync")
        })?;
    }
    Ok(())
}

/// An error that stays, in the middle of what is freed piece by piece, is told; it is not tried for ever.
fn freeing_where_nothing_can_be_read(env: &Env) -> Result {
    const EXTENTS: u64 = 2000;
    for bs in ["4096", "1024"] {
        fs_of(env, 32 << 20, bs, |m| {
            let step = m.space()?.bsize * 2;
            let f = open(&m.path("f"))?;
            for i in 0..EXTENTS {
                write_pattern(&f, 1, i * step, 512)?;
            }
            drop(f);
            m.sync()?;
            to_the_brim(m)?;
            m.cycle()?;
            let before = m.space()?.free;
            let disk = m.dev.file_name().unwrap_or_default().to_string_lossy();
            let faults = Faults::new(&disk)?;
            // The first node of its extents is in memory now, the others are not.
            let f = open(&m.path("f"))?;
            check_pattern(&f, 1, 0, 512)?;
            let cut = {
                let _nothing = faults.all_requests()?;
                f.set_len(512)
            };
            ensure_errno!(cut, Errno::IO, "truncate");
            drop((f, faults));
            // What is left is done by the next who cuts it, or the next mount.
            m.cycle()?;
            open(&m.path("f"))?.set_len(512).ctx("truncate again")?;
            m.sync()?;
            m.cycle()?;
            check_pattern(&open(&m.path("f"))?, 1, 0, 512)?;
            let freed = m.space()?.free - before;
            ensure!(freed >= EXTENTS - 1, "{freed} blocks became free");
            Ok(())
        })?;
    }
    Ok(())
}

/// A clone over blocks that it frees is a freeing operation.
fn clone_over_fragments_on_a_full_disk(env: &Env) -> Result {
    const LEN: u64 = 16 << 20;
    for bs in [4096, 1024] {
        small_fs(env, &bs.to_string(), |m| {
            let free = start(m)?;
            let f = open(&m.path("f"))?;
            write_pattern(&f, 1, 0, LEN)?;
            f.sync_all()?;
            for at in (0..LEN).step_by(2 * bs as usize) {
                punch(&f, at, bs)?;
            }
            let g = open(&m.path("g"))?;
            write_pattern(&g, 2, 0, LEN)?;
            m.sync()?;
            to_the_brim(m)?;
            // A part of a large extent; again, with the next: what is done needs nothing.
            for end in [LEN / 4, LEN / 2] {
                clone_range(&f, &g, 0, end, 0).ctx("a clone that frees blocks")?;
            }
            clone_file(&f, &g).ctx("a clone that frees blocks")?;
            check_pattern(&f, 2, 0, LEN)?;
            drop((f, g));
            m.cycle()?;
            check_pattern(&open(&m.path("f"))?, 2, 0, LEN)?;
            all_is_back(m, free)
        })?;
    }
    Ok(())
}

fn direct(env: &Env) -> Result {
    small_fs(env, "4096", |m| {
        let free = start(m)?;
        let f = open_direct(&m.path("f"))?;
        let mut at = 0;
        loop {
            match write_direct(&f, 5, at, 1 << 18) {
                Ok(()) => at += 1 << 18,
                Err(e) => {
                    let short = e.text.contains("wrote");
                    let full = e.errno == Some(Errno::NOSPC.raw_os_error());
                    ensure!(short || full, "{e}");
                    break;
                }
            }
        }
        ensure!(at > 32 << 20, "only {at} bytes");
        drop_caches()?;
        check_pattern(&open(&m.path("f"))?, 5, 0, at)?;
        drop(f);
        all_is_back(m, free)
    })
}

fn overwrite_shared_on_a_full_disk(env: &Env) -> Result {
    small_fs(env, "4096", |m| {
        let free = start(m)?;
        let f1 = open(&m.path("f1"))?;
        write_pattern(&f1, 1, 0, 8 << 20)?;
        f1.sync_all()?;
        let f2 = open(&m.path("f2"))?;
        clone_file(&f2, &f1)?;
        m.sync()?;
        fill(m, "full", 2)?;
        m.sync()?;
        // Must be refused or kept, block by block; the other owner never changes.
        let mut kept = Vec::new();
        for i in 0..2048u64 {
            match f2.write_at(&patterned(9, i * 4096, 4096), i * 4096) {
                Ok(4096) => kept.push(i),
                Ok(n) => ensure!(n < 4096, "wrote {n}"),
                Err(e) => ensure!(is_enospc(&e), "write: {e}"),
            }
        }
        ktap::note(&format!(
            "{} of 2048 shared blocks were overwritten",
            kept.len()
        ));
        f2.sync_all().ctx("fsync of accepted data")?;
        drop_caches()?;
        check_pattern(&f1, 1, 0, 8 << 20)?;
        for i in 0..2048u64 {
            let seed = if kept.contains(&i) { 9 } else { 1 };
            check_pattern(&f2, seed, i * 4096, 4096).ctx(format!("block {i}"))?;
        }
        drop((f1, f2));
        all_is_back(m, free)
    })
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, path] = args.as_slice() {
        let child = match flag.as_str() {
            "--map-child" => Some(map_child(path.as_ref())),
            "--store-child" => Some(store_child(path.as_ref())),
            _ => None,
        };
        if let Some(outcome) = child {
            return ExitCode::from(u8::from(outcome.is_err()));
        }
    }
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            buffered,
            many_small_files,
            mapped,
            unwritten_blocks_on_a_full_disk,
            unwritten_blocks_past_the_end_on_a_full_disk,
            unwritten_blocks_directly_on_a_full_disk,
            unwritten_pages_on_a_full_disk,
            unlink_and_punch_shared_on_a_full_disk,
            clone_over_fragments_on_a_full_disk,
            rename_on_a_full_disk,
            freeing_goes_on_when_renames_are_refused,
            freeing_where_nothing_can_be_read,
            direct,
            overwrite_shared_on_a_full_disk,
            a_refused_write_moves_no_end,
            a_write_that_faults_moves_no_end,
            many_remove_at_once,
            a_new_name_has_data_written,
        ],
        |_| {},
    )
}

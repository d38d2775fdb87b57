// SPDX-License-Identifier: GPL-2.0

//! What must hold in windows that only a gate can keep open (laboratory build, all switches off).

use calf_vmlib::file::{check_pattern, extents, fill, open, write_pattern};
use calf_vmlib::fs::{self as cfs, drop_caches, Mounted};
use calf_vmlib::gate::Gate;
use calf_vmlib::sys::{sync_range, Loop};
use calf_vmlib::{cases, ktap, observe, Context, Env, Fail, Result};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::ExitCode;

/// Bytes of the filesystem: small, so that it fills quickly.
const SIZE: u64 = 64 << 20;
const PAGE: u64 = 4096;

/// Under always_cow each write needs a new block. Who dirties a block while its writeback goes on
/// finds the claim of that, and nothing is reserved for the next one: on a full disk it must succeed
/// nevertheless, for the block is the file's own.
fn dirtied_again_on_a_full_disk(env: &Env) -> Result {
    // The window closes when the journal happens to commit in it, which frees the old block.
    for _ in 0..5 {
        let small = Loop::new(&env.dev, SIZE).ctx("loop device")?;
        cfs::mkfs(env, &small.path, &[])?;
        let mut m = Mounted::new(&small.path, &env.mnt, "always_cow")?;
        let mut hit = false;
        let outcome = ktap::guarded(|| {
            hit = dirtied_again(&m)?;
            Ok(())
        });
        m.umount()?;
        drop(m);
        outcome?;
        cfs::fsck(env, &small.path)?;
        if hit {
            return Ok(());
        }
    }
    Err(Fail::new("window missed: there was always a free block"))
}

/// One try; was the block written in place?
fn dirtied_again(m: &Mounted) -> Result<bool> {
    let f = open(&m.path("f"))?;
    write_pattern(&f, 1, 0, PAGE)?;
    f.sync_all()?;
    let small = (0..64).map(|i| open(&m.path(&format!("small{i}"))));
    let small: Vec<_> = small.collect::<Result<_>>()?;
    let gate = Gate::new(&m.dev, "wb_end_io")?;
    gate.arm(f.metadata()?.ino(), 0)?;
    write_pattern(&f, 2, 0, PAGE)?;
    std::thread::scope(|s| -> Result {
        let sync = s.spawn(|| sync_range(&f, 0, PAGE));
        gate.wait()?;
        write_pattern(&f, 3, 0, PAGE)?;
        // Reservations are worst cases: what a file did not need is left over when it is written.
        fill(&m.path("rest"), 4)?;
        open(&m.path("rest"))?.sync_all()?;
        // A long file reserves tree blocks as well; the last blocks go to files of one block.
        for f in &small {
            if f.write_at(&[4; PAGE as usize], 0).is_err() {
                break;
            }
            f.sync_all()?;
        }
        gate.release()?;
        let synced = sync.join().map_err(|_| Fail::new("the writer died"))?;
        synced.ctx("writeback of the first write")
    })?;
    let place = || -> Result<Option<u64>> { Ok(extents(&f)?.first().map(|e| e.physical)) };
    let before = place()?;
    sync_range(&f, 0, PAGE).ctx("writeback of a block that was dirtied again")?;
    let after = place()?;
    f.sync_all().ctx("fsync")?;
    drop_caches()?;
    check_pattern(&f, 3, 0, PAGE)?;
    Ok(before.is_some() && before == after)
}

/// A pass of writeback pins all blocks of a mapping with its first. What a truncation takes of them
/// is free as soon as the pass has looked the next block up, not only when it ends.
fn truncated_under_writeback(env: &Env) -> Result {
    const BLOCKS: u64 = 512;
    const LEFT: u64 = 3;
    cfs::mkfs(env, &env.dev, &[])?;
    let mut m = Mounted::new(&env.dev, &env.mnt, "")?;
    let free = || -> Result<u64> { Ok(cfs::space(&env.mnt)?.free) };
    let f = open(&m.path("f"))?;
    let before = free()?;
    // One folio a block.
    for block in (0..BLOCKS).rev() {
        write_pattern(&f, 1, block * PAGE, PAGE)?;
    }
    let gate = Gate::new(&m.dev, "wb_between")?;
    let ino = f.metadata()?.ino();
    gate.arm(ino, 0)?;
    let (pinned, after) = std::thread::scope(|s| -> Result<(u64, u64)> {
        let sync = s.spawn(|| f.sync_all());
        gate.wait()?;
        f.set_len(LEFT * PAGE).ctx("truncate")?;
        let pinned = before - free()?;
        // Lets the pass go on to the next block.
        gate.arm(ino, 0)?;
        gate.wait()?;
        let after = before - free()?;
        gate.release()?;
        let synced = sync.join().map_err(|_| Fail::new("the writer died"))?;
        synced.ctx("fsync")?;
        Ok((pinned, after))
    })?;
    check_pattern(&f, 1, 0, LEFT * PAGE)?;
    drop(f);
    m.umount()?;
    cfs::fsck(env, &env.dev)?;
    if pinned < BLOCKS - LEFT {
        return Err(Fail::new(format!(
            "window missed: only {pinned} blocks were pinned"
        )));
    }
    if after > 4 * LEFT {
        return Err(Fail::new(format!(
            "{after} blocks are not free when {LEFT} are left"
        )));
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    let cases = cases![dirtied_again_on_a_full_disk, truncated_under_writeback];
    ktap::run(&env, cases, |_| {})
}

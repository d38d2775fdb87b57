// SPDX-License-Identifier: GPL-2.0

//! What must hold in windows that only a gate can keep open (laboratory build, all switches off).

use calf_vmlib::file::{
    check_direct, check_pattern, check_zero, extents, fallocate, open, open_direct, patterned,
    write_direct, write_pattern,
};
use calf_vmlib::fs::{self as cfs, drop_caches, with_fs, Mounted};
use calf_vmlib::gate::{is_blocked, until, Gate};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::stopped::{start, Disk};
use calf_vmlib::sys::vfs::{shutdown, Shutdown};
use calf_vmlib::sys::{
    freeze, sync_range, thaw, write_flags, Aio, Aligned, Dir, Loop, Map, Queue, RWF_ATOMIC,
};
use calf_vmlib::{
    cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Fail, Result,
};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::thread::gettid;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::thread::scope;
use std::time::{Duration, SystemTime};

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

/// Empty files for [`take_all`]: on a full disk there would be no room for new ones.
fn empty_files(m: &Mounted) -> Result<Vec<File>> {
    (0..64)
        .map(|i| open(&m.path(&format!("small{i}"))))
        .collect()
}

/// Takes all space, never asking for more than there is: who does waits for other files' writeback.
fn take_all(m: &Mounted, small: &[File]) -> Result {
    let free = || -> Result<u64> { Ok(m.space()?.avail) };
    let rest = open(&m.path("rest"))?;
    let (mut at, mut step) = (0, 1 << 20);
    while step >= PAGE {
        if free()? > step / PAGE + small.len() as u64 / 2 {
            write_pattern(&rest, 4, at, step)?;
            // Reservations are worst cases: what was not needed is left over when it is written.
            rest.sync_all()?;
            at += step;
        } else {
            step /= 2;
        }
    }
    // A long file reserves tree blocks as well; the last blocks go to files of one block.
    for f in small {
        if free()? == 0 {
            return Ok(());
        }
        write_pattern(f, 4, 0, PAGE)?;
        f.sync_all()?;
    }
    Err(Fail::new("the disk is not full"))
}

/// One try; was the block written in place?
fn dirtied_again(m: &Mounted) -> Result<bool> {
    let f = open(&m.path("f"))?;
    write_pattern(&f, 1, 0, PAGE)?;
    f.sync_all()?;
    let small = empty_files(m)?;
    let gate = Gate::new(&m.dev, "wb_end_io")?;
    gate.arm(f.metadata()?.ino(), 0)?;
    write_pattern(&f, 2, 0, PAGE)?;
    std::thread::scope(|s| -> Result {
        let sync = s.spawn(|| sync_range(&f, 0, PAGE));
        gate.wait()?;
        write_pattern(&f, 3, 0, PAGE)?;
        take_all(m, &small)?;
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

/// Writeback of another file gives back what that had reserved for the worst case; a write on a full disk waits
/// for it.
fn full_until_another_is_written(env: &Env) -> Result {
    const BLOCKS: u64 = 64;
    for direct in [false, true] {
        let disk = Loop::new(&env.dev, SIZE).ctx("loop device")?;
        let env = Env {
            dev: disk.path.clone(),
            ..env.clone()
        };
        with_fs(&env, &[], "", |m| {
            let small = empty_files(m)?;
            let waiting = if direct {
                open_direct(&m.path("waiting"))?
            } else {
                open(&m.path("waiting"))?
            };
            let other = open(&m.path("other"))?;
            for block in 0..BLOCKS {
                write_pattern(&other, 1, 2 * block * PAGE, PAGE)?;
            }
            let gate = Gate::new(&m.dev, "wb_between")?;
            gate.arm(other.metadata()?.ino(), 0)?;
            let (tid, ended) = (AtomicI32::new(0), AtomicBool::new(false));
            std::thread::scope(|s| -> Result {
                let sync = s.spawn(|| other.sync_all());
                gate.wait()?;
                take_all(m, &small)?;
                let write = s.spawn(|| {
                    tid.store(gettid().as_raw_nonzero().get(), SeqCst);
                    let written = write_direct(&waiting, 2, 0, PAGE as usize);
                    ended.store(true, SeqCst);
                    written
                });
                let waits = || ended.load(SeqCst) || is_blocked(tid.load(SeqCst));
                let seen = until("the write waits", waits);
                let early = ended.load(SeqCst);
                gate.release()?;
                seen?;
                let synced = sync.join().map_err(|_| Fail::new("a writer died"))?;
                synced.ctx("writeback of the other file")?;
                let written = write.join().map_err(|_| Fail::new("a writer died"))?;
                written.ctx(format!("write that waited, direct: {direct}"))?;
                ensure!(!early, "there was space, direct: {direct}");
                Ok(())
            })?;
            waiting.sync_all().ctx("fsync")?;
            drop_caches()?;
            check_direct(&open_direct(&m.path("waiting"))?, 2, 0, PAGE as usize)
        })?;
    }
    Ok(())
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
    // So that the truncation need not wait for writeback to move EOF on disk.
    f.set_len(BLOCKS * PAGE).ctx("size")?;
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

/// A direct write fails while writeback writes a block of its that a store has taken over. The space
/// of the other blocks is free again, also of those behind it in the mapping that writeback has.
fn direct_write_fails_under_writeback(env: &Env) -> Result {
    const LEN: usize = 16 * PAGE as usize;
    const AT: u64 = 4 * PAGE;
    let slow = [("irqmode", "2"), ("completion_nsec", "200000000")];
    let disk = NullDisk::new("windows0", 192, &slow)?;
    with_fs(&disk.env(env), &[], "", |m| {
        let count = |name: &str| observe::counters(&m.bdev()).get(name).copied();
        let f = open_direct(&m.path("f"))?;
        f.set_len(LEN as u64).ctx("size")?;
        let last = open_direct(&m.path("last"))?;
        write_direct(&last, 1, 0, PAGE as usize)?;
        m.sync()?;
        let used = extents(&last)?;
        let begin = used.first().map_or(0, |e| e.physical);
        let cached = open(&m.path("f"))?;
        let map = Map::new(&cached, 0, LEN).ctx("mmap")?;
        let gate = Gate::new(&m.dev, "wb_between")?;
        let broken = disk.break_range(begin, begin + (32 << 20))?;
        let mut aio = Aio::new(1).ctx("io_setup")?;
        let buf = Aligned::from(&patterned(3, 0, LEN));
        aio.submit(f.as_fd(), Dir::Write, 0, buf).ctx("submit")?;
        map.write(AT as usize, &patterned(4, AT, PAGE as usize));
        gate.arm(cached.metadata()?.ino(), 0)?;
        std::thread::scope(|s| -> Result {
            let sync = s.spawn(|| sync_range(&cached, AT, PAGE));
            gate.wait()?;
            ensure!(count("claimed") >= Some(16), "the direct write has ended");
            let (_, res, _) = aio.wait().ctx("wait")?;
            ensure_errno!(res, Errno::IO, "the direct write");
            drop(broken);
            gate.release()?;
            let synced = sync.join().map_err(|_| Fail::new("the writer died"))?;
            synced.ctx("writeback of the store")
        })?;
        cached.sync_all().ctx("fsync")?;
        for name in ["claimed", "pinned", "delalloc_reserved"] {
            ensure_eq!(count(name), Some(0), "blocks {name} when all is written");
        }
        drop(map);
        drop_caches()?;
        check_zero(&cached, 0, AT)?;
        check_pattern(&cached, 4, AT, PAGE)?;
        check_zero(&cached, AT + PAGE, LEN as u64 - AT - PAGE)
    })
}

/// `fsync` while somebody else is writing the inode, who has not come to the journal yet: the attributes are
/// on disk nevertheless when it returns.
fn fsync_beside_another(env: &Env) -> Result {
    for dir in [false, true] {
        let mut mode = 0;
        with_fs(env, &[], "", |m| {
            let path = m.path("x");
            if dir {
                fs::create_dir(&path)?;
            } else {
                open(&path)?;
            }
            let f = File::open(&path)?;
            m.sync()?;
            let gate = Gate::new(&m.dev, "write_inode")?;
            let chmod = |mode| f.set_permissions(Permissions::from_mode(mode)).ctx("chmod");
            chmod(0o700)?;
            gate.arm(f.metadata()?.ino(), 0)?;
            std::thread::scope(|s| -> Result {
                let other = s.spawn(|| f.sync_all());
                gate.wait()?;
                chmod(0o750)?;
                f.sync_all().ctx("fsync beside another")?;
                ensure!(gate.is_held(), "the other has gone on");
                shutdown(&File::open(&m.mnt)?, Shutdown::NoFlush).ctx("shutdown")?;
                gate.release()?;
                // The filesystem is down.
                let _ = other.join().map_err(|_| Fail::new("the other died"))?;
                Ok(())
            })?;
            drop(f);
            m.cycle()?;
            mode = fs::metadata(&path)?.mode() & 0o777;
            Ok(())
        })?;
        ensure_eq!(mode, 0o750, "mode after the crash, directory: {dir}");
    }
    Ok(())
}

/// What an atomic write replaces becomes free when it ends: it waits for who writes there in place.
fn atomic_beside_direct(env: &Env) -> Result {
    for preallocated in [false, true] {
        with_fs(env, &[], "", |m| {
            let f = open_direct(&m.path("f"))?;
            if preallocated {
                fallocate(&f, FallocateFlags::empty(), 0, PAGE)?;
            } else {
                // The rest of the block is written in place too, and a write that moves EOF has work left when it
                // has been written.
                write_pattern(&open(&m.path("f"))?, 1, 0, 512)?;
            }
            f.sync_all()?;
            let gate = Gate::new(&m.dev, "dio_end_io")?;
            gate.arm(f.metadata()?.ino(), 0)?;
            let (tid, ended) = (AtomicI32::new(0), AtomicBool::new(false));
            std::thread::scope(|s| -> Result {
                // A thread, for a quick device is done before the submission is.
                let in_place = s.spawn(|| -> Result<usize> {
                    let mut aio = Aio::new(1).ctx("io_setup")?;
                    let buf = Aligned::from(&patterned(2, 0, PAGE as usize));
                    aio.submit(f.as_fd(), Dir::Write, 0, buf).ctx("submit")?;
                    aio.wait().ctx("wait")?.1.ctx("direct write")
                });
                gate.wait()?;
                let atomic = s.spawn(|| {
                    tid.store(gettid().as_raw_nonzero().get(), SeqCst);
                    let buf = Aligned::from(&patterned(3, 0, PAGE as usize));
                    let written = write_flags(&f, &buf, 0, RWF_ATOMIC);
                    ended.store(true, SeqCst);
                    written
                });
                let waits = || ended.load(SeqCst) || is_blocked(tid.load(SeqCst));
                let seen = until("the atomic write waits", waits);
                let early = ended.load(SeqCst);
                gate.release()?;
                seen?;
                let in_place = in_place.join().map_err(|_| Fail::new("a writer died"))?;
                ensure_eq!(in_place?, PAGE as usize, "bytes in place");
                let written = atomic.join().map_err(|_| Fail::new("a writer died"))?;
                ensure_eq!(written.ctx("atomic write")?, PAGE as usize, "bytes");
                ensure!(!early, "it did not wait, preallocated: {preallocated}");
                Ok(())
            })?;
            check_direct(&f, 3, 0, PAGE as usize)
        })?;
    }
    Ok(())
}

/// A page into which a direct read stores is dirty again when that is over, whoever holds which lock, and blocks of it
/// that were past EOF when it was pinned are holes. Writeback finds blocks for them while `fallocate` fills the
/// holes of the range: it leaves those out.
fn preallocated_under_a_pinned_page(env: &Env) -> Result {
    const BLOCK: u64 = 1024;
    const FAR: u64 = 1 << 20;
    let disk = Disk::new("stopped", 192)?;
    let source = Disk::new("source", 8)?;
    let device = open_direct(&source.dm.path)?;
    write_direct(&device, 2, 0, PAGE as usize)?;
    with_fs(&disk.env(env), &["-b", "1024"], "", |m| {
        let f = open(&m.path("f"))?;
        write_pattern(&f, 1, 0, BLOCK)?;
        let map = Map::new(&f, 0, PAGE as usize).ctx("mmap")?;
        let gate = Gate::new(&m.dev, "wb_between")?;
        scope(|s| {
            let no_source = source.dm.suspend()?;
            let device = &device;
            let read = start(s, move || Ok(map.read_from(0, PAGE as usize, device, 0)?));
            ensure!(read.is_stopped()?, "the page is not pinned");
            // It becomes clean, and the rest of it a hole.
            f.sync_all().ctx("fsync")?;
            f.set_len(FAR)?;
            write_pattern(&f, 3, FAR, PAGE)?;

            let no_disk = disk.dm.suspend()?;
            let prealloc = start(s, || fallocate(&f, FallocateFlags::empty(), 0, FAR + PAGE));
            ensure!(prealloc.is_stopped()?, "fallocate had nothing to write");
            drop(no_source);
            ensure_eq!(read.result()?, PAGE as usize, "bytes read");

            // The first of the two ranges is the block that was there.
            gate.arm(f.metadata()?.ino(), 1)?;
            let write = start(s, || Ok(sync_range(&f, 0, PAGE)?));
            gate.wait()?;
            drop(no_disk);
            prealloc.result()?;
            gate.release()?;
            write.result()
        })?;
        m.check_idle()?;
        drop_caches()?;
        check_pattern(&f, 2, 0, PAGE)?;
        check_zero(&f, PAGE, FAR - PAGE)?;
        check_pattern(&f, 3, FAR, PAGE)
    })
}

/// Sectors that have been written to a device.
fn writes(m: &Mounted) -> Result<u64> {
    let path = format!("/sys/class/block/{}/stat", m.bdev());
    let text = fs::read_to_string(&path).ctx(&path)?;
    let field = text.split_whitespace().nth(6);
    let field = field.and_then(|f| f.parse().ok());
    field.ok_or_else(|| Fail::new(format!("{path}: {text}")))
}

/// A record that cannot be logged when it is to be written stays dirty: syncfs tells, nothing is logged into a filesystem
/// that has been frozen since, and the next that asks for it gets it.
fn a_record_that_was_not_logged(env: &Env) -> Result {
    for freezes in [false, true] {
        with_fs(env, &[], "", |m| {
            let path = m.path("f");
            let f = open(&path)?;
            m.sync()?;
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            f.set_modified(time)?;
            let gate = Gate::new(&m.dev, "write_inode")?;
            gate.fail(f.metadata()?.ino(), 0)?;
            if freezes {
                let dir = m.dir()?;
                freeze(&dir).ctx("freeze")?;
                let before = writes(m)?;
                rustix::fs::sync();
                let after = writes(m)?;
                thaw(&dir).ctx("thaw")?;
                ensure_eq!(after, before, "sectors written, while frozen");
            } else {
                ensure_errno!(rustix::fs::syncfs(m.dir()?), Errno::IO, "syncfs");
            }
            ensure!(gate.has_failed()?, "nobody has written the record");
            if freezes {
                f.sync_all().ctx("fsync")?;
            } else {
                m.sync()?;
            }
            drop(f);
            m.crash()?;
            let now = fs::metadata(&path)?.modified()?;
            ensure!(now == time, "another time: {now:?}");
            Ok(())
        })
        .ctx(if freezes { "freeze" } else { "syncfs" })?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    let cases = cases![
        dirtied_again_on_a_full_disk,
        full_until_another_is_written,
        truncated_under_writeback,
        direct_write_fails_under_writeback,
        fsync_beside_another,
        atomic_beside_direct,
        preallocated_under_a_pinned_page,
        a_record_that_was_not_logged
    ];
    ktap::run(&env, cases, |_| {})
}

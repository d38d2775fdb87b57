// SPDX-License-Identifier: GPL-2.0

//! Atomic writes (`RWF_ATOMIC`): there whole or not at all, whatever was there before, after an error
//! and after a crash.

use calf_vmlib::file::{
    check_direct, check_pattern, clone_file, extents, fallocate, open, open_direct, patterned,
    punch, read_at, unshare, write_direct,
};
use calf_vmlib::fs::{drop_caches, each_way, fsck, mkfs, Mounted};
use calf_vmlib::observe;
use calf_vmlib::sys::vfs::{shutdown, Shutdown};
use calf_vmlib::sys::{atomic_limits, write_flags, write_into_the_void_flags, Aligned, RWF_ATOMIC};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::IoSlice;
use std::process::ExitCode;

/// [`each_way`], with the limits of atomic writes.
fn each(env: &Env, f: impl Fn(&mut Mounted, &Limits, bool) -> Result) -> Result {
    each_way(env, |m, cow| {
        let limits = Limits::of(m)?;
        f(m, &limits, cow)
    })
}

struct Limits {
    min: u64,
    max: u64,
}

impl Limits {
    fn of(m: &Mounted) -> Result<Limits> {
        let (has, min, max) = atomic_limits(&open(&m.path("limits"))?).ctx("statx")?;
        ensure!(has, "no atomic writes");
        Ok(Limits {
            min: min.into(),
            max: max.into(),
        })
    }

    fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        (0..).map(|i| self.min << i).take_while(|n| *n <= self.max)
    }
}

fn atomic(f: &File, seed: u64, off: u64, len: u64) -> std::result::Result<usize, Errno> {
    let buf = Aligned::from(&patterned(seed, off, len as usize));
    write_flags(f, &buf, off, RWF_ATOMIC)
}

fn limits_and_refusals(env: &Env) -> Result {
    each(env, |m, l, _| {
        ensure_eq!(l.min, m.space()?.bsize, "the shortest is a block");
        ensure!(
            l.max.is_power_of_two() && l.max >= 4 * l.min,
            "longest: {}",
            l.max
        );
        let f = open_direct(&m.path("f"))?;
        write_direct(&f, 1, 0, 4 * l.max as usize)?;
        for (off, len, what) in [
            (0, 2 * l.max, "too long"),
            (0, l.min / 2, "too short"),
            (0, 3 * l.min, "no power of two"),
            (l.min, 2 * l.min, "not aligned"),
        ] {
            ensure_errno!(atomic(&f, 2, off, len), Errno::INVAL, "{what}");
        }
        let page = open(&m.path("f"))?;
        ensure_errno!(
            atomic(&page, 2, 0, l.min),
            Errno::OPNOTSUPP,
            "through the page cache"
        );
        let buf = Aligned::from(&patterned(2, 0, 2 * l.min as usize));
        let (a, b) = buf.split_at(l.min as usize);
        let flags = ReadWriteFlags::from_bits_retain(RWF_ATOMIC as u32);
        let two = rustix::io::pwritev2(&f, &[IoSlice::new(a), IoSlice::new(b)], 0, flags);
        ensure_errno!(two, Errno::INVAL, "two pieces");
        check_direct(&f, 1, 0, 4 * l.max as usize)?;
        m.check_idle()
    })
}

/// Every length over every kind of old content, in one extent and in pieces.
fn over_everything(env: &Env) -> Result {
    each(env, |m, l, cow| {
        let len = l.max;
        for shape in ["hole", "written", "preallocated", "shared", "mixed", "eof"] {
            let f = open_direct(&m.path(shape))?;
            let other = open_direct(&m.path("other"))?;
            write_direct(&other, 1, 0, 2 * len as usize)?;
            match shape {
                "hole" => f.set_len(2 * len)?,
                "written" => write_direct(&f, 2, 0, 2 * len as usize)?,
                "preallocated" if cow => continue,
                "preallocated" => fallocate(&f, FallocateFlags::empty(), 0, 2 * len)?,
                "shared" => clone_file(&f, &other)?,
                "mixed" => {
                    clone_file(&f, &other)?;
                    for i in (0..2 * len / l.min).step_by(5) {
                        punch(&f, i * l.min, l.min)?;
                        if !cow {
                            fallocate(&f, FallocateFlags::empty(), i * l.min, l.min)?;
                        }
                    }
                    for i in (1..2 * len / l.min).step_by(5) {
                        punch(&f, i * l.min, l.min)?;
                    }
                    for i in (2..2 * len / l.min).step_by(5) {
                        unshare(&f, i * l.min, l.min)?;
                    }
                }
                _ => {}
            }
            for n in l.sizes() {
                for off in [0, n, len] {
                    ensure_eq!(atomic(&f, n, off, n).ctx(shape)?, n as usize, "bytes");
                    check_direct(&f, n, off, n as usize).ctx(shape)?;
                }
            }
            drop_caches()?;
            let cold = open(&m.path(shape))?;
            check_pattern(&cold, len, 0, 2 * len).ctx(format!("{shape}, length {len}"))?;
            check_pattern(&open(&m.path("other"))?, 1, 0, 2 * len)?;
            ensure_eq!(
                extents(&f)?.iter().map(|e| e.length).sum::<u64>(),
                2 * len,
                "{shape}"
            );
        }
        m.check_idle()
    })
}

/// Memory that ends in the middle: nothing is written, although a part could have been.
fn nothing_after_an_error(env: &Env) -> Result {
    each(env, |m, l, _| {
        let len = l.max.max(8192) as usize;
        if l.max < 8192 {
            return Ok(());
        }
        let f = open_direct(&m.path("f"))?;
        let g = open_direct(&m.path("g"))?;
        write_direct(&g, 1, 0, 2 * len)?;
        clone_file(&f, &g)?;
        let half = patterned(2, 0, 4096);
        let n = write_into_the_void_flags(&f, &half, len, 0, RWF_ATOMIC);
        ensure_errno!(n, Errno::FAULT, "half of the memory");
        let n = write_into_the_void_flags(&f, &half, len, 2 * len as u64, RWF_ATOMIC);
        ensure_errno!(n, Errno::FAULT, "half of the memory, past EOF");
        ensure_eq!(f.metadata()?.len(), 2 * len as u64, "size");
        check_direct(&f, 1, 0, 2 * len)?;
        drop_caches()?;
        check_pattern(&open(&m.path("f"))?, 1, 0, 2 * len as u64)?;
        ensure_eq!(
            atomic(&f, 3, 0, l.max).ctx("then")?,
            l.max as usize,
            "bytes"
        );
        check_direct(&f, 3, 0, l.max as usize)?;
        m.check_idle()
    })
}

/// The filesystem stops at some moment between writes of the same blocks: after the next mount each
/// unit is of one write.
fn whole_after_a_crash(env: &Env) -> Result {
    for bs in ["4096", "1024"] {
        mkfs(env, &env.dev, &["-b", bs])?;
        let mut m = Mounted::new(&env.dev, &env.mnt, "")?;
        for round in 0..4u64 {
            let l = Limits::of(&m)?;
            let len = l.max as usize;
            let path = m.path("f");
            {
                let f = open_direct(&path)?;
                write_direct(&f, 100, 0, 8 * len)?;
                // In pieces, so that one write has many extents to replace.
                for i in (0..8 * l.max / l.min).step_by(2) {
                    punch(&f, i * l.min, l.min)?;
                    write_direct(&f, 100, i * l.min, l.min as usize)?;
                }
                f.sync_all()?;
                // Open before the shutdown, whenever the thread starts.
                let beside = open_direct(&path)?;
                let writer = |t: u64| -> Result {
                    for i in 0..200u64 {
                        let unit = (i * 3 + t) % 8;
                        match atomic(&beside, 101 + i % 50, unit * l.max, l.max) {
                            Ok(n) => ensure_eq!(n, len, "bytes"),
                            Err(Errno::IO) => return Ok(()),
                            Err(Errno::AGAIN) => {}
                            Err(e) => return Err(e).ctx("an atomic write"),
                        }
                    }
                    Ok(())
                };
                std::thread::scope(|s| {
                    let a = s.spawn(|| writer(0));
                    for i in 0..=round * 12 {
                        let n = atomic(&f, 100, 8 * l.max + i * l.max, l.max).ctx("beside")?;
                        ensure_eq!(n, len, "bytes");
                    }
                    shutdown(&f, Shutdown::NoFlush).ctx("shutdown")?;
                    a.join().unwrap_or(Err("a thread panicked".into()))
                })?;
            }
            m.cycle().ctx("mount again")?;
            let f = open(&path)?;
            for unit in 0..8 {
                let off = unit * l.max;
                let have = read_at(&f, off, len)?;
                let of = (100..151).find(|seed| have == patterned(*seed, off, len));
                ensure!(
                    of.is_some(),
                    "block size {bs}, round {round}: unit {unit} is torn"
                );
            }
        }
        m.umount()?;
        fsck(env, &env.dev)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            limits_and_refusals,
            over_everything,
            nothing_after_an_error,
            whole_after_a_crash,
        ],
        |_| {},
    )
}

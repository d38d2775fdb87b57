// SPDX-License-Identifier: GPL-2.0

//! Past the page cache.

use super::{check, check_stamp, make, shuffled, stamp, Case, BLOCK};
use crate::turn::Turn;
use calf_vmlib::error::Context;
use calf_vmlib::sys::{Aligned, Dir, Queue, Ring, HUGE};
use calf_vmlib::{ensure_eq, file, Result};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

pub(super) const CASES: &[Case] = &[
    Case::new("direct-read-4k", "4K", read).also_raw(),
    Case::new("direct-overwrite-4k", "4K", overwrite).also_raw(),
    Case::new("direct-read-4k-qd16", "4K", read_many).also_raw(),
    Case::new("direct-overwrite-4k-qd16", "4K", overwrite_many).also_raw(),
    Case::new("direct-write-1m", "1M", write_large).also_raw(),
    Case::new("direct-read-1m", "1M", read_large).also_raw(),
    Case::new("direct-append-4k", "4K", append),
];

const BLOCKS: u64 = 8192;
const OPS: u64 = 2048;
const NEW: u64 = 1 << 40;

/// A file that has been read from and written to once.
fn warm(t: &mut Turn) -> Result<File> {
    let path = t.path("f");
    make(&path, BLOCKS)?;
    t.fresh()?;
    let f = file::open_direct(&path)?;
    let mut buf = Aligned::new(BLOCK as usize);
    f.read_exact_at(&mut buf, 0).ctx("read")?;
    f.write_all_at(&buf, 0).ctx("write")?;
    Ok(f)
}

fn read(t: &mut Turn, _: u64) -> Result {
    let f = warm(t)?;
    let order = shuffled(OPS, BLOCKS);
    let mut buf = Aligned::new(BLOCK as usize);
    t.measure(OPS, move || {
        for i in order {
            f.read_exact_at(&mut buf, i * BLOCK).ctx("direct read")?;
            check_stamp(&buf, i)?;
        }
        Ok(())
    })
}

fn overwrite(t: &mut Turn, _: u64) -> Result {
    let f = warm(t)?;
    let order = shuffled(OPS, BLOCKS);
    let want = wanted(&order);
    let mut buf = Aligned::from(&[b'd'; BLOCK as usize]);
    t.measure(OPS, move || {
        for i in order {
            stamp(&mut buf, NEW | i);
            f.write_all_at(&buf, i * BLOCK).ctx("direct write")?;
        }
        Ok(())
    })?;
    check(&t.path("f"), BLOCKS, |i| want[i as usize])
}

fn wanted(order: &[u64]) -> Vec<u64> {
    let mut want: Vec<u64> = (0..BLOCKS).collect();
    order.iter().for_each(|i| want[*i as usize] = NEW | i);
    want
}

fn read_many(t: &mut Turn, _: u64) -> Result {
    let f = warm(t)?;
    t.measure(OPS, move || {
        queue(&f, Dir::Read, &shuffled(OPS, BLOCKS), |i, buf| {
            check_stamp(buf, i)
        })
    })
}

fn overwrite_many(t: &mut Turn, _: u64) -> Result {
    let f = warm(t)?;
    let order = shuffled(OPS, BLOCKS);
    let want = wanted(&order);
    t.measure(OPS, move || queue(&f, Dir::Write, &order, |_, _| Ok(())))?;
    check(&t.path("f"), BLOCKS, |i| want[i as usize])
}

/// Sixteen requests at a time.
fn queue(f: &File, dir: Dir, order: &[u64], mut seen: impl FnMut(u64, &[u8]) -> Result) -> Result {
    const DEPTH: usize = 16;
    let mut ring = Ring::new(DEPTH).ctx("io_uring")?;
    let mut spare: Vec<Aligned> = (0..DEPTH).map(|_| Aligned::new(BLOCK as usize)).collect();
    let mut what = [0; DEPTH];
    let mut left = order.iter();
    loop {
        while let Some(mut buf) = spare.pop() {
            let Some(&i) = left.next() else {
                break;
            };
            stamp(&mut buf, NEW | i);
            let slot = ring.submit(f.as_fd(), dir, i * BLOCK, buf).ctx("submit")?;
            what[slot] = i;
        }
        if ring.pending() == 0 {
            return Ok(());
        }
        let (slot, result, buf) = ring.wait().ctx("wait")?;
        ensure_eq!(result.ctx("request")?, BLOCK as usize, "bytes of a request");
        seen(what[slot], &buf)?;
        spare.push(buf);
    }
}

/// Bytes of a large request.
const LARGE: usize = 1 << 20;

/// Memory for them, in one huge page: how many pieces it lies in makes a tenth of the instructions, and that would
/// depend on what ran before.
fn large(fill: u8) -> Aligned {
    let mut buf = Aligned::new(HUGE);
    buf.fill(fill);
    buf
}

fn write_large(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    let f = file::open_direct(&path)?;
    let mut buf = large(b'd');
    t.measure(64, move || {
        let buf = &mut buf[..LARGE];
        for i in 0..64 {
            stamp(buf, i);
            f.write_all_at(buf, i << 20).ctx("direct write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&path, 64 * 256, |i| match i % 256 {
        0 => i / 256,
        _ => u64::from_le_bytes([b'd'; 8]),
    })
}

fn read_large(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    make(&path, 64 * 256)?;
    t.fresh()?;
    let f = file::open_direct(&path)?;
    let mut buf = large(0);
    t.measure(64, move || {
        let buf = &mut buf[..LARGE];
        for i in 0..64 {
            f.read_exact_at(buf, i << 20).ctx("direct read")?;
            check_stamp(buf, i * 256)?;
        }
        Ok(())
    })
}

/// The file grows with each write.
fn append(t: &mut Turn, _: u64) -> Result {
    let path = t.path("f");
    let f = file::open_direct(&path)?;
    let mut buf = Aligned::from(&[b'd'; BLOCK as usize]);
    t.measure(512, move || {
        for i in 0..512 {
            stamp(&mut buf, i);
            f.write_all_at(&buf, i * BLOCK).ctx("direct write")?;
        }
        f.sync_all().ctx("fsync")
    })?;
    check(&path, 512, |i| i)
}

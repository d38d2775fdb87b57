// SPDX-License-Identifier: GPL-2.0

//! Random operations on the contents of a few files, which are compared with copies in memory.

use calf_vmlib::file::{
    clone_range, compare, fallocate, open, open_direct, patterned, punch, read_all, unshare,
    write_direct,
};
use calf_vmlib::fs::{drop_caches, each_block_size as each};
use calf_vmlib::rng::Rng;
use calf_vmlib::sys::{dedupe as dedupe_range, Map};
use calf_vmlib::{cases, ensure_eq, ensure_errno, ktap, Context, Env, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

fn random_model(env: &Env) -> Result {
    random(env, 4711, "")
}

fn random_model_always_cow(env: &Env) -> Result {
    random(env, 4712, "always_cow")
}

fn random(env: &Env, seed: u64, opts: &str) -> Result {
    each(env, |m| {
        m.cycle_with(opts)?;
        let cow = opts == "always_cow";
        let bs = m.space()?.bsize;
        let mut rng = Rng::new(seed);
        const MAX: u64 = 600_000;
        const FILES: usize = 3;
        let mut files = Vec::new();
        for i in 0..FILES {
            files.push((open(&m.path(&format!("f{i}")))?, Vec::<u8>::new()));
        }
        for op in 0..1500u64 {
            let i = rng.below(FILES as u64) as usize;
            let off = rng.below(MAX);
            let len = rng.range(1, 60_000).min(MAX - off).max(1);
            let size = files[i].1.len() as u64;
            let what = rng.below(20);
            let text = format!("op {op} ({what}) file {i} off {off} len {len} size {size}");
            match what {
                0..=4 => {
                    let buf = patterned(op, off, len as usize);
                    files[i].0.write_all_at(&buf, off).ctx(&text)?;
                    let model = &mut files[i].1;
                    model.resize(model.len().max((off + len) as usize), 0);
                    model[off as usize..(off + len) as usize].copy_from_slice(&buf);
                }
                5 => {
                    files[i].0.set_len(off).ctx(&text)?;
                    files[i].1.resize(off as usize, 0);
                }
                6 | 7 => {
                    punch(&files[i].0, off, len).ctx(&text)?;
                    let end = ((off + len) as usize).min(files[i].1.len());
                    if (off as usize) < end {
                        files[i].1[off as usize..end].fill(0);
                    }
                }
                8 if cow => {
                    let r = fallocate(&files[i].0, FallocateFlags::empty(), off, len);
                    ensure_errno!(r, Errno::OPNOTSUPP, "{text}");
                }
                8 => {
                    fallocate(&files[i].0, FallocateFlags::empty(), off, len).ctx(&text)?;
                    let model = &mut files[i].1;
                    model.resize(model.len().max((off + len) as usize), 0);
                }
                9 | 10 => {
                    let j = rng.below(FILES as u64) as usize;
                    let (src, dst) = (off / 4096 * 4096, rng.below(MAX) / 4096 * 4096);
                    let n = (len / 4096 + 1) * 4096;
                    let n = n.min(files[i].1.len() as u64 / 4096 * 4096 / 2);
                    let overlap = i == j && src.abs_diff(dst) < n;
                    if n == 0 || src + n > size || overlap {
                        continue;
                    }
                    let there = files[j].1.len();
                    clone_range(&files[j].0, &files[i].0, src, n, dst)
                        .ctx(format!("{text} to file {j} of size {there}"))?;
                    let data = files[i].1[src as usize..(src + n) as usize].to_vec();
                    let model = &mut files[j].1;
                    model.resize(model.len().max((dst + n) as usize), 0);
                    model[dst as usize..(dst + n) as usize].copy_from_slice(&data);
                }
                11 => unshare(&files[i].0, off, len)
                    .or_else(|e| {
                        // Beyond the end there is nothing to unshare.
                        if off >= size {
                            Ok(())
                        } else {
                            Err(e)
                        }
                    })
                    .ctx(&text)
                    .map(|()| {
                        // Without KEEP_SIZE the call extends the file like preallocation does.
                        let now = files[i].0.metadata().map_or(0, |s| s.len()) as usize;
                        let model = &mut files[i].1;
                        model.resize(model.len().max(now), 0);
                    })?,
                12 => {
                    if off < size {
                        let page = off / 4096 * 4096;
                        let end = (off + len).min(size);
                        let map = Map::new(&files[i].0, page, (end - page) as usize).ctx(&text)?;
                        let buf = patterned(op, off, (end - off) as usize);
                        map.write((off - page) as usize, &buf);
                        files[i].1[off as usize..end as usize].copy_from_slice(&buf);
                    }
                }
                13 => files[i].0.sync_all().ctx(&text)?,
                14 => {
                    let d = open_direct(&m.path(&format!("f{i}")))?;
                    let (at, n) = (off / 4096 * 4096, (len / 4096 + 1) * 4096);
                    write_direct(&d, op, at, n as usize).ctx(&text)?;
                    let model = &mut files[i].1;
                    model.resize(model.len().max((at + n) as usize), 0);
                    model[at as usize..(at + n) as usize]
                        .copy_from_slice(&patterned(op, at, n as usize));
                }
                15 => {
                    let keep = rng.below(2) == 0;
                    let flags = match keep {
                        true => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                        false => FallocateFlags::ZERO_RANGE,
                    };
                    fallocate(&files[i].0, flags, off, len).ctx(&text)?;
                    let model = &mut files[i].1;
                    let mut end = (off + len) as usize;
                    if keep {
                        end = end.min(model.len());
                    }
                    model.resize(model.len().max(end), 0);
                    if (off as usize) < end {
                        model[off as usize..end].fill(0);
                    }
                }
                16 | 17 => {
                    let (at, n) = (off / bs * bs, (len / 4 / bs + 1) * bs);
                    let collapse = size > MAX || rng.below(2) == 0;
                    let (flags, fits) = match collapse {
                        true => (FallocateFlags::COLLAPSE_RANGE, at + n < size),
                        false => (FallocateFlags::INSERT_RANGE, at < size),
                    };
                    let r = fallocate(&files[i].0, flags, at, n);
                    let model = &mut files[i].1;
                    if !fits {
                        ensure_errno!(r, Errno::INVAL, "{text}");
                    } else if collapse {
                        r.ctx(&text)?;
                        model.drain(at as usize..(at + n) as usize);
                    } else {
                        r.ctx(&text)?;
                        model.splice(at as usize..at as usize, vec![0; n as usize]);
                    }
                }
                18 => {
                    let j = rng.below(FILES as u64) as usize;
                    let at = off / bs * bs;
                    let n = (len / bs + 1) * bs;
                    let both = size.min(files[j].1.len() as u64);
                    if i == j || at + n > both {
                        continue;
                    }
                    let same = {
                        let range = at as usize..(at + n) as usize;
                        files[i].1[range.clone()] == files[j].1[range]
                    };
                    let r = dedupe_range(&files[i].0, at, n, &files[j].0, at).ctx(&text)?;
                    ensure_eq!(r, same.then_some(n), "{text}: dedupe");
                }
                _ => {
                    if op % 5 == 0 {
                        drop_caches()?;
                    }
                }
            }
            if op % 10 == 0 {
                let f = &files[i];
                compare(&text, &read_all(&m.path(&format!("f{i}")))?, &f.1)?;
            }
        }
        let models: Vec<Vec<u8>> = files.into_iter().map(|(_, model)| model).collect();
        m.cycle()?;
        for (i, model) in models.iter().enumerate() {
            compare(
                "after a remount",
                &read_all(&m.path(&format!("f{i}")))?,
                model,
            )?;
        }
        Ok(())
    })
}

fn main() -> ExitCode {
    ktap::run(
        &Env::new(),
        cases![random_model, random_model_always_cow],
        |_| {},
    )
}

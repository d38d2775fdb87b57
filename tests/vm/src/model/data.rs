// SPDX-License-Identifier: GPL-2.0

//! Operations on the content of files.

use crate::tree::Outcome;
use crate::world::{Touched, World, MAX};
use calf_vmlib::file::{extents, patterned, seek_data, seek_hole};
use calf_vmlib::rng::Rng;
use calf_vmlib::sys::{self, Aligned, Map};
use calf_vmlib::{ensure, ensure_eq, Context, Fail, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Page size of the test machine.
const PAGE: u64 = 4096;

/// A place in a file: often at the edge of something.
fn some_offset(r: &mut Rng, size: u64, align: u64) -> u64 {
    let at = match r.below(8) {
        0 => 0,
        1 => size,
        2 => size.saturating_sub(r.below(PAGE)),
        3 => size + r.below(3 * PAGE),
        4 => r.below(size + 1) / PAGE * PAGE,
        5 => (r.below(size + 1) / PAGE * PAGE).saturating_sub(r.below(20)),
        _ => r.below(size + 2 * PAGE),
    };
    at.min(MAX - PAGE) / align * align
}

fn some_len(r: &mut Rng, at: u64, align: u64) -> u64 {
    let len = match r.below(6) {
        0 => r.range(1, 10),
        1 => PAGE,
        2 | 3 => r.range(1, 3 * PAGE),
        4 => r.range(1, 64 << 10),
        _ => r.range(1, 5) * PAGE,
    };
    (len.max(align) / align * align).min(MAX - at).max(align)
}

fn one(at: usize, start: u64, end: u64) -> Result<Touched> {
    Ok(Touched {
        bytes: vec![(at, start, end)],
        ..Touched::default()
    })
}

fn size(w: &World, at: usize) -> u64 {
    w.tree.bytes(w.opens[at].id).len() as u64
}

/// A file, or the end of the operation.
macro_rules! file_or_return {
    ($w:expr, $r:expr) => {
        match $w.some_file($r)? {
            Some(at) => at,
            None => return Ok(Touched::default()),
        }
    };
}

/// The model's part of a write.
fn put(w: &mut World, at: usize, start: u64, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let bytes = w.tree.bytes_mut(w.opens[at].id);
    let (start, end) = (start as usize, start as usize + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

/// Writes a pattern through the page cache.
pub fn fill(w: &mut World, at: usize, start: u64, len: u64, seed: u64) -> Result {
    let data = patterned(seed, start, len as usize);
    w.opens[at]
        .file
        .write_all_at(&data, start)
        .ctx(format!("{}: write", w.text))?;
    put(w, at, start, &data);
    Ok(())
}

/// `write`, or an append.
pub fn write(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    let start = some_offset(r, size(w, at), 1);
    let len = some_len(r, start, 1);
    w.say(format!("write {start}+{len} to object {}", w.opens[at].id));
    fill(w, at, start, len, r.draw())?;
    one(at, start, start + len)
}

/// `write` past the page cache.
pub fn write_direct(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    if !w.offers.direct {
        return Ok(Touched::default());
    }
    let align = [512, w.bs.max(512), PAGE, PAGE][r.below(4) as usize];
    let start = some_offset(r, size(w, at), align);
    let len = some_len(r, start, align);
    w.say(format!(
        "write directly {start}+{len} to object {}",
        w.opens[at].id
    ));
    let data = Aligned::from(&patterned(r.draw(), start, len as usize));
    let file = w.reopen_direct(at)?;
    match file.write_at(&data, start) {
        Ok(n) => ensure_eq!(n as u64, len, "{}", w.text),
        // Not every filesystem writes less than a block.
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && align < PAGE => {
            return Ok(Touched::default());
        }
        Err(e) => return Err(e).ctx(w.text.clone()),
    }
    put(w, at, start, &data);
    one(at, start, start + len)
}

/// Stores through a shared map.
pub fn write_mapped(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    let size = size(w, at);
    if size == 0 {
        return Ok(Touched::default());
    }
    let start = r.below(size);
    let len = some_len(r, start, 1).min(size - start);
    w.say(format!("store {start}+{len} to object {}", w.opens[at].id));
    let base = start / PAGE * PAGE;
    let map = Map::new(&w.opens[at].file, base, (start - base + len) as usize).ctx("mmap")?;
    let data = patterned(r.draw(), start, len as usize);
    map.write((start - base) as usize, &data);
    // Behind the end of the file stores are lost (except on tmpfs).
    let past = start - base + len;
    if w.offers.own && start + len == size && past % PAGE != 0 && r.below(2) == 0 {
        let page = past.next_multiple_of(PAGE) - past;
        drop(map);
        let map = Map::new(&w.opens[at].file, base, (past + page) as usize).ctx("mmap")?;
        map.write(past as usize, &vec![0xee; page as usize]);
    }
    if r.below(4) == 0 {
        let map = Map::new(&w.opens[at].file, base, (start - base + len) as usize).ctx("mmap")?;
        map.sync().ctx("msync")?;
    }
    put(w, at, start, &data);
    one(at, start, start + len)
}

/// Reads a range: through the page cache, directly, through a map.
pub fn read(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    let size = size(w, at);
    let start = some_offset(r, size, 1);
    let end = start + some_len(r, start, 1);
    match r.below(3) {
        0 if w.offers.direct => {
            w.say(format!(
                "read directly {start}..{end} of object {}",
                w.opens[at].id
            ));
            w.check_bytes(at, start, end, true).ctx(w.text.clone())?;
        }
        1 if start < size => {
            w.say(format!("load {start}..{end} of object {}", w.opens[at].id));
            let base = start / PAGE * PAGE;
            let end = end.min(size);
            let map = Map::new(&w.opens[at].file, base, (end - base) as usize).ctx("mmap")?;
            let mut have = vec![0; (end - start) as usize];
            map.read((start - base) as usize, &mut have);
            let want = &w.tree.bytes(w.opens[at].id)[start as usize..end as usize];
            calf_vmlib::file::compare("load", &have, want).ctx(w.text.clone())?;
        }
        _ => {
            w.say(format!("read {start}..{end} of object {}", w.opens[at].id));
            w.check_bytes(at, start, end, false).ctx(w.text.clone())?;
        }
    }
    Ok(Touched::default())
}

/// `ftruncate`.
pub fn truncate(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    let old = size(w, at);
    let new = some_offset(r, old, 1);
    w.say(format!(
        "truncate {old} to {new} of object {}",
        w.opens[at].id
    ));
    w.opens[at].file.set_len(new).ctx(w.text.clone())?;
    w.tree.bytes_mut(w.opens[at].id).resize(new as usize, 0);
    one(at, new.min(old), old)
}

/// `fallocate` in all modes.
pub fn fallocate(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    if w.offers.falloc.is_empty() {
        return Ok(Touched::default());
    }
    let mode = w.offers.falloc[r.below(w.offers.falloc.len() as u64) as usize];
    let old = size(w, at);
    let shift = mode & 0x28 != 0;
    // Shifts must be aligned, and nearly always are here.
    let align = if shift && r.below(8) > 0 { w.bs } else { 1 };
    let start = some_offset(r, old, align);
    let len = some_len(r, start, align);
    let end = start + len;
    w.say(format!(
        "fallocate {mode:#x} {start}+{len} of object {} of {old}",
        w.opens[at].id
    ));
    let aligned = start % w.bs == 0 && len % w.bs == 0;
    let want: Outcome = match mode {
        0x08 if !aligned || end >= old => Err(Errno::INVAL),
        0x20 if !aligned || start >= old => Err(Errno::INVAL),
        // Files must not grow without end.
        0x20 if old + len > MAX => return Ok(Touched::default()),
        _ => Ok(()),
    };
    let flags = FallocateFlags::from_bits_retain(mode);
    let got = rustix::fs::fallocate(&w.opens[at].file, flags, start, len);
    let done = w.expect(got, want)?.is_some();
    let bytes = w.tree.bytes_mut(w.opens[at].id);
    if !done {
        return one(at, start, end);
    }
    let (s, e) = (start as usize, end as usize);
    match mode {
        0x08 => {
            bytes.drain(s..e);
        }
        0x20 => {
            bytes.splice(s..s, std::iter::repeat_n(0, len as usize));
        }
        _ => {
            if mode & 1 == 0 && bytes.len() < e {
                bytes.resize(e, 0);
            }
            let stop = bytes.len().min(e);
            if mode & 0x92 != 0 && s < stop {
                bytes[s..stop].fill(0);
            }
        }
    }
    one(at, start, if shift { old.max(end) } else { end })
}

fn copy_bytes(w: &mut World, from: usize, src: u64, len: u64, to: usize, dst: u64) {
    if len == 0 {
        return;
    }
    let data = w.tree.bytes(w.opens[from].id)[src as usize..(src + len) as usize].to_vec();
    put(w, to, dst, &data);
}

/// Two files, or one twice.
fn two(w: &mut World, r: &mut Rng) -> Result<Option<(usize, usize)>> {
    let Some(a) = w.some_file(r)? else {
        return Ok(None);
    };
    // The file may be closed by nothing that follows, so its place stays what it is.
    let b = if r.below(4) == 0 {
        Some(a)
    } else {
        w.some_file(r)?
    };
    Ok(b.map(|b| (a, b)))
}

/// `FICLONE`.
pub fn clone(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((from, to)) = two(w, r)?.filter(|_| w.offers.clone) else {
        return Ok(Touched::default());
    };
    let (a, b) = (w.opens[from].id, w.opens[to].id);
    w.say(format!("clone object {a} to {b}"));
    let (len, old) = (size(w, from), size(w, to));
    // A part of a block can only be shared at the ends of both files.
    let bad = len > 0 && (a == b || (len % w.bs != 0 && len < old));
    let want = if bad { Err(Errno::INVAL) } else { Ok(()) };
    let got = rustix::fs::ioctl_ficlone(&w.opens[to].file, &w.opens[from].file);
    if w.expect(got, want)?.is_some() {
        copy_bytes(w, from, 0, len, to, 0);
    }
    one(to, 0, MAX)
}

/// `FICLONERANGE`.
pub fn clone_range(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((from, to)) = two(w, r)?.filter(|_| w.offers.clone) else {
        return Ok(Touched::default());
    };
    let (a, b) = (w.opens[from].id, w.opens[to].id);
    let (src_size, dst_size) = (size(w, from), size(w, to));
    let bs = w.bs;
    let align = if r.below(10) > 0 { bs } else { 1 };
    let (src, dst) = (
        some_offset(r, src_size, align),
        some_offset(r, dst_size, align),
    );
    if src >= src_size {
        return Ok(Touched::default());
    }
    let mut len = some_len(r, src, align).min(src_size - src);
    // To the end of the source, or whole blocks.
    if src + len < src_size && align > 1 {
        len = len / bs * bs;
    }
    if len == 0 {
        return Ok(Touched::default());
    }
    w.say(format!(
        "clone {src}+{len} of object {a} ({src_size}) to {dst} of {b} ({dst_size})"
    ));
    let whole = src + len == src_size;
    // A part of a block can only be shared at the ends of both files.
    let inside = dst + len < dst_size && len % bs != 0;
    let rounded = if whole { len.next_multiple_of(bs) } else { len };
    let overlap = a == b && src < dst + rounded && dst < src + rounded;
    let bad = src % bs != 0 || dst % bs != 0 || (!whole && len % bs != 0) || inside || overlap;
    let want = if bad { Err(Errno::INVAL) } else { Ok(()) };
    let got = sys::clone_range(&w.opens[to].file, &w.opens[from].file, src, len, dst);
    if w.expect(got, want)?.is_some() {
        copy_bytes(w, from, src, len, to, dst);
    }
    one(to, dst, dst + len)
}

/// `FIDEDUPERANGE`, often of what is the same.
pub fn dedupe(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((from, to)) = two(w, r)?.filter(|_| w.offers.dedupe) else {
        return Ok(Touched::default());
    };
    let (a, b) = (w.opens[from].id, w.opens[to].id);
    if a == b {
        return Ok(Touched::default());
    }
    let bs = w.bs;
    let room = size(w, from).min(size(w, to));
    let (src, dst) = match r.below(3) {
        0 => (r.below(room / bs + 1) * bs, r.below(room / bs + 1) * bs),
        _ => {
            let at = r.below(room / bs + 1) * bs;
            (at, at)
        }
    };
    let most = (size(w, from).saturating_sub(src)).min(size(w, to).saturating_sub(dst));
    let len = (r.range(1, 20) * bs).min(most / bs * bs);
    if len == 0 {
        return Ok(Touched::default());
    }
    w.say(format!(
        "dedupe {src}+{len} of object {a} with {dst} of {b}"
    ));
    let part = |at: usize, pos: u64| {
        let bytes = w.tree.bytes(w.opens[at].id);
        bytes[pos as usize..(pos + len) as usize].to_vec()
    };
    let same = part(from, src) == part(to, dst);
    let got =
        sys::dedupe(&w.opens[from].file, src, len, &w.opens[to].file, dst).ctx(w.text.clone())?;
    ensure_eq!(got, same.then_some(len), "{}", w.text);
    one(to, dst, dst + len)
}

/// `copy_file_range`.
pub fn copy(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let Some((from, to)) = two(w, r)? else {
        return Ok(Touched::default());
    };
    let (a, b) = (w.opens[from].id, w.opens[to].id);
    let align = if r.below(2) == 0 { w.bs } else { 1 };
    let src = some_offset(r, size(w, from), align);
    let dst = some_offset(r, size(w, to), align);
    let asked = some_len(r, src.max(dst), align);
    let len = asked.min(size(w, from).saturating_sub(src));
    w.say(format!("copy {src}+{asked} of object {a} to {dst} of {b}"));
    let overlap = a == b && src < dst + len && dst < src + len;
    let want = if overlap && len > 0 {
        Err(Errno::INVAL)
    } else {
        Ok(())
    };
    let (mut off_in, mut off_out) = (src, dst);
    let mut left = len;
    // With nothing to copy, one call must say so.
    loop {
        let (f, g) = (&w.opens[from].file, &w.opens[to].file);
        let ask = if left == len { asked } else { left };
        let got =
            rustix::fs::copy_file_range(f, Some(&mut off_in), g, Some(&mut off_out), ask as usize);
        let Some(n) = w.expect(got, want)? else {
            return one(to, dst, dst + len);
        };
        ensure!(n as u64 <= left, "{}: copied {n} of {left}", w.text);
        left -= n as u64;
        if left == 0 {
            break;
        }
        ensure!(n > 0, "{}: ends with {left} left", w.text);
    }
    copy_bytes(w, from, src, len, to, dst);
    one(to, dst, dst + len)
}

/// `SEEK_DATA` and `SEEK_HOLE`: what is not zero is data.
pub fn seek(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    let size = size(w, at);
    if size == 0 {
        return Ok(Touched::default());
    }
    let mut pos = r.below(size);
    w.say(format!(
        "seek from {pos} in object {} of {size}",
        w.opens[at].id
    ));
    let open = &w.opens[at];
    let zero = |from: u64, to: u64| {
        let bytes = &w.tree.bytes(open.id)[from as usize..to as usize];
        bytes.iter().all(|b| *b == 0)
    };
    loop {
        let Some(data) = seek_data(&open.file, pos)? else {
            ensure!(zero(pos, size), "{}: no data from {pos} on", w.text);
            return Ok(Touched::default());
        };
        ensure!((pos..size).contains(&data), "{}: data at {data}", w.text);
        ensure!(zero(pos, data), "{}: a hole from {pos} to {data}", w.text);
        let hole = seek_hole(&open.file, data)?;
        ensure!(hole > data && hole <= size, "{}: a hole at {hole}", w.text);
        if hole == size {
            return Ok(Touched::default());
        }
        pos = hole;
    }
}

/// FIEMAP: in order, and no data where there is no extent.
pub fn fiemap(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    w.say(format!("FIEMAP of object {}", w.opens[at].id));
    let open = &w.opens[at];
    let all = match extents(&open.file) {
        Err(Fail { errno: Some(e), .. }) if e == Errno::OPNOTSUPP.raw_os_error() => {
            return Ok(Touched::default());
        }
        other => other.ctx(w.text.clone())?,
    };
    let bytes = w.tree.bytes(open.id);
    let mut end = 0;
    let size = bytes.len() as u64;
    for (i, e) in all.iter().enumerate() {
        ensure!(
            e.logical >= end && e.length > 0,
            "{}: {e:?} after {end}",
            w.text
        );
        let gap = &bytes[end.min(size) as usize..e.logical.min(size) as usize];
        ensure!(gap.iter().all(|b| *b == 0), "{}: data before {e:?}", w.text);
        ensure_eq!(
            e.flags & sys::FIEMAP_LAST != 0,
            i + 1 == all.len(),
            "{}: {e:?}",
            w.text
        );
        end = e.logical + e.length;
    }
    ensure!(
        bytes[end.min(size) as usize..].iter().all(|b| *b == 0),
        "{}: data behind the last extent",
        w.text
    );
    let _ = r;
    Ok(Touched::default())
}

/// Makes something durable, or drops what is cached.
pub fn sync(w: &mut World, r: &mut Rng) -> Result<Touched> {
    let at = file_or_return!(w, r);
    let open = &w.opens[at];
    let text = match r.below(5) {
        0 => {
            open.file.sync_all().ctx("fsync")?;
            "fsync"
        }
        1 => {
            open.file.sync_data().ctx("fdatasync")?;
            "fdatasync"
        }
        2 => {
            rustix::fs::syncfs(&open.file).ctx("syncfs")?;
            "syncfs"
        }
        3 if w.offers.own => {
            calf_vmlib::fs::drop_caches()?;
            "drop caches"
        }
        _ => {
            // The pages of one file.
            rustix::fs::fadvise(&open.file, 0, None, rustix::fs::Advice::DontNeed)
                .ctx("fadvise")?;
            File::open(&w.root)?.sync_all().ctx("fsync of the root")?;
            "drop pages"
        }
    };
    let id = open.id;
    w.say(format!("{text}, object {id}"));
    one(at, 0, MAX)
}

// SPDX-License-Identifier: GPL-2.0

//! Directories of many names: what an operation costs, positions of readdir that stay, names of
//! one hash. `CALF_SOAK=1` adds a directory of a million names.

use calf_vmlib::fs::{drop_caches, with_fs, Mounted};
use calf_vmlib::rng::{mix, Rng};
use calf_vmlib::{cases, ensure, ensure_eq, ktap, observe, Context, Env, Result};
use rustix::fs::{seek, AtFlags, Dir, Mode, OFlags, RawDir, SeekFrom, CWD};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Names in a row of measurements.
const SAMPLE: u64 = 1000;

fn name(n: u64) -> String {
    // Names of different lengths, in no order.
    format!("{:x}-{}", mix(n), "y".repeat((mix(n) % 24) as usize))
}

/// Microseconds for each of `SAMPLE` calls.
fn cost(mut f: impl FnMut(u64) -> Result) -> Result<f64> {
    let start = Instant::now();
    for i in 0..SAMPLE {
        f(i)?;
    }
    Ok(start.elapsed().as_micros() as f64 / SAMPLE as f64)
}

/// What one operation costs, in the order of [`WHAT`].
type Costs = [f64; 5];
const WHAT: [&str; 5] = ["create", "lookup", "miss", "list", "unlink"];

fn measure(dir: &File, at: u64) -> Result<Costs> {
    let rw = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    let mode = Mode::from_raw_mode(0o644);
    let create = cost(|i| {
        rustix::fs::openat(dir, name(at + i), rw, mode).ctx("create")?;
        Ok(())
    })?;
    // Cold names: their inodes are read as well.
    drop_caches()?;
    let mut rng = Rng::new(at);
    let lookup = cost(|_| {
        let n = name(rng.below(at + SAMPLE));
        rustix::fs::statat(dir, n, AtFlags::empty()).ctx("lookup")?;
        Ok(())
    })?;
    let miss = cost(|i| {
        let n = format!("no-{at}-{i}");
        ensure!(
            rustix::fs::statat(dir, n, AtFlags::empty()).is_err(),
            "found"
        );
        Ok(())
    })?;
    drop_caches()?;
    let start = Instant::now();
    let mut count = 0u64;
    for e in Dir::read_from(dir)? {
        e.ctx("readdir")?;
        count += 1;
    }
    ensure_eq!(count, at + SAMPLE + 2, "names");
    let list = start.elapsed().as_micros() as f64 / count as f64;
    let unlink = cost(|i| {
        rustix::fs::unlinkat(dir, name(at + i), AtFlags::empty()).ctx("unlink")?;
        Ok(())
    })?;
    Ok([create, lookup, miss, list, unlink])
}

fn fill(dir: &File, from: u64, to: u64) -> Result {
    let mode = Mode::from_raw_mode(0o644);
    for n in from..to {
        rustix::fs::mknodat(dir, name(n), rustix::fs::FileType::RegularFile, mode, 0)
            .ctx("create")?;
    }
    Ok(())
}

fn growth(env: &Env, most: u64) -> Result {
    with_fs(env, &[], "", |m| {
        m.sync()?;
        let before = m.space()?;
        fs::create_dir(m.path("d"))?;
        let dir = File::open(m.path("d"))?;
        fill(&dir, 0, SAMPLE)?;
        let small = measure(&dir, SAMPLE)?;
        fill(&dir, SAMPLE, most)?;
        let large = measure(&dir, most)?;
        for (what, (s, l)) in WHAT.iter().zip(small.iter().zip(large)) {
            ktap::note(&format!(
                "{what}: {s:.0} us at {SAMPLE}, {l:.0} us at {most}"
            ));
        }
        for (what, (s, l)) in WHAT.iter().zip(small.iter().zip(large)) {
            // Trees grow by a level or two, and less of them is in memory. A list, or anything
            // else that is looked through from the start, would cost a hundred times as much.
            ensure!(
                l < 10.0 * s + 100.0,
                "{what} costs {s:.0} us with few names and {l:.0} us with many"
            );
        }
        ensure_eq!(dir.metadata()?.nlink(), 2, "links");
        drop(dir);
        m.cycle()?;
        let dir = File::open(m.path("d"))?;
        for n in 0..most {
            rustix::fs::unlinkat(&dir, name(n), AtFlags::empty()).ctx("unlink")?;
        }
        ensure_eq!(dir.metadata()?.size(), 0, "size at the end");
        drop(dir);
        fs::remove_dir(m.path("d"))?;
        m.sync()?;
        let after = m.space()?;
        ensure_eq!(after.files_used(), before.files_used(), "inodes");
        ensure_eq!(after.free, before.free, "blocks");
        Ok(())
    })
}

fn cost_grows_slowly(env: &Env) -> Result {
    growth(env, 50_000)
}

fn million(env: &Env) -> Result {
    if std::env::var_os("CALF_SOAK").is_none() {
        return Err(calf_vmlib::Fail::skip("only with CALF_SOAK=1"));
    }
    growth(env, 1_000_000)
}

/// All names from position `from` on, each with the position after it.
fn list(dir: &Path, from: u64) -> Result<Vec<(String, u64)>> {
    let file = File::open(dir)?;
    seek(&file, SeekFrom::Start(from)).ctx("seekdir")?;
    let mut buf = vec![MaybeUninit::uninit(); 2048];
    let mut raw = RawDir::new(&file, &mut buf);
    let mut all = Vec::new();
    while let Some(e) = raw.next() {
        let e = e.ctx("getdents")?;
        let name = e.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            all.push((name, e.next_entry_cookie()));
        }
    }
    Ok(all)
}

/// A position that was told stays right while nodes split and merge: from there on come exactly
/// those of the names that were to come and still are, and no others but new ones.
fn positions_are_stable(env: &Env) -> Result {
    for bs in ["1024", "4096"] {
        with_fs(env, &["-b", bs], "", |m| {
            fs::create_dir(m.path("d"))?;
            let d = m.path("d");
            fill(&File::open(&d)?, 0, 3000)?;
            let old = list(&d, 0)?;
            ensure_eq!(old.len(), 3000, "names");
            let mut rng = Rng::new(5);
            let mut there: BTreeSet<&str> = old.iter().map(|(n, _)| n.as_str()).collect();
            for round in 0..4u64 {
                for (n, _) in &old {
                    if rng.below(3) == 0 && there.remove(n.as_str()) {
                        fs::remove_file(d.join(n))?;
                    }
                }
                fill(
                    &File::open(&d)?,
                    10_000 + round * 2500,
                    12_500 + round * 2500,
                )?;
                if round == 1 {
                    m.cycle()?;
                }
                for _ in 0..40 {
                    let at = rng.below(old.len() as u64) as usize;
                    let rest = list(&d, old[at].1)?;
                    let rest: BTreeSet<&str> = rest.iter().map(|(n, _)| n.as_str()).collect();
                    for (i, (n, _)) in old.iter().enumerate() {
                        let n = n.as_str();
                        ensure_eq!(
                            rest.contains(n),
                            i > at && there.contains(n),
                            "round {round}: {n}, number {i}, after number {at}"
                        );
                    }
                }
            }
            Ok(())
        })
        .ctx(format!("blocks of {bs}"))?;
    }
    Ok(())
}

/// One reader that never closes its directory sees every name once, whatever comes and goes.
fn reader_among_writers(env: &Env) -> Result {
    with_fs(env, &["-b", "1024"], "", |m| {
        let d = m.path("d");
        fs::create_dir(&d)?;
        fill(&File::open(&d)?, 0, 2000)?;
        let keep: BTreeSet<String> = (0..2000).map(name).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut n = 0;
                while !done.load(relaxed) {
                    let p = d.join(format!("w{}", n % 700));
                    let _ = if n % 1400 < 700 {
                        File::create(p).map(drop)
                    } else {
                        fs::remove_file(p)
                    };
                    n += 1;
                }
            });
            let read = || -> Result {
                for round in 0..30 {
                    let mut seen = BTreeSet::new();
                    for (n, _) in list(&d, 0)? {
                        ensure!(seen.insert(n.clone()), "round {round}: {n} twice");
                    }
                    ensure!(keep.is_subset(&seen), "round {round}: names are missing");
                }
                Ok(())
            };
            let outcome = read();
            done.store(true, relaxed);
            outcome
        })
    })
}

/// SipHash-2-4.
fn siphash(key: [u64; 2], data: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    fn rounds(v: &mut [u64; 4], n: usize) {
        for _ in 0..n {
            v[0] = v[0].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(13) ^ v[0];
            v[0] = v[0].rotate_left(32);
            v[2] = v[2].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(16) ^ v[2];
            v[0] = v[0].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(21) ^ v[0];
            v[2] = v[2].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(17) ^ v[2];
            v[2] = v[2].rotate_left(32);
        }
    }
    let mut word = |w: u64| {
        v[3] ^= w;
        rounds(&mut v, 2);
        v[0] ^= w;
    };
    let mut chunks = data.chunks_exact(8);
    for c in chunks.by_ref() {
        word(u64::from_le_bytes(c.try_into().unwrap_or_default()));
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    last[7] = data.len() as u8;
    word(u64::from_le_bytes(last));
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// Names of one hash, found with the key that the superblock holds.
fn names_of_one_hash(env: &Env) -> Result {
    with_fs(env, &[], "", |m| {
        let mut key = [0; 16];
        File::open(&m.dev)?.read_exact_at(&mut key, 120)?;
        let key = [0, 8].map(|i| u64::from_le_bytes(key[i..i + 8].try_into().unwrap_or_default()));
        // Among 2^22 names of 40 bits there are about eight pairs.
        let mut seen: HashMap<u64, u32> = HashMap::with_capacity(1 << 22);
        let mut pairs: Vec<(String, String)> = Vec::new();
        for n in 0..1u32 << 23 {
            let hash = siphash(key, format!("n{n}").as_bytes()) & ((1 << 40) - 1);
            if let Some(other) = seen.insert(hash, n) {
                pairs.push((format!("n{other}"), format!("n{n}")));
                if pairs.len() == 4 {
                    break;
                }
            }
        }
        ensure!(!pairs.is_empty(), "no pair found");
        ktap::note(&format!(
            "{} pairs, the first is {:?}",
            pairs.len(),
            pairs[0]
        ));
        let d = m.path("d");
        fs::create_dir(&d)?;
        for (a, b) in &pairs {
            collide(m, &d, a, b).ctx(format!("{a} and {b}"))?;
        }
        // With others around, in a tree of nodes.
        fill(&File::open(&d)?, 0, 2000)?;
        for (a, b) in &pairs {
            collide(m, &d, a, b).ctx(format!("{a} and {b} among others"))?;
        }
        Ok(())
    })
}

fn collide(m: &mut Mounted, d: &Path, a: &str, b: &str) -> Result {
    let (pa, pb) = (d.join(a), d.join(b));
    let is = |p: &Path, what: &str| -> Result<bool> {
        Ok(fs::read_to_string(p).ctx(p.display())? == what)
    };
    fs::write(&pa, "a")?;
    ensure!(!pb.exists(), "the other is there");
    let alone: BTreeMap<String, u64> = list(d, 0)?.into_iter().collect();
    fs::write(&pb, "b")?;
    drop_caches()?;
    ensure!(is(&pa, "a")? && is(&pb, "b")?, "contents");
    let both: BTreeMap<String, u64> = list(d, 0)?.into_iter().collect();
    ensure!(
        both.contains_key(a) && both.contains_key(b),
        "one is not listed"
    );
    // After the first of them comes the second, whose position is that of the hash plus one.
    let second = both[a].min(both[b]);
    ensure_eq!(second & ((1 << 22) - 1), 1, "position within the hash");
    ensure_eq!(alone.len() + 1, both.len(), "names");
    // The first goes, the second stays where it is and can be found and moved.
    fs::remove_file(&pa)?;
    drop_caches()?;
    ensure!(!pa.exists() && is(&pb, "b")?, "after the first is gone");
    fs::rename(&pb, &pa).ctx("onto the place of the other")?;
    ensure!(!pb.exists() && is(&pa, "b")?, "after the rename");
    fs::write(&pb, "new")?;
    rustix::fs::renameat_with(CWD, &pa, CWD, &pb, rustix::fs::RenameFlags::EXCHANGE)?;
    m.cycle()?;
    ensure!(is(&pa, "new")? && is(&pb, "b")?, "after an exchange");
    fs::remove_file(&pb)?;
    fs::remove_file(&pa)?;
    ensure_eq!(list(d, 0)?.len() + 1, alone.len(), "names at the end");
    Ok(())
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            cost_grows_slowly,
            positions_are_stable,
            reader_among_writers,
            names_of_one_hash,
            million,
        ],
        |_| {},
    )
}

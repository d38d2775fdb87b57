// SPDX-License-Identifier: GPL-2.0

//! What the files are that a crash has left.

use calf_crash::log::{Found, Line, Times};
use calf_crash::unit::{self, Value, UNIT};
use calf_vmlib::{ensure, ensure_eq, Context, Result};
use rustix::fs::{statx, AtFlags, StatxFlags, CWD};
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most units of one boot whose contents are told: far more than are ever torn.
const TOLD: usize = 512;

/// Describes all files below `dir`, by their paths below `root`.
pub fn describe(root: &Path, dir: &Path, all: &mut Vec<Line>) -> Result {
    for e in fs::read_dir(dir).ctx(dir.display())? {
        let path = e.ctx(dir.display())?.path();
        let meta = fs::symlink_metadata(&path).ctx(path.display())?;
        if meta.is_dir() {
            describe(root, &path, all)?;
            continue;
        }
        let id = meta.uid().into();
        ensure_eq!(u64::from(meta.gid()), id, "group of {}", path.display());
        let data = fs::read(&path).ctx(path.display())?;
        ensure!(data.len() as u64 == meta.len(), "{}: short", path.display());
        let mut runs: Vec<(u64, u64, Value)> = Vec::new();
        for (i, u) in data.chunks(UNIT).enumerate() {
            let value = unit::inspect(u, i as u64);
            if value == Value::Bad && all.len() < TOLD {
                let (unit, bytes) = (i as u64, u.to_vec());
                all.push(Line::Torn { id, unit, bytes });
            }
            match runs.last_mut() {
                Some((_, len, v)) if *v == value => *len += 1,
                _ => runs.push((i as u64, 1, value)),
            }
        }
        let name = path.strip_prefix(root).unwrap_or(&path);
        all.push(Line::Found(Found {
            id,
            path: name.to_string_lossy().into_owned(),
            size: meta.len(),
            mark: read_mark(&path)?,
            times: times(&path)?,
            runs,
        }));
    }
    Ok(())
}

/// Times of a file.
pub fn times(path: &Path) -> Result<Times> {
    let s = statx(CWD, path, AtFlags::empty(), StatxFlags::ALL).ctx(path.display())?;
    let ns = |t: rustix::fs::StatxTimestamp| t.tv_sec * 1_000_000_000 + i64::from(t.tv_nsec);
    let [born, data, change] = [s.stx_btime, s.stx_mtime, s.stx_ctime].map(ns);
    Ok(Times { born, data, change })
}

/// An extended attribute that is replaced now and then: one byte repeated, its value says how often.
pub const MARK: &str = "user.mark";

/// The mark that this byte stands for.
pub fn mark(byte: u8) -> Vec<u8> {
    vec![byte; 1 + usize::from(byte) * 256]
}

/// Which mark a file has; after a crash it is one of those that it got, whole.
fn read_mark(path: &Path) -> Result<Option<u8>> {
    let mut value = vec![0; 65536];
    match rustix::fs::getxattr(path, MARK, &mut value[..]) {
        Ok(len) => {
            ensure!(
                value[..len] == mark(value[0]),
                "{}: a mark of {len} bytes beginning with {} is mixed",
                path.display(),
                value[0]
            );
            Ok(Some(value[0]))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(e) => Err(e).ctx(path.display()),
    }
}

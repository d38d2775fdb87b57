// SPDX-License-Identifier: GPL-2.0

//! Uses a damaged filesystem as well as it can be used: reads everything, and changes what has structures of its own
//! (shared blocks, many extents, attributes in a tree, directories). Damage may make anything fail, but only with the
//! errors that say so, and with those that the operation has for what it finds.

use calf_vmlib::file::{fallocate, open, open_direct, punch, unshare, write_direct, write_pattern};
use calf_vmlib::fs::Mounted;
use calf_vmlib::xattr;
use calf_vmlib::{ensure, Context, Env, Fail, Result};
use rustix::fs::{fstat, FallocateFlags, FileType, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

/// What says that something is damaged: a structure, its checksum; or that there was damage before, which has shut the
/// filesystem down.
const DAMAGED: &[Errno] = &[Errno::UCLEAN, Errno::BADMSG, Errno::IO];

/// Reads everything there is. Returns the number of files, and the errors.
pub fn read_all(dir: &Path, depth: u32, errors: &mut Vec<Fail>) -> u64 {
    let mut files = 0;
    let entries = match fs::read_dir(dir).ctx(format!("readdir {}", dir.display())) {
        Ok(entries) => entries,
        Err(e) => {
            errors.push(e);
            return 0;
        }
    };
    for entry in entries {
        let result = entry.map_err(Into::into).and_then(|entry| -> Result {
            let path = entry.path();
            files += 1;
            let meta = fs::symlink_metadata(&path).ctx(format!("stat {}", path.display()))?;
            xattr::all(&path)?;
            if meta.is_dir() && depth < 20 {
                files += read_all(&path, depth + 1, errors);
            } else if meta.is_symlink() {
                fs::read_link(&path).ctx(format!("readlink {}", path.display()))?;
            } else if meta.is_file() {
                // Not to the end of what a damaged size may say.
                let mut file = fs::File::open(&path).ctx(format!("open {}", path.display()))?;
                let mut part = file.by_ref().take(1 << 20);
                std::io::copy(&mut part, &mut std::io::sink())
                    .ctx(format!("read {}", path.display()))?;
            }
            Ok(())
        });
        errors.extend(result.err());
    }
    files
}

/// A change, and the errors beside [`DAMAGED`] that are right for it.
struct Step {
    name: &'static str,
    act: fn(&Mounted, u64) -> Result,
    may: &'static [Errno],
}

/// A name may lead to nothing, as one that does not fit its hash does.
const GONE: Errno = Errno::NOENT;

/// In this order, from any of them on: who writes before who cuts, who cuts before who removes.
const STEPS: &[Step] = &[
    Step {
        name: "write",
        act: |m, seed| {
            let f = open(&m.path("written into the damage"))?;
            write_pattern(&f, seed, 0, 300_000)?;
            f.sync_all().ctx("fsync")
        },
        may: &[],
    },
    Step {
        name: "preallocate",
        act: |m, _| {
            let f = open(&m.path("written into the damage"))?;
            fallocate(&f, FallocateFlags::empty(), 0, 4 << 20)
        },
        may: &[],
    },
    Step {
        name: "write shared",
        act: |m, seed| {
            let f = regular(m, "sparse")?;
            for i in (0..200).step_by(7) {
                write_pattern(&f, seed, i * 4096 + 100, 200)?;
            }
            f.sync_all().ctx("fsync")
        },
        may: &[GONE],
    },
    Step {
        name: "write shared directly",
        act: |m, seed| {
            drop(regular(m, "dir0/copy")?);
            write_direct(&open_direct(&m.path("dir0/copy"))?, seed, 8192, 4096)
        },
        may: &[GONE],
    },
    Step {
        name: "unshare",
        act: |m, _| {
            let f = regular(m, "dir0/copy")?;
            unshare(&f, 0, 100 * 4096)?;
            f.sync_all().ctx("fsync")
        },
        may: &[GONE],
    },
    Step {
        name: "punch",
        act: |m, _| {
            let f = regular(m, "sparse")?;
            punch(&f, 300_000, 200_000)?;
            f.sync_all().ctx("fsync")
        },
        may: &[GONE],
    },
    Step {
        name: "truncate",
        act: |m, _| {
            let f = regular(m, "dir0/copy")?;
            f.set_len(5000).ctx("truncate")?;
            f.set_len(1 << 20).ctx("truncate")?;
            f.sync_all().ctx("fsync")
        },
        may: &[GONE],
    },
    Step {
        name: "set attributes",
        act: |m, _| {
            let path = m.path("dir0/copy");
            let any = XattrFlags::empty();
            rustix::fs::setxattr(&path, "user.n3", &[1; 3000], any).ctx("setxattr")?;
            rustix::fs::setxattr(&path, "user.new", b"new", any).ctx("setxattr")?;
            rustix::fs::removexattr(&path, "user.n7").ctx("removexattr")
        },
        // The attributes may be gone, too.
        may: &[GONE, Errno::NODATA],
    },
    Step {
        name: "rename",
        act: |m, _| {
            fs::rename(m.path("dir2/file3"), m.path("dir4/file3")).ctx("rename over")?;
            fs::rename(m.path("dir2/file4"), m.path("dir4/a new name")).ctx("rename")
        },
        may: &[GONE],
    },
    Step {
        name: "unlink both",
        act: |m, _| {
            fs::remove_file(m.path("sparse")).ctx("unlink")?;
            fs::remove_file(m.path("dir1/another name")).ctx("unlink")?;
            fs::remove_file(m.path("dir0/copy")).ctx("unlink")
        },
        may: &[GONE],
    },
    Step {
        name: "remove a tree",
        act: |m, _| fs::remove_dir_all(m.path("dir3")).ctx("remove a tree"),
        may: &[GONE],
    },
];

/// Opens what should be a regular file, which damage may have made something else.
fn regular(m: &Mounted, name: &str) -> Result<fs::File> {
    let path = m.path(name);
    let meta = fs::symlink_metadata(&path).ctx("stat")?;
    ensure!(meta.is_file(), "{NOT_A_FILE}");
    let f = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .ctx("open")?;
    let mode = fstat(&f).ctx("fstat")?.st_mode;
    ensure!(FileType::from_raw_mode(mode).is_file(), "{NOT_A_FILE}");
    Ok(f)
}

const NOT_A_FILE: &str = "it is no file any more";

/// How often which error was the answer to what.
#[derive(Default)]
pub struct Answers(BTreeMap<(String, String), u64>);

impl Answers {
    /// Counts an error; is it one of `may`, or says that there is damage?
    fn is_right(&mut self, what: &str, e: &Fail, may: &[Errno]) -> bool {
        let Some(errno) = e.errno else {
            return e.to_string().contains(NOT_A_FILE);
        };
        let name = format!("{:?}", std::io::Error::from_raw_os_error(errno).kind());
        *self
            .0
            .entry((what.to_string(), format!("{errno} {name}")))
            .or_default() += 1;
        DAMAGED
            .iter()
            .chain(may)
            .any(|known| known.raw_os_error() == errno)
    }

    /// What was counted, in lines.
    pub fn lines(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|((what, errno), n)| format!("{what}: {errno}: {n}"))
            .collect()
    }
}

/// The errors that a value has which is odd, but not wrong: the field named in `done` may have it, or anything may after
/// random damage (`seed`).
fn odd(done: &str) -> Vec<Errno> {
    let about = |field: &str| done.contains(field) || done.starts_with("seed");
    let mut may = Vec::new();
    if about(".uid") || about(".gid") {
        // An owner that there cannot be: the VFS lets nobody change it.
        may.extend([Errno::ACCESS, Errno::OVERFLOW, Errno::PERM]);
    }
    if about(".flags") {
        // Immutable, or only to append to.
        may.push(Errno::PERM);
    }
    may
}

/// The errors of a mount beside [`DAMAGED`].
fn of_mount(done: &str) -> Vec<Errno> {
    // No filesystem of this kind, or with features that are not known.
    let mut may = vec![Errno::INVAL];
    let errno = ["journal.errno", "log(super).errno", "seed"];
    if errno.iter().any(|w| done.starts_with(w)) {
        // The journal says that it ended with an error: to be read, until fsck.calf has looked at it.
        may.push(Errno::ROFS);
    }
    if done.starts_with("log(") {
        // What jbd2 says of a block beyond the end of the device.
        may.push(Errno::NOMEM);
    }
    may
}

/// Mounts, reads, changes and unmounts the filesystem on `dev`, which is damaged as `done` says.
pub fn exercise(env: &Env, dev: &Path, seed: u64, done: &str, answers: &mut Answers) -> Result {
    let mut m = match Mounted::new(dev, &env.mnt, "") {
        Ok(m) => m,
        Err(e) => {
            return match answers.is_right("mount", &e, &of_mount(done)) {
                true => Ok(()),
                false => Err(e),
            };
        }
    };
    let odd = odd(done);
    // Whoever finds the damage first ends the filesystem for the others: each begins once.
    let mut wrong = Vec::new();
    let turns = STEPS.len() + 1;
    for i in (0..turns).cycle().skip(seed as usize % turns).take(turns) {
        let mut errors = Vec::new();
        let (name, may) = match STEPS.get(i) {
            Some(step) => {
                errors.extend((step.act)(&m, seed).err());
                (step.name, step.may)
            }
            None => {
                read_all(&m.mnt, 0, &mut errors);
                // An attribute may be listed that has no value, and a list may be longer than one may ask for.
                (
                    "read",
                    &[GONE, Errno::NODATA, Errno::RANGE, Errno::LOOP][..],
                )
            }
        };
        for e in errors {
            if !answers.is_right(name, &e, &[may, &odd].concat()) {
                wrong.push(format!("{name}: {e}"));
            }
        }
    }
    m.umount()?;
    ensure!(wrong.is_empty(), "{done}: {}", wrong.join("; "));
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Checks that no switch makes fire: the laboratory lies to each (`rust/lab/checks/lies.rs`), and it must
//! speak up. `scripts/checks.py` makes docs/checks.md of the table.

use calf_vmlib::error::Context;
use calf_vmlib::file::{
    clone_file, extents, fallocate, open, open_direct, patterned, punch, read_at, seek_data,
    write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, fsck, mkfs, with_fs, Mounted};
use calf_vmlib::observe::{forget_violations, mount_debugfs, violations};
use calf_vmlib::sys::{write_flags, write_into_the_void, Aligned, Map, RWF_ATOMIC};
use calf_vmlib::{cases, ensure, ensure_errno, ktap, Env, Fail, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::process::ExitCode;

const CHECKS: &str = "/sys/kernel/debug/calf/checks";
const KIB: u64 = 1024;

/// How a check is made to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It is shown something that is not so.
    Shown,
    /// Its verdict is turned.
    Turned,
}
use How::{Shown, Turned};

/// Check, how it is made to fire here, why no switch does.
const LIES: &[(&str, How, &str)] = &[
    (
        "C-MAP-COVER",
        Shown,
        "a lookup is cut to begin with the block that was asked for",
    ),
    ("C-MAP-LEN0", Shown, "the type of a range has no empty one"),
    ("C-MAP-ALIGN", Shown, "ranges are made of blocks"),
    (
        "C-MAP-ADDR",
        Shown,
        "the types have no address for holes, and none is read without a look at it",
    ),
    (
        "C-MAP-NOHOLE-WRITE",
        Shown,
        "the answer to a write has no hole",
    ),
    ("C-FLAG-OWN", Shown, "nothing in calf can set these flags"),
    (
        "C-BEGIN-FAIL",
        Turned,
        "what a switch leaks belongs to an inode, and goes with it before the umount",
    ),
    ("C-END-ARGS", Shown, "these are numbers of the core"),
    ("C-END-ALWAYS", Turned, "the core calls end"),
    (
        "C-NO-LOCK-ACROSS",
        Turned,
        "who kept the lock would stop the machine",
    ),
    (
        "C-SRC-HOLE",
        Shown,
        "a source is made of written blocks only",
    ),
    (
        "C-SRC-SANE",
        Shown,
        "a source is made of written blocks only",
    ),
    (
        "C-SRC-NOT-FOR-READ",
        Shown,
        "the answer to a read has no source",
    ),
    (
        "C-SHARED-MEANING",
        Shown,
        "the flag comes with the variant of the answer",
    ),
    (
        "C-NEW-ZERO",
        Shown,
        "the flag comes with a new reservation only",
    ),
    (
        "C-DIRTY",
        Shown,
        "no report of a lost O_DSYNC has become a switch",
    ),
    ("C-ANON-WRITE", Shown, "nothing in calf can set other flags"),
    (
        "C-COOKIE-BUMP",
        Shown,
        "no report of a change that was not counted has become a switch",
    ),
    (
        "C-WR-PRECHECK",
        Turned,
        "all writes come by one function, which takes the lock",
    ),
    (
        "C-MKWRITE-LOCK",
        Turned,
        "all faults come by one function, which takes the lock",
    ),
    ("C-WB-RANGE-RET", Shown, "the number is that of the core"),
    (
        "C-WB-TYPE",
        Shown,
        "the answer of writeback has no reservation",
    ),
    (
        "C-WB-CONTEXT",
        Turned,
        "writeback has one entry, which opens the scope",
    ),
    (
        "C-IOEND-CTX",
        Turned,
        "calf's own completion runs in a worker only",
    ),
    (
        "C-IOEND-UNWRITTEN",
        Shown,
        "no report of a conversion left out has become a switch",
    ),
    (
        "C-PIN",
        Shown,
        "what is claimed and what is pinned is decided by one function",
    ),
    (
        "C-DIO-ENDIO-CTX",
        Turned,
        "a transaction in an interrupt would stop the machine",
    ),
    (
        "C-DIO-UNWRITTEN",
        Shown,
        "no report of a conversion left out has become a switch",
    ),
    (
        "C-DIO-DELALLOC",
        Shown,
        "the answer to direct I/O has no reservation",
    ),
    (
        "C-DIO-OVERWRITE-ONLY",
        Shown,
        "such a request is answered by a function that has nothing else",
    ),
    (
        "C-DIO-UNALIGNED-COW",
        Shown,
        "parts of blocks are only written as overwrite",
    ),
    (
        "C-DIO-ATOMIC",
        Shown,
        "such a request is answered by a function that has nothing else",
    ),
    (
        "C-DIO-SERIALISE",
        Turned,
        "fallocate_no_diowait unmaps when the direct write has ended",
    ),
    (
        "C-LOCK-ORDER",
        Turned,
        "a wrong order would stop the machine, sooner or later",
    ),
    (
        "C-LOCK-1",
        Turned,
        "a wrong order would stop the machine, sooner or later",
    ),
    (
        "C-LOCK-5",
        Turned,
        "all clones come by one function, which takes the locks",
    ),
    (
        "C-READ-ZERO",
        Shown,
        "a wrong type for a read is no report that has become a switch",
    ),
    ("C-INLINE", Shown, "nothing in calf is inline"),
];

/// Goes all the ways that are looked at. `n` makes names.
fn load(m: &Mounted, n: usize) -> Result {
    let keep = FallocateFlags::KEEP_SIZE;
    let f = open(&m.path(&format!("f{n}")))?;
    let bs = m.space()?.bsize;
    write_pattern(&f, 1, 0, 64 * KIB)?;
    // The next block is preallocated and stays so.
    fallocate(&f, keep, 64 * KIB, 64 * KIB)?;
    write_pattern(&f, 1, 64 * KIB, bs)?;
    f.sync_all().ctx("fsync")?;
    drop_caches()?;
    read_at(&f, 0, 64 * KIB as usize)?;
    // Out of place, a part of a block.
    let g = open(&m.path(&format!("g{n}")))?;
    clone_file(&g, &f)?;
    write_pattern(&g, 2, 100, 100)?;
    g.sync_all().ctx("fsync")?;
    Map::new(&g, 16 * KIB, 4096).ctx("mmap")?.write(0, b"map");
    extents(&g)?;
    seek_data(&g, 0)?;
    // Directly: out of place, over EOF, in place, into what is preallocated, a part of a block.
    let d = open_direct(&m.path(&format!("g{n}")))?;
    write_direct(&d, 3, 32 * KIB, 8 * KIB as usize)?;
    let end = d.metadata().ctx("stat")?.len();
    write_direct(&d, 3, end, bs as usize)?;
    write_direct(&d, 3, 32 * KIB, bs as usize)?;
    fallocate(&d, keep, 256 * KIB, 64 * KIB)?;
    write_direct(&d, 3, 256 * KIB, bs as usize)?;
    write_direct(&d, 3, 32 * KIB + 512, 512)?;
    let mut buf = Aligned::new(8 * KIB as usize);
    std::os::unix::fs::FileExt::read_at(&d, &mut buf, 32 * KIB).ctx("direct read")?;
    let whole = Aligned::from(&patterned(4, 0, bs as usize));
    write_flags(&d, &whole, 0, RWF_ATOMIC).ctx("atomic write")?;
    // Zeroing, unmapping, another size.
    punch(&g, 8 * KIB + 100, 16 * KIB)?;
    g.set_len(10_000).ctx("truncate")
}

fn tell(word: &str) -> std::io::Result<()> {
    std::fs::write(CHECKS, word)
}

/// The load on a mount of its own. Returns the contracts that were seen broken.
fn broken(env: &Env, n: usize) -> Result<Vec<String>> {
    let mut m = Mounted::new(&env.dev, &env.mnt, "")?;
    let outcome = ktap::guarded(|| load(&m, n));
    m.umount()?;
    drop(m);
    outcome?;
    Ok(violations().into_keys().collect())
}

fn every_check_speaks_up(env: &Env) -> Result {
    forget_violations()?;
    mkfs(env, &env.dev, &[])?;
    let honest = broken(env, 0)?;
    ensure!(honest.is_empty(), "broken without a lie: {honest:?}");
    let mut silent = Vec::new();
    for (n, (id, how, _)) in LIES.iter().enumerate() {
        tell(id).ctx(*id)?;
        let seen = broken(env, n + 1);
        forget_violations()?;
        let seen = seen.ctx(*id)?;
        ktap::note(&format!("{id} {how:?}: {}", seen.join(" ")));
        // A verdict is one check's; what is shown may offend several.
        let fine = match how {
            Shown => seen.iter().any(|s| s == id),
            Turned => seen == [*id],
        };
        if !fine {
            silent.push(*id);
        }
    }
    ensure!(silent.is_empty(), "not as they should be: {silent:?}");
    fsck(env, &env.dev)
}

/// Here a switch does, with files that its reproducer does not have: nothing was shared.
fn punch_range_speaks_up(env: &Env) -> Result {
    with_fs(env, &[], "bug=punch_wrong_fork", |m| {
        let f = open(&m.path("f"))?;
        let n = write_into_the_void(&f, &[b'W'; 65536], 1 << 20, 0).ctx("short write")?;
        ensure!(n == 65536, "the write was not cut: {n}");
        let seen = violations();
        ensure!(seen.contains_key("C-PUNCH-RANGE"), "{seen:?}");
        forget_violations()
    })
}

fn no_lies_about_what_is_no_contract(_: &Env) -> Result {
    let refused = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    ensure_errno!(tell("C-NONSENSE").map_err(refused), Errno::INVAL, "unknown");
    ensure_errno!(
        tell(&"x".repeat(100)).map_err(refused),
        Errno::INVAL,
        "too long"
    );
    tell("nothing").map_err(|e| Fail::new(e.to_string()))
}

fn main() -> ExitCode {
    let env = Env::new();
    mount_debugfs();
    ktap::run(
        &env,
        cases![
            every_check_speaks_up,
            punch_range_speaks_up,
            no_lies_about_what_is_no_contract,
        ],
        |_| {},
    )
}

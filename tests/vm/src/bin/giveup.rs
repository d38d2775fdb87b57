// SPDX-License-Identifier: GPL-2.0

//! Blocks that one of two owners has given up, or that have moved inside a file: until that is on disk, a crash gives them
//! back to him, so nobody may write them in place. Every test ends in a crash.

use calf_vmlib::file::{
    check_pattern, clone_file, extent_bytes, extents, fallocate, fill, open, open_with, patterned,
    punch, read_at, write_direct, write_pattern,
};
use calf_vmlib::fs::{drop_caches, each_block_size, with_small, Mounted};
use calf_vmlib::sys::{sync_range, FIEMAP_SHARED, O_DIRECT, O_DSYNC};
use calf_vmlib::{cases, ensure, ensure_eq, ktap, Context, Env, Result};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::process::ExitCode;

/// Blocks of a file.
const BLOCKS: u64 = 16;

/// The data of block `at`, if the file has it, is one of these patterns, each that of an offset; or zeros.
fn check_one_of(f: &File, at: u64, bs: u64, patterns: &[(u64, u64)]) -> Result {
    if f.metadata()?.len() < at + bs {
        return Ok(());
    }
    let have = read_at(f, at, bs as usize)?;
    let zeros = have.iter().all(|b| *b == 0);
    let is = |&(seed, of): &(u64, u64)| have == patterned(seed, of, bs as usize);
    ensure!(
        zeros || patterns.iter().any(is),
        "the block at {at} has neither of {patterns:?}, nor zeros"
    );
    Ok(())
}

/// How the other owner gives the first blocks up.
type GiveUp = fn(&Mounted, &File, u64) -> Result;

const WAYS: [(&str, GiveUp); 6] = [
    ("direct", |m, _, bs| {
        let f = open_with(&m.path("b"), O_DIRECT)?;
        write_direct(&f, 2, 0, bs as usize)
    }),
    ("written back", |_, b, bs| {
        write_pattern(b, 2, 0, bs)?;
        sync_range(b, 0, bs).ctx("sync_file_range")
    }),
    ("punched", |_, b, bs| punch(b, 0, bs)),
    ("truncated", |_, b, _| b.set_len(0).ctx("truncate")),
    ("unlinked", |m, _, _| {
        std::fs::remove_file(m.path("b")).ctx("unlink")
    }),
    ("renamed over", |m, _, _| {
        std::fs::rename(m.path("a"), m.path("b")).ctx("rename")
    }),
];

/// The other owner of a block has it back after the crash, and its data with it.
fn by_the_other_owner(env: &Env) -> Result {
    for (how, give_up) in WAYS {
        for flags in [O_DIRECT | O_DSYNC, O_DSYNC] {
            each_block_size(env, |m| {
                let bs = m.space()?.bsize;
                let b = open(&m.path("b"))?;
                write_pattern(&b, 1, 0, BLOCKS * bs)?;
                b.sync_all()?;
                let a = open(&m.path("a"))?;
                clone_file(&a, &b)?;
                m.sync()?;
                give_up(m, &b, bs)?;
                drop((a, b));
                let name = if m.path("a").exists() { "a" } else { "b" };
                let a = open_with(&m.path(name), flags)?;
                write_direct(&a, 3, 0, bs as usize)?;
                drop(a);
                m.crash()?;
                let b = open(&m.path("b"))?;
                // The one that was renamed, or the one of before.
                let renamed = !m.path("a").exists();
                let mut allowed = vec![(1, 0), (2, 0)];
                allowed.extend(renamed.then_some((3, 0)));
                check_one_of(&b, 0, bs, &allowed).ctx(how)?;
                if !renamed {
                    let a = open(&m.path("a"))?;
                    let mut allowed = vec![(3, 0)];
                    allowed.extend((name == "b").then_some((1, 0)));
                    check_one_of(&a, 0, bs, &allowed).ctx(how)?;
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// A block that has moved is at its old place after the crash, and what is there is what was there.
fn by_another_offset(env: &Env) -> Result {
    let (collapse, insert) = (FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE);
    // What is done, where the write goes, and where its block was. Blocks.
    for (how, to, from) in [
        (collapse, 0, 4),
        (insert, 4, 0),
        (collapse, 3, 7),
        (insert, 5, 1),
    ] {
        for flags in [O_DIRECT, 0] {
            each_block_size(env, |m| {
                let bs = m.space()?.bsize;
                let f = open(&m.path("f"))?;
                write_pattern(&f, 1, 0, BLOCKS * bs)?;
                f.sync_all()?;
                m.sync()?;
                fallocate(&f, how, 0, 4 * bs)?;
                let g = open_with(&m.path("f"), flags)?;
                write_direct(&g, 3, to * bs, bs as usize)?;
                sync_range(&f, 0, BLOCKS * bs).ctx("sync_file_range")?;
                drop((f, g));
                m.crash()?;
                let f = open(&m.path("f"))?;
                let old = f.metadata()?.len() == BLOCKS * bs;
                let block = |n: u64| (1, n * bs);
                match old {
                    true => check_one_of(&f, from * bs, bs, &[block(from)]),
                    false => check_one_of(&f, to * bs, bs, &[block(from), (3, to * bs)]),
                }
                .ctx(format!("{how:?}, block {to}, size of before: {old}"))
            })?;
        }
    }
    Ok(())
}

/// Once it is on disk that a block has one owner, it is written in place again, and not shared in the meantime.
fn not_for_ever(env: &Env) -> Result {
    each_block_size(env, |m| {
        let bs = m.space()?.bsize;
        let b = open(&m.path("b"))?;
        write_pattern(&b, 1, 0, BLOCKS * bs)?;
        b.sync_all()?;
        let a = open(&m.path("a"))?;
        clone_file(&a, &b)?;
        m.sync()?;
        let before = extents(&a)?;
        drop(b);
        std::fs::remove_file(m.path("b"))?;
        ensure_eq!(
            extent_bytes(&extents(&a)?, FIEMAP_SHARED),
            0,
            "shared bytes"
        );
        m.sync()?;
        // Whoever waits for the commit may be told a moment before calf is.
        let mut places = before;
        for seed in 3..13 {
            write_pattern(&a, seed, 0, BLOCKS * bs)?;
            a.sync_all()?;
            let now = extents(&a)?;
            if now
                .iter()
                .map(|e| e.physical)
                .eq(places.iter().map(|e| e.physical))
            {
                return Ok(());
            }
            places = now;
        }
        Err("it is written elsewhere again and again".into())
    })
}

/// On a full disk, a file whose other owner is gone can be overwritten at once.
fn on_a_full_disk(env: &Env) -> Result {
    with_small(env, &[], "", |m| {
        let a = open(&m.path("a"))?;
        write_pattern(&a, 1, 0, 4 << 20)?;
        a.sync_all()?;
        clone_file(&open(&m.path("b"))?, &a)?;
        fill(&m.path("fill"), 9)?;
        m.sync()?;
        std::fs::remove_file(m.path("b"))?;
        write_pattern(&a, 3, 0, 4 << 20).ctx("overwrite")?;
        a.sync_all()?;
        drop_caches()?;
        check_pattern(&a, 3, 0, 4 << 20)
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    ktap::run(
        &env,
        cases![
            by_the_other_owner,
            by_another_offset,
            not_for_ever,
            on_a_full_disk
        ],
        |_| {},
    )
}

// SPDX-License-Identifier: GPL-2.0

//! Inodes with work left to do: the orphan tree.
//!
//! A record goes in with the transaction that makes the work necessary (the last link is dropped;
//! the size shrinks) and goes out with the one that finishes it. Mount does what a crash left.

use super::credits::Credits;
use super::inode::SuperBlock;
use super::itable;
use super::sb::{Place, Sb};
use super::txn::{MetaSpace, Trans};
use super::{truncate, Calf};
use crate::algo::btree::Tree;
use crate::format::orphan::{RawOrphan, KIND_UNLINKED};
use crate::format::types::{Ino, Kind};
use crate::kapi::log::{log, Level};
use crate::kapi::memalloc::{retry_nomem, NofsScope};
use crate::seam::FVec;
use core::ops::ControlFlow;
use kernel::error::code::{EEXIST, ENOENT, ESTALE};
use kernel::prelude::*;
use zerocopy::IntoBytes;

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrphanKind {
    /// The last name is gone; the inode goes with its last user.
    Unlinked,
    /// The file was cut; what lies beyond its size on disk goes.
    Truncate,
}

fn parse(key: u64, value: &[u8]) -> Result<OrphanKind, &'static str> {
    let raw = RawOrphan::parse(key, value)?;
    Ok(match raw.kind.get() {
        KIND_UNLINKED => OrphanKind::Unlinked,
        _ => OrphanKind::Truncate,
    })
}

/// Notes in the transaction that `ino` has work left to do.
///
/// Takes the orphan tree; call it before anything that takes the inode table. An inode that is an
/// orphan already stays one: *unlinked* includes all that *truncate* means.
pub(crate) fn add(trans: &mut Trans<'_>, ino: Ino, kind: OrphanKind, size: u64) -> Result {
    let rec = match kind {
        OrphanKind::Unlinked => RawOrphan::unlinked(),
        OrphanKind::Truncate => RawOrphan::truncate(size),
    };
    let mut tree = trans.orphans()?;
    match tree.insert(trans, ino.get(), rec.as_bytes()) {
        Err(EEXIST) => {}
        other => return other,
    }
    let old = tree.get(&*trans, ino.get())?.ok_or(ENOENT)?;
    match parse(ino.get(), &old) {
        Ok(OrphanKind::Unlinked) => Ok(()),
        Ok(OrphanKind::Truncate) => tree.replace(trans, ino.get(), rec.as_bytes()),
        Err(what) => Err(trans.sb().corrupted(Place::Ino(ino), what)),
    }
}

/// The work on `ino` is done, in the transaction that does the last of it.
pub(crate) fn remove(trans: &mut Trans<'_>, ino: Ino) -> Result {
    let mut tree = trans.orphans()?;
    match tree.remove(trans, ino.get()) {
        Err(ENOENT) => Ok(()),
        other => other,
    }
}

/// [`remove`] in a transaction of its own. It takes no space. Errors: `EIO`.
pub(crate) fn done(sb: &Sb, ino: Ino) -> Result {
    retry_nomem(|| {
        let mut trans = Trans::start(sb, Credits::EDIT, MetaSpace::adopt(sb, 0))?;
        remove(&mut trans, ino)?;
        trans.apply();
        trans.stop()
    })
}

/// Has `ino` work left to do? Takes the orphan tree's lock.
pub(crate) fn exists(sb: &Sb, ino: Ino) -> Result<bool> {
    let _nofs = NofsScope::enter();
    let _orphans = sb.orphan_lock().read();
    let tree = Tree::global(Kind::Orphans, sb.geo().orphan_root());
    Ok(tree.get(&sb.reader(), ino.get())?.is_some())
}

/// One record found by [`recover`].
#[derive(Clone, Copy)]
struct Found {
    ino: Ino,
    kind: OrphanKind,
}

/// At most this many records are looked at before they are worked off.
const BATCH: usize = 256;

fn collect(sb: &SuperBlock, from: u64) -> Result<FVec<Found>> {
    let d = sb.data();
    let mut batch = FVec::with_capacity(BATCH)?;
    let mut bad = None;
    let _orphans = d.orphan_lock().read();
    let tree = Tree::global(Kind::Orphans, d.geo().orphan_root());
    tree.scan(&d.reader(), from, |key, value| {
        let ino = Ino::new(key);
        let kind = match parse(key, value) {
            Ok(kind) => kind,
            Err(what) => {
                bad = Some((ino, what));
                return ControlFlow::Break(());
            }
        };
        match batch.push_within_capacity(Found { ino, kind }) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    match bad {
        Some((ino, what)) => Err(d.corrupted(Place::Ino(ino), what)),
        None => Ok(batch),
    }
}

/// Does what the last mount left undone. Returns the number of orphans.
///
/// Called with nobody else using the filesystem: mount, and remount to read-write. There may be
/// orphans in use then (unlinked files that are open since before a read-only remount); they are
/// left to their users.
pub(crate) fn recover(sb: &SuperBlock) -> Result<u64> {
    let mut done = 0u64;
    let mut from = 0u64;
    loop {
        let batch = collect(sb, from)?;
        let Some(last) = batch.last() else {
            break;
        };
        from = last.ino.get().saturating_add(1);
        for o in batch.iter() {
            work_off(sb, *o)?;
            done = done.saturating_add(1);
        }
    }
    if done > 0 {
        sb.data().counters().orphans_recovered.add(done);
        log::<Calf>(
            Level::Info,
            sb.id(),
            fmt!("{} orphaned inodes worked off", done),
        );
    }
    Ok(done)
}

fn work_off(sb: &SuperBlock, o: Found) -> Result {
    let inode = match itable::iget_orphan(sb, o.ino) {
        Err(ESTALE) => {
            let d = sb.data();
            return Err(d.corrupted(Place::Ino(o.ino), "orphan without an inode record"));
        }
        other => other?,
    };
    match o.kind {
        // Dropping the last reference evicts the inode, and that does everything.
        OrphanKind::Unlinked if inode.nlink() == 0 => Ok(()),
        OrphanKind::Unlinked => {
            let d = sb.data();
            Err(d.corrupted(Place::Ino(o.ino), "orphan still has links"))
        }
        OrphanKind::Truncate if inode.is_reg() => truncate::free_rest(&inode),
        OrphanKind::Truncate => done(sb.data(), o.ino),
    }
}

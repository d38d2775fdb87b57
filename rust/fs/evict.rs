// SPDX-License-Identifier: GPL-2.0

//! The end of an inode: giving back what an unlinked inode owns.
//!
//! The work is cut into steps (B1), each a transaction by itself; the orphan record stays until the
//! last one, so a crash in between only costs mount some time.

use super::credits::Credits;
use super::inode::{Inode, InodeExt};
use super::orphan;
use super::sb::{Place, Sb};
use super::txn::{MetaSpace, Trans};
use super::Calf;
use crate::algo::btree::Tree;
use crate::algo::dir as entries;
use crate::algo::xattr::Attrs;
use crate::format::types::Ino;
use crate::kapi::log::{log, Level};
use crate::kapi::memalloc::{cond_resched, retry_nomem};
use kernel::prelude::*;

/// `evict_inode`. A linked inode needs no transaction: its claims live in memory only.
pub(crate) fn evict(inode: &Inode) {
    // Waits for writeback of each page, hence for the completion of each ioend (D5, S5).
    inode.drop_page_cache();
    if inode.is_bad() {
        return;
    }
    super::reserve::staging_drop(inode, 0, u64::MAX);
    if inode.nlink() > 0 {
        return;
    }
    let sb = inode.sb();
    if sb.data().is_shutdown() || !sb.data().is_writable() {
        // The orphan record stays; the next mount does the rest.
        return;
    }
    let _freeze = sb.intwrite();
    // After a shutdown every eviction fails; one report is enough (B6).
    let failed = destroy(inode).err().filter(|_| !sb.data().is_shutdown());
    if let Some(e) = failed {
        log::<Calf>(
            Level::Error,
            sb.id(),
            fmt!(
                "inode {}: space not given back, left to the next mount: {:?}",
                inode.ino(),
                e
            ),
        );
    }
}

/// Frees all that an unlinked inode owns, then the inode.
fn destroy(inode: &Inode) -> Result {
    let sb = inode.sb().data();
    if inode.is_reg() {
        super::extents::free_from(inode, 0)?;
    } else {
        retry_nomem(|| check_names(inode))?;
        empty_tree(inode, data_record)?;
    }
    if inode.data().ext.read().has_attr_tree() {
        empty_tree(inode, attr_record)?;
    }
    retry_nomem(|| remove(sb, inode))?;
    sb.count_inodes(-1);
    sb.counters().evicted_unlinked.inc();
    Ok(())
}

/// Refuses to remove a directory with names: `rmdir` leaves none, and what they lead to would have
/// no name any more.
fn check_names(inode: &Inode) -> Result {
    if !inode.is_dir() {
        return Ok(());
    }
    let sb = inode.sb().data();
    let tree = inode.data().ext.read().tree(inode);
    if entries::is_empty(&tree, &sb.reader())? {
        return Ok(());
    }
    let place = Place::Ino(Ino::new(inode.ino()));
    Err(sb.corrupted(place, "unlinked directory with names"))
}

/// The last transaction: record and orphan record go together.
fn remove(sb: &Sb, inode: &Inode) -> Result {
    let ino = Ino::new(inode.ino());
    // No tree grows when records are taken out: a full filesystem is no obstacle.
    let mut trans = Trans::start(sb, Credits::REMOVE_INODE, MetaSpace::adopt(sb, 0))?;
    orphan::remove(&mut trans, ino)?;
    trans.remove_inode(ino)?;
    trans.apply();
    trans.stop()
}

/// What one edit of [`empty_tree`] left.
enum Edited {
    Data(Tree),
    Attrs(Attrs),
}

/// Removes one record of an inode's tree; [`None`] if there are no more.
type RemoveRecord = fn(&InodeExt, &Inode, &mut Trans<'_>) -> Result<Option<Edited>>;

/// A directory is empty but for the record of its parent when it is unlinked ([`check_names`]); a
/// symbolic link has at most 16 pieces.
fn data_record(ext: &InodeExt, inode: &Inode, trans: &mut Trans<'_>) -> Result<Option<Edited>> {
    let mut tree = ext.tree(inode);
    let Some((key, _)) = tree.ceil(trans, 0)? else {
        return Ok(None);
    };
    tree.remove(trans, key)?;
    Ok(Some(Edited::Data(tree)))
}

fn attr_record(ext: &InodeExt, inode: &Inode, trans: &mut Trans<'_>) -> Result<Option<Edited>> {
    let mut attrs = ext.attrs(inode);
    let more = attrs.remove_any(trans)?;
    Ok(more.then_some(Edited::Attrs(attrs)))
}

/// Removes what is left in a tree of an unlinked inode, record by record.
fn empty_tree(inode: &Inode, remove: RemoveRecord) -> Result {
    loop {
        if !retry_nomem(|| empty_step(inode, remove))? {
            return Ok(());
        }
        cond_resched();
    }
}

/// Removes records while one handle lasts. Returns whether there are more.
fn empty_step(inode: &Inode, remove: RemoveRecord) -> Result<bool> {
    let sb = inode.sb().data();
    let need = Credits::EDIT.plus(Credits::RECORD);
    let mut trans = Trans::start(sb, need, MetaSpace::adopt(sb, 0))?;
    loop {
        let mut ext = inode.data().ext.write();
        let Some(edited) = remove(&ext, inode, &mut trans)? else {
            drop(ext);
            trans.stop()?;
            return Ok(false);
        };
        let joined = trans.join_inode(inode)?;
        match edited {
            Edited::Data(tree) => ext.set_tree(&tree),
            Edited::Attrs(attrs) => ext.set_attrs(inode, &attrs),
        }
        trans.log_inode(joined, ext.record(inode));
        trans.apply();
        drop(ext);
        if !trans.can_continue(need) {
            trans.stop()?;
            return Ok(true);
        }
    }
}

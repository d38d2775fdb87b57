// SPDX-License-Identifier: GPL-2.0

//! Names: the transactions behind lookup, creation, removal, links and rename.
//!
//! Every operation that changes names is one transaction and has the same form (C5): reserve space,
//! start the handle, lock the inodes' extent locks (here: the lock of the inode's tree, whatever it
//! holds), prepare everything that may fail on copies of the trees, then change memory and publish,
//! which cannot fail. The VFS holds `i_rwsem` of all directories, and of all inodes that lose or
//! gain a name, exclusively; so a name that was looked up stays what it was.
//!
//! Nothing here calls `iget` or `iput`, or touches a dentry: those wait for things that may need a
//! handle, so they belong to the callers, after the handle has stopped (D2).

use kernel::error::code::{EINVAL, EMLINK, ENAMETOOLONG, ENOENT, ENOSPC, ENOTEMPTY};
use kernel::error::Result;

use super::credits::{Credits, EDIT_SPACE};
use super::ext_set::ExtSet;
use super::fileattr::check_project;
use super::inode::{Inode, InodeExt};
use super::itable::NewInode;
use super::orphan::{self, OrphanKind};
use super::sb::Place;
use super::space::Share;
use super::truncate;
use super::txn::{MetaSpace, Trans};
use crate::algo::btree::Tree;
use crate::algo::dir::{self as entries, Batch, Found, NAME_MAX};
use crate::algo::symlink;
use crate::format::types::Ino;
use crate::kapi::jbd2::Tid;
use crate::seam::FVec;

/// The most links of an inode.
pub(crate) const LINK_MAX: u32 = i32::MAX as u32;

/// What a new inode holds from the start.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// Nothing: regular files, devices, sockets, fifos.
    Nothing,
    /// The record of the parent: directories.
    Directory,
    /// The target: symbolic links.
    Symlink(&'a [u8]),
}

/// The `DT_*` number of a mode.
fn ftype(mode: u16) -> u8 {
    // CAST: Four bits.
    (mode >> 12) as u8
}

fn check_name(name: &[u8]) -> Result {
    if name.len() > NAME_MAX {
        return Err(ENAMETOOLONG);
    }
    Ok(())
}

/// The number behind `name` in `dir`. The caller holds `i_rwsem` of `dir`, at least shared.
pub(crate) fn lookup(dir: &Inode, name: &[u8]) -> Result<Option<Ino>> {
    check_name(name)?;
    let sb = dir.sb().data();
    sb.check_readable()?;
    let ext = dir.data().ext.read();
    let tree = ext.tree(dir);
    let found = entries::lookup(&tree, &sb.reader(), sb.hash_seed(), name)?;
    Ok(found.map(|f| f.ino))
}

/// Copies names of `dir` from position `from` on into `batch`, which is empty at the end.
pub(crate) fn read(dir: &Inode, from: u64, batch: &mut Batch) -> Result {
    let sb = dir.sb().data();
    sb.check_readable()?;
    let ext = dir.data().ext.read();
    let tree = ext.tree(dir);
    batch.fill(&tree, &sb.reader_ahead(), from)
}

/// The target of the symbolic link `inode`.
pub(crate) fn read_link(inode: &Inode) -> Result<FVec<u8>> {
    let sb = inode.sb().data();
    sb.check_readable()?;
    let ext = inode.data().ext.read();
    let tree = ext.tree(inode);
    symlink::read(&tree, &sb.reader(), ext.disk_size)
}

/// Stores an edited tree as the inode's own.
fn publish_tree(inode: &Inode, ext: &mut InodeExt, tree: &Tree) {
    ext.set_tree(tree);
    inode.set_sectors(ext.nblocks.saturating_mul(inode.sb().block_size() / 512));
}

/// Publishes a directory's tree that gained or lost `names`, and its times.
fn publish_dir(dir: &Inode, ext: &mut InodeExt, tree: &Tree, names: i64) {
    publish_tree(dir, ext, tree);
    let count = (dir.size() / entries::ENTRY_SIZE).saturating_add_signed(names);
    let size = entries::size_for(count);
    dir.set_size(size);
    ext.disk_size = size;
    dir.touch(true);
}

/// Finds `name`, which must lead to `inode`: so the VFS said, under the locks it still holds.
fn find(tree: &Tree, trans: &Trans<'_>, dir: &Inode, name: &[u8], inode: &Inode) -> Result<Found> {
    let sb = dir.sb().data();
    match entries::lookup(tree, trans, sb.hash_seed(), name)? {
        Some(found) if found.ino.get() == inode.ino() => Ok(found),
        Some(_) => Err(sb.corrupted(Place::Ino(Ino::new(dir.ino())), "name leads elsewhere")),
        None => Err(ENOENT),
    }
}

/// Whether `dir` may get one more subdirectory.
fn check_links(inode: &Inode) -> Result {
    if inode.nlink() >= LINK_MAX {
        return Err(EMLINK);
    }
    Ok(())
}

/// Whether `dir` counts the subdirectory that it is about to lose. If not, its count would reach
/// zero while it has a name, and it would be destroyed with its last user.
fn check_subdirectory(dir: &Inode) -> Result {
    if dir.nlink() <= 2 {
        let place = Place::Ino(Ino::new(dir.ino()));
        return Err(dir
            .sb()
            .data()
            .corrupted(place, "link count of a directory is too low"));
    }
    Ok(())
}

/// Puts the new inode on disk, under `name` in `dir`. Returns the transaction.
///
/// After an error the inode is not on disk, and the caller drops it.
pub(crate) fn create(
    dir: &Inode,
    name: &[u8],
    new: &NewInode,
    content: Content<'_>,
) -> Result<Tid> {
    check_name(name)?;
    let sb = dir.sb().data();
    let inode = new.inode();
    let number = Ino::new(inode.ino());
    if let Content::Directory = content {
        check_links(dir)?;
    }
    // The inode table and the directory grow; a tree of a few blocks may hold a long target.
    let own_blocks = match content {
        Content::Symlink(_) => symlink::MAX_NODES,
        Content::Nothing | Content::Directory => 0,
    };
    let attrs = new.initial().needs(sb);
    let space = space_to_grow(dir, 2 * EDIT_SPACE + own_blocks + attrs.space)?;
    let mut trans = Trans::start(sb, Credits::CREATE.plus(attrs.credits), space)?;
    let mut exts = ExtSet::lock([dir, inode]);

    let mut names = exts.of(dir).tree(dir);
    entries::insert(
        &mut names,
        &mut trans,
        sb.hash_seed(),
        name,
        number,
        ftype(inode.mode()),
    )?;
    // The new inode is nobody else's yet, so that it may change before everything is prepared.
    let own = exts.of(inode);
    let mut tree = own.tree(inode);
    match content {
        Content::Nothing => {}
        Content::Directory => {
            entries::init(&mut tree, &mut trans, Ino::new(dir.ino()))?;
            inode.set_nlink(2);
        }
        Content::Symlink(target) => {
            symlink::write(&mut tree, &mut trans, target)?;
            own.disk_size = target.len() as u64;
            inode.set_size(own.disk_size);
        }
    }
    publish_tree(inode, own, &tree);
    new.initial().write(&mut trans, inode, own)?;
    trans.insert_inode(&own.record(inode))?;
    // Whoever syncs the new inode waits for its name too (C9).
    inode.data().stamp_datasync(trans.tid());
    let joined = trans.join_inode(dir)?;
    if !trans.fits() {
        return Err(ENOSPC);
    }

    let ext = exts.of(dir);
    publish_dir(dir, ext, &names, 1);
    if let Content::Directory = content {
        dir.inc_nlink();
    }
    trans.log_inode(joined, ext.record(dir));
    finish(trans, exts)
}

/// Puts the new inode on disk without a name: an orphan from birth (`O_TMPFILE`), until [`link`]
/// gives it one. In memory it keeps the one link that `d_tmpfile` takes away.
///
/// After an error the inode is not on disk, and the caller drops it.
pub(crate) fn create_unnamed(new: &NewInode) -> Result {
    let inode = new.inode();
    let sb = inode.sb().data();
    let attrs = new.initial().needs(sb);
    let space = space_to_grow(inode, 2 * EDIT_SPACE + attrs.space)?;
    let mut trans = Trans::start(sb, Credits::CREATE.plus(attrs.credits), space)?;
    let mut ext = inode.data().ext.write();
    orphan::add(&mut trans, Ino::new(inode.ino()), OrphanKind::Unlinked, 0)?;
    new.initial().write(&mut trans, inode, &mut ext)?;
    let mut record = ext.record(inode);
    record.nlink = 0.into();
    trans.insert_inode(&record)?;
    if !trans.fits() {
        return Err(ENOSPC);
    }
    inode.data().stamp_datasync(trans.tid());
    trans.apply();
    drop(ext);
    trans.stop()
}

/// Sets `n` blocks aside for a new inode. What is missing may be promised to dirty data as a worst case, of which
/// writing it gives back what is not needed (C-WR-ENOSPC), as for a write. `i_rwsem` of `near` may be held. Errors:
/// `ENOSPC`.
fn space_to_grow(near: &Inode, n: u64) -> Result<MetaSpace<'_>> {
    let sb = near.sb().data();
    match MetaSpace::reserve(sb, n) {
        Err(ENOSPC) => {
            near.sb().sync_inodes();
            MetaSpace::reserve(sb, n)
        }
        other => other,
    }
}

/// Publishes the prepared transaction and ends it.
fn finish(mut trans: Trans<'_>, exts: ExtSet<'_>) -> Result<Tid> {
    let tid = trans.tid();
    trans.apply();
    drop(exts);
    trans.stop()?;
    Ok(tid)
}

/// Gives `inode` one more name, or its first if it was made without. Returns the transaction.
pub(crate) fn link(dir: &Inode, name: &[u8], inode: &Inode) -> Result<Tid> {
    check_name(name)?;
    check_links(inode)?;
    let sb = dir.sb().data();
    if inode.nlink() == 0 {
        // Its orphan record goes, which is all that remembers a truncation that failed half way.
        truncate::finish(inode)?;
    }
    // As a rename: seldom does the directory grow.
    let space = MetaSpace::or_none(sb, EDIT_SPACE, Share::Half)?;
    let mut trans = Trans::start(sb, Credits::UNLINK, space)?;
    let mut exts = ExtSet::lock([dir, inode]);
    check_project(&mut exts, dir, inode)?;

    let mut names = exts.of(dir).tree(dir);
    let number = Ino::new(inode.ino());
    entries::insert(
        &mut names,
        &mut trans,
        sb.hash_seed(),
        name,
        number,
        ftype(inode.mode()),
    )?;
    if inode.nlink() == 0 {
        orphan::remove(&mut trans, number)?;
    }
    let joined = trans.join_inode(dir)?;
    let joined_inode = trans.join_inode(inode)?;

    let ext = exts.of(dir);
    publish_dir(dir, ext, &names, 1);
    trans.log_inode(joined, ext.record(dir));
    inode.inc_nlink();
    inode.touch(false);
    trans.log_inode(joined_inode, exts.of(inode).record(inode));
    finish(trans, exts)
}

/// Drops what `inode` loses with a name: one link, or all of an (empty) directory.
///
/// Returns whether that was the last one; then it must become an orphan in the same transaction,
/// as it may be open, and its blocks go with the last reference only.
fn is_last_link(inode: &Inode) -> bool {
    inode.is_dir() || inode.nlink() <= 1
}

fn drop_links(inode: &Inode) {
    if is_last_link(inode) {
        inode.clear_nlink();
    } else {
        inode.drop_nlink();
    }
    inode.touch(false);
}

/// Prepares that `inode` loses a name.
fn prepare_drop(trans: &mut Trans<'_>, ext: &InodeExt, inode: &Inode) -> Result {
    if inode.is_dir() && !entries::is_empty(&ext.tree(inode), trans)? {
        return Err(ENOTEMPTY);
    }
    if is_last_link(inode) {
        orphan::add(trans, Ino::new(inode.ino()), OrphanKind::Unlinked, 0)?;
    }
    Ok(())
}

/// Removes `name`, which leads to `inode`, from `dir`: unlink and rmdir. Returns the transaction.
pub(crate) fn unlink(dir: &Inode, name: &[u8], inode: &Inode) -> Result<Tid> {
    let sb = dir.sb().data();
    if inode.is_dir() {
        check_subdirectory(dir)?;
    }
    // The orphan tree may grow, also on a full filesystem (B2c).
    let space = MetaSpace::or_none(sb, EDIT_SPACE, Share::All)?;
    let mut trans = Trans::start(sb, Credits::UNLINK, space)?;
    let mut exts = ExtSet::lock([dir, inode]);

    let mut names = exts.of(dir).tree(dir);
    let found = find(&names, &trans, dir, name, inode)?;
    entries::remove(&mut names, &mut trans, found.key)?;
    prepare_drop(&mut trans, exts.of(inode), inode)?;
    let joined = trans.join_inode(dir)?;
    let joined_inode = trans.join_inode(inode)?;

    let ext = exts.of(dir);
    publish_dir(dir, ext, &names, -1);
    if inode.is_dir() {
        dir.drop_nlink();
    }
    trans.log_inode(joined, ext.record(dir));
    drop_links(inode);
    trans.log_inode(joined_inode, exts.of(inode).record(inode));
    finish(trans, exts)
}

/// What [`rename`] moves, or [`exchange`].
pub(crate) struct Rename<'a> {
    /// The directory that loses the name.
    pub(crate) old_dir: &'a Inode,
    /// The name there.
    pub(crate) old_name: &'a [u8],
    /// The directory that gains it; may be the same.
    pub(crate) new_dir: &'a Inode,
    /// The name there.
    pub(crate) new_name: &'a [u8],
    /// The inode that moves.
    pub(crate) inode: &'a Inode,
    /// What the new name led to until now; it is removed.
    pub(crate) target: Option<&'a Inode>,
    /// A new inode that the old name leads to afterwards.
    pub(crate) whiteout: Option<&'a NewInode>,
}

/// Moves a name, in one transaction, which it returns.
pub(crate) fn rename(r: &Rename<'_>) -> Result<Tid> {
    let &Rename {
        old_dir,
        new_dir,
        inode,
        target,
        ..
    } = r;
    check_name(r.new_name)?;
    let sb = old_dir.sb().data();
    let same_dir = old_dir.ino() == new_dir.ino();
    let is_dir = inode.is_dir();
    let moves_up = is_dir && !same_dir;
    if target.is_some_and(|t| t.is_dir() != is_dir || t.ino() == inode.ino()) {
        // The VFS has refused the one and done the other.
        return Err(EINVAL);
    }
    if moves_up && target.is_none() {
        check_links(new_dir)?;
    }
    if moves_up || is_dir && target.is_some() {
        check_subdirectory(old_dir)?;
    }

    let space = if r.whiteout.is_some() {
        // The inode table and a directory or the orphan tree grow.
        space_to_grow(old_dir, 2 * EDIT_SPACE)?
    } else if target.is_some() {
        // No directory grows, but the orphan tree may, also on a full filesystem (B2c).
        MetaSpace::or_none(sb, EDIT_SPACE, Share::All)?
    } else {
        // Seldom does a directory grow, so that a full filesystem is no reason to refuse all renames
        // (B2c). Without any space those are refused that need it, as in XFS.
        MetaSpace::or_none(sb, EDIT_SPACE, Share::Half)?
    };
    let mut trans = Trans::start(sb, Credits::RENAME, space)?;
    let whiteout = r.whiteout.map(|w| w.inode());
    let mut exts = ExtSet::lock([
        old_dir,
        new_dir,
        inode,
        target.unwrap_or(inode),
        whiteout.unwrap_or(inode),
    ]);
    check_project(&mut exts, new_dir, inode)?;
    let seed = sb.hash_seed();
    let number = Ino::new(inode.ino());

    // The new name first: until the old one goes, its key is known not to move.
    let mut old_names = exts.of(old_dir).tree(old_dir);
    let old = find(&old_names, &trans, old_dir, r.old_name, inode)?;
    let mut other = (!same_dir).then(|| exts.of(new_dir).tree(new_dir));
    let new_names = other.as_mut().unwrap_or(&mut old_names);
    if let Some(target) = target {
        let new = find(new_names, &trans, new_dir, r.new_name, target)?;
        entries::replace(
            new_names, &mut trans, new.key, r.new_name, number, old.ftype,
        )?;
        prepare_drop(&mut trans, exts.of(target), target)?;
    } else {
        entries::insert(new_names, &mut trans, seed, r.new_name, number, old.ftype)?;
    }
    if let Some(w) = whiteout {
        let (number, kind) = (Ino::new(w.ino()), ftype(w.mode()));
        entries::replace(
            &mut old_names,
            &mut trans,
            old.key,
            r.old_name,
            number,
            kind,
        )?;
        trans.insert_inode(&exts.of(w).record(w))?;
        w.data().stamp_datasync(trans.tid());
    } else {
        entries::remove(&mut old_names, &mut trans, old.key)?;
    }
    let mut own = exts.of(inode).tree(inode);
    if moves_up {
        entries::set_parent(&mut own, &mut trans, Ino::new(new_dir.ino()))?;
    }
    let joined_old = trans.join_inode(old_dir)?;
    let joined_new = other
        .as_ref()
        .map(|_| trans.join_inode(new_dir))
        .transpose()?;
    let joined_inode = trans.join_inode(inode)?;
    let joined_target = target.map(|t| trans.join_inode(t)).transpose()?;

    // The entries: one name goes unless something takes its place, and one comes likewise.
    let gained = i64::from(target.is_none());
    let lost = i64::from(whiteout.is_none());
    match &other {
        None => publish_dir(old_dir, exts.of(old_dir), &old_names, gained - lost),
        Some(names) => {
            publish_dir(old_dir, exts.of(old_dir), &old_names, -lost);
            publish_dir(new_dir, exts.of(new_dir), names, gained);
        }
    }
    if is_dir {
        // The `..` of the inode that moves leaves one directory for the other; the `..` of a
        // directory that is replaced goes.
        if target.is_none() {
            new_dir.inc_nlink();
        }
        old_dir.drop_nlink();
        if moves_up {
            publish_tree(inode, exts.of(inode), &own);
        }
    }
    inode.touch(false);
    trans.log_inode(joined_old, exts.of(old_dir).record(old_dir));
    if let Some(joined) = joined_new {
        trans.log_inode(joined, exts.of(new_dir).record(new_dir));
    }
    trans.log_inode(joined_inode, exts.of(inode).record(inode));
    if let (Some(joined), Some(target)) = (joined_target, target) {
        drop_links(target);
        trans.log_inode(joined, exts.of(target).record(target));
    }
    finish(trans, exts)
}

/// Lets two names, of whatever kinds, change places, in one transaction, which it returns.
pub(crate) fn exchange(r: &Rename<'_>) -> Result<Tid> {
    let &Rename {
        old_dir,
        new_dir,
        inode,
        ..
    } = r;
    let target = r.target.ok_or(ENOENT)?;
    let sb = old_dir.sb().data();
    let same_dir = old_dir.ino() == new_dir.ino();
    // The directory that gains a subdirectory, and the one that loses it.
    let moves = match (inode.is_dir(), target.is_dir()) {
        _ if same_dir => None,
        (true, false) => Some((new_dir, old_dir)),
        (false, true) => Some((old_dir, new_dir)),
        _ => None,
    };
    if let Some((gains, loses)) = moves {
        check_links(gains)?;
        check_subdirectory(loses)?;
    }

    // No tree grows: records are replaced by others of their size.
    let mut trans = Trans::start(sb, Credits::RENAME, MetaSpace::adopt(sb, 0))?;
    let mut exts = ExtSet::lock([old_dir, new_dir, inode, target]);
    check_project(&mut exts, new_dir, inode)?;
    check_project(&mut exts, old_dir, target)?;

    let mut old_names = exts.of(old_dir).tree(old_dir);
    let old = find(&old_names, &trans, old_dir, r.old_name, inode)?;
    let mut other = (!same_dir).then(|| exts.of(new_dir).tree(new_dir));
    let new_names = other.as_mut().unwrap_or(&mut old_names);
    let new = find(new_names, &trans, new_dir, r.new_name, target)?;
    entries::replace(
        new_names, &mut trans, new.key, r.new_name, old.ino, old.ftype,
    )?;
    entries::replace(
        &mut old_names,
        &mut trans,
        old.key,
        r.old_name,
        new.ino,
        new.ftype,
    )?;
    let mut moved = [(inode, new_dir), (target, old_dir)].map(|(i, parent)| {
        let tree = exts.of(i).tree(i);
        (i, parent, tree)
    });
    for (i, parent, tree) in &mut moved {
        if i.is_dir() && !same_dir {
            entries::set_parent(tree, &mut trans, Ino::new(parent.ino()))?;
        }
    }
    let joined_old = trans.join_inode(old_dir)?;
    let joined_new = other
        .as_ref()
        .map(|_| trans.join_inode(new_dir))
        .transpose()?;
    let joined = [trans.join_inode(inode)?, trans.join_inode(target)?];

    publish_dir(old_dir, exts.of(old_dir), &old_names, 0);
    if let Some(names) = &other {
        publish_dir(new_dir, exts.of(new_dir), names, 0);
    }
    if let Some((gains, loses)) = moves {
        gains.inc_nlink();
        loses.drop_nlink();
    }
    trans.log_inode(joined_old, exts.of(old_dir).record(old_dir));
    if let Some(joined) = joined_new {
        trans.log_inode(joined, exts.of(new_dir).record(new_dir));
    }
    for ((i, _, tree), joined) in moved.iter().zip(joined) {
        if i.is_dir() {
            publish_tree(i, exts.of(i), tree);
        }
        i.touch(false);
        trans.log_inode(joined, exts.of(i).record(i));
    }
    finish(trans, exts)
}

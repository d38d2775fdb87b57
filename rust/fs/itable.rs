// SPDX-License-Identifier: GPL-2.0

//! From inode records to inodes and back: reading, making, writing.

use super::credits::Credits;
use super::inode::{tree_kind, Inode, InodeExt, SuperBlock};
use super::sb::{Place, Sb};
use super::txn::{MetaSpace, Trans};
use super::xattr::Initial;
use super::{acl, fileattr, orphan, Calf};
use crate::algo::btree::Tree;
use crate::algo::xattr::Name;
use crate::format::inode::InodeRecord;
use crate::format::types::{Ino, Kind};
use crate::format::xattr::{form, Form, SECURITY};
use crate::kapi::dentry::{Dentry, FullTmpfile, Negative, Tmpfile};
use crate::kapi::fs::InodeTables;
use crate::kapi::icache::{self, Found, FreshInode, NascentInode, VfsFields};
use crate::kapi::idmap::Idmap;
use crate::kapi::inode::Times;
use crate::kapi::memalloc::retry_nomem;
use crate::kapi::xattr::init_security;
use core::ops::Deref;
use kernel::error::code::{EAGAIN, ESTALE};
use kernel::prelude::*;
use kernel::sync::aref::ARef;

/// Finds inode `ino`, which a directory or the superblock names.
///
/// Errors: `EFSCORRUPTED` if there is no such record or it has no links, `EIO`, `ENOMEM`.
/// May wait for an eviction, hence never under a handle (D2).
pub(crate) fn iget(sb: &SuperBlock, ino: Ino) -> Result<ARef<Inode>> {
    let inode = match iget_orphan(sb, ino) {
        Err(ESTALE) => {
            return Err(sb.data().corrupted(
                Place::Ino(ino),
                "a name leads to an inode that does not exist",
            ));
        }
        other => other?,
    };
    if inode.nlink() == 0 {
        // A name that is just being removed by a racing unlink cannot be seen: the directory is
        // locked.
        return Err(sb
            .data()
            .corrupted(Place::Ino(ino), "a name leads to an inode without links"));
    }
    Ok(inode)
}

/// Finds inode `ino`, linked or not. Errors: `ESTALE` if it does not exist, else as [`iget`].
pub(crate) fn iget_orphan(sb: &SuperBlock, ino: Ino) -> Result<ARef<Inode>> {
    if ino.get() == 0 {
        return Err(ESTALE);
    }
    match icache::iget::<Calf>(sb, ino.get())? {
        Found::Cached(inode) => Ok(inode),
        Found::Fresh(fresh) => {
            let rec = read_record(sb.data(), ino)?.ok_or(ESTALE)?;
            fill(&fresh, &rec)?;
            Ok(fresh.publish())
        }
    }
}

/// The record of inode `ino`, if there is one.
fn read_record(sb: &Sb, ino: Ino) -> Result<Option<InodeRecord>> {
    let record = {
        let _table = sb.itable_lock().read();
        let _records = sb.record_lock().read();
        let table = Tree::global(Kind::Inodes, sb.geo().inode_root());
        // The node passed its verifier, but records change under the record lock without it (S2).
        let parse = |value: &[u8]| InodeRecord::parse(ino, value).copied();
        // Inodes that were made together are used together.
        table.get_with(&sb.reader_ahead(), ino.get(), parse)?
    };
    let corrupted = |what| sb.corrupted(Place::Ino(ino), what);
    record.transpose().map_err(corrupted)
}

fn fill(fresh: &FreshInode<Calf>, rec: &InodeRecord) -> Result {
    let inode = fresh.inode();
    let sb = inode.sb().data();
    let ino = Ino::new(inode.ino());
    let place = Place::Ino(ino);
    let half_cut = sb.has_half_cut() && orphan::exists(sb, ino)?;
    let sectors = rec
        .nblocks
        .get()
        .checked_shl(sb.block_shift() - 9)
        .ok_or_else(|| sb.corrupted(place, "block count overflows"))?;
    fresh
        .fill(&VfsFields {
            mode: rec.mode.get(),
            uid: rec.uid.get(),
            gid: rec.gid.get(),
            nlink: rec.nlink.get(),
            size: rec.size.get(),
            times: Times {
                atime: rec.atime.get(),
                mtime: rec.mtime.get(),
                ctime: rec.ctime.get(),
            },
            rdev: rec.rdev.get(),
            generation: rec.gen.get(),
            iversion: rec.iversion.get(),
            sectors,
        })
        .map_err(|_| sb.corrupted(place, "inode of unknown type or size"))?;
    let data = inode.data();
    {
        let mut ext = data.ext.write();
        ext.load(rec);
        ext.half_cut = half_cut;
    }
    fileattr::publish(inode, rec.flags.get());
    if form(&rec.attr) == Form::None {
        inode.no_xattrs();
    }
    // C9: what was read may belong to a transaction that is not durable; whoever syncs this inode
    // must wait for it, as ext4 does in __ext4_iget.
    let tid = sb.journal().last_tid();
    data.stamp_sync(tid);
    data.stamp_datasync(tid);
    Calf::install(inode);
    Ok(())
}

/// An inode in the making. It has a number and a place in the cache, but nothing on disk.
///
/// The order of an operation that makes one: [`new_inode`], start the transaction,
/// `insert_inode` of its record, the name, apply, stop, [`NewInode::instantiate`]. Dropping it
/// before that makes it disappear; drop it only after the handle has stopped (D2), which declaring
/// it before the transaction ensures.
pub(crate) struct NewInode(NascentInode<Calf>, Initial);

impl NewInode {
    /// The inode. Nobody else uses it yet.
    pub(crate) fn inode(&self) -> &Inode {
        self.0.inode()
    }

    /// The attributes that go in with its record.
    pub(crate) fn initial(&self) -> &Initial {
        &self.1
    }

    /// The record is in the table: publishes the inode under the name of `dentry`.
    pub(crate) fn instantiate(self, dentry: Negative<'_, Calf>) {
        self.0.inode().sb().data().count_inodes(1);
        self.0.instantiate(dentry)
    }

    /// The record is in the table: publishes the inode as that of `file`.
    pub(crate) fn instantiate_tmpfile<'a>(self, file: Tmpfile<'a, Calf>) -> FullTmpfile<'a> {
        self.0.inode().sb().data().count_inodes(1);
        self.0.instantiate_tmpfile(file)
    }

    /// The record is in the table: publishes the inode, which a name leads to but no dentry yet.
    pub(crate) fn publish(self) {
        self.0.inode().sb().data().count_inodes(1);
        self.0.publish()
    }
}

impl Deref for NewInode {
    type Target = Inode;
    fn deref(&self) -> &Inode {
        self.0.inode()
    }
}

/// Makes an inode in directory `dir`. `rdev` is the kernel's `dev_t`, for device nodes.
///
/// Errors: `ENOMEM`; `ENOSPC` if the numbers are used up. Never under a handle (D2).
pub(crate) fn new_inode(dir: &Inode, idmap: Idmap<'_>, mode: u16, rdev: u32) -> Result<NewInode> {
    let sb = dir.sb().data();
    let ino = sb.new_ino()?;
    let nascent = NascentInode::new(dir, idmap, ino.get(), icache::random_u32(), mode, rdev)?;
    let inode = nascent.inode();
    let mut ext = InodeExt::empty(tree_kind(inode));
    ext.btime = inode.times().ctime;
    fileattr::inherit(dir, inode, &mut ext);
    *inode.data().ext.write() = ext;
    Calf::install(inode);
    Ok(NewInode(nascent, Initial::new()))
}

/// Makes an inode as a user asks for it in directory `dir`, under the name of `dentry`: with umask
/// or default ACL applied, and with what security modules add. As [`new_inode`].
pub(crate) fn new_child(
    dir: &Inode,
    idmap: Idmap<'_>,
    dentry: &Dentry<Calf>,
    mode: u16,
    rdev: u32,
) -> Result<NewInode> {
    let (mode, mut initial) = acl::inherit(dir, mode)?;
    let new = new_inode(dir, idmap, mode, rdev)?;
    init_security(new.inode(), dir, dentry, |name, value| {
        let index = SECURITY;
        initial.push(Name { index, name }, value)
    })?;
    Ok(NewInode(new.0, initial))
}

/// Changes what the extent lock guards, and logs it with the record in a transaction of its own.
///
/// For changes that need no tree edit. `change` cannot fail and runs when nothing else can (C5).
pub(crate) fn change_record(inode: &Inode, change: impl FnOnce(&mut InodeExt)) -> Result {
    let sb = inode.sb().data();
    let mut trans = Trans::start(sb, Credits::RECORD, MetaSpace::adopt(sb, 0))?;
    let mut ext = inode.data().ext.write();
    let joined = trans.join_inode(inode)?;
    change(&mut ext);
    trans.log_inode(joined, ext.record(inode));
    trans.apply();
    drop(ext);
    trans.stop()
}

/// Logs the record of `inode` in a transaction of its own (D3: `dirty_inode` only marks).
pub(crate) fn log_inode(inode: &Inode) -> Result {
    let sb = inode.sb().data();
    let mut trans = Trans::start(sb, Credits::RECORD, MetaSpace::adopt(sb, 0))?;
    let ext = inode.data().ext.write();
    let joined = trans.join_inode_timestamps(inode)?;
    trans.log_inode(joined, ext.record(inode));
    trans.apply();
    drop(ext);
    trans.stop()
}

/// `write_inode`: logs the record; with `wait` it is durable afterwards.
///
/// The VFS takes the inode for clean before it asks, and asks nobody again after an error: what is in memory only would
/// be lost with it. Nor does it tell anybody: syncfs learns of the error here, and fsync, which is told, tells it.
///
/// Errors: `EAGAIN` while the filesystem is frozen, which nobody may wait for here: `s_umount` may be held, and who
/// thaws it needs that.
pub(crate) fn write_inode(inode: &Inode, wait: bool) -> Result {
    let sb = inode.sb().data();
    let failed = fault!(inode, WriteInode);
    let Some(_no_freeze) = inode.sb().try_intwrite() else {
        inode.mark_dirty();
        return Err(EAGAIN);
    };
    let logged = failed.and_then(|()| retry_nomem(|| log_inode(inode)));
    logged.inspect_err(|&e| {
        if !sb.is_shutdown() {
            inode.mark_dirty();
            inode.sb().set_wb_err(e);
        }
    })?;
    if wait {
        sb.commit_and_wait(inode.data().tid(false))?;
    }
    Ok(())
}

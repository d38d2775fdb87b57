// SPDX-License-Identifier: GPL-2.0

//! Bringing a mount up and down.
//!
//! Up: superblock, journal (opened with barriers, C8; replayed), superblock and descriptors once
//! more because the replay may have changed them (C11), allocator, root directory, and on a mount
//! for writing the orphans. What is made is owned by values all along, so an error at any point
//! undoes what came before in reverse order.
//!
//! The mark "in use" is made by the first handle, in the transaction of the first change or before
//! it: a mount that changes nothing writes nothing.
//!
//! Down (D5): the last commit, everything home and the mark "clean" with it, the journal empty. The
//! journal is destroyed when the data of the superblock is dropped, and its last commit still reports
//! to the allocator, which goes after it.

use super::alloc::Allocator;
use super::counters::Counters;
use super::debug::DebugDir;
use super::dir::LINK_MAX;
use super::discard::Discarder;
use super::extents::BATCH;
use super::inode::SuperBlock;
use super::opts::MountOpts;
use super::sb::{Dev, Name, Place, Sb, SbParts};
use super::space::Account;
use super::{itable, orphan, Calf};
use crate::algo::btree::Tree;
use crate::format::geometry::Geometry;
use crate::format::group;
use crate::format::super_block::{
    RawSuperBlock, SbError, SuperBlock as Super, MAGIC, ROOT_INO, SIZE,
};
use crate::format::types::{BlockNr, Kind};
use crate::kapi::block_dev::BlockDev;
use crate::kapi::fs_context::{max_file_size, real_time_ns, FsContext, NewSuper, SuperParams};
use crate::kapi::log::{log, Level};
use crate::kapi::memalloc::retry_nomem;
use crate::kapi::mounted::Claim;
use crate::kapi::statfs::StatFsValues;
use crate::kapi::workqueue::Workqueue;
use crate::seam::FVec;
use core::ops::ControlFlow;
use kernel::error::code::{EFSCORRUPTED, EINVAL, EIO, EROFS};
use kernel::prelude::*;
use kernel::sync::Arc;

/// `f_type`: "CALF".
const FS_MAGIC: u32 = 0x464c_4143;
/// Longest name, bytes.
const NAME_MAX: u64 = 255;
/// Times are `i64` nanoseconds; the last second is left out, where conversions saturate.
const TIME_MAX: i64 = i64::MAX / 1_000_000_000 - 1;

/// Prints lines about one device.
#[derive(Clone, Copy)]
struct Say<'a>(&'a CStr);

impl Say<'_> {
    fn error(self, args: kernel::fmt::Arguments<'_>) {
        log::<Calf>(Level::Error, self.0, args)
    }

    fn warn(self, args: kernel::fmt::Arguments<'_>) {
        log::<Calf>(Level::Warning, self.0, args)
    }

    fn info(self, args: kernel::fmt::Arguments<'_>) {
        log::<Calf>(Level::Info, self.0, args)
    }
}

/// `fill_super`.
pub(crate) fn fill_super(new: NewSuper<'_, Calf>, fc: &FsContext, opts: &MountOpts) -> Result {
    let say = Say(new.id());
    if opts.norecovery && !new.is_rdonly() {
        fc.error(c"norecovery needs a read-only mount");
        return Err(EINVAL);
    }
    let dev = open_device(&new, say)?;
    let bytes = new.device_bytes();
    let sup = read_super(&dev, bytes, say)?;
    check_features(&sup, new.is_rdonly(), say)?;
    let uuid = if opts.nouuid {
        None
    } else {
        let claim = Claim::new(*sup.geo.uuid()).inspect_err(|_| {
            say.error(fmt!(
                "a filesystem with this uuid is mounted; -o nouuid mounts a copy beside it"
            ));
        })?;
        Some(claim)
    };

    // The journal region was checked with the geometry. Nothing but the journal's own superblock
    // is read before barriers are on (C8).
    let geo = &sup.geo;
    let len = u32::try_from(geo.journal_blocks()).map_err(|_| EFSCORRUPTED)?;
    // A handle of several steps must not fill the journal (B1).
    if u64::from(BATCH.blocks) > geo.journal_blocks() / 8 {
        say.error(fmt!(
            "journal of {} blocks is too short",
            geo.journal_blocks()
        ));
        return Err(EINVAL);
    }
    let opened = new
        .open_journal(&dev, geo.journal_start().get(), len)
        .inspect_err(|e| say.error(fmt!("journal cannot be opened: {:?}; run fsck.calf", e)))?;
    let dirty = opened.needs_recovery();
    if dirty && opts.norecovery {
        say.warn(fmt!(
            "journal is not replayed: what is read may be old or damaged"
        ));
    } else if dirty {
        if new.device_rdonly() {
            say.error(fmt!(
                "journal must be replayed, but the device is read-only; -o ro,norecovery reads it as it is"
            ));
            return Err(EROFS);
        }
        say.info(fmt!("replaying the journal"));
    }
    // C11: the replay may bring in a newer superblock and newer descriptors than those on disk,
    // so whatever was read before it counts for nothing, except that the layout only grows.
    let mut journal = if opts.norecovery {
        opened.leave()
    } else {
        opened
            .load()
            .inspect_err(|e| say.error(fmt!("journal cannot be loaded: {:?}; run fsck.calf", e)))?
    };
    let after = read_super(&dev, bytes, say)?;
    // A growth may have been in the journal.
    if sup.geo.grown(after.geo.blocks()) != Ok(after.geo) {
        say.error(fmt!(
            "superblock: another layout after the replay; run fsck.calf"
        ));
        return Err(EFSCORRUPTED);
    }
    let sup = after;
    if sup.error || !opts.norecovery && journal.recorded_error().is_some() {
        say.warn(fmt!("an earlier mount ended with an error; run fsck.calf"));
    }

    let geo = sup.geo;
    let dev = Dev::new(dev, geo.blocks())?;
    let free = read_groups(&dev, &geo, say)?;
    let mut account = Account::default();
    account.free = free.iter().map(|&f| u64::from(f)).sum();
    let alloc = Allocator::new(geo, dev.clone(), &free, account)?;
    drop(free);
    discard_or_not(&alloc, opts.discard, say);
    journal.set_callback(Discarder::new(new.id(), &alloc)?)?;

    let counters = Arc::new(Counters::default(), GFP_KERNEL)?;
    let debug = DebugDir::new(new.id(), &alloc, &counters)?;
    let parts = SbParts {
        journal,
        alloc,
        dev,
        name: Name::new(new.id().to_bytes()),
        opts: *opts,
        uuid,
        hash_seed: sup.hash_seed,
        in_use: !sup.clean,
        counters,
        completion_wq: Workqueue::new(new.id())?,
        debug,
    };
    let data = KBox::pin_init(Sb::new(parts), GFP_KERNEL)?;
    if let Err(e) = count(&data, &sup) {
        // Without a replay the trees may be torn. Nobody allocates from them.
        if !opts.norecovery {
            return Err(e);
        }
    }

    let booting = new.install(&params(&geo), data);
    let sb = booting.sb();
    let root = itable::iget(sb, ROOT_INO)?;
    if !root.is_dir() {
        return Err(sb
            .data()
            .corrupted(Place::Ino(ROOT_INO), "the root is not a directory"));
    }
    let sb = booting.set_root(root)?;
    if !sb.is_rdonly() {
        start_writing(sb)?;
    }
    log_mounted(sb, &sup);
    Ok(())
}

/// Sets the block size of the device to that of the filesystem.
fn open_device(new: &NewSuper<'_, Calf>, say: Say<'_>) -> Result<BlockDev> {
    // The superblock lies at byte 0 whatever the block size.
    let dev = new.set_block_size(new.min_block_size().max(SIZE as u32))?;
    let log = {
        let bh = dev.read(0).inspect_err(|e| {
            say.error(fmt!("superblock (byte 0) cannot be read: {:?}", e));
        })?;
        let raw = RawSuperBlock::of(bh.data()).ok_or(EIO)?;
        if raw.magic != MAGIC {
            say.error(fmt!("no calf filesystem here"));
            return Err(EINVAL);
        }
        raw.block_size_log.get()
    };
    if !(10..=12).contains(&log) {
        say.error(fmt!(
            "superblock: block size 2^{} is not one of 1024, 2048, 4096",
            log
        ));
        return Err(EFSCORRUPTED);
    }
    let size = 1u32 << log;
    new.set_block_size(size).inspect_err(|_| {
        say.error(fmt!(
            "device or page size cannot do blocks of {} bytes",
            size
        ));
    })
}

fn read_super(dev: &BlockDev, device_bytes: u64, say: Say<'_>) -> Result<Super> {
    let bh = dev.read(0).inspect_err(|e| {
        say.error(fmt!("superblock (byte 0) cannot be read: {:?}", e));
    })?;
    Super::parse(bh.data(), device_bytes).map_err(|e| {
        say.error(format_args!("{}", e));
        match e {
            SbError::Checksum { .. } | SbError::BlockSize(_) | SbError::Layout(_) => EFSCORRUPTED,
            // Nothing is damaged: it is no calf filesystem, not all of one, or one of a newer calf.
            _ => EINVAL,
        }
    })
}

fn check_features(sup: &Super, rdonly: bool, say: Say<'_>) -> Result {
    if sup.unknown_ro_compat != 0 && !rdonly {
        say.error(fmt!(
            "unknown features {:#x} allow reading only; mount with -o ro",
            sup.unknown_ro_compat
        ));
        return Err(EINVAL);
    }
    Ok(())
}

/// The free count of every group, from its verified descriptor.
fn read_groups(dev: &Dev, geo: &Geometry, say: Say<'_>) -> Result<FVec<u32>> {
    let n = usize::try_from(geo.ngroups()).map_err(|_| EFSCORRUPTED)?;
    let mut free = FVec::with_capacity(n)?;
    let mut bh = None;
    let mut at = BlockNr::ZERO;
    for g in 0..geo.ngroups() {
        let (block, off) = geo.desc_location(g);
        if block != at {
            bh = Some(dev.read(block)?);
            at = block;
        }
        let bytes = bh.as_ref().map_or(&[][..], |bh| bh.data());
        let desc = group::read_desc(bytes, off, geo, g).map_err(|what| {
            say.error(fmt!(
                "block {}, group {}: {}; run fsck.calf",
                block.get(),
                g,
                what
            ));
            EFSCORRUPTED
        })?;
        free.push(desc.free.get())?;
    }
    Ok(free)
}

/// Finds out what only the trees know: the next inode number, the number of inodes, and what to
/// set aside for the refcount tree (B2a).
fn count(sb: &Sb, sup: &Super) -> Result {
    let geo = sb.geo();
    let reader = sb.reader();
    let inodes = Tree::global(Kind::Inodes, geo.inode_root());
    let last = inodes.last(&reader)?.map_or(0, |(ino, _)| ino);
    // The leaf was verified: at most MAX_INO. After that one, nothing new can be made.
    let next = last.max(ROOT_INO.get()).saturating_add(1);
    let mut n = sup.inode_count;
    if !sup.clean {
        n = 0;
        inodes.scan(&reader, 0, |_, _| {
            n = n.saturating_add(1);
            ControlFlow::Continue(())
        })?;
    }
    sb.init_inodes(next, n);

    let refcount = Tree::global(Kind::Refcount, geo.refcount_root());
    let have = refcount.blocks(&reader)?;
    sb.space().set_kept(
        geo.refcount_reserve().saturating_sub(have),
        geo.pool_blocks(),
    );
    Ok(())
}

fn params(geo: &Geometry) -> SuperParams {
    SuperParams {
        magic: FS_MAGIC,
        max_bytes: max_file_size(),
        max_links: LINK_MAX,
        time_gran: 1,
        time_min: -TIME_MAX,
        time_max: TIME_MAX,
        uuid: *geo.uuid(),
    }
}

fn log_mounted(sb: &SuperBlock, sup: &Super) {
    let d = sb.data();
    let label = core::str::from_utf8(sup.label()).unwrap_or("?");
    let access = if sb.is_rdonly() {
        "read-only"
    } else {
        "read-write"
    };
    Say(sb.id()).info(fmt!(
        "mounted {}, label \"{}\", {} blocks of {} bytes, {} inodes",
        access,
        label,
        d.geo().blocks(),
        d.block_size(),
        d.inodes()
    ));
}

/// Changes the superblock on disk, in a transaction (B6).
pub(super) fn update_super(sb: &Sb, f: impl FnOnce(&mut RawSuperBlock)) -> Result {
    let _lock = sb.super_lock().lock();
    update_super_locked(sb, f)
}

fn update_super_locked(sb: &Sb, f: impl FnOnce(&mut RawSuperBlock)) -> Result {
    let handle = retry_nomem(|| sb.journal().start(1, 0))?;
    let buf = handle.write_access(sb.dev().read(BlockNr::ZERO)?)?;
    buf.update(&handle, |bytes| {
        if let Some(raw) = RawSuperBlock::of_mut(bytes) {
            f(raw);
        }
    });
    handle.stop()
}

/// From now on the filesystem may change: finishes what the last mount left.
fn start_writing(sb: &SuperBlock) -> Result {
    let d = sb.data();
    d.check_shutdown()?;
    // What killed the last mount could be recorded only in the journal's superblock (B6).
    if let Some(e) = d.journal().recorded_error() {
        // CAST: An errno is a small positive number once negated.
        let code = e.to_errno().unsigned_abs();
        d.journal().forget_recorded_error()?;
        update_super(d, |raw| raw.set_error(code, 0, real_time_ns()))?;
        d.journal().force_commit()?;
        d.journal().store_forgotten_error();
    }
    d.set_writable(true);
    // A mount that stays read-only writes nothing.
    orphan::recover(sb).inspect_err(|_| d.set_writable(false))?;
    Ok(())
}

/// Says on disk that the filesystem is in use, unless it says so: before each handle that changes it. A crash leaves the
/// change only with the mark, which is in the same transaction or an earlier one.
pub(super) fn mark_used(d: &Sb) -> Result {
    if d.is_in_use() {
        return Ok(());
    }
    let _lock = d.super_lock().lock();
    if !d.is_in_use() {
        update_super_locked(d, |raw| raw.set_mounted(real_time_ns()))?;
        d.set_in_use(true);
    }
    Ok(())
}

/// Commits, and marks the filesystem clean. While there are no handles, so what is committed is all there is.
///
/// The mark needs no transaction. It goes home with what the journal still has, from which a replay
/// makes the same filesystem: clean too, or, if the superblock is in the journal, in use.
fn mark_clean(d: &Sb) -> Result {
    d.journal().force_commit()?;
    if d.is_in_use() {
        let inodes = d.inodes();
        d.dev().read(BlockNr::ZERO)?.update_home(|bytes| {
            if let Some(raw) = RawSuperBlock::of_mut(bytes) {
                raw.set_clean(inodes);
            }
        });
        d.set_in_use(false);
    }
    Ok(())
}

/// [`mark_clean`], and writes everything home: the journal has only to become empty.
fn bring_home(d: &Sb) -> Result {
    mark_clean(d)?;
    d.dev().bdev().sync()?;
    d.journal().forget_written();
    Ok(())
}

/// Marks the filesystem clean and empties the journal.
fn settle(d: &Sb) -> Result {
    // No completion ends while there are no handles, so nothing here waits for data (D5).
    let ret = d.journal().without_handles(|| {
        if d.is_writable() {
            bring_home(d)?;
        }
        d.journal().flush()
    });
    if ret.is_ok() {
        // All is committed, so what was freed waits for its discard at most.
        d.space().wait_settled();
    }
    ret
}

/// `put_super`: all inodes are gone, so all completions have run (D5). The journal goes when the
/// caller drops the data.
pub(crate) fn put_super(sb: &SuperBlock) {
    let d = sb.data();
    d.completion_wq().drain();
    check!(unmounting(d));
    if d.is_writable() && !d.is_shutdown() {
        if let Err(e) = d.journal().without_handles(|| bring_home(d)) {
            Say(sb.id()).error(fmt!("not marked clean: {:?}", e));
        }
    }
    Say(sb.id()).info(fmt!("unmounted"));
}

/// `reconfigure`.
pub(crate) fn reconfigure(
    sb: &SuperBlock,
    fc: &FsContext,
    new: &MountOpts,
    rdonly: bool,
) -> Result {
    let d = sb.data();
    d.opts().check_change(new, fc)?;
    if new.norecovery && !rdonly {
        fc.error(c"a mount with norecovery stays read-only");
        return Err(EINVAL);
    }
    match (sb.is_rdonly(), rdonly) {
        (false, true) => {
            sb.sync()?;
            if !d.is_shutdown() {
                settle(d)?;
            }
            d.set_writable(false);
        }
        (true, false) => {
            let bh = d.dev().read(BlockNr::ZERO)?;
            let bytes = d.geo().blocks().saturating_mul(d.block_size());
            let sup = Super::parse(bh.data(), bytes)
                .map_err(|_| d.corrupted(Place::Block(BlockNr::ZERO), "superblock"))?;
            drop(bh);
            check_features(&sup, false, Say(sb.id()))?;
            start_writing(sb)?;
        }
        _ => {}
    }
    if new.discard != d.opts().discard {
        discard_or_not(d.alloc(), new.discard, Say(sb.id()));
    }
    d.set_opts(new);
    Ok(())
}

/// Has freed blocks discarded, if it is wanted and the device can.
fn discard_or_not(alloc: &Allocator, on: bool, say: Say<'_>) {
    let can = alloc.dev().discard_granularity().is_some();
    if on && !can {
        say.warn(fmt!(
            "mounted with discard, but the device does not support it"
        ));
    }
    alloc.set_discard(on && can);
}

/// `sync_fs`: with `wait` commits; all data written before is durable afterwards. Without, nothing: not
/// all data is written yet, and what maps the rest would need another commit.
pub(crate) fn sync_fs(sb: &SuperBlock, wait: bool) -> Result {
    let d = sb.data();
    d.check_shutdown()?;
    if !wait {
        return Ok(());
    }
    let tid = d.journal().last_tid();
    // Decided before the commit: afterwards it is too late to ask (C9).
    let flush = !d.journal().will_flush(tid);
    d.commit_and_wait(tid)?;
    if flush {
        d.dev().bdev().flush()?;
    }
    if sb.is_dying() {
        // The VFS writes home next; so the superblock is written once.
        d.journal().without_handles(|| mark_clean(d))?;
    }
    d.check_shutdown()
}

/// `freeze_fs`: writers are stopped and all data is written.
pub(crate) fn freeze_fs(sb: &SuperBlock) -> Result {
    let d = sb.data();
    d.check_shutdown()?;
    settle(d)
}

/// `statfs`: what is set aside for the refcount tree counts as used.
pub(crate) fn statfs(sb: &SuperBlock) -> StatFsValues {
    let d = sb.data();
    let geo = d.geo();
    let a = d.space().account();
    // Blocks whose freeing has not been committed are free to whoever asks: an allocation that
    // finds nothing else waits for the commit (B4).
    let free = a
        .free
        .saturating_add(a.pending)
        .saturating_sub(a.reserved)
        .saturating_sub(a.set_aside);
    let avail = free.saturating_sub(a.pool);
    let blocks = geo
        .blocks()
        .saturating_sub(geo.fixed_blocks())
        .saturating_sub(geo.refcount_reserve());
    // A record of 256 bytes and its slot, in leaves that appends fill.
    let per_block = d.block_size() / 268;
    let files_free = avail.saturating_mul(per_block);
    StatFsValues {
        magic: FS_MAGIC,
        block_size: d.block_size(),
        blocks,
        free: free.min(blocks),
        avail: avail.min(blocks),
        files: d.inodes().saturating_add(files_free),
        files_free,
        name_max: NAME_MAX,
        uuid: *geo.uuid(),
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Iterators, mappings and writeback contexts, copied for the rules.
//!
//! C header: [`include/linux/iomap.h`](srctree/include/linux/iomap.h)

use super::inode::InodeRef;
use crate::bindings;
use crate::judge::view::{map_flag, request_flag, ty};
use crate::judge::{Map, Request};
use core::marker::PhantomData;
use core::ptr::NonNull;

// The rules know the flags by value.
const _: () = {
    assert!(bindings::IOMAP_HOLE == ty::HOLE as u32);
    assert!(bindings::IOMAP_DELALLOC == ty::DELALLOC as u32);
    assert!(bindings::IOMAP_MAPPED == ty::MAPPED as u32);
    assert!(bindings::IOMAP_UNWRITTEN == ty::UNWRITTEN as u32);
    assert!(bindings::IOMAP_INLINE == ty::INLINE as u32);
    assert!(bindings::IOMAP_F_NEW == map_flag::NEW as u32);
    assert!(bindings::IOMAP_F_DIRTY == map_flag::DIRTY as u32);
    assert!(bindings::IOMAP_F_SHARED == map_flag::SHARED as u32);
    assert!(bindings::IOMAP_F_ANON_WRITE == map_flag::ANON_WRITE as u32);
    assert!(bindings::IOMAP_F_ATOMIC_BIO == map_flag::ATOMIC_BIO as u32);
    assert!(bindings::IOMAP_F_FOLIO_BATCH == map_flag::FOLIO_BATCH as u32);
    assert!(bindings::IOMAP_F_SIZE_CHANGED == map_flag::SIZE_CHANGED as u32);
    assert!(bindings::IOMAP_F_STALE == map_flag::STALE as u32);
    assert!(bindings::IOMAP_WRITE == request_flag::WRITE);
    assert!(bindings::IOMAP_ZERO == request_flag::ZERO);
    assert!(bindings::IOMAP_REPORT == request_flag::REPORT);
    assert!(bindings::IOMAP_FAULT == request_flag::FAULT);
    assert!(bindings::IOMAP_DIRECT == request_flag::DIRECT);
    assert!(bindings::IOMAP_NOWAIT == request_flag::NOWAIT);
    assert!(bindings::IOMAP_OVERWRITE_ONLY == request_flag::OVERWRITE_ONLY);
    assert!(bindings::IOMAP_UNSHARE == request_flag::UNSHARE);
    assert!(bindings::IOMAP_ATOMIC == request_flag::ATOMIC);
};

fn copy(map: &bindings::iomap) -> Map {
    let (dev_bytes, sector) = if map.bdev.is_null() {
        (0, 0)
    } else {
        (
            // SAFETY: The device of a mapping in use is open.
            unsafe { bindings::check_bdev_nr_bytes(map.bdev) },
            // SAFETY: As above.
            unsafe { bindings::check_bdev_logical_block_size(map.bdev) },
        )
    };
    Map {
        addr: map.addr,
        offset: map.offset,
        length: map.length,
        ty: map.type_,
        flags: map.flags,
        dev: map.bdev as u64,
        dev_bytes,
        sector,
        dax: !map.dax_dev.is_null(),
    }
}

/// A `struct iomap_iter` for the time of one handler.
///
/// # Invariants
///
/// The pointer is valid for `'a`; its task is the one that runs the handler.
#[derive(Clone, Copy)]
pub(crate) struct IterRef<'a>(
    NonNull<bindings::iomap_iter>,
    PhantomData<&'a bindings::iomap_iter>,
);

impl<'a> IterRef<'a> {
    /// # Safety
    ///
    /// `ptr` must be null or a valid iterator of the running task for `'a`.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::iomap_iter) -> Option<Self> {
        NonNull::new(ptr).map(|p| Self(p, PhantomData))
    }

    /// # Safety
    ///
    /// `map` must be null or the `iomap` of a valid iterator of the running task.
    pub(super) unsafe fn from_map(map: *mut bindings::iomap) -> Option<Self> {
        if map.is_null() {
            return None;
        }
        // SAFETY: The caller says that the mapping lies in an iterator.
        let iter = unsafe { kernel::container_of!(map, bindings::iomap_iter, iomap) };
        // SAFETY: By the safety requirements of this function.
        unsafe { Self::from_raw(iter) }
    }

    /// Identity. Iterators live on stacks: another one may have had it before.
    pub(crate) fn key(&self) -> usize {
        self.0.as_ptr() as usize
    }

    fn get(&self) -> &'a bindings::iomap_iter {
        // SAFETY: Valid by the type invariant, and nobody else writes it while its task runs the
        // handler.
        unsafe { self.0.as_ref() }
    }

    /// The file.
    pub(crate) fn inode(&self) -> Option<InodeRef<'a>> {
        // SAFETY: The inode of an iterator in use is in use.
        unsafe { InodeRef::from_raw(self.get().inode) }
    }

    /// A copy for the rules.
    pub(crate) fn request(&self) -> Request {
        let i = self.get();
        Request {
            pos: i.pos,
            len: i.len,
            start: i.iter_start_pos,
            status: i.status,
            flags: i.flags,
            map: copy(&i.iomap),
            src: copy(&i.srcmap),
            has_batch: !i.fbatch.is_null(),
            dsync: false,
        }
    }
}

/// A `struct iomap_writepage_ctx` for the time of one handler.
pub(crate) struct Writeback<'a> {
    /// The file.
    pub(crate) inode: InodeRef<'a>,
    /// The mapping in use.
    pub(crate) map: Map,
    /// Address of the filesystem's `iomap_writeback_ops`.
    pub(crate) ops: usize,
    /// Where, in bytes.
    pub(crate) pos: i64,
    /// How much, in bytes.
    pub(crate) len: u64,
}

impl Writeback<'_> {
    /// # Safety
    ///
    /// `inode` must be valid, and `map` must lie in the context of a writeback of the running task.
    pub(super) unsafe fn from_raw(
        inode: *mut bindings::inode,
        pos: u64,
        len: u32,
        map: *mut bindings::iomap,
    ) -> Option<Self> {
        // SAFETY: By the safety requirements of this function.
        let inode = unsafe { InodeRef::from_raw(inode) }?;
        // SAFETY: As above; the mapping is a part of the context.
        let wpc = unsafe { kernel::container_of!(map, bindings::iomap_writepage_ctx, iomap) };
        // SAFETY: As above.
        let wpc = unsafe { &*wpc };
        Some(Self {
            inode,
            map: copy(&wpc.iomap),
            ops: wpc.ops as usize,
            pos: i64::try_from(pos).ok()?,
            len: u64::from(len),
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Registration of a filesystem type, and the slab its inodes live in.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/slab.h`](srctree/include/linux/slab.h)

use super::fs_context::{init_fs_context, MountOps};
use super::inode::InodeBox;
use super::iomap_dio::BioSet;
use super::super_ops::SuperOps;
use crate::bindings;
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ptr;
use kernel::error::code::{EBUSY, ENOMEM};
use kernel::error::{to_result, Error};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Release};
use kernel::types::Opaque;

/// Where a filesystem keeps the pointer to its inode slab: a `static` named by
/// [`SuperOps::inode_cache`].
///
/// `free_inode` runs after an RCU grace period, when the superblock and its type may already be
/// gone, so the slab cannot hang on either.
///
/// # Invariants
///
/// The value is 0 or the address of a live `kmem_cache`.
pub struct InodeCacheSlot(Atomic<usize>);

impl InodeCacheSlot {
    /// An empty slot.
    pub const fn new() -> Self {
        // INVARIANT: Empty.
        Self(Atomic::new(0))
    }

    /// The slab, null when no [`Registration`] is alive.
    pub(super) fn get(&self) -> *mut bindings::kmem_cache {
        ptr::with_exposed_provenance_mut(self.0.load(Acquire))
    }
}

/// Owns the inode slab; dropping waits for the inodes that RCU still frees.
struct InodeCache(&'static InodeCacheSlot);

impl InodeCache {
    fn create<T: SuperOps>(name: &'static CStr) -> Result<Self> {
        let size = u32::try_from(size_of::<InodeBox<T>>()).map_err(|_| ENOMEM)?;
        let align = u32::try_from(align_of::<InodeBox<T>>()).map_err(|_| ENOMEM)?;
        // SAFETY: The name lives for ever; size and alignment are those of the object.
        let cache = unsafe { bindings::calf_inode_cache_create(name.as_char_ptr(), size, align) };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        let slot = T::inode_cache();
        // INVARIANT: The cache is alive until `drop`.
        slot.0.store(cache.expose_provenance(), Release);
        Ok(Self(slot))
    }
}

impl Drop for InodeCache {
    fn drop(&mut self) {
        // Every inode is gone, but `free_inode` of the last ones may still wait for its grace
        // period.
        // SAFETY: May sleep here.
        unsafe { bindings::rcu_barrier() };
        let cache = self.0.get();
        // INVARIANT: Empty before the cache dies.
        self.0 .0.store(0, Release);
        // SAFETY: Created by `create`; no object is left.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}

/// Sets up, once in the life of the module, what outlives a registration. Errors: `EBUSY` the second time.
fn once() -> Result {
    static DONE: Atomic<u32> = Atomic::new(0);
    if DONE.xchg(1, Full) != 0 {
        return Err(EBUSY);
    }
    // SAFETY: Only the first caller comes here.
    unsafe { super::mounted::init() };
    Ok(())
}

/// A registered filesystem type.
///
/// # Invariants
///
/// `fs` is registered from `new` until drop.
#[pin_data(PinnedDrop)]
pub struct Registration<T: SuperOps + MountOps> {
    #[pin]
    fs: Opaque<bindings::file_system_type>,
    // Dropped after `fs` has been unregistered by `PinnedDrop`, like what follows.
    _cache: InodeCache,
    _bios: BioSet,
    _t: PhantomData<T>,
}

// SAFETY: Registering and unregistering may happen in different tasks.
unsafe impl<T: SuperOps + MountOps> Send for Registration<T> {}
// SAFETY: There are no methods on `&self`.
unsafe impl<T: SuperOps + MountOps> Sync for Registration<T> {}

impl<T: SuperOps + MountOps> Registration<T> {
    /// Creates the inode slab `cache_name` and registers the filesystem type. Errors: `EBUSY` the second time,
    /// those of registration.
    pub fn new(
        module: &'static ThisModule,
        cache_name: &'static CStr,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _cache: once().and_then(|()| InodeCache::create::<T>(cache_name))?,
            // SAFETY: Only the first registration comes here.
            _bios: unsafe { BioSet::create() }?,
            fs <- Opaque::try_ffi_init(move |slot: *mut bindings::file_system_type| {
                let mut fs: bindings::file_system_type = pin_init::zeroed();
                fs.name = T::NAME.as_char_ptr();
                fs.fs_flags = bindings::CALF_CONST_FS_FLAGS;
                fs.init_fs_context = Some(init_fs_context::<T>);
                fs.kill_sb = Some(bindings::kill_block_super);
                fs.owner = module.as_ptr();
                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(fs) };
                // SAFETY: The type is complete, pinned, and unregistered before it is freed.
                to_result(unsafe { bindings::register_filesystem(slot) })
            }),
            _t: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: SuperOps + MountOps> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered, by the type invariant. Mounts hold a reference to the module, so
        // none is left.
        let _ = unsafe { bindings::unregister_filesystem(self.fs.get()) };
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A table of fixed size, keyed by address, that forgets when it is full.
//!
//! Handlers may not allocate. What was forgotten is judged by fewer rules, never wrongly.

use crate::kapi::probe::lock;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::SpinLock;

/// Buckets, a power of two.
const BUCKETS: usize = 64;
/// Entries a bucket.
const WAYS: usize = 8;

#[derive(Clone, Copy)]
struct Bucket<V> {
    // Key 0: empty.
    entries: [(usize, V); WAYS],
    next: usize,
}

/// The table. Its locks are taken for a few instructions and never two at a time.
pub(crate) struct Table<V> {
    buckets: KVec<Pin<KBox<SpinLock<Bucket<V>>>>>,
}

impl<V: Copy + Default + Unpin> Table<V> {
    /// An empty table. Errors: `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let mut buckets = KVec::with_capacity(BUCKETS, GFP_KERNEL)?;
        for _ in 0..BUCKETS {
            let empty = Bucket {
                entries: [(0, V::default()); WAYS],
                next: 0,
            };
            buckets.push(
                KBox::pin_init(new_spinlock!(empty), GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
        Ok(Self { buckets })
    }

    fn bucket(&self, key: usize) -> Option<&SpinLock<Bucket<V>>> {
        // Addresses: the low bits are the same for all, those of the page say little.
        let hash = (key >> 3) ^ (key >> 11) ^ (key >> 17);
        self.buckets.get(hash % BUCKETS).map(|b| &**b)
    }

    /// Calls `f` with the entry of `key`, made if it is missing.
    pub(crate) fn with<R: Default>(&self, key: usize, f: impl FnOnce(&mut V) -> R) -> R {
        let Some(bucket) = self.bucket(key) else {
            return R::default();
        };
        let mut b = lock(bucket);
        let found = b.entries.iter().position(|e| e.0 == key);
        let at = found.or_else(|| b.entries.iter().position(|e| e.0 == 0));
        let at = at.unwrap_or_else(|| {
            b.next = (b.next + 1) % WAYS;
            b.next
        });
        let Some(entry) = b.entries.get_mut(at) else {
            return R::default();
        };
        if found.is_none() {
            *entry = (key, V::default());
        }
        f(&mut entry.1)
    }

    /// The entry of `key`.
    pub(crate) fn get(&self, key: usize) -> Option<V> {
        let b = lock(self.bucket(key)?);
        b.entries.iter().find(|e| e.0 == key).map(|e| e.1)
    }

    /// Forgets `key`; returns what was there.
    pub(crate) fn take(&self, key: usize) -> Option<V> {
        let mut b = lock(self.bucket(key)?);
        let entry = b.entries.iter_mut().find(|e| e.0 == key)?;
        let old = entry.1;
        *entry = (0, V::default());
        Some(old)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Groups that a growth of the filesystem brings while it is mounted.

use super::{Allocator, Failed, GroupAccess, Part, GROWTHS};
use crate::algo::bitmap;
use crate::format::geometry::Geometry;
use crate::kapi::jbd2::Handle;
use kernel::error::code::EBUSY;
use kernel::sync::atomic::{Relaxed, Release};

impl Allocator {
    /// Memory for what the filesystem has when it has grown to `geo`. Errors: `ENOMEM`, `EBUSY`
    /// when it has grown too often since it was mounted.
    pub(crate) fn prepare_grow(&self, geo: Geometry) -> Result<Part, Failed> {
        if self.ngrown.load(Relaxed) >= GROWTHS {
            return Err(EBUSY.into());
        }
        // Nothing may verify the bitmap of the group that grows with the old layout any more.
        let old = self.geo();
        self.load(old.ngroups().saturating_sub(1))?;
        let part = Part::new(geo, old.ngroups(), |g| {
            let (_, len) = geo.group_range(g);
            len.saturating_sub(geo.head(g)) as u32
        })?;
        Ok(part)
    }

    /// Opens the new blocks of the last group on disk: those of `next` beyond the end of `now`.
    /// `access` is to that group.
    pub(crate) fn open_tail(
        &self,
        handle: &Handle<'_>,
        access: &GroupAccess,
        now: &Geometry,
        next: &Geometry,
    ) -> bool {
        let Ok(group) = self.group(access.group) else {
            return false;
        };
        let (_, from) = now.group_range(access.group);
        let (_, to) = next.group_range(access.group);
        let len = to.saturating_sub(from) as usize;
        self.change_disk(handle, group, access, from as usize, len, false)
    }

    /// The filesystem has grown on disk to `geo`, for which `part` was prepared or which is less
    /// than that: lets everybody use the new blocks. Callers take turns.
    pub(crate) fn publish_grown(&self, mut part: Part, geo: Geometry) {
        let old = *self.geo();
        part.geo = geo;
        let count = geo.ngroups().saturating_sub(part.first_group) as usize;
        part.groups.truncate(count);
        let mut free: u64 = part
            .groups
            .iter()
            .map(|g| u64::from(g.view.lock().free))
            .sum();
        let n = self.ngrown.load(Relaxed);
        if !self.grown.get(n).is_some_and(|slot| slot.populate(part)) {
            return;
        }
        self.ngrown.store(n + 1, Release);
        let last = old.ngroups().saturating_sub(1);
        if let Ok(group) = self.group(last) {
            let (_, len) = geo.group_range(last);
            let mut view = group.view.lock();
            let from = group.len.load(Relaxed);
            let more = (len as u32).saturating_sub(from);
            if let Some(p) = view.planes.as_mut() {
                bitmap::clear_range(&mut p.busy, from as usize, more as usize);
            }
            view.free += more;
            group.len.store(len as u32, Relaxed);
            free += u64::from(more);
        }
        let kept = geo
            .refcount_reserve()
            .saturating_sub(old.refcount_reserve());
        self.space.grown(free, kept, geo.pool_blocks());
    }
}

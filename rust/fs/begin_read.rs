// SPDX-License-Identifier: GPL-2.0

//! Mappings for reads, and for reports: FIEMAP, `SEEK_DATA`, `SEEK_HOLE`.
//!
//! Reads see the data map only: what is staged is in the page cache, uptodate and dirty or under
//! writeback, until its completion has mapped it.

use super::inode::Inode;
use super::map::{self, Old};
use super::Calf;
use crate::algo::extent::Extent;
use crate::kapi::iomap::{
    table, Answer, AttrMap, IomapOps, Iter, OpsRef, ReadMap, ReportMap, Request, SeekMap,
};
use core::ops::ControlFlow;
use kernel::prelude::*;

/// Reads, buffered and direct.
pub(crate) struct Read;

/// FIEMAP.
pub(crate) struct Report;

/// FIEMAP of the extended attributes.
pub(crate) struct ReportAttrs;

/// `SEEK_DATA` and `SEEK_HOLE`.
pub(crate) struct Seek;

/// The table of reads.
pub(crate) const READ: OpsRef<Calf> = table::<Read>();
/// The table of FIEMAP.
pub(crate) const REPORT: OpsRef<Calf> = table::<Report>();
/// The table of FIEMAP of the extended attributes.
pub(crate) const REPORT_ATTRS: OpsRef<Calf> = table::<ReportAttrs>();
/// The table of `SEEK_DATA` and `SEEK_HOLE`.
pub(crate) const SEEK: OpsRef<Calf> = table::<Seek>();

#[vtable]
impl IomapOps for Read {
    type Fs = Calf;
    type Map = ReadMap;

    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<ReadMap>> {
        let sb = inode.sb().data();
        sb.check_readable()?;
        let (at, _) = map::blocks(sb, req.pos, req.end());
        let ext = inode.data().ext.read();
        let answer = match map::old_at(sb, inode, &ext, at)? {
            Old::Hole { end } => ReadMap::Hole(map::span(sb, at, end)?),
            Old::Written(e) => ReadMap::Mapped(map::run(sb, e)?),
            Old::Unwritten(e) => ReadMap::Unwritten(map::run(sb, e)?),
        };
        Ok(Answer::new(answer, inode.data().cookie()))
    }
}

#[vtable]
impl IomapOps for Report {
    type Fs = Calf;
    type Map = ReportMap;

    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<ReportMap>> {
        let sb = inode.sb().data();
        sb.check_readable()?;
        let (at, _) = map::blocks(sb, req.pos, req.end());
        let ext = inode.data().ext.read();
        let answer = match map::old_at(sb, inode, &ext, at)? {
            Old::Written(e) => {
                let (shared, run) = map::shared_run(sb, &ext, e.phys, e.len)?;
                let e = map::clip(e, at, at.saturating_add(run));
                ReportMap::Mapped {
                    run: map::run(sb, e)?,
                    shared: shared && !bug!(sb, SwapIgnoresShared),
                }
            }
            // What is staged over no data is a delayed allocation to the user.
            Old::Hole { end } => match map::staged_over_hole(&ext, at, end) {
                (true, end) => ReportMap::Delalloc(map::span(sb, at, end)?),
                (false, end) => ReportMap::Hole(map::span(sb, at, end)?),
            },
            Old::Unwritten(e) => ReportMap::Unwritten(map::run(sb, e)?),
        };
        Ok(Answer::new(answer, inode.data().cookie()))
    }
}

#[vtable]
impl IomapOps for ReportAttrs {
    type Fs = Calf;
    type Map = AttrMap;

    /// The nodes of the tree, one block after the other. Attributes in the inode record have no
    /// extent: `ENOENT`, after which iomap reports none, as for those in an inode of XFS.
    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<AttrMap>> {
        let sb = inode.sb().data();
        sb.check_readable()?;
        let (at, end) = map::blocks(sb, req.pos, req.end());
        let ext = inode.data().ext.read();
        let attrs = ext.attrs(inode);
        let mut found = None;
        let tree = attrs.nodes(&sb.reader(), at, |block| {
            let e = found.get_or_insert(Extent {
                fblk: at,
                phys: block,
                len: 0,
                unwritten: false,
            });
            if e.phys.get().saturating_add(e.len) != block.get() || e.end() >= end {
                return ControlFlow::Break(());
            }
            e.len = e.len.saturating_add(1);
            ControlFlow::Continue(())
        })?;
        let answer = match found {
            _ if !tree => return Err(ENOENT),
            None => AttrMap::Hole(map::span(sb, at, end)?),
            Some(e) => AttrMap::Mapped(map::run(sb, e)?),
        };
        Ok(Answer::new(answer, inode.data().cookie()))
    }
}

#[vtable]
impl IomapOps for Seek {
    type Fs = Calf;
    type Map = SeekMap;

    fn begin(inode: &Inode, req: Request, _iter: Iter<'_>) -> Result<Answer<SeekMap>> {
        let sb = inode.sb().data();
        sb.check_readable()?;
        let (at, _) = map::blocks(sb, req.pos, req.end());
        let ext = inode.data().ext.read();
        let answer = match map::old_at(sb, inode, &ext, at)? {
            Old::Written(e) => SeekMap::Data(map::run(sb, e)?),
            Old::Unwritten(e) => SeekMap::Unwritten(map::span(sb, at, e.end())?),
            Old::Hole { end } if bug!(sb, SeekIgnoresCow) => SeekMap::Hole(map::span(sb, at, end)?),
            // The page cache knows whether a staged hole has data (C-SEEK-UNWRITTEN).
            Old::Hole { end } => match map::staged_over_hole(&ext, at, end) {
                (true, end) => SeekMap::Unwritten(map::span(sb, at, end)?),
                (false, end) => SeekMap::Hole(map::span(sb, at, end)?),
            },
        };
        Ok(Answer::new(answer, inode.data().cookie()))
    }
}

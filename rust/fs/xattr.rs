// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: one transaction for each change.
//!
//! All changes are made with `i_rwsem` held exclusively, so what a change costs is known before its
//! handle starts. Readers take the extent lock shared, which keeps them apart from `apply`.
//!
//! A value of 64 KiB is 242 pieces; replacing it overwrites them in place, so that even the smallest
//! journal (2048 blocks of 1 KiB) holds old and new in one transaction: a crash leaves either.

use kernel::error::code::{EEXIST, ENODATA, ENOSPC, ERANGE};
use kernel::error::Result;

use super::credits::Credits;
use super::inode::{Inode, InodeExt};
use super::sb::Sb;
use super::space::Share;
use super::txn::{MetaSpace, Trans};
use crate::algo::btree::{growth_nodes, worst_nodes};
use crate::algo::xattr::{fit_short, Attrs, Name};
use crate::format::types::Ino;
use crate::format::xattr::{self as raw, pieces, PIECE};
use crate::kapi::capability;
use crate::kapi::xattr::Expect;
use crate::seam::FVec;

/// What a change may take.
#[derive(Clone, Copy)]
pub(crate) struct Needs {
    /// Journal space.
    pub(crate) credits: Credits,
    /// Blocks for new nodes.
    pub(crate) space: u64,
}

impl Needs {
    /// Only the inode record changes.
    pub(crate) const RECORD: Self = Self {
        credits: Credits::RECORD,
        space: 0,
    };

    /// `old` pieces of an attribute become `new` ones, in a tree of `height` levels (0: the tree is
    /// made); or, when `old` is 0, `runs` attributes come in.
    fn tree(sb: &Sb, height: u8, old: u64, new: u64, runs: u64) -> Self {
        // CAST: At most a page.
        let bs = sb.block_size() as usize;
        // One more each: a piece that grows may need another leaf, as a new one does.
        let inserts = new.saturating_sub(old).saturating_add(runs);
        let space = growth_nodes(inserts, runs, height.max(1), bs, PIECE) + u64::from(height == 0);
        let gone = match old {
            0 => 0,
            _ => worst_nodes(old, bs, PIECE).saturating_add(height.into()),
        };
        // The leaves of the old pieces, and on each side of a run a path and its neighbours.
        let sides = runs * 4 * (u64::from(height) + 2);
        let touched = space + worst_nodes(old, bs, PIECE) + sides;
        let geo = sb.geo();
        let bits = (2 * (space + gone)).min(geo.ngroups() + geo.desc_blocks());
        // Where new nodes are scattered over more groups than the journal can take, there is not
        // enough room in one place: `Trans::fits` says so before anything is changed.
        let most = u64::from(sb.journal().max_handle());
        // CAST: Below `most`.
        let blocks = (touched + bits + 2).min(most) as u32;
        Self {
            credits: Credits::new(blocks, gone.min(most / 2) as u32),
            space,
        }
    }
}

impl InodeExt {
    /// A copy of the inode's attributes, to edit in a transaction.
    pub(crate) fn attrs(&self, inode: &Inode) -> Attrs {
        Attrs::new(Ino::new(inode.ino()), self.attr)
    }

    /// Does the inode own blocks for its attributes?
    pub(crate) fn has_attr_tree(&self) -> bool {
        matches!(raw::form(&self.attr), raw::Form::Tree(_))
    }

    /// Takes over an edited copy and counts its nodes. Only right before
    /// [`Trans::apply`], with the extent lock held exclusively.
    pub(crate) fn set_attrs(&mut self, inode: &Inode, attrs: &Attrs) {
        self.attr = *attrs.area();
        self.nblocks = self.nblocks.saturating_add_signed(attrs.delta());
        inode.set_sectors(self.nblocks.saturating_mul(inode.sb().block_size() / 512));
    }
}

/// Copies the value of `name` out and returns its length; an empty `out` asks for the length.
/// Errors: `ENODATA`, `ERANGE`, `EIO`.
pub(crate) fn get(inode: &Inode, name: Name<'_>, out: &mut [u8]) -> Result<usize> {
    let sb = inode.sb().data();
    sb.check_readable()?;
    let ext = inode.data().ext.read();
    let attrs = ext.attrs(inode);
    let len = attrs
        .get(&sb.reader(), sb.hash_seed(), name, out)?
        .ok_or(ENODATA)?;
    if !out.is_empty() && len > out.len() {
        return Err(ERANGE);
    }
    Ok(len)
}

/// The value of `name`, if there is one.
pub(crate) fn read(inode: &Inode, name: Name<'_>) -> Result<Option<FVec<u8>>> {
    let sb = inode.sb().data();
    sb.check_readable()?;
    let ext = inode.data().ext.read();
    let attrs = ext.attrs(inode);
    let Some(len) = attrs.get(&sb.reader(), sb.hash_seed(), name, &mut [])? else {
        return Ok(None);
    };
    let mut value = FVec::from_elem(0, len)?;
    attrs.get(&sb.reader(), sb.hash_seed(), name, &mut value)?;
    Ok(Some(value))
}

/// The prefix of a namespace, or the whole name.
fn prefix(index: u8) -> &'static [u8] {
    match index {
        raw::USER => b"user.",
        raw::TRUSTED => b"trusted.",
        raw::SECURITY => b"security.",
        raw::ACL_ACCESS => b"system.posix_acl_access",
        _ => b"system.posix_acl_default",
    }
}

/// Writes all names that the caller may see into `out`, a NUL behind each, and returns their
/// length; without `out` the length only. Errors: `ERANGE`, `EIO`.
pub(crate) fn list(inode: &Inode, mut out: Option<&mut [u8]>) -> Result<usize> {
    let sb = inode.sb().data();
    sb.check_readable()?;
    let trusted = capability::has_sys_admin();
    let (mut at, mut fits) = (0, true);
    let ext = inode.data().ext.read();
    ext.attrs(inode).for_each(&sb.reader(), |name, _| {
        if name.index == raw::TRUSTED && !trusted {
            return;
        }
        for part in [prefix(name.index), name.name, b"\0"] {
            let end = part.len().saturating_add(at);
            match out.as_mut().map(|out| out.get_mut(at..end)) {
                // Of the same length.
                Some(Some(to)) => to.iter_mut().zip(part).for_each(|(to, from)| *to = *from),
                Some(None) => fits = false,
                None => {}
            }
            at = end;
        }
    })?;
    if fits {
        Ok(at)
    } else {
        Err(ERANGE)
    }
}

/// Sets `name` to `value` or removes it, and the mode with it. The caller holds `i_rwsem`
/// exclusively. Errors: `EEXIST` or `ENODATA` against `expect`, `ENOSPC`.
pub(crate) fn set(
    inode: &Inode,
    name: Name<'_>,
    value: Option<&[u8]>,
    expect: Expect,
    mode: Option<u16>,
) -> Result {
    let sb = inode.sb().data();
    sb.check_shutdown()?;
    let seed = sb.hash_seed();
    let (height, old) = {
        let ext = inode.data().ext.read();
        let attrs = ext.attrs(inode);
        let old = attrs.get(&sb.reader(), seed, name, &mut [])?;
        (attrs.height(&sb.reader())?, old)
    };
    match (expect, old) {
        (Expect::Nothing, Some(_)) => return Err(EEXIST),
        (Expect::Something, None) => return Err(ENODATA),
        _ => {}
    }
    let old = old.map_or(0, |len| pieces(name, len));
    let new = value.map_or(0, |v| pieces(name, v.len()));
    let fits = value.is_none_or(|v| Attrs::fits_short(&inode.data().ext.read().attr, name, v));
    let needs = match height {
        0 if fits => Needs::RECORD,
        _ => Needs::tree(sb, height, old, new, 1),
    };
    let space = if new > old || height == 0 {
        MetaSpace::reserve(sb, needs.space)?
    } else {
        // What does not grow a tree must be possible on a full filesystem (B2c).
        MetaSpace::reserve_from(sb, needs.space, Share::Most)?
    };
    let mut trans = Trans::start(sb, needs.credits, space)?;
    let mut ext = inode.data().ext.write();
    let mut attrs = ext.attrs(inode);
    attrs.set(&mut trans, seed, name, value)?;
    let joined = trans.join_inode(inode)?;
    if !trans.fits() {
        return Err(ENOSPC);
    }

    ext.set_attrs(inode, &attrs);
    if let Some(mode) = mode {
        inode.set_mode(mode);
    }
    inode.touch(false);
    trans.log_inode(joined, ext.record(inode));
    let tid = trans.tid();
    trans.apply();
    drop(ext);
    trans.stop()?;
    if inode.is_sync() {
        sb.commit_and_wait(tid)?;
    }
    Ok(())
}

/// What a new inode starts with.
pub(crate) struct Initial(FVec<(u8, FVec<u8>, FVec<u8>)>);

impl Initial {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self(FVec::new())
    }

    /// Adds an attribute.
    pub(crate) fn push(&mut self, name: Name<'_>, value: &[u8]) -> Result {
        let mut copies = (
            FVec::from_elem(0, name.name.len())?,
            FVec::from_elem(0, value.len())?,
        );
        copies.0.copy_from_slice(name.name);
        copies.1.copy_from_slice(value);
        self.0.push((name.index, copies.0, copies.1))?;
        Ok(())
    }

    /// What [`Initial::write`] may take.
    pub(crate) fn needs(&self, sb: &Sb) -> Needs {
        if fit_short(self.0.iter().map(|(_, n, v)| (n.len(), v.len()))) {
            return Needs::RECORD;
        }
        let each = self.iter().map(|(name, value)| pieces(name, value.len()));
        Needs::tree(sb, 0, 0, each.sum(), self.0.len() as u64)
    }

    fn iter(&self) -> impl Iterator<Item = (Name<'_>, &[u8])> {
        self.0.iter().map(|(index, name, value)| {
            (
                Name {
                    index: *index,
                    name,
                },
                &**value,
            )
        })
    }

    /// Gives the attributes to an inode that nobody uses yet, before its record is written.
    pub(crate) fn write(&self, trans: &mut Trans<'_>, inode: &Inode, ext: &mut InodeExt) -> Result {
        if self.0.is_empty() {
            inode.no_xattrs();
            return Ok(());
        }
        let mut attrs = ext.attrs(inode);
        for (name, value) in self.iter() {
            attrs.set(trans, inode.sb().data().hash_seed(), name, Some(value))?;
        }
        ext.set_attrs(inode, &attrs);
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The superblock's tables.

use crate::fs::opts::{MountOpts, PARAMS};
use crate::fs::{evict, export, fsync, itable, mount, Calf, Inode, SuperBlock};
use crate::kapi::export::ExportOps;
use crate::kapi::fs_context::{FsContext, MountOps, NewSuper, ParamTable, ParamValue};
use crate::kapi::registration::InodeCacheSlot;
use crate::kapi::statfs::StatFsValues;
use crate::kapi::super_ops::SuperOps;
use kernel::error::code::ESHUTDOWN;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use kernel::sync::aref::ARef;

static INODE_CACHE: InodeCacheSlot = InodeCacheSlot::new();

impl SuperOps for Calf {
    fn inode_cache() -> &'static InodeCacheSlot {
        &INODE_CACHE
    }

    fn write_inode(inode: &Inode, wait: bool) -> Result {
        itable::write_inode(inode, wait)
    }

    fn evict_inode(inode: &Inode) {
        evict::evict(inode)
    }

    fn put_super(sb: &SuperBlock) {
        mount::put_super(sb)
    }

    fn sync_fs(sb: &SuperBlock, wait: bool) -> Result {
        mount::sync_fs(sb, wait)
    }

    fn freeze_fs(sb: &SuperBlock) -> Result {
        mount::freeze_fs(sb)
    }

    fn statfs(sb: &SuperBlock) -> Result<StatFsValues> {
        Ok(mount::statfs(sb))
    }

    fn show_options(sb: &SuperBlock, m: &SeqFile) -> Result {
        let d = sb.data();
        d.opts().show(m);
        if d.check_readable().is_err() {
            seq_print!(m, ",shutdown");
        } else if d.is_shutdown() && !d.opts().norecovery {
            seq_print!(m, ",emergency_ro");
        }
        Ok(())
    }

    fn shutdown(sb: &SuperBlock) {
        sb.data().force_shutdown("the device is gone", ESHUTDOWN);
    }
}

impl ExportOps for Calf {
    fn handle_to_inode(sb: &SuperBlock, ino: u64, generation: u32) -> Result<ARef<Inode>> {
        export::find(sb, ino, generation)
    }

    fn get_parent(dir: &Inode) -> Result<ARef<Inode>> {
        export::parent_of(dir)
    }

    fn commit_metadata(inode: &Inode) -> Result {
        fsync::fsync_metadata(inode, false)
    }
}

impl MountOps for Calf {
    type Options = MountOpts;

    const PARAMS: ParamTable = PARAMS;

    fn init_options(current: Option<&SuperBlock>) -> Result<MountOpts> {
        Ok(current.map_or_else(MountOpts::default, |sb| sb.data().opts()))
    }

    fn parse_param(
        options: &mut MountOpts,
        fc: &FsContext,
        id: u8,
        value: ParamValue<'_>,
    ) -> Result {
        options.parse(fc, id, value)
    }

    fn fill_super(sb: NewSuper<'_, Calf>, fc: &FsContext, options: &MountOpts) -> Result {
        mount::fill_super(sb, fc, options)
    }

    fn reconfigure(sb: &SuperBlock, fc: &FsContext, options: &MountOpts, rdonly: bool) -> Result {
        mount::reconfigure(sb, fc, options, rdonly)
    }
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Known deviations: where a filesystem breaks a rule and is right, or is known to.
//!
//! A masked violation is counted and not reported. No rule of severity error is masked for a
//! filesystem unless its reason says why that is no error there.

use super::rules::Rule;

/// One deviation of one filesystem.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Name of the filesystem type, as in `/proc/filesystems`.
    pub fs: &'static str,
    /// The rule.
    pub rule: Rule,
    /// Why.
    pub reason: &'static str,
}

macro_rules! known {
    ($($fs:literal: $($rule:ident)+, $reason:literal;)*) => {
        /// All of them.
        pub const KNOWN: &[Known] = &[$($(
            Known { fs: $fs, rule: Rule::$rule, reason: $reason },
        )+)*];
    };
}

known! {
    "exfat": G4, "report of a hole keeps the address of the cluster before it";
    "exfat": G5, "mappings end at the valid size, a byte";
    "exfat": G11, "raises i_size before it zeroes what is new";
    "exfat": G13, "writes metadata itself after a synchronous write";
    "exfat": G17b, "zeroes inside its own write begin, without invalidate_lock";
    "ntfs": G4, "holes have a computed address, resident ones address 0";
    "ntfs": G5, "mappings end at the initialised size, a byte";
    "ntfs": G6, "its delayed path may find LCN_HOLE";
    "ntfs": G11, "raises i_size before it zeroes what is new";
    "ntfs": G13, "writes metadata itself after a synchronous write";
    "ntfs": G16, "never gives reservations back; has a scheme of its own";
    "ntfs": G17b, "zeroes inside its own write begin, without invalidate_lock";
    "ntfs": G26, "a write that must not wait may take several mappings";
    "ntfs3": G5, "mappings end at the valid size, a byte";
    "ntfs3": G11, "raises i_size before it zeroes what is new";
    "ntfs3": G13, "writes metadata itself after a synchronous write";
    "ntfs3": G16, "never gives reservations back; has a scheme of its own";
    "ntfs3": G17b, "zeroes up to where it writes, without invalidate_lock";
    "ntfs3": G26, "a write that must not wait may take several mappings";
    "gfs2": G5, "the hole behind the data of a file that is inline begins at EOF, a byte";
    "gfs2": G11, "raises i_size before it zeroes what is new";
    "gfs2": G17b, "its glock stands for invalidate_lock";
    "gfs2": G26, "a write that must not wait may take several mappings";
    "btrfs": G3, "its addresses are those of all its devices together";
    "btrfs": G21 G22, "buffered writes do not go through iomap, so nobody tells of them";
    "btrfs": G13, "logs the inode itself after a synchronous write";
    "ext4": G21, "buffered writes do not go through iomap, so nobody tells of them";
    "ext4": G26, "a write that must not wait may take several mappings";
    "ext3": G21, "is ext4 by another name, see there";
    "ext3": G26, "is ext4 by another name, see there";
    "ext2": G21, "buffered writes do not go through iomap, so nobody tells of them";
    "ext2": G26, "may be ext4 by another name";
    "f2fs": G21, "buffered writes do not go through iomap, so nobody tells of them";
    "f2fs": G22, "moves blocks, and gives them to other files, without iomap";
    "f2fs": G26, "a write that must not wait may take several mappings";
    "f2fs": G3, "a preallocated block is shown to a read as unwritten, without an address";
    "fuse": G3 G4, "has no block device: the server knows where data is";
    "fuse": G5, "mappings are as long as the request";
    "fuseblk": G3 G4, "has no block device: the server knows where data is";
    "fuse": G28, "the server answers with whatever error it likes";
    "fuseblk": G5, "mappings are as long as the request";
    "fuseblk": G28, "the server answers with whatever error it likes";
    "virtiofs": G3 G4, "has no block device: the server knows where data is";
    "virtiofs": G5, "mappings are as long as the request";
    "virtiofs": G28, "the server answers with whatever error it likes";
    "erofs": G3 G5, "data may be inline, in a metadata box, or end at any byte";
    "zonefs": G5, "the last mapping ends with the zone's data";
    "bdev": G5, "the last mapping ends with the device";
    "bdev": G17b, "block devices take a lock of their own";
}

/// The entry for a rule and a filesystem.
pub fn find(fs: &[u8], rule: Rule) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|k| k.rule == rule && k.fs.as_bytes() == fs)
}

// SPDX-License-Identifier: GPL-2.0

//! Recognises what is on a device, so that nobody overwrites it by mistake.

use std::io;

use calf_core::format::super_block;

use crate::device::Storage;

/// Bytes at the start of the device that are looked at, and that are wiped.
pub const HEAD: u64 = 128 * 1024;

/// What the device seems to hold; [`None`] if nothing is recognised.
pub fn probe(storage: &dyn Storage) -> io::Result<Option<&'static str>> {
    let size = storage.size();
    let head = storage.read(0, size.min(HEAD) as usize)?;
    let is = |at: usize, magic: &[u8]| head.get(at..at + magic.len()) == Some(magic);
    let byte = |at: usize| head.get(at).copied().unwrap_or(0);
    let boot = is(510, &[0x55, 0xaa]);
    let found = if is(0, &super_block::MAGIC) {
        "a calf filesystem"
    } else if is(0x438, &[0x53, 0xef]) {
        if byte(0x460) & 0x40 != 0 {
            "an ext4 filesystem"
        } else if byte(0x45c) & 4 != 0 {
            "an ext3 filesystem"
        } else {
            "an ext2 filesystem"
        }
    } else if is(0, b"XFSB") {
        "an XFS filesystem"
    } else if is(0x10040, b"_BHRfS_M") {
        "a btrfs filesystem"
    } else if is(0x400, &[0x10, 0x20, 0xf5, 0xf2]) {
        "an F2FS filesystem"
    } else if [4096, 8192, 16384, 65536]
        .iter()
        .any(|page| is(page - 10, b"SWAPSPACE2") || is(page - 10, b"SWAP-SPACE"))
    {
        "a swap area"
    } else if is(0, b"LUKS\xba\xbe") {
        "a LUKS container"
    } else if (0..4).any(|sector| is(sector * 512, b"LABELONE")) {
        "an LVM physical volume"
    } else if is(4096, &[0xfc, 0x4e, 0x2b, 0xa9]) || is(0, &[0xfc, 0x4e, 0x2b, 0xa9]) {
        "a Linux RAID member"
    } else if is(0, b"hsqs") {
        "a squashfs filesystem"
    } else if is(0x8001, b"CD001") {
        "an ISO 9660 filesystem"
    } else if is(512, b"EFI PART") || is(4096, b"EFI PART") {
        "a GPT partition table"
    } else if is(3, b"NTFS    ") {
        "an NTFS filesystem"
    } else if is(3, b"EXFAT   ") {
        "an exFAT filesystem"
    } else if boot && (is(54, b"FAT1") || is(54, b"FAT ") || is(82, b"FAT32")) {
        "a VFAT filesystem"
    } else if boot && has_partitions(&head) {
        "an MBR partition table"
    } else if has_calf_copy(storage, size) {
        "a calf filesystem with a damaged superblock"
    } else {
        return Ok(None);
    };
    Ok(Some(found))
}

fn has_partitions(head: &[u8]) -> bool {
    let Some(table) = head.get(446..510) else {
        return false;
    };
    let mut entries = table.chunks_exact(16);
    let sane = entries.clone().all(|e| matches!(e.first(), Some(0 | 0x80)));
    sane && entries.any(|e| e.get(4).is_some_and(|&kind| kind != 0))
}

/// Looks for the copy of the superblock, which lies where group 1 starts.
fn has_calf_copy(storage: &dyn Storage, size: u64) -> bool {
    (10..=12u32).any(|log| {
        let at = 8u64 << (2 * log);
        let mut magic = [0; 8];
        at + 8 <= size && storage.read_at(&mut magic, at).is_ok() && magic == super_block::MAGIC
    })
}

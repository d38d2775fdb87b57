// SPDX-License-Identifier: GPL-2.0

//! Recognises what is on a device, so that nobody overwrites it by mistake.

use std::io;

use calf_core::format::super_block;

use crate::device::Storage;

/// Bytes at the start of the device that are looked at, and that are wiped.
pub const HEAD: u64 = 128 * 1024;

/// What is known by bytes at one place: where, which, what it is. Those of two bytes come last.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"XFSB", "an XFS filesystem"),
    (0x10040, b"_BHRfS_M", "a btrfs filesystem"),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca",
        "a bcachefs filesystem",
    ),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9",
        "a bcachefs filesystem",
    ),
    (0x400, b"\x10\x20\xf5\xf2", "an F2FS filesystem"),
    (0x400, b"\xe2\xe1\xf5\xe0", "an EROFS filesystem"),
    (0, b"LUKS\xba\xbe", "a LUKS container"),
    (0, b"SKUL\xba\xbe", "a LUKS container"),
    (4096, b"\xfc\x4e\x2b\xa9", "a Linux RAID member"),
    (0, b"\xfc\x4e\x2b\xa9", "a Linux RAID member"),
    (0, b"hsqs", "a squashfs filesystem"),
    (0, b"\x45\x3d\xcd\x28", "a cramfs filesystem"),
    (0, b"\x28\xcd\x3d\x45", "a cramfs filesystem"),
    (512, b"\x45\x3d\xcd\x28", "a cramfs filesystem"),
    (0, b"\xce\xfa\xad\x1b", "a BFS filesystem"),
    (0, b"-rom1fs-", "a ROMFS filesystem"),
    (0x8000, b"JFS1", "a JFS filesystem"),
    (0x10034, b"ReIsEr", "a ReiserFS filesystem"),
    (0x10000, b"ReIsEr4", "a Reiser4 filesystem"),
    (0x10000, b"\x01\x16\x19\x70", "a GFS2 filesystem"),
    (0x2000, b"OCFSV2", "an OCFS2 filesystem"),
    (0x400, b"OCFSV2", "an OCFS2 filesystem"),
    (0x1000, b"OCFSV2", "an OCFS2 filesystem"),
    (0x800, b"OCFSV2", "an OCFS2 filesystem"),
    (0x8001, b"CD001", "an ISO 9660 filesystem"),
    (0x8001, b"BEA01", "a UDF filesystem"),
    (0x8001, b"NSR0", "a UDF filesystem"),
    (32, b"NXSB", "an APFS container"),
    (512, b"EFI PART", "a GPT partition table"),
    (4096, b"EFI PART", "a GPT partition table"),
    (3, b"NTFS    ", "an NTFS filesystem"),
    (3, b"EXFAT   ", "an exFAT filesystem"),
    (0x406, b"\x34\x34", "a NILFS2 filesystem"),
    (0x400, b"H+\x00\x04", "an HFS+ filesystem"),
    (0x400, b"HX\x00\x05", "an HFSX filesystem"),
    (0x410, b"\x7f\x13", "a Minix filesystem"),
    (0x410, b"\x8f\x13", "a Minix filesystem"),
    (0x410, b"\x68\x24", "a Minix filesystem"),
    (0x410, b"\x78\x24", "a Minix filesystem"),
    (0x418, b"\x5a\x4d", "a Minix filesystem"),
];

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
    } else if let Some((_, _, name)) = SIGNATURES.iter().find(|(at, magic, _)| is(*at, magic)) {
        name
    } else if [4096, 8192, 16384, 65536]
        .iter()
        .any(|page| is(page - 10, b"SWAPSPACE2") || is(page - 10, b"SWAP-SPACE"))
    {
        "a swap area"
    } else if (0..4).any(|sector| is(sector * 512, b"LABELONE")) {
        "an LVM physical volume"
    } else if boot && (is(54, b"FAT1") || is(54, b"FAT ") || is(82, b"FAT32")) {
        "a VFAT filesystem"
    } else if boot && has_partitions(&head) {
        "an MBR partition table"
    } else if has_calf_copy(storage) {
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
fn has_calf_copy(storage: &dyn Storage) -> bool {
    (10..=12).any(|log| matches!(holds_calf_copy(storage, log), Ok(true)))
}

/// The byte where the copy of the superblock lies with blocks of `1 << log` bytes: group 1 starts after as many blocks
/// as one block has bits.
pub fn copy_place(log: u32) -> u64 {
    8 << (2 * log)
}

/// Is there something that says it is that copy?
pub fn holds_calf_copy(storage: &dyn Storage, log: u32) -> io::Result<bool> {
    let (at, mut magic) = (copy_place(log), [0; 8]);
    if at + 8 > storage.size() {
        return Ok(false);
    }
    storage.read_at(&mut magic, at)?;
    Ok(magic == super_block::MAGIC)
}

// SPDX-License-Identifier: GPL-2.0

//! New filesystems, byte for byte: a change of these numbers is a change of the format.

use calf_core::format::geometry::Layout;
use calf_core::format::super_block::SuperBlock;
use calf_core::seam::crc32c;
use calf_io::device::{Memory, Storage};
use calf_io::make::{make, Options};
use calf_io::probe::probe;

fn image(log: u32, bytes: usize, old: u8) -> Memory {
    let memory = Memory::new(bytes);
    memory.0.borrow_mut().fill(old);
    let layout = Layout::plan(log, (bytes >> log) as u64, [0x5a; 16]).unwrap();
    let mut label = [0; 64];
    label[..6].copy_from_slice(b"golden");
    let options = Options {
        layout,
        label,
        hash_seed: *b"0123456789abcdef",
        gen: 7,
        time: 1_700_000_000_000_000_000,
    };
    make(&memory, &options).unwrap();
    memory
}

#[test]
fn golden_images() {
    let sums: Vec<u32> = [(10, 20 << 20), (11, 40 << 20), (12, 160 << 20)]
        .into_iter()
        .map(|(log, bytes)| crc32c(!0, &image(log, bytes, 0).0.borrow()))
        .collect();
    assert_eq!(sums, GOLDEN, "{sums:#010x?}");
}

const GOLDEN: [u32; 3] = [0x5a12_be8b, 0xc140_1765, 0x19e2_dec7];

#[test]
fn old_content_does_not_shine_through() {
    let clean = image(10, 20 << 20, 0);
    let dirty = image(10, 20 << 20, 0xee);
    let sb = SuperBlock::parse(&clean.0.borrow(), 20 << 20).unwrap();
    let size = sb.geo.block_size();
    let read = |from: &Memory, block: u64| from.read(block * size, size as usize).unwrap();
    for block in 0..sb.geo.blocks() {
        let root = block >= sb.geo.inode_root().get() && block <= sb.geo.orphan_root().get();
        let g = block / sb.geo.group_blocks();
        let (at, off) = sb.geo.desc_location(g);
        let unwritten = block == sb.geo.bitmap_block(g).get()
            && calf_core::format::group::is_uninit(&read(&clean, at.get()), off);
        let fixed = sb.geo.is_fixed(calf_core::format::BlockNr::new(block));
        if root || (fixed && !unwritten) {
            assert_eq!(read(&clean, block), read(&dirty, block), "block {block}");
        }
    }
    let dirty = dirty.0.borrow();
    assert!(dirty[dirty.len() - (128 << 10)..].iter().all(|&b| b == 0));
}

#[test]
fn other_filesystems_are_recognised() {
    let found = |marks: &[(usize, &[u8])]| {
        let memory = Memory::new(1 << 20);
        for (at, bytes) in marks {
            memory.write_at(bytes, *at as u64).unwrap();
        }
        probe(&memory).unwrap().unwrap_or("nothing")
    };
    assert_eq!(found(&[]), "nothing");
    assert_eq!(found(&[(0x438, &[0x53, 0xef])]), "an ext2 filesystem");
    assert_eq!(
        found(&[(0x438, &[0x53, 0xef]), (0x45c, &[4]), (0x460, &[0x40])]),
        "an ext4 filesystem"
    );
    assert_eq!(found(&[(0, b"XFSB")]), "an XFS filesystem");
    assert_eq!(found(&[(0x10040, b"_BHRfS_M")]), "a btrfs filesystem");
    assert_eq!(found(&[(4086, b"SWAPSPACE2")]), "a swap area");
    let boot = (510, &[0x55, 0xaa][..]);
    assert_eq!(found(&[boot, (82, b"FAT32   ")]), "a VFAT filesystem");
    assert_eq!(found(&[boot, (3, b"NTFS    ")]), "an NTFS filesystem");
    assert_eq!(found(&[(512, b"EFI PART"), boot]), "a GPT partition table");
    assert_eq!(found(&[boot, (450, &[0x83])]), "an MBR partition table");
    assert_eq!(found(&[boot]), "nothing");
    let calf = image(10, 20 << 20, 0);
    assert_eq!(probe(&calf).unwrap(), Some("a calf filesystem"));
    calf.write_at(&[0; 1024], 0).unwrap();
    let damaged = Some("a calf filesystem with a damaged superblock");
    assert_eq!(probe(&calf).unwrap(), damaged);
    assert_eq!(probe(&Memory::new(0)).unwrap(), None);
}

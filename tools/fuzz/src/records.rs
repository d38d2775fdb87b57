// SPDX-License-Identifier: GPL-2.0

//! Target `records`: the checks of all structures of a fixed size, and of single values, on any bytes.
//! Nothing panics, and what passes keeps what the callers rely on.

use calf_core::algo::dir::Record;
use calf_core::algo::symlink;
use calf_core::format::geometry::{Geometry, Layout};
use calf_core::format::group::{self, GroupDesc};
use calf_core::format::inode::InodeRecord;
use calf_core::format::journal::JournalSuperBlock;
use calf_core::format::node::{self, InlineRoot, NodeId};
use calf_core::format::super_block::{RawSuperBlock, SuperBlock};
use calf_core::format::value::{verify_order, verify_value};
use calf_core::format::{xattr, BlockNr, Ino, Kind};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::images;
use crate::input::Input;
use crate::Target;

pub const TARGET: Target = Target {
    name: "records",
    run,
    seeds,
    max_len: 5000,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 8 {
        0 => super_block(&mut input),
        1 => layout(&mut input),
        2 => descriptor(&mut input),
        3 => journal(&mut input),
        4 => inode(&mut input),
        5 => values(&mut input),
        6 => block(&mut input),
        _ => inline(&mut input),
    }
}

fn filled<const N: usize>(input: &mut Input<'_>) -> [u8; N] {
    let mut bytes = [0; N];
    let from = input.bytes(N);
    bytes[..from.len()].copy_from_slice(from);
    bytes
}

fn super_block(input: &mut Input<'_>) {
    let device = input.any();
    let mut bytes: [u8; 1024] = filled(input);
    if let Some(raw) = RawSuperBlock::of_mut(&mut bytes) {
        raw.seal();
    }
    if let Ok(sb) = SuperBlock::parse(&bytes, device) {
        assert!(sb.geo.blocks() * sb.geo.block_size() <= device);
        assert!(sb.label().len() <= 64);
        geometry(&sb.geo, input);
    }
}

fn layout(input: &mut Input<'_>) {
    let (log, blocks) = (9 + u32::from(input.u8() % 5), input.any());
    if let Ok(layout) = Layout::plan(log, blocks, [9; 16]) {
        let geo = Geometry::check(&layout).expect("what is planned holds");
        geometry(&geo, input);
    }
}

/// A geometry that passed answers all questions, and its parts do not overlap.
fn geometry(geo: &Geometry, input: &mut Input<'_>) {
    assert!((10..=12).contains(&geo.block_shift()));
    assert!(geo.fixed_blocks() < geo.blocks());
    assert!(geo.refcount_reserve() <= geo.blocks());
    let _ = geo.pool_blocks();
    for root in [geo.inode_root(), geo.refcount_root(), geo.orphan_root()] {
        assert_eq!(geo.check_block(root), Ok(()));
    }
    for g in [0, 1, 2, geo.ngroups() - 1, input.any() % geo.ngroups()] {
        if g >= geo.ngroups() {
            continue;
        }
        let (start, len) = geo.group_range(g);
        assert!(geo.head(g) < len && len <= geo.group_blocks());
        assert!(start.get() + len <= geo.blocks());
        assert_eq!(geo.group_of(start), g);
        let bitmap = geo.bitmap_block(g);
        assert!(geo.group_of(bitmap) == g && geo.is_fixed(bitmap));
        let (desc, off) = geo.desc_location(g);
        assert!(geo.is_fixed(desc) && off + 32 <= geo.block_size() as usize);
    }
    while !input.is_empty() {
        let (block, len) = (input.any(), input.any());
        let at = BlockNr::new(block);
        let fixed = geo.is_fixed(at);
        if block < geo.blocks() {
            assert_eq!(geo.check_block(at).is_ok(), !fixed);
            let (run, is) = geo.fixed_run(at);
            assert_eq!(is, fixed);
            assert!(run > 0);
            let last = BlockNr::new(block + (run - 1).min(geo.blocks() - 1 - block));
            assert_eq!(geo.is_fixed(last), fixed);
        } else {
            assert!(geo.check_block(at).is_err());
        }
        if geo.check_range(at, len).is_ok() {
            assert!(len > 0 && block + len <= geo.blocks());
            assert_eq!(
                geo.group_of(at),
                geo.group_of(BlockNr::new(block + len - 1))
            );
            assert!(!fixed && geo.check_block(BlockNr::new(block + len - 1)).is_ok());
        }
        if let Ok(grown) = geo.grown(len) {
            assert!((geo.blocks()..=len).contains(&grown.blocks()));
            assert_eq!(grown.journal_start(), geo.journal_start());
        }
    }
}

fn descriptor(input: &mut Input<'_>) {
    let base = images::base(input.u8() & 1 != 0);
    let geo = &base.geo;
    let size = geo.block_size() as usize;
    let g = u64::from(input.u8()) % geo.ngroups();
    let off = usize::from(input.u16()) % (size + 32);
    let mut raw = GroupDesc::new_zeroed();
    let from = input.bytes(32);
    raw.as_mut_bytes()[..from.len()].copy_from_slice(from);
    let mut bitmap = vec![0; size];
    group::init_bitmap(&mut bitmap, geo, g);
    for _ in 0..input.u8() % 16 {
        let at = input.below(size);
        bitmap[at] ^= input.u8();
    }
    if input.u8() & 1 != 0 {
        raw.bitmap_crc = group::bitmap_checksum(&bitmap, geo).into();
    }
    if input.u8() & 1 != 0 {
        raw.free = bitmap.iter().map(|b| b.count_zeros()).sum::<u32>().into();
    }
    raw.crc = raw.checksum(geo, g).into();
    let mut block = vec![0; size];
    if let Some(to) = block.get_mut(off..off + 32) {
        to.copy_from_slice(raw.as_bytes());
    }
    if let Ok(desc) = group::read_desc(&block, off, geo, g) {
        let (_, len) = geo.group_range(g);
        assert!(u64::from(desc.free.get()) <= len);
        assert_eq!(desc.is_uninit(), group::is_uninit(&block, off));
        if !desc.is_uninit() && group::verify_bitmap(&block, off, &bitmap, geo, g).is_ok() {
            let clear: u32 = bitmap.iter().map(|b| b.count_zeros()).sum();
            assert_eq!(clear, desc.free.get());
        }
    }
    let (len, set) = (input.any() as u32, input.u8() & 1 != 0);
    group::update_desc(&mut block, off, geo, g, len, set, 0);
    group::init_group(&mut bitmap, &mut block, off, geo, g);
    if off + 32 <= size {
        assert!(group::read_desc(&block, off, geo, g).is_ok());
        assert!(group::verify_bitmap(&block, off, &bitmap, geo, g).is_ok());
    }
}

fn journal(input: &mut Input<'_>) {
    let (size, blocks) = (1024 << (input.u8() % 3), input.any());
    let mut bytes: [u8; 1024] = filled(input);
    if let Ok(sb) = JournalSuperBlock::mut_from_bytes(&mut bytes) {
        sb.seal();
        if sb.verify(size, blocks).is_ok() {
            assert!(u64::from(sb.start.get()) < blocks);
            assert_eq!(u64::from(sb.maxlen.get()), blocks);
        }
    }
}

fn inode(input: &mut Input<'_>) {
    let ino = Ino::new(input.any());
    let mut bytes: [u8; 256] = filled(input);
    if input.u8() & 1 != 0 {
        bytes[..8].copy_from_slice(&ino.get().to_le_bytes());
    }
    let Ok(rec) = InodeRecord::parse(ino, &bytes) else {
        return;
    };
    assert_eq!(rec.ino.get(), ino.get());
    let mode = rec.mode.get();
    assert!(InodeRecord::ftype(mode) > 0);
    if let Some(kind) = InodeRecord::tree_kind(mode) {
        assert_eq!(node::verify_inline(&rec.root, kind), Ok(()));
    }
    if let xattr::Form::Short = xattr::form(&rec.attr) {
        let names: Vec<_> = xattr::short(&rec.attr).map(|(name, _)| name).collect();
        assert!(!names.is_empty());
        let all = names.iter().zip(names.iter().skip(1));
        assert!(all.clone().all(|(a, b)| a != b));
    }
}

fn values(input: &mut Input<'_>) {
    let kind = kind(input);
    let (key, next) = (input.any(), input.any());
    let value = input.rest();
    if verify_value(kind, key, value).is_err() {
        return;
    }
    let after = key < next && verify_order(kind, key, value, next).is_ok();
    match kind {
        Kind::Dir => {
            let record = Record::parse(key, value).expect("it was checked");
            assert!(record.ino.get() != 0 && record.name.len() <= 255);
        }
        Kind::Xattr => {
            let piece = xattr::piece_of(key);
            assert!(!after || piece == 0 || value.len() <= 272);
            if piece == 0 {
                let first = xattr::First::parse(value).expect("it was checked");
                assert!(first.pieces() > 0 && first.pieces() < 256);
                assert!(first.value.len() <= first.value_len);
            }
        }
        Kind::Symlink => assert!(symlink::CHUNK >= value.len()),
        _ => {}
    }
}

fn kind(input: &mut Input<'_>) -> Kind {
    Kind::from_u8(1 + input.u8() % 7).expect("seven kinds")
}

fn block(input: &mut Input<'_>) {
    let uuid = [9; 16];
    let size = 1024usize << (input.u8() % 3);
    let id = NodeId {
        block: BlockNr::new(input.any()),
        owner: Ino::new(input.any()),
        kind: kind(input),
        level: [0, 1, 2, node::LEVEL_ANY][usize::from(input.u8() % 4)],
    };
    let mut bytes = vec![0; size];
    node::init(&mut bytes, &id, &uuid);
    let core: [u8; 6] = filled(input);
    let level = if id.level == node::LEVEL_ANY {
        core[0]
    } else {
        id.level
    };
    if let Some(header) = node::header_mut(&mut bytes) {
        header.core.level = level;
        header.core.nr = u16::from_le_bytes([core[1], core[2] % 4]).into();
        header.core.heap = u16::from_le_bytes([core[3], core[4] % 32]).into();
    }
    // Slots from the front, values from the back.
    let slots = input.bytes(usize::from(core[1]) * 12);
    let end = (64 + slots.len()).min(size);
    bytes[64..end].copy_from_slice(&slots[..end - 64]);
    let values = input.rest();
    let start = size.saturating_sub(values.len()).max(end);
    bytes[start..].copy_from_slice(&values[..size - start]);
    node::seal(&mut bytes, &uuid);
    let structure = node::verify_structure(&bytes, &id, &uuid);
    let whole = node::verify(&bytes, &id, &uuid);
    assert!(whole.is_err() || structure.is_ok());
}

fn inline(input: &mut Input<'_>) {
    let kind = kind(input);
    let mut root = InlineRoot(filled(input));
    root.0[1] = kind.as_u8();
    let _ = node::verify_inline(&root, kind);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for large in [false, true] {
        let base = images::base(large);
        let (geo, size) = (&base.geo, base.geo.block_size() as usize);
        let block = |b: u64| &base.bytes[b as usize * size..][..size];
        all.push([&[0, 255][..], &u64::MAX.to_le_bytes(), &block(0)[..1024]].concat());
        all.push([&[1, 1 + u8::from(large), 150, 0, 1, 2, 130, 5, 140, 0][..]].concat());
        let desc = &block(geo.desc_start().get())[..32];
        all.push(
            [
                &[2, u8::from(large), 0, 0, 0][..],
                desc,
                &[1, 9, 0, 1, 1, 1],
            ]
            .concat(),
        );
        let journal = &block(geo.journal_start().get())[..1024];
        let blocks = geo.journal_blocks().to_le_bytes();
        all.push([&[3, 2 * u8::from(large), 255][..], &blocks, journal].concat());
        all.push([&[4, 1][..], &[0; 256], &[1]].concat());
        // Every node of the image: its values one by one, and its slots and values as a block.
        for at in (0..geo.blocks()).filter(|&at| block(at).starts_with(b"CALN")) {
            let bytes = block(at);
            let header = node::header(bytes).expect("a node");
            let nr = usize::from(header.core.nr.get());
            let heap = usize::from(header.core.heap.get());
            let kind = header.core.kind - 1;
            let head = [6, 2 * u8::from(large), 7, 5, kind, 3, header.core.level];
            let core = [nr as u8, (nr >> 8) as u8, heap as u8, (heap >> 8) as u8, 0];
            let slots = &bytes[64..64 + 12 * nr];
            all.push([&head[..], &core, slots, &bytes[heap..]].concat());
            if header.core.level > 0 {
                continue;
            }
            for slot in slots.chunks_exact(12).step_by(nr.div_ceil(3)) {
                let (key, place) = slot.split_at(8);
                let from = usize::from(u16::from_le_bytes([place[0], place[1]]));
                let len = usize::from(u16::from_le_bytes([place[2], place[3]]));
                let value = &bytes[from..from + len];
                all.push([&[5, kind, 255][..], key, &[192], value].concat());
                if header.core.kind == Kind::Inodes.as_u8() {
                    all.push([&[4, 255][..], key, value, &[1]].concat());
                    let kind = InodeRecord::tree_kind(u16::from_le_bytes([value[92], value[93]]));
                    let kind = kind.map_or(0, |kind| kind.as_u8() - 1);
                    all.push([&[7, kind][..], &value[96..208]].concat());
                }
            }
        }
    }
    all
}

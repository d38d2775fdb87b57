// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Compares the tables of `docs/format.md` with the structures.

use calf_core::format::extent::RawExtent;
use calf_core::format::group::GroupDesc;
use calf_core::format::inode::InodeRecord;
use calf_core::format::journal::JournalSuperBlock;
use calf_core::format::node::{NodeCore, NodeHeader, Slot};
use calf_core::format::orphan::RawOrphan;
use calf_core::format::refcount::RawRefcount;
use calf_core::format::super_block::RawSuperBlock;

const TEXT: &str = include_str!("../../../docs/format.md");

/// Offset, size and name of every field in the table of this structure.
fn rows(table: &str, size: usize) -> Vec<(usize, usize, &'static str)> {
    let start = format!("<!-- table: {table} {size} -->");
    let text = TEXT.split_once(&start).expect("table is there").1;
    let lines = text
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = lines
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let number = |cell: &str| cell.parse().expect("a number");
            (
                number(cells[1]),
                number(cells[2]),
                cells[3].trim_matches('`'),
            )
        })
        .collect();
    let mut end = 0;
    for (offset, size, name) in &rows {
        assert_eq!(*offset, end, "{table}.{name} leaves no gap");
        end += size;
    }
    assert_eq!(end, size, "{table} is whole");
    rows
}

macro_rules! check {
    ($type:ident { $($field:ident),* $(,)? }) => {{
        // Fails to compile when a field is missing here.
        let _ = |value: $type| { let $type { $($field: _),* } = value; };
        let fields = [$((core::mem::offset_of!($type, $field), stringify!($field))),*];
        let table = rows(stringify!($type), size_of::<$type>());
        let table: Vec<_> = table.iter().map(|(offset, _, name)| (*offset, *name)).collect();
        assert_eq!(table, fields, stringify!($type));
    }};
}

#[test]
fn the_tables_are_right() {
    check!(RawSuperBlock {
        magic,
        crc,
        version,
        feature_compat,
        feature_ro_compat,
        feature_incompat,
        uuid,
        label,
        hash_seed,
        block_size_log,
        state,
        blocks,
        desc_start,
        desc_blocks,
        ngroups,
        journal_start,
        journal_blocks,
        inode_root,
        refcount_root,
        orphan_root,
        root_ino,
        inode_count,
        mkfs_time,
        last_mount,
        error_code,
        reserved,
        error_block,
        error_time,
        backup_block,
        rest,
    });
    check!(GroupDesc {
        bitmap,
        free,
        bitmap_crc,
        flags,
        reserved,
        crc
    });
    check!(NodeHeader {
        magic,
        crc,
        block,
        owner,
        uuid,
        core,
        tree_blocks,
        reserved
    });
    check!(NodeCore {
        level,
        kind,
        nr,
        heap,
        dead
    });
    check!(Slot { key, off, len });
    check!(InodeRecord {
        ino,
        size,
        nblocks,
        atime,
        mtime,
        ctime,
        btime,
        iversion,
        gen,
        flags,
        uid,
        gid,
        nlink,
        projid,
        rdev,
        mode,
        reserved,
        root,
        attr,
    });
    check!(RawExtent { phys, len, flags });
    check!(RawRefcount { len, count });
    check!(RawOrphan {
        kind,
        reserved,
        size
    });
    check!(JournalSuperBlock {
        header,
        blocksize,
        maxlen,
        first,
        sequence,
        start,
        errno,
        feature_compat,
        feature_incompat,
        feature_ro_compat,
        uuid,
        nr_users,
        dynsuper,
        max_transaction,
        max_trans_data,
        checksum_type,
        padding2,
        num_fc_blks,
        head,
        padding,
        checksum,
        users,
    });
}

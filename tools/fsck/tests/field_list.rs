// SPDX-License-Identifier: GPL-2.0

//! The list of fields that can be damaged has every byte of every structure.

mod common;

use calf_io::fields::{fields, Field};
use calf_io::log_fields::Sample;
use common::structures::image;

/// The structures of `rust/format`: bytes, and as what they are in the list. What begins the name counts with all that
/// lies in it.
const STRUCTURES: &[(&str, usize, &[&str])] = &[
    ("RawSuperBlock", 1024, &["super.", "backup."]),
    ("GroupDesc", 32, &["group.", "group(uninit)."]),
    (
        "NodeHeader",
        64,
        &[
            "leaf(Inodes).",
            "node(Inodes).",
            "leaf(Extents).",
            "leaf(Dir).",
            "leaf(Xattr).",
            "leaf(Refcount).",
            "leaf(Orphans).",
            "leaf(Symlink).",
        ],
    ),
    (
        "NodeCore",
        8,
        &["inode(file).root.", "inode(directory,tree).root."],
    ),
    (
        "Slot",
        12,
        &[
            "leaf(Inodes).first.",
            "leaf(Dir).middle.",
            "leaf(Dir).last.",
        ],
    ),
    (
        "InodeRecord",
        256,
        &[
            "inode(special).",
            "inode(file).",
            "inode(file,tree).",
            "inode(file,tree,shared).",
            "inode(directory,tree).",
            "inode(symlink,tree).",
            "inode(file,short attributes).",
            "inode(file,attributes).",
            "inode(file,unlinked).",
            "inode(file,tree,attributes,unlinked).",
            "inode(file,tree,half cut).",
        ],
    ),
    ("RawExtent", 16, &["leaf(Extents).first."]),
    ("RawRefcount", 8, &["leaf(Refcount).first."]),
    (
        "RawOrphan",
        16,
        &["orphan(unlinked).", "orphan(truncation)."],
    ),
    ("JournalSuperBlock", 1024, &["journal.", "log(super)."]),
    ("Header", 12, &["log(descriptor).", "log(revoke)."]),
    ("RevokeHeader", 16, &["log(revoke)."]),
    ("Tag", 16, &["log(descriptor).tag."]),
    ("Commit", 60, &["log(commit).", "log(last commit)."]),
];

/// Does it lie in the inline root of an inode, which has room between slots and values?
fn in_root(record: u64, at: u64) -> bool {
    (record + 96..record + 208).contains(&at)
}

/// The bytes of the structure `name` that no field covers, counted from its start.
fn missing(all: &[Field], structure: &str, name: &str, size: usize) -> Vec<u64> {
    let of: Vec<_> = all.iter().filter(|f| f.name.starts_with(name)).collect();
    let of_record = |f: &&&Field| {
        structure != "RawExtent" && structure != "RawRefcount" || !f.name.ends_with(".key")
    };
    // A value lies elsewhere than its slot.
    let value = matches!(structure, "RawExtent" | "RawRefcount");
    let slot = |f: &&&Field| {
        ["key", "off", "len"]
            .iter()
            .any(|s| f.name[name.len()..] == **s)
    };
    let start = match value {
        true => of
            .iter()
            .find(|f| f.name.ends_with(".phys") || f.name.ends_with(".count")),
        false if structure == "Slot" => of.iter().find(slot),
        false => of.iter().filter(of_record).min_by_key(|f| f.at),
    };
    let Some(start) = start.map(|f| match f.name.ends_with(".count") && value {
        true => f.at - 4,
        false => f.at,
    }) else {
        return vec![0];
    };
    let special = name.contains("special");
    (0..size as u64)
        .filter(|byte| {
            let at = start + byte;
            let covered = of.iter().any(|f| (f.at..f.at + f.len as u64).contains(&at));
            let room = structure == "InodeRecord" && !special && in_root(start, at);
            !covered && !room
        })
        .collect()
}

#[test]
fn every_byte_of_every_structure_is_listed() {
    for (log, blocks) in [(10, 17_000), (12, 33_000)] {
        let (memory, geo) = image(log, blocks);
        let mut all = fields(&memory, &geo).unwrap();
        all.extend(Sample::plan(&memory, &geo).unwrap().fields);
        let mut wrong = Vec::new();
        for (structure, size, names) in STRUCTURES {
            for name in *names {
                // A group that was never written is in the image with small blocks.
                if log == 12 && !all.iter().any(|f| f.name.starts_with(name)) {
                    continue;
                }
                let missing = missing(&all, structure, name, *size);
                if !missing.is_empty() {
                    wrong.push(format!("{structure} {name}: bytes {missing:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "block size {}: {wrong:#?}", 1 << log);
    }
}

/// A structure that is new is to be listed above.
#[test]
fn every_structure_is_known() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rust/format");
    let mut found = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for part in text.split("#[repr(C)]\n").skip(1) {
            let name = part.split("pub struct ").nth(1).unwrap();
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            assert!(
                STRUCTURES.iter().any(|(known, ..)| *known == name),
                "{name} is not in the list of this test"
            );
            found += 1;
        }
    }
    assert!(found >= STRUCTURES.len(), "only {found} structures");
}

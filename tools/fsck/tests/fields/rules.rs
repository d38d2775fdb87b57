// SPDX-License-Identifier: GPL-2.0

//! What nobody can know to be wrong.

use calf_core::format::inode::{FLAG_MAY_SHARE, S_IFMT};
use calf_io::fields::Field;

/// What a mutation made of a field: its first eight bytes as a number.
pub struct Change {
    pub old: u64,
    pub new: u64,
    /// Bytes of a block.
    pub block: u64,
}

/// Fields of which each value (or each that a mutation makes) is a good one, so that nobody can know that it is not the
/// right one.
pub fn any_value(field: &Field, change: &Change) -> bool {
    // A field between two of the same name has its place behind it.
    let name = field.name.split('@').next().unwrap_or_default();
    let name_of_third = field.name.ends_with(".of_block@60");
    let (structure, field) = name.rsplit_once('.').unwrap();
    match structure {
        "super" => matches!(
            field,
            "feature_compat"
                | "label"
                | "last_mount"
                | "mkfs_time"
                | "error_code"
                | "error_block"
                | "error_time"
                | "state"
        ),
        // It tells where things are, and is no record of what has happened since.
        "backup" => matches!(
            field,
            "label"
                | "last_mount"
                | "error_code"
                | "error_block"
                | "error_time"
                | "state"
                | "inode_count"
        ),
        // A log ends where a block is not what was expected: a crash leaves that, too. The number of a block may be
        // that of one which is free.
        "log(descriptor)" | "log(descriptor of one)" => {
            matches!(field, "magic" | "blocktype" | "sequence")
        }
        "log(descriptor).tag" | "log(descriptor of one).tag" => {
            // Nobody reads the third one, which is revoked.
            matches!(field, "blocknr" | "flags" | "uuid") || name_of_third
        }
        "log(revoke)" => field != "checksum",
        "log(commit)" | "log(last commit)" => field != "checksum",
        // What jbd2 does not read, and where to begin in a log that holds nothing, or could end at once.
        "log(super)" if field == "uuid" => false,
        "journal" | "log(super)" => matches!(
            field,
            "first_sequence"
                | "start"
                | "sequence"
                | "errno"
                | "uuid"
                | "nr_users"
                | "dynsuper"
                | "max_transaction"
                | "max_trans_data"
                | "unnamed"
                | "num_fc_blks"
                | "head"
                | "padding"
                | "users"
        ),
        // Where it belongs within a collision of hashes, and the lower bound of what is below.
        s if s.contains("(Dir)")
            || s.starts_with("node(Xattr)")
            || s.starts_with("inode(directory") && s.contains(".root.") =>
        {
            field == "key"
        }
        // A block further on is as good a place, and what was not written could have been.
        s if s.contains("(Extents") || s.starts_with("inode(file") && s.contains(".root.") => {
            matches!(field, "key" | "flags")
        }
        // The size of the file itself says where it is cut.
        "orphan(truncation)" => field == "size",
        // The name has its hash in the key, and the lengths must come out.
        // Half of them may be gone already.
        s if s.contains("(Xattr,unlinked)") => true,
        s if s.contains("(Xattr)") => matches!(field, "bytes" | "value"),
        s if s.contains("(Symlink)") || s.contains("(symlink") && s.contains(".root.") => {
            field == "bytes"
        }
        s if s.starts_with("inode(") => of_inode(s, field, change),
        _ => false,
    }
}

/// The same for the record of an inode.
fn of_inode(structure: &str, field: &str, change: &Change) -> bool {
    let Change { old, new, block } = *change;
    let is = |what: &str| structure.contains(what);
    match field {
        // Whatever somebody set.
        "atime" | "mtime" | "ctime" | "btime" | "iversion" | "gen" | "uid" | "gid" | "projid"
        | "rdev" => true,
        // What goes anyway, or what is past the size goes.
        "size" if is("unlinked") || is("half cut") => is("(file"),
        // A file may end in a hole of any length, as those of this image do: in one of a block.
        "size" => is("(file") && new.saturating_add(block) > old,
        // Whatever somebody set, but that blocks may be shared, if they are.
        "flags" => !(is("shared") && old & !new & u64::from(FLAG_MAY_SHARE) != 0),
        // The names tell the type.
        "mode" => is("unlinked") || (old ^ new) & u64::from(S_IFMT) == 0,
        // Another namespace has the same names.
        "attr_index" => (1..=3).contains(&new),
        // The bytes behind the value are zeros, as those of a value may be; and the name may end in what is a value.
        "attr_name_len" | "attr_value_len" => new > old,
        "attr_name" | "attr_value" => true,
        _ => false,
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the names tell of the type of an inode whose record alone does not: a special file and an
//! empty file have the same tree.

use std::collections::{BTreeMap, BTreeSet};

use calf_core::format::inode::{
    InodeRecord, FLAGS_REG, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK,
};
use calf_core::format::node::InlineRoot;
use calf_core::format::Kind;

use super::model::{Content, Model, Node};
use crate::report::Report;

/// The types that an inode with nothing in its tree can have.
const BARE: [u16; 5] = [S_IFREG, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK];

/// Can an inode with nothing in its tree be of this type?
pub fn may_be_bare(ftype: u8) -> bool {
    BARE.into_iter().any(|t| InodeRecord::ftype(t) == ftype)
}

/// Sets types right where the name and something else speak against the mode, and drops the sizes
/// that special files cannot have.
pub fn settle(model: &mut Model, report: &mut Report) {
    let untyped = std::mem::take(&mut model.untyped);
    let in_doubt = |ino: &u64, node: &Node| {
        let sized = is_special(node) && node.rec.size.get() != 0;
        node.is_bare() && (sized || untyped.contains(ino))
    };
    let nodes = model.inodes.iter();
    let doubtful: BTreeSet<u64> = nodes
        .filter(|(ino, node)| in_doubt(ino, node))
        .map(|(&ino, _)| ino)
        .collect();
    if doubtful.is_empty() {
        return;
    }
    let mut said: BTreeMap<u64, BTreeSet<u8>> = BTreeMap::new();
    for (_, e) in model.names().filter(|(_, e)| doubtful.contains(&e.ino)) {
        said.entry(e.ino).or_default().insert(e.ftype);
    }
    for &ino in &doubtful {
        let Some(node) = model.inodes.get_mut(&ino) else {
            continue;
        };
        let said = said.remove(&ino).unwrap_or_default();
        let mut types = BARE
            .into_iter()
            .filter(|&t| said == [InodeRecord::ftype(t)].into());
        if let Some(right) = types.next() {
            by_name(node, ino, right, report);
        }
        if is_special(node) && node.rec.size.get() != 0 {
            let what = format_args!("inode {ino}: special file with a size; dropped");
            match said.contains(&node.ftype()) || said.is_empty() && node.rec.nlink.get() == 0 {
                true => report.done(what),
                false => report.guessed(what),
            }
            node.rec.size = 0.into();
            node.changed = true;
        }
    }
}

fn is_special(node: &Node) -> bool {
    InodeRecord::tree_kind(node.rec.mode.get()).is_none()
}

/// Gives an inode the type that all its names agree on, if its size does not speak against that.
fn by_name(node: &mut Node, ino: u64, right: u16, report: &mut Report) {
    // Without a size, what is special stays so.
    let fits = (right == S_IFREG) == (node.rec.size.get() != 0);
    if node.kind() == right || !fits {
        return;
    }
    report.done(format_args!(
        "inode {ino}: type set to that its names say, {}",
        InodeRecord::ftype(right)
    ));
    node.rec.mode = (node.rec.mode.get() & !S_IFMT | right).into();
    node.changed = true;
    node.content = match right {
        S_IFREG => Content::File(Vec::new()),
        _ => {
            node.rec.flags = (node.rec.flags.get() & !FLAGS_REG).into();
            node.rec.root = InlineRoot::empty(Kind::Extents);
            node.rewrite = false;
            Content::None
        }
    };
}

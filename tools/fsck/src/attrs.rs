// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use calf_core::algo::xattr::base_key;
use calf_core::format::inode::InodeRecord;
use calf_core::format::xattr::{form, piece_of, First, Form, Name, HEAD, PIECE, SEQ_BITS};
use calf_core::format::{Ino, Kind};

use crate::inodes::bad;
use crate::trees::{Context, Walk};

/// The attribute whose pieces are being read.
struct Current {
    key: u64,
    text: String,
    pieces: u64,
    bytes: usize,
    /// All pieces but the last are full.
    whole: bool,
    /// What there should be.
    total: usize,
}

/// A name as messages show it.
pub fn text(name: Name<'_>) -> String {
    format!("{}:\"{}\"", name.index, name.name.escape_ascii())
}

/// Checks the attributes of an inode whose record holds. Returns the blocks of their tree, or
/// [`None`] if not all of it could be read. `gone`: the inode is unlinked, its attributes may be
/// half removed.
pub fn check(
    cx: &mut Context<'_, '_>,
    ino: u64,
    rec: &InodeRecord,
    hash_seed: &[u8; 16],
    gone: bool,
) -> Option<u64> {
    let Form::Tree(root) = form(&rec.attr) else {
        return Some(0);
    };
    let mut walk = Walk::fixed(Kind::Xattr, Ino::new(ino), root);
    let mut current: Option<Current> = None;
    let mut same_hash: Vec<(u64, String)> = Vec::new();
    // The last piece that belongs to nothing.
    let mut stray = None;
    let mut empty = true;
    while let Some((_, records)) = walk.next(cx) {
        for (key, value) in &records {
            empty = false;
            if piece_of(*key) != 0 {
                match &mut current {
                    Some(c) if *key == c.key + c.pieces => {
                        c.pieces += 1;
                        c.whole &= c.bytes % PIECE == 0;
                        c.bytes = c.bytes.saturating_add(value.len());
                    }
                    _ if gone || stray == key.checked_sub(1) => stray = Some(*key),
                    _ => {
                        stray = Some(*key);
                        bad(cx, ino, format_args!("attribute: stray piece {key:#x}"));
                    }
                }
                continue;
            }
            finish(cx, ino, current.take(), gone);
            let Ok(first) = First::parse(value) else {
                continue;
            };
            let (hash, text) = (*key >> SEQ_BITS, text(first.name));
            if hash != base_key(hash_seed, first.name) >> SEQ_BITS {
                bad(
                    cx,
                    ino,
                    format_args!("attribute {text} lies under the key {key:#x} of another name"),
                );
            }
            same_hash.retain(|(other, _)| *other == hash);
            if same_hash.iter().any(|(_, other)| *other == text) {
                bad(cx, ino, format_args!("attribute {text} is there twice"));
            }
            same_hash.push((hash, text.clone()));
            current = Some(Current {
                key: *key,
                text,
                pieces: 1,
                bytes: value.len(),
                whole: true,
                total: HEAD + first.name.name.len() + first.value_len,
            });
        }
    }
    if walk.whole {
        finish(cx, ino, current, gone);
        if empty {
            bad(cx, ino, format_args!("tree of attributes without any"));
        }
    }
    walk.whole.then_some(walk.nodes)
}

fn finish(cx: &mut Context<'_, '_>, ino: u64, current: Option<Current>, gone: bool) {
    if let Some(c) = current.filter(|c| !gone && (!c.whole || c.bytes != c.total)) {
        let (text, bytes, total) = (c.text, c.bytes, c.total);
        bad(
            cx,
            ino,
            format_args!("attribute {text} has {bytes} bytes in place of {total}"),
        );
    }
}

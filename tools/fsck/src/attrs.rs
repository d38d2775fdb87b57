// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use std::collections::HashSet;

use calf_core::algo::xattr::base_key;
use calf_core::format::inode::InodeRecord;
use calf_core::format::xattr::{form, piece_of, short, First, Form, Name, HEAD, PIECE, SEQ_BITS};
use calf_core::format::{Ino, Kind};

use crate::acl;
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
    /// Its namespace.
    index: u8,
    /// What of the value has been read; of an ACL only.
    value: Vec<u8>,
}

impl Current {
    fn keep(&mut self, value: &[u8]) {
        if acl::is_one(self.index) {
            self.value.extend_from_slice(value);
        }
    }
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
    let root = match form(&rec.attr) {
        Form::Tree(root) => root,
        Form::None => return Some(0),
        Form::Short => {
            for (name, value) in short(&rec.attr) {
                check_acl(cx, ino, name.index, value);
            }
            return Some(0);
        }
    };
    let mut walk = Walk::fixed(Kind::Xattr, Ino::new(ino), root);
    let mut current: Option<Current> = None;
    let (mut last_hash, mut same_hash) = (0, HashSet::new());
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
                        c.keep(value);
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
            if hash != last_hash {
                last_hash = hash;
                same_hash.clear();
            }
            if !same_hash.insert(text.clone()) {
                bad(cx, ino, format_args!("attribute {text} is there twice"));
            }
            let mut now = Current {
                key: *key,
                text,
                pieces: 1,
                bytes: value.len(),
                whole: true,
                total: HEAD + first.name.name.len() + first.value_len,
                index: first.name.index,
                value: Vec::new(),
            };
            now.keep(first.value);
            current = Some(now);
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
    let Some(c) = current.filter(|_| !gone) else {
        return;
    };
    if c.whole && c.bytes == c.total {
        if acl::is_one(c.index) {
            check_acl(cx, ino, c.index, &c.value);
        }
    } else {
        let (text, bytes, total) = (c.text, c.bytes, c.total);
        bad(
            cx,
            ino,
            format_args!("attribute {text} has {bytes} bytes in place of {total}"),
        );
    }
}

fn check_acl(cx: &mut Context<'_, '_>, ino: u64, index: u8, value: &[u8]) {
    if let Err(why) = acl::check(index, value) {
        bad(cx, ino, format_args!("attributes: {why}"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Extended attributes, as far as they can be kept.

use std::collections::BTreeMap;

use calf_core::algo::xattr::{base_key, Attrs, Name};
use calf_core::format::xattr::{form, piece_of, short, First, Form, AREA, SEQ_BITS};
use calf_core::format::{Ino, Kind};
use calf_io::editor::Error;

use super::build::Fresh;
use super::gather::Gather;
use super::model::Node;
use super::salvage::Root;
use crate::acl;
use crate::trees::Records;

/// The attributes of an inode that lie in a tree.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Namespaces, names and values.
    list: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    /// The nodes of the tree as it is on the device.
    pub nodes: Vec<u64>,
    /// The tree must be written anew.
    pub rewrite: bool,
}

impl Attributes {
    /// Takes the attributes that are whole. Returns how many are not.
    fn collect(&mut self, records: &Records, hash_seed: &[u8; 16]) -> u64 {
        let mut lost = 0u64;
        let mut rest = records.as_slice();
        while let Some(((key, value), after)) = rest.split_first() {
            rest = after;
            let first = First::parse(value).ok().filter(|_| piece_of(*key) == 0);
            let Some(first) = first else {
                self.rewrite = true;
                continue;
            };
            let mut bytes = first.value.to_vec();
            let mut next = key.saturating_add(1);
            while let Some(((_, piece), after)) = rest.split_first().filter(|(r, _)| r.0 == next) {
                rest = after;
                bytes.extend_from_slice(piece);
                next = next.saturating_add(1);
            }
            let name = (first.name.index, first.name.name.to_vec());
            let right = base_key(hash_seed, first.name) >> SEQ_BITS == *key >> SEQ_BITS;
            self.rewrite |= !right;
            let whole = bytes.len() == first.value_len && acl::check(name.0, &bytes).is_ok();
            if !whole || self.list.insert(name, bytes).is_some() {
                lost = lost.saturating_add(1);
            }
        }
        self.rewrite |= lost > 0 || self.list.is_empty();
        lost
    }

    /// Writes the tree if it needs it, and sets the record. Returns its blocks.
    pub fn write(
        node: &mut Node,
        ino: u64,
        fresh: &mut Fresh<'_>,
        hash_seed: &[u8; 16],
    ) -> Result<u64, Error> {
        if !node.attrs.rewrite {
            return Ok(node.attrs.nodes.len() as u64);
        }
        let mut attrs = Attrs::new(Ino::new(ino), [0; AREA]);
        for ((index, name), value) in &node.attrs.list {
            let name = Name {
                index: *index,
                name,
            };
            attrs.set(fresh, hash_seed, name, Some(value))?;
        }
        node.rec.attr = *attrs.area();
        node.changed = true;
        Ok(u64::try_from(attrs.delta()).unwrap_or(0))
    }
}

impl Gather<'_, '_, '_> {
    /// Reads the attributes of an inode whose record holds.
    pub fn attributes(&mut self, ino: u64, node: &mut Node) {
        let root = match form(&node.rec.attr) {
            Form::Tree(root) => root,
            Form::None => return,
            Form::Short => return self.short_attributes(ino, node),
        };
        let kind = Kind::Xattr;
        let found = self.salvage.read(kind, Ino::new(ino), Root::Block(root));
        let attrs = &mut node.attrs;
        let lost = attrs.collect(&found.records, &self.hash_seed);
        attrs.rewrite |= !found.sound;
        let kept = attrs.list.len();
        if !found.unsealed.is_empty() {
            self.report.guessed(format_args!(
                "inode {ino}: extended attributes lie in nodes with a wrong checksum; uncertain"
            ));
        }
        // What is being removed may have lost some already.
        let leaving = node.rec.nlink.get() == 0;
        if (lost > 0 || found.has_gaps() || found.dropped > 0 || kept == 0) && !leaving {
            self.report.lost(format_args!(
                "inode {ino}: extended attributes cannot all be read; {kept} kept"
            ));
        } else if attrs.rewrite {
            self.report
                .done(format_args!("inode {ino}: attributes written anew"));
        }
        attrs.nodes = found.nodes;
    }

    /// Takes out of the record what cannot be parsed. The names are in order.
    fn short_attributes(&mut self, ino: u64, node: &mut Node) {
        let good = |(name, value): &(Name<'_>, &[u8])| acl::check(name.index, value).is_ok();
        if short(&node.rec.attr).all(|one| good(&one)) {
            return;
        }
        let attrs = &mut node.attrs;
        for (name, value) in short(&node.rec.attr).filter(good) {
            let name = (name.index, name.name.to_vec());
            attrs.list.insert(name, value.to_vec());
        }
        attrs.rewrite = true;
        let kept = attrs.list.len();
        self.report.lost(format_args!(
            "inode {ino}: extended attributes cannot all be read; {kept} kept"
        ));
    }
}

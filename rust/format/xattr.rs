// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Extended attributes: the attribute area of the inode record, and the value of kind 4.
//!
//! A few small attributes lie in the area itself; more, or larger ones, in a tree whose root block
//! the area names. There an attribute is the string `head, name, value`, cut into pieces: all of
//! [`PIECE`] bytes but the last one. The key is `hash << 22 | seq << 8 | piece`.

use super::node::MAX_VALUE;
use super::types::BlockNr;

/// Bytes of the area in the inode record.
pub const AREA: usize = 48;
/// First byte of the area: attributes lie in it.
pub const FORM_SHORT: u8 = 1;
/// First byte of the area: the root block's number stands at [`ROOT_AT`].
pub const FORM_TREE: u8 = 2;
/// Where the root block's number is.
pub const ROOT_AT: usize = 8;
/// Bytes before the name in the area: namespace, length of the name, length of the value.
pub const SHORT_HEAD: usize = 3;
/// Bytes before the name in a tree: namespace, length of the name (1 each), of the value (4).
pub const HEAD: usize = 6;
/// Longest name, bytes, without the namespace's prefix.
pub const NAME_MAX: usize = 255;
/// Longest value, bytes.
pub const VALUE_MAX: usize = 65536;
/// Bytes of a piece; only the last one is shorter.
pub const PIECE: usize = MAX_VALUE;
/// Bits of the key that count the pieces.
pub const PIECE_BITS: u32 = 8;
/// Bits of the key below the hash.
pub const SEQ_BITS: u32 = 22;
/// Keys lie below this.
pub const END_KEY: u64 = 1 << 62;

/// Namespace `user.`
pub const USER: u8 = 1;
/// Namespace `trusted.`
pub const TRUSTED: u8 = 2;
/// Namespace `security.`
pub const SECURITY: u8 = 3;
/// `system.posix_acl_access`; the name is empty.
pub const ACL_ACCESS: u8 = 4;
/// `system.posix_acl_default`; the name is empty.
pub const ACL_DEFAULT: u8 = 5;

const _: () = assert!((HEAD + NAME_MAX + VALUE_MAX).div_ceil(PIECE) <= 1 << PIECE_BITS);
const _: () = assert!(HEAD + NAME_MAX <= PIECE);

/// The name of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The namespace: [`USER`] and so on.
    pub index: u8,
    /// The rest, without the prefix.
    pub name: &'a [u8],
}

impl Name<'_> {
    fn check(&self) -> Result<(), &'static str> {
        let fits = match self.index {
            USER | TRUSTED | SECURITY => (1..=NAME_MAX).contains(&self.name.len()),
            ACL_ACCESS | ACL_DEFAULT => self.name.is_empty(),
            _ => return Err("attribute: unknown namespace"),
        };
        if !fits {
            return Err("attribute: name of a wrong length");
        }
        if self.name.contains(&0) {
            return Err("attribute: name with a zero byte");
        }
        Ok(())
    }
}

/// Where the attributes of an inode are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// There are none.
    None,
    /// In the area: [`short`].
    Short,
    /// In the tree with this root.
    Tree(BlockNr),
}

/// What the area says; it need not hold ([`check_area`]).
pub fn form(area: &[u8; AREA]) -> Form {
    let root = area
        .get(ROOT_AT..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u64::from_le_bytes(*b));
    match area.first() {
        Some(&FORM_SHORT) => Form::Short,
        Some(&FORM_TREE) => Form::Tree(BlockNr::new(root)),
        _ => Form::None,
    }
}

/// The area of an inode whose attributes lie in a tree.
pub fn tree_area(root: BlockNr) -> [u8; AREA] {
    let mut area = [0; AREA];
    let (head, rest) = area.split_at_mut(ROOT_AT);
    if let Some((form, place)) = head.first_mut().zip(rest.first_chunk_mut()) {
        *form = FORM_TREE;
        *place = root.get().to_le_bytes();
    }
    area
}

/// The attributes in an area of form [`Form::Short`], names with values.
#[derive(Clone)]
pub struct Short<'a>(&'a [u8]);

/// Looks at an area as one with attributes in it.
pub fn short(area: &[u8; AREA]) -> Short<'_> {
    Short(area.get(1..).unwrap_or_default())
}

impl<'a> Iterator for Short<'a> {
    type Item = (Name<'a>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[index, name_len, value_len], rest) = self.0.split_first_chunk::<SHORT_HEAD>()?;
        if index == 0 {
            return None;
        }
        let (name, rest) = rest.split_at_checked(name_len.into())?;
        let (value, rest) = rest.split_at_checked(value_len.into())?;
        self.0 = rest;
        Some((Name { index, name }, value))
    }
}

/// Checks the area of an inode record. Whether the root exists is a question for the geometry.
pub fn check_area(area: &[u8; AREA]) -> Result<(), &'static str> {
    let clean = |bytes: Option<&[u8]>| bytes.unwrap_or_default().iter().all(|&b| b == 0);
    match form(area) {
        Form::None if clean(Some(area)) => Ok(()),
        Form::None => Err("attributes: unknown form"),
        Form::Tree(BlockNr::ZERO) => Err("attributes: no root"),
        Form::Tree(_) if clean(area.get(1..ROOT_AT)) && clean(area.get(ROOT_AT + 8..)) => Ok(()),
        Form::Tree(_) => Err("attributes: reserved bytes are not zero"),
        Form::Short => {
            let mut entries = short(area);
            let mut empty = true;
            while let Some((name, _)) = entries.next() {
                name.check()?;
                if entries.clone().any(|(other, _)| other == name) {
                    return Err("attributes: a name is there twice");
                }
                empty = false;
            }
            match clean(Some(entries.0)) && !empty {
                true => Ok(()),
                false => Err("attributes: area out of order"),
            }
        }
    }
}

/// The first piece of an attribute in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First<'a> {
    /// The name.
    pub name: Name<'a>,
    /// Bytes of the value.
    pub value_len: usize,
    /// As much of the value as there is in the piece.
    pub value: &'a [u8],
}

impl<'a> First<'a> {
    /// Parses the value of a first piece.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let short = "attribute: first piece too short";
        let (&[index, name_len, l0, l1, l2, l3], rest) =
            bytes.split_first_chunk::<HEAD>().ok_or(short)?;
        let (name, value) = rest.split_at_checked(name_len.into()).ok_or(short)?;
        let name = Name { index, name };
        name.check()?;
        // CAST: `usize` has 32 bits at least.
        let value_len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if value_len > VALUE_MAX {
            return Err("attribute: value too long");
        }
        if bytes.len() != (HEAD + name.name.len() + value_len).min(PIECE) {
            return Err("attribute: first piece of a wrong length");
        }
        Ok(Self {
            name,
            value_len,
            value,
        })
    }

    /// Pieces of the attribute.
    pub fn pieces(&self) -> u64 {
        pieces(self.name, self.value_len)
    }
}

/// Pieces of an attribute.
pub fn pieces(name: Name<'_>, value_len: usize) -> u64 {
    (HEAD + name.name.len())
        .saturating_add(value_len)
        .div_ceil(PIECE) as u64
}

/// The head of an attribute in a tree; the lengths are in range.
pub fn head(name: Name<'_>, value_len: usize) -> [u8; HEAD] {
    // CAST: Both were checked by whoever took them from a user.
    let [l0, l1, l2, l3] = (value_len as u32).to_le_bytes();
    [name.index, name.name.len() as u8, l0, l1, l2, l3]
}

/// Which piece of its attribute lies under `key`.
pub fn piece_of(key: u64) -> u64 {
    key & ((1 << PIECE_BITS) - 1)
}

/// Checks the value under `key`.
pub fn verify(key: u64, value: &[u8]) -> Result<(), &'static str> {
    if key >= END_KEY {
        return Err("attribute: key out of range");
    }
    match piece_of(key) {
        0 => First::parse(value).map(drop),
        _ if value.is_empty() || value.len() > PIECE => Err("attribute: piece of a wrong length"),
        _ => Ok(()),
    }
}

/// Checks two neighbouring records, `key < next`.
pub fn verify_order(key: u64, value: &[u8], next: u64) -> Result<(), &'static str> {
    if piece_of(next) == 0 || next == key + 1 && value.len() == PIECE {
        return Ok(());
    }
    Err("attribute: piece out of place")
}

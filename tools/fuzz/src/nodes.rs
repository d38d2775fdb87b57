// SPDX-License-Identifier: GPL-2.0

//! Target `nodes`: trees with damaged nodes. Every call gives a result or an error, and ends; with the
//! verifier in front, as in the kernel, and without it.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use calf_core::algo::btree::{Root, Tree};
use calf_core::algo::extent::{self, Extent};
use calf_core::algo::xattr::{Attrs, Name};
use calf_core::algo::{dir, refcount, symlink};
use calf_core::format::node::{self, InlineRoot};
use calf_core::format::{BlockNr, Ino, Kind};
use calf_core::mem::{MemError, MemStore};

use crate::input::Input;
use crate::Target;

pub const TARGET: Target = Target {
    name: "nodes",
    run,
    seeds,
    max_len: 400,
};

const SEED: [u8; 16] = [7; 16];
const OWNER: Ino = Ino::new(5);
const ROOT: BlockNr = BlockNr::new(3);
/// Far more calls than any of these trees has nodes.
const MANY: u64 = 20_000;
const KINDS: usize = 6;

struct Good {
    store: MemStore,
    tree: Tree,
    /// Root of the attributes, for their kind.
    attrs: Attrs,
}

// The store counts its calls in a cell; the trees are built once in each thread.
thread_local! {
    static GOOD: [OnceLock<Good>; 2 * KINDS] = const { [const { OnceLock::new() }; 2 * KINDS] };
}

fn name_of(i: u64) -> Vec<u8> {
    format!("name {i}").repeat(1 + i as usize % 4).into_bytes()
}

fn build(kind: Kind, block_size: usize) -> Good {
    let mut store = MemStore::new(block_size);
    let mut attrs = Attrs::new(OWNER, [0; 48]);
    let mut tree = match kind {
        Kind::Refcount | Kind::Orphans => {
            store.make_root(kind, ROOT);
            Tree::global(kind, ROOT)
        }
        _ => Tree::inode(kind, OWNER, InlineRoot::empty(kind)),
    };
    let s = &mut store;
    match kind {
        Kind::Symlink => symlink::write(&mut tree, s, &[b'x'; 4000]).unwrap(),
        Kind::Dir => dir::init(&mut tree, s, OWNER).unwrap(),
        _ => {}
    }
    for i in 0..200u64 {
        let (key, len) = (i * 16, 1 + (i % 8) as u32);
        let value = match kind {
            Kind::Extents => {
                let flags = u32::from(i % 3 == 0).to_le_bytes();
                [
                    &(1000 + i * 20).to_le_bytes()[..],
                    &len.to_le_bytes(),
                    &flags,
                ]
                .concat()
            }
            Kind::Refcount => [len.to_le_bytes(), 2u32.to_le_bytes()].concat(),
            Kind::Orphans => [&1u32.to_le_bytes()[..], &[0; 12]].concat(),
            Kind::Dir => {
                dir::insert(&mut tree, s, &SEED, &name_of(i), Ino::new(i + 9), 8).unwrap();
                continue;
            }
            Kind::Xattr => {
                let (name, value) = (name_of(i), vec![1; i as usize * 5]);
                let name = Name {
                    index: 1,
                    name: &name,
                };
                attrs.set(s, &SEED, name, Some(&value)).unwrap();
                continue;
            }
            _ => continue,
        };
        tree.insert(s, key + 16, &value).unwrap();
    }
    store.publish().unwrap();
    if let node_root @ 1.. = u64::from_le_bytes(attrs.area()[8..16].try_into().unwrap()) {
        tree = Tree::fixed(Kind::Xattr, OWNER, BlockNr::new(node_root));
    }
    let attrs = Attrs::new(OWNER, *attrs.area());
    Good { store, tree, attrs }
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let head = input.u8();
    let which = usize::from(head) % KINDS;
    let large = head & 0x40 != 0;
    let kinds = [
        Kind::Extents,
        Kind::Dir,
        Kind::Xattr,
        Kind::Refcount,
        Kind::Orphans,
        Kind::Symlink,
    ];
    let (mut store, mut tree, attrs) = GOOD.with(|good| {
        let good = good[which * 2 + usize::from(large)]
            .get_or_init(|| build(kinds[which], if large { 4096 } else { 1024 }));
        (good.store.clone(), good.tree, good.attrs)
    });
    store.check = head & 0x80 == 0;
    for _ in 0..1 + input.u8() % 8 {
        damage(&mut store, &mut tree, &mut input);
    }
    for _ in 0..1 + input.u8() % 8 {
        use_it(&mut store, tree, attrs, &mut input);
    }
}

/// One change of a node.
fn damage(store: &mut MemStore, tree: &mut Tree, input: &mut Input<'_>) {
    let blocks: Vec<u64> = store.blocks.keys().copied().collect();
    let how = input.u8();
    let mut any = || blocks.get(input.below(blocks.len().max(1))).copied();
    let Some(block) = any() else { return };
    let other = if how & 7 == 0 { any() } else { None };
    if let Some(other) = other {
        // The content of another node, perhaps with the name of this one.
        let theirs = store.blocks[&other].clone();
        let mine = store.blocks.get_mut(&block).unwrap();
        let from = if how & 8 != 0 { 40 } else { 0 };
        mine[from..].copy_from_slice(&theirs[from..]);
    } else {
        let root = match &mut tree.root {
            Root::Inline(root) if how & 7 == 1 => Some(&mut root.0[..]),
            _ => None,
        };
        let bytes = match root {
            Some(root) => root,
            None => store.blocks.get_mut(&block).unwrap(),
        };
        let len = bytes.len();
        let at = match how >> 3 & 3 {
            // The core; slots; values; anywhere.
            0 => input.below(8) + if len > 112 { 40 } else { 0 },
            1 => 8 + input.below(248),
            2 => len - 1 - input.below(256).min(len - 1),
            _ => input.below(len),
        } % len;
        let new = input.bytes(1 + usize::from(how >> 5) % 4);
        let n = new.len().min(len - at);
        bytes[at..at + n].copy_from_slice(&new[..n]);
    }
    if how & 0x80 != 0 {
        let uuid = *b"calf-memory-uuid";
        if let Some(bytes) = store.blocks.get_mut(&block) {
            node::seal(bytes, &uuid);
        }
    }
}

fn ended<R>(store: &mut MemStore, result: Result<R, MemError>) {
    assert!(
        !matches!(result, Err(MemError::Injected)),
        "a call does not end"
    );
    store.abandon();
    store.fail_after(Some(MANY));
}

/// One call.
fn use_it(store: &mut MemStore, tree: Tree, mut attrs: Attrs, input: &mut Input<'_>) {
    store.fail_after(Some(MANY));
    let what = input.u8() % 16;
    let key = match what & 1 {
        0 => u64::from(input.u8()) * 16 + 16,
        _ => input.any(),
    };
    let (by, mut t) = (input.any(), tree);
    let s = store;
    let result = match (what / 2, tree.kind) {
        (0, _) => tree
            .get(s, key)
            .and_then(|_| tree.floor(s, key))
            .and_then(|_| tree.ceil(s, key))
            .and_then(|_| tree.locate(s, key))
            .and_then(|_| tree.last(s))
            .map(drop),
        (1, _) => t
            .insert(s, key, &[7; 272][..by as usize % 272])
            .and_then(|_| t.remove(s, by)),
        (2, _) => t.replace(s, key, &[7; 272][..by as usize % 272]),
        (3, _) => t.remove(s, key),
        (4, _) => t.rekey(s, key, by, &[1; 16]),
        (5, _) => tree
            .walk(s, |_, _| ())
            .and_then(|_| tree.scan(s, 0, |_, _| ControlFlow::Continue(())))
            .and_then(|_| tree.blocks(s))
            .map(drop),
        // Edits that build on each other, until one fails.
        (6, _) => (0..40).try_for_each(|i| match (by >> (i % 64)) & 1 {
            0 => t.insert(s, key.wrapping_mul(i) % 7000, &[7; 100]),
            _ => t.remove(s, (key.wrapping_add(i) % 210) * 16),
        }),
        (_, Kind::Extents) => extents(&mut t, s, key, by),
        (_, Kind::Refcount) => {
            let phys = BlockNr::new(key);
            refcount::lookup(&tree, s, phys, by)
                .and_then(|_| refcount::increase_step(&mut t, s, phys, by))
                .and_then(|_| refcount::decrease_step(&mut t, s, phys, by))
                .map(drop)
        }
        (_, Kind::Dir) => {
            let name = name_of(key);
            let mut batch = dir::Batch::with_capacity(4000).expect("memory");
            dir::lookup(&tree, s, &SEED, &name)
                .map(drop)
                .and_then(|_| dir::parent(&tree, s).map(drop))
                .and_then(|_| dir::is_empty(&tree, s).map(drop))
                .and_then(|_| batch.fill(&tree, s, by))
                .and_then(|_| dir::insert(&mut t, s, &SEED, &name, OWNER, 8).map(drop))
                .and_then(|_| dir::remove(&mut t, s, by))
        }
        (_, Kind::Xattr) => {
            let bytes = name_of(key);
            let name = Name {
                index: 1,
                name: &bytes,
            };
            let value = vec![1; (by % 65537) as usize];
            let mut out = vec![0; 65536];
            attrs
                .get(s, &SEED, name, &mut out)
                .and_then(|_| attrs.for_each(s, |_, _| ()))
                .and_then(|_| attrs.set(s, &SEED, name, Some(&value)))
                .and_then(|_| attrs.set(s, &SEED, name, None))
                .and_then(|_| attrs.remove_any(s))
                .map(drop)
        }
        (_, _) => symlink::read(&tree, s, key).map(drop),
    };
    ended(s, result);
}

fn extents(t: &mut Tree, s: &mut MemStore, key: u64, by: u64) -> Result<(), MemError> {
    let e = Extent {
        fblk: key,
        phys: BlockNr::new(9),
        len: by,
        unwritten: true,
    };
    let end = key.saturating_add(by);
    extent::lookup(t, s, key)?;
    extent::next_extent(t, s, key)?;
    extent::last(t, s)?;
    match by % 5 {
        0 => extent::insert(t, s, e)?,
        1 => extent::set_written(t, s, key, by)?,
        2 => drop(extent::move_up_step(t, s, key, end, by)?),
        3 => drop(extent::move_down_step(t, s, key, by)?),
        _ => {}
    }
    while extent::remove_step(t, s, key, end)?.is_some() {}
    Ok(())
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for head in (0..KINDS as u8).flat_map(|kind| [kind, kind + 0x42, kind + 0x80]) {
        for call in 0..16 {
            for how in [0x80, 0x81, 0x8a, 0x92] {
                all.push([&[head, 0, how, 1, 0, 3, 1][..], &[call, 9, 4]].concat());
            }
        }
    }
    all
}

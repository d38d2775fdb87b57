// SPDX-License-Identifier: GPL-2.0

//! An image that has every structure there is.

use calf_core::algo::xattr::Name;
use calf_core::format::geometry::Geometry;
use calf_core::format::inode::S_IFREG;
use calf_core::format::orphan::RawOrphan;
use calf_core::format::xattr::{SECURITY, USER};
use calf_core::format::Ino;
use calf_io::device::Memory;
use zerocopy::IntoBytes;

use super::{assert_clean, rich, Builder, ROOT};

fn name(index: u8, name: &[u8]) -> Name<'_> {
    Name { index, name }
}

/// With `blocks` for three groups it has one whose bitmap was never written.
pub fn image(log: u32, blocks: u64) -> (Memory, Geometry) {
    let (memory, geo, _) = rich(log, blocks);
    let mut b = Builder::again(&memory, geo);
    let many = b.file(ROOT, "many attributes", 1);
    for i in 0..60u8 {
        let value = vec![i; usize::from(i) * 30];
        b.set_attr(many, name(USER, format!("n{i}").as_bytes()), &value);
    }
    let few = b.file(ROOT, "few attributes", 1);
    b.set_attr(few, name(SECURITY, b"small"), b"value");
    b.set_attr(few, name(USER, b"other"), b"1");
    let dir = b.mkdir(ROOT, "directory with an attribute");
    b.set_attr(dir, name(USER, b"small"), b"value");
    orphans(&mut b);
    b.finish(&memory);
    assert_clean(&memory);
    (memory, geo)
}

/// Orphans of both kinds, with blocks and attributes.
fn orphans(b: &mut Builder<'_>) {
    let from = b.file(ROOT, "half cut", 60);
    let mut cut = b.editor.inode(from).unwrap().unwrap();
    cut.size = 4000.into();
    b.editor.put_inode(&cut).unwrap();
    let mut found = vec![(from, RawOrphan::truncate(4000))];
    for (n, attr) in [(30, "in a tree".repeat(20)), (0, "short".into())] {
        let ino = unlinked(b, n);
        b.set_attr(ino, name(USER, b"gone"), attr.as_bytes());
        found.push((ino, RawOrphan::unlinked()));
    }
    let mut orphans = b.editor.orphans();
    for (ino, orphan) in found {
        orphans
            .insert(&mut b.editor, ino.get(), orphan.as_bytes())
            .unwrap();
    }
}

/// A file of `n` extents without a name.
fn unlinked(b: &mut Builder<'_>, n: u64) -> Ino {
    use calf_core::algo::extent::{self, Extent};
    use calf_core::format::BlockNr;
    let mut rec = b.record(S_IFREG | 0o600, 0);
    let mut tree = b.tree(&rec);
    let mut data = 0;
    for i in 0..n {
        let (phys, len) = b.editor.alloc(BlockNr::ZERO, 1).unwrap();
        let e = Extent {
            fblk: i * 2,
            phys,
            len,
            unwritten: false,
        };
        extent::insert(&mut tree, &mut b.editor, e).unwrap();
        data += len;
    }
    rec.size = (2 * n * b.editor.geo().block_size()).into();
    b.store(&mut rec, &tree, data);
    Ino::new(rec.ino.get())
}

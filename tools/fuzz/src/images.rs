// SPDX-License-Identifier: GPL-2.0

//! The images that targets damage: some of everything, as little of it as makes trees high.

use std::sync::OnceLock;

use calf_core::algo::xattr::Name;
use calf_core::format::geometry::Geometry;
use calf_core::format::inode::S_IFREG;
use calf_core::format::orphan::RawOrphan;
use calf_core::format::xattr::USER;
use calf_fsck::check::{Error, Mode, Outcome};
use calf_io::device::{Memory, Storage};
use zerocopy::IntoBytes;

// The builder of the checker's own tests.
#[path = "../../fsck/tests/common/mod.rs"]
#[allow(unused_imports)]
mod common;

pub use common::shadow;
use common::{Builder, ROOT};

/// An image and what it is.
pub struct Base {
    pub bytes: Vec<u8>,
    pub geo: Geometry,
}

fn build(log: u32, blocks: u64, files: u64) -> Base {
    let (memory, geo) = common::empty(log, blocks);
    let mut b = Builder::new(&memory, geo);
    let wide = b.mkdir(ROOT, "wide");
    for i in 0..files {
        b.file(wide, &format!("file with a number {i}"), i % 3);
    }
    let deep = b.mkdir(wide, "deep");
    let big = b.file(deep, "big", files * 2);
    b.clone_file(big, ROOT, "copy");
    b.symlink(deep, "short", "target");
    b.symlink(ROOT, "long", &"x/".repeat(700));
    let mut rec = b.editor.inode(big).unwrap().unwrap();
    rec.nlink = 2.into();
    b.editor.put_inode(&rec).unwrap();
    b.link(ROOT, "another name", &rec);
    for i in 0..files {
        let name = format!("n{i}");
        let name = Name {
            index: USER,
            name: name.as_bytes(),
        };
        b.set_attr(big, name, &vec![i as u8; i as usize * 9]);
    }
    let name = Name {
        index: USER,
        name: b"small",
    };
    b.set_attr(wide, name, b"value");
    let fifo = b.record(0o010644, 1);
    b.editor.put_inode(&fifo).unwrap();
    b.link(deep, "fifo", &fifo);
    let mut orphan = b.record(S_IFREG, 0);
    let tree = b.tree(&orphan);
    b.store(&mut orphan, &tree, 0);
    let mut orphans = b.editor.orphans();
    let value = RawOrphan::unlinked();
    orphans
        .insert(&mut b.editor, orphan.ino.get(), value.as_bytes())
        .unwrap();
    b.finish(&memory);
    common::assert_clean(&memory);
    let Memory(bytes) = memory;
    Base {
        bytes: bytes.into_inner(),
        geo,
    }
}

/// With blocks of 1 KiB (two groups) or 4 KiB.
pub fn base(large: bool) -> &'static Base {
    static BASES: [OnceLock<Base>; 2] = [OnceLock::new(), OnceLock::new()];
    BASES[usize::from(large)].get_or_init(|| match large {
        false => build(10, 9000, 40),
        true => build(12, 4096, 90),
    })
}

/// Runs the checker; also returns what it printed.
pub fn fsck(storage: &dyn Storage, mode: Mode) -> (Result<Outcome, Error>, Vec<String>) {
    common::run(storage, mode)
}

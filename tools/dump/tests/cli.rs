// SPDX-License-Identifier: GPL-2.0

//! calf-dump from the command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use calf_core::algo::btree::Tree;
use calf_core::algo::dir;
use calf_core::algo::xattr::Attrs;
use calf_core::format::geometry::Layout;
use calf_core::format::inode::{InodeRecord, S_IFREG};
use calf_core::format::node::InlineRoot;
use calf_core::format::xattr::{Name, TRUSTED, USER};
use calf_core::format::{Ino, Kind};
use calf_io::device::Memory;
use calf_io::editor::Editor;
use calf_io::make::{make, Options};
use serde_json::{json, Value};
use zerocopy::FromZeros;

const SEED: [u8; 16] = [7; 16];

const SMALL: Name<'_> = Name {
    index: USER,
    name: b"small",
};
const BIG: Name<'_> = Name {
    index: TRUSTED,
    name: b"big",
};

fn image() -> PathBuf {
    let memory = Memory::new(4 << 20);
    let mut label = [0; 64];
    label[..7].copy_from_slice(b"a\\b \xffc!");
    let options = Options {
        layout: Layout::plan(10, 4096, [0x5a; 16]).unwrap(),
        label,
        hash_seed: SEED,
        gen: 1,
        time: 1_700_000_000_123_456_789,
    };
    make(&memory, &options).unwrap();
    let geo = calf_core::format::geometry::Geometry::check(&options.layout).unwrap();
    let mut fs = Editor::new(&memory, geo);
    let mut rec = InodeRecord::new_zeroed();
    rec.ino = 2.into();
    rec.mode = (S_IFREG | 0o644).into();
    rec.nlink = 1.into();
    rec.root = InlineRoot::empty(Kind::Extents);
    let mut attrs = Attrs::new(Ino::new(2), rec.attr);
    attrs.set(&mut fs, &SEED, BIG, Some(&[b'v'; 3000])).unwrap();
    rec.attr = *attrs.area();
    fs.put_inode(&rec).unwrap();
    let mut root = fs.inode(Ino::new(1)).unwrap().unwrap();
    let mut tree = Tree::inode(Kind::Dir, Ino::new(1), root.root);
    dir::insert(&mut tree, &mut fs, &SEED, b"\xfe\\name", Ino::new(2), 8).unwrap();
    root.root = *tree.inline_root().unwrap();
    let mut attrs = Attrs::new(Ino::new(1), root.attr);
    attrs.set(&mut fs, &SEED, SMALL, Some(b"\xff!")).unwrap();
    root.attr = *attrs.area();
    fs.put_inode(&root).unwrap();
    fs.flush().unwrap();
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dump-{}.img", std::process::id()));
    std::fs::write(&path, &*memory.0.borrow()).unwrap();
    path
}

fn dump(args: &[&str], image: &Path, what: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_calf-dump"))
        .args(args)
        .arg(image)
        .args(what)
        .output()
        .unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap())
}

#[test]
fn everything_is_there_as_json() {
    let path = image();
    let dumped = |what: &[&str]| -> Value {
        let (code, text) = dump(&["--json"], &path, what);
        assert_eq!(code, Some(0), "{what:?}");
        serde_json::from_str(&text).unwrap()
    };
    let sb = dumped(&[]);
    assert_eq!(sb["uuid"], "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a");
    assert_eq!(sb["label"], "a\\\\b \\xffc!");
    assert_eq!((&sb["blocks"], &sb["clean"]), (&4096.into(), &true.into()));
    assert_eq!(sb["mkfs_time"], 1_700_000_000_123_456_789u64);
    let groups = dumped(&["groups"]);
    assert_eq!(groups["groups"][0]["valid"], true);
    assert_eq!(groups["free"], groups["groups"][0]["free"]);
    let inodes = dumped(&["tree", "inodes"]);
    assert_eq!(inodes["kind"], "inodes");
    assert_eq!(inodes["records"][1]["mode"], 0o100_644);
    let root = dumped(&["inode", "1"]);
    assert_eq!(root["records"][0]["parent"], 1);
    assert_eq!(root["records"][1]["name"], "\\xfe\\\\name");
    assert_eq!(root["records"][1]["ino"], 2);
    let told = json!([{ "namespace": USER, "name": "small", "length": 2, "value": "\\xff!" }]);
    assert_eq!(root["attributes"], told);
    let attributes = &dumped(&["inode", "2"])["attributes"];
    let (first, second) = (&attributes[0], &attributes[1]);
    assert_eq!(
        (&first["name"], &first["length"]),
        (&"big".into(), &3000.into())
    );
    assert_eq!(second["piece"], 1);
    let value = format!(
        "{}{}",
        first["value"].as_str().unwrap(),
        second["value"].as_str().unwrap()
    );
    assert!(
        "v".repeat(3000).starts_with(&value) && value.len() > 500,
        "{value}"
    );
    assert_eq!(dumped(&["journal"])["log_start"], 0);
    let block = sb["inode_root"].to_string();
    let node = dumped(&["node", &block]);
    assert_eq!((&node["valid"], &node["level"]), (&true.into(), &0.into()));
    assert_eq!(node["records"], inodes["records"]);
    assert_eq!(dump(&["--json"], &path, &["inode", "99"]).0, Some(1));
    // The text is still there.
    assert!(dump(&[], &path, &["inode", "2"]).1.contains("nlink"));
    let (code, text) = dump(&["--probe"], &path, &[]);
    assert_eq!(code, Some(0));
    for line in [
        "ID_FS_TYPE=calf",
        "ID_FS_UUID=5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a",
        "ID_FS_LABEL=a_b__c_",
        "ID_FS_LABEL_ENC=a\\x5cb\\x20\\xffc\\x21",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    unheard(&path);
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    assert_eq!(dump(&["--probe"], &path, &[]).0, Some(2));
    std::fs::remove_file(&path).unwrap();
}

/// Who reads no further is content; words that find no room are an error.
fn unheard(path: &Path) {
    for args in [&["--probe"][..], &["--json"], &[]] {
        let status = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_calf-dump"));
            command.args(args).arg(path).stdout(stdout);
            command.status().unwrap().code()
        };
        let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let pipe = reader.stdin.take().unwrap();
        reader.wait().unwrap();
        assert_eq!(status(pipe.into()), Some(0), "{args:?}");
        let full = std::fs::File::create("/dev/full").unwrap();
        assert_eq!(status(full.into()), Some(1), "{args:?}");
    }
}

#[test]
fn version() {
    for version in ["-V", "--version"] {
        let (code, text) = dump(&[version], Path::new("x"), &[]);
        assert!(code == Some(0) && text.starts_with("calf-dump "), "{text}");
    }
}

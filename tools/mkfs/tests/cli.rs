// SPDX-License-Identifier: GPL-2.0

//! mkfs.calf from the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use calf_core::format::super_block::SuperBlock;

fn mkfs(args: &[&str], image: &Path, size: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkfs-calf"));
    command.args(args).arg(image);
    if !size.is_empty() {
        command.arg(size);
    }
    command.output().unwrap()
}

fn image(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn makes_what_was_asked_for() {
    let path = image("asked.img");
    let uuid = "0b5c1a52-8a44-4e9c-9a54-000102030405";
    let out = mkfs(&["-b", "1024", "-L", "name", "-U", uuid], &path, "16M");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains(uuid));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 16 << 20);
    let sb = SuperBlock::parse(&bytes, bytes.len() as u64).unwrap();
    assert_eq!((sb.geo.block_size(), sb.label()), (1024, &b"name"[..]));
    assert_eq!(sb.geo.uuid()[..4], [0x0b, 0x5c, 0x1a, 0x52]);
}

#[test]
fn overwrites_nothing_unasked() {
    let path = image("kept.img");
    let mut bytes = vec![0; 32 << 20];
    bytes[..4].copy_from_slice(b"XFSB");
    fs::write(&path, &bytes).unwrap();
    let out = mkfs(&[], &path, "");
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("XFS") && text(&out.stderr).contains("-f"));
    assert!(mkfs(&["-n"], &path, "").status.success());
    assert!(mkfs(&["-n", "-f"], &path, "").status.success());
    assert!(fs::read(&path).unwrap() == bytes, "the image is unchanged");
    let out = mkfs(&["-f", "-q"], &path, "");
    assert!(out.status.success() && out.stdout.is_empty());
    assert_eq!(mkfs(&[], &path, "").status.code(), Some(1));
}

#[test]
fn says_what_is_wrong() {
    let path = image("wrong.img");
    fs::write(&path, vec![0; 4 << 20]).unwrap();
    for (args, size, message) in [
        (&["-b", "512"][..], "", "not one of 1024, 2048, 4096"),
        (&[][..], "", "too small"),
        (&["-L", &"x".repeat(65)], "", "longer than 64"),
        (&["-n"], "1G", "were asked for"),
    ] {
        let out = mkfs(args, &path, size);
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(text(&out.stderr).contains(message), "{}", text(&out.stderr));
    }
    let out = mkfs(&[], Path::new("/nonexistent/device"), "");
    assert!(text(&out.stderr).contains("cannot open"));
    assert!(!mkfs(&[], Path::new("/dev/null"), "").status.success());
    assert_eq!(mkfs(&["-b", "many"], &path, "").status.code(), Some(2));
}

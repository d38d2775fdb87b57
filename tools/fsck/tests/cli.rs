// SPDX-License-Identifier: GPL-2.0

//! fsck.calf from the command line: exit codes and options.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::*;

fn fsck(args: &[&str], image: &Path) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_fsck-calf"))
        .args(args)
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8(text).unwrap())
}

fn image(name: &str, memory: &calf_io::device::Memory) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, &*memory.0.borrow()).unwrap();
    path
}

#[test]
fn exit_codes() {
    let (memory, geo, _) = full(10, 8192);
    let path = image("codes.img", &memory);
    for args in [
        &["-n"][..],
        &["-y"],
        &["-f", "-y"],
        &["-C0", "-n"],
        &["-C"],
        &[],
    ] {
        let (code, text) = fsck(args, &path);
        assert_eq!(code, Some(0), "{args:?} {text}");
        assert!(text.contains("clean, 127 files"), "{text}");
    }
    let (code, text) = fsck(&["-p"], &path);
    assert!(code == Some(0) && text.contains("not checked"), "{text}");
    // A root of a tree is gone: that costs something.
    let at = (geo.inode_root().get() * 1024) as usize;
    memory.0.borrow_mut()[at..at + 1024].fill(0x5a);
    let path = image("codes.img", &memory);
    for args in [&["-n"][..], &[], &["-a", "-f"], &["-p", "-f"]] {
        let (code, text) = fsck(args, &path);
        assert_eq!(code, Some(4), "{args:?} {text}");
    }
    assert!(fs::read(&path).unwrap() == *memory.0.borrow());
    let (code, text) = fsck(&["-y"], &path);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(fsck(&["-n", "-f"], &path).0, Some(0));
    assert_eq!(fsck(&["-n", "-y"], &path).0, Some(16));
    assert_eq!(fsck(&["--what"], &path).0, Some(16));
    assert_eq!(fsck(&["-y"], Path::new("/nonexistent")).0, Some(8));
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    assert_eq!(fsck(&["-y"], &path).0, Some(8));
}

/// The end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    pipe.into()
}

fn nowhere() -> [Stdio; 2] {
    [closed_pipe(), fs::File::create("/dev/full").unwrap().into()]
}

/// What it is called for is the repair, not the words.
#[test]
fn repairs_although_nobody_listens() {
    let (memory, geo, _) = full(10, 8192);
    let at = (geo.inode_root().get() * 1024) as usize;
    memory.0.borrow_mut()[at..at + 1024].fill(0x5a);
    for stdout in nowhere() {
        let path = image("unheard.img", &memory);
        let mut command = Command::new(env!("CARGO_BIN_EXE_fsck-calf"));
        let status = command.arg("-y").arg(&path).stdout(stdout).status();
        assert_eq!(status.unwrap().code(), Some(1));
        assert_eq!(fsck(&["-n"], &path).0, Some(0));
    }
    for stderr in nowhere() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fsck-calf"));
        let status = command.arg("/nonexistent").stderr(stderr).status();
        assert_eq!(status.unwrap().code(), Some(8));
    }
}

#[test]
fn a_file_in_use_is_only_looked_at() {
    let (memory, _, _) = full(10, 8192);
    let path = image("used.img", &memory);
    let other = calf_io::device::Device::claim(&path).unwrap();
    for args in [&["-y"][..], &["-p"], &["-a", "-f"]] {
        let (code, text) = fsck(args, &path);
        assert_eq!(code, Some(8), "{args:?} {text}");
        assert!(text.contains("in use") && text.contains("-n"), "{text}");
    }
    assert_eq!(fsck(&["-n"], &path).0, Some(0));
    drop(other);
    assert_eq!(fsck(&["-y"], &path).0, Some(0));
}

#[test]
fn a_pipe_is_not_waited_for() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipe");
    let _ = fs::remove_file(&path);
    assert!(Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap()
        .success());
    for args in [&["-n"][..], &["-y"]] {
        let mut child = Command::new("timeout");
        let child = child.arg("60").arg(env!("CARGO_BIN_EXE_fsck-calf"));
        let out = child.args(args).arg(&path).output().unwrap();
        assert_eq!(out.status.code(), Some(8), "{args:?}");
    }
}

#[test]
fn options_as_other_tools_have_them() {
    let (memory, _, _) = full(10, 8192);
    let path = image("options.img", &memory);
    for args in [&["-y", "-p"][..], &["-y", "-a"], &["-n", "-p"]] {
        assert_eq!(fsck(args, &path).0, Some(16), "{args:?}");
    }
    for args in [&["-a", "-p"][..], &["-v", "-n"], &["-r"], &["-y", "-v"]] {
        let (code, text) = fsck(args, &path);
        assert_eq!(code, Some(0), "{args:?} {text}");
    }
    for version in ["-V", "--version"] {
        let (code, text) = fsck(&[version], &path);
        assert!(code == Some(0) && text.starts_with("fsck.calf "), "{text}");
    }
}

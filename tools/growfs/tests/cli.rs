// SPDX-License-Identifier: GPL-2.0

//! calf-growfs from the command line. Growing itself is for a kernel with calf.

use std::path::Path;
use std::process::Command;

/// The ioctl is that of ext4, which would obey: another filesystem must never get it.
#[test]
fn asks_no_other_filesystem() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let pipe = dir.join("pipe");
    let _ = std::fs::remove_file(&pipe);
    assert!(Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap()
        .success());
    // A pipe is not waited for either.
    for path in [dir, &pipe, Path::new("/proc"), Path::new("/dev/null")] {
        let mut command = Command::new("timeout");
        let out = command.arg("60").arg(env!("CARGO_BIN_EXE_calf-growfs"));
        let out = out.arg(path).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{path:?}: {text}");
        assert!(text.contains("not a calf filesystem"), "{path:?}: {text}");
    }
}

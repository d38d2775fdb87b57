// SPDX-License-Identifier: GPL-2.0

//! Who uses an image file: a folder like /sys/block, made up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use calf_io::claim::loop_user;
use calf_io::device::Device;

/// An empty folder of this test.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_file_under_a_loop_device_is_known_by_every_name() {
    let dir = folder("loop");
    let devices = dir.join("block");
    let (first, link) = (dir.join("first.img"), dir.join("link.img"));
    let (soft, other) = (dir.join("soft.img"), dir.join("other.img"));
    fs::write(&first, b"x").unwrap();
    fs::write(&other, b"x").unwrap();
    fs::hard_link(&first, &link).unwrap();
    std::os::unix::fs::symlink(&first, &soft).unwrap();
    // A disk, a loop device without a file, one whose file is gone, and one that uses the file.
    fs::create_dir_all(devices.join("vda")).unwrap();
    for name in ["loop0", "loop1", "loop2"] {
        fs::create_dir_all(devices.join(name).join("loop")).unwrap();
    }
    let backing = |name: &str, text: String| {
        fs::write(devices.join(name).join("loop/backing_file"), text).unwrap();
    };
    backing("loop1", format!("{} (deleted)\n", other.display()));
    backing("loop2", format!("{}\n", first.display()));
    let user = |path: &Path| loop_user(&File::open(path).unwrap(), &devices).unwrap();
    for path in [&first, &link, &soft] {
        assert_eq!(user(path).as_deref(), Some("/dev/loop2"), "{path:?}");
    }
    assert_eq!(user(&other), None);
    let nothing = dir.join("nothing");
    assert_eq!(
        loop_user(&File::open(&first).unwrap(), &nothing).unwrap(),
        None
    );
}

#[test]
fn one_writer_at_a_time() {
    let path = folder("claim").join("image");
    let first = Device::create(&path, 4096).unwrap();
    let busy = |path: &Path| {
        Device::claim(path).is_err_and(|e| e.kind() == std::io::ErrorKind::ResourceBusy)
    };
    assert!(busy(&path));
    assert!(Device::open(&path, false).is_ok());
    drop(first);
    let second = Device::claim(&path).unwrap();
    assert!(busy(&path));
    drop(second);
    assert!(!busy(&path));
}

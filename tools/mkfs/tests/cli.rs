// SPDX-License-Identifier: GPL-2.0

//! mkfs.calf from the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use calf_core::format::group;
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
    for (at, magic, name) in [
        (0, &[0x45, 0x3d, 0xcd, 0x28][..], "cramfs"),
        (0x410, &[0x8f, 0x13], "Minix"),
        (0x418, &[0x5a, 0x4d], "Minix"),
        (0x8001, b"BEA01", "UDF"),
        (0xff6, b"SWAPSPACE2", "swap"),
        (0x10040, b"_BHRfS_M", "btrfs"),
    ] {
        let mut bytes = vec![0; 32 << 20];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        fs::write(&path, &bytes).unwrap();
        let out = mkfs(&[], &path, "");
        assert_eq!(out.status.code(), Some(1), "{name}");
        assert!(text(&out.stderr).contains(name), "{}", text(&out.stderr));
        assert!(fs::read(&path).unwrap() == bytes, "{name}: unchanged");
    }
}

#[test]
fn says_what_is_wrong() {
    let path = image("wrong.img");
    fs::write(&path, vec![0; 4 << 20]).unwrap();
    for (args, size, message) in [
        (&["-b", "512"][..], "", "not one of 1024, 2048, 4096"),
        (&["-b", "0"][..], "", "not one of 1024, 2048, 4096"),
        (&["-b", "1"][..], "", "not one of 1024, 2048, 4096"),
        (&["-b", "size=5"][..], "", "not one of 1024, 2048, 4096"),
        (&["-f"], "16777215T", "at most 256 TiB"),
        (&["-b", "4096"][..], "", "too small"),
        (&["-N"], "1M", "too small"),
        (&["-L", &"x".repeat(65)], "", "longer than 64"),
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

/// The end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    pipe.into()
}

fn full() -> Stdio {
    fs::File::create("/dev/full").unwrap().into()
}

/// The filesystem is what counts, not who listens.
#[test]
fn works_although_nobody_listens() {
    let path = image("unheard.img");
    for stdout in [closed_pipe(), full()] {
        let _ = fs::remove_file(&path);
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkfs-calf"));
        let status = command.arg(&path).arg("16M").stdout(stdout).status();
        assert_eq!(status.unwrap().code(), Some(0));
        assert_eq!(superblock(&path).geo.block_size(), 4096);
    }
    // Nor does the place of an error message make another error of it.
    for stderr in [closed_pipe(), full()] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkfs-calf"));
        let status = command.arg(&path).stderr(stderr).status();
        assert_eq!(status.unwrap().code(), Some(1));
    }
    // A dry run has nothing but its words.
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkfs-calf"));
    let status = command.arg("-N").arg(&path).stdout(full()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_file_in_use_is_left_alone() {
    let path = image("used.img");
    fs::write(&path, vec![0; 16 << 20]).unwrap();
    let other = fs::File::open(&path).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let out = mkfs(&["-f"], &path, "");
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("in use"),
        "{}",
        text(&out.stderr)
    );
    assert!(fs::read(&path).unwrap().iter().all(|&b| b == 0));
    assert!(mkfs(&["-f", "-N"], &path, "").status.success());
    drop(other);
    assert!(mkfs(&["-f"], &path, "").status.success());
}

#[test]
fn options_as_other_tools_have_them() {
    let path = image("options.img");
    let out = mkfs(&["-L", "-x"], &path, "16M");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(superblock(&path).label(), b"-x");
    for version in ["-V", "--version"] {
        let out = mkfs(&[version], &path, "");
        assert!(out.status.success() && text(&out.stdout).starts_with("mkfs.calf "));
    }
}

/// Whatever it refuses stays as it was, or does not come to be.
#[test]
fn what_is_refused_is_not_changed() {
    let path = image("refused.img");
    let mut bytes = vec![0; 8 << 20];
    bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    fs::write(&path, &bytes).unwrap();
    for (args, size, message) in [
        (&[][..], "100M", "ext2"),
        (&["-b", "3000", "-f"], "200M", "not one of"),
        (&["-f", "-b", "1024"], "2T", "at most 1 TiB"),
        (&["-f", "-L", &"x".repeat(65)], "100M", "longer than 64"),
    ] {
        let out = mkfs(args, &path, size);
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(text(&out.stderr).contains(message), "{}", text(&out.stderr));
        assert!(fs::read(&path).unwrap() == bytes, "{args:?}: unchanged");
    }
    fs::remove_file(&path).unwrap();
    for (args, size) in [
        (&["-b", "3000"][..], "64M"),
        (&[], "1M"),
        (&[], "16777215T"),
        (&[], "0"),
        (&["-L", &"x".repeat(65)], "64M"),
    ] {
        let out = mkfs(args, &path, size);
        assert_eq!(out.status.code(), Some(1), "{args:?} {size}");
        assert!(!path.exists(), "{args:?} {size}: a file was made");
    }
    // More than the host's filesystem takes, if it is not one of the large ones.
    if !mkfs(&["-q"], &path, "200T").status.success() {
        assert!(!path.exists(), "a file was made");
    }
    let _ = fs::remove_file(&path);
    // A dry run says yes where the real run does, and makes nothing.
    let out = mkfs(&["-N"], &path, "64M");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("blocks=16384") && !path.exists());
    // Nor does it make longer what is there.
    fs::write(&path, vec![0; 32 << 20]).unwrap();
    let out = mkfs(&["-N"], &path, "64M");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("blocks=16384"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 32 << 20);
    assert!(mkfs(&["-q"], &path, "64M").status.success());
    assert_eq!(superblock(&path).geo.blocks(), 16384);
}

/// The superblock of an image that may be too large to be read whole.
fn superblock(path: &Path) -> SuperBlock {
    use std::io::Read;
    let mut head = vec![0; 1024];
    let mut file = fs::File::open(path).unwrap();
    file.read_exact(&mut head).unwrap();
    SuperBlock::parse(&head, file.metadata().unwrap().len()).unwrap()
}

/// The copies of the superblock lie in other places with other block sizes, where nothing else overwrites them.
#[test]
fn no_copy_of_an_older_superblock_stays() {
    use calf_core::format::super_block::MAGIC;
    let path = image("copies.img");
    let copies = || {
        let bytes = fs::read(&path).unwrap();
        [8usize << 20, 32 << 20].map(|at| bytes[at..].starts_with(&MAGIC))
    };
    for (block, size, want) in [
        ("1024", "40M", [true, false]),
        ("2048", "", [false, true]),
        ("4096", "", [false, false]),
    ] {
        let out = mkfs(&["-q", "-f", "-K", "-b", block], &path, size);
        assert!(out.status.success(), "{}", text(&out.stderr));
        assert_eq!(copies(), want, "blocks of {block}");
    }
}

#[test]
fn blocks_fit_the_device() {
    let path = image("fits.img");
    // Without -b, the largest blocks that do.
    for (size, block) in [("4M", 1024), ("6M", 2048), ("12M", 4096), ("1G", 4096)] {
        let _ = fs::remove_file(&path);
        let out = mkfs(&["-q", "-K"], &path, size);
        assert!(out.status.success(), "{size}: {}", text(&out.stderr));
        assert_eq!(superblock(&path).geo.block_size(), block, "{size}");
    }
    let out = mkfs(&["-f", "-b", "size=1k"], &path, "");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(superblock(&path).geo.block_size(), 1024);
}

/// From end to end of what the format takes; sparse files, as large as the host lets them be.
#[test]
fn huge_devices() {
    use std::os::unix::fs::MetadataExt;
    let path = image("huge.img");
    let sparse = |size: u64| fs::File::create(&path).unwrap().set_len(size);
    // Half a MiB less than 16 TiB: that is the largest file of ext4.
    let mut size = (16u64 << 40) - (512 << 10);
    while sparse(size).is_err() {
        size /= 2;
        assert!(size > 1 << 40, "no file of a TiB on this host");
    }
    let start = std::time::Instant::now();
    let out = mkfs(&["-q"], &path, "");
    assert!(out.status.success(), "{}", text(&out.stderr));
    let meta = fs::metadata(&path).unwrap();
    eprintln!(
        "{size} bytes: {:?}, {} MiB written",
        start.elapsed(),
        meta.blocks() >> 11
    );
    // The journal is the largest part, and a hole while it is empty.
    assert!(meta.blocks() * 512 < 100 << 20);
    assert!(start.elapsed().as_secs() < 60);
    let sb = superblock(&path);
    assert!(sb.geo.blocks() * sb.geo.block_size() > size - (256 << 20));
    // The first and the last descriptor hold.
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(&path).unwrap();
    for g in [0, 1, sb.geo.ngroups() / 2, sb.geo.ngroups() - 1] {
        let (mut desc, mut bitmap) = (vec![0; 4096], vec![0; 4096]);
        let (block, off) = sb.geo.desc_location(g);
        file.read_exact_at(&mut desc, block.get() * 4096).unwrap();
        let at = sb.geo.bitmap_block(g).get() * 4096;
        file.read_exact_at(&mut bitmap, at).unwrap();
        if group::read_desc(&desc, off, &sb.geo, g)
            .unwrap()
            .is_uninit()
        {
            group::init_bitmap(&mut bitmap, &sb.geo, g);
            assert!(g != 0 && g + 1 != sb.geo.ngroups());
        } else {
            group::verify_bitmap(&desc, off, &bitmap, &sb.geo, g).unwrap();
        }
    }
    sparse((2u64 << 40).min(size)).unwrap();
    let out = mkfs(&["-N", "-b", "1024"], &path, "");
    assert_eq!(out.status.code(), Some(1));
    let message = text(&out.stderr);
    assert!(
        message.contains("at most 1 TiB, choose larger"),
        "{message}"
    );
    fs::remove_file(&path).unwrap();
}

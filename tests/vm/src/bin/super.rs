// SPDX-License-Identifier: GPL-2.0

//! The mounted filesystem as a whole: a second mount, labels, identity, options, damage.

use calf_vmlib::device::{copy, raw};
use calf_vmlib::file::{check_pattern, open, write_pattern};
use calf_vmlib::fs::{self as cfs, with_small, Mounted, SMALL};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::sys::{self, Aligned, Loop};
use calf_vmlib::xattr;
use calf_vmlib::{
    cases, ensure, ensure_eq, ensure_errno, ktap, observe, Context, Env, Fail, Result,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode};

fn twice(env: &Env) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    cfs::mkfs(env, &small.path, &[])?;
    copy(&small.path, &env.scratch, SMALL)?;
    let mut m = Mounted::new(&small.path, &env.mnt, "")?;
    let other = env.mnt.with_extension("copy");
    let e = Mounted::new(&env.scratch, &other, "");
    ensure_errno!(e, Errno::INVAL, "mount of a copy");
    let mut both = Mounted::new(&env.scratch, &other, "nouuid").ctx("nouuid")?;
    both.umount()?;
    // The uuid is free again, also after mounts that failed.
    m.umount()?;
    Mounted::new(&env.scratch, &other, "")?.umount()
}

fn label(m: &Mounted) -> Result<String> {
    let mut text = [0xff; 256];
    sys::ioctl(&m.dir()?, sys::GETFSLABEL, &mut text).ctx("GETFSLABEL")?;
    let len = text
        .iter()
        .position(|&b| b == 0)
        .ok_or(Fail::new("no NUL"))?;
    Ok(String::from_utf8_lossy(&text[..len]).into_owned())
}

fn set_label(m: &Mounted, label: &str) -> Result<std::result::Result<i32, Errno>> {
    let mut text = [0; 256];
    text[..label.len()].copy_from_slice(label.as_bytes());
    Ok(sys::ioctl(&m.dir()?, sys::SETFSLABEL, &mut text))
}

fn labels(env: &Env) -> Result {
    with_small(env, &["-L", "first"], "", |m| {
        ensure_eq!(label(m)?, "first", "label");
        let long = "x".repeat(64);
        for new in ["second", "", &long, "s"] {
            set_label(m, new)?.ctx("SETFSLABEL")?;
            ensure_eq!(label(m)?, new, "label");
        }
        ensure_errno!(set_label(m, &"x".repeat(65))?, Errno::INVAL, "65 bytes");
        // It is durable at once.
        sys::vfs::shutdown(&m.dir()?, sys::vfs::Shutdown::NoFlush).ctx("shutdown")?;
        m.cycle_with("ro")?;
        ensure_eq!(label(m)?, "s", "label after the replay");
        ensure_errno!(
            set_label(m, "t")?,
            Errno::ROFS,
            "label on a read-only mount"
        );
        Ok(())
    })
}

fn identity(env: &Env) -> Result {
    const UUID: &str = "01234567-89ab-4def-8123-456789abcdef";
    with_small(env, &["-U", UUID], "", |m| {
        let mut uuid = [0u8; 17];
        sys::ioctl(&m.dir()?, sys::GETFSUUID, &mut uuid).ctx("GETFSUUID")?;
        let hex: String = uuid[1..].iter().map(|b| format!("{b:02x}")).collect();
        ensure_eq!((uuid[0], hex), (16, UUID.replace('-', "")), "uuid");
        let mut path = [0u8; 129];
        sys::ioctl(&m.dir()?, sys::GETFSSYSFSPATH, &mut path).ctx("GETFSSYSFSPATH")?;
        let path = String::from_utf8_lossy(&path[1..=path[0].into()]).into_owned();
        ensure_eq!(path, format!("calf/{}", m.bdev()), "sysfs path");
        let stat = |m: &Mounted| rustix::fs::statvfs(&m.mnt).ctx("statfs");
        let a = stat(m)?;
        ensure_eq!(a.f_namemax, 255, "name length");
        m.cycle()?;
        ensure_eq!(a.f_fsid, stat(m)?.f_fsid, "f_fsid");
        ensure!(a.f_fsid != 0, "f_fsid is zero");
        Ok(())
    })
}

fn options(env: &Env) -> Result {
    with_small(env, &[], "", |m| {
        ensure_eq!(m.options()?, "rw", "options by default");
        let all = "errors=remount-ro,nouuid,discard,always_cow,lazytime";
        m.cycle_with(all)?;
        for o in all.split(',') {
            ensure!(m.has_option(o)?, "no {o} in {}", m.options()?);
        }
        // mount(8) repeats what is shown when it changes something else.
        let readonly = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount_remount(
            &m.mnt,
            readonly,
            c"errors=remount-ro,nouuid,discard,always_cow",
        )
        .ctx("remount ro with the options of the mount")?;
        ensure!(m.has_option("nouuid")?, "no nouuid in {}", m.options()?);
        for (bad, what) in [
            ("errors=panic", "errors=panic"),
            ("errors", "errors without a value"),
            ("nonsense", "an unknown option"),
            ("discard=1", "a value for a flag"),
        ] {
            ensure_errno!(m.cycle_with(bad), Errno::INVAL, "{what}");
        }
        m.cycle_with("discard,nodiscard")?;
        ensure_eq!(m.options()?, "rw", "the last of two options");
        m.cycle_with("discard")?;
        let remount = |data: &std::ffi::CStr| {
            rustix::mount::mount_remount(&m.mnt, rustix::mount::MountFlags::empty(), data)
        };
        remount(c"errors=remount-ro").ctx("remount")?;
        ensure_eq!(
            m.options()?,
            "rw,errors=remount-ro,discard",
            "options after a remount"
        );
        remount(c"errors=shutdown").ctx("remount")?;
        ensure_eq!(m.options()?, "rw,discard", "options after a remount");
        // As with options from fstab that the mount did not have.
        remount(c"nodiscard").ctx("remount without discard")?;
        ensure_eq!(m.options()?, "rw", "options after a remount");
        remount(c"discard").ctx("remount with discard")?;
        for fixed in [c"always_cow", c"nouuid", c"norecovery", c"checks=error"] {
            ensure_errno!(remount(fixed), Errno::INVAL, "{fixed:?} on a live mount");
        }
        ensure_eq!(
            m.options()?,
            "rw,discard",
            "options after a refused remount"
        );
        Ok(())
    })
}

/// Makes a filesystem with a directory that is damaged.
fn damaged(env: &Env, dev: &Path) -> Result {
    cfs::mkfs(env, dev, &[])?;
    let mut m = Mounted::new(dev, &env.mnt, "")?;
    write_pattern(&open(&m.path("good"))?, 1, 0, 100_000)?;
    fs::create_dir(m.path("bad"))?;
    for i in 0..300 {
        open(&m.path(&format!("bad/{i}")))?;
    }
    m.umount()?;
    let dev = raw(&m.dev, true)?;
    let mut buf = Aligned::new(1 << 20);
    dev.read_exact_at(&mut buf, 0)?;
    let uuid: [u8; 16] = buf[40..56].try_into().unwrap();
    for at in (0..SMALL).step_by(buf.len()) {
        dev.read_exact_at(&mut buf, at)?;
        // A leaf of a directory, at its place: the journal holds copies.
        let is_leaf = |&(i, b): &(usize, &[u8])| {
            let here = at / 4096 + i as u64;
            b.starts_with(b"CALN")
                && b[8..16] == here.to_le_bytes()
                && b[24..40] == uuid
                && b[40] == 0
                && b[41] == 3
        };
        if let Some((i, _)) = buf.chunks_exact(4096).enumerate().find(is_leaf) {
            buf[i * 4096 + 4000] ^= 1;
            return dev.write_all_at(&buf, at).ctx("damage");
        }
    }
    Err(Fail::new("no directory leaf found"))
}

fn look_at_damage(m: &Mounted) -> Result {
    let e = fs::read_dir(m.path("bad")).and_then(|d| d.collect::<std::io::Result<Vec<_>>>());
    ensure!(e.is_err(), "the damaged directory was read");
    Ok(())
}

fn errors_shutdown(env: &Env) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    damaged(env, &small.path)?;
    let mut m = Mounted::new(&small.path, &env.mnt, "")?;
    look_at_damage(&m)?;
    ensure_errno!(File::open(m.path("good")), Errno::IO, "open");
    m.umount()
}

fn errors_remount_ro(env: &Env) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    damaged(env, &small.path)?;
    let mut m = Mounted::new(&small.path, &env.mnt, "errors=remount-ro")?;
    let good = open(&m.path("good"))?;
    look_at_damage(&m)?;
    cfs::drop_caches()?;
    check_pattern(&good, 1, 0, 100_000)?;
    check_pattern(&File::open(m.path("good"))?, 1, 0, 100_000)?;
    ensure_errno!(
        xattr::get(&m.path("good"), "user.a"),
        Errno::NODATA,
        "getxattr"
    );
    ensure!(xattr::list(&m.path("good"))?.is_empty(), "attributes");
    sys::vfs::get_fsx(&good).ctx("FS_IOC_FSGETXATTR")?;
    ensure_errno!(good.write_all_at(&[1], 0), Errno::ROFS, "write");
    ensure_errno!(fs::create_dir(m.path("new")), Errno::ROFS, "mkdir");
    ensure!(m.has_option("emergency_ro")?, "shown: {}", m.options()?);
    drop(good);
    let mut now = 2u32.to_le_bytes();
    sys::ioctl(&m.dir()?, sys::GOINGDOWN, &mut now).ctx("shutdown")?;
    ensure_errno!(fs::read(m.path("good")), Errno::IO, "read after a shutdown");
    m.umount()?;
    is_recorded(&mut m)
}

/// The error is on record, and nothing else has changed.
fn is_recorded(m: &mut Mounted) -> Result {
    m.cycle_with("ro")?;
    check_pattern(&File::open(m.path("good"))?, 1, 0, 100_000)?;
    m.cycle_with("")?;
    m.umount()?;
    let mut block = Aligned::new(4096);
    raw(&m.dev, false)?.read_exact_at(&mut block, 0)?;
    ensure_eq!(
        (block[140] & 2, block[248]),
        (2, 117),
        "state and error_code"
    );
    Ok(())
}

/// Damage behind sound nodes: what it is, how it is done, and what finds it.
type Harm = (
    &'static str,
    fn(&Env, &Path) -> Result,
    fn(&Mounted) -> Result,
);

const HARM: [Harm; 3] = [
    ("a bit of a bitmap", flip_bitmap, allocate),
    (
        "a bitmap that its descriptor does not fit",
        |env, dev| damage(env, dev, "bitmap.mixed low-bit"),
        allocate,
    ),
    (
        "the size of a symbolic link",
        |env, dev| damage(env, dev, "inode(symlink).size add"),
        |m| fs::read_link(m.path("link")).map(drop).ctx("readlink"),
    ),
];

/// Flips a bit in the bitmap of group 0, of a free block.
fn flip_bitmap(_: &Env, dev: &Path) -> Result {
    let dev = raw(dev, true)?;
    let mut block = Aligned::new(4096);
    dev.read_exact_at(&mut block, 0)?;
    let desc_blocks = u64::from_le_bytes(block[160..168].try_into().unwrap());
    let at = (1 + desc_blocks) * 4096;
    dev.read_exact_at(&mut block, at)?;
    block[1400] ^= 1;
    dev.write_all_at(&block, at).ctx("damage")
}

/// Damages a field, and puts the checksum right.
fn damage(env: &Env, dev: &Path, field: &str) -> Result {
    let mut tool = Command::new(env.tool("calf-damage"));
    let (status, text) = cfs::command(tool.args(["--field", field]).arg(dev))?;
    let done = status == 0 && text.trim_end().ends_with("done");
    ensure!(done, "calf-damage exits with {status}:\n{text}");
    // Nothing of it stays in the device's cache, where it counts as verified.
    cfs::drop_caches()
}

fn allocate(m: &Mounted) -> Result {
    let f = open(&m.path("more"))?;
    write_pattern(&f, 2, 0, 50_000)?;
    f.sync_all().ctx("fsync")
}

/// Finds `harm` in a filesystem mounted with `opts`, and calls `after` with a file that was open before. In the end the
/// error is on record.
fn find_harm(
    env: &Env,
    (_, harm, look): Harm,
    opts: &str,
    after: fn(&Mounted, &File) -> Result,
) -> Result {
    let small = Loop::new(&env.dev, SMALL).ctx("loop device")?;
    cfs::mkfs(env, &small.path, &[])?;
    let mut m = Mounted::new(&small.path, &env.mnt, "")?;
    write_pattern(&open(&m.path("good"))?, 1, 0, 100_000)?;
    std::os::unix::fs::symlink("target", m.path("link"))?;
    m.umount()?;
    harm(env, &small.path)?;
    m.cycle_with(opts)?;
    let good = open(&m.path("good"))?;
    ensure_errno!(look(&m), Errno::UCLEAN, "the first call");
    after(&m, &good)?;
    drop(good);
    m.umount()?;
    is_recorded(&mut m)
}

/// [`find_harm`] for every [`HARM`].
fn find_all(env: &Env, opts: &str, after: fn(&Mounted, &File) -> Result) -> Result {
    let all = HARM.map(|harm| find_harm(env, harm, opts, after).ctx(harm.0));
    let wrong: Vec<_> = all.into_iter().filter_map(Result::err).collect();
    for e in &wrong {
        ktap::note(&e.to_string());
    }
    ensure!(wrong.is_empty(), "{} kinds of damage", wrong.len());
    Ok(())
}

fn harm_shuts_down(env: &Env) -> Result {
    find_all(env, "", |m, good| {
        ensure_errno!(fs::create_dir(m.path("new")), Errno::IO, "mkdir");
        ensure_errno!(File::open(m.path("none")), Errno::IO, "open");
        ensure_errno!(good.write_all_at(&[1], 0), Errno::IO, "write");
        ensure_errno!(good.read_at(&mut [0], 0), Errno::IO, "read");
        Ok(())
    })
}

fn harm_ends_writing(env: &Env) -> Result {
    find_all(env, "errors=remount-ro", |m, good| {
        ensure_errno!(fs::create_dir(m.path("new")), Errno::ROFS, "mkdir");
        ensure_errno!(good.write_all_at(&[1], 0), Errno::ROFS, "write");
        ensure!(m.has_option("emergency_ro")?, "shown: {}", m.options()?);
        cfs::drop_caches()?;
        check_pattern(good, 1, 0, 100_000)?;
        check_pattern(&File::open(m.path("good"))?, 1, 0, 100_000)
    })
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            twice,
            labels,
            identity,
            options,
            errors_shutdown,
            errors_remount_ro,
            harm_shuts_down,
            harm_ends_writing,
            no_kernel_warning,
        ],
        |_| {},
    )
}

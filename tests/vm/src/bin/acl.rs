// SPDX-License-Identifier: GPL-2.0

//! POSIX ACLs.

use calf_vmlib::fs::with_fs;
use calf_vmlib::user::as_user;
use calf_vmlib::xattr::{check, get, list};
use calf_vmlib::{cases, ensure, ensure_eq, ensure_errno, ktap, Context, Env, Fail, Result};
use rustix::fs::{removexattr, setxattr, FileType, Mode, XattrFlags, CWD};
use rustix::io::Errno;
use rustix::process::umask;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

const ANY: XattrFlags = XattrFlags::empty();
const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An entry of an ACL: tag, permissions, id.
type Entry = (u16, u16, u32);
const NO_ID: u32 = u32::MAX;
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

fn acl(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn mode_of(path: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(path)?.mode() & 0o7777)
}

/// ACLs are a matter of the kernel's configuration.
fn need_acls() -> Result {
    let symbols = fs::read_to_string("/proc/kallsyms").ctx("kallsyms")?;
    if symbols.contains(" posix_acl_chmod") {
        return Ok(());
    }
    Err(Fail::skip("the kernel has no CONFIG_FS_POSIX_ACL"))
}

/// rwx for the owner, `user` for user 1000, `mask`, nothing for others.
fn sample(user: u16, mask: u16) -> Vec<u8> {
    acl(&[
        (USER_OBJ, 7, NO_ID),
        (USER, user, 1000),
        (GROUP_OBJ, 5, NO_ID),
        (GROUP, 4, 2000),
        (MASK, mask, NO_ID),
        (OTHER, 0, NO_ID),
    ])
}

fn acls_and_modes(env: &Env) -> Result {
    need_acls()?;
    with_fs(env, &[], "", |m| {
        let f = m.path("f");
        fs::write(&f, "text")?;
        fs::set_permissions(&f, Permissions::from_mode(0o640))?;
        let reads = |id| as_user(id, id, || Ok(File::open(&f)?)).is_ok();
        ensure!(!reads(1000), "user 1000 reads without an ACL");
        setxattr(&f, ACCESS, &sample(4, 7), ANY)?;
        check(&f, ACCESS, &sample(4, 7))?;
        ensure_eq!(mode_of(&f)?, 0o770, "mode: the group bits are the mask");
        ensure!(reads(1000), "user 1000 does not read with an ACL");
        ensure!(!reads(1001), "user 1001 reads");
        ensure!(reads(2000), "a member of group 2000 does not read");
        ensure!(list(&f)?.contains(ACCESS), "not listed");
        // chmod moves the mask.
        fs::set_permissions(&f, Permissions::from_mode(0o700))?;
        let masked = acl(&[
            (USER_OBJ, 7, NO_ID),
            (USER, 4, 1000),
            (GROUP_OBJ, 5, NO_ID),
            (GROUP, 4, 2000),
            (MASK, 0, NO_ID),
            (OTHER, 0, NO_ID),
        ]);
        check(&f, ACCESS, &masked)?;
        ensure!(!reads(1000), "user 1000 reads against the mask");
        m.cycle()?;
        check(&f, ACCESS, &masked)?;
        ensure_eq!(mode_of(&f)?, 0o700, "mode after a remount");
        ensure!(!reads(1000), "user 1000 reads after a remount");
        // An ACL that says no more than a mode is one.
        let plain = acl(&[
            (USER_OBJ, 6, NO_ID),
            (GROUP_OBJ, 4, NO_ID),
            (OTHER, 4, NO_ID),
        ]);
        setxattr(&f, ACCESS, &plain, ANY)?;
        ensure_eq!(mode_of(&f)?, 0o644, "mode from a plain ACL");
        ensure_errno!(get(&f, ACCESS), Errno::NODATA, "a plain ACL");
        ensure_eq!(list(&f)?.len(), 0, "attributes");
        ensure!(reads(1001), "user 1001 does not read 0644");
        // What is no ACL, and what is none for a file.
        ensure_errno!(
            setxattr(&f, ACCESS, b"nonsense", ANY),
            Errno::OPNOTSUPP,
            "version"
        );
        ensure_errno!(
            setxattr(&f, ACCESS, &masked[..20], ANY),
            Errno::INVAL,
            "half of one"
        );
        ensure_errno!(
            setxattr(&f, DEFAULT, &masked, ANY),
            Errno::ACCESS,
            "default of a file"
        );
        ensure_errno!(
            as_user(1000, 1000, || Ok(setxattr(&f, ACCESS, &masked, ANY)?)),
            Errno::PERM,
            "ACL of another's file"
        );
        setxattr(&f, ACCESS, &masked, ANY)?;
        removexattr(&f, ACCESS)?;
        ensure_errno!(get(&f, ACCESS), Errno::NODATA, "removed");
        m.cycle()?;
        ensure_errno!(get(&f, ACCESS), Errno::NODATA, "removed, after a remount");
        Ok(())
    })
}

fn default_acls_are_inherited(env: &Env) -> Result {
    need_acls()?;
    with_fs(env, &[], "", |m| {
        let old = umask(Mode::from_raw_mode(0o027));
        let d = m.path("d");
        let plain = m.path("plain");
        fs::create_dir(&d)?;
        File::create(&plain)?;
        ensure_eq!(mode_of(&d)?, 0o750, "directory under the umask");
        ensure_eq!(mode_of(&plain)?, 0o640, "file under the umask");
        let default = sample(7, 7);
        setxattr(&d, DEFAULT, &default, ANY)?;
        File::create(d.join("file"))?;
        fs::create_dir(d.join("dir"))?;
        symlink("nowhere", d.join("link"))?;
        rustix::fs::mknodat(
            CWD,
            d.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o666),
            0,
        )?;
        umask(old);
        m.cycle()?;
        // The mask is what was asked for: 0666 or 0777; the umask does not count.
        for (n, owner, mask, mode) in [
            ("file", 6, 6, 0o660),
            ("fifo", 6, 6, 0o660),
            ("dir", 7, 7, 0o770),
        ] {
            let p = d.join(n);
            ensure_eq!(mode_of(&p)?, mode, "{n}: mode");
            let mut want = sample(7, mask);
            want[6] = owner as u8;
            check(&p, ACCESS, &want).ctx(n)?;
            if n == "dir" {
                check(&p, DEFAULT, &default)?;
            } else {
                ensure_errno!(get(&p, DEFAULT), Errno::NODATA, "default ACL of a {n}");
            }
        }
        ensure_eq!(list(&d.join("link"))?.len(), 0, "attributes of a link");
        as_user(1000, 1000, || {
            // Through /d, where user 1000 has no rights of its own.
            ensure_errno!(
                File::open(d.join("file")),
                Errno::ACCESS,
                "through the directory"
            );
            Ok(())
        })?;
        fs::set_permissions(&d, Permissions::from_mode(0o755))?;
        as_user(1000, 1000, || {
            OpenOptions::new()
                .write(true)
                .open(d.join("file"))?
                .write_all(b"x")?;
            Ok(())
        })
        .ctx("write as user 1000")?;
        removexattr(&d, DEFAULT)?;
        File::create(d.join("after"))?;
        ensure_errno!(
            get(&d.join("after"), ACCESS),
            Errno::NODATA,
            "without default"
        );
        Ok(())
    })
}

fn the_largest_acl(env: &Env) -> Result {
    need_acls()?;
    with_fs(env, &["-b", "1024"], "", |m| {
        let entries = |n: u32| {
            let mut all = vec![(USER_OBJ, 7, NO_ID)];
            all.extend((0..n - 4).map(|i| (USER, 7, 1000 + i)));
            all.extend([(GROUP_OBJ, 5, NO_ID), (MASK, 7, NO_ID), (OTHER, 0, NO_ID)]);
            acl(&all)
        };
        let d = m.path("d");
        fs::create_dir(&d)?;
        ensure_errno!(
            setxattr(&d, DEFAULT, &entries(4096), ANY),
            Errno::TOOBIG,
            "4096 entries"
        );
        let largest = entries(4095);
        setxattr(&d, DEFAULT, &largest, ANY)?;
        // Name, inode and two ACLs of 32 KiB in one transaction.
        fs::create_dir(d.join("e"))?;
        File::create(d.join("e/f"))?;
        m.cycle()?;
        check(&d.join("e"), DEFAULT, &largest)?;
        check(&d.join("e"), ACCESS, &largest)?;
        ensure_eq!(mode_of(&d.join("e/f"))?, 0o660, "mode");
        ensure_eq!(
            get(&d.join("e/f"), ACCESS)?.len(),
            largest.len(),
            "ACL of a file"
        );
        Ok(())
    })
}

fn main() -> ExitCode {
    ktap::run(
        &Env::new(),
        cases![acls_and_modes, default_acls_are_inherited, the_largest_acl],
        |_| (),
    )
}

// SPDX-License-Identifier: GPL-2.0

//! A device-mapper device with one target, made without `dmsetup`: by the ioctls of `linux/dm-ioctl.h`.

use crate::error::Context;
use crate::fs::command;
use crate::gate::until;
use crate::sys::ioctl;
use crate::{ensure, Fail, Result};
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Command;

/// `sizeof(struct dm_ioctl)`.
const HEAD: usize = 312;
/// Offsets in `struct dm_ioctl`.
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGETS: usize = 20;
const FLAGS: usize = 28;
const DEV: usize = 40;
const NAME: usize = 48;
const NAME_LEN: usize = 128;

const DEV_CREATE: u32 = 3;
const DEV_REMOVE: u32 = 4;
const DEV_SUSPEND: u32 = 6;
const TABLE_LOAD: u32 = 9;
const TARGET_MSG: u32 = 14;

/// `DM_SUSPEND_FLAG`.
const SUSPEND: u32 = 1 << 1;
/// `DM_SKIP_LOCKFS_FLAG`: whoever has it mounted is not asked to write everything first.
const SKIP_LOCKFS: u32 = 1 << 10;

/// Loads the module with a target (`dm-flakey`). Skips the case if there is none.
pub fn load_target(module: &str) -> Result {
    let (status, text) = command(Command::new("modprobe").arg(module))?;
    match status {
        0 => Ok(()),
        _ => Err(Fail::skip(format!("no {module}: {text}"))),
    }
}

/// A device; it goes when this is dropped.
pub struct Dm {
    control: File,
    name: String,
    sectors: u64,
    /// Its path.
    pub path: PathBuf,
    up: bool,
}

impl Dm {
    /// Makes the device `name` of `sectors` sectors of 512 bytes: a target of type `kind` with these
    /// arguments. The module with the target must be loaded.
    pub fn new(name: &str, sectors: u64, kind: &str, args: &str) -> Result<Dm> {
        ensure!(name.len() < NAME_LEN, "{name}: too long");
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/mapper/control")
            .ctx("open /dev/mapper/control")?;
        let mut dm = Dm {
            control,
            name: name.into(),
            sectors,
            path: PathBuf::new(),
            up: false,
        };
        let answer = dm.request(DEV_CREATE, 0, 0, &[]).ctx("DM_DEV_CREATE")?;
        dm.up = true;
        let dev = u64::from_le_bytes(answer[DEV..DEV + 8].try_into().unwrap_or_default());
        // As `new_encode_dev` has put it together.
        let minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
        dm.path = format!("/dev/dm-{minor}").into();
        dm.switch(kind, args)?;
        Ok(dm)
    }

    /// From now on the device is a target of type `kind` with these arguments. Requests that are under way are waited
    /// for; a filesystem on it is not told.
    pub fn switch(&self, kind: &str, args: &str) -> Result {
        ensure!(kind.len() < 16, "{kind}: too long");
        // `struct dm_target_spec`: start, length, status, offset of the next, type; the arguments follow.
        let mut spec = Vec::new();
        spec.extend(0u64.to_le_bytes());
        spec.extend(self.sectors.to_le_bytes());
        spec.extend(0u64.to_le_bytes());
        let mut word = [0u8; 16];
        word[..kind.len()].copy_from_slice(kind.as_bytes());
        spec.extend(word);
        spec.extend(args.as_bytes());
        spec.push(0);
        self.request(TABLE_LOAD, 0, 1, &spec)
            .ctx(format!("DM_TABLE_LOAD {kind} {args}"))?;
        self.resume()
    }

    /// Takes the newest table; requests are answered again.
    fn resume(&self) -> Result {
        // It is the flag that is not there.
        self.request(DEV_SUSPEND, SKIP_LOCKFS, 0, &[])
            .ctx("DM_DEV_SUSPEND, to resume")?;
        Ok(())
    }

    /// Requests are taken and not answered, until what this returns is dropped. Those that are under way are waited for; a
    /// filesystem on it is not told.
    pub fn suspend(&self) -> Result<Suspended<'_>> {
        self.request(DEV_SUSPEND, SUSPEND | SKIP_LOCKFS, 0, &[])
            .ctx("DM_DEV_SUSPEND")?;
        Ok(Suspended(self))
    }

    fn request(&self, nr: u32, flags: u32, targets: u32, data: &[u8]) -> crate::Result<Vec<u8>> {
        let size = (HEAD + data.len()).next_multiple_of(8);
        let mut arg = vec![0u8; size];
        let mut put = |at: usize, v: u32| arg[at..at + 4].copy_from_slice(&v.to_le_bytes());
        put(0, 4);
        put(DATA_SIZE, size as u32);
        put(DATA_START, HEAD as u32);
        put(TARGETS, targets);
        put(FLAGS, flags);
        arg[NAME..NAME + self.name.len()].copy_from_slice(self.name.as_bytes());
        arg[HEAD..HEAD + data.len()].copy_from_slice(data);
        // `_IOWR(0xfd, nr, struct dm_ioctl)`
        let cmd = 3 << 30 | (HEAD as u32) << 16 | 0xfd << 8 | nr;
        ioctl(&self.control, cmd, &mut arg)?;
        Ok(arg)
    }

    /// Sends the target a message.
    pub fn message(&self, text: &str) -> Result {
        // `struct dm_target_msg`: the sector, then the text.
        let mut data = vec![0u8; 8];
        data.extend(text.as_bytes());
        data.push(0);
        self.request(TARGET_MSG, 0, 0, &data)
            .ctx(format!("DM_TARGET_MSG {text}"))?;
        Ok(())
    }

    /// Removes the device. Nobody may have it open; whoever looked at it a moment ago is gone soon.
    pub fn remove(&mut self) -> Result {
        if !self.up {
            return Ok(());
        }
        let mut outcome = Ok(Vec::new());
        // Whether it went on too long is in the outcome.
        let _ = until("remove a dm device", || {
            outcome = self.request(DEV_REMOVE, 0, 0, &[]);
            !matches!(&outcome, Err(e) if e.errno == Some(libc::EBUSY))
        });
        outcome.ctx("DM_DEV_REMOVE")?;
        self.up = false;
        Ok(())
    }
}

/// A device that answers nothing; it goes on when this is dropped, or [`Dm::switch`] is called.
pub struct Suspended<'a>(&'a Dm);

impl Drop for Suspended<'_> {
    fn drop(&mut self) {
        // A device that does not go on hangs the next that asks it, and that is reported.
        let _ = self.0.resume();
    }
}

impl Drop for Dm {
    fn drop(&mut self) {
        // The next test needs the name; a failure shows there.
        let _ = self.remove();
    }
}

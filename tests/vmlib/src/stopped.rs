// SPDX-License-Identifier: GPL-2.0

//! A disk that can be stopped, and threads that stand still because of it.

use crate::dm::{load_target, Dm};
use crate::gate::{is_blocked, until};
use crate::nullb::NullDisk;
use crate::{Env, Result};
use std::sync::mpsc::{channel, Receiver};
use std::thread::{Scope, ScopedJoinHandle};

/// A disk in memory, and above it a device that can be stopped.
pub struct Disk {
    /// The device.
    pub dm: Dm,
    table: String,
    // The last to go.
    _under: NullDisk,
}

impl Disk {
    /// One of `mib` MiB; `name` is the beginning of the names of both devices. Skips the case without device mapper.
    pub fn new(name: &str, mib: u32) -> Result<Disk> {
        load_target("dm-mod")?;
        let under = NullDisk::new(&format!("{name}0"), mib, &[])?;
        let table = format!("{} 0", under.path.display());
        let dm = Dm::new(name, u64::from(mib) << 11, "linear", &table)?;
        let _under = under;
        Ok(Disk { dm, table, _under })
    }

    /// From now on every request fails, or none does.
    pub fn fail(&self, all: bool) -> Result {
        match all {
            true => self.dm.switch("error", ""),
            false => self.dm.switch("linear", &self.table),
        }
    }

    /// `env` with this disk for its device.
    pub fn env(&self, env: &Env) -> Env {
        Env {
            dev: self.dm.path.clone(),
            ..env.clone()
        }
    }
}

/// Something that another thread does, and its number.
pub struct Doing<'s, T> {
    thread: ScopedJoinHandle<'s, Result<T>>,
    tid: Receiver<i32>,
}

/// Starts `f` in another thread.
pub fn start<'s, 'e, T: Send + 's>(
    s: &'s Scope<'s, 'e>,
    f: impl FnOnce() -> Result<T> + Send + 's,
) -> Doing<'s, T> {
    let (tell, tid) = channel();
    let thread = s.spawn(move || {
        // Who waits for it is there until the thread has ended.
        let _ = tell.send(rustix::thread::gettid().as_raw_nonzero().get());
        f()
    });
    Doing { thread, tid }
}

impl<T> Doing<'_, T> {
    /// Waits until it has ended or stands still; whether it stands still.
    pub fn is_stopped(&self) -> Result<bool> {
        let tid = self.tid.recv().map_err(|_| "no thread")?;
        let mut stopped = false;
        until("the thread to end or to stand still", || {
            stopped = is_blocked(tid);
            stopped || self.thread.is_finished()
        })?;
        Ok(stopped)
    }

    /// Waits until it has ended.
    pub fn result(self) -> Result<T> {
        self.thread.join().expect("the thread panicked")
    }
}

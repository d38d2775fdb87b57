// SPDX-License-Identifier: GPL-2.0

//! Being somebody else than root.

use crate::Result;
use rustix::process::{Gid, Uid};

/// Runs `f` as an ordinary user: in a thread of its own, which has given all privileges up.
pub fn as_user<T: Send>(uid: u32, gid: u32, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|s| {
        let user = s.spawn(|| {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::thread::set_thread_groups(&[])?;
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            f()
        });
        user.join().unwrap_or(Err("a thread panicked".into()))
    })
}

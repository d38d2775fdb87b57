// SPDX-License-Identifier: GPL-2.0

//! The clock of time stamps.

/// The clock of time stamps: seconds, nanoseconds. (rustix finds no such clock in User Mode Linux, which has no vDSO.)
pub fn coarse_time() -> (i64, i64) {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is a `struct timespec` that lives over the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut t) };
    (t.tv_sec, t.tv_nsec)
}

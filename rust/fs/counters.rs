// SPDX-License-Identifier: GPL-2.0

//! Counters of one mount, shown in debugfs as `calf/<device>/counters`.
//!
//! Gauges go up and down and are 0 again when the mount is idle and clean; event counters only go
//! up. A test compares them before and after.

use core::fmt;
use kernel::sync::atomic::{Atomic, Relaxed};

/// One number that any task may change at any time.
pub struct Counter(Atomic<i64>);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        // CAST: Counts of blocks and events stay far below 2^63.
        self.0.fetch_add(n as i64, Relaxed);
    }

    /// Subtracts `n`.
    pub fn sub(&self, n: u64) {
        // CAST: See `add`.
        self.0.fetch_sub(n as i64, Relaxed);
    }

    /// Counts one event.
    pub fn inc(&self) {
        self.add(1)
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// All counters of a mount.
        #[derive(Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        // The debugfs file of the kernel crate prints the `Debug` form.
        impl fmt::Debug for Counters {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut sep = "";
                $(
                    write!(f, "{}{} {}", sep, stringify!($name), self.$name.get())?;
                    sep = "\n";
                )*
                // The last value of `sep` has no reader.
                let _ = sep;
                Ok(())
            }
        }
    };
}

counters! {
    /// Gauge: blocks reserved for staged data that has no block yet.
    delalloc_reserved,
    /// Event: a mapping was found stale and asked for again.
    stale_hits,
    /// Event: writeback found a dirty block without a reservation and made one (C6).
    unreserved_writeback,
    /// Event: an I/O completion found its block remapped by an overlapping write (C2).
    superseded_completions,
    /// Event: I/O that failed.
    io_errors,
    /// Event: inodes evicted after their last unlink.
    evicted_unlinked,
    /// Event: orphan records worked off by mount.
    orphans_recovered,
}

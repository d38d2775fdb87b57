// SPDX-License-Identifier: GPL-2.0

//! Log lines that name the device they are about: `calf (vda): text`.
//!
//! C header: [`include/linux/printk.h`](srctree/include/linux/printk.h)

use super::fs::FileSystem;
use core::ffi::CStr;
use core::fmt::{self, Write};
use kernel::prelude::fmt;
use kernel::print::{call_printk, format_strings};

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd, and calf goes on.
    Warning,
    /// For the record.
    Info,
}

/// Longest prefix: file system name, device name (`BDEVNAME_SIZE`), punctuation.
const PREFIX_MAX: usize = 64;

/// A byte buffer that truncates and keeps its last byte NUL.
struct Prefix {
    buf: [u8; PREFIX_MAX],
    len: usize,
}

impl Write for Prefix {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for b in s.bytes() {
            if let Some(slot) = self.buf.get_mut(self.len) {
                if self.len < PREFIX_MAX - 1 {
                    *slot = b;
                    self.len += 1;
                }
            }
        }
        Ok(())
    }
}

/// Prints one line with the prefix `fs (id)`. Safe in any context that may call `printk`.
pub fn log<T: FileSystem>(level: Level, id: &CStr, args: kernel::fmt::Arguments<'_>) {
    let mut prefix = Prefix {
        buf: [0; PREFIX_MAX],
        len: 0,
    };
    let name = T::NAME.to_str().unwrap_or("?");
    // NO-FAIL: `write_str` above never fails.
    let _ = write!(prefix, "{} ({})", name, id.to_str().unwrap_or("?"));
    let format = match level {
        Level::Error => &format_strings::ERR,
        Level::Warning => &format_strings::WARNING,
        Level::Info => &format_strings::INFO,
    };
    // Without a newline nobody could read the line before the next one is printed.
    // SAFETY: The format string is one of `format_strings`, and the last byte of `prefix` is
    // always NUL.
    unsafe { call_printk(format, &prefix.buf, fmt!("{}\n", args)) };
}

// SPDX-License-Identifier: GPL-2.0

//! Names of addresses, and the trace event.
//!
//! C header: [`include/linux/kallsyms.h`](srctree/include/linux/kallsyms.h)

use super::inode::InodeRef;
use crate::bindings;
use core::ffi::CStr;
use core::fmt;
use kernel::ffi::{c_char, c_int};
use kernel::str::CStrExt as _;

/// Bytes kept of a symbol's name.
pub(crate) const NAME_MAX: usize = 72;

/// The name of a symbol, with that of its module.
#[derive(Clone, Copy)]
pub(crate) struct Symbol {
    buf: [u8; NAME_MAX],
    len: usize,
}

impl Symbol {
    /// Looks `address` up; 0 has no name. Needs about a kilobyte of stack, may be called from any
    /// context that may not sleep.
    pub(crate) fn of(address: usize) -> Self {
        Self::look(address, |buf| {
            // SAFETY: The buffer is as large as the function demands.
            unsafe { bindings::check_symbol(buf, address) }
        })
    }

    /// The name of a table of operations, or of its first function. Otherwise as [`Symbol::of`].
    pub(crate) fn of_table(address: usize) -> Self {
        Self::look(address, |buf| {
            // SAFETY: As above; the table is read as memory that may not be there.
            unsafe { bindings::check_table_symbol(buf, address) }
        })
    }

    fn look(address: usize, name: impl FnOnce(*mut c_char) -> c_int) -> Self {
        let mut all = [0u8; bindings::CHECK_SYMBOL_LEN as usize];
        let mut new = Self {
            buf: [0; NAME_MAX],
            len: 0,
        };
        if address == 0 {
            return new;
        }
        let len = name(all.as_mut_ptr().cast());
        let name = all.get(..usize::try_from(len).unwrap_or(0)).unwrap_or(&[]);
        // Where there is no symbol stands the address, which the log is not to tell everybody.
        let name = if name.starts_with(b"0x") { &[] } else { name };
        // Rust's names are long: what is cut is the middle, the module's name stays.
        let module = name.iter().rposition(|b| *b == b' ').unwrap_or(name.len());
        let (name, module) = name.split_at(module);
        let room = NAME_MAX.saturating_sub(module.len());
        let kept = name.iter().take(room).chain(module);
        for (to, from) in new.buf.iter_mut().zip(kept) {
            *to = *from;
            new.len += 1;
        }
        new
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.buf.get(..self.len).unwrap_or(&[]);
        match core::str::from_utf8(text) {
            Ok("") | Err(_) => f.write_str("-"),
            Ok(name) => f.write_str(name),
        }
    }
}

/// One event `iomap_check:iomap_check_report`.
pub(crate) struct Event<'a> {
    pub(crate) inode: InodeRef<'a>,
    pub(crate) rule: &'static CStr,
    pub(crate) pos: i64,
    pub(crate) len: u64,
    pub(crate) flags: u32,
    pub(crate) why: &'a str,
}

impl Event<'_> {
    /// Fires it. Any context.
    pub(crate) fn fire(&self) {
        // Cut where it is too long; the last byte stays NUL.
        let mut why = [0u8; 96];
        let room = why.len() - 1;
        for (to, from) in why.iter_mut().take(room).zip(self.why.bytes()) {
            *to = from;
        }
        // SAFETY: The inode is valid, the strings end with NUL; all are copied.
        unsafe {
            bindings::check_trace_report(
                self.inode.as_ptr(),
                self.rule.as_char_ptr(),
                self.inode.fs_name().as_char_ptr(),
                self.pos as u64,
                self.len,
                self.flags,
                why.as_ptr().cast(),
            )
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Swapping to a file.

use super::{last, Result};

/// Swaps to a file.
pub fn swapon(path: &std::ffi::CStr) -> Result<()> {
    // SAFETY: the path is a C string.
    match unsafe { libc::swapon(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

/// Ends swapping to a file.
pub fn swapoff(path: &std::ffi::CStr) -> Result<()> {
    // SAFETY: the path is a C string.
    match unsafe { libc::swapoff(path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Raw bindings: the kernel crate's own, plus iomap and the C helpers of this module.
//!
//! Only [`crate::kapi`] may use this module.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::ffi;
#[allow(unused_imports)]
use pin_init::{MaybeZeroable, Zeroable};

#[allow(unused_imports)]
pub(crate) use kernel::bindings::*;

include!(concat!(env!("CHECK_GEN"), "/check_bindings_generated.rs"));

// SPDX-License-Identifier: GPL-2.0

//! Raw bindings: the kernel crate's own, plus what calf needs beside them.
//!
//! Only [`crate::kapi`] and [`crate::seam`] may use this module. Items generated here shadow the
//! glob import, so the types that the kernel crate keeps opaque (`iomap_ops`, `buffer_head`,
//! `fs_context`, ...) are the complete ones; a pointer that crosses to a function of
//! `kernel::bindings` needs a `.cast()`.

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
use pin_init::{MaybeZeroable, Zeroable};

#[allow(unused_imports)]
pub(crate) use kernel::bindings::*;

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;
type __kernel_ptrdiff_t = isize;

// SAFETY: `__BindgenBitfieldUnit<Storage>` is a newtype around `Storage`.
unsafe impl<Storage> Zeroable for __BindgenBitfieldUnit<Storage> where Storage: Zeroable {}

include!(concat!(env!("CALF_GEN"), "/calf_bindings_generated.rs"));

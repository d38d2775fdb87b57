// SPDX-License-Identifier: GPL-2.0

//! What the calf tools share: devices, making a filesystem, journal replay, the checker, and an
//! editor of images for tests.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod claim;
pub mod damage;
pub mod device;
pub mod editor;
pub mod fields;
pub mod log;
pub mod log_fields;
pub mod make;
pub mod mutate;
pub mod probe;
pub mod say;
pub mod seal;

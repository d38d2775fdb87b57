// SPDX-License-Identifier: GPL-2.0

//! Safe views of what the tracepoints and probes hand over, and the attaching to them.

pub(crate) mod hooks;
pub(crate) mod inode;
pub(crate) mod iter;
pub(crate) mod probe;
pub(crate) mod symbol;

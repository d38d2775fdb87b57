// SPDX-License-Identifier: GPL-2.0

//! What a tool says while it works. If nobody reads it, or there is no room for it, the work goes on all the
//! same: a repair that stops for its words is worse than one that nobody heard of.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line.
pub fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints a line where errors go, after the name of the tool.
pub fn error(tool: &str, text: impl Display) {
    let _ = writeln!(io::stderr(), "{tool}: {text}");
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! An operation as a table for people.

use crate::story::{Operation, Step, What};
use std::fmt::{self, Display, Formatter};

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(pos) => write!(f, "{:<12} at {pos:#x}", "begin"),
            Self::Destination(map) => write!(f, "{:<12} {map}", "destination"),
            Self::Source(map) => write!(f, "{:<12} {map}", "source"),
            Self::End(advanced, 0) => write!(f, "{:<12} {advanced:#x} bytes done", "end"),
            Self::End(advanced, status) => {
                write!(f, "{:<12} {advanced:#x} bytes done, status {status}", "end")
            }
            Self::Ioend(pos, len, map) => {
                write!(f, "{:<12} {pos:#x}+{len:#x} through {map}", "ioend")
            }
            Self::Note(name, text) => {
                let name = name.strip_prefix("iomap_").unwrap_or(name);
                write!(f, "{name:<12} {text}")
            }
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "  {:>12.6}  {}", self.time, self.what)?;
        for b in &self.broken {
            write!(f, "\n  {:>12}  !! {} {}", "", b.rule, b.why)?;
        }
        Ok(())
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.task, self.name)?;
        if !self.flags.is_empty() {
            write!(f, " ({})", self.flags)?;
        }
        writeln!(f, " on {}", self.file)?;
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            // The last call of an iteration asks for nothing.
            let last = steps.peek().is_none() && self.steps.len() > 1;
            if !(last && matches!(step.what, What::Begin(_))) {
                writeln!(f, "{step}")?;
            }
        }
        Ok(())
    }
}

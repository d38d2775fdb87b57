// SPDX-License-Identifier: GPL-2.0

//! Findings: what is wrong, where, and what to do about it.

use std::fmt;

/// What may be done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// fsck.calf can do it (`-y`).
    Possible,
    /// It cannot, yet.
    None,
}

/// The findings so far.
pub struct Report {
    out: Box<dyn FnMut(&str)>,
    left: u64,
    repairable: u64,
    lasting: u64,
}

/// Lines printed at most.
pub const LINES: u64 = 200;

impl Report {
    /// Findings go to `out`, up to [`LINES`] of them.
    pub fn new(out: impl FnMut(&str) + 'static) -> Self {
        Self {
            out: Box::new(out),
            left: LINES,
            repairable: 0,
            lasting: 0,
        }
    }

    fn line(&mut self, text: &str) {
        match self.left {
            0 => return,
            1 => (self.out)("more findings are counted, but not shown"),
            _ => (self.out)(text),
        }
        self.left = self.left.saturating_sub(1);
    }

    /// Something is wrong.
    pub fn error(&mut self, repair: Repair, text: fmt::Arguments<'_>) {
        let hint = match repair {
            Repair::Possible => {
                self.repairable = self.repairable.saturating_add(1);
                "fsck.calf -y repairs it"
            }
            Repair::None => {
                self.lasting = self.lasting.saturating_add(1);
                "cannot be repaired yet; copy out what you need, or restore from a backup"
            }
        };
        self.line(&format!("{text}; {hint}"));
    }

    /// Something the user should know, but nothing is wrong.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        (self.out)(&format!("note: {text}"));
    }

    /// Findings that `-y` repairs.
    pub fn repairable(&self) -> u64 {
        self.repairable
    }

    /// Findings that stay.
    pub fn lasting(&self) -> u64 {
        self.lasting
    }

    /// All findings.
    pub fn errors(&self) -> u64 {
        self.repairable.saturating_add(self.lasting)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Findings: what is wrong, where, and what was done about it.

use std::fmt;

/// The findings so far, and the repairs.
pub struct Report {
    out: Box<dyn FnMut(&str)>,
    left: u64,
    hint: &'static str,
    errors: u64,
    done: u64,
    losses: u64,
    guesses: u64,
}

/// Lines printed at most, of findings and of repairs.
pub const LINES: u64 = 200;

impl Report {
    /// Findings go to `out`, up to [`LINES`] of them.
    pub fn new(out: impl FnMut(&str) + 'static) -> Self {
        Self {
            out: Box::new(out),
            left: LINES,
            hint: "; fsck.calf -y repairs it",
            errors: 0,
            done: 0,
            losses: 0,
            guesses: 0,
        }
    }

    /// A report nobody sees, for a check of what a repair would leave.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Findings are not followed by what to do about them: it is done in this run.
    pub fn without_hint(&mut self) {
        self.hint = "";
    }

    /// Findings are over, repairs begin: they have [`LINES`] lines of their own.
    pub fn start_repairs(&mut self) {
        self.left = LINES;
    }

    fn line(&mut self, text: &str) {
        match self.left {
            0 => return,
            1 => (self.out)("more is counted, but not shown"),
            _ => (self.out)(text),
        }
        self.left = self.left.saturating_sub(1);
    }

    /// Something is wrong.
    pub fn error(&mut self, text: fmt::Arguments<'_>) {
        self.errors = self.errors.saturating_add(1);
        let hint = self.hint;
        self.line(&format!("{text}{hint}"));
    }

    /// Something is repaired, and nothing is lost by it.
    pub fn done(&mut self, text: fmt::Arguments<'_>) {
        self.done = self.done.saturating_add(1);
        self.line(&format!("repair: {text}"));
    }

    /// Something is repaired in a way that somebody should look at.
    pub fn guessed(&mut self, text: fmt::Arguments<'_>) {
        self.guesses = self.guesses.saturating_add(1);
        self.done(text);
    }

    /// What was just found can only be repaired in a way that somebody should look at.
    pub fn uncertain(&mut self) {
        self.guesses = self.guesses.saturating_add(1);
    }

    /// Something is repaired at a price: what could not be kept is named.
    pub fn lost(&mut self, text: fmt::Arguments<'_>) {
        self.losses = self.losses.saturating_add(1);
        self.done(text);
    }

    /// Something the user should know, but nothing is wrong.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        (self.out)(&format!("note: {text}"));
    }

    /// All findings.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// All repairs.
    pub fn repairs(&self) -> u64 {
        self.done
    }

    /// Is every repair so far beyond doubt?
    pub fn is_safe(&self) -> bool {
        self.losses == 0 && self.guesses == 0
    }

    /// Repairs by which something is lost.
    pub fn losses(&self) -> u64 {
        self.losses
    }
}

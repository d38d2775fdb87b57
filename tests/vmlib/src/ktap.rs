// SPDX-License-Identifier: GPL-2.0

//! KTAP output: a list of named cases, run in order, one result line each.

use crate::error::Fail;
use crate::Result;
use std::io::Write;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;

/// One case of a test program.
pub struct Case<C> {
    /// Name in the result line.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&C) -> Result,
}

/// Makes a [`Case`] that is named after its function.
#[macro_export]
macro_rules! cases {
    ($($f:ident),+ $(,)?) => { &[$($crate::ktap::Case { name: stringify!($f), run: $f }),+] };
}

/// Prints a line and makes sure that it is out before the kernel says more.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // A console that is gone cannot be told about.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Prints a diagnostic line (`# ...`), one for each line of `text`.
pub fn note(text: &str) {
    for l in text.lines() {
        line(&format!("# {l}"));
    }
}

/// Prints the head of a KTAP document.
pub fn head(count: usize) {
    line("TAP version 13");
    line(&format!("1..{count}"));
}

/// Prints the result line number `nr` (from 1) and says whether it was a pass.
pub fn result(nr: usize, name: &str, seconds: f64, outcome: &Result) -> bool {
    match outcome {
        Ok(()) => {
            line(&format!("ok {nr} - {name} # {seconds:.1} s"));
            true
        }
        Err(Fail {
            skip: true, text, ..
        }) => {
            line(&format!("ok {nr} - {name} # SKIP {text}"));
            true
        }
        Err(e) => {
            note(&e.text);
            line(&format!("not ok {nr} - {name} # {seconds:.1} s"));
            false
        }
    }
}

/// Runs one function; a panic in it is a failure like others.
pub fn guarded(f: impl FnOnce() -> Result) -> Result {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(r) => r,
        Err(p) => Err(Fail::new(
            p.downcast_ref::<String>()
                .cloned()
                .or_else(|| p.downcast_ref::<&str>().map(|s| s.to_string()))
                .unwrap_or_else(|| "panic".into()),
        )),
    }
}

/// Runs all cases (or those whose name contains one of the program's arguments) and returns the
/// exit status: 0 when none failed.
pub fn run<C>(ctx: &C, cases: &[Case<C>], after: impl Fn(&C)) -> ExitCode {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let chosen: Vec<&Case<C>> = cases
        .iter()
        .filter(|c| args.is_empty() || args.iter().any(|a| c.name.contains(a)))
        .collect();
    head(chosen.len());
    let mut failed = 0;
    for (i, case) in chosen.iter().enumerate() {
        let start = Instant::now();
        let outcome = guarded(|| (case.run)(ctx));
        if !result(i + 1, case.name, start.elapsed().as_secs_f64(), &outcome) {
            failed += 1;
        }
        after(ctx);
    }
    if failed == 0 && !chosen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The files in `/sys/kernel/debug/iomap_check/`.

use crate::checker::Checker;
use crate::judge::known::KNOWN;
use crate::judge::rules::Rule;
use core::fmt;
use kernel::debugfs::Scope;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::uaccess::UserSliceReader;

type State = Arc<Checker>;

/// Makes the directory; it goes when the result is dropped.
pub(crate) fn make(state: State) -> impl PinInit<Scope<State>> {
    Scope::dir(state, c"iomap_check", |state, dir| {
        dir.read_callback_file(c"rules", state, &rules);
        dir.read_callback_file(c"reports", state, &reports);
        dir.read_callback_file(c"masks", state, &masks);
        dir.read_callback_file(c"events", state, &events);
        dir.read_write_callback_file(c"device", state, &device, &set_device);
        dir.read_write_callback_file(c"oracle", state, &oracle, &set_oracle);
        dir.read_write_callback_file(c"reset", state, &nothing, &reset);
    })
}

fn rules(state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "rule severity point     state violations masked contracts"
    )?;
    for &rule in Rule::ALL {
        let (hits, masked) = state.reports.of(rule);
        let on = if state.is_on(rule) { "on" } else { "off" };
        let (severity, point) = (rule.severity(), rule.point());
        let contract = rule.contract();
        writeln!(
            f,
            "{rule:<4} {severity:<8} {point:<9} {on:<5} {hits:<10} {masked:<6} {contract}"
        )?;
    }
    if !state.probed.load(Relaxed) {
        writeln!(
            f,
            "# kprobe off: the kernel has no CONFIG_KPROBES, or a function cannot be probed"
        )?;
    }
    if !state.oracle.is_on() {
        writeln!(
            f,
            "# oracle off: for directed tests; write on to the file oracle"
        )?;
    }
    Ok(())
}

fn reports(state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    state.reports.print(f)
}

fn masks(_: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    KNOWN
        .iter()
        .try_for_each(|k| writeln!(f, "{} {} {}", k.fs, k.rule, k.reason))
}

fn events(state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let seen = &state.seen;
    writeln!(f, "iter {}", seen.iters.load(Relaxed))?;
    writeln!(f, "begin {}", seen.begins.load(Relaxed))?;
    writeln!(f, "writeback {}", seen.writebacks.load(Relaxed))?;
    writeln!(f, "kprobe {}", seen.probes.load(Relaxed))
}

fn device(state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match state.only.load(Relaxed) {
        0 => writeln!(f, "all"),
        dev => writeln!(f, "{}:{}", dev >> 20, dev & 0xf_ffff),
    }
}

/// A short word that was written.
fn word<'a>(buf: &'a mut [u8; 32], input: &mut UserSliceReader) -> Result<&'a str> {
    let len = input.read_slice_partial(buf, 0)?;
    let text = core::str::from_utf8(buf.get(..len).ok_or(EINVAL)?).map_err(|_| EINVAL)?;
    Ok(text.trim())
}

fn oracle(state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match state.oracle.is_on() {
        true => writeln!(f, "on {}", state.oracle.known()),
        false => writeln!(f, "off"),
    }
}

/// `on`, `off`, or `forget`.
fn set_oracle(state: &State, input: &mut UserSliceReader) -> Result {
    match word(&mut [0; 32], input)? {
        "on" => state.oracle.set(true),
        "off" => state.oracle.set(false),
        "forget" => state.oracle.forget(),
        _ => return Err(EINVAL),
    }
    Ok(())
}

/// `MAJOR:MINOR`, or `all`.
fn set_device(state: &State, input: &mut UserSliceReader) -> Result {
    let dev = match word(&mut [0; 32], input)? {
        "all" => 0,
        text => {
            let (major, minor) = text.split_once(':').ok_or(EINVAL)?;
            let major: u32 = major.parse().map_err(|_| EINVAL)?;
            let minor: u32 = minor.parse().map_err(|_| EINVAL)?;
            if major >= 1 << 12 || minor >= 1 << 20 {
                return Err(EINVAL);
            }
            major << 20 | minor
        }
    };
    state.only.store(dev, Relaxed);
    Ok(())
}

fn nothing(_: &State, _: &mut fmt::Formatter<'_>) -> fmt::Result {
    Ok(())
}

/// Whatever is written, everything is forgotten.
fn reset(state: &State, _: &mut UserSliceReader) -> Result {
    state.reports.reset();
    for count in [
        &state.seen.iters,
        &state.seen.begins,
        &state.seen.writebacks,
        &state.seen.probes,
    ] {
        count.store(0, Relaxed);
    }
    Ok(())
}

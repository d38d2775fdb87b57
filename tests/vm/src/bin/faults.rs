// SPDX-License-Identifier: GPL-2.0

//! The first, second, third ... allocation or request of every operation fails, or it finds no free block, one, two ...:
//! the error is the right one, what is left is what was promised, nothing is lost, nothing hangs. The same of disks that
//! fail for a while, lie, have bad blocks, or are pulled out.
//!
//! `CALF_FAULTS=all` in the environment tries every n in every operation; `CALF_FAULTS_OP=rename,link` only
//! these; `CALF_FAULTS_VERBOSE=2` lets the kernel tell where each fault happens.

#[path = "../faults/dust.rs"]
mod dust;
#[path = "../faults/flakey.rs"]
mod flakey;
#[path = "../faults/full.rs"]
mod full;
#[path = "../faults/life.rs"]
mod life;
#[path = "../faults/ops.rs"]
mod ops;
#[path = "../faults/removal.rs"]
mod removal;
#[path = "../faults/stacked.rs"]
mod stacked;
#[path = "../faults/state.rs"]
mod state;
#[path = "../faults/sweep.rs"]
mod sweep;

use calf_vmlib::fault::{Kind, Who};
use calf_vmlib::observe::no_kernel_warning;
use calf_vmlib::{cases, ktap, observe, Context, Env, Fail, Result};
use std::process::ExitCode;
use sweep::{How, Sweep};

fn run(env: &Env, kind: Kind, who: Who, cold: bool, only: &[&str]) -> Result {
    Sweep::new(env, How { kind, who, cold })?.run(only)
}

/// The operations of a short run, but for [`slab`]; with `CALF_FAULTS=all` every one.
const SOME: &[&str] = &[
    "create",
    "write",
    "read",
    "punch",
    "lengthen",
    "rename_over",
];

fn some() -> &'static [&'static str] {
    if sweep::complete() {
        &[]
    } else {
        SOME
    }
}

fn slab(env: &Env) -> Result {
    run(env, Kind::Slab, Who::Me, false, &[])
}

fn slab_cold(env: &Env) -> Result {
    run(env, Kind::Slab, Who::Me, true, some())
}

fn slab_workers(env: &Env) -> Result {
    run(env, Kind::Slab, Who::Workers, false, some())
}

fn page(env: &Env) -> Result {
    run(env, Kind::Page, Who::Me, false, some())
}

fn page_cold(env: &Env) -> Result {
    run(env, Kind::Page, Who::Me, true, some())
}

fn request(env: &Env) -> Result {
    run(env, Kind::Bio, Who::Me, true, some())
}

fn request_journal(env: &Env) -> Result {
    run(env, Kind::Bio, Who::Journal, false, some())
}

fn request_workers(env: &Env) -> Result {
    run(env, Kind::Bio, Who::Workers, false, some())
}

/// In a laboratory build: each place that can find no space does so once, though there is some.
fn refused(env: &Env) -> Result {
    if !observe::is_lab() {
        return Err(Fail::skip("needs a laboratory build"));
    }
    run(env, Kind::Space, Who::Me, false, some())
}

fn no_space(env: &Env) -> Result {
    full::sweep(env)
}

fn mount(env: &Env) -> Result {
    for kind in [Kind::Slab, Kind::Page, Kind::Bio] {
        for replay in [false, true] {
            life::mount(env, kind, replay).ctx(format!("{kind:?}, replay {replay}"))?;
        }
    }
    Ok(())
}

fn umount(env: &Env) -> Result {
    // Nobody needs pages then, and the journal's thread no memory that it might not get.
    for (kind, who) in [
        (Kind::Slab, Who::Me),
        (Kind::Bio, Who::Me),
        (Kind::Bio, Who::Journal),
    ] {
        life::umount(env, kind, who).ctx(format!("{kind:?} of {who:?}"))?;
    }
    Ok(())
}

fn removal(env: &Env) -> Result {
    removal::every_request(env)
}

fn power_off(env: &Env) -> Result {
    removal::power(env)
}

fn flakey_direct(env: &Env) -> Result {
    flakey::direct_write(env)
}

fn flakey_error_writes(env: &Env) -> Result {
    flakey::error_writes(env)
}

fn flakey_error_reads(env: &Env) -> Result {
    flakey::error_reads(env)
}

fn flakey_drop_writes(env: &Env) -> Result {
    flakey::drop_writes(env)
}

fn dust_data(env: &Env) -> Result {
    dust::data(env)
}

fn dust_metadata(env: &Env) -> Result {
    dust::metadata_blocks(env)
}

fn main() -> ExitCode {
    let env = Env::new();
    observe::mount_debugfs();
    ktap::run(
        &env,
        cases![
            slab,
            slab_cold,
            slab_workers,
            page,
            page_cold,
            request,
            request_journal,
            request_workers,
            no_space,
            refused,
            umount,
            removal,
            power_off,
            flakey_direct,
            flakey_error_writes,
            flakey_error_reads,
            flakey_drop_writes,
            dust_data,
            dust_metadata,
            no_kernel_warning,
            mount,
        ],
        |_| {},
    )
}

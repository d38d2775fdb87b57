// SPDX-License-Identifier: GPL-2.0

//! libFuzzer's entry point. `CALF_FUZZ_TARGET` names the target, `CALF_FUZZ_SEEDS` a folder for its seeds;
//! `CALF_FUZZ_LIST` lists the targets with the longest input of use.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use calf_fuzz::{Target, ALL};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn prepare() {
    if std::env::var_os("CALF_FUZZ_LIST").is_some() {
        for target in ALL {
            println!("{} {}", target.name, target.max_len);
        }
        std::process::exit(0);
    }
    let name = std::env::var("CALF_FUZZ_TARGET").unwrap_or_default();
    let target = calf_fuzz::find(&name).expect("CALF_FUZZ_TARGET names a target");
    if let Some(folder) = std::env::var_os("CALF_FUZZ_SEEDS") {
        for (i, seed) in (target.seeds)().iter().enumerate() {
            let path = Path::new(&folder).join(format!("seed-{i}"));
            std::fs::write(path, seed).expect("CALF_FUZZ_SEEDS is a folder");
        }
    }
    let _ = TARGET.set(target);
}

fuzz_target!(
    init: prepare(),
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);

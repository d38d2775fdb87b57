// SPDX-License-Identifier: GPL-2.0

//! What the fuzzer found once, and a few inputs of each target.

use std::fs;
use std::path::Path;

use calf_fuzz::ALL;

/// Every input in `regressions/TARGET/`.
#[test]
fn what_was_found_is_not_found_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        let target = calf_fuzz::find(&name).expect("a folder is named after a target");
        for input in fs::read_dir(entry.path()).unwrap() {
            let path = input.unwrap().path();
            println!("{}", path.display());
            (target.run)(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn targets_take_their_seeds() {
    for target in ALL {
        let seeds = (target.seeds)();
        assert!(seeds.len() >= 16, "{}: {} seeds", target.name, seeds.len());
        for seed in seeds.iter().step_by(seeds.len().div_ceil(16)) {
            assert!(seed.len() <= target.max_len, "{}", target.name);
            (target.run)(seed);
        }
        (target.run)(&[]);
    }
}

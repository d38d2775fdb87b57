// SPDX-License-Identifier: GPL-2.0

//! The driver with a runner that only pretends: a load that stands still is a failure, one that goes on is killed and judged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Boots a guest that loads as `load` says (a script), and describes one empty file after the kill. Returns whether the
/// driver was content, and what it said.
fn drive(name: &str, load: &str, limit: &str) -> (bool, String) {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let runner = dir.join("runner");
    let script = format!(
        "#!/bin/sh\n\
         while [ $# -gt 0 ]; do [ \"$1\" = --log ] && log=$2; order=\"$order $1\"; shift; done\n\
         exec >$log/guest.log\n\
         echo $$ >$log/pid\n\
         case $order in *,v,*) echo 'CRASH found 1 t0/a 0 - 1,1,1'; echo CRASH found-all; exit;; esac\n\
         echo CALF-CRASH-LOAD\n\
         {load}\n"
    );
    fs::write(&runner, script).unwrap();
    fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_calf-crash"))
        .args(["run", "--kills", "1", "--min", "0", "--max", "0.1"])
        .args(["--after", "0", "--disk-size", "1", "--stall-limit", limit])
        .arg("--disk")
        .arg(dir.join("disk"))
        .arg("--log")
        .arg(dir.join("log"))
        .arg("--")
        .arg(&runner)
        .env_remove("CALF_TIME_SCALE")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    (out.status.success(), text)
}

/// Says that these threads go on, for ever.
fn alive(threads: &[u64]) -> String {
    let say: String = threads
        .iter()
        .map(|t| format!("echo CRASH alive {t}; "))
        .collect();
    format!("while :; do {say} sleep 0.05; done")
}

const ACK: &str = "echo CRASH op 1 new 1 t0/a; echo CRASH ack 1 1 1,1,1 all";

#[test]
fn a_load_that_stands_still_fails() {
    let (good, text) = drive("still", "exec sleep 60", "1");
    assert!(
        !good && text.contains("no progress") && text.contains("[0, 1, 2]"),
        "{text}"
    );
    let (good, text) = drive("one", &format!("{ACK}\n{}", alive(&[0, 2])), "1");
    assert!(
        !good && text.contains("no progress") && text.contains("[1]"),
        "{text}"
    );
}

#[test]
fn a_load_that_goes_on_is_judged() {
    let (good, text) = drive("good", &format!("{ACK}\n{}", alive(&[0, 1, 2])), "120");
    assert!(good && text.contains("ok 1 - kill"), "{text}");
    // Threads that say that they go on while nothing is acknowledged.
    let (good, text) = drive("silent", &alive(&[0, 1, 2]), "120");
    assert!(!good && text.contains("nothing that could"), "{text}");
    let lost = ACK.replace("1,1,1", "1,2,2");
    let (good, text) = drive("lost", &format!("{lost}\n{}", alive(&[0, 1, 2])), "120");
    assert!(!good && text.contains("its times are"), "{text}");
}

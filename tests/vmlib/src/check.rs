// SPDX-License-Identifier: GPL-2.0

//! The checker module `iomap_check`: loads it, reads its counters and reports.

use crate::error::Context;
use crate::{ensure, Env, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One line of the file `rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name (`G1`).
    pub name: String,
    /// Severity `error`.
    pub error: bool,
    /// The kernel has what the rule needs.
    pub on: bool,
    /// Violations reported.
    pub violations: u64,
    /// Violations of filesystems that are known for them.
    pub masked: u64,
}

/// The loaded module, unloaded when dropped.
pub struct Checker(PathBuf);

impl Checker {
    /// Loads the module, which lies beside that of calf or where `CALF_CHECK_MODULE` says.
    pub fn load(env: &Env) -> Result<Checker> {
        let dir = Path::new("/sys/kernel/debug/iomap_check");
        let file = std::env::var_os("CALF_CHECK_MODULE").map_or_else(
            || {
                let mut above = env.module.ancestors().skip(1);
                above
                    .by_ref()
                    .map(|d| d.join("iomap_check.ko"))
                    .find(|f| f.exists())
                    .unwrap_or_else(|| "/payload/iomap_check.ko".into())
            },
            PathBuf::from,
        );
        let file = File::open(&file).ctx(format!("open {}", file.display()))?;
        rustix::system::finit_module(&file, c"", 0).ctx("load iomap_check")?;
        ensure!(dir.exists(), "iomap_check makes no files");
        Ok(Checker(dir.into()))
    }

    /// A file of the module.
    pub fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.0.join(name)).ctx(format!("iomap_check/{name}"))
    }

    /// Writes to a file of the module.
    pub fn write(&self, name: &str, text: &str) -> Result {
        std::fs::write(self.0.join(name), text).ctx(format!("iomap_check/{name}"))
    }

    /// Forgets reports and counters.
    pub fn reset(&self) -> Result {
        self.write("reset", "1")
    }

    /// All rules with their counters.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let text = self.read("rules")?;
        let lines = text.lines().skip(1).filter(|l| !l.starts_with('#'));
        lines
            .map(|l| {
                let w: Vec<&str> = l.split_whitespace().collect();
                ensure!(w.len() >= 6, "iomap_check/rules: {l}");
                let number = |w: &str| w.parse().map_err(|e| format!("{l}: {e}"));
                Ok(Rule {
                    name: w[0].into(),
                    error: w[1] == "error",
                    on: w[3] == "on",
                    violations: number(w[4])?,
                    masked: number(w[5])?,
                })
            })
            .collect()
    }

    /// How many events of each kind were seen.
    pub fn events(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self
            .read("events")?
            .lines()
            .filter_map(|l| {
                let (name, n) = l.split_once(' ')?;
                Some((name.to_string(), n.parse().ok()?))
            })
            .collect())
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        // Nothing can hold it: it has no users.
        let _ = rustix::system::delete_module(c"iomap_check", libc::O_NONBLOCK);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A disk in memory under a device of the device mapper that spoils what is done with it.

use super::sweep::{disk, no_complaint};
use calf_vmlib::dm::{load_target, Dm};
use calf_vmlib::nullb::NullDisk;
use calf_vmlib::observe::Kmsg;
use calf_vmlib::{Env, Result};

/// The two devices, and what the kernel has said since they were made.
pub struct Stacked {
    /// With the upper device as the one to test.
    pub env: Env,
    /// The upper device.
    pub dm: Dm,
    /// Path of the lower one.
    pub under: String,
    log: Kmsg,
    // The last to go.
    _disk: NullDisk,
}

impl Stacked {
    /// Makes both, of `mib` MiB; the target gets the path of the lower one and then `args`.
    pub fn new(env: &Env, mib: u32, target: &str, args: &str) -> Result<Stacked> {
        load_target(&format!("dm-{target}"))?;
        let disk = disk("flt0", mib)?;
        let under = disk.path.display().to_string();
        let args = format!("{under} {args}");
        let dm = Dm::new(
            &format!("calf-{target}"),
            u64::from(mib) << 11,
            target,
            &args,
        )?;
        let env = Env {
            dev: dm.path.clone(),
            ..env.clone()
        };
        Ok(Stacked {
            env,
            dm,
            under,
            log: Kmsg::new()?,
            _disk: disk,
        })
    }

    /// Nothing that a filesystem may not cause was said.
    pub fn end(mut self) -> Result {
        no_complaint(&self.log.read())
    }
}

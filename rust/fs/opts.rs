// SPDX-License-Identifier: GPL-2.0

//! Mount options.
//!
//! `always_cow` and `bug` are fixed at mount: a change under I/O in flight would mix blocks written
//! in place with blocks that are freed (C12). So are `norecovery`, `nouuid` and `checks`, which act on
//! what mount does once. `errors` and `discard` follow a remount.

use crate::kapi::fs_context::{FsContext, ParamSpec, ParamTable, ParamValue};
use kernel::error::code::EINVAL;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;

const OPT_ALWAYS_COW: u8 = 0;
const OPT_BUG: u8 = 1;
const OPT_ERRORS: u8 = 2;
const OPT_NORECOVERY: u8 = 3;
const OPT_NOUUID: u8 = 4;
const OPT_DISCARD: u8 = 5;
const OPT_NODISCARD: u8 = 6;
const OPT_CHECKS: u8 = 7;

/// What calf understands beside the options of the VFS.
pub const PARAMS: ParamTable = ParamTable::new(
    const {
        &[
            ParamSpec::flag(c"always_cow", OPT_ALWAYS_COW),
            ParamSpec::string(c"bug", OPT_BUG),
            ParamSpec::string(c"checks", OPT_CHECKS),
            ParamSpec::string(c"errors", OPT_ERRORS),
            ParamSpec::flag(c"norecovery", OPT_NORECOVERY),
            ParamSpec::flag(c"nouuid", OPT_NOUUID),
            ParamSpec::flag(c"discard", OPT_DISCARD),
            ParamSpec::flag(c"nodiscard", OPT_NODISCARD),
            ParamSpec::end(),
        ]
    },
);

/// The options of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountOpts {
    /// Never write in place; everything is staged.
    pub always_cow: bool,
    /// `errors=remount-ro`: damage ends writing only, not reading.
    pub errors_ro: bool,
    /// Read without replaying the journal.
    pub norecovery: bool,
    /// Mount although a filesystem with this uuid is mounted.
    pub nouuid: bool,
    /// Freed blocks are discarded.
    pub discard: bool,
    /// Contract violations switched on for this mount.
    #[cfg(calf_lab)]
    pub bugs: crate::lab::BugSet,
    /// `checks=error`: a begin whose answer breaks a contract fails.
    #[cfg(calf_lab)]
    pub checks_fail: bool,
}

impl MountOpts {
    /// Takes in one option. `fc` hears the reason of a refusal.
    pub fn parse(&mut self, fc: &FsContext, id: u8, value: ParamValue<'_>) -> Result {
        match (id, value) {
            (OPT_ALWAYS_COW, _) => self.always_cow = true,
            (OPT_NORECOVERY, _) => self.norecovery = true,
            (OPT_NOUUID, _) => self.nouuid = true,
            (OPT_DISCARD, _) => self.discard = true,
            (OPT_NODISCARD, _) => self.discard = false,
            (OPT_ERRORS, ParamValue::Text(what)) => match what.to_bytes() {
                b"remount-ro" => self.errors_ro = true,
                b"shutdown" => self.errors_ro = false,
                _ => {
                    fc.error(c"errors= takes remount-ro or shutdown");
                    return Err(EINVAL);
                }
            },
            (OPT_CHECKS, ParamValue::Text(what)) => return self.parse_checks(fc, what),
            (OPT_BUG, ParamValue::Text(name)) => return self.parse_bug(fc, name),
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    #[cfg(calf_lab)]
    fn parse_bug(&mut self, fc: &FsContext, name: &CStr) -> Result {
        if !self.bugs.insert_by_name(name.to_bytes()) {
            fc.error(c"bug= names no bug that this module can bring back");
            return Err(EINVAL);
        }
        Ok(())
    }

    #[cfg(not(calf_lab))]
    fn parse_bug(&mut self, fc: &FsContext, _name: &CStr) -> Result {
        fc.error(c"bug= needs a laboratory build (CALF_LAB=1)");
        Err(EINVAL)
    }

    #[cfg(calf_lab)]
    fn parse_checks(&mut self, fc: &FsContext, what: &CStr) -> Result {
        self.checks_fail = match what.to_bytes() {
            b"error" => true,
            b"count" => false,
            _ => {
                fc.error(c"checks= takes count or error");
                return Err(EINVAL);
            }
        };
        Ok(())
    }

    #[cfg(not(calf_lab))]
    fn parse_checks(&mut self, fc: &FsContext, _what: &CStr) -> Result {
        fc.error(c"checks= needs a laboratory build (CALF_LAB=1)");
        Err(EINVAL)
    }

    /// May a live mount go from `self` to `new`? Says why not.
    pub fn check_change(&self, new: &Self, fc: &FsContext) -> Result {
        if self.always_cow != new.always_cow {
            fc.error(c"always_cow cannot change on a live mount");
            return Err(EINVAL);
        }
        if self.norecovery != new.norecovery {
            fc.error(c"norecovery cannot change on a live mount");
            return Err(EINVAL);
        }
        if self.nouuid != new.nouuid {
            fc.error(c"nouuid cannot change on a live mount");
            return Err(EINVAL);
        }
        #[cfg(calf_lab)]
        if self.checks_fail != new.checks_fail {
            fc.error(c"checks= cannot change on a live mount");
            return Err(EINVAL);
        }
        #[cfg(calf_lab)]
        if self.bugs != new.bugs {
            fc.error(c"bug= cannot change on a live mount");
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Prints the options as `/proc/self/mountinfo` wants them.
    pub fn show(&self, m: &SeqFile) {
        if self.always_cow {
            seq_print!(m, ",always_cow");
        }
        if self.errors_ro {
            seq_print!(m, ",errors=remount-ro");
        }
        if self.norecovery {
            seq_print!(m, ",norecovery");
        }
        if self.nouuid {
            seq_print!(m, ",nouuid");
        }
        if self.discard {
            seq_print!(m, ",discard");
        }
        #[cfg(calf_lab)]
        if self.checks_fail {
            seq_print!(m, ",checks=error");
        }
        #[cfg(calf_lab)]
        self.bugs
            .for_each_name(|name| seq_print!(m, ",bug={}", name));
    }
}

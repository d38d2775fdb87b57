// SPDX-License-Identifier: GPL-2.0

//! Which check of the module sees which switch.

/// What the checks of the module see of a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The check of this contract fires, others may.
    By(&'static str),
    /// None does, for this reason.
    #[allow(dead_code)] // All are seen now.
    Never(&'static str),
}

/// Switches that are not seen by the check of the contract they break.
const OTHERWISE: &[(&str, Seen)] = &[
    // That end drops what others own shows as dropped pages.
    ("end_truncates_cache", Seen::By("C-PUNCH-NOTRUNC")),
    // The mapping is sound, the locks are missing.
    ("unshare_nolock", Seen::By("C-ZERO-LOCK")),
    // The reservations that went too are missed at writeback.
    ("discard_offbyone", Seen::By("C-WB-HOLE")),
    // Swap activation asks as FIEMAP does.
    ("swap_ignores_shared", Seen::By("C-REPORT-PURE")),
    // What a ticket has lost shows as blocks that are not mapped when the write ends.
    ("dio_ticket_err_whole", Seen::By("C-DIO-COW")),
    ("dio_ticket_cached", Seen::By("C-DIO-COW")),
    // The size moves over what is not mapped.
    ("dio_isize_in_begin", Seen::By("C-DIO-ENDIO-ORDER")),
];

/// What sees the switch `name`, which breaks `contract`.
pub fn seen_by(name: &str, contract: &'static str) -> Seen {
    let found = OTHERWISE.iter().find(|(n, _)| *n == name);
    found.map_or(Seen::By(contract), |(_, seen)| *seen)
}

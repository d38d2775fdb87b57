// SPDX-License-Identifier: GPL-2.0

//! A write far past the end of the file: zeroing asks for the blocks in between and finds reservations
//! there, as speculative preallocation makes them. It zeroes pages past EOF, which writeback would never
//! look at, and the core warns.

use crate::case::{fill, Case, Outcome, Special, PAGE};
use crate::frame::Stage;
use calf_vmlib::error::Context;
use calf_vmlib::{file, Result};

/// `WARN_ON_ONCE(folio_pos(folio) > iter->inode->i_size)` in `iomap_zero_iter` of Linux 7.3.4.
const WARN_PAST_EOF: &str = "fs/iomap/buffered-io.c:1680";

/// The reproducer.
pub const CASE: Special = Special {
    case: Case {
        name: "zero_posteof_delalloc",
        contract: "C-ZERO-POSTEOF",
        summary: "the core warns of zeroed pages past EOF, the gap gets blocks",
        options: "",
        run,
    },
    junk: false,
    warn: Some(WARN_PAST_EOF),
    lockdep: None,
};

const FAR: u64 = 6 * PAGE;

fn run(stage: &mut Stage) -> Result<Outcome> {
    let f = stage.filled("f", b'o', 100)?;
    fill(&f, b'N', FAR, PAGE)?;
    f.sync_all().ctx("fsync")?;
    let blocks = file::extent_bytes(&file::extents(&f)?, 0) / PAGE;
    calf_vmlib::fs::drop_caches()?;
    let zeros = file::check_zero(&f, 100, FAR - 100).is_ok();
    let ends = file::read_at(&f, 99, 1)? == *b"o" && file::read_at(&f, FAR, 1)? == *b"N";
    Ok(Outcome {
        correct: zeros && ends && blocks == 2,
        bug: zeros && ends && blocks == 7,
        observed: format!("a file of two blocks has {blocks}"),
        facts: format!("blocks={blocks} gap_zero={zeros} ends_same={ends}"),
    })
}

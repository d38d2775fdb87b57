// SPDX-License-Identifier: GPL-2.0

//! Seed 004: the source of a direct write is a map, half of it not present. The first half is written,
//! then the memory is faulted in, then the rest is written. What begin had made for the whole request
//! was marked bad as a whole when the request came back short, so the first half is lost, though the
//! call says that all is written.

use crate::case::{cold_byte, show, Case, Outcome, PAGE};
use crate::direct::{half_present, write_in_two};
use crate::frame::Stage;
use calf_vmlib::file::{extents, open_direct};
use calf_vmlib::Result;

/// The reproducer.
pub const CASE: Case = Case {
    name: "dio_ticket_err_whole",
    contract: "C-DIO-PARTIAL",
    summary: "the first part of a direct write is lost, and the call says that all is written",
    options: "",
    run,
};

fn run(stage: &mut Stage) -> Result<Outcome> {
    let mut seen = Vec::new();
    for shape in ["hole", "shared"] {
        let map = half_present(stage)?;
        let f = match shape {
            "hole" => {
                let f = stage.file(shape)?;
                f.set_len(2 * PAGE)?;
                f
            }
            _ => {
                let other = stage.filled("other", b'o', 2 * PAGE)?;
                stage.cloned(shape, &other)?
            }
        };
        let n = write_in_two(&map, &open_direct(&stage.path(shape))?, 0)?;
        let (first, second) = (cold_byte(&f, 0)?, cold_byte(&f, PAGE)?);
        let mapped = extents(&f)?.iter().any(|e| e.logical == 0);
        seen.push((n, first, second, mapped));
    }
    let all = Ok(2 * PAGE as usize);
    let [hole, shared] = [seen[0], seen[1]];
    Ok(Outcome {
        correct: hole == (all, b'P', b'Q', true) && shared == (all, b'P', b'Q', true),
        bug: hole == (all, 0, b'Q', false) && shared == (all, b'o', b'Q', true),
        observed: format!(
            "8192 written, block 0 is {} in a hole, {} where shared",
            show(hole.1),
            show(shared.1)
        ),
        facts: format!("hole={hole:?} shared={shared:?}"),
    })
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Rules on writeback: `iomap_add_to_ioend` trusts what it is given.

use super::rules::Rule;
use super::view::{map_flag, ty, File, Map, NULL_ADDR};

/// Judges the mapping `map` that writeback of `len` bytes at `pos` uses.
pub fn judge(map: &Map, pos: i64, file: &File, hit: &mut impl FnMut(Rule, &'static str)) {
    if !map.covers(pos) {
        hit(Rule::G14, "writeback past its mapping");
    }
    match map.ty {
        ty::HOLE => {
            if pos < file.size {
                hit(Rule::G15, "dirty data over a hole is dropped");
            }
        }
        ty::MAPPED | ty::UNWRITTEN => {
            let placed = map.dev != 0 && map.addr != NULL_ADDR && map.addr_end() <= map.dev_bytes;
            if !placed && !map.has(map_flag::ANON_WRITE) {
                hit(Rule::G14, "writeback outside of the device");
            }
        }
        _ => hit(Rule::G14, "writeback to a mapping without blocks"),
    }
}

/// Errors that a filesystem's own search for blocks can end with, and a device cannot: EAGAIN, EFAULT,
/// EEXIST, EINVAL, ENOENT, ESTALE.
const ODD: [i32; 6] = [11, 14, 17, 22, 2, 116];

/// G28: may writeback of a file never end with this error (positive)?
pub fn is_odd_error(errno: i32) -> bool {
    ODD.contains(&errno)
}

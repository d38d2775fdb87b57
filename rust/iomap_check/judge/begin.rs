// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Rules on one answer of a filesystem: request, mapping, source.

use super::rules::Rule;
use super::view::{map_flag, request_flag as req, ty, File, Map, Request, NULL_ADDR};

/// Judges a mapping that was just made; `hit` hears each violation and a word on it. `first`: it is
/// the first of its operation.
pub fn judge(r: &Request, file: &File, first: bool, hit: &mut impl FnMut(Rule, &'static str)) {
    if !r.map.covers(r.pos) {
        let why = if r.map.length == 0 {
            "the mapping is empty"
        } else if r.map.end().is_none() || r.map.offset < 0 {
            "the mapping begins or ends outside of any file"
        } else {
            "the mapping does not cover the position"
        };
        hit(Rule::G1, why);
    }
    flags(r, hit);
    place(&r.map, hit);
    if r.map.ty <= ty::DELALLOC && r.map.addr != NULL_ADDR {
        hit(Rule::G4, "a mapping without blocks has an address");
    }
    alignment(&r.map, file, hit);
    source(r, file, hit);
    if r.has(req::REPORT) && r.map.has(map_flag::NEW) {
        hit(Rule::G10, "a report is answered with a new mapping");
    }
    let writes = r.has(req::WRITE) && !r.has(req::UNSHARE);
    if writes && r.map.ty == ty::HOLE {
        hit(Rule::G6, "a write is answered with a hole");
    }
    let beyond = r.has(req::ZERO) && !r.has(req::UNSHARE) && r.pos >= file.size_up();
    if beyond && !matches!(r.map.ty, ty::HOLE | ty::UNWRITTEN) {
        hit(Rule::G11, "zeroing past the end of the file would write");
    }
    if r.has(req::DIRECT | req::WRITE) {
        direct_write(r, file, first, hit);
    }
}

fn flags(r: &Request, hit: &mut impl FnMut(Rule, &'static str)) {
    if r.map.ty > ty::INLINE {
        hit(Rule::G2, "the type is unknown");
    }
    if r.map.flags & (map_flag::STALE | map_flag::SIZE_CHANGED) != 0 {
        hit(Rule::G2, "STALE or SIZE_CHANGED come from begin");
    }
    if r.map.has(map_flag::FOLIO_BATCH) && !(r.has_batch && r.has(req::ZERO)) {
        hit(Rule::G2, "FOLIO_BATCH without a batch");
    }
}

/// G3, for mapping and source alike.
fn place(map: &Map, hit: &mut impl FnMut(Rule, &'static str)) {
    let wants = matches!(map.ty, ty::MAPPED | ty::UNWRITTEN);
    if !wants || map.has(map_flag::ANON_WRITE) || map.dax {
        return;
    }
    if map.dev == 0 {
        return hit(Rule::G3, "blocks on no device");
    }
    if map.addr == NULL_ADDR {
        return hit(Rule::G3, "blocks without an address");
    }
    if map.addr_end() > map.dev_bytes {
        hit(Rule::G3, "blocks outside of the device");
    }
    // The offset in the file and the address must be at the same place inside a sector.
    let skew = map.addr.wrapping_sub(map.offset as u64);
    if map.sector != 0 && skew % u64::from(map.sector) != 0 {
        hit(Rule::G3, "the address is not aligned to sectors");
    }
}

fn alignment(map: &Map, file: &File, hit: &mut impl FnMut(Rule, &'static str)) {
    if map.ty == ty::INLINE {
        return;
    }
    let start = u64::try_from(map.offset).unwrap_or(0);
    // The last mapping may end with the file, or where no file can go on.
    let last = matches!(map.end(), Some(end) if end == file.size || end == i64::MAX);
    let whole = file.aligned(map.length) || last;
    if !file.aligned(start) || !whole {
        hit(Rule::G5, "the mapping is not aligned to blocks");
    }
}

/// G7, G8, G9: what the source may be.
fn source(r: &Request, file: &File, hit: &mut impl FnMut(Rule, &'static str)) {
    if !r.any(req::WRITE | req::ZERO | req::REPORT | req::UNSHARE) {
        if r.has_src() {
            hit(Rule::G9, "a read is answered with a source");
        }
        if r.map.has(map_flag::NEW) {
            hit(Rule::G9, "a read is answered with a new mapping");
        }
    }
    if r.has(req::UNSHARE) {
        unshare(r, file, hit);
    }
    if !r.has_src() {
        return;
    }
    place(&r.src, hit);
    if !r.src.covers(r.pos) {
        hit(Rule::G8, "the source does not cover the position");
    }
    if r.src.flags & (map_flag::NEW | map_flag::STALE) != 0 {
        hit(Rule::G8, "the source is new or stale");
    }
    let both = r.map.is_real() && r.src.is_real() && r.map.dev == r.src.dev;
    if both && r.map.addr < r.src.addr_end() && r.src.addr < r.map.addr_end() {
        hit(Rule::G8, "source and destination overlap on the device");
    }
}

fn unshare(r: &Request, file: &File, hit: &mut impl FnMut(Rule, &'static str)) {
    if r.map.has(map_flag::SHARED) && r.has_src() {
        let good = r.src.ty == ty::MAPPED && !r.src.has(map_flag::NEW) && r.pos < file.size;
        if !good {
            hit(Rule::G7, "unshare from a source without data");
        }
    }
    let reserved = r.map.ty == ty::DELALLOC && r.map.has(map_flag::NEW);
    // The core leaves alone what is not shared, source or not.
    if reserved && !(r.map.has(map_flag::SHARED) && r.has_src()) {
        hit(Rule::G7, "unshare reserves where there is no data");
    }
}

/// G12, G13, G26.
fn direct_write(r: &Request, file: &File, first: bool, hit: &mut impl FnMut(Rule, &'static str)) {
    let map_end = r.map.end().unwrap_or(i64::MAX);
    let spans = map_end >= r.end();
    if r.has(req::OVERWRITE_ONLY) {
        let whole = file.aligned(r.len) && file.aligned(u64::try_from(r.pos).unwrap_or(0));
        let in_place = match r.map.ty {
            ty::MAPPED => true,
            ty::UNWRITTEN => whole,
            _ => false,
        };
        if !in_place || r.map.flags & (map_flag::NEW | map_flag::SHARED) != 0 {
            hit(Rule::G12, "an overwrite is not in place");
        }
        if !spans {
            hit(Rule::G12, "an overwrite needs a second mapping");
        }
    }
    if r.has(req::ATOMIC) && r.map.has(map_flag::ATOMIC_BIO) {
        let at = r
            .map
            .addr
            .wrapping_add(r.pos.wrapping_sub(r.map.offset) as u64);
        if !spans || r.len == 0 || at % r.len != 0 {
            hit(Rule::G12, "an atomic write is not one aligned extent");
        }
    }
    let silent = r.map.flags & (map_flag::NEW | map_flag::SHARED | map_flag::DIRTY) == 0;
    let grows = map_end.min(r.end()) > file.size;
    if r.dsync && grows && r.map.ty == ty::MAPPED && silent {
        hit(Rule::G13, "a synchronous write past the end is not dirty");
    }
    if r.has(req::NOWAIT) && first && !spans {
        hit(Rule::G26, "a write that must not wait gets a part");
    }
}

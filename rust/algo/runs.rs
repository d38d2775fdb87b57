// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Trees whose records are ranges: what extents and reference counts have in common.

use super::btree::Tree;
use super::node::Broken;
use super::store::{NodeRead, NodeStore};
use zerocopy::{Immutable, IntoBytes};

/// A record's value that stands for the keys from its own key on.
pub(super) trait Run: Copy + IntoBytes + Immutable {
    /// Reads and checks the value under `key`.
    fn decode(key: u64, bytes: &[u8]) -> Result<Self, &'static str>;
    /// Keys covered, at least 1.
    fn size(&self) -> u32;
    /// The same from `by` keys further on, with another size.
    fn part(&self, by: u32, size: u32) -> Self;
    /// Both as one, if `next`, which follows directly, continues this run.
    fn join(&self, next: &Self) -> Option<Self>;

    /// Keys covered.
    fn len(&self) -> u64 {
        u64::from(self.size())
    }

    /// The same, covering the first `len` keys only.
    fn take(&self, len: u64) -> Self {
        self.part(0, u32::try_from(len).unwrap_or(u32::MAX).min(self.size()))
    }

    /// The same without the first `len` keys.
    fn skip(&self, len: u64) -> Self {
        let by = u32::try_from(len).unwrap_or(u32::MAX).min(self.size());
        self.part(by, self.size().saturating_sub(by))
    }
}

/// A run that was looked for: start, run, end.
pub(super) type Found<R> = Option<(u64, R, u64)>;

fn decode<R: Run>(key: u64, bytes: &[u8]) -> Result<(u64, R, u64), Broken> {
    let run = R::decode(key, bytes)?;
    match key.checked_add(run.len()) {
        Some(end) if end > key => Ok((key, run, end)),
        _ => Err("tree: empty or endless range"),
    }
}

/// What a look-up has brought, unless the record is damaged.
fn found<S: NodeRead, R>(
    t: &Tree,
    s: &S,
    run: Option<Result<(u64, R, u64), Broken>>,
) -> Result<Found<R>, S::Error> {
    run.transpose().map_err(|what| t.damaged(s, what))
}

/// The last run that starts at or before `key`.
pub(super) fn before<S: NodeRead, R: Run>(t: &Tree, s: &S, key: u64) -> Result<Found<R>, S::Error> {
    found(t, s, t.floor_with(s, key, decode)?)
}

/// [`before`], and where the run after it starts.
pub(super) fn around<S: NodeRead, R: Run>(
    t: &Tree,
    s: &S,
    key: u64,
) -> Result<(Found<R>, Option<u64>), S::Error> {
    let (run, next) = t.around_with(s, key, decode)?;
    Ok((found(t, s, run)?, next))
}

/// The first run that starts at or after `key`.
pub(super) fn after<S: NodeRead, R: Run>(t: &Tree, s: &S, key: u64) -> Result<Found<R>, S::Error> {
    found(t, s, t.ceil_with(s, key, decode)?)
}

/// Cuts `[start, end)` out of the run at `key`, which contains it.
pub(super) fn carve<S: NodeStore, R: Run>(
    t: &mut Tree,
    s: &mut S,
    (key, run, run_end): (u64, R, u64),
    start: u64,
    end: u64,
) -> Result<(), S::Error> {
    let head = start.checked_sub(key);
    let tail = run_end.checked_sub(end);
    let (Some(head), Some(tail)) = (head, tail) else {
        return Err(t.damaged(s, "tree: cut outside the range"));
    };
    let rest = run.skip(run.len().saturating_sub(tail));
    match (head, tail) {
        (0, 0) => t.remove(s, key),
        (0, _) => t.rekey(s, key, end, rest.as_bytes()),
        (_, 0) => t.replace(s, key, run.take(head).as_bytes()),
        _ => {
            t.replace(s, key, run.take(head).as_bytes())?;
            t.insert(s, end, rest.as_bytes())
        }
    }
}

/// Puts a run into a gap, as one with its neighbours where it continues them.
pub(super) fn insert<S: NodeStore, R: Run>(
    t: &mut Tree,
    s: &mut S,
    key: u64,
    run: R,
) -> Result<(), S::Error> {
    let end = key.checked_add(run.len()).filter(|end| *end > key);
    let end = end.ok_or_else(|| t.damaged(s, "tree: empty or endless range"))?;
    let left = before::<S, R>(t, s, key)?;
    let right = after::<S, R>(t, s, key)?;
    let overlap = left.is_some_and(|(_, _, left_end)| left_end > key)
        || right.is_some_and(|(start, _, _)| start < end);
    if overlap {
        return Err(t.damaged(s, "tree: range is taken"));
    }
    let mut run = run;
    let right = right.filter(|(start, _, _)| *start == end);
    let right = right.and_then(|(start, next, _)| Some((start, run.join(&next)?)));
    if let Some((_, joined)) = right {
        run = joined;
    }
    let left = left.filter(|(_, _, left_end)| *left_end == key);
    let left = left.and_then(|(start, before, _)| Some((start, before.join(&run)?)));
    match (left, right) {
        (Some((start, joined)), None) => t.replace(s, start, joined.as_bytes()),
        (Some((start, joined)), Some((gone, _))) => {
            t.remove(s, gone)?;
            t.replace(s, start, joined.as_bytes())
        }
        (None, Some((old, _))) => t.rekey(s, old, key, run.as_bytes()),
        (None, None) => t.insert(s, key, run.as_bytes()),
    }
}

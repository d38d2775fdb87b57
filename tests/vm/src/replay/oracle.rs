// SPDX-License-Identifier: GPL-2.0

//! Says whether a crash may have left a tree (docs/crash-promise.md).
//!
//! * Names, extended attributes and sizes that were set are as after some number of these events, in the
//!   order in which they happened: there is one journal. The number is at least what was acknowledged.
//! * Every block of a file has its contents after some event, but not older than what was acknowledged, nor older than an
//!   event of the first kind that replaced them (a truncation).
//! * A file that grew by writing has its old size, its new one, or the end of a block between; the
//!   block that the size ends in holds what was written when it grew.
//! * Permissions and owner are like blocks. Each time lies between the earliest and the latest that it
//!   may be by events like blocks: exactly that one, if there was no other since it was acknowledged.

use crate::world::{rename, set_xattr, Ack, Attr, Event, History, Kind, Node, Times, Tree, World};
use std::collections::BTreeMap;

/// Possible contents of a block.
#[derive(Debug, Clone)]
struct Version {
    /// Number of the event that made it, from 1; 0 is the beginning.
    event: usize,
    data: Vec<u8>,
}

/// Possible sizes of a file.
#[derive(Debug, Clone)]
enum Size {
    Exact(usize),
    /// More than `from`, up to `to`: the event wrote so far.
    Grown {
        from: usize,
        to: usize,
        event: usize,
    },
}

/// What an inode may look like.
#[derive(Debug, Clone)]
struct View {
    kind: Kind,
    attrs: Vec<Attr>,
    times: Vec<Times>,
    xattrs: BTreeMap<String, Vec<u8>>,
    sizes: Vec<Size>,
    /// A block that is not there is a hole.
    blocks: Vec<Vec<Version>>,
}

/// One of the times, and its name.
type Part = (&'static str, fn(&Times) -> i64);

fn block(data: &[u8], n: usize, size: usize) -> Vec<u8> {
    let mut b: Vec<u8> = data.iter().skip(n * size).take(size).copied().collect();
    b.resize(size, 0);
    b
}

impl View {
    /// Exactly this, since an event.
    fn of(node: &Node, event: usize, bs: usize) -> View {
        let blocks = (0..node.data.len().div_ceil(bs)).map(|n| {
            let data = block(&node.data, n, bs);
            vec![Version { event, data }]
        });
        View {
            kind: node.kind.clone(),
            attrs: vec![node.attr],
            times: vec![node.times],
            xattrs: node.xattrs.clone(),
            sizes: vec![Size::Exact(node.data.len())],
            blocks: blocks.collect(),
        }
    }

    fn at(&mut self, n: usize, bs: usize) -> &mut Vec<Version> {
        while self.blocks.len() <= n {
            self.blocks.push(hole(bs));
        }
        &mut self.blocks[n]
    }

    /// The size is set: what was past it is gone for good.
    fn resize(&mut self, size: usize, bs: usize) {
        self.blocks.truncate(size.div_ceil(bs));
        let rest = size % bs;
        if let Some(last) = self.blocks.get_mut(size / bs).filter(|_| rest != 0) {
            last.iter_mut().for_each(|v| v.data[rest..].fill(0));
        }
        self.sizes = vec![Size::Exact(size)];
    }

    /// Blocks have moved: all of them, or some.
    fn shift(&mut self, event: &Event, size: usize, done: bool, bs: usize) {
        let old = self.clone();
        let get = |n: Option<usize>| n.and_then(|n| old.blocks.get(n).cloned());
        let end = old.blocks.len().max(size.div_ceil(bs));
        for n in 0..end {
            let (first, from) = match event {
                Event::Collapse { at, len, .. } => (at / bs, Some(n + len / bs)),
                Event::Insert { at, len, .. } if n < (at + len) / bs => (at / bs, None),
                Event::Insert { at, len, .. } => (at / bs, n.checked_sub(len / bs)),
                _ => return,
            };
            if n < first {
                continue;
            }
            let mut moved = get(from).unwrap_or_else(|| hole(bs));
            if !done {
                moved.extend(hole(bs));
                moved.extend(get(Some(n)).unwrap_or_default());
            }
            *self.at(n, bs) = moved;
        }
        if done {
            self.resize(size, bs);
        } else if matches!(event, Event::Insert { .. }) {
            self.sizes = vec![Size::Exact(size)];
        }
    }

    fn matches(&self, n: usize, found: &[u8], since: usize, bs: usize) -> bool {
        let same = |v: &Version| v.event >= since && v.data.starts_with(found);
        match self.blocks.get(n) {
            Some(versions) => versions.iter().any(same),
            None => hole(bs).iter().any(same),
        }
    }

    fn size_is(&self, found: &[u8], bs: usize) -> bool {
        let size = found.len();
        self.sizes.iter().any(|s| match s {
            Size::Exact(s) => *s == size,
            Size::Grown { from, to, event } => {
                let last = size.saturating_sub(1) / bs;
                (*from < size && size < *to && size % bs == 0 || size == *to)
                    && self.matches(last, &found[last * bs..], *event, bs)
            }
        })
    }

    /// Where found bytes are not those of any version, and what is there.
    fn differences(&self, n: usize, found: &[u8]) -> String {
        let show = |b: &[u8], at: usize| format!("{:02x?}", &b[at..b.len().min(at + 8)]);
        let one = |v: &Version| {
            let at = found.iter().zip(&v.data).position(|(a, b)| a != b);
            let at = at.unwrap_or(0);
            let (is, want) = (show(found, at), show(&v.data, at));
            format!(" of event {}: at {at} {is}, not {want};", v.event)
        };
        match self.blocks.get(n) {
            Some(all) => all.iter().map(one).collect(),
            None => format!(" {}, not a hole", show(found, 0)),
        }
    }

    /// Which time is not possible.
    fn wrong_time(&self, found: &Times) -> Option<String> {
        let parts: [Part; 3] = [
            ("birth", |t| t.born),
            ("time of the contents", |t| t.data),
            ("time of change", |t| t.change),
        ];
        parts.iter().find_map(|(what, part)| {
            let all = || self.times.iter().map(part);
            let (low, high) = (all().min()?, all().max()?);
            let is = part(found);
            (is < low || is > high).then(|| format!("{what} {is}, not {low} to {high}"))
        })
    }

    fn check(&self, path: &str, found: &Node, bs: usize) -> Result<(), String> {
        if self.kind != found.kind {
            return Err(format!("{path} is a {:?}, not {:?}", found.kind, self.kind));
        }
        if !self.attrs.contains(&found.attr) {
            return Err(format!(
                "{path}: {:?}, not one of {:?}",
                found.attr, self.attrs
            ));
        }
        if let Some(e) = self.wrong_time(&found.times) {
            return Err(format!("{path}: {e}"));
        }
        if self.xattrs != found.xattrs {
            let show = |x: &BTreeMap<String, Vec<u8>>| -> String {
                x.iter()
                    .map(|(k, v)| format!("{k}: {} bytes, ", v.len()))
                    .collect()
            };
            return Err(format!(
                "{path}: attributes {}not {}",
                show(&found.xattrs),
                show(&self.xattrs)
            ));
        }
        if self.kind != Kind::File {
            return Ok(());
        }
        if !self.size_is(&found.data, bs) {
            return Err(format!(
                "{path}: size {}, not {:?}",
                found.data.len(),
                self.sizes
            ));
        }
        for (n, data) in found.data.chunks(bs).enumerate() {
            if !self.matches(n, data, 0, bs) {
                return Err(format!("{path}: block {n}:{}", self.differences(n, data)));
            }
        }
        Ok(())
    }
}

fn hole(bs: usize) -> Vec<Version> {
    vec![Version {
        event: 0,
        data: vec![0; bs],
    }]
}

/// What is possible with the ordered events before number `until`, and acknowledgements before `acked`. If `mixed`,
/// the crash was in the middle of the next ordered one.
fn possible(
    h: &History,
    until: usize,
    mixed: bool,
    acked: usize,
    bs: usize,
) -> (BTreeMap<String, usize>, Vec<View>) {
    let mut now: World = h.start.clone();
    let mut names = now.names.clone();
    let mut views: Vec<View> = now.nodes.iter().map(|n| View::of(n, 0, bs)).collect();
    let mut mixed = mixed;
    for (i, e) in h.events.iter().enumerate() {
        let before = now.clone();
        now.apply(e);
        let done = i < until;
        match e {
            Event::Names { changes, .. } if done => rename(&mut names, changes),
            Event::Xattr { node, name, value } if done => {
                set_xattr(&mut views[*node].xattrs, name, value)
            }
            Event::Resize { node, size } if done => views[*node].resize(*size, bs),
            Event::Collapse { node, .. } | Event::Insert { node, .. } if done || mixed => {
                views[*node].shift(e, now.nodes[*node].data.len(), done, bs);
            }
            Event::Attr { node, attr } => views[*node].attrs.push(*attr),
            Event::Times { node, times } => views[*node].times.push(*times),
            Event::Write { node, at, data } if !data.is_empty() => {
                let (from, to) = (before.nodes[*node].data.len(), now.nodes[*node].data.len());
                for n in *at / bs..(at + data.len()).div_ceil(bs) {
                    let data = block(&now.nodes[*node].data, n, bs);
                    views[*node].at(n, bs).push(Version { event: i + 1, data });
                }
                if to > from {
                    views[*node].sizes.push(Size::Grown {
                        from,
                        to,
                        event: i + 1,
                    });
                }
            }
            Event::Ack(ack) if i < acked => match ack {
                Ack::All => {
                    let exact = |n: &Node| View::of(n, i + 1, bs);
                    views = now.nodes.iter().map(exact).collect();
                }
                Ack::Node { node, data_only } => {
                    let mut exact = View::of(&now.nodes[*node], i + 1, bs);
                    let old = &mut views[*node];
                    if *data_only {
                        exact.attrs.clone_from(&old.attrs);
                        exact.times.clone_from(&old.times);
                        exact.xattrs.clone_from(&old.xattrs);
                    }
                    *old = exact;
                }
            },
            _ => {}
        }
        if e.ordered() && !done {
            mixed = false;
        }
    }
    (names, views)
}

fn check(
    names: &BTreeMap<String, usize>,
    views: &[View],
    tree: &Tree,
    bs: usize,
) -> Result<(), String> {
    let list = |it: Vec<&String>| it.into_iter().cloned().collect::<Vec<_>>().join(" ");
    if !names.keys().eq(tree.keys()) {
        return Err(format!(
            "names are{}, not{}",
            list(tree.keys().collect()),
            list(names.keys().collect())
        ));
    }
    let mut numbers: BTreeMap<usize, u64> = BTreeMap::new();
    for (path, found) in tree {
        let node = names[path];
        views[node].check(path, &found.node, bs)?;
        if *numbers.entry(node).or_insert(found.ino) != found.ino {
            return Err(format!("{path} is another inode than its other name"));
        }
        let links = links(names, views, path, node);
        if found.nlink != links {
            return Err(format!("{path} has {} links, not {links}", found.nlink));
        }
    }
    let mut inos: Vec<u64> = numbers.values().copied().collect();
    inos.sort_unstable();
    inos.dedup();
    if inos.len() != numbers.len() {
        return Err("two files are one".into());
    }
    Ok(())
}

fn links(names: &BTreeMap<String, usize>, views: &[View], path: &str, node: usize) -> u64 {
    if views[node].kind != Kind::Dir {
        return names.values().filter(|n| **n == node).count() as u64;
    }
    let parent = |p: &str| p.rsplit_once('/').map_or(String::new(), |(d, _)| d.into());
    let below = |(p, n): &(&String, &usize)| {
        !p.is_empty() && parent(p) == path && views[**n].kind == Kind::Dir
    };
    2 + names.iter().filter(below).count() as u64
}

/// May a crash have left `tree`? `acked` is the number of the event after the last acknowledgement that was
/// given; `bs` the block size. The error says why not, for the closest of all possibilities that are
/// not too old.
pub fn judge(h: &History, acked: usize, tree: &Tree, bs: usize) -> Result<(), String> {
    let acks = h.events.iter().enumerate().take(acked);
    let least = acks
        .filter_map(|(i, e)| match e {
            Event::Ack(a) => Some((i, *a)),
            _ => None,
        })
        .filter_map(|(i, a)| {
            (0..i).rev().find(|j| {
                let e = &h.events[*j];
                e.ordered() && e.covered_by(a)
            })
        })
        .map(|j| j + 1)
        .max()
        .unwrap_or(0);
    let ordered = |i: &usize| *i == least || *i > least && h.events[*i - 1].ordered();
    let mut why = Vec::new();
    for until in (least..=h.events.len()).filter(ordered) {
        for mixed in [false, true] {
            let (names, views) = possible(h, until, mixed, acked, bs);
            match check(&names, &views, tree, bs) {
                Ok(()) => return Ok(()),
                Err(e) => why.push(format!("with {until} events: {e}")),
            }
        }
    }
    why.dedup();
    Err(why.join("\n"))
}

/// Is `tree` exactly what the events made, as if there had been no crash?
pub fn judge_live(h: &History, tree: &Tree, bs: usize) -> Result<(), String> {
    let mut all = h.clone();
    all.events.push(Event::Ack(Ack::All));
    let n = all.events.len();
    judge(&all, n, tree, bs)
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;

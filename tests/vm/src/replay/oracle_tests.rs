// SPDX-License-Identifier: GPL-2.0

//! The oracle says yes to what the promise allows, and no to everything else that comes to mind.

use super::*;
use crate::world::{set_xattr, Found};

/// Bytes of a block in these tests.
const BS: usize = 4;

/// The tree of a world, as it would be found.
fn found(w: &World) -> Tree {
    let views: Vec<View> = w.nodes.iter().map(|n| View::of(n, 0, 4)).collect();
    let one = |(path, node): (&String, &usize)| {
        let f = Found {
            ino: *node as u64 + 100,
            nlink: links(&w.names, &views, path, *node),
            node: w.nodes[*node].clone(),
        };
        (path.clone(), f)
    };
    w.names.iter().map(one).collect()
}

struct T {
    h: History,
    now: World,
}

impl T {
    /// `a` with `aaaaaaaa` and `b` with `bbbb`.
    fn new() -> T {
        let mut w = World {
            names: BTreeMap::new(),
            nodes: vec![Node::new(Kind::Dir, 0o755)],
        };
        w.names.insert(String::new(), 0);
        for (path, data) in [("a", "aaaaaaaa"), ("b", "bbbb")] {
            let mut n = Node::new(Kind::File, 0o644);
            n.data = data.into();
            w.names.insert(path.into(), w.nodes.len());
            w.nodes.push(n);
        }
        let h = History {
            start: w.clone(),
            events: Vec::new(),
        };
        T { h, now: w }
    }

    fn event(mut self, e: Event) -> T {
        self.now.apply(&e);
        self.h.events.push(e);
        self
    }

    fn write(self, at: usize, data: &str) -> T {
        self.event(Event::Write {
            node: 1,
            at,
            data: data.into(),
        })
    }

    fn name(self, path: &str, node: Option<usize>, touches: &[usize]) -> T {
        self.event(Event::Names {
            changes: vec![(path.into(), node)],
            touches: touches.into(),
            born: None,
        })
    }

    fn ack(self, data_only: bool) -> T {
        self.event(Event::Ack(Ack::Node { node: 1, data_only }))
    }

    /// The tree with these bytes in `a`.
    fn with(&self, data: &str) -> Tree {
        let mut w = self.now.clone();
        w.nodes[1].data = data.into();
        found(&w)
    }

    fn may(&self, tree: &Tree) -> bool {
        let acks = |e: &&Event| matches!(e, Event::Ack(_));
        assert!(
            self.h.events.iter().filter(acks).count() <= 1,
            "one at most"
        );
        judge(&self.h, self.h.events.len(), tree, BS).is_ok()
    }

    fn yes(&self, data: &[&str]) {
        for d in data {
            assert!(self.may(&self.with(d)), "{d} must be allowed");
        }
    }

    fn no(&self, data: &[&str]) {
        for d in data {
            assert!(!self.may(&self.with(d)), "{d} must not be allowed");
        }
    }
}

#[test]
fn blocks_are_old_or_new() {
    let t = T::new().write(2, "1111");
    t.yes(&["aaaaaaaa", "aa11aaaa", "aaaa11aa", "aa1111aa"]);
    t.no(&[
        "aa11aabb",
        "a111aaaa",
        "aaaabbbb",
        "\0\0\0\0aaaa",
        "aaaa",
        "aa1111aa1",
    ]);
    let t = t.ack(true);
    t.yes(&["aa1111aa"]);
    t.no(&["aaaaaaaa", "aa11aaaa", "aaaa11aa"]);
    t.write(0, "2222").yes(&["aa1111aa", "222211aa"]);
}

#[test]
fn a_size_covers_what_was_written() {
    let t = T::new().write(8, "111111");
    t.yes(&["aaaaaaaa", "aaaaaaaa1111", "aaaaaaaa111111"]);
    // Not the end of a block, past the end, the end not written.
    t.no(&["aaaaaaaa111", "aaaaaaaa111111\0\0", "aaaaaaaa\0\0\0\0"]);
    t.no(&["aaaaaaaa1111\0\0", "aaaa"]);
    // An earlier block may be missing.
    t.yes(&["aaaaaaaa\0\0\0\x0011"]);
    t.ack(false)
        .no(&["aaaaaaaa", "aaaaaaaa1111", "aaaaaaaa\0\0\0\x0011"]);
}

#[test]
fn what_was_cut_off_stays_away() {
    let cut = |t: T| t.event(Event::Resize { node: 1, size: 6 });
    let t = cut(T::new());
    t.yes(&["aaaaaaaa", "aaaaaa"]);
    t.no(&["aaaaa", "aaaa", ""]);
    let t = t.event(Event::Resize { node: 1, size: 8 });
    t.yes(&["aaaaaa\0\0", "aaaaaaaa", "aaaaaa"]);
    t.ack(true).no(&["aaaaaaaa", "aaaaaa"]);
    // With a name that came later, the cut has happened; data that was written before it need not be there.
    let t = cut(T::new().write(4, "1111")).name("c", Some(2), &[0, 2]);
    t.yes(&["aaaaaa", "aaaa11"]);
    t.no(&["aaaaaaaa", "aaaa1111"]);
}

#[test]
fn names_come_in_order() {
    let one = T::new().name("c", Some(1), &[0, 1]);
    let two = T::new()
        .name("c", Some(1), &[0, 1])
        .name("b", None, &[0, 2]);
    let only_second = T::new().name("b", None, &[0, 2]);
    let tree = |t: &T| found(&t.now);
    assert!(two.may(&tree(&T::new())) && two.may(&tree(&one)) && two.may(&tree(&two)));
    assert!(!two.may(&tree(&only_second)));
    // fsync of the first keeps its names; the second is not its business.
    let two = two.ack(false);
    assert!(!two.may(&tree(&T::new())) && two.may(&tree(&one)) && two.may(&tree(&two)));
}

#[test]
fn attributes_count() {
    let value = Some(vec![1; 9]);
    let set = Event::Xattr {
        node: 1,
        name: "user.x".into(),
        value: value.clone(),
    };
    let attr = Attr {
        mode: 0o600,
        owner: (0, 0),
    };
    let t = T::new().event(set).event(Event::Attr { node: 1, attr });
    let tree = |mode: u32, value: Option<Vec<u8>>| {
        let mut w = T::new().now;
        set_xattr(&mut w.nodes[1].xattrs, "user.x", &value);
        w.nodes[1].attr.mode = mode;
        found(&w)
    };
    for mode in [0o600, 0o644] {
        assert!(t.may(&tree(mode, None)) && t.may(&tree(mode, value.clone())));
        assert!(!t.may(&tree(mode, Some(vec![1; 8]))));
    }
    assert!(!t.may(&tree(0o640, None)));
    let t = t.ack(false);
    assert!(t.may(&tree(0o600, value.clone())));
    assert!(!t.may(&tree(0o600, None)) && !t.may(&tree(0o644, value)));
}

#[test]
fn an_owner_counts_as_a_whole() {
    let attr = |mode, owner| Attr { mode, owner };
    let (old, new) = (attr(0o644, (0, 0)), attr(0o644, (7, 8)));
    let t = T::new().event(Event::Attr { node: 1, attr: new });
    let may = |t: &T, attr| {
        let mut w = t.now.clone();
        w.nodes[1].attr = attr;
        t.may(&found(&w))
    };
    assert!(may(&t, old) && may(&t, new));
    assert!(!may(&t, attr(0o644, (7, 0))) && !may(&t, attr(0o600, (7, 8))));
    // fdatasync need not keep it.
    let t = t.ack(true);
    assert!(may(&t, old) && may(&t, new));
    let t = T::new().event(Event::Attr { node: 1, attr: new });
    let t = t.ack(false);
    assert!(!may(&t, old) && may(&t, new));
}

#[test]
fn times_are_acknowledged() {
    let times = |data, change| Times {
        born: 0,
        data,
        change,
    };
    let seen = |t: T, times| t.event(Event::Times { node: 1, times });
    let may = |t: &T, times| {
        let mut w = t.now.clone();
        w.nodes[1].times = times;
        t.may(&found(&w))
    };
    let change = |t| seen(seen(t, times(5, 5)), times(5, 9));
    // Anything between, for an operation may take more than one step.
    for t in [change(T::new()), change(T::new()).ack(true)] {
        assert!(may(&t, times(0, 0)) && may(&t, times(5, 9)) && may(&t, times(3, 8)));
        assert!(!may(&t, times(6, 9)) && !may(&t, times(0, 10)) && !may(&t, times(-1, 9)));
        let born = Times {
            born: 1,
            ..times(5, 9)
        };
        assert!(!may(&t, born));
    }
    let t = change(T::new()).ack(false);
    assert!(may(&t, times(5, 9)));
    assert!(!may(&t, times(5, 5)) && !may(&t, times(0, 9)) && !may(&t, times(5, 8)));
    let t = seen(t, times(5, 20));
    assert!(may(&t, times(5, 9)) && may(&t, times(5, 20)) && !may(&t, times(5, 8)));
    // One that was set back.
    let t = seen(T::new(), times(-90, 9));
    assert!(may(&t, times(-90, 9)) && may(&t, times(0, 0)) && !may(&t, times(1, 9)));
}

#[test]
fn ranges_move_in_steps() {
    let out = Event::Collapse {
        node: 1,
        at: 0,
        len: 4,
    };
    let t = T::new()
        .write(4, "1234")
        .event(Event::Ack(Ack::All))
        .event(out);
    t.yes(&["aaaa1234", "1234", "12341234", "1234\0\0\0\0"]);
    t.no(&["aaaa", "12", "1234aaaa", "bbbb"]);
    let t = t.name("c", Some(2), &[0, 2]);
    t.yes(&["1234"]);
    t.no(&["aaaa1234", "12341234"]);
    let put = Event::Insert {
        node: 1,
        at: 4,
        len: 4,
    };
    let t = T::new()
        .write(4, "1234")
        .event(Event::Ack(Ack::All))
        .event(put);
    t.yes(&[
        "aaaa1234",
        "aaaa\0\0\0\x001234",
        "aaaa1234\0\0\0\0",
        "aaaa12341234",
    ]);
    t.no(&["aaaa12345678", "1234", "aaaa\0\0\0\0"]);
}

#[test]
fn links_and_identity_count() {
    let t = T::new();
    let good = found(&t.now);
    assert!(t.may(&good));
    let wrong = |change: fn(&mut Tree)| {
        let mut tree = good.clone();
        change(&mut tree);
        assert!(!t.may(&tree), "{tree:?}");
    };
    wrong(|t| t.get_mut("a").unwrap().nlink = 2);
    wrong(|t| t.get_mut("").unwrap().nlink = 3);
    wrong(|t| t.get_mut("a").unwrap().ino = t["b"].ino);
    wrong(|t| t.get_mut("a").unwrap().node.kind = Kind::Fifo);
    wrong(|t| drop(t.remove("b")));
    wrong(|t| drop(t.insert("c".into(), t["b"].clone())));
    wrong(|t| {
        let a = t["a"].clone();
        let b = t.insert("b".into(), a).unwrap();
        t.insert("a".into(), b);
    });
    let t = T::new().name("c", Some(1), &[0, 1]);
    let mut tree = found(&t.now);
    assert!(t.may(&tree));
    tree.get_mut("c").unwrap().ino = 999;
    assert!(!t.may(&tree));
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Logs that were recorded from calf in the test VM (with and without a bug switched on), and what is
//! told of them.

use iomap_trace::draw::draw;
use iomap_trace::event::FileId;
use iomap_trace::story::{Operation, Teller, What};
use std::path::PathBuf;

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/logs")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

fn tell(log: &str) -> Vec<Operation> {
    Teller::tell(4096, &file(log))
}

fn rules(op: &Operation) -> Vec<&str> {
    let broken = op.steps.iter().flat_map(|s| &s.broken);
    broken.map(|b| b.rule.as_str()).collect()
}

/// The tables are those beside the logs. `UPDATE=1` writes them anew, to be read before they are
/// committed.
#[test]
fn tables() {
    for log in ["unshare", "writeback", "clone"] {
        let told: String = tell(&format!("{log}.log"))
            .iter()
            .map(|op| format!("{op}\n"))
            .collect();
        let name = format!("{log}.txt");
        if std::env::var_os("UPDATE").is_some() {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("tests/logs")
                .join(&name);
            std::fs::write(path, &told).unwrap();
        }
        assert_eq!(told, file(&name), "{log}");
    }
}

/// Seed 000: the second mapping is its own source, and the operation ends with EIO.
#[test]
fn unshare_over_a_hole() {
    let all = tell("unshare.log");
    let op = all.iter().find(|op| op.is_broken()).unwrap();
    assert_eq!(op.name, "iomap_file_unshare");
    assert_eq!(op.flags, "WRITE|UNSHARE");
    assert_eq!(rules(op), ["G7", "G8"]);
    assert!(op.steps.iter().any(|s| s.what == What::End(0, -5)), "{op}");
}

/// Writeback through a mapping that ends before the range.
#[test]
fn writeback_past_its_mapping() {
    let all = tell("writeback.log");
    let broken: Vec<_> = all.iter().filter(|op| op.is_broken()).collect();
    let [op] = broken[..] else {
        panic!("{} are broken", broken.len())
    };
    assert_eq!((op.name.as_str(), rules(op)), ("writeback", vec!["G14"]));
}

/// Clone, write, direct I/O, zero, punch, fiemap: nothing is broken, every iteration ends.
#[test]
fn nothing_broken() {
    let all = tell("clone.log");
    assert!(all.len() > 10);
    for op in &all {
        assert!(!op.is_broken(), "{op}");
        let begins = op
            .steps
            .iter()
            .filter(|s| matches!(s.what, What::Begin(_)))
            .count();
        let answers = op
            .steps
            .iter()
            .filter(|s| matches!(s.what, What::Destination(_)))
            .count();
        // The last call asks and gets no answer: there is nothing left.
        assert!(begins == answers || begins == answers + 1, "{op}");
    }
    let fiemap = all.iter().find(|op| op.name == "iomap_fiemap").unwrap();
    assert!(fiemap.steps.len() > 10, "one operation for all extents");
}

#[test]
fn pictures() {
    for (log, ino, broken) in [("writeback.log", 2, 1), ("clone.log", 3, 0)] {
        let all = tell(log);
        let file = FileId {
            dev: "98:32".into(),
            ino,
        };
        let picture = draw(&all, &file).unwrap();
        let mappings = all
            .iter()
            .filter(|op| op.file == file)
            .flat_map(|op| &op.steps);
        let mappings = mappings.filter(|s| {
            matches!(
                s.what,
                What::Destination(_) | What::Source(_) | What::Ioend(..)
            )
        });
        let tags = svg::read(&picture).unwrap();
        let mut boxes = 0;
        for tag in tags {
            match tag {
                svg::parser::Event::Tag("rect", _, at)
                    if at.get("stroke-width").is_some_and(|w| &**w == "2") =>
                {
                    boxes += 1
                }
                svg::parser::Event::Error(e) => panic!("{e}"),
                _ => (),
            }
        }
        assert_eq!(boxes, broken, "{log}");
        assert_eq!(picture.matches("<rect").count(), mappings.count(), "{log}");
    }
    let nobody = FileId {
        dev: "1:1".into(),
        ino: 1,
    };
    assert_eq!(draw(&tell("clone.log"), &nobody), None);
}

// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A file's ranges over time, as a picture: one row for each mapping, time downwards.

use crate::event::FileId;
use crate::judge::view::ty;
use crate::judge::Map;
use crate::story::{Operation, What};
use svg::node::element::{Line, Rectangle, Text, Title};
use svg::Document;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 250.0;
const ROW: f64 = 16.0;
const HEAD: f64 = 40.0;

struct Row<'a> {
    time: f64,
    label: String,
    map: &'a Map,
    from: i64,
    to: i64,
    broken: String,
}

fn colour(map: &Map) -> &'static str {
    match map.ty {
        ty::HOLE => "#ffffff",
        ty::DELALLOC => "#f5d76e",
        ty::MAPPED => "#5a9bd4",
        ty::UNWRITTEN => "#b8d8ba",
        ty::INLINE => "#c9a0dc",
        _ => "#e74c3c",
    }
}

fn rows<'a>(operations: &'a [Operation], file: &FileId) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for op in operations.iter().filter(|op| op.file == *file) {
        for step in &op.steps {
            let (name, map) = match &step.what {
                What::Destination(map) => (op.name.clone(), map),
                What::Source(map) => (format!("{} source", op.name), map),
                What::Ioend(_, _, map) => ("ioend".to_string(), map),
                _ => continue,
            };
            let (from, to) = match step.what {
                What::Ioend(pos, len, _) => (pos, pos.saturating_add(len as i64)),
                _ => (map.offset, map.end().unwrap_or(i64::MAX)),
            };
            let broken: Vec<&str> = step.broken.iter().map(|b| b.rule.as_str()).collect();
            rows.push(Row {
                time: step.time,
                label: format!("{:.6} {name}", step.time),
                map,
                from,
                to,
                broken: broken.join(" "),
            });
        }
    }
    rows.sort_by(|a, b| a.time.total_cmp(&b.time));
    rows
}

/// The picture of one file; `None` if the log has no mapping of it.
pub fn draw(operations: &[Operation], file: &FileId) -> Option<String> {
    let rows = rows(operations, file);
    // Maps to the end of all files would leave no room for the others.
    let end = rows.iter().filter(|r| r.map.ty != ty::HOLE).map(|r| r.to);
    let end = end
        .max()
        .or(rows.iter().map(|r| r.from + 4096).max())?
        .max(1);
    let x = |pos: i64| LEFT + (pos.clamp(0, end) as f64) / (end as f64) * (WIDTH - LEFT - 80.0);
    let height = HEAD + ROW * (rows.len() as f64 + 1.0);
    let text = |at: f64, y: f64, what: &str| {
        Text::new(what)
            .set("x", at)
            .set("y", y)
            .set("font-family", "monospace")
            .set("font-size", 11)
    };
    let mut doc = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .add(text(
            4.0,
            14.0,
            &format!("file {file}, bytes 0 to {end:#x}"),
        ))
        .add(text(
            4.0,
            28.0,
            "white hole, yellow delalloc, blue mapped, green unwritten; red: a rule is broken",
        ));
    for (i, row) in rows.iter().enumerate() {
        let y = HEAD + ROW * i as f64;
        let (from, to) = (x(row.from), x(row.to));
        let edge = if row.broken.is_empty() {
            "#444444"
        } else {
            "#c0392b"
        };
        doc = doc
            .add(text(4.0, y + 11.0, &row.label))
            .add(
                Rectangle::new()
                    .set("x", from)
                    .set("y", y + 2.0)
                    .set("width", (to - from).max(1.0))
                    .set("height", ROW - 4.0)
                    .set("fill", colour(row.map))
                    .set("stroke", edge)
                    .set(
                        "stroke-width",
                        if row.broken.is_empty() { 0.5 } else { 2.0 },
                    )
                    .add(Title::new(row.map.to_string())),
            )
            .add(text(WIDTH - 76.0, y + 11.0, &row.broken).set("fill", "#c0392b"));
    }
    doc = doc.add(
        Line::new()
            .set("x1", LEFT)
            .set("x2", LEFT)
            .set("y1", HEAD)
            .set("y2", height)
            .set("stroke", "#999999"),
    );
    Some(doc.to_string())
}

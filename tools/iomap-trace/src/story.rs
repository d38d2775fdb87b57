// SPDX-License-Identifier: GPL-2.0 OR MIT

//! From events to operations: which mapping answered which request, and what was broken.

use crate::event::{Event, FileId};
use crate::judge::rules::Rule;
use crate::judge::sequence::Operation as Rounds;
use crate::judge::{begin, writeback, File, Map, Request};
use std::collections::BTreeMap;

/// A broken rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// Name of the rule.
    pub rule: String,
    /// In words.
    pub why: String,
}

/// One line of the table of an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Seconds.
    pub time: f64,
    /// What happened.
    pub what: What,
    /// The rules that it breaks.
    pub broken: Vec<Broken>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The operation asks for a mapping at this position.
    Begin(i64),
    /// The answer.
    Destination(Map),
    /// Where to read what the operation must keep.
    Source(Map),
    /// The operation came back; bytes that it advanced, its status.
    End(i64, i64),
    /// Writeback puts this range, with this mapping, into an ioend.
    Ioend(i64, u64, Map),
    /// Anything else, as it was recorded: name, text.
    Note(String, String),
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Who.
    pub task: String,
    /// On what.
    pub file: FileId,
    /// The function of iomap, or `writeback`, `direct I/O`.
    pub name: String,
    /// Names of the request's flags.
    pub flags: String,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

impl Operation {
    /// Seconds of the first event.
    pub fn start(&self) -> f64 {
        self.steps.first().map_or(0.0, |s| s.time)
    }

    /// Something is broken.
    pub fn is_broken(&self) -> bool {
        self.steps.iter().any(|s| !s.broken.is_empty())
    }
}

/// An operation that may go on.
struct Open {
    index: usize,
    request: Request,
    rounds: Rounds,
    /// The last event asked, the answer has not come.
    asked: bool,
    caller: String,
    /// The step of the last answer, and what is broken in it without a source.
    step: usize,
    own: Vec<Broken>,
}

/// A step: number of the operation, and in it.
type Place = (usize, usize);

/// Makes operations of the events of a log.
pub struct Teller {
    block: u64,
    /// Operations, in the order of their first events.
    pub operations: Vec<Operation>,
    /// Iterations under way, the innermost last.
    open: BTreeMap<String, Vec<Open>>,
    /// The last other operation of a task on a file: writeback, direct I/O.
    plain: BTreeMap<(String, FileId, &'static str), usize>,
    sizes: BTreeMap<FileId, i64>,
    /// The last step of each task.
    last: BTreeMap<String, Place>,
    /// What the checker module said since to a task, with the step before it.
    said: Vec<(String, Option<Place>, Broken)>,
}

impl Teller {
    /// `block`: block size of the filesystem in bytes, which no event tells.
    pub fn new(block: u64) -> Self {
        Self {
            block,
            operations: Vec::new(),
            open: BTreeMap::new(),
            plain: BTreeMap::new(),
            sizes: BTreeMap::new(),
            last: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// The size that events have told last; else more than any position.
    fn file(&self, id: &FileId) -> File {
        File {
            size: self.sizes.get(id).copied().unwrap_or(i64::MAX),
            block: self.block,
        }
    }

    /// Takes one event.
    pub fn hear(&mut self, e: &Event) {
        let Some(id) = e.file() else { return };
        if let Some(size) = e.number("size") {
            self.sizes.insert(id.clone(), size as i64);
        }
        if e.name == "iomap_check_report" {
            let rule = e.word("rule").unwrap_or("?").to_string();
            let why = e.text.rsplit_once(": ").map_or("", |(_, w)| w).to_string();
            let before = self.last.get(&e.task).copied();
            return self
                .said
                .push((e.task.clone(), before, Broken { rule, why }));
        }
        match e.name.as_str() {
            "iomap_iter" => self.iter(e, id),
            "iomap_iter_dstmap" => self.destination(e, &id),
            "iomap_iter_srcmap" => self.source(e, &id),
            "iomap_writeback_folio" => self.note(e, id, "writeback"),
            "iomap_add_to_ioend" => self.ioend(e, id),
            name if name.starts_with("iomap_dio") => self.note(e, id, "direct I/O"),
            _ => self.note(e, id, "page cache"),
        }
        self.place_reports(Some(&e.task));
    }

    /// Puts what the checker module said to the step that it is about. It comes before or after the
    /// event, as the two were attached to the tracepoint; and mostly these rules have said the same.
    fn place_reports(&mut self, task: Option<&str>) {
        let (now, wait) = std::mem::take(&mut self.said)
            .into_iter()
            .partition(|(t, _, _)| task.is_none_or(|task| t == task));
        self.said = wait;
        for (task, before, broken) in now {
            let after = self.last.get(&task).copied();
            let steps = [after, before];
            let mut steps = steps.into_iter().flatten();
            let said = |&(o, s): &Place| {
                let step: &Step = &self.operations[o].steps[s];
                step.broken.iter().any(|b| b.rule == broken.rule)
            };
            if steps.clone().any(|s| said(&s)) {
                continue;
            }
            let answers = |&(o, s): &Place| {
                let what = &self.operations[o].steps[s].what;
                matches!(what, What::Destination(_) | What::Ioend(..))
            };
            let place = steps.clone().find(answers).or_else(|| steps.next());
            if let Some((o, s)) = place {
                self.operations[o].steps[s].broken.push(broken);
            }
        }
    }

    /// The last step of operation `index` is the last of the task.
    fn mark(&mut self, task: &str, index: usize) {
        let step = self.operations[index].steps.len() - 1;
        self.last.insert(task.into(), (index, step));
    }

    /// Takes a whole log.
    pub fn tell(block: u64, log: &str) -> Vec<Operation> {
        let mut teller = Self::new(block);
        for event in log.lines().filter_map(Event::parse) {
            teller.hear(&event);
        }
        teller.place_reports(None);
        teller.operations
    }

    fn iter(&mut self, e: &Event, id: FileId) {
        // Without the place in it: iterations have a call before the loop and one in it.
        let caller = e.word("caller").unwrap_or("?");
        let caller = caller.split('+').next().unwrap_or("?").to_string();
        let pos = e.number("pos").unwrap_or(0) as i64;
        let status = e.number("status").unwrap_or(0) as i64;
        let stack = self.open.entry(e.task.clone()).or_default();
        // What asked and got no answer has ended, and so has what another one overtook.
        while stack.last().is_some_and(|o| o.asked) {
            stack.pop();
        }
        let goes_on = |o: &Open| {
            let op = &self.operations[o.index];
            op.file == id && o.caller == caller && pos >= o.request.pos
        };
        if let Some(at) = stack.iter().rposition(goes_on) {
            stack.truncate(at + 1);
        }
        let step = |what| Step {
            time: e.time,
            what,
            broken: Vec::new(),
        };
        if let Some(o) = stack.last_mut().filter(|o| goes_on(o)) {
            let steps = &mut self.operations[o.index].steps;
            steps.push(step(What::End(pos - o.request.pos, status)));
            steps.push(step(What::Begin(pos)));
            o.request.pos = pos;
            o.asked = true;
            let index = o.index;
            return self.mark(&e.task, index);
        }
        let flags = e.word("flags").unwrap_or("").to_string();
        let flags = if flags.starts_with('(') {
            "READ".into()
        } else {
            flags
        };
        self.operations.push(Operation {
            task: e.task.clone(),
            file: id,
            name: caller.clone(),
            flags,
            steps: vec![step(What::Begin(pos))],
        });
        stack.push(Open {
            index: self.operations.len() - 1,
            request: Request {
                pos,
                // The length in the event is that of the mapping before.
                len: 0,
                flags: e.code("flags").unwrap_or(0) as u32,
                has_batch: true,
                ..Request::default()
            },
            rounds: Rounds::default(),
            asked: true,
            caller,
            step: 0,
            own: Vec::new(),
        });
        self.mark(&e.task, self.operations.len() - 1);
    }

    fn destination(&mut self, e: &Event, id: &FileId) {
        let file = self.file(id);
        let Some(map) = e.map() else { return };
        let Some(o) = self.open.get_mut(&e.task).and_then(|s| s.last_mut()) else {
            return;
        };
        let op = &mut self.operations[o.index];
        if !o.asked || op.file != *id {
            return;
        }
        o.asked = false;
        o.request.map = map;
        o.request.src = Map::default();
        o.step = op.steps.len();
        let mut step = Step {
            time: e.time,
            what: What::Destination(map),
            broken: Vec::new(),
        };
        let first = o.rounds.rounds == 0;
        step.broken = judge(&o.request, &file, first);
        o.own = step.broken.clone();
        let broken = &mut step.broken;
        o.rounds
            .begun(&o.request, &mut |rule, why| add(broken, rule, why));
        op.steps.push(step);
        let index = o.index;
        self.mark(&e.task, index);
    }

    fn source(&mut self, e: &Event, id: &FileId) {
        let file = self.file(id);
        let Some(map) = e.map() else { return };
        let Some(o) = self.open.get_mut(&e.task).and_then(|s| s.last_mut()) else {
            return;
        };
        let op = &mut self.operations[o.index];
        if o.asked || op.file != *id {
            return;
        }
        // Judged again, now that both are known.
        o.request.src = map;
        let broken = judge(&o.request, &file, false);
        if let Some(step) = op.steps.get_mut(o.step) {
            // What was said without the source, or by the kernel, may be about the source.
            step.broken.retain(|b| match o.own.contains(b) {
                true => broken.contains(b),
                false => !broken.iter().any(|n| n.rule == b.rule),
            });
            let new = |b: &Broken| !step.broken.contains(b);
            let broken = broken.into_iter().filter(new).collect();
            op.steps.push(Step {
                time: e.time,
                what: What::Source(map),
                broken,
            });
        }
        let index = o.index;
        self.mark(&e.task, index);
    }

    /// Adds a step to the operation of this kind that the task is at, or to a new one.
    fn plain(&mut self, e: &Event, id: FileId, kind: &'static str, new: bool, step: Step) {
        // What follows in the task is no answer to what asked before.
        if let Some(stack) = self.open.get_mut(&e.task) {
            stack.retain(|o| !o.asked);
        }
        let key = (e.task.clone(), id.clone(), kind);
        let known = self.plain.get(&key).copied().filter(|_| !new);
        let index = known.unwrap_or_else(|| {
            self.operations.push(Operation {
                task: e.task.clone(),
                file: id,
                name: kind.into(),
                flags: String::new(),
                steps: Vec::new(),
            });
            self.operations.len() - 1
        });
        self.plain.insert(key, index);
        self.operations[index].steps.push(step);
        self.mark(&e.task, index);
    }

    fn note(&mut self, e: &Event, id: FileId, kind: &'static str) {
        let new = matches!(
            e.name.as_str(),
            "iomap_writeback_folio" | "iomap_dio_rw_begin"
        );
        let text = e.text.split_once(" ino ").map_or("", |(_, t)| t);
        let text = text.split_once(' ').map_or("", |(_, t)| t).to_string();
        let step = Step {
            time: e.time,
            what: What::Note(e.name.clone(), text),
            broken: Vec::new(),
        };
        self.plain(e, id, kind, new, step);
    }

    fn ioend(&mut self, e: &Event, id: FileId) {
        let file = self.file(&id);
        let (Some(map), Some(pos)) = (e.map(), e.number("pos")) else {
            return;
        };
        let (pos, len) = (pos as i64, e.number("len").unwrap_or(0));
        let mut broken = Vec::new();
        writeback::judge(&map, pos, &file, &mut |r, why| add(&mut broken, r, why));
        let step = Step {
            time: e.time,
            what: What::Ioend(pos, len, map),
            broken,
        };
        self.plain(e, id, "writeback", false, step);
    }
}

fn add(broken: &mut Vec<Broken>, rule: Rule, why: &str) {
    // Only the kernel knows the length of a request.
    if matches!(rule, Rule::G12 | Rule::G26) {
        return;
    }
    broken.push(Broken {
        rule: rule.name().into(),
        why: why.into(),
    });
}

fn judge(r: &Request, file: &File, first: bool) -> Vec<Broken> {
    let mut broken = Vec::new();
    begin::judge(r, file, first, &mut |rule, why| add(&mut broken, rule, why));
    broken
}

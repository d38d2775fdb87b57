#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""The pages of the switches, docs/bugs/: one for each, a list of them, and what they print.

    scripts/switches.py                  write the list in docs/bugs/README.md
    scripts/switches.py --check          fail if a switch has no page, no reproducer or no line in the list, or a
                                         page no switch, or lacks a part
    scripts/switches.py --output LOG...  write what the reproducers printed (guest.log of `make run`) into the pages
    scripts/switches.py --long TEXT LOG...  write docs/bugs/long-run.md from long runs; TEXT says where they ran
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
BUGS = TOP / "docs/bugs"
# Pages that are about more than one switch.
OTHERS = {"README", "seed-000", "long-run", "mutation"}
PARTS = ["## Then", "## Now on 7.3", "## What happens", "## See it", "## How XFS keeps it"]
SHOWN = re.compile(r"<!-- output -->.*?<!-- end -->", re.S)
LIST = re.compile(r"<!-- list -->.*?<!-- end -->", re.S)
LONG = """# The long run

Every switch {runs} times on and {runs} times off, all as expected: {where}; the runs took {minutes} minutes.
Made by `scripts/switches.py --long` from the output of `make lab-table`; do not edit.

| switch | contract | off | on | seconds | seen in the first run with the switch on |
|---|---|---|---|---|---|
"""


def switches():
    """Name -> contract, in the order of the table in the source."""
    text = (TOP / "rust/lab/switches.rs").read_text()
    return dict(re.findall(r'^    \w+ =\s+"(\w+)",\s+"(C-[A-Z0-9-]+)";', text, re.M))


def pages():
    """Name -> text of the pages that are about one switch."""
    return {p.stem: p.read_text() for p in sorted(BUGS.glob("*.md")) if p.stem not in OTHERS}


def reproducers():
    """Names of the reproducers."""
    text = "".join(p.read_text() for p in (TOP / "tests/repro/src").glob("*.rs"))
    return {a or b for a, b in re.findall(r'name: "(\w+)"|variant!\(\s*\w+,\s*"(\w+)"', text)}


def index(table, have):
    rows = ["<!-- list -->", "| switch | contract | what it brings back |", "|---|---|---|"]
    for name, contract in table.items():
        title = re.match(r"# `\w+`: (.*)", have.get(name, ""))
        link = f"[`{name}`]({name}.md)" if title else f"`{name}`"
        rows.append(f"| {link} | {contract} | {title[1] if title else 'no page yet'} |")
    return "\n".join(rows + ["<!-- end -->"])


def check(table, have):
    bad = []
    repro = reproducers()
    bad += [f"switch {n} has no page docs/bugs/{n}.md" for n in table.keys() - have.keys()]
    bad += [f"docs/bugs/{n}.md is about no switch" for n in have.keys() - table.keys()]
    bad += [f"switch {n} has no reproducer" for n in table.keys() - repro]
    bad += [f"reproducer {n} has no switch" for n in repro - table.keys()]
    for name, text in have.items():
        page = f"docs/bugs/{name}.md"
        if not re.match(rf"# `{name}`: \S", text):
            bad.append(f"{page}: the first line is not '# `{name}`: what it brings back'")
        if name in table and table[name] not in text:
            bad.append(f"{page}: contract {table[name]} is not there")
        bad += [f"{page}: no part '{part}'" for part in PARTS if part not in text]
        if "```mermaid" not in text:
            bad.append(f"{page}: no diagram")
        if not re.search(r"<!-- output -->\n.*off +0 of \d.*\non +[1-9]", text, re.S):
            bad.append(f"{page}: no output, see --output")
    if index(table, have) not in (BUGS / "README.md").read_text():
        bad.append("docs/bugs/README.md is out of date: run scripts/switches.py")
    return sorted(bad)


def results(logs):
    """(name, off, on, verdict) of every CALF-REPRO line."""
    line = re.compile(r'^CALF-REPRO name=(\w+) .* off="(.*?)" on="(.*?)" verdict=(\S+)', re.M)
    return [r for log in logs for r in line.findall(pathlib.Path(log).read_text(errors="replace"))]


def output(logs):
    for name, off, on, verdict in results(logs):
        page = BUGS / f"{name}.md"
        if verdict != "as-expected" or "not run" in (off, on) or not page.exists():
            print(f"switches: {name}: not used ({verdict})", file=sys.stderr)
            continue
        block = f"<!-- output -->\n```\noff  {off}\non   {on}\n```\n<!-- end -->"
        page.write_text(SHOWN.sub(lambda _: block, page.read_text()))


def long(where, logs):
    table = switches()
    rows, runs, seconds = {}, set(), {}
    for log in logs:
        text = pathlib.Path(log).read_text(errors="replace")
        took = {}
        for name, secs in re.findall(r"^ok \d+ - (\w+) (?:on|off): .* # ([0-9.]+) s", text, re.M):
            took[name] = took.get(name, 0.0) + float(secs)
        seen = dict(re.findall(r"^(\w+) +C-\S+ +\d+ of \d+ +\d+ of \d+ +(.*?) +as-expected", text, re.M))
        for name, off, on, verdict in results([log]):
            n = [re.match(r"(\d+ of (\d+)):", side) for side in (off, on)]
            if verdict != "as-expected" or not all(n):
                sys.exit(f"switches: {name} is not as expected: {off} / {on}")
            runs |= {m[2] for m in n}
            seconds[name] = took.get(name, 0)
            rows[name] = (f"| [`{name}`]({name}.md) | {table[name]} | {n[0][1]} | {n[1][1]} | {seconds[name]:.0f} "
                          f"| {seen.get(name, '?')} |")
    missing = table.keys() - rows.keys()
    if len(runs) != 1 or missing:
        sys.exit(f"switches: runs {sorted(runs)}, missing: {sorted(missing)}")
    head = LONG.format(runs=runs.pop(), where=where, minutes=round(sum(seconds.values()) / 60))
    (BUGS / "long-run.md").write_text(head + "\n".join(rows[n] for n in table) + "\n")


def main():
    table, have = switches(), pages()
    match sys.argv[1:]:
        case []:
            readme = BUGS / "README.md"
            readme.write_text(LIST.sub(lambda _: index(table, have), readme.read_text()))
        case ["--check"]:
            bad = check(table, have)
            if bad:
                sys.exit("\n".join(bad))
        case ["--output", *logs]:
            output(logs)
        case ["--long", where, *logs] if logs:
            long(where, logs)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes docs/bugs/mutation.md from what real runs have printed: switch, contract, checks, reproducer, other tests.

    scripts/mutation.py LOG...     LOG: guest.log of VMs that ran the tasks repro and mutation (make mutation); rows of
                                   switches that did not run stay as they are (without LOG all of
                                   them, with the rules of docs/iomap-check.md)
    scripts/mutation.py --check    fail if a switch has no row, or a row no switch, or the rules are not those of
                                   docs/iomap-check.md
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
OUT = TOP / "docs/bugs/mutation.md"
PROGRAMS = ["fsx", "model", "pjdfstest"]
HEAD = """# Mutation table

Each switch brings one bug back. Which check of calf sees it while its reproducer runs, what the reproducer says, and
which of the tests that know nothing of the bug notice it: `fsx` (two seeds of %(ops)s operations), `model` (%(steps)s steps
on four filesystems) and `pjdfstest`, each run with the switch on. *Notices* means that the test itself failed; in
brackets, the contracts that the module saw broken under it, which is more than the test can see. The rules are those of
[`iomap_check.ko`](../iomap-check.md), which sees only what passes between iomap and a filesystem: *not run* are
switches that are not expected to show there, and G20 to G23 those of its oracle, in a script of its own. Which checks no switch fires: [checks](../checks.md).

Made by `make mutation` from real runs (%(where)s); do not edit. `none` is the same without any switch.

| switch | contract | checks that fire in the reproducer | rules of iomap_check | off | on | verdict | fsx | model | pjdfstest |
|---|---|---|---|---|---|---|---|---|---|
"""


def switches():
    text = (TOP / "rust/lab/switches.rs").read_text()
    return re.findall(r'\w+ =\s*"([a-z0-9_]+)",\s*"(C-[A-Z0-9-]+)"', text)


def rules():
    """Switch -> rules that fired with it, from the measured tables of docs/iomap-check.md."""
    text = (TOP / "docs/iomap-check.md").read_text()
    found = {}
    for table in ("oracle", "switches"):
        rows = re.search(r"<!-- %s -->(.*?)<!-- end -->" % table, text, re.S)[1]
        found |= {name: ", ".join(seen.split()) for name, seen in re.findall(r"^\| `(\w+)` \| (.*) \|$", rows, re.M)}
    return found


def row_of(name, cells, seen):
    """A line of the table; the cells are those without the rules."""
    rule = "" if name == "none" else seen.get(name, "not run")
    return "| " + " | ".join([*cells[:3], rule, *cells[3:]]) + " |\n"


def old_rows(text):
    """Switch -> cells without the rules."""
    found = {}
    for line in re.findall(r"^\| `\w+` \|.*\|$", text, re.M):
        cells = [c.strip() for c in line.strip("|").split("|")]
        found[cells[0].strip("`")] = cells if len(cells) == 9 else cells[:3] + cells[4:]
    return found


def fields(line):
    return dict(re.findall(r'(\w+)=("[^"]*"|\S*)', line))


def cell(run):
    status, checks = run
    said = {"0": "-", "124": "hangs", "137": "hangs"}.get(status, "notices")
    return said + (" (%s)" % ", ".join(checks.split("+")) if checks else "")


def main():
    if sys.argv[1:] == ["--check"]:
        text = OUT.read_text() if OUT.exists() else ""
        rows = old_rows(text)
        differ = rows.keys() - {"none"} ^ {name for name, _ in switches()}
        differ |= {name for name, cells in rows.items() if row_of(name, cells, rules()) not in text}
        if differ:
            sys.exit("docs/bugs/mutation.md is out of date (%s): make mutation" % ", ".join(sorted(differ)))
        return
    old = OUT.read_text() if OUT.exists() else ""
    where = (re.findall(r"from real runs \((.*?)\)", old) or ["?"])[0]
    repro, runs, kept, seen = {}, {}, old_rows(old), rules()
    for name in sys.argv[1:]:
        for line in pathlib.Path(name).read_text(errors="replace").splitlines():
            if line.startswith("CALF-BOOT "):
                where = "Linux " + line.split()[1]
            if line.startswith("CALF-REPRO "):
                f = fields(line)
                repro[f["name"]] = f
            if line.startswith("CALF-MUTATION "):
                f = fields(line)
                runs[f["name"], f["program"]] = (f["status"], f["checks"])
    ops, steps = re.findall(r"CALF_\w+=(\d+)", (TOP / "tests/vm/mutation.sh").read_text())
    if sys.argv[1:] and not runs:
        sys.exit("mutation: no switch was run in %s: docs/bugs/mutation.md stays as it is" % " ".join(sys.argv[1:]))
    out = HEAD % {"ops": ops, "steps": steps, "where": where}
    missing = []
    for name, contract in [("none", "")] + switches():
        r = repro.get(name)
        ran = any((name, p) in runs for p in PROGRAMS + ["died"])
        if not ran or r is None and name != "none":
            out += row_of(name, kept[name], seen) if name in kept else ""
            missing += [] if name in kept else [name]
            continue
        r = r or {"checks": "", "off": '"-"', "on": '"-"', "verdict": "-"}
        count = [r[k].strip('"').split(":")[0] for k in ("off", "on")]
        row = ["`%s`" % name, contract, ", ".join(filter(None, r["checks"].split("+")))]
        row += count + [r["verdict"]]
        ends = "kills the VM" if (name, "died") in runs else "not run"
        for p in PROGRAMS:
            done = (name, p) in runs
            row.append(cell(runs[name, p]) if done else ends)
            ends = ends if done else "not run"
        out += row_of(name, row, seen)
    if missing:
        sys.exit("no run of " + ", ".join(missing))
    OUT.write_text(out)


if __name__ == "__main__":
    main()

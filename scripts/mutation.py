#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes docs/bugs/mutation.md from what real runs have printed: switch, contract, checks, reproducer, other tests.

    scripts/mutation.py LOG...     LOG: guest.log of VMs that ran the tasks repro and mutation (make mutation); rows of
                                   switches that did not run stay as they are
    scripts/mutation.py --check    fail if a switch has no row, or a row no switch
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
brackets, the contracts that the module saw broken under it, which is more than the test can see.

Made by `make mutation` from real runs (%(where)s); do not edit. `none` is the same without any switch.

| switch | contract | checks that fire in the reproducer | off | on | verdict | fsx | model | pjdfstest |
|---|---|---|---|---|---|---|---|---|
"""


def switches():
    text = (TOP / "rust/lab/switches.rs").read_text()
    return re.findall(r'\w+ =\s*"([a-z0-9_]+)",\s*"(C-[A-Z0-9-]+)"', text)


def fields(line):
    return dict(re.findall(r'(\w+)=("[^"]*"|\S*)', line))


def cell(run):
    status, checks = run
    said = {"0": "-", "124": "hangs", "137": "hangs"}.get(status, "notices")
    return said + (" (%s)" % ", ".join(checks.split("+")) if checks else "")


def main():
    if sys.argv[1:] == ["--check"]:
        rows = set(re.findall(r"^\| `(\w+)` \|", OUT.read_text(), re.M)) - {"none"} if OUT.exists() else set()
        differ = rows ^ {name for name, _ in switches()}
        if differ:
            sys.exit("docs/bugs/mutation.md is out of date (%s): make mutation" % ", ".join(sorted(differ)))
        return
    repro, runs, where = {}, {}, "?"
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
    out = HEAD % {"ops": ops, "steps": steps, "where": where}
    old = OUT.read_text() if OUT.exists() else ""
    missing = []
    for name, contract in [("none", "")] + switches():
        r = repro.get(name)
        ran = any((name, p) in runs for p in PROGRAMS + ["died"])
        if not ran or r is None and name != "none":
            row = re.search(r"^\| `%s` \|.*\n" % name, old, re.M)
            out += row[0] if row else ""
            missing += [] if row else [name]
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
        out += "| " + " | ".join(row) + " |\n"
    if missing:
        sys.exit("no run of " + ", ".join(missing))
    OUT.write_text(out)


if __name__ == "__main__":
    main()

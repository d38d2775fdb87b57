#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Keeps the tables of docs/iomap-check.md: rules and masks from rust/iomap_check/judge/, and what was measured.

    scripts/iomap-check.py            write the tables of the source
    scripts/iomap-check.py --check    fail if these are not current
    scripts/iomap-check.py LOG...     write the measured tables as well, from the guest.log of VMs in which the tests
                                      iomap_check (with kprobes), iomap_oracle, cost and iomap_fs (with all
                                      filesystems) have run
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
DOC = TOP / "docs/iomap-check.md"
JUDGE = TOP / "rust/iomap_check/judge"
FILESYSTEMS = ["calf", "xfs", "ext4", "btrfs", "exfat", "ext2"]


def macro(name, text):
    """The body of the call of a macro."""
    return re.search(r"^%s! \{\n(.*?)^\}" % name, text, re.M | re.S)[1]


def rules():
    text = macro("rules", (JUDGE / "rules.rs").read_text())
    rows = re.findall(r'(\w+) = (\w+), (\w+), "([^"]*)",\s*"([^"]*)";', text)
    table = ["| rule | severity | looks at | what must hold | contracts |", "|---|---|---|---|---|"]
    for name, severity, point, contracts, what in rows:
        table.append("| %s | %s | %s | %s | %s |" % (name, severity.lower(), point.lower(), what, contracts))
    assert len(rows) == text.count('",\n        "'), "a rule was not understood"
    return table


def masks():
    text = macro("known", (JUDGE / "known.rs").read_text())
    rows = re.findall(r'"(\w+)": ([\w ]+), "([^"]*)";', text)
    assert len(rows) == text.count(";\n"), "a mask was not understood"
    table = ["| filesystem | rule | why |", "|---|---|---|"]
    return table + ["| %s | %s | %s |" % (fs, ", ".join(r.split()), why) for fs, r, why in rows]


def measured(logs):
    """Tables from logs: filesystems, switches, oracle, cost."""
    events, fired, switches, oracle, cost, kernel, kernels = {}, {}, [], [], {}, None, {}
    for log in logs:
        for line in open(log, errors="replace"):
            word = line.strip().lstrip("# ").split()
            if word[:1] == ["CALF-BOOT"]:
                kernel = word[1]
            elif word[:1] == ["CALF-IOMAP"] and word[2] == "events":
                kernels["fs"] = kernel
                events[word[1]] = dict(w.split("=") for w in word[3:])
            elif word[:1] == ["CALF-IOMAP"]:
                count = dict(w.split("=") for w in word[4:])
                fired.setdefault(word[1], []).append("%s (%s reported, %s masked)" % (
                    word[2], count["reported"], count["masked"]))
            elif word[:1] == ["CALF-CHECK"]:
                kernels["switches"] = kernel
                switches.append((word[1], " ".join(word[2:])))
            elif word[:1] == ["CALF-ORACLE"]:
                kernels["oracle"] = kernel
                oracle.append((word[1], " ".join(word[2:])))
            elif word[:1] == ["CALF-COST"]:
                kernels["cost"] = kernel
                took = dict(w.split("=") for w in word[3:])
                cost.setdefault(word[1], {})[word[2]] = "%s (%s)" % (took["median"], took["best"])
    tables = {}
    if cost:
        settings = list(next(iter(cost.values())))
        tables["cost"] = ["Kernel %s. Thousands of instructions for an operation: the median, and in brackets the least."
                          % kernels["cost"], "",
                          "| loop | %s |" % " | ".join(settings), "|---|" + "---|" * len(settings)]
        tables["cost"] += ["| %s | %s |" % (loop, " | ".join(c[s] for s in settings)) for loop, c in cost.items()]
    # Some rules need kprobes: a kernel without them tells less than what is there.
    if events.get("calf", {}).get("kprobe") == "0":
        switches = []
    for name, fired_by in (("switches", switches), ("oracle", oracle)):
        if fired_by:
            tables[name] = ["Kernel %s." % kernels[name], "", "| switch | rules that fire |", "|---|---|"]
            tables[name] += ["| `%s` | %s |" % s for s in dict(fired_by).items()]
    # A kernel without most of them tells less than what is there.
    if any(fs not in events for fs in FILESYSTEMS):
        return tables
    fs_table = ["Kernel %s, fsx 0.3.2 with 2000 operations and some of everything else." % kernels["fs"], "",
                "| filesystem | mappings seen | ranges written back | rules that fired |", "|---|---|---|---|"]
    for fs in FILESYSTEMS:
        fs_table.append("| %s | %s | %s | %s |" % (
            fs, events[fs]["begin"], events[fs]["writeback"], ", ".join(fired.get(fs, [])) or "none"))
    tables["filesystems"] = fs_table
    return tables


def put(doc, name, lines):
    mark = re.compile(r"(<!-- %s -->\n).*?(<!-- end -->\n)" % name, re.S)
    assert mark.search(doc), "no place for the table " + name
    return mark.sub(lambda m: m[1] + "\n".join(lines) + "\n" + m[2], doc)


def main():
    old = doc = DOC.read_text()
    doc = put(put(doc, "rules", rules()), "masks", masks())
    if sys.argv[1:] == ["--check"]:
        if doc != old:
            sys.exit("docs/iomap-check.md is not current: scripts/iomap-check.py")
        return
    for name, lines in (measured(sys.argv[1:]) if sys.argv[1:] else {}).items():
        doc = put(doc, name, lines)
    DOC.write_text(doc)


main()

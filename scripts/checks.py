#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes docs/checks.md: what has made each check of the contracts fire, and why no switch does where none does.

    scripts/checks.py           write
    scripts/checks.py --check   fail if the file is not what would be written, or nothing makes a check fire

Checks come from rust/lab/checks/table.rs, what switches fire from docs/bugs/mutation.md (real runs), the rest from the
test tests/vm/src/bin/lies.rs, which fails if it is not so.
"""

import pathlib
import re
import sys

from contracts import TOP, contracts, strings

OUT = TOP / "docs/checks.md"
HEAD = """# Which checks fire

A check that never fires proves nothing. Each of calf's checks of the iomap contracts (`rust/lab/checks/`) has been seen
to fire: %d because a [switch](bugs/README.md) brings a bug back, in its reproducer or in a test that ran with it
([mutation table](bugs/mutation.md)); the other %d because the test `lies` (`make test T=lies`) lies to them:

* *shown*: the check is shown a mapping, a count or a range that breaks the contract; the core gets the true one;
* *turned*: the check looks at locks or at the task, and nothing can be made up. Its verdict is turned, which shows that
  somebody asks, and not that the question is the right one.

Beside them stands why no switch makes them fire. Contracts that have no check, and why: [contracts](contracts.md).

Made by `scripts/checks.py` from `rust/lab/checks/table.rs`, `docs/bugs/mutation.md` and `tests/vm/src/bin/lies.rs`; do
not edit.

| check | looks at | fired by |
|---|---|---|
"""


def by_switch():
    """Check -> switches under which it has fired."""
    found = {}
    for line in (TOP / "docs/bugs/mutation.md").read_text().splitlines():
        row = re.match(r"\| `(\w+)` \|[^|]*\|(.*)", line)
        for ident in re.findall(r"C-[A-Z0-9-]+", row[2]) if row else []:
            if row[1] not in found.setdefault(ident, []):
                found[ident].append(row[1])
    return found


def by_lie():
    """Check -> (how, why no switch does)."""
    text = (TOP / "tests/vm/src/bin/lies.rs").read_text()
    rows = re.search(r"^const LIES: .*?^\];", text, re.M | re.S)[0]
    found = {}
    for ident, how, why in re.findall(r'\(\s*"(C-[A-Z0-9-]+)",\s*(\w+),\s*("[^"]*"),?\s*\)', rows):
        found[ident] = (how.lower(), strings(why)[0])
    if len(found) != rows.count('"C-'):
        sys.exit("tests/vm/src/bin/lies.rs: a row was not understood")
    for switch, ident in re.findall(r'"bug=(\w+)".*?contains_key\("(C-[A-Z0-9-]+)"\)', text, re.S):
        found[ident] = ("switch", switch)
    return found


def turned():
    """Checks whose verdict the laboratory can turn."""
    text = (TOP / "rust/lab/checks/lies.rs").read_text()
    names = dict(re.findall(r'(\w+) = "(C-[A-Z0-9-]+)"', (TOP / "rust/lab/checks/table.rs").read_text()))
    return {names[v] for v in re.findall(r"Check::(\w+)", re.search(r"const TURNED.*?\];", text, re.S)[0])}


def page():
    switches, lies = by_switch(), by_lie()
    rows, fired = [], 0
    for ident, (says, place, _) in contracts().items():
        if place is None:
            continue
        if ident in switches:
            fired += 1
            what = ", ".join("[`%s`](bugs/%s.md)" % (s, s) for s in switches[ident])
        elif ident not in lies:
            sys.exit("nothing makes the check of %s fire: a switch, or a row in tests/vm/src/bin/lies.rs" % ident)
        elif lies[ident][0] == "switch":
            fired += 1
            what = "[`%s`](bugs/%s.md), in the test `lies`" % (lies[ident][1], lies[ident][1])
        else:
            what = "*%s*: %s" % lies[ident]
        rows.append("| %s | %s | %s |" % (ident, place, what))
    if {i for i, (how, _) in lies.items() if how == "turned"} != turned():
        sys.exit("rust/lab/checks/lies.rs and tests/vm/src/bin/lies.rs do not turn the same verdicts")
    return HEAD % (fired, len(rows) - fired) + "\n".join(rows) + "\n"


def main():
    text = page()
    if sys.argv[1:] == ["--check"]:
        if not OUT.exists() or OUT.read_text() != text:
            sys.exit("docs/checks.md is out of date: run scripts/checks.py")
        return
    OUT.write_text(text)


if __name__ == "__main__":
    main()

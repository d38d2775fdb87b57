#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes docs/contracts.md: each contract of iomap, who relies on it, how calf keeps, checks and breaks it.

    scripts/contracts.py           write
    scripts/contracts.py --check   fail if the file is not what would be written (line numbers aside), or a contract
                                   is missing in one of the tables

Statements and checks come from rust/lab/checks/table.rs, switches from rust/lab/switches.rs, places from the ids in
the comments of rust/, the rest from docs/contracts.in: ID|relied on at|XFS|fstests, "# " heads, "> " prose.
"""

import pathlib
import re
import subprocess
import sys
import textwrap

TOP = pathlib.Path(__file__).resolve().parent.parent
ID = r"C-[A-Z0-9]+(?:-[A-Z0-9]+)*"
HEAD = """# The iomap contracts

What a filesystem promises to `fs/iomap/` of Linux 7.3, one contract at a time: the statement, the functions of the
kernel that rely on it, the places where calf keeps it, the check that watches it in a laboratory build, the switch that
breaks it, and how XFS keeps it, with the tests of fstests that would notice.

Made by `scripts/contracts.py` from `rust/lab/checks/table.rs`, `rust/lab/switches.rs`, `docs/contracts.in` and the
comments in `rust/`; do not edit. Which switch fires which check, in real runs: [mutation table](bugs/mutation.md).
%d contracts, %d of them checked at run time.

"""


def strings(text):
    """The Rust string literals in a text, which may go over lines."""
    return [re.sub(r"\\\n\s*", "", s) for s in re.findall(r'"((?:[^"\\]|\\.|\\\n)*)"', text)]


def contracts():
    """id -> (statement, where it is checked or None, reason why not or None)."""
    text = (TOP / "rust/lab/checks/table.rs").read_text()
    checked, unchecked = text.split("checks! {", 1)[1].split("pub(super) const UNCHECKED", 1)
    found = {}
    for entry in re.findall(r"\w+ =\s*((?:\"(?:[^\"\\]|\\.)*\",?\s*){3});", checked):
        ident, says, place = strings(entry)
        found[ident] = (says, place, None)
    for ident, says, why in zip(*[iter(strings(unchecked))] * 3):
        found[ident] = (says, None, why)
    return found


def switches():
    """Contract -> names of the switches that break it."""
    text = (TOP / "rust/lab/switches.rs").read_text()
    found = {}
    for name, ident in re.findall(r'\w+ =\s*"([a-z0-9_]+)",\s*"(%s)"' % ID, text):
        found.setdefault(ident, []).append(name)
    return found


def citations():
    """Contract -> (file, line) of the first comment in each file that cites it; without the laboratory."""
    files = subprocess.run(["git", "ls-files", "rust"], cwd=TOP, check=True, capture_output=True, text=True)
    found = {}
    for name in sorted(files.stdout.split()):
        path = TOP / name
        if path.suffix not in (".rs", ".c", ".h") or name.startswith(("rust/lab", "rust/iomap_check")) or not path.exists():
            continue
        for nr, line in enumerate(path.read_text().splitlines(), 1):
            comment = re.search(r"//.*|^\s*/?\*.*", line)
            for ident in re.findall(ID, comment[0] if comment else ""):
                places = found.setdefault(ident, {})
                places.setdefault(name, nr)
    return found


def page():
    all_, bugs, cited = contracts(), switches(), citations()
    out, seen = [], []
    for line in (TOP / "docs/contracts.in").read_text().splitlines():
        if line.startswith("# "):
            out += ["## " + line[2:], ""]
            continue
        if line.startswith("> "):
            out += [textwrap.fill(line[2:], 118), ""]
            continue
        ident, relied, xfs, tests = line.split("|")
        if ident not in all_:
            sys.exit("docs/contracts.in: %s is not in rust/lab/checks/table.rs" % ident)
        seen.append(ident)
        says, place, why = all_[ident]
        out += ["### " + ident, "", says[0].upper() + says[1:] + ".", ""]
        code = lambda refs: "; ".join("`%s` in `%s`" % ("`, `".join(f.split(": ")[1].split(", ")), f.split(": ")[0])
                                      if ": " in f else "`%s`" % f for f in refs.split("; "))
        if relied:
            out.append("* Relied on by " + code(relied))
        if ident in cited:
            links = ["[%s](../%s#L%d)" % (n.removeprefix("rust/"), n, nr) for n, nr in cited[ident].items()]
            out.append("* Kept in " + ", ".join(links))
        out.append("* Checked at: " + place if place else "* Not checked: " + why)
        for name in bugs.get(ident, []):
            here = (TOP / "docs/bugs" / (name + ".md")).exists()
            story = "bugs/%s.md" % name if here else "bugs/seed-000.md" if name.startswith("unshare_") else "bugs/README.md"
            out.append("* Broken by [`%s`](%s): `make run REPRO=%s`" % (name, story, name))
        if xfs or tests:
            out.append("* XFS: " + "; ".join(filter(None, [code(xfs) if xfs else "", tests])))
        out.append("")
    missing = [i for i in all_ if i not in seen] + [i for i in bugs if i not in all_]
    if missing or len(seen) != len(set(seen)):
        sys.exit("docs/contracts.in and the tables of rust/lab disagree: " + ", ".join(missing))
    checked = sum(1 for i in seen if all_[i][1])
    return HEAD % (len(seen), checked) + "\n".join(out).rstrip() + "\n"


def main():
    out = TOP / "docs/contracts.md"
    text = page()
    if "--check" in sys.argv[1:]:
        same = lambda t: re.sub(r"#L\d+", "", t)
        if not out.exists() or same(out.read_text()) != same(text):
            sys.exit("docs/contracts.md is out of date: run scripts/contracts.py")
        return
    out.write_text(text)


if __name__ == "__main__":
    main()

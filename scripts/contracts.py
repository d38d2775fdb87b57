#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes docs/contracts.md: each contract of iomap, who relies on it, how calf keeps, checks and breaks it.

    scripts/contracts.py                 write
    scripts/contracts.py --check         fail if the file is not what would be written (links may be a few lines off),
                                         or a contract is missing in one of the tables, or XFS says nothing of it
    scripts/contracts.py --kernel TREE   fail if a function of XFS or of iomap that the book names is not in that tree,
                                         or one that a page of docs/bugs names under "How XFS keeps it"

Statements and checks come from rust/lab/checks/table.rs, switches from rust/lab/switches.rs, rules from
rust/iomap_check/judge/rules.rs, places from the ids in the comments of rust/. The rest is prose and facts:
docs/contracts.in has ID|relied on at|fstests, "# " heads, "> " prose; docs/contracts-xfs.in has for each contract
ID|file: function, ...; ...|what XFS does|how calf differs, or ID|-|why XFS does nothing for it.
"""

import pathlib
import re
import subprocess
import sys
import textwrap

TOP = pathlib.Path(__file__).resolve().parent.parent
# How far off a link to a line may be.
NEAR = 10
ID = r"C-[A-Z0-9]+(?:-[A-Z0-9]+)*"
HEAD = """# The iomap contracts

What a filesystem promises to `fs/iomap/` of Linux 7.3, one contract at a time: the statement, the functions of the
kernel that rely on it, the places where calf keeps it, the check that watches it in a laboratory build, the switch that
breaks it, how XFS keeps it and where calf differs, and the tests of fstests that go that way.

A check is calf's own. A rule belongs to [`iomap_check.ko`](iomap-check.md), which judges any filesystem; where no
rule is named, what the contract says cannot be seen between iomap and a filesystem. A test of fstests is listed because
it does what the contract is about, as its text or the kernel says, not because a broken contract must fail it; where
none is listed none is known.

Made by `scripts/contracts.py` from `rust/lab/checks/table.rs`, `rust/lab/switches.rs`,
`rust/iomap_check/judge/rules.rs`, `docs/contracts.in`, `docs/contracts-xfs.in` and the comments in `rust/`; do not
edit. Which switch fires which check, in real runs: [mutation table](bugs/mutation.md); what makes each check fire:
[checks](checks.md). %d contracts, %d of them checked at run time, %d judged by a rule.

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


def rules():
    """Contract -> the rules of iomap_check that judge it, with their severity."""
    text = (TOP / "rust/iomap_check/judge/rules.rs").read_text()
    found = {}
    for rule, severity, ids in re.findall(r'(\w+) = (\w+), \w+, "([^"]*)",', text):
        for ident in ids.split():
            found.setdefault(ident, []).append("%s (%s)" % (rule, severity.lower()))
    return found


def xfs():
    """Contract -> (functions as "file: function, ...; ...", what XFS does, how calf differs)."""
    found = {}
    for line in (TOP / "docs/contracts-xfs.in").read_text().splitlines():
        ident, names, *says = line.split("|")
        refs = r"[\w/]+\.[ch]: \w+(, \w+)*"
        if names == "-" and len(says) == 1:
            says = says + [""]
        elif not re.fullmatch("%s(; %s)*" % (refs, refs), names) or len(says) != 2:
            sys.exit("docs/contracts-xfs.in: %s has neither a function and two sentences nor a reason" % ident)
        if ident in found or not all(says[:1]):
            sys.exit("docs/contracts-xfs.in: %s is there twice, or empty" % ident)
        found[ident] = (names, *says)
    return found


def citations():
    """Contract -> (file, line) of the first comment in each file that cites it; without the laboratory."""
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "rust"], cwd=TOP, check=True, capture_output=True, text=True)
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


def code(refs, base=""):
    """`function`, ... in `file`; ..."""
    parts = []
    for ref in refs.split("; "):
        file, _, names = ref.partition(": ")
        names = "`%s` in " % "`, `".join(names.split(", ")) if names else ""
        parts.append("%s`%s%s`" % (names, base, file))
    return "; ".join(parts)


def named_by_bugs():
    """(page, name) of all functions that the pages say XFS has today."""
    for path in sorted((TOP / "docs/bugs").glob("*.md")):
        part = path.read_text().partition("## How XFS keeps it")[2]
        for name in re.findall(r"`(\w*(?:xfs|iomap|imap)_\w+)`", part):
            yield path.name, name


def page():
    all_, bugs, cited, judged, in_xfs = contracts(), switches(), citations(), rules(), xfs()
    out, seen = [], []
    for line in (TOP / "docs/contracts.in").read_text().splitlines():
        if line.startswith("# "):
            out += ["## " + line[2:], ""]
            continue
        if line.startswith("> "):
            out += [textwrap.fill(line[2:], 118), ""]
            continue
        ident, relied, tests = line.split("|")
        if tests and not all(re.fullmatch(r"(generic|xfs)/\d{3}(-\d{3})?", t) for t in tests.split(", ")):
            sys.exit("docs/contracts.in: %s: %s" % (ident, tests))
        if ident not in all_:
            sys.exit("docs/contracts.in: %s is not in rust/lab/checks/table.rs" % ident)
        seen.append(ident)
        says, place, why = all_[ident]
        out += ["### " + ident, "", says[0].upper() + says[1:] + ".", ""]
        if relied:
            out.append("* Relied on by " + code(relied))
        if ident in cited:
            links = ["[%s](../%s#L%d)" % (n.removeprefix("rust/"), n, nr) for n, nr in cited[ident].items()]
            out.append("* Kept in " + ", ".join(links))
        out.append("* Checked at: " + place if place else "* Not checked: " + why)
        if ident in judged:
            out.append("* On any filesystem: [rules](iomap-check.md#rules) " + ", ".join(judged[ident]))
        for name in bugs.get(ident, []):
            here = (TOP / "docs/bugs" / (name + ".md")).exists()
            story = "bugs/%s.md" % name if here else "bugs/seed-000.md" if name.startswith("unshare_") else "bugs/README.md"
            out.append("* Broken by [`%s`](%s): `make run REPRO=%s`" % (name, story, name))
        names, does, differs = in_xfs.get(ident, ("-", "", ""))
        if names != "-":
            out.append("* XFS %s (%s); %s." % (does, code(names, "fs/xfs/"), differs))
        else:
            out.append("* No counterpart in XFS: %s." % does)
        if tests:
            out.append("* fstests: " + tests)
        out.append("")
    missing = [i for i in all_ if i not in seen or i not in in_xfs]
    missing += [i for i in [*bugs, *judged, *in_xfs] if i not in all_]
    if missing or len(seen) != len(set(seen)):
        sys.exit("docs/contracts.in and the tables of rust/lab disagree: " + ", ".join(missing))
    checked = sum(1 for i in seen if all_[i][1])
    return HEAD % (len(seen), checked, len(judged)) + "\n".join(out).rstrip() + "\n"


def stale_links(text):
    """Links to lines that do not cite the contract any more, nor does one near by."""
    for part in text.split("\n### ")[1:]:
        ident = part.split("\n", 1)[0]
        for name, nr in re.findall(r"\]\(\.\./([^)#]*)#L(\d+)\)", part):
            lines = (TOP / name).read_text().splitlines()
            near = lines[max(0, int(nr) - NEAR - 1):int(nr) + NEAR]
            if not any(re.search(ident + r"(?![\w-])", line) for line in near):
                yield "%s#L%s (%s)" % (name, nr, ident)


def named():
    """(file in the kernel, name) of all that the tables name."""
    relied = [l.split("|")[1] for l in (TOP / "docs/contracts.in").read_text().splitlines() if l.startswith("C-")]
    refs = [r for line in relied for r in line.split("; ") if ": " in r]
    refs += ["fs/xfs/" + r for names, *_ in xfs().values() if names != "-" for r in names.split("; ")]
    for ref in refs:
        file, names = ref.split(": ")
        for name in names.split(", "):
            yield file, name.removeprefix("struct ")


def defines(tree, file, name):
    """Is the name defined in the file, as function, structure, macro or enumerator?"""
    text = (tree / file).read_text()
    start = r"^(?:#define\s+|[A-Za-z_][\w \t*]*[ \t*]|DEFINE_\w+\(|static DEFINE_\w+\(|)"
    return re.search(start + re.escape(name) + r"\b", text, re.M)


def main():
    out = TOP / "docs/contracts.md"
    text = page()
    if sys.argv[1:2] == ["--kernel"]:
        tree = pathlib.Path(sys.argv[2])
        bad = ["%s: %s" % n for n in named() if not defines(tree, *n)]
        files = [*tree.glob("fs/xfs/**/*.[ch]"), *tree.glob("fs/iomap/*.[ch]"), tree / "include/linux/iomap.h"]
        known = set(re.findall(r"\w+", "".join(f.read_text() for f in files)))
        bad += ["docs/bugs/%s: %s" % n for n in named_by_bugs() if n[1] not in known]
        sys.exit("not there: " + ", ".join(bad) if bad else 0)
    if sys.argv[1:] == ["--check"]:
        same = lambda t: re.sub(r"#L\d+", "", t)
        old = out.read_text() if out.exists() else ""
        bad = ", ".join(stale_links(old))
        if same(old) != same(text) or bad:
            sys.exit("docs/contracts.md is out of date: run scripts/contracts.py " + bad)
        return
    out.write_text(text)


if __name__ == "__main__":
    main()

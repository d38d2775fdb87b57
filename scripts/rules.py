#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes docs/rules.md: each design rule, the files that cite it, and what proves it.

    scripts/rules.py           write
    scripts/rules.py --check   fail if the file is not what would be written
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
HEAD = """# The design rules and where they are kept

Made by `scripts/rules.py` from `docs/rules.in` and the comments in `rust/`; do not edit. A rule is cited by its id in a
comment at the place that keeps it.

| rule | what it says | kept in | proved by |
|---|---|---|---|
"""


def citations():
    """Rule id -> files whose comments cite it."""
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "rust"], cwd=TOP, check=True, capture_output=True, text=True)
    found = {}
    for name in files.stdout.split():
        path = TOP / name
        if path.suffix not in (".rs", ".c", ".h") or not path.exists():
            continue
        for line in path.read_text().splitlines():
            comment = re.search(r"//.*|^\s*/?\*.*", line)
            for rule in re.findall(r"\b([CDBSU]\d{1,2})[a-c]?\b", comment[0] if comment else ""):
                found.setdefault(rule, set()).add(name.removeprefix("rust/"))
    return found


def table():
    found = citations()
    rows = []
    for line in (TOP / "docs/rules.in").read_text().splitlines():
        rule, says, proof = line.split("|")
        where = ", ".join(f"`{f}`" for f in sorted(found.get(rule, ()))) or "–"
        rows.append(f"| {rule} | {says} | {where} | {proof} |")
    return HEAD + "\n".join(rows) + "\n"


def main():
    out = TOP / "docs/rules.md"
    text = table()
    if "--check" in sys.argv[1:]:
        if not out.exists() or out.read_text() != text:
            sys.exit("docs/rules.md is out of date: run scripts/rules.py")
        return
    out.write_text(text)


if __name__ == "__main__":
    main()

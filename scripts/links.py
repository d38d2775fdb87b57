#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Fails if a page of the repository names what is not there: a file, a heading, a line, a target of make.

Looked at are links, and code that begins like a path of the repository or with "make ". NAME stands for a name.
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = "docs|qemu|rust|scripts|tests|tools"


def anchors(page):
    """The anchors of the headings of a page, as web sites make them."""
    heads = re.findall(r"^#+ +(.*)", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


def wrong_link(page, link):
    """What is wrong with a link, or None."""
    if re.match(r"[a-z]+:", link):
        return None
    name, _, part = link.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.exists():
        return "no such file"
    if re.fullmatch(r"L\d+", part):
        return None if int(part[1:]) <= len(path.read_text().splitlines()) else "no such line"
    return "no such heading" if part and part not in anchors(path) else None


def wrong_code(code, targets):
    """What is wrong with a piece of code, or None."""
    if re.fullmatch(r"(%s)/[\w./-]*" % FOLDERS, code) and "NAME" not in code and not (TOP / code).exists():
        return "no such file"
    make = re.match(r"(?:[A-Z]\w*=\S+ )*make +([a-z][\w-]*)", code)
    return "no such target" if make and make[1] not in targets else None


def main():
    files = subprocess.run(["git", "ls-files", "*.md"], cwd=TOP, check=True, capture_output=True, text=True)
    targets = set(re.findall(r"^([a-z][\w-]*):", (TOP / "Makefile").read_text(), re.M))
    bad = []
    for name in files.stdout.split():
        page = TOP / name
        text = page.read_text()
        fenced = re.compile(r"^```.*?^```", re.M | re.S)
        plain = fenced.sub("", text)
        found = [(link, wrong_link(page, link)) for link in re.findall(r"\]\(([^)\s]+)\)", plain)]
        found += [(code, wrong_code(code, targets)) for code in re.findall(r"`([^`\n]+)`", plain)]
        found += [(line, wrong_code(line, targets)) for block in fenced.findall(text) for line in block.splitlines()]
        bad += ["%s: %s: %s" % (name, what, why) for what, why in found if why]
    sys.exit("\n".join(bad) if bad else 0)


main()

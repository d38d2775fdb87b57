#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""What of the modules' sources ran, from QEMU's logs (see qemulog.py) or breakpoints (umltrace.py).

    report.py add FOLDER WHAT TRACES MODULE...   adds a run to FOLDER/coverage.json and writes FOLDER/index.html
    report.py list FOLDER [PART]                 prints what did not run, of files whose name has PART in it

Runs are added up as long as rust/ is the same; a change there begins a new report.
"""

import glob
import hashlib
import json
import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import page  # noqa: E402
import qemulog  # noqa: E402
import sourcelines  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def sources():
    found = {}
    for name in glob.glob(os.path.join(ROOT, "rust/**/*.*"), recursive=True):
        if name.endswith((".rs", ".c", ".h")):
            with open(name) as f:
                found[os.path.relpath(name, ROOT)] = f.read().split("\n")
    return found


def digest(text):
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]


def load(path, text):
    """The report so far; a new one if it is of other sources."""
    try:
        with open(path) as f:
            report = json.load(f)
    except FileNotFoundError:
        report = {}
    if report.get("sources") != digest(text):
        report = {"sources": digest(text), "commit": "", "runs": [], "files": {}}
    for file in report["files"].values():  # JSON has no numbers as keys
        for part in file:
            file[part] = {int(k): v for k, v in file[part].items()}
    return report


def merge(files, more, text):
    for name, new in more.items():
        file = files.setdefault(name, {"lines": {}, "functions": {}})
        for line, ran in new["lines"].items():
            # A line of brackets alone holds what drops values, on any of the ways out.
            if not any(c.isalnum() for c in text[name][line - 1]):
                continue
            file["lines"][line] = file["lines"].get(line, False) or ran
        for line, (what, ran) in new["functions"].items():
            file["functions"][line] = [what, file["functions"].get(line, [what, False])[1] or ran]


def git(*args):
    return subprocess.run(["git", "-C", ROOT, *args], stdout=subprocess.PIPE, text=True).stdout.strip()


def add(folder, what, traces, modules):
    path, text = os.path.join(folder, "coverage.json"), sources()
    report = load(path, text)
    codes = {m: qemulog.module(m) for m in modules}
    every = [c for m in modules for c in codes[m]]
    logs = sorted(glob.glob(os.path.join(traces, "*.trace")))
    strange = sum(qemulog.follow(every, log) for log in logs)
    for log in sorted(glob.glob(os.path.join(traces, "*.ran"))):
        with open(log) as f:
            for m, ran in json.load(f).items():
                for code, more in zip(codes[m], ran):
                    code.add(bytes.fromhex(more))
    if not any(any(c.ran) for c in every):
        sys.exit("coverage: no code of the modules was seen to run")
    if strange:
        print("coverage: %d blocks lay where a module was and are not of it (other modules?)" % strange)
    for m in modules:
        merge(report["files"], sourcelines.lines(m, codes[m], ROOT), text)
    report["runs"].append({"when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "what": what})
    report["commit"] = git("rev-parse", "--short", "HEAD") + (" and changes" if git("status", "--porcelain", "rust") else "")
    with open(path, "w") as f:
        json.dump(report, f)
    with open(os.path.join(folder, "index.html"), "w") as f:
        f.write(page.page(report, text))
    for group in sorted({page.folder(n) for n in report["files"]}):
        a, b, c, d = page.count([f for n, f in report["files"].items() if page.folder(n) == group])
        print("coverage: %-18s %5d of %5d lines, %7s; %4d of %4d functions" % (group, a, b, page.percent(a, b), c, d))
    a, b, _, _ = page.count(report["files"].values())
    print("coverage: %d of %d lines in rust/, %s: %s" % (a, b, page.percent(a, b), os.path.join(folder, "index.html")))


def main():
    command, folder, *rest = sys.argv[1:]
    if command == "add":
        add(folder, rest[0], rest[1], rest[2:])
    else:
        text = sources()
        print("\n".join(page.text(load(os.path.join(folder, "coverage.json"), text), rest[0] if rest else "", text)))


if __name__ == "__main__":
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Runs the VM tests of a list, many in one boot: vmtests.py LIST NAMES LOG RUNNER...

CALF_VARIANT=lab in the environment runs all of them with that build of the module.

A test that crashed, hung or took the VM with it is reported, and the rest runs in a new VM. NAMES is a comma
separated choice, or empty for all. The last line is "passed failed" in numbers.
"""

import json
import os
import subprocess
import sys

BATCH = 25


def main():
    path, names, log, runner = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    todo = []
    with open(path) as f:
        for line in f:
            word = line.split("#")[0].split()
            if len(word) >= 2 and (not names or word[0] in names.split(",")):
                word[2:3] = [os.environ.get("CALF_VARIANT") or "".join(word[2:3])]
                todo.append(":".join(word[:3]))
    known = {t.split(":")[0] for t in todo}
    for n in filter(None, names.split(",")):
        if n not in known:
            print("not ok %s: not in %s" % (n, path))
    passed, failed, boot = 0, sum(n not in known for n in filter(None, names.split(","))), 0
    # One module variant a boot: warnings of lab builds must not colour the others.
    groups = {}
    for t in todo:
        groups.setdefault((t.split(":") + ["", ""])[2], []).append(t)
    queue = [g[i:i + BATCH] for g in groups.values() for i in range(0, len(g), BATCH)]
    while queue:
        batch = queue.pop(0)
        boot += 1
        folder = os.path.join(log, "boot%d" % boot)
        os.makedirs(folder, exist_ok=True)
        results = os.path.join(folder, "results.json")
        if os.path.exists(results):
            os.unlink(results)
        status = subprocess.call(runner + ["--quiet", "--log", folder, "--results", results] + batch)
        try:
            with open(results) as f:
                result = json.load(f)
        except (OSError, ValueError):
            print("not ok %s: no result (runner status %d)" % (batch[0].split(":")[0], status), flush=True)
            failed += len(batch)
            continue
        ran = [t for t in result["tasks"] if t["verdict"] is not None]
        for t in ran:
            ok, bad, skipped = t["counts"]
            passed, failed = passed + ok, failed + bad
            good = t["verdict"] == "passed"
            print("%s %s: %s, %d points%s%s%s" % (
                "ok" if good else "not ok", t["name"], t["verdict"], ok,
                ", %d failed" % bad if bad else "", ", %d skipped" % skipped if skipped else "",
                ", %ss" % t["seconds"] if t["seconds"] is not None else ""))
            if not good:
                for line in (t["failed"] + t["notes"] + t["problems"])[:12]:
                    print("    | " + line)
                print("    | logs: " + folder)
        # What the kernel said outside of any task, or a VM that never got so far.
        if status != 0 and all(t["verdict"] == "passed" for t in ran):
            failed += 1
            print("not ok boot %d: %s" % (boot, result["verdict"]))
            for line in (result["notes"] + result["problems"])[:12]:
                print("    | " + line)
            if not ran:
                failed += len(batch) - 1
                continue
        left = batch[len(ran):]
        if left:
            queue.insert(0, left)
        sys.stdout.flush()
    print(passed, failed)
    return 0 if failed == 0 else 1


sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Runs the VM tests of a list, many in one boot: vmtests.py [--jobs N] LIST NAMES LOG RUNNER...

--jobs N runs N VMs side by side, each with disks of its own. CALF_VARIANT=lab in the environment runs all tests with
that build of the module.

A test that crashed, hung or took the VM with it is reported, and the rest runs in a new VM. NAMES is a comma
separated choice, or empty for all. The last line is "passed failed" in numbers.
"""

import json
import os
import re
import subprocess
import sys
import threading

BATCH = 25


class Tests:
    """What is left to run, and what came of it. Shared by the VMs' threads."""

    def __init__(self, log, runner, jobs):
        self.log, self.runner, self.jobs = log, runner, jobs
        self.lock = threading.Lock()
        self.queue = []
        self.passed = self.failed = self.boots = 0

    def fill(self, todo):
        """Makes batches of `name:seconds:module`: one module variant a boot, for warnings of lab builds must not colour the
        others. In the order of the list; with several VMs smaller ones, those first that may take longest."""
        groups = {}
        for t in todo:
            groups.setdefault((t.split(":") + ["", ""])[2], []).append(t)
        for group in groups.values():
            boots = -(-len(group) // BATCH)
            if self.jobs > 1:
                self.queue += spread(group, min(len(group), max(boots, self.jobs)))
            else:
                self.queue += [group[i * BATCH:(i + 1) * BATCH] for i in range(boots)]
        if self.jobs > 1:
            self.queue.sort(key=lambda b: -sum(map(seconds, b)))

    def vm(self, number):
        """One VM after the other, until nothing is left."""
        runner = own_disks(self.runner, number)
        while True:
            with self.lock:
                if not self.queue:
                    return
                batch = self.queue.pop(0)
                self.boots += 1
                folder = os.path.join(self.log, "boot%d" % self.boots)
            left = self.boot(runner, batch, folder)
            if left:
                with self.lock:
                    self.queue.insert(0, left)

    def boot(self, runner, batch, folder):
        """Runs tests in one VM. Returns those that had no turn."""
        os.makedirs(folder, exist_ok=True)
        results = os.path.join(folder, "results.json")
        if os.path.exists(results):
            os.unlink(results)
        status = subprocess.call(runner + ["--quiet", "--log", folder, "--results", results] + batch)
        try:
            with open(results) as f:
                result = json.load(f)
        except (OSError, ValueError):
            self.tell(0, len(batch), ["not ok %s: no result (runner status %d)" % (batch[0].split(":")[0], status)])
            return []
        ran = [t for t in result["tasks"] if t["verdict"] is not None]
        for t in ran:
            ok, bad, skipped = t["counts"]
            good = t["verdict"] == "passed"
            lines = ["%s %s: %s, %d points%s%s%s" % (
                "ok" if good else "not ok", t["name"], t["verdict"], ok,
                ", %d failed" % bad if bad else "", ", %d skipped" % skipped if skipped else "",
                ", %ss" % t["seconds"] if t["seconds"] is not None else "")]
            if not good:
                lines += ["    | " + line for line in (t["failed"] + t["notes"] + t["problems"])[:12]]
                lines.append("    | logs: " + folder)
            self.tell(ok, bad, lines)
        # What the kernel said outside of any task, or a VM that never got so far.
        if status != 0 and all(t["verdict"] == "passed" for t in ran):
            lines = ["not ok %s: %s" % (os.path.basename(folder), result["verdict"])]
            lines += ["    | " + line for line in (result["notes"] + result["problems"])[:12]]
            self.tell(0, 1 if ran else len(batch), lines)
            if not ran:
                return []
        return batch[len(ran):]

    def tell(self, passed, failed, lines):
        with self.lock:
            self.passed += passed
            self.failed += failed
            print("\n".join(lines), flush=True)


def seconds(test):
    """The time limit of `name:seconds:module`."""
    return int(test.split(":")[1])


def spread(group, n):
    """Deals tests out into `n` batches that may take about as long as each other, each in the order of the list."""
    batches = [[] for _ in range(n)]
    for t in sorted(group, key=seconds, reverse=True):
        min(batches, key=lambda b: sum(map(seconds, b))).append(t)
    return [sorted(b, key=group.index) for b in batches]


def own_disks(runner, number):
    """The runner's words for VM `number`: the first has the disks that are there, the others sparse ones as large."""
    if number == 0:
        return runner
    out = []
    for before, word in zip([""] + runner, runner):
        m = re.fullmatch(r"(\w+=)(.+)\.img", word) if before == "--disk" else None
        if m:
            path = "%s-%d.img" % (m[2], number)
            with open(path, "wb") as f:
                f.truncate(os.path.getsize(m[2] + ".img"))
            word = m[1] + path
        out.append(word)
    return out


def main():
    arguments = sys.argv[1:]
    jobs = 1
    if arguments[0] == "--jobs":
        jobs, arguments = int(arguments[1]), arguments[2:]
    path, names, log, runner = arguments[0], arguments[1], arguments[2], arguments[3:]
    todo = []
    with open(path) as f:
        for line in f:
            word = line.split("#")[0].split()
            if len(word) >= 2 and (not names or word[0] in names.split(",")):
                word[2:3] = [os.environ.get("CALF_VARIANT") or "".join(word[2:3])]
                todo.append(":".join(word[:3]))
    tests = Tests(log, runner, jobs)
    known = {t.split(":")[0] for t in todo}
    for n in filter(None, names.split(",")):
        if n not in known:
            tests.tell(0, 1, ["not ok %s: not in %s" % (n, path)])
    tests.fill(todo)
    vms = [threading.Thread(target=tests.vm, args=(n,)) for n in range(jobs)]
    for vm in vms:
        vm.start()
    for vm in vms:
        vm.join()
    print(tests.passed, tests.failed)
    return 0 if tests.failed == 0 else 1


sys.exit(main())

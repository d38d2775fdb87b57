#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Runs fstests in VMs: `make fstests` calls this (scripts/fstests.sh) when everything is built.

    run.py --tree FOLDER --out FOLDER [choice of tests, section, jobs ...] -- qemu/run --kernel ...

Tests are dealt out in portions, one VM boot a portion; guest.sh in the VM says what became of each. Where a VM
panics, ends or hangs, the test that ran is reported so and the rest goes on in another VM. Exit status: 0 when no
test failed, 1 when some did, 2 when they could not be run.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../../qemu")]
import report  # noqa: E402

PASSED, FAILED, NOTRUN, HUNG, PANICKED = "passed", "failed", "notrun", "hung", "panicked"
START = re.compile(r"run fstests (\S+) at ")
DEAD = re.compile(r"Kernel panic|Fatal exception|kernel BUG at")
# What fstests' own look at the kernel's log leaves out; it knows WARNING, BUG, lockdep, UBSAN.
COMPLAINT = re.compile(
    r"VFS: Busy inodes|INFO: task .* blocked for more than|rcu: INFO: .* stall|soft lockup|Bad page state"
    r"|scheduling while atomic|KASAN:|kmemleak: \d+ new suspected|panicked at|Objects remaining"
)
STOPPED = "stopped"
NOTHING = "nothing"  # where a test's name would be: no test was running
GRACE = 20  # seconds beyond a test's limit, for the guest to say who is blocked
PORTION_TESTS, PORTION_SECONDS = 30, 600

SECTIONS = {
    ("calf", "4k"): {}, ("calf", "lab"): {},
    ("calf", "1k"): {"mkfs": "-b 1024"},
    ("calf", "always_cow"): {"mount": "-o always_cow"},
    ("xfs", "4k"): {}, ("xfs", "1k"): {"mkfs": "-b size=1024"},
    ("ext4", "4k"): {}, ("ext4", "1k"): {"mkfs": "-b 1024"},
    ("btrfs", "4k"): {},
}
FORCE = {"calf": "-f", "xfs": "-f", "ext4": "-F -q", "btrfs": "-f"}


def load(name, path):
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


qemu_run = load("qemu_run", os.path.join(HERE, "../../qemu/run"))


def die(text):
    print("fstests: " + text, file=sys.stderr)
    sys.exit(2)


def groups_of(tree, fstyp):
    """All tests of generic and of the filesystem's own folder: name -> groups, in fstests' order."""
    out = {}
    for folder in ("generic", fstyp):
        path = os.path.join(tree, "tests", folder, "group.list")
        if not os.path.exists(path):
            continue
        with open(path, errors="replace") as f:
            for line in f:
                word = line.split("#")[0].split()
                if word:
                    out[f"{folder}/{word[0]}"] = set(word[1:])
    return out


def choose(opt, known):
    """The tests to run, in order."""
    def words(text):
        return re.split(r"[\s,]+", text.strip()) if text.strip() else []

    def matching(word):
        """A test's name (of generic: its number will do), or all tests of a group; folder/group is a group of one folder."""
        name = "generic/" + word.zfill(3) if word.isdigit() else word
        if name in known:
            return [name]
        folder, _, group = word.rpartition("/")
        found = [t for t, g in known.items() if group in g and t.startswith(folder or "generic/")]
        # A test of another folder.
        if not found and "/" in word and os.path.isfile(os.path.join(opt.tree, "tests", word)):
            found = [word]
        return found or die(f"no test and no group is called {word} in {opt.tree}/tests/generic")

    chosen = dict.fromkeys(t for w in words(opt.tests) + words(opt.group) for t in matching(w))
    if opt.rerun:
        before = report.read(opt.out)
        bad = [t for t, r in before["tests"].items() if r["verdict"] not in (PASSED, NOTRUN) and r.get("run") == before.get("run")]
        chosen = dict.fromkeys(t for t in bad if not chosen or t in chosen)
        if not chosen:
            die("nothing to run again: no test of the last run failed")
    out = {t for w in words(opt.exclude) for t in matching(w)}
    return [t for t in chosen if t not in out]


class Deal:
    """The tests that are left, dealt out in portions; results come in. Shared by the VMs' threads."""

    def __init__(self, opt, tests, known_seconds):
        self.opt, self.seconds = opt, known_seconds
        self.change = threading.Condition()
        # With several VMs the long ones first, so that none is left alone with them at the end.
        once = sorted(tests, key=lambda t: -self.expect(t)) if opt.jobs > 1 else list(tests)
        self.left = once * opt.loop
        # A boot is worth so many seconds of tests, if that leaves some for each VM.
        self.least = min(60, sum(map(self.expect, self.left)) / opt.jobs)
        self.dealt = []  # to VMs that run, without a result yet
        self.total, self.results, self.error = len(self.left), [], None
        self.after = []  # what was found when a VM's tests were over: a module that stays, lost memory
        self.began = time.monotonic()
        self.told = 0

    def expect(self, test):
        return self.seconds.get(test, 15)

    def take(self):
        """The next portion; empty when all tests have a result, or there is an error."""
        with self.change:
            # What another VM has may come back, when its kernel dies.
            while not self.left and self.dealt and not self.error:
                self.change.wait(1)
            limit = PORTION_SECONDS
            if self.opt.jobs > 1:
                # Smaller ones towards the end, so that all VMs end at about the same time.
                limit = min(limit, max(self.least, sum(map(self.expect, self.left)) / (2 * self.opt.jobs)))
            portion, seconds = [], 0
            while self.left and not self.error and len(portion) < PORTION_TESTS:
                # The same test twice (LOOP) is for another boot: check would run it once.
                if portion and (seconds + self.expect(self.left[0]) > limit or self.left[0] in portion):
                    break
                portion.append(self.left.pop(0))
                seconds += self.expect(portion[-1])
            self.dealt += portion
            return portion

    def give_back(self, tests):
        """A VM has ended, and these tests had no turn."""
        with self.change:
            for t in tests:
                self.dealt.remove(t)
            self.left[:0] = tests
            self.change.notify_all()

    def result(self, r):
        with self.change:
            self.results.append(r)
            if r["test"] in self.dealt:
                self.dealt.remove(r["test"])
            self.show(r)
            report.save(self.opt, self.results, partial=True)
            self.change.notify_all()

    def show(self, r):
        n = {v: sum(x["verdict"] == v for x in self.results) for v in (PASSED, NOTRUN)}
        done = len(self.results)
        bad = done - n[PASSED] - n[NOTRUN]
        spent = time.monotonic() - self.began
        expected = sum(map(self.expect, self.left + self.dealt))
        known = sum(self.expect(x["test"]) for x in self.results) or 1
        left = "about %s left" % report.clock(expected * spent / known) if spent > 30 else ""
        status = f"[{done}/{self.total}] {n[PASSED]} passed, {bad} failed, {n[NOTRUN]} not run, " \
                 f"{report.clock(spent)} gone, {left}"
        if sys.stderr.isatty():
            line = "" if r["verdict"] == PASSED else "%s: %s %s\n" % (r["test"], r["verdict"], r["reason"][:90])
            sys.stderr.write("\r\033[K" + line + status)
        else:
            sys.stderr.write("%s: %s %ds %s\n" % (r["test"], r["verdict"], r["seconds"], r["reason"][:110]))
            if time.monotonic() - self.told > 60:
                self.told = time.monotonic()
                sys.stderr.write(status + "\n")
        sys.stderr.flush()


class Vm(threading.Thread):
    """One after another, VMs that run portions."""

    def __init__(self, deal, number):
        super().__init__(daemon=True)
        self.deal, self.opt, self.number = deal, deal.opt, number
        self.process, self.folder = None, None

    def run(self):
        empty, boot = 0, 0
        try:
            while not self.deal.error:
                portion = self.deal.take()
                if not portion:
                    return
                boot += 1
                left, why = Boot(self, portion, boot).run()
                self.deal.give_back(left)
                empty = empty + 1 if left == portion else 0
                if empty == 3 or (why and why.startswith("error ")):
                    self.deal.error = why or "three VMs in a row ended before a test began, logs: " + self.folder
        except OSError as e:
            self.deal.error = str(e)


class Boot:
    """One VM with one portion of tests."""

    def __init__(self, vm, tests, number):
        self.vm, self.opt, self.deal, self.tests = vm, vm.opt, vm.deal, tests
        self.log = vm.folder = os.path.join(self.opt.out, "vm", f"{vm.number}-{number:03}")
        shutil.rmtree(self.log, ignore_errors=True)
        os.makedirs(self.log)
        self.results = {}
        self.current = self.started = self.latest = None  # by the kernel's port
        self.idle = time.monotonic()  # since when no test runs
        self.kernel = {}  # test -> its lines
        self.stray = []  # what the kernel complained of while no test ran
        self.seconds = {}
        self.last = None  # the result that FST | lines belong to
        self.error = None
        self.done = self.dead = False

    def disk(self, name, size):
        path = os.path.join(self.opt.disks, f"{os.getpid()}-{self.vm.number}-{name}.img")
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def work(self):
        o = self.opt
        section = SECTIONS[(o.fstyp, o.section)]
        words = {
            "FST_FSTYP": o.fstyp, "FST_LIMIT": int(o.limit), "FST_OVERLAY": int(o.overlay),
            "FST_MKFS": section.get("mkfs", ""), "FST_MKFS_FORCE": FORCE[o.fstyp], "FST_MOUNT": section.get("mount", ""),
            "FST_FSCK": "-n", "FST_CHECK": int(o.check), "FST_TESTS": " ".join(self.tests),
        }
        if o.fstyp == "calf" and not o.overlay:
            # Its own words for an unknown filesystem force nothing.
            words.update(FST_MKFS=("-f " + words["FST_MKFS"]).strip(), FST_MKFS_FORCE="")
        path = os.path.join(self.log, "work")
        with open(path, "w") as f:
            f.writelines(f"{k}='{v}'\n" for k, v in words.items())
        os.truncate(path, 65536)
        return path

    def run(self):
        """Returns the tests that did not get their turn, and what went wrong with the VM itself."""
        o = self.opt
        disks = {n: self.disk(n, s) for n, s in (("test", o.size), ("scratch", o.size), ("logwrites", o.size))}
        args = o.runner + ["--quiet", "--log", self.log, "--cpus", str(o.cpus), "--memory", o.memory]
        for word in o.append:
            args += ["--append", word]
        for name, path in disks.items():
            args += ["--disk", f"calf{name}={path}"]
        args += ["--disk-ro", f"calfwork={self.work()}", "--disk-ro", f"calffstests={o.image}"]
        for port in ("console.log", "guest.log"):
            open(os.path.join(self.log, port), "wb").close()
        module = {"calf": "lab" if o.section == "lab" else "release"}.get(o.fstyp, "none")
        # The disks are made before the first test; if the task ended sooner than watch(), a test that hangs would seem to
        # have taken the VM with it.
        args.append(f"fstests:{int((o.limit + GRACE) * len(self.tests) + 2 * o.between)}:{module}")
        with open(os.path.join(self.log, "runner.log"), "wb") as out:
            self.vm.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            killed = self.watch()
        finally:
            if self.vm.process.poll() is None:
                self.vm.process.terminate()
            self.vm.process.wait()
            for path in disks.values():
                os.unlink(path)
        return self.judge(killed)

    def watch(self):
        kernel, guest = (qemu_run.Tail(os.path.join(self.log, n)) for n in ("console.log", "guest.log"))
        killed = None
        while True:
            gone = self.vm.process.poll() is not None
            # What the kernel said before the guest spoke is read before it is heard.
            heard = list(guest.lines())
            for line in kernel.lines():
                self.kernel_line(line)
            for line in heard:
                self.guest_line(line)
            if gone or killed:
                return killed
            if time.monotonic() - (self.started or self.idle + self.opt.between) > self.opt.limit + GRACE:
                killed = self.current or NOTHING
                self.vm.process.terminate()
                self.vm.process.wait()
            time.sleep(0.1)

    def kernel_line(self, line):
        m = START.search(line)
        if m:
            self.end_of_current()
            self.current, self.started = m[1], time.monotonic()
        elif DEAD.search(line):
            self.dead = True
        if self.current:
            self.kernel.setdefault(self.current, []).append(line)
        elif qemu_run.TROUBLE.search(line) and not qemu_run.KERNELS_OWN.search(line):
            # Nobody else hears it: fstests looks at the log of a test, qemu/run cannot tell it from a test's.
            self.stray.append((self.latest, line.split("] ", 1)[-1]))

    def end_of_current(self):
        if self.current:
            self.seconds[self.current] = time.monotonic() - self.started
            self.idle = time.monotonic()
            self.latest = self.current
        self.current = self.started = None

    def guest_line(self, line):
        if line.startswith("calf-init: "):
            self.found(line[len("calf-init: "):])
        if not line.startswith("FST "):
            return
        _, kind, *rest = line.split(" ", 2)
        text = rest[0] if rest else ""
        if kind == "result":
            test, verdict, *reason = text.split(" ", 2)
            if self.current == test:
                self.end_of_current()
            self.publish()
            self.last = {"test": test, "verdict": verdict, "reason": reason[0] if reason else "", "text": []}
            if verdict != FAILED:
                self.publish()
        elif kind == "|" and self.last:
            self.last["text"].append(text)
        elif kind == "error":
            self.error = text
        elif kind == "note":
            print("fstests: " + text, file=sys.stderr)
        elif kind == "done":
            self.publish()
            self.done = True

    def publish(self):
        """The result before is complete."""
        r, self.last = self.last, None
        if r is None or r["test"] in self.results:
            return
        r["seconds"] = round(self.seconds.get(r["test"], 0), 1)
        said = self.kernel.pop(r["test"], [])
        found = [x for x in said if COMPLAINT.search(x) or DEAD.search(x)]
        if found and r["verdict"] in (PASSED, FAILED):
            r["reason"] = ", ".join(filter(None, [r["reason"], "kernel: " + found[0].split("] ", 1)[-1]]))
            r["verdict"] = FAILED
        text = r.pop("text")
        if r["verdict"] not in (PASSED, NOTRUN):
            r["log"] = os.path.join("tests", r["test"].replace("/", "-") + ".log")
            path = os.path.join(self.opt.out, r["log"])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", errors="replace") as f:
                f.write("\n".join(["%s: %s: %s" % (r["test"], r["verdict"], r["reason"]), *text, "", "kernel:", *said, ""]))
        self.results[r["test"]] = r
        self.deal.result(r)

    def judge(self, killed):
        self.publish()
        left = [t for t in self.tests if t not in self.results]
        if self.deal.error == STOPPED:
            return left, None
        for test, line in self.stray[:1]:
            where = "after %s" % test if test else "before the first test"
            self.found("the kernel said %s, when no test ran: %s" % (where, line))
        if self.error:
            return left, "error " + self.error
        if self.done:
            for t in left:
                self.last = {"test": t, "verdict": FAILED, "reason": "check did not run it", "text": []}
                self.publish()
            if killed or self.vm.process.returncode in (qemu_run.INFRA, qemu_run.TIMEOUT):
                self.found("the VM did not come to its end when its tests were over")
            return [], None
        at = killed or self.current
        if at not in left:
            # Between two tests, before the first, or after the last.
            if self.results and not (self.stray and self.dead):
                self.found("the VM %s after %s" % ("stood still" if killed else "ended", self.latest))
            elif not self.results:
                print(f"fstests: a VM did not come to its first test, again in another: {self.log}", file=sys.stderr)
            return left, None
        self.seconds[at] = time.monotonic() - self.started if self.started else 0
        if killed:
            verdict, reason = HUNG, "no end after %d s" % self.opt.limit
        else:
            why = [x.split("] ", 1)[-1] for x in self.kernel.get(at, []) if DEAD.search(x)]
            verdict, reason = PANICKED, why[0] if why else "the VM ended"
        self.last = {"test": at, "verdict": verdict, "reason": reason, "text": ["VM: " + self.log]}
        self.publish()
        return [t for t in left if t != at], None

    def found(self, text):
        self.deal.after.append("%s: %s" % (self.log, text))


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tree", required=True)
    p.add_argument("--image", required=True, help="disk image of the tree")
    p.add_argument("--out", required=True, help="folder for results and logs")
    p.add_argument("--fstyp", default="calf")
    p.add_argument("--section", default="4k")
    p.add_argument("--tests", default="")
    p.add_argument("--group", default="")
    p.add_argument("--exclude", default="")
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--loop", type=int, default=1)
    p.add_argument("--limit", type=float, default=900, help="seconds for one test")
    p.add_argument("--between", type=float, default=120, help="seconds more for boot, and from test to test")
    p.add_argument("--size", type=lambda s: int(s) << 30, default=10 << 30, help="GiB of each disk (sparse)")
    p.add_argument("--disks", help="folder for the disks")
    p.add_argument("--memory", default="2G")
    p.add_argument("--append", action="append", default=[], help="a word for the kernel's command line")
    p.add_argument("--check", action="store_true", help="with iomap_check loaded")
    p.add_argument("--cpus", type=int, default=1)
    p.add_argument("--rerun", action="store_true", help="only tests that failed in the last run")
    p.add_argument("--no-overlay", dest="overlay", action="store_false", help="without calf's branches for fstests")
    p.add_argument("--compare", default="", help="results of another run (folder)")
    p.add_argument("--new", action="store_true", help="only what does not fail in --compare too is a failure")
    p.add_argument("--commit", default="")
    p.add_argument("--kernel-release", default="")
    p.add_argument("--list", action="store_true", help="only print the names of the tests")
    p.add_argument("runner", nargs="*")
    return p.parse_args()


def main():
    opt = options()
    if (opt.fstyp, opt.section) not in SECTIONS:
        die(f"FSTYP={opt.fstyp} SECTION={opt.section}: there are " + ", ".join("/".join(s) for s in SECTIONS))
    scale = float(os.environ.get("CALF_TIME_SCALE", "1"))
    opt.limit, opt.between = opt.limit * scale, opt.between * scale
    if not (opt.tests or opt.group or opt.rerun):
        opt.group = "auto"
    tests = choose(opt, groups_of(opt.tree, opt.fstyp))
    if not tests:
        die("no test is left to run")
    if opt.list:
        print("\n".join(tests))
        return 0
    opt.disks = opt.disks or os.path.join(opt.out, "disks")
    os.makedirs(opt.disks, exist_ok=True)
    deal = Deal(opt, tests, report.durations(opt.out))
    report.begin(opt)
    print("fstests: %d tests of %s on %s, section %s, %d VM%s" % (
        deal.total, opt.tree, opt.fstyp, opt.section, opt.jobs, "s" * (opt.jobs > 1)), file=sys.stderr)
    vms = [Vm(deal, n) for n in range(opt.jobs)]
    try:
        for vm in vms:
            vm.start()
        while any(vm.is_alive() for vm in vms):
            time.sleep(0.1)
    except (KeyboardInterrupt, SystemExit):
        deal.error = STOPPED
        for vm in vms:
            if vm.process and vm.process.poll() is None:
                vm.process.terminate()
        for vm in vms:
            vm.join(10)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    status = report.save(opt, deal.results, partial=False)
    for text in deal.after:
        print("fstests: failed: " + text, file=sys.stderr)
        status = status or 1
    if deal.error:
        print("fstests: " + deal.error, file=sys.stderr)
    if deal.error or not deal.results:
        return 2
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""`make nightly`: every suite in full, one after the other, and docs/status.md, a line for each.

SUITES=a,b   only these (default: all; names in docs/status.md); an unknown name lists them
RUNNER=      qemu, uml or auto (default: auto: User Mode Linux for long suites where there is no KVM)
FSTESTS=     a built fstests tree; without it, the suites of fstests are left out, and none may be named in SUITES
AGAIN=1      also suites that passed on this commit with this runner already

A line of the page says what was asked for, what the suite's last line said, how long it took, on which commit, and
when, on which kernel. Lines of suites that are not run stay as they are: each says its own commit. Exit status: 1 if a suite failed, 2 if
what is asked for cannot be.
Other variables (CPUS=, JOBS=, SEEDS= ...) reach the suites as they reach make, and replace what a suite says itself:
KILLS=20 shortens `crash KILLS=200`.
"""

import datetime
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join(ROOT, "docs", "status.md")

# Name, make's arguments. What runs in a VM has the word VM; RUNNER= is added to it.
SUITES = [
    ("host", "HOST_ONLY=1 test", ""),
    ("test", "test", "VM"),
    ("test-lab", "test LAB=1 T=@all", "VM"),
    ("run", "run", "VM"),
    ("lab-table", "lab-table", "VM"),
    ("mutation", "mutation", "VM"),
    ("compare", "compare", "VM"),
    ("crash", "crash KILLS=200", "VM"),
    ("replay", "replay", "VM"),
    ("faults", "soak T=faults", "VM"),
    ("damage", "damage", ""),
    ("damage-vm", "soak T=damage", "VM"),
    ("fuzz", "fuzz SECONDS=300", ""),
    ("fsx", "soak T=fsx PART=10000", "VM"),
    ("model", "soak T=model", "VM"),
    ("big", "soak T=bigdir,clone", "VM"),
    ("debug", "test T=@all VARIANT=debug", "VM"),
    ("debug-run", "run VARIANT=debug", "VM"),
    ("debug-replay", "replay SEQUENCES=40 VARIANT=debug", "VM"),
    ("debug-crash", "crash KILLS=20 VARIANT=debug", "VM"),
    ("debug-fstests", "fstests GROUP=clone VARIANT=debug RESULTS=build/fstests/calf-debug", "VM"),
    ("kasan", "test T=@all VARIANT=kasan", "VM"),
    ("kasan-run", "run VARIANT=kasan", "VM"),
    ("kasan-replay", "replay SEQUENCES=40 VARIANT=kasan", "VM"),
    ("kasan-soak", "soak T=fsx,model SEEDS=2 STEPS=2000 OPS=10000 PART=5000 VARIANT=kasan", "VM"),
    ("kasan-crash", "crash KILLS=20 VARIANT=kasan", "VM"),
    ("kasan-fstests", "fstests GROUP=clone VARIANT=kasan RESULTS=build/fstests/calf-kasan", "VM"),
    ("fstests-xfs", "fstests FSTYP=xfs", "VM"),
    ("fstests-xfs-1k", "fstests FSTYP=xfs SECTION=1k", "VM"),
    ("fstests", "fstests FAIL=new", "VM"),
    ("fstests-1k", "fstests SECTION=1k FAIL=new", "VM"),
    ("fstests-always_cow", "fstests SECTION=always_cow FAIL=new", "VM"),
    ("fstests-lab", "fstests SECTION=lab FAIL=new", "VM"),
]
# What a suite may be told from outside; the page says so.
TOLD = ("CPUS", "JOBS", "SEED", "SEEDS", "STEPS", "OPS", "PART", "KILLS", "TIMES", "SEQUENCES", "IMAGES", "TORN", "T", "GROUP", "TESTS", "EXCLUDE", "CALF_APPEND")
HEAD = "| suite | `make` | runner | result | it said | duration | commit | kernel | date |\n|---|---|---|---|---|---|---|---|---|\n"
TEXT = """# Status

Written by `make nightly` (scripts/nightly.py): the newest run of each suite with each runner, with the commit it ran
on. `test` is also what continuous integration does, at every change.

Machine: %s.

"""


def die(text):
    print("nightly: " + text, file=sys.stderr)
    sys.exit(2)


def output(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def commit():
    """The commit, with -dirty if files differ from it, but for the page that this writes itself."""
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/status.md")
    return output("git", "describe", "--always") + ("-dirty" if changed else "")


def has_kvm():
    """As scripts/lib.sh decides it."""
    with open("/proc/cpuinfo") as f:
        return os.access("/dev/kvm", os.W_OK) and re.search(r"^flags.*\b(vmx|svm)\b", f.read(), re.M) is not None


def all_vm_tests():
    """The names in tests/vm/list, as T= takes them."""
    with open(os.path.join(ROOT, "tests", "vm", "list")) as f:
        words = [line.split("#")[0].split() for line in f]
    return ",".join(w[0] for w in words if len(w) >= 2)


def needs_fstests(arguments):
    return "fstests" in arguments.split()


def rows_of_page():
    """What the page says now: (suite, runner) -> cells."""
    rows = {}
    if os.path.exists(PAGE):
        with open(PAGE) as f:
            for line in f:
                cells = [c.strip() for c in line.strip().strip("|").split(" | ")]
                if len(cells) == 9 and cells[0] in {s[0] for s in SUITES}:
                    rows[cells[0], cells[2]] = cells
    return rows


def write_page(rows):
    order = {s[0]: i for i, s in enumerate(SUITES)}
    kvm = "with KVM" if has_kvm() else "without KVM (QEMU emulates the processor)"
    machine = "%d processors %s" % (os.cpu_count() or 1, kvm)
    with open(PAGE + ".tmp", "w") as f:
        f.write(TEXT % machine + HEAD)
        for key in sorted(rows, key=lambda k: (order[k[0]], k[1])):
            f.write("| %s |\n" % " | ".join(rows[key]))
    os.rename(PAGE + ".tmp", PAGE)


def last_line(path):
    """The last line, without the clock that the scripts put before theirs."""
    said = ""
    with open(path, errors="replace") as f:
        for line in f:
            line = " ".join(re.sub(r"^\[ *\d+s\]", "", line).split()).replace("|", "/")
            if line and not line.startswith("make"):
                said = line
    return re.sub(re.escape(ROOT) + "/?", "", said)[:120] or "(nothing)"


def duration(seconds):
    return "%d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)


def as_told(arguments):
    """The words of a suite's arguments with the values that the environment gives: `crash KILLS=200` and KILLS=5 make `crash KILLS=5`."""
    told = {v: os.environ[v] for v in TOLD if os.environ.get(v)}
    words = ["%s=%s" % (v, told.pop(v)) if v in told else w for w in arguments.split() for v in [w.split("=")[0]]]
    return words + ["%s=%s" % item for item in told.items()]


def run(name, arguments, runner, log):
    """Runs one suite; the cells of its line."""
    told = as_told(arguments)
    words = [w.replace("@all", all_vm_tests()) for w in told]
    command = ["make", "--no-print-directory"] + words + (["RUNNER=" + runner] if runner else [])
    begin, built = time.monotonic(), commit()
    with open(log, "w") as f:
        # Each suite has the clock of its own start.
        drop = ("CALF_T0", "SUITES", "AGAIN", "RUNNER", "MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL")
        environment = {k: v for k, v in os.environ.items() if k not in drop}
        status = subprocess.call(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=f, stderr=f, env=environment)
    seconds = int(time.monotonic() - begin)
    return [name, asked_for(told), runner or "host", "passed" if status == 0 else "**failed (%d)**" % status,
            last_line(log), duration(seconds), built, kernel(told, runner), str(datetime.date.today())]


def asked_for(told):
    """The cell of the page that says what was asked of make."""
    return "`%s`" % " ".join(told).replace("@all", "(all)")


def kernel(told, runner):
    """The release of the kernel that these words of make boot; "-" on the host."""
    if not runner:
        return "-"
    variant = [w.split("=")[1] for w in told if w.startswith("VARIANT=")]
    path = output("env", "RUNNER=" + runner, "VARIANT=" + "".join(variant), "scripts/kernel.sh", "--path")
    try:
        with open(os.path.join(path, "include/config/kernel.release")) as f:
            return f.read().strip()
    except OSError:
        return "?"


def main():
    if sys.argv[1:]:
        die("%s: this takes no arguments, only variables: SUITES=, RUNNER=, FSTESTS=, AGAIN=" % " ".join(sys.argv[1:]))
    known = [s[0] for s in SUITES]
    asked = list(filter(None, re.split("[, ]+", os.environ.get("SUITES", "")))) or known
    unknown = [a for a in asked if a not in known]
    if unknown:
        die("no suite %s: there are %s" % (", ".join(unknown), ", ".join(known)))
    need = [name for name, arguments, _ in SUITES if needs_fstests(arguments)] if not os.environ.get("FSTESTS") else []
    if os.environ.get("SUITES") and set(need) & set(asked):
        die("%s: give FSTESTS=<a built fstests tree>" % ", ".join(n for n in need if n in asked))
    if os.environ.get("AGAIN", "") not in ("", "0", "1"):
        die("AGAIN=%s: give 1 (on), or 0 or nothing (off)" % os.environ["AGAIN"])
    again = os.environ.get("AGAIN") == "1"
    runner = os.environ.get("RUNNER", "auto")
    if runner == "auto":
        runner = "qemu" if has_kvm() else "uml"
    now = commit()
    logs = os.path.join(ROOT, "build", "nightly")
    os.makedirs(logs, exist_ok=True)
    failed = []
    for name, arguments, where in SUITES:
        machine = runner if where else ""
        done = rows_of_page().get((name, machine or "host"))
        if name not in asked:
            continue
        if name in need:
            print("%s: left out: no FSTESTS=" % name, flush=True)
            continue
        # A sample is not the whole.
        if done and done[6] == now and done[3] == "passed" and done[1] == asked_for(as_told(arguments)) and not again:
            print("%s: passed on this commit already" % name, flush=True)
            continue
        log = os.path.join(logs, "%s-%s.log" % (name, machine or "host"))
        print("%s ... (%s)" % (name, os.path.relpath(log, ROOT)), flush=True)
        cells = run(name, arguments, machine, log)
        # Read again: another run of this script may have added lines.
        rows = rows_of_page()
        rows[name, machine or "host"] = cells
        write_page(rows)
        print("%s: %s in %s: %s" % (name, cells[3].strip("*"), cells[5], cells[4]), flush=True)
        if cells[3] != "passed":
            failed.append(name)
    if failed:
        sys.exit("nightly: failed: " + ", ".join(failed))


if __name__ == "__main__":
    main()

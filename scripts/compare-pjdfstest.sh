#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make compare`: pjdfstest on calf and on XFS in one VM; writes docs/pjdfstest.md. Exit 1 if a test that passes on
# XFS does not pass on calf. With --check the document is not written.
. "$(dirname "$0")/lib.sh"
export KERNEL_CONFIG=full
. "$CALF_ROOT/scripts/vm.sh"

prepare release
vm_command compare
say "vm: pjdfstest on calf and on XFS ..."
"${VM[@]}" --quiet compare:600:release || exit $?
doc=$CALF_ROOT/docs/pjdfstest.md
[ "${1:-}" != --check ] || doc=$VMDIR/pjdfstest.md
python3 - "$VMDIR/guest.log" "$doc" <<'END'
import collections
import sys

log, doc = sys.argv[1:]
found = collections.defaultdict(dict)
for line in open(log, errors="replace"):
    word = line.split()
    if len(word) == 4 and word[0] == "CALF-PJD":
        found[word[2]][word[1]] = word[3]
tests = sorted(found)
if len(tests) < 300 or any(len(found[t]) != 2 for t in tests):
    sys.exit("compare: %d tests, and not all ran on both" % len(tests))
worse = [t for t in tests if found[t]["xfs"] == "ok" and found[t]["calf"] != "ok"]
with open(doc, "w") as out:
    print("# pjdfstest on calf and on XFS", file=out)
    print(file=out)
    print("Made by `make compare` (pjdfstest 0.2.2, both in one VM); do not edit.", file=out)
    print(file=out)
    print("| | calf | XFS |", "|---|---|---|", sep="\n", file=out)
    for what in "ok", "FAILED", "skipped":
        print("| %s | %d | %d |" % (what, *(sum(found[t][f] == what for t in tests) for f in ("calf", "xfs"))), file=out)
    print("\n| test | calf | XFS |", "|---|---|---|", sep="\n", file=out)
    for t in tests:
        print("| %s | %s | %s |" % (t, found[t]["calf"], found[t]["xfs"]), file=out)
print("compare: %d tests, %d fail on calf and pass on XFS; table: %s" % (len(tests), len(worse), doc))
for t in worse:
    print("not ok " + t)
sys.exit(1 if worse else 0)
END

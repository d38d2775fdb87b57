#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# For scripts/compare-pjdfstest.sh: pjdfstest on calf and on XFS, one line a test and filesystem. A point says that
# the suite ran to its end; what its tests say is judged outside.
here=$(dirname "$0")
n=0 st=0
echo "TAP version 13"
echo "1..2"
for fs in calf xfs; do
	n=$((n + 1))
	rm -f /tmp/pjdfstest.log
	[ $fs = calf ] || modprobe $fs
	CALF_FSTYPE=$fs "$here/pjdfstest" | sed 's/^\(not \)\{0,1\}ok/# &/; /^1\.\./d; /^TAP /d'
	sed -nE "s/^([a-z_0-9:]+) +(ok|FAILED|skipped)\$/CALF-PJD $fs \1 \2/p" /tmp/pjdfstest.log
	if grep '^Summary' /tmp/pjdfstest.log; then echo "ok $n - $fs"; else echo "not ok $n - $fs"; st=1; fi
done
exit $st

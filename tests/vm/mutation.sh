#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# For scripts/mutation.sh: what fsx, the model and pjdfstest notice of each bug, without knowing of it. One line a
# bug and program: exit status, and the contracts that the module saw broken. A kernel that dies takes the rest
# with it, so calf.mutation=NAME,NAME on the kernel command line chooses.
here=$(cd "$(dirname "$0")" && pwd)
checks=/sys/kernel/debug/calf/checks
names=$(sed -n 's/.*calf\.mutation=\([^ ]*\).*/\1/p' /proc/cmdline | tr ',' ' ')
[ -n "$names" ] || names="none $(calf-lab list | awk '{ print $1 }')"
export CALF_FSX_OPS=1500 CALF_MODEL_STEPS=150
echo "TAP version 13"
echo "1..1"
for name in $names; do
	for program in fsx model pjdfstest; do
		echo 0 >$checks
		opts=bug=$name args=
		[ $program != fsx ] || args="seed_1 seed_4"
		[ "$name" != none ] || opts=
		CALF_OPTS=$opts timeout -k 5 100 "$here/$program" $args >/tmp/mutation.log 2>&1 </dev/null
		status=$?
		cd /
		umount -l /mnt/test 2>/dev/null
		broken=$(awk '$2 > 0 { printf "%s%s", s, $1; s = "+" }' $checks)
		echo "CALF-MUTATION name=$name program=$program status=$status checks=$broken"
		[ $status = 0 ] || grep -aE "^not ok" /tmp/mutation.log | head -2 | sed 's/^/# /'
	done
done
echo 0 >$checks
echo "ok 1 - all bugs"

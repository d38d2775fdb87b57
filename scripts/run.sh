#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make run`: boots the VM, formats a disk, runs the reproducers with the switch off and on, powers off, checks
# the disk image from here, and prints the table. Exit 0 only if all is as expected.
#
# REPRO=name,name   only these reproducers; REPRO may hold further arguments of `calf-lab run`
# LIMIT=seconds     how long the reproducers may take together (600)
. "$(dirname "$0")/vm.sh"

counts LIMIT
names=()
for word in $(tr , ' ' <<<"${REPRO:-}"); do
	# What begins otherwise is an option, or its value.
	case $word in [a-z]*) names+=("$word") ;; esac
done
known_switches "REPRO=${REPRO:-}" "${names[@]}"
prepare lab
vm_command run
args=()
[ -z "${REPRO:-}" ] || args+=(--append "calf.repro=${REPRO// /,}")
say "vm: boot, run the reproducers ..."
t0=$(date +%s)
status=0
"${VM[@]}" --quiet --results "$VMDIR/results.json" "${args[@]}" "repro:${LIMIT:-600}:lab" || status=$?
say "vm: done in $(($(date +%s) - t0))s (status $status)"

guest=$VMDIR/guest.log
if [ $status != 0 ]; then
	tail -n 40 "$guest" | sed 's/^/        | /' >&2
fi
fsck=0
"$TOOLS/fsck.calf" -n "$VMDIR/test.img" >"$VMDIR/fsck.log" 2>&1 || fsck=$?
tail -n 5 "$VMDIR/fsck.log" | sed 's/^/        | /' >&2
say "fsck.calf -n $VMDIR/test.img: status $fsck"

# The tracepoints and the table, as the guest printed them.
sed -n '/^reproducer  */,/^ *$/p' "$guest"
total=$(grep -c '^CALF-REPRO ' "$guest" || true)
good=$(grep -c '^CALF-REPRO .*verdict=as-expected' "$guest" || true)
if [ $status = 0 ] && [ $fsck = 0 ] && [ "$total" -gt 0 ] && [ "$good" = "$total" ]; then
	say "run: all $total reproducers as expected, image clean; details: $guest"
	exit 0
fi
say "run: NOT as expected: $good of $total reproducers, VM status $status, fsck status $fsck; logs: $VMDIR"
[ $status != 0 ] || status=1
exit $status

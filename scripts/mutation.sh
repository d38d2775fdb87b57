#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make mutation`: runs the reproducers, then fsx, the model and pjdfstest with each bug on, and writes
# docs/bugs/mutation.md. A bug may take the VM with it; the rest goes on in another.
#
# SWITCHES=NAME,NAME     only these (none: without any); the rows of the others stay
CALF_LONG=1
. "$(dirname "$0")/vm.sh"
mapfile -t all < <(switch_names)
names=(none "${all[@]}")
if [ -n "${SWITCHES:-}" ]; then
	read -r -a names <<<"${SWITCHES//,/ }"
	[ ${#names[@]} -gt 0 ] || die "SWITCHES=$SWITCHES names no switch"
fi
bugs=()
for name in "${names[@]}"; do [ "$name" = none ] || bugs+=("$name"); done
known_switches "SWITCHES=${SWITCHES:-}" "${bugs[@]}"
prepare lab
vm_command mutation
rm -rf "$VMDIR"/boot*
log=$VMDIR/boot0
if [ ${#bugs[@]} -gt 0 ]; then
	repro=()
	[ ${#bugs[@]} = ${#all[@]} ] || repro=(--append "calf.repro=$(IFS=,; echo "${bugs[*]}")")
	"${VM[@]}" --quiet --log "$log" "${repro[@]}" repro:1800:lab || say "the reproducers are not all as expected"
fi
boot=0
while [ ${#names[@]} -gt 0 ]; do
	boot=$((boot + 1))
	log=$VMDIR/boot$boot
	list=${names[*]}
	say "mutation: ${#names[@]} left"
	"${VM[@]}" --quiet --log "$log" --append "calf.mutation=${list// /,}" mutation:7200:lab || true
	last=
	while read -r name; do
		last=$name
		[ "$name" != "${names[0]}" ] || names=("${names[@]:1}")
	done < <(sed -n 's/^CALF-MUTATION name=\([a-z0-9_]*\) program=pjdfstest .*/\1/p' "$log/guest.log")
	# One that never came to its end is not tried again.
	if [ ${#names[@]} -gt 0 ] && [ "$last" != "${names[0]}" ]; then
		echo "CALF-MUTATION name=${names[0]} program=died status=died checks=" >>"$log/guest.log"
		names=("${names[@]:1}")
	fi
done
"$CALF_ROOT/scripts/mutation.py" "$VMDIR"/boot*/guest.log

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make coverage`: runs VM tests and finds out which code of the modules they execute, then writes a page of the lines that
# ran and those that did not (docs/coverage.md). Neither kernel nor module is changed.
#
# T=NAME,NAME    only these VM tests; runs of the same sources add up
# LAB=1          all of them with the laboratory module
# RUNNER=        uml: breakpoints, several times faster; qemu: QEMU's log of what it translates (no KVM)
export CALF_DEBUG=1 CALF_ACCEL=tcg RUNNER=${RUNNER:-uml}
. "$(dirname "$0")/vm.sh"
out=$BUILD/coverage
flags LAB
vm_tests

prepare release lab
release=$(module_path release)
modules=("$release" "$(module_path lab)" "${release%/*}/iomap_check.ko")
export CALF_TRACE=$out/trace
rm -rf "$CALF_TRACE"
mkdir -p "$CALF_TRACE"
if [ "$RUNNER" = qemu ]; then
	export CALF_PROGRAM=$CALF_ROOT/qemu/traced
else
	export CALF_PROGRAM=$CALF_ROOT/scripts/coverage/umltrace.py CALF_TRACE_KERNEL=$KERNEL CPUS=1
	CALF_TRACE_MODULES=$(IFS=:; echo "${modules[*]}")
	export CALF_TRACE_MODULES
fi
vm_command coverage
[ -z "${LAB:-}" ] || export CALF_VARIANT=lab
st=0
"$CALF_ROOT/scripts/vmtests.py" "$CALF_ROOT/tests/vm/list" "${T:-}" "$out/vm" "${VM[@]}" || st=1
"$CALF_ROOT/scripts/coverage/report.py" add "$out" "${T:-all VM tests}${LAB:+ with the laboratory module}, $RUNNER" "$CALF_TRACE" \
	"${modules[@]}"
exit $st

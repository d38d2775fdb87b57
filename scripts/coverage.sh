#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# `make coverage`: runs VM tests in a QEMU that emulates the processor and tells which code of the modules it executes, and
# writes a page of the lines that ran and those that did not (docs/coverage.md). Neither kernel nor module is changed.
#
# T=NAME,NAME    only these VM tests; runs of the same sources add up
# LAB=1          all of them with the laboratory module
export CALF_DEBUG=1 CALF_ACCEL=tcg
. "$(dirname "$0")/vm.sh"
[ "$RUNNER" = qemu ] || die "make coverage needs QEMU: RUNNER=qemu"
out=$BUILD/coverage
export CALF_QEMU=$CALF_ROOT/qemu/traced CALF_TRACE=$out/trace

prepare release lab
rm -rf "$CALF_TRACE"
mkdir -p "$CALF_TRACE"
vm_command coverage
[ -z "${LAB:-}" ] || export CALF_VARIANT=lab
st=0
"$CALF_ROOT/scripts/vmtests.py" "$CALF_ROOT/tests/vm/list" "${T:-}" "$out/vm" "${VM[@]}" || st=1
release=$(module_path release)
"$CALF_ROOT/scripts/coverage/report.py" add "$out" "${T:-all VM tests}${LAB:+ with the laboratory module}" "$CALF_TRACE" \
	"$release" "$(module_path lab)" "${release%/*}/iomap_check.ko"
exit $st
